from dataclasses import replace

import numpy as np
import pytest

from audioflamingo.errors import FlamingoError
from audioflamingo.world import scenes, sounds
from audioflamingo.world.scenes import Dice, Source
from audioflamingo.world.text import normalise
from audioflamingo.world.voices import EngineMissingError

CLEAN = Source("test", strength=0.0)
LOUD = Source("train", strength=1.0)


def test_a_seed_gives_the_same_scene_and_another_gives_another():
    one, same, other = (scenes.sound_scene(LOUD, Dice.of(*seed), num_events=2) for seed in [(1, 2), (1, 2), (1, 3)])
    assert np.array_equal(one.samples, same.samples)
    assert one.events == same.events
    assert len(other.samples) != len(one.samples) or not np.array_equal(one.samples, other.samples)


@pytest.mark.parametrize("seed", range(12))
def test_lengths_lie_on_the_grid_and_events_inside(seed):
    scene = scenes.sound_scene(LOUD, Dice.of(7, seed), num_events=1 + seed % 3)
    assert len(scene.samples) / 16_000 in scenes.GRID_S
    assert scene.samples.dtype == np.float32
    assert np.abs(scene.samples).max() <= 1.0
    assert len({event.kind for event in scene.events}) == len(scene.events)
    clock = 0.0
    for event in scene.events:
        assert clock <= event.start_s < event.end_s <= len(scene.samples) / 16_000 + 1e-6
        clock = event.end_s


@pytest.mark.parametrize("seed", range(6))
def test_sound_is_where_the_timeline_says_and_silence_elsewhere(seed):
    """Without a channel, samples outside the events are exactly zero."""
    scene = scenes.sound_scene(CLEAN, Dice.of(8, seed), num_events=2)
    inside = np.zeros(len(scene.samples), bool)
    for event in scene.events:
        inside[int(event.start_s * 16_000) : int(np.ceil(event.end_s * 16_000)) + 2] = True
        part = scene.samples[int(event.start_s * 16_000) : int(event.end_s * 16_000)]
        assert np.abs(part).max() > 1e-3
    assert np.abs(scene.samples[~inside]).max(initial=0.0) < 1e-6


def test_held_out_sounds_never_meet_training_variants(monkeypatch):
    used = []
    real = sounds.render
    monkeypatch.setattr(
        sounds, "render", lambda kind, rng, **kw: used.append((kind, kw["variant"])) or real(kind, rng, **kw)
    )
    for seed in range(10):
        scenes.sound_scene(Source("test", held_out_sounds=True, strength=0.0), Dice.of(9, seed))
    assert all(variant == sounds.HELD_OUT_VARIANT[kind] for kind, variant in used)
    used.clear()
    for seed in range(30):
        scenes.sound_scene(LOUD, Dice.of(9, seed))
    assert all(variant != sounds.HELD_OUT_VARIANT[kind] for kind, variant in used)


def test_nothing_and_noise():
    found = {scenes.empty_scene(Dice.of(3, seed)).backdrop for seed in range(40)}
    assert found == {"noise", "silence"}
    for seed in range(40):
        scene = scenes.empty_scene(Dice.of(3, seed))
        assert not scene.events
        assert scene.transcript is None
        if scene.backdrop == "silence":
            assert np.abs(scene.samples).max() < 1e-3
        else:
            assert np.abs(scene.samples).max() > 1e-2


@pytest.mark.parametrize("seed", range(4))
def test_speech_has_its_words_and_its_speaker(seed, speech_engines):
    scene = scenes.speech_scene(LOUD, Dice.of(4, seed), num_sentences=3)
    said = [event.text for event in scene.events]
    assert scene.transcript == " ".join(said)
    assert all(normalise(text) == text and text for text in said)
    assert len({event.sex for event in scene.events}) == 1
    assert len(scene.samples) / 16_000 in scenes.GRID_S


def test_speech_over_a_steady_sound(speech_engines):
    scene = scenes.speech_over_sound_scene(LOUD, Dice.of(5))
    assert sounds.KINDS[scene.background].steady
    assert scene.transcript
    # The bed lasts all through, so even the ends are never silent.
    assert np.abs(scene.samples[:1600]).max() > 0
    assert np.abs(scene.samples[-1600:]).max() > 0


@pytest.mark.parametrize(("error", "calls"), [(EngineMissingError("flite is missing"), 1), (FlamingoError("mute"), 50)])
def test_an_engine_that_cannot_speak_ends_the_scene(monkeypatch, error, calls):
    asked = []

    def refuse(text, speaker):
        asked.append(text)
        raise error

    monkeypatch.setattr(scenes, "speak", refuse)
    with pytest.raises(type(error), match=str(error)):
        scenes.speech_scene(Source("train"), Dice.of(1))
    assert len(asked) == calls


def test_training_hears_words_late_in_long_silence():
    source = Source("train", engines=("espeak-ng",), strength=0.0, variety=1.0)
    starts = [scenes.sound_scene(source, Dice.of(7, index)).events[0].start_s for index in range(120)]
    plain = [
        scenes.sound_scene(replace(source, variety=0.0), Dice.of(7, index)).events[0].start_s for index in range(120)
    ]
    assert max(plain) < 3.0
    assert 3 <= sum(start > 5.0 for start in starts) <= 20
