"""Log-mel of a whole step's windows in one line of frames, with augmentation where it costs nothing.

Equal to `audioflamingo.audio.log_mel_batch` when augmentation is off (tested). Eager: a few large kernels.
Shapes: W windows, M mel frames of all windows and of the gaps between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.audio import mel_filters
from audioflamingo.config import HOP_SAMPLES
from audioflamingo.train.nano_plan import Plan

NUM_FFT = 400
FLOOR = 1e-10
DYNAMIC_RANGE = 8.0  # log10 units below the loudest bin
FRAMES_PER_PASS = 1 << 15
SILENT_LOG = math.log10(FLOOR)
WARPED_SHARE = 0.5  # of items: a stretched axis moves a voice's pitch too, away from its named height


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


class LineLogMel:
    """(M, 128) log-mel of a plan's windows, read straight from the pool's samples."""

    def __init__(self, device: torch.device) -> None:
        self.filters = mel_filters().to(device).T.contiguous()
        self.window = torch.hann_window(NUM_FFT, device=device)
        self.reach = torch.arange(NUM_FFT, device=device) - NUM_FFT // 2

    @torch.no_grad()
    def __call__(self, samples: Tensor, plan: Plan, augmentation: Augmentation | None = None) -> Tensor:
        """(pool,) int16 samples to (M, 128) float32; 0 in the gaps, as the convolutions pad."""
        passes = range(0, len(plan.frame_number), FRAMES_PER_PASS)
        power = torch.cat([self._power(samples, plan, slice(at, at + FRAMES_PER_PASS)) for at in passes])
        mel = power @ self.filters
        windows = _Windows(plan)
        if augmentation is not None and augmentation.warp:
            chosen = plan.window_warps & (windows.rand_of_items(1)[:, 0] < WARPED_SHARE)
            mel = _warp(mel, windows, augmentation.warp * chosen[:, None])
        log = mel.clamp(min=FLOOR).log10()
        if augmentation is not None and augmentation.equaliser:
            log = log + _curves(windows, log.shape[1], augmentation.equaliser)
        log = windows.compress(log)
        if augmentation is not None:
            log = windows.masked(log, augmentation)
        return torch.where(windows.sounds[:, None], log, 0.0)

    def _power(self, samples: Tensor, plan: Plan, chosen: slice) -> Tensor:
        """(P, 201) power of some frames; a window is mirrored at its start, and at 30 s at its end."""
        window = plan.frame_window[chosen]
        num = plan.window_samples[window][:, None]
        at = (plan.frame_number[chosen].clamp(min=0)[:, None] * HOP_SAMPLES + self.reach).abs()
        at = torch.where((at >= num) & (num == 480_000), 2 * (num - 1) - at, at)
        inside = (at < num) & (plan.frame_number[chosen] >= 0)[:, None]
        wave = samples[torch.where(inside, plan.window_start[window][:, None] + at, 0)].float() / 32768
        spectrum: Tensor = torch.fft.rfft(torch.where(inside, wave, 0.0) * self.window)
        return spectrum.abs().square()


class _Windows:
    """Per-window arithmetic on frames that lie in one line."""

    def __init__(self, plan: Plan) -> None:
        self.owner, self.number = plan.frame_window, plan.frame_number
        self.sounds = plan.frame_number >= 0
        self.num, self.item = len(plan.window_start), plan.window_item
        self.length = plan.window_samples // HOP_SAMPLES

    @property
    def device(self) -> torch.device:
        """Where the plan is."""
        return self.owner.device

    def rand(self, *shape: int) -> Tensor:
        """(W, ...) evenly between 0 and 1."""
        return torch.rand(self.num, *shape, device=self.device)

    def rand_of_items(self, *shape: int) -> Tensor:
        """(W, ...) likewise, the same for all windows of an item: its clips are compared with each other."""
        return self.rand(*shape)[self.item]

    def compress(self, log: Tensor) -> Tensor:
        """To the range of values that the encoder knows: nothing lies far below a window's loudest point."""
        frame_top = torch.where(self.sounds, log.amax(1), SILENT_LOG)
        top = torch.full((self.num,), SILENT_LOG, device=self.device)
        top = top.scatter_reduce(0, self.owner, frame_top, "amax")
        return (torch.maximum(log, top[self.owner][:, None] - DYNAMIC_RANGE) + 4.0) / 4.0

    def masked(self, log: Tensor, augmentation: Augmentation) -> Tensor:
        """Random stretches of time and of frequency replaced by the window's mean."""
        hidden = torch.zeros_like(log, dtype=torch.bool)
        for _ in range(augmentation.time_masks):
            most = torch.clamp(self.length // 6, max=augmentation.time_mask_frames)
            hidden |= self._stretch(self.number, self.length, most)[:, None]
        bins = torch.arange(log.shape[1], device=self.device)
        for _ in range(augmentation.frequency_masks):
            widths = self.rand() * augmentation.frequency_mask_bins
            starts = self.rand() * (log.shape[1] - widths)
            band = (bins >= starts[:, None]) & (bins < (starts + widths)[:, None])
            hidden |= band[self.owner]
        sums = torch.zeros(self.num, device=self.device).index_add(0, self.owner, log.mean(1) * self.sounds)
        means = sums / self.length.clamp(min=1)
        return torch.where(hidden, means[self.owner][:, None], log)

    def _stretch(self, number: Tensor, length: Tensor, most: Tensor) -> Tensor:
        widths = self.rand() * most
        starts = self.rand() * (length - widths)
        return (number >= starts[self.owner]) & (number < (starts + widths)[self.owner])


def _warp(mel: Tensor, windows: _Windows, most: Tensor) -> Tensor:
    """Stretch the mel axis by a random factor an item, up to (W, 1) `most`."""
    num_bins = mel.shape[1]
    factors = 1.0 + most * (2 * windows.rand_of_items(1) - 1)
    places = (torch.arange(num_bins, device=mel.device) * factors).clamp(max=num_bins - 1.001)
    low = places.long()
    part = (places - low)[windows.owner]
    low = low[windows.owner]
    return torch.gather(mel, 1, low) * (1 - part) + torch.gather(mel, 1, low + 1) * part


def _curves(windows: _Windows, num_bins: int, most: float) -> Tensor:
    """(M, bins) slow random responses, one an item: a loudspeaker's or a room's."""
    waves = torch.tensor([0.5, 1.0, 2.0], device=windows.device)
    axis = torch.linspace(0, 2 * math.pi, num_bins, device=windows.device)
    phases, sizes = 2 * math.pi * windows.rand_of_items(3, 1), 2 * most / 3 * windows.rand_of_items(3, 1)
    return (sizes * torch.cos(axis * waves[:, None] + phases)).sum(1)[windows.owner]
