"""Log-mel spectrograms: the front end of Whisper large-v3, with only the frames that can matter computed.

Shape legend: W windows, N samples of a window, F mel frames, R rows of one Fourier transform over all windows.

The reference pads each window with silence to 30 s, pads that by reflection at both ends, and computes 3000 frames. A
window of N samples has L = ceil(N / 160) valid ones; frames from L + 2 on see silence alone and equal the window's
floor, and so the first F = min(L + 2, 3000) are the same computed from F * 160 + 240 padded samples. All windows are
laid out in one line and share one transform; the two rows between neighbours see both and are thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.audio.threads import copied
from audioflamingo.audio.windows import WINDOW_SAMPLES, num_computed_frames, num_mel_frames
from audioflamingo.config import HOP_SAMPLES
from audioflamingo.errors import AudioError
from audioflamingo.types import SAMPLE_RATE_HZ

NUM_MEL_BINS = 128
STFT_SAMPLES = 400  # 25 ms
PAD_SAMPLES = STFT_SAMPLES // 2
NUM_FREQUENCIES = STFT_SAMPLES // 2 + 1
MIN_POWER = 1e-10
SILENCE = math.log10(MIN_POWER)
RANGE_DECADES = 8.0  # nothing lies further below a window's loudest point

_ROWS_BETWEEN = 2  # a window's padded line is this many hops longer than its frames, rounded up
_ROWS_PER_PASS = {"cpu": 4096, "default": 1 << 17}  # what stays in a CPU's cache; what bounds a GPU's memory

Window = npt.NDArray[np.float32] | torch.Tensor


@cache
@torch.inference_mode(False)  # a tensor first made in inference mode could never be used in training
def mel_filters() -> torch.Tensor:
    """Triangular filters on Slaney's mel scale, each of unit area in Hz.

    Returns:
        (128, 201) float32 on the CPU: mel bins by frequencies of 0, 40, ..., 8000 Hz. Shared: do not write to it.
    """
    nyquist_hz = SAMPLE_RATE_HZ / 2
    frequencies_hz = np.linspace(0.0, nyquist_hz, NUM_FREQUENCIES)
    corners_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(nyquist_hz), NUM_MEL_BINS + 2))
    left, centre, right = (corners_hz[i : i + NUM_MEL_BINS, None] for i in range(3))
    rising = (frequencies_hz - left) / (centre - left)
    falling = (right - frequencies_hz) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return torch.from_numpy((triangles * 2.0 / (right - left)).astype(np.float32))


# Slaney's scale: linear up to 1 kHz, which is mel 15, then 27 steps for each factor of 6.4.
_HZ_PER_MEL = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27.0


def _hz_to_mel(frequency_hz: float) -> float:
    if frequency_hz < _BREAK_HZ:
        return frequency_hz / _HZ_PER_MEL
    return _BREAK_MEL + math.log(frequency_hz / _BREAK_HZ) / _LOG_STEP


def _mel_to_hz(mels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    above = _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    return np.where(mels < _BREAK_MEL, mels * _HZ_PER_MEL, above)


@cache
def _constants(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    hann = torch.hann_window(STFT_SAMPLES, dtype=torch.float32)  # not rounded from float64: that differs at -80 dB
    return mel_filters().to(device), hann.to(device)


def log_mel(window: torch.Tensor) -> torch.Tensor:
    """Log-mel of one window, on the window's device and without gradient.

    Args:
        window: (N,) floating point samples at 16 kHz, 1 <= N <= 480,000; not padded.

    Returns:
        (128, F) float32 with F = min(ceil(N / 160) + 2, 3000): the reference's first F frames.

    Raises:
        AudioError: the window has another shape or type.
    """
    return log_mel_batch([window], window.device)[0][0]


@torch.no_grad()
def log_mel_batch(
    windows: Sequence[Window], device: torch.device | str = "cpu"
) -> tuple[torch.Tensor, tuple[int, ...]]:
    """Log-mels of many windows at once, computed on `device` without gradient.

    Args:
        windows: W arrays or tensors of (N,) floating point samples at 16 kHz, 1 <= N <= 480,000; not padded.
        device: where to compute and where the result lies.

    Returns:
        mel: (W, 128, F) float32 with F = min(max L + 2, 3000): the reference's first F frames of every window, so those
            past a shorter window's own L + 2 hold its floor.
        num_mel_frames: L = ceil(N / 160), the valid mel frames of each window.

    Raises:
        AudioError: there is no window, or one has another shape or type.
    """
    tensors = [_as_tensor(window) for window in windows]
    if not tensors:
        raise AudioError("log_mel_batch got no windows; it needs at least one.")
    device = torch.device(device)
    num_frames = [num_computed_frames(len(tensor)) for tensor in tensors]
    if len({len(tensor) for tensor in tensors}) == 1:
        mel = _alike(tensors, num_frames[0], device)
    else:
        mel = torch.full((len(tensors), NUM_MEL_BINS, max(num_frames)), SILENCE, device=device)
        log_power = _log_mel_power(_lay_out(tensors, num_frames, device))
        row = 0
        for index, num in enumerate(num_frames):
            mel[index, :, :num] = log_power[:, row : row + num]
            row += num + _ROWS_BETWEEN
    floor = mel.amax(dim=(1, 2), keepdim=True) - RANGE_DECADES
    mel = torch.maximum(mel, floor).add_(4.0).div_(4.0)
    return mel, tuple(num_mel_frames(len(tensor)) for tensor in tensors)


def _as_tensor(window: Window) -> torch.Tensor:
    if isinstance(window, np.ndarray):
        window = torch.from_numpy(np.require(window, requirements=["C", "W"]))
    if window.ndim != 1 or not window.is_floating_point() or not 1 <= len(window) <= WINDOW_SAMPLES:
        raise AudioError(
            f"a window of shape {tuple(window.shape)} and type {window.dtype} came; windows are one-dimensional "
            f"floating point and hold 1 to {WINDOW_SAMPLES} samples. Cut the sound with split_windows."
        )
    return window


def _alike(windows: list[torch.Tensor], num_frames: int, device: torch.device) -> torch.Tensor:
    """(W, 128, F) log10 of the mel power of windows of one length: the same, in as few calls as one window takes."""
    num_rows, length = num_frames + _ROWS_BETWEEN, len(windows[0])
    line = torch.zeros(HOP_SAMPLES * num_rows * len(windows), device=device)
    lines = line.view(len(windows), -1)
    centre = PAD_SAMPLES
    _bring(windows, list(lines[:, centre : centre + length]))
    lines[:, :centre] = lines[:, centre + 1 : centre + 1 + PAD_SAMPLES].flip(1)
    beyond = _num_mirrored(num_frames)
    if beyond > 0:
        end = centre + WINDOW_SAMPLES
        lines[:, end : end + beyond] = lines[:, end - 1 - beyond : end - 1].flip(1)
    log_power = _log_mel_power(line, num_spare=_ROWS_BETWEEN)
    return log_power.view(NUM_MEL_BINS, len(windows), num_rows)[:, :, :num_frames].transpose(0, 1).contiguous()


def _bring(windows: list[torch.Tensor], places: list[torch.Tensor]) -> None:
    """Copy windows to their places; to a GPU through pinned memory, so that one travels while the next is copied there.

    Nobody awaits the last of them: torch keeps that memory until it has been read.
    """
    is_far = places[0].is_cuda and not any(window.is_cuda for window in windows)
    if not is_far:
        for window, place in zip(windows, places, strict=True):
            place.copy_(window)
        return
    sizes = [len(window) for window in windows]
    halfway = torch.split(torch.empty(sum(sizes), pin_memory=True), sizes)
    arrays = [window.detach().float().numpy() for window in windows]
    for pinned, place, _ in zip(halfway, places, copied(arrays, [one.numpy() for one in halfway]), strict=True):
        place.copy_(pinned, non_blocking=True)


def _num_mirrored(num_frames: int) -> int:
    """Samples past 30 s that a full window's last frames see, where the reference mirrors at the last sample."""
    return num_frames * HOP_SAMPLES + STFT_SAMPLES - HOP_SAMPLES - PAD_SAMPLES - WINDOW_SAMPLES


def _lay_out(windows: list[torch.Tensor], num_frames: list[int], device: torch.device) -> torch.Tensor:
    """(160 * R,) float32: one window after the other, each with the silence and reflections that its frames see."""
    lengths = [HOP_SAMPLES * (num + _ROWS_BETWEEN) for num in num_frames]
    line = torch.zeros(sum(lengths), device=device)
    parts, centre = torch.split(line, lengths), PAD_SAMPLES
    _bring(windows, [part[centre : centre + len(window)] for part, window in zip(parts, windows, strict=True)])
    for part, num in zip(parts, num_frames, strict=True):
        part[:centre] = part[centre + 1 : centre + 1 + PAD_SAMPLES].flip(0)
        beyond = _num_mirrored(num)
        if beyond > 0:
            end = centre + WINDOW_SAMPLES
            part[end : end + beyond] = part[end - 1 - beyond : end - 1].flip(0)
    return line


def _log_mel_power(line: torch.Tensor, num_spare: int = 0) -> torch.Tensor:
    """(128, R - 2) log10 of the mel power of every 400 samples of a line, a hop apart; and spare columns behind."""
    filters, hann = _constants(line.device)
    rows = line.unfold(0, STFT_SAMPLES, HOP_SAMPLES)
    log_power = torch.empty(NUM_MEL_BINS, len(rows) + num_spare, device=line.device)
    step = _ROWS_PER_PASS.get(line.device.type, _ROWS_PER_PASS["default"])
    for start in range(0, len(rows), step):
        spectrum = torch.view_as_real(torch.fft.rfft(rows[start : start + step] * hann))
        power = spectrum.square_().sum(dim=-1)
        log_power[:, start : start + len(power)] = (filters @ power.T).clamp_(min=MIN_POWER).log10_()
    return log_power
