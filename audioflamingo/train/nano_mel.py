"""Log-mel of a whole step's windows in one line of frames, with augmentation where it costs nothing.

Equal to `audioflamingo.audio.log_mel_batch` when augmentation is off (tested).
Shapes: W windows, M mel frames of all windows and of the gaps between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.audio import WINDOW_SAMPLES, mel_filters
from audioflamingo.config import HOP_SAMPLES
from audioflamingo.train.nano_plan import Plan

NUM_FFT = 400
FLOOR = 1e-10
DYNAMIC_RANGE = 8.0  # log10 units below the loudest bin
FRAMES_PER_PASS, COMPILED_FRAMES_PER_PASS = 1 << 15, 1 << 20
SILENT_LOG = math.log10(FLOOR)
NUM_COSINES = 16  # of a spectrum's shape, its mean aside
MIXED_SHARE = 0.5  # of items
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
        mixing: largest spread of a random linear map among the first cosines of every spectrum. Speakers differ by such
            maps (Gales 1998, "Maximum likelihood linear transformations"), and drawn ones stand for more of them (Cui
            et al. 2015, "Data augmentation for deep neural network acoustic modeling").
    """

    equaliser: float = 0.0
    warp: float = 0.0
    time_masks: int = 0
    frequency_masks: int = 0
    time_mask_frames: int = 24
    frequency_mask_bins: int = 20
    mixing: float = 0.0

    def scaled(self, share: float) -> Augmentation:
        """A weaker one, for ramping in."""
        return Augmentation(
            self.equaliser * share,
            self.warp * share,
            round(self.time_masks * share),
            round(self.frequency_masks * share),
            self.time_mask_frames,
            self.frequency_mask_bins,
            self.mixing * share,
        )


@dataclass(frozen=True)
class _Draws:
    """What chance decides about a step's mels. W windows.

    Attributes:
        factors: (W, 1) by which the mel axis is stretched; None leaves all as they are.
        curves: (2, W, 3) phases and sizes of a response; None is a flat one.
        mixing: (W, cosines, cosines) what a linear map adds; None is nothing.
        times: (K, 2, W) first frame and end of what is masked.
        bands: (K, 2, W) first bin and end of what is masked.
    """

    factors: Tensor | None
    curves: Tensor | None
    mixing: Tensor | None
    times: Tensor
    bands: Tensor


class LineLogMel:
    """(M, 128) log-mel of a plan's windows, read straight from the pool's samples.

    Args:
        device: where.
        compiled: whether what surrounds the transform runs as few kernels that torch compiles for a plan's shape: a
            third of the time of its twin, which is the same functions one operation after another.
    """

    def __init__(self, device: torch.device, *, compiled: bool = False) -> None:
        self.filters = mel_filters().to(device).T.contiguous()
        self.window = torch.hann_window(NUM_FFT, device=device)
        self.frames_per_pass = COMPILED_FRAMES_PER_PASS if compiled else FRAMES_PER_PASS
        self.framed: Callable[..., Tensor] = torch.compile(_framed, dynamic=False) if compiled else _framed
        self.shaped: Callable[..., Tensor] = torch.compile(_shaped, dynamic=False) if compiled else _shaped

    @torch.no_grad()
    def __call__(self, samples: Tensor, plan: Plan, augmentation: Augmentation | None = None) -> Tensor:
        """(pool,) int16 samples to (M, 128) float32; 0 in the gaps, as the convolutions pad."""
        passes = range(0, len(plan.frame_number), self.frames_per_pass)
        spectra = [self._spectrum(samples, plan, slice(at, at + self.frames_per_pass)) for at in passes]
        draws = _drawn(plan, augmentation or Augmentation(), self.filters.shape[1])
        length = plan.window_samples // HOP_SAMPLES
        return self.shaped(torch.cat(spectra), self.filters, plan.frame_window, plan.frame_number, length, draws)

    def _spectrum(self, samples: Tensor, plan: Plan, chosen: slice) -> Tensor:
        """(P, 201, 2) real and imaginary parts of some frames."""
        frames = self.framed(
            samples, plan.window_start, plan.window_samples, plan.frame_window[chosen], plan.frame_number[chosen],
            self.window,
        )  # fmt: skip
        return torch.view_as_real(torch.fft.rfft(frames))


def _framed(samples: Tensor, starts: Tensor, lengths: Tensor, owner: Tensor, number: Tensor, shape: Tensor) -> Tensor:
    """(P, 400) weighted samples of frames; a window is mirrored at its start, and at 30 s at its end."""
    num = lengths[owner][:, None]
    reach = torch.arange(NUM_FFT, device=shape.device) - NUM_FFT // 2
    at = (number.clamp(min=0)[:, None] * HOP_SAMPLES + reach).abs()
    at = torch.where((at >= num) & (num == WINDOW_SAMPLES), 2 * (num - 1) - at, at)
    inside = (at < num) & (number >= 0)[:, None]
    wave = samples[torch.where(inside, starts[owner][:, None] + at, 0)].float() / 32768
    weighted: Tensor = torch.where(inside, wave, 0.0) * shape
    return weighted


def _drawn(plan: Plan, augmentation: Augmentation, num_bins: int) -> _Draws:
    """Of a step; what belongs to an item is the same for all of its windows: its clips are compared with each other."""
    device, num = plan.window_start.device, len(plan.window_start)
    length = (plan.window_samples // HOP_SAMPLES).float()
    factors = curves = mixing = None
    if augmentation.warp:
        chosen, direction = torch.rand(2, num, 1, device=device)[:, plan.window_item]
        chosen = plan.window_warps[:, None] & (chosen < WARPED_SHARE)
        factors = 1.0 + augmentation.warp * chosen * (2 * direction - 1)
    if augmentation.equaliser:
        curves = torch.rand(2, num, 3, device=device)[:, plan.window_item]
        curves = curves * torch.tensor([2 * math.pi, 2 * augmentation.equaliser / 3], device=device)[:, None, None]
    if augmentation.mixing:
        chosen, strength = torch.rand(2, num, device=device)[:, plan.window_item]
        spread = augmentation.mixing * strength * (plan.window_warps & (chosen < MIXED_SHARE))
        mixing = torch.randn(num, NUM_COSINES, NUM_COSINES, device=device)[plan.window_item] * spread[:, None, None]
    most = torch.clamp(length // 6, max=augmentation.time_mask_frames)
    return _Draws(
        factors, curves, mixing, _stretches(augmentation.time_masks, length, most),
        _stretches(augmentation.frequency_masks, torch.full_like(length, num_bins),
                   torch.full_like(length, augmentation.frequency_mask_bins)),
    )  # fmt: skip


def _stretches(num: int, room: Tensor, most: Tensor) -> Tensor:
    """(num, 2, W) first and end of stretches of up to (W,) `most` in (W,) `room`."""
    widths, starts = torch.rand(2, num, len(room), device=room.device)
    widths = widths * most
    starts = starts * (room - widths)
    return torch.stack([starts, starts + widths], 1)


def _shaped(spectrum: Tensor, filters: Tensor, owner: Tensor, number: Tensor, length: Tensor, draws: _Draws) -> Tensor:
    """(M, bins) of (M, 201, 2) spectra: mel, stretched, logarithms, response, range, masks."""
    mel = spectrum.square().sum(-1) @ filters
    if draws.factors is not None:
        mel = _warp(mel, owner, draws.factors)
    log = mel.clamp(min=FLOOR).log10()
    if draws.curves is not None:
        log = log + _responses(draws.curves, log.shape[1])[owner]
    if draws.mixing is not None:
        log = _mixed(log, owner, draws.mixing)
    log = _compressed(log, owner, number >= 0, len(length))
    log = _masked(log, owner, number, length, draws)
    return torch.where((number >= 0)[:, None], log, 0.0)


def _compressed(log: Tensor, owner: Tensor, sounds: Tensor, num: int) -> Tensor:
    """To the range of values that the encoder knows: nothing lies far below a window's loudest point."""
    frame_top = torch.where(sounds, log.amax(1), SILENT_LOG)
    top = torch.full((num,), SILENT_LOG, device=log.device).scatter_reduce(0, owner, frame_top, "amax")
    return (torch.maximum(log, top[owner][:, None] - DYNAMIC_RANGE) + 4.0) / 4.0


def _masked(log: Tensor, owner: Tensor, number: Tensor, length: Tensor, draws: _Draws) -> Tensor:
    """Random stretches of time and of frequency replaced by the window's mean."""
    if not len(draws.times) + len(draws.bands):
        return log
    hidden = torch.zeros_like(log, dtype=torch.bool)
    for start, end in draws.times:
        hidden = hidden | ((number >= start[owner]) & (number < end[owner]))[:, None]
    bins = torch.arange(log.shape[1], device=log.device)
    for start, end in draws.bands:
        hidden = hidden | ((bins >= start[owner][:, None]) & (bins < end[owner][:, None]))
    sums = torch.zeros(len(length), device=log.device).index_add(0, owner, log.mean(1) * (number >= 0))
    means = sums / length.clamp(min=1)
    return torch.where(hidden, means[owner][:, None], log)


def _warp(mel: Tensor, owner: Tensor, factors: Tensor) -> Tensor:
    """Stretch the mel axis by (W, 1) factors."""
    num_bins = mel.shape[1]
    places = (torch.arange(num_bins, device=mel.device) * factors).clamp(max=num_bins - 1.001)
    low = places.long()
    part = (places - low)[owner]
    low = low[owner]
    stretched: Tensor = torch.gather(mel, 1, low) * (1 - part) + torch.gather(mel, 1, low + 1) * part
    return stretched


def _mixed(log: Tensor, owner: Tensor, mixing: Tensor) -> Tensor:
    """Each spectrum plus a linear map of its first cosines; its mean stays."""
    num_bins = log.shape[1]
    bins = (torch.arange(num_bins, device=log.device) + 0.5) / num_bins
    number = torch.arange(1, NUM_COSINES + 1, device=log.device)
    cosines = torch.cos(math.pi * bins[:, None] * number) * (2.0 / num_bins) ** 0.5
    shape = log @ cosines
    added: Tensor = (shape[:, :, None] * mixing[owner]).sum(1)
    mixed: Tensor = log + added @ cosines.T
    return mixed


def _responses(curves: Tensor, num_bins: int) -> Tensor:
    """(W, bins) slow responses: a loudspeaker's or a room's."""
    phases, sizes = curves[..., None]
    waves = torch.tensor([0.5, 1.0, 2.0], device=curves.device)
    axis = torch.linspace(0, 2 * math.pi, num_bins, device=curves.device)
    summed: Tensor = (sizes * torch.cos(axis * waves[:, None] + phases)).sum(1)
    return summed
