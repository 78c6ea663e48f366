"""Log-mel of whole batches on the device, with augmentation in the mel domain where it costs nothing.

Equal to `audioflamingo.audio.log_mel` when augmentation is off (tested). All clips of a batch have the same length.
Shapes: B clips, N samples, F mel frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.audio import mel_filters
from audioflamingo.config import HOP_SAMPLES, MEL_FRAMES_PER_WINDOW

NUM_FFT = 400
EXTRA_FRAMES = 2  # what the convolutions need past the valid ones
FLOOR = 1e-10
DYNAMIC_RANGE = 8.0  # log10 units below the loudest bin


@dataclass(frozen=True)
class Augmentation:
    """How strongly a batch is changed; 0 is off.

    Attributes:
        equaliser: largest deviation of a smooth random response, in log10 of power.
        warp: largest relative change of the mel axis, as from a vocal tract of another length.
        time_masks: masked stretches a clip, each up to `time_mask_frames` mel frames.
        frequency_masks: masked bands a clip, each up to `frequency_mask_bins`.
        time_mask_frames: see above.
        frequency_mask_bins: see above.
    """

    equaliser: float = 0.0
    warp: float = 0.0
    time_masks: int = 0
    frequency_masks: int = 0
    time_mask_frames: int = 24
    frequency_mask_bins: int = 20

    def scaled(self, share: float) -> Augmentation:
        """A weaker one, for ramping in."""
        return Augmentation(
            self.equaliser * share,
            self.warp * share,
            round(self.time_masks * share),
            round(self.frequency_masks * share),
            self.time_mask_frames,
            self.frequency_mask_bins,
        )


class BatchLogMel:
    """Turns (B, N) int16 into (B, 128, F) log-mel on one device."""

    def __init__(self, device: torch.device) -> None:
        self.filters = mel_filters().to(device)
        self.window = torch.hann_window(NUM_FFT, device=device)

    def __call__(self, samples: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """(B, N) int16 to (B, 128, N / 160 + 2) float32; at 30 s the two extra frames do not exist."""
        wave = samples.float() / 32768
        num_frames = min(samples.shape[1] // HOP_SAMPLES + EXTRA_FRAMES, MEL_FRAMES_PER_WINDOW)
        # Silence follows a short clip up to the end of its window; at the window's end the reference reflects.
        padded = min(num_frames * HOP_SAMPLES + NUM_FFT, MEL_FRAMES_PER_WINDOW * HOP_SAMPLES)
        wave = torch.nn.functional.pad(wave, (0, padded - wave.shape[1]))
        spectrum = torch.stft(wave, NUM_FFT, HOP_SAMPLES, window=self.window, return_complex=True)
        power = spectrum[..., :num_frames].abs().square()
        mel = self.filters @ power
        if augmentation is None:
            return _compress(mel.clamp(min=FLOOR).log10())
        if augmentation.warp:
            mel = _warp(mel, augmentation.warp)
        log = mel.clamp(min=FLOOR).log10()
        if augmentation.equaliser:
            log = log + _smooth_curves(log, augmentation.equaliser)
        log = _compress(log)
        for _ in range(augmentation.time_masks):
            log = _mask(log, 2, min(augmentation.time_mask_frames, num_frames // 6))
        for _ in range(augmentation.frequency_masks):
            log = _mask(log, 1, augmentation.frequency_mask_bins)
        return log


def _compress(log: Tensor) -> Tensor:
    loudest = log.amax((1, 2), keepdim=True)
    return (torch.maximum(log, loudest - DYNAMIC_RANGE) + 4.0) / 4.0


def _warp(mel: Tensor, most: float) -> Tensor:
    """Stretch the mel axis by a random factor a clip, by linear interpolation written as a matrix."""
    num_clips, num_bins = mel.shape[:2]
    factors = 1.0 + most * (2 * torch.rand(num_clips, 1, device=mel.device) - 1)
    bins = torch.arange(num_bins, device=mel.device)
    places = (bins * factors).clamp(max=num_bins - 1)  # (B, bins)
    weights = (1.0 - (places[:, :, None] - bins).abs()).clamp(min=0.0)  # (B, out, in)
    return weights @ mel


def _smooth_curves(log: Tensor, most: float) -> Tensor:
    """(B, bins, 1) sums of three slow cosines with random phases: a loudspeaker's or a room's response."""
    num_clips, num_bins = log.shape[:2]
    waves = torch.tensor([0.5, 1.0, 2.0], device=log.device)
    axis = torch.linspace(0, 2 * math.pi, num_bins, device=log.device)
    phases = 2 * math.pi * torch.rand(num_clips, 3, 1, device=log.device)
    sizes = most / 3 * torch.rand(num_clips, 3, 1, device=log.device) * 2
    return (sizes * torch.cos(axis * waves[:, None] + phases)).sum(1)[:, :, None]


def _mask(log: Tensor, axis: int, most: int) -> Tensor:
    """Replace one random stretch of every clip along an axis by the clip's mean."""
    size = log.shape[axis]
    widths = torch.rand(len(log), 1, device=log.device) * most
    starts = torch.rand(len(log), 1, device=log.device) * (size - widths)
    index = torch.arange(size, device=log.device)
    hidden = (index >= starts) & (index < starts + widths)
    hidden = hidden[:, None, :] if axis == 2 else hidden[:, :, None]
    return torch.where(hidden, log.mean((1, 2), keepdim=True), log)
