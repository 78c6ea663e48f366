"""Log-mels: shapes, batches, floors, and what is refused. That they equal the reference is tested in tests/parity."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.audio import NUM_MEL_BINS, WINDOW_SAMPLES, log_mel, log_mel_batch, mel_filters
from audioflamingo.errors import AudioError


def noise(num_samples, seed=0):
    return torch.from_numpy(0.1 * np.random.default_rng(seed).standard_normal(num_samples).astype(np.float32))


@pytest.mark.parametrize(
    ("num_samples", "num_frames"),
    [(1, 3), (160, 3), (161, 4), (321, 5), (479_360, 2998), (479_361, 2999), (479_521, 3000), (480_000, 3000)],
)
def test_two_frames_past_the_valid_ones_are_computed(num_samples, num_frames):
    mel = log_mel(noise(num_samples))
    assert mel.shape == (NUM_MEL_BINS, num_frames)
    assert mel.dtype == torch.float32


def test_a_range_of_eight_decades_is_kept():
    mel = log_mel(noise(16_000))
    assert mel.max() - mel.min() <= 2.0
    loud = log_mel(noise(16_000) * 1000)
    torch.testing.assert_close(loud, mel + 6 / 4, atol=2e-6, rtol=0)


def test_silence_is_flat():
    assert set(log_mel(torch.zeros(5000)).unique().tolist()) == {-1.5}


@given(lengths=st.lists(st.integers(1, 20_000) | st.just(WINDOW_SAMPLES), min_size=1, max_size=5))
@settings(max_examples=25, deadline=None)
def test_a_batch_equals_its_windows_alone(lengths):
    windows = [noise(length, seed) for seed, length in enumerate(lengths)]
    mel, num_mel_frames = log_mel_batch(windows)
    alone = [log_mel(window) for window in windows]
    assert mel.shape == (len(lengths), NUM_MEL_BINS, max(one.shape[1] for one in alone))
    assert num_mel_frames == tuple(-(-length // 160) for length in lengths)
    for row, one in zip(mel, alone, strict=True):
        torch.testing.assert_close(row[:, : one.shape[1]], one, atol=1e-6, rtol=0)
        beyond = row[:, one.shape[1] :]
        floor = max(one.max() - 2.0, -1.5)  # eight decades below the loudest point, or the least power of all
        torch.testing.assert_close(beyond, torch.full_like(beyond, floor), atol=1e-6, rtol=0)


def test_many_rows_in_several_passes_equal_one_pass(monkeypatch):
    windows = [noise(30_000, seed) for seed in range(3)]
    whole, _ = log_mel_batch(windows)
    monkeypatch.setattr("audioflamingo.audio.mel._ROWS_PER_PASS", {"cpu": 7, "default": 7})
    torch.testing.assert_close(log_mel_batch(windows)[0], whole, atol=1e-6, rtol=0)


def test_arrays_and_tensors_of_any_float_type_and_layout():
    samples = noise(8000)
    expected = log_mel(samples)
    read_only = samples.numpy().copy()
    read_only.flags.writeable = False
    strided = torch.stack([samples, samples], dim=1)[:, 0]
    mel, _ = log_mel_batch([samples.numpy(), read_only, samples.numpy()[::-1][::-1], samples.double(), strided])
    for row in mel:
        torch.testing.assert_close(row, expected, atol=1e-6, rtol=0)


def test_the_filters_are_shared_and_usable_in_training():
    with torch.inference_mode():
        log_mel(noise(400))
    assert mel_filters() is mel_filters()
    assert not mel_filters().is_inference()
    assert not log_mel(noise(400).requires_grad_()).requires_grad


@pytest.mark.parametrize(
    "window",
    [
        torch.zeros(0),
        torch.zeros(WINDOW_SAMPLES + 1),
        torch.zeros(1, 800),
        torch.zeros(800, dtype=torch.int16),
        np.zeros(800, np.int16),
        torch.zeros(800, dtype=torch.complex64),
    ],
    ids=lambda window: f"{tuple(window.shape)} {window.dtype}",
)
def test_other_shapes_and_types_are_refused(window):
    with pytest.raises(AudioError, match="windows are one-dimensional floating point and hold 1 to 480000 samples"):
        log_mel_batch([noise(400), window])


def test_no_window_is_refused():
    with pytest.raises(AudioError, match="no windows"):
        log_mel_batch([])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_gpu_gives_what_the_cpu_gives():
    windows = [noise(length, length) for length in (WINDOW_SAMPLES, 16_000, 400)]
    mel, _ = log_mel_batch(windows, "cuda")
    torch.testing.assert_close(mel.cpu(), log_mel_batch(windows)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("num_samples", [321, 5_000, 479_999, 480_000])
def test_windows_of_one_length_are_as_among_others(num_samples):
    """Of one length they are laid out at once, beside others one by one."""
    rng = np.random.default_rng(0)
    alike = [rng.standard_normal(num_samples).astype(np.float32) for _ in range(3)]
    together, frames = log_mel_batch(alike)
    ragged, _ = log_mel_batch([*alike, rng.standard_normal(400).astype(np.float32)])
    assert together.is_contiguous()
    assert torch.equal(together, ragged[:3, :, : together.shape[2]])
    assert frames == (-(-num_samples // 160),) * 3
