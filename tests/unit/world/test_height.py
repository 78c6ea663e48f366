"""How high a voice is: by the sound itself, against a glide of known pitch and against what engines are asked for."""

import random

import numpy as np
import pytest

from audioflamingo.world.cast import HIGH, LOW, draw_cast
from audioflamingo.world.height import BOTTOM_HZ, HOP, NUM_HEIGHTS, STEP, UNVOICED, fundamental_hz, heights
from audioflamingo.world.said import statement
from audioflamingo.world.skills import make
from audioflamingo.world.timeline import World
from audioflamingo.world.voices import EngineMissingError, open_engine
from audioflamingo.world.word_times import speak_timed


def glide(low_hz=80.0, octaves=2.0, seconds=3.0):
    """A buzz that rises, and its frequency at every sample."""
    t = np.arange(round(16_000 * seconds)) / 16_000
    hz = low_hz * 2.0 ** (octaves * t / seconds)
    turns = np.cumsum(hz) / 16_000
    return sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 15)).astype(np.float32), hz


def test_a_glide_is_followed_to_a_quarter_of_a_semitone():
    samples, hz = glide()
    found = fundamental_hz(samples)
    middle = hz[HOP // 2 :: HOP]
    assert len(found) == len(middle)
    assert np.abs(1_200 * np.log2(found / middle)).max() < 25


def test_classes_are_two_semitones_each():
    samples, hz = glide(low_hz=110.0, octaves=1.0)
    wanted = np.log(hz[HOP // 2 :: HOP] / BOTTOM_HZ) / np.log(STEP)
    told = np.array(heights(samples))
    assert np.abs(told - wanted).max() < 0.65
    assert set(told) <= set(range(NUM_HEIGHTS))


def test_noise_and_silence_have_no_height():
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    assert heights(np.zeros(16_000, np.float32)) == (UNVOICED,) * 25
    assert np.mean(np.array(heights(noise)) == UNVOICED) > 0.95
    assert heights(np.zeros(100, np.float32)) == ()


@pytest.mark.parametrize("engine", ["espeak-ng", "flite"])
def test_a_voice_that_is_asked_to_be_higher_is(engine):
    try:
        open_engine(engine)
    except EngineMissingError as error:
        pytest.skip(str(error))
    rng = random.Random(2)
    for _ in range(6):
        (voice,) = draw_cast(rng, (engine,), (None,))
        text = statement(rng, test=False).text
        low, high = (np.array(heights(speak_timed(text, voice.pitched(f).rendered())[0])) for f in (LOW, HIGH))
        assert np.median(high[high >= 0]) >= np.median(low[low >= 0]) + 1


def test_heights_are_told_where_there_is_variety_and_never_exported():
    known, plain = (make("speaker_attributes", World("train", 0.0, variety=v), 3, 1).clips[0] for v in (1.0, 0.0))
    assert all(len(event.heights) == round(event.duration_s * 25 - 0.5) for event in known.front)
    assert not any(event.heights for event in plain.front)
    assert all("heights" not in event for event in known.truth()["events"])
