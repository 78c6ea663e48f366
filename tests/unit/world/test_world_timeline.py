"""The stage: things lie exactly where the truth says, words have times, sides and sources are kept apart."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import cast, said, sounds
from audioflamingo.world.music.midi import HELD_OUT_FONTS
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills.base import SINGLE_KINDS
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import Stage, World, looped
from audioflamingo.world.voices import FLITE_VOICES, HELD_OUT_ENGINES, Speaker
from audioflamingo.world.word_times import speak_timed

needs_voices = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no engines")
SPEAKERS = [Speaker("espeak-ng", "en-us+m3", "male"), Speaker("flite", "cmu_us_slt", "female")]
TEXT = "The quick brown fox jumped over the lazy dog, and nobody saw it."


def stage(seed=0, **world):
    return Stage(World(**{"strength": 0.0, **world}), Dice.of(seed))


def level(timeline, start_s, end_s):
    """Root mean square between two times."""
    part = timeline.samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)]
    return float(np.sqrt(np.mean(part.astype(np.float64) ** 2))) if len(part) else 0.0


@given(st.lists(st.sampled_from(["dog_bark", "drum", "whistle", "rain", "door_slam"]), min_size=1, max_size=5))
@settings(max_examples=10)
def test_sounds_are_where_the_truth_says_and_nowhere_else(names):
    one = stage(len(names))
    for name in names:
        one.pause(0.5)
        one.sound(name)
    timeline = one.close()
    assert [event.kind for event in timeline.events] == names
    last_s = 0.0
    for event in timeline.events:
        assert level(timeline, last_s + 0.001, event.start_s - 0.001) < 1e-6
        assert level(timeline, event.start_s, event.end_s) > 1e-3
        last_s = event.end_s


def num_onsets(samples):
    """Places where the loudness rises by more than half within 30 ms, at least 120 ms apart."""
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    smooth = np.convolve(np.sqrt(np.mean(frames**2, axis=1)), np.ones(3) / 3, "same")
    loud = np.concatenate([np.zeros(4), smooth])
    rises = [
        i for i in range(4, len(loud)) if loud[i] > 1.6 * loud[i - 4 : i - 2].max() and loud[i] > 0.15 * loud.max()
    ]
    return 1 + int((np.diff(rises) > 12).sum()) if rises else 0


@pytest.mark.parametrize("kind", SINGLE_KINDS)
def test_one_unit_of_a_kind_that_is_counted_is_heard_as_one(kind):
    for variant in range(len(sounds.VARIANTS[kind])):
        counts = [
            num_onsets(sounds.render(kind, np.random.default_rng(seed), variant=variant, repeats=1))
            for seed in range(7)
        ]
        assert np.median(counts) == 1, variant


def test_levels_are_as_told():
    one = stage(1)
    loud = one.sound("guitar")
    one.pause(0.5)
    soft = one.sound("guitar", level_db=-20.0)
    timeline = one.close()
    peaks = [
        np.abs(timeline.samples[round(e.start_s * SAMPLE_RATE_HZ) : round(e.end_s * SAMPLE_RATE_HZ)]).max()
        for e in (loud, soft)
    ]
    assert 20 * np.log10(peaks[0] / peaks[1]) == pytest.approx(20.0, abs=0.1)


def test_a_background_lasts_all_through():
    one = stage(2)
    one.bed("stream")
    one.pause(3.0)
    one.sound("dog_bark")
    timeline = one.close(duration_s=20.0)
    bed = next(event for event in timeline.events if event.layer == "back")
    assert (bed.start_s, bed.end_s) == (0.0, pytest.approx(timeline.duration_s, abs=1e-3))
    assert all(level(timeline, at, at + 1.0) > 1e-3 for at in range(19))


def test_a_loop_has_no_seams():
    tone = np.sin(2 * np.pi * 200 * np.arange(SAMPLE_RATE_HZ * 3) / SAMPLE_RATE_HZ).astype(np.float32)
    out = looped(tone, SAMPLE_RATE_HZ * 10)
    assert len(out) == SAMPLE_RATE_HZ * 10
    assert np.abs(np.diff(out)).max() < 2.5 * np.abs(np.diff(tone)).max()


@pytest.mark.parametrize("seconds", [1.0, 600.0])
def test_the_shortest_and_the_longest_scene(seconds):
    one = stage(3)
    one.sound("mouse_click", start_s=0.0)
    one.sound("mouse_click", start_s=seconds - 0.9)
    assert seconds <= one.close(duration_s=seconds).duration_s < seconds + 1.5


@needs_voices
@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda one: one.engine)
def test_speech_is_the_same_every_time_and_its_words_have_times(speaker):
    samples, words = speak_timed(TEXT, speaker)
    again, _ = speak_timed(TEXT, speaker)
    assert np.array_equal(samples, again)
    assert " ".join(word.text for word in words) == normalise(TEXT)
    starts = [word.start_s for word in words]
    assert starts == sorted(starts)
    assert all(word.start_s < word.end_s <= len(samples) / SAMPLE_RATE_HZ + 1e-6 for word in words)


@needs_voices
@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda one: one.engine)
def test_a_pause_in_the_speech_lies_between_the_words_around_it(speaker):
    samples, words = speak_timed("Yes, stop.", speaker)
    before, after = words
    envelope = np.abs(samples).reshape(-1)
    middle = envelope[round(before.end_s * SAMPLE_RATE_HZ) : round(after.start_s * SAMPLE_RATE_HZ)]
    assert len(middle) > 0.02 * SAMPLE_RATE_HZ
    assert np.sqrt(np.mean(middle**2)) < 0.1 * np.sqrt(np.mean(envelope**2))


@needs_voices
def test_what_an_engine_does_not_know_is_an_error():
    with pytest.raises(FlamingoError, match="no voice"):
        speak_timed(TEXT, Speaker("espeak-ng", "nobody+m1", "male"))
    assert speak_timed(TEXT, SPEAKERS[0])[1] is not None  # and the server goes on after it


@needs_voices
def test_moods_are_audible():
    (voice,) = cast.draw_cast(random.Random(1), ("espeak-ng",), ("male",))
    loud, quiet = stage(4), stage(4)
    angry = loud.say("The train leaves at noon.", voice.in_mood("angry"))
    sad = quiet.say("The train leaves at noon.", voice.in_mood("sad"))
    assert angry.duration_s < 0.8 * sad.duration_s
    assert level(loud.close(), 0, angry.end_s) > 2 * level(quiet.close(), 0, sad.end_s)


@given(st.integers(0, 10_000))
def test_a_cast_has_distinct_voices_of_the_wanted_sexes(seed):
    voices = cast.draw_cast(random.Random(seed), ("espeak-ng", "flite"), ("female", "male", None))
    assert [voice.sex for voice in voices][:2] == ["female", "male"]
    assert len({voice.speaker.voice for voice in voices}) == 3
    assert all(v.speaker.engine != "flite" or FLITE_VOICES[v.speaker.voice] == v.sex for v in voices)


def test_statements_of_both_sides_are_disjoint():
    rng = random.Random(0)
    train = {said.statement(rng).text for _ in range(1_500)}
    test = {said.statement(rng, test=True).text for _ in range(300)}
    assert not train & test
    assert len(train) > 700
    assert {said.causal(rng).text for _ in range(200)}.isdisjoint({said.causal(rng, test=True).text for _ in range(50)})


@given(st.integers(0, 10_000), st.booleans())
def test_twins_differ_in_one_word_only(seed, test):
    rng = random.Random(seed)
    one, other, slot = said.twins(rng, test=test)
    different = {name for name, word in one.facts["slots"].items() if other.facts["slots"][name] != word}
    assert different == {slot}
    assert said.belongs(one.text, test)
    assert said.belongs(other.text, test)
    for word in other.facts["slots"].values():
        assert normalise(word) in normalise(other.text)


def test_splits_choose_the_sources():
    assert World("train").engines == World("test_known").engines == ("espeak-ng", "flite")
    assert World("test_unknown").engines == HELD_OUT_ENGINES
    assert (World("test_known").unknown, World("test_unknown").unknown) == (False, True)
    with pytest.raises(OptionError, match="test_unknown"):
        World("validation")
    with pytest.raises(OptionError, match="600"):
        World(longest_s=3_600.0)
    kept = (Path("fonts") / HELD_OUT_FONTS[0],)
    with pytest.raises(OptionError, match="is kept for testing"):
        World("train", soundfonts=kept)
    assert World("test_unknown", soundfonts=kept).soundfonts == kept
