"""Counts of frames and tokens, and what happens to sounds that are too long."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.audio import (
    MIN_SAMPLES,
    WINDOW_SAMPLES,
    limit,
    num_audio_tokens,
    num_computed_frames,
    num_encoder_frames,
    num_mel_frames,
    num_windows,
    split_windows,
)
from audioflamingo.config import AUDIO_TOKENS_PER_WINDOW, ENCODER_FRAMES_PER_WINDOW, MEL_FRAMES_PER_WINDOW
from audioflamingo.errors import AudioError, OptionError
from audioflamingo.types import Audio

# Samples of one window -> mel frames, encoder frames, audio tokens, as the reference counts them.
COUNTS = {
    1: (1, 1, 0),
    160: (1, 1, 0),
    161: (2, 1, 0),
    320: (2, 1, 0),
    321: (3, 2, 1),
    480: (3, 2, 1),
    481: (4, 2, 1),
    640: (4, 2, 1),
    960: (6, 3, 1),
    961: (7, 4, 2),
    16_000: (100, 50, 25),
    112_000: (700, 350, 175),
    479_999: (3000, 1500, 750),
    480_000: (3000, 1500, 750),
}


@pytest.mark.parametrize("num_samples", COUNTS)
def test_counts_of_one_window(num_samples):
    frames = num_mel_frames(num_samples)
    assert (frames, num_encoder_frames(frames), num_audio_tokens(num_samples)) == COUNTS[num_samples]


def test_full_windows_fill_the_configured_sizes():
    assert num_mel_frames(WINDOW_SAMPLES) == num_computed_frames(WINDOW_SAMPLES) == MEL_FRAMES_PER_WINDOW
    assert num_encoder_frames(MEL_FRAMES_PER_WINDOW) == ENCODER_FRAMES_PER_WINDOW
    assert num_audio_tokens(WINDOW_SAMPLES) == AUDIO_TOKENS_PER_WINDOW


@given(st.integers(1, 25 * WINDOW_SAMPLES))
def test_a_sound_counts_what_its_windows_count(num_samples):
    windows = split_windows(np.broadcast_to(np.float32(0), num_samples))
    assert len(windows) == num_windows(num_samples)
    assert sum(map(len, windows)) == num_samples
    assert all(len(window) == WINDOW_SAMPLES for window in windows[:-1])
    assert sum(num_audio_tokens(len(window)) for window in windows) == num_audio_tokens(num_samples)
    # The reference's formula, from the sum of mel frames, is the same.
    assert num_encoder_frames(sum(num_mel_frames(len(window)) for window in windows)) // 2 == num_audio_tokens(
        num_samples
    )


def test_windows_are_views():
    samples = np.zeros(WINDOW_SAMPLES + 5, np.float32)
    assert all(np.shares_memory(window, samples) for window in split_windows(samples))
    assert [len(window) for window in split_windows(torch.zeros(WINDOW_SAMPLES + 5))] == [WINDOW_SAMPLES, 5]
    assert split_windows(samples[:0]) == []


def sound(num_samples):
    return Audio(np.arange(num_samples, dtype=np.float32), "talk.wav")


@pytest.mark.parametrize("long_audio", ["error", "truncate", "split"])
@pytest.mark.parametrize("num_samples", [1, WINDOW_SAMPLES, 2 * WINDOW_SAMPLES])
def test_what_fits_is_left_alone(long_audio, num_samples):
    audio = sound(num_samples)
    limited = limit(audio, max_windows=2, long_audio=long_audio)
    assert limited.parts == ((audio, 0.0),)
    assert limited.notes == ()


def test_too_long_is_an_error_with_both_lengths_and_the_remedy():
    with pytest.raises(AudioError) as caught:
        limit(Audio(np.broadcast_to(np.float32(0), 14_598_400), "audio.wav"))
    assert str(caught.value) == (
        "audio.wav is 912.4 s; the model takes at most 600 s (20 windows of 30 s). "
        "Pass long_audio='truncate' or 'split', or cut the file."
    )
    with pytest.raises(AudioError, match=r"is 600\.001 s; the model takes at most 600 s"):
        limit(Audio(np.broadcast_to(np.float32(0), 9_600_016), "audio.wav"), long_audio="error")


def test_truncation_keeps_the_beginning_and_says_so():
    limited = limit(sound(2 * WINDOW_SAMPLES + 8000), max_windows=2, long_audio="truncate")
    ((part, start_s),) = limited.parts
    assert (part.name, start_s) == ("talk.wav", 0.0)
    np.testing.assert_array_equal(part.samples, np.arange(2 * WINDOW_SAMPLES, dtype=np.float32))
    assert limited.notes == ("talk.wav is 60.5 s; only its first 60 s were kept.",)


@given(num_samples=st.integers(2 * WINDOW_SAMPLES + 1, 9 * WINDOW_SAMPLES), max_windows=st.integers(1, 2))
def test_split_parts_follow_each_other_and_lose_nothing_but_a_stub(num_samples, max_windows):
    audio = Audio(np.broadcast_to(np.float32(0), num_samples), "talk.wav")
    limited = limit(audio, max_windows=max_windows, long_audio="split")
    position = 0
    for part, start_s in limited.parts:
        assert start_s * 16_000 == position
        assert MIN_SAMPLES <= len(part.samples) <= max_windows * WINDOW_SAMPLES
        position += len(part.samples)
    assert num_samples - position < MIN_SAMPLES
    assert any("dropped" in note for note in limited.notes) == (position < num_samples)
    assert any("split into" in note for note in limited.notes) == (len(limited.parts) > 1)


def test_split_names_its_parts_and_notes_the_stub():
    limited = limit(sound(2 * WINDOW_SAMPLES + 320), max_windows=1, long_audio="split")
    assert [(part.name, start_s) for part, start_s in limited.parts] == [
        ("talk.wav from 0 s", 0.0),
        ("talk.wav from 30 s", 30.0),
    ]
    assert [part.samples[0] for part, _ in limited.parts] == [0.0, WINDOW_SAMPLES]
    assert limited.notes == (
        "talk.wav is 60.02 s; it was split into 2 parts of at most 30 s.",
        "The last 0.02 s of talk.wav were dropped: too short for one audio token.",
    )


def test_a_stub_alone_past_the_limit_is_dropped_without_a_split():
    limited = limit(sound(WINDOW_SAMPLES + 320), max_windows=1, long_audio="split")
    assert len(limited.parts) == 1
    assert limited.notes == ("The last 0.02 s of talk.wav were dropped: too short for one audio token.",)


def test_options_are_checked_even_when_the_sound_fits():
    with pytest.raises(OptionError, match="'cut'; allowed are 'error', 'truncate', 'split'"):
        limit(sound(400), long_audio="cut")
    with pytest.raises(OptionError, match="max_windows is 0"):
        limit(sound(400), max_windows=0)
