"""Voices and sounds made other than engines and algorithms give them."""

import random
from dataclasses import asdict

import numpy as np
import pytest

from audioflamingo.world import disguise, sounds
from audioflamingo.world.check import check_turn
from audioflamingo.world.disguise import Change
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import SKILLS, make
from audioflamingo.world.skills.base import Job
from audioflamingo.world.skills.every import every_turn
from audioflamingo.world.sounds.variety import render_varied
from audioflamingo.world.timeline import World
from audioflamingo.world.voices import EngineMissingError, open_engine

TIME = np.arange(24_000) / 16_000


def vowel(pitch_hz=120.0, formants_hz=(600.0, 1_200.0)):
    """Harmonics under two resonances."""
    out = np.zeros(len(TIME))
    for k in range(1, 40):
        hz = k * pitch_hz
        gain = sum(1 / (1 + ((hz - f) / 120.0) ** 2) for f in formants_hz)
        out += gain * np.sin(2 * np.pi * hz * TIME)
    return (0.1 * out / np.abs(out).max()).astype(np.float32)


def spectrum(x):
    return np.abs(np.fft.rfft(x * np.hanning(len(x)))), np.fft.rfftfreq(len(x), 1 / 16_000)


def test_no_change_is_none():
    x = vowel()
    np.testing.assert_allclose(disguise.changed(x, Change(), np.random.default_rng(0)), x, atol=1e-5)


def test_formants_move_and_the_pitch_stays():
    x = vowel()
    y = disguise.changed(x, Change(formants=1.2), np.random.default_rng(0))
    before, hz = spectrum(x)
    after, _ = spectrum(y)
    peaks = {round(float(hz[i]) / 120) for i in np.argsort(after)[-6:]}
    assert all(abs(float(hz[i]) - 120 * round(float(hz[i]) / 120)) < 3 for i in np.argsort(after)[-6:])
    assert peaks & {6, 12}
    low, high = (hz > 500) & (hz < 640), (hz > 680) & (hz < 800)
    assert after[high].max() / after[low].max() > 2 * before[high].max() / before[low].max()


def test_a_bend_moves_one_formant_alone():
    x, bends = vowel(formants_hz=(600.0, 3_000.0)), (1.0, 1.0, 1.0, 1.12, 1.0, 1.0)
    before, hz = spectrum(x)
    after, _ = spectrum(disguise.changed(x, Change(bends=bends), np.random.default_rng(0)))

    def centre(levels, low, high):
        inside = (hz > low) & (hz < high)
        return float(np.sum(hz[inside] * levels[inside] ** 2) / np.sum(levels[inside] ** 2))

    assert centre(after, 2_500, 4_000) / centre(before, 2_500, 4_000) > 1.04
    assert centre(after, 300, 900) == pytest.approx(centre(before, 300, 900), rel=0.01)


def test_breath_fills_between_harmonics():
    x = vowel()
    y = disguise.changed(x, Change(breath=0.6), np.random.default_rng(0))
    after, hz = spectrum(y)
    before, _ = spectrum(x)
    between = (hz > 640) & (hz < 700)
    assert after[between].mean() > 10 * before[between].mean()


@pytest.mark.parametrize("change", [Change(0.85, 0.3, -10.0, 0.8), Change(1.18, 0.0, 12.0, 1.2)])
def test_length_and_loudness_stay(change):
    x = vowel()[:20_001]
    y = disguise.changed(x, change, np.random.default_rng(0))
    assert (y.shape, y.dtype) == (x.shape, np.float32)
    assert np.sqrt(np.mean(y**2)) == pytest.approx(np.sqrt(np.mean(x**2)), rel=1e-3)
    assert np.isfinite(y).all()


def test_a_sound_shorter_than_a_frame_stays():
    x = np.ones(100, np.float32)
    assert disguise.changed(x, Change(1.2), np.random.default_rng(0)) is x


def test_speed_wanders_around_its_factor():
    x = vowel()
    rng = np.random.default_rng(2)
    lengths = [len(disguise.wander(x, rng, 0.1, 1.25)) for _ in range(20)]
    assert min(lengths) > len(x) / 1.25 / 1.1
    assert max(lengths) < len(x) / 1.25 * 1.1
    assert np.std(lengths) > 10
    still = disguise.wander(x, rng, 0.0)
    np.testing.assert_allclose(still[10:-10], x[9 : len(still) - 11], atol=1e-3)


@pytest.mark.parametrize("kind", sorted(sounds.KINDS))
def test_every_kind_can_be_varied(kind):
    rng = np.random.default_rng(5)
    variants = list(sounds.TRAINING_VARIANTS[kind])
    duration = 1.3 if sounds.KINDS[kind].steady else None
    x = render_varied(kind, rng, variant=variants[-1], duration_s=duration)
    assert x.dtype == np.float32
    assert np.abs(x).max() == pytest.approx(sounds.PEAK, rel=1e-3)
    assert np.isfinite(x).all()
    if duration:
        assert len(x) == round(duration * 16_000)


@pytest.fixture(scope="module")
def world():
    try:
        for name in ("espeak-ng", "flite"):
            open_engine(name)
    except EngineMissingError as error:
        pytest.skip(str(error))
    return World(longest_s=45.0, strength=0.0, variety=1.0, exact=False)


@pytest.mark.parametrize("name", ["counting", "speaker_attributes", "music_reasoning", "caption", "grounding"])
def test_everything_that_is_asked_follows_from_the_timeline(world, name):
    """Turns of every kind about varied scenes, against the checker that shares no code with them."""
    assert name in SKILLS
    asked = set()
    for index in range(6 if name != "grounding" else 2):
        made = make(name, world, 31, index)
        truths = [clip.truth() for clip in made.clips]
        job = Job(world, Dice.of(31, index), random.Random(index), random.Random(index))
        turns = [turn for turns in made.dialogues for turn in turns] + every_turn(made.clips[0], job)
        for turn in turns:
            assert check_turn(truths, asdict(turn)) == [], turn
            asked.add(turn.rule)
    assert len(asked) >= 4


def test_quick_speech_tells_the_same_times(world):
    """Without exactness the words are the same and lie where they lay, within what the engine's state changes."""
    from audioflamingo.world.voices import Speaker
    from audioflamingo.world.word_times import speak_timed

    speaker = Speaker("espeak-ng", "en-us+m3", "male")
    exact, told = speak_timed("The garden is full of red flowers.", speaker)
    quick, same = speak_timed("The garden is full of red flowers.", speaker, exact=False)
    assert told is not None
    assert same is not None
    assert [word.text for word in told] == [word.text for word in same]
    assert abs(len(exact) - len(quick)) < 800
    assert all(abs(a.start_s - b.start_s) < 0.05 for a, b in zip(told, same, strict=True))
