"""Our log-mels equal the first F frames of the reference's, for sounds of every kind and windows of every length."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import WhisperFeatureExtractor

from audioflamingo.audio import log_mel, log_mel_batch, mel_filters, num_audio_tokens, split_windows

TOLERANCE = 1e-5
EXTRACTOR = WhisperFeatureExtractor(feature_size=128)
LENGTHS = [1, 159, 200, 321, 400, 16_000, 479_360, 479_361, 479_520, 479_521, 479_960, 479_999, 480_000]


def reference(window):
    """(128, 3000) features and the number of valid mel frames."""
    batch = EXTRACTOR(window, sampling_rate=16_000, return_tensors="np", return_attention_mask=True)
    return batch["input_features"][0], int(batch["attention_mask"][0].sum())


def assert_equal_to_reference(window):
    ours = log_mel(torch.from_numpy(window)).numpy()
    theirs, num_valid = reference(window)
    num_frames = min(num_valid + 2, 3000)
    assert ours.shape == (128, num_frames)
    np.testing.assert_allclose(ours, theirs[:, :num_frames], atol=TOLERANCE, rtol=0)
    floor = max(ours.max() - 2.0, -1.5)  # eight decades below the loudest point, or the least power of all
    np.testing.assert_allclose(theirs[:, num_frames:], floor, atol=TOLERANCE, rtol=0)


def speech_like(num_samples, rng):
    """Pulses of a gliding pitch through three formants, in syllables with pauses, over a little noise."""
    time_s = np.arange(num_samples) / 16_000
    phase = np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * time_s)) / 16_000
    voice = np.zeros(num_samples)
    for harmonic in range(1, 40):
        hz = 120 * harmonic
        gain = sum(np.exp(-(((hz - formant) / 150) ** 2)) for formant in (500, 1500, 2500))
        voice += gain * np.sin(2 * np.pi * harmonic * phase)
    syllables = np.maximum(0, np.sin(2 * np.pi * 3 * time_s)) * (np.sin(2 * np.pi * 0.4 * time_s + 1) > 0)
    return 0.2 * voice * syllables + 1e-4 * rng.standard_normal(num_samples)


def music_like(num_samples, rng):
    """Decaying chords with a beat."""
    time_s = np.arange(num_samples) / 16_000
    beat_s = time_s % 0.5
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 277.18, 329.63, 440, 1760))
    return 0.15 * chord * np.exp(-3 * beat_s) + 0.3 * rng.standard_normal(num_samples) * np.exp(-60 * beat_s)


SOUNDS = {
    "speech": speech_like,
    "music": music_like,
    "silence": lambda num_samples, rng: np.zeros(num_samples),
    "clipped": lambda num_samples, rng: np.clip(3 * music_like(num_samples, rng), -1, 1),
    "noise": lambda num_samples, rng: 0.3 * rng.standard_normal(num_samples),
    "one click": lambda num_samples, rng: np.eye(1, num_samples, num_samples // 2)[0],
    "last sample alone": lambda num_samples, rng: np.eye(1, num_samples, num_samples - 1)[0],
    "almost silence": lambda num_samples, rng: 1e-6 * rng.standard_normal(num_samples),
    "constant": lambda num_samples, rng: np.full(num_samples, 0.5),
    "far too loud": lambda num_samples, rng: 1e4 * rng.standard_normal(num_samples),
}


def make(kind, num_samples, seed=0):
    return SOUNDS[kind](num_samples, np.random.default_rng(seed)).astype(np.float32)


def test_filters():
    np.testing.assert_allclose(mel_filters().numpy(), EXTRACTOR.mel_filters.T, atol=1e-8, rtol=0)


@pytest.mark.parametrize("kind", SOUNDS)
@pytest.mark.parametrize("num_samples", [400, 16_000, 480_000])
def test_sounds(kind, num_samples):
    assert_equal_to_reference(make(kind, num_samples))


@pytest.mark.parametrize("num_samples", LENGTHS)
def test_lengths(num_samples):
    assert_equal_to_reference(make("noise", num_samples))


@given(num_samples=st.integers(1, 480_000), kind=st.sampled_from(sorted(SOUNDS)), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_any_length(num_samples, kind, seed):
    assert_equal_to_reference(make(kind, num_samples, seed))


def test_a_ragged_batch():
    windows = [make(kind, length) for kind, length in zip(SOUNDS, LENGTHS, strict=False)]
    mel, num_mel_frames = log_mel_batch(windows)
    for row, frames, window in zip(mel.numpy(), num_mel_frames, windows, strict=True):
        theirs, num_valid = reference(window)
        assert frames == num_valid
        np.testing.assert_allclose(row, theirs[:, : row.shape[1]], atol=TOLERANCE, rtol=0)


def test_a_long_sound_cut_into_windows():
    sound = make("speech", 1_000_000)
    mel, num_mel_frames = log_mel_batch(split_windows(sound))
    for row, start in zip(mel.numpy(), range(0, len(sound), 480_000), strict=True):
        theirs, _ = reference(sound[start : start + 480_000])
        np.testing.assert_allclose(row, theirs, atol=TOLERANCE, rtol=0)
    assert ((sum(num_mel_frames) - 1) // 2 + 1) // 2 == num_audio_tokens(len(sound))
