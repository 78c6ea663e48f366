"""A perceptual transform codec of our own, which sounds as MP3 does at a low rate: dull, with holes, ahead of itself.

It is a codec of the family of MPEG's layer III, without its bit stream: 576 lines of an MDCT with a sine window (layer
III's frame, 36 ms at our rate), bands of one Bark, steps that follow what the spread spectrum masks, layer III's
quantiser (power 3/4), and in every frame as coarse a grain as its bits need. What is heard: bands that fall below the
grain vanish and come back (holes, "birdies"), nothing is left above a frequency that depends on the rate, and noise
spreads over the two frames in which a blow lies, also before it, because long windows are never changed for short ones
(pre-echo: at most 72 ms). Sound is not delayed: overlapping halves cancel each other's aliasing (Princen and Bradley),
so that without a quantiser the samples come back.

Where there are too few bits, noise that is shaped as the mask is spoils the strong bands to save the weak ones.
Encoders then leave it nearly flat, and so do we (`SHAPED`): that is what makes the holes.

Bits are those that an ideal arithmetic coder needs which knows the mean magnitude of each band (a two-sided geometric
distribution), and the side information of the bands that are coded; there is no reservoir, each frame has its own.

Shapes: F frames, L = 576 lines, B bands.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ

Floats = npt.NDArray[np.float32]

LINES = 576
LEAST_KBPS, MOST_KBPS = 8, 64
BAND_SIDE_BITS, CODED_SIDE_BITS, GRAIN_BITS = 1, 5, 8  # coded or not; its step; the grain of the frame
FINEST, COARSEST, GRAIN_DB = -64, 64, 1.5  # the coarsest leaves nothing
SHAPED = 0.4  # how far steps follow the mask, of its decibels
POWER, ROUNDING = 0.75, 0.4054  # of layer III's quantiser
# Of the mask: how far below the spectrum noise has to be, and how the spectrum spreads to lower and to higher bands.
OFFSET_DB, DOWN_DB_PER_BARK, UP_DB_PER_BARK = 12.0, 27.0, 12.0
FULL_SCALE_SPL_DB = 96.0  # how loud a full sine is taken to be, for what is too soft to be heard
TINY = 1e-20


def transform_coded(x: Floats, kbps: int) -> Floats:
    """(N,) float32 samples within [-1, 1] as the codec gives them back at so many thousand bits a second.

    Raises:
        OptionError: the rate is outside `LEAST_KBPS` to `MOST_KBPS`.
    """
    if not LEAST_KBPS <= kbps <= MOST_KBPS:
        raise OptionError(f"the rate is {kbps} kbit/s; the transform codec takes {LEAST_KBPS} to {MOST_KBPS}.")
    if not len(x):
        return x
    lines = mdct(np.clip(x, -1.0, 1.0))
    lines[:, int(top_hz(kbps) / SAMPLE_RATE_HZ * 2 * LINES) :] = 0.0
    heard = _quantised(lines, kbps * LINES * 1_000 // SAMPLE_RATE_HZ)
    return np.clip(inverse_mdct(heard, len(x)), -1.0, 1.0)


def top_hz(kbps: int) -> float:
    """Above this nothing is coded: 3.5 kHz at 8 kbit/s, 5 at 16, 6.5 at 24; from 32 on all is."""
    return min(2_000.0 + 187.5 * kbps, SAMPLE_RATE_HZ / 2)


def mdct(x: Floats) -> Floats:
    """(N,) samples as (F, L) lines; orthonormal, F = ceil(N / L) + 1: every sample lies in two frames."""
    num_blocks = -(-len(x) // LINES) + 2
    blocks = np.zeros((num_blocks, LINES), np.float32)
    blocks.reshape(-1)[LINES : LINES + len(x)] = x
    window, half = _window(), LINES // 2
    first, second = blocks[:-1] * window, blocks[1:] * window[::-1]
    folded = np.empty_like(first)
    folded[:, :half] = -second[:, half - 1 :: -1] - second[:, half:]
    folded[:, half:] = first[:, :half] - first[:, : half - 1 : -1]
    return np.asarray(fft.dct(folded, type=4, norm="ortho", axis=1), np.float32)


def inverse_mdct(lines: Floats, num_samples: int) -> Floats:
    """(num_samples,) samples of the lines that `mdct` gives."""
    folded = np.asarray(fft.dct(lines, type=4, norm="ortho", axis=1), np.float32)
    window, half = _window(), LINES // 2
    low, high = folded[:, :half], folded[:, half:]
    out = np.zeros((len(lines) + 1, LINES), np.float32)
    out[:-1] += np.concatenate([high, -high[:, ::-1]], axis=1) * window
    out[1:] += np.concatenate([-low[:, ::-1], -low], axis=1) * window[::-1]
    return out.reshape(-1)[LINES : LINES + num_samples]


def _quantised(lines: Floats, num_bits: int) -> Floats:
    """(F, L) lines as the decoder has them: in every frame the finest grain for which the bits are enough."""
    steps_db = _steps_db(lines)
    compressed = np.abs(lines) ** np.float32(POWER)
    finest, coarsest = (np.full(len(lines), grain, np.int32) for grain in (FINEST, COARSEST))
    while np.any(finest < coarsest):
        grain = (finest + coarsest) // 2
        fits = _bits(_levels(compressed, steps_db, grain)) <= num_bits
        finest, coarsest = np.where(fits, finest, np.minimum(grain + 1, coarsest)), np.where(fits, grain, coarsest)
    levels = _levels(compressed, steps_db, coarsest)
    step = _of_lines(10.0 ** ((steps_db + GRAIN_DB * coarsest[:, None]) / 20.0))
    return np.asarray(np.copysign(levels ** np.float32(1.0 / POWER) * step, lines), np.float32)


def _levels(compressed: Floats, steps_db: Floats, grain: npt.NDArray[np.int32]) -> Floats:
    """(F, L) whole numbers."""
    finer = 10.0 ** (-POWER * (steps_db + GRAIN_DB * grain[:, None]) / 20.0)
    return np.asarray(np.floor(compressed * _of_lines(finer) + np.float32(ROUNDING)), np.float32)


def _of_lines(of_bands: npt.NDArray[np.floating]) -> Floats:
    """(F, B) as (F, L)."""
    return np.repeat(of_bands.astype(np.float32), np.diff(_edges()), axis=1)


def _of_bands(of_lines: Floats) -> Floats:
    """(F, L) summed to (F, B)."""
    return np.asarray(np.add.reduceat(of_lines, _edges()[:-1], axis=1))


def _bits(levels: Floats) -> npt.NDArray[np.float64]:
    """(F,) bits of the levels with their side information."""
    widths = np.diff(_edges())
    mean = _of_bands(levels).astype(np.float64) / widths
    ratio = (np.sqrt(1.0 + mean * mean) - 1.0) / np.maximum(mean, TINY)  # of each magnitude's chance to the next
    each = np.log2((1.0 + ratio) / (1.0 - ratio)) - mean * np.log2(np.maximum(ratio, TINY))
    coded = mean > 0.0
    return np.asarray((widths * each + CODED_SIDE_BITS * coded + BAND_SIDE_BITS).sum(axis=1) + GRAIN_BITS)


def _steps_db(lines: Floats) -> Floats:
    """(F, B) steps at grain 0, in whole `GRAIN_DB`; if they followed the mask fully, noise would just be masked."""
    energy = _of_bands(lines * lines)
    spread, unheard = _mask()
    noise = np.maximum(energy @ spread, unheard) / np.diff(_edges())  # of a line
    return np.asarray(GRAIN_DB * np.rint(SHAPED / GRAIN_DB * 10.0 * np.log10(12.0 * noise)), np.float32)


@lru_cache(maxsize=1)
def _window() -> Floats:
    """(L,) the rising half."""
    return np.sin(np.pi * (np.arange(LINES) + 0.5) / (2 * LINES)).astype(np.float32)


@lru_cache(maxsize=1)
def _edges() -> npt.NDArray[np.int64]:
    """(B + 1,) lines at which bands begin, one Bark wide (Traunmueller's formula) and of four lines at least."""
    edges, top = [0], _bark(SAMPLE_RATE_HZ / 2)
    for bark in np.arange(1.0, top):
        at = round(1_960.0 * (bark + 0.53) / (26.28 - bark) / SAMPLE_RATE_HZ * 2 * LINES)
        if edges[-1] + 4 <= at <= LINES - 4:
            edges.append(at)
    return np.array([*edges, LINES])


def _bark(hz: float) -> float:
    return 26.81 * hz / (1_960.0 + hz) - 0.53


@lru_cache(maxsize=1)
def _mask() -> tuple[Floats, Floats]:
    """(B, B) share of each band's energy that each band's noise may have, and (B,) noise that nobody hears."""
    edges = _edges()
    middles_hz = (edges[:-1] + edges[1:]) / 2 * SAMPLE_RATE_HZ / (2 * LINES)
    barks = np.array([_bark(hz) for hz in middles_hz])
    apart = barks[None, :] - barks[:, None]  # from the masker's row to the noise's column
    loss_db = OFFSET_DB + np.where(apart < 0, -DOWN_DB_PER_BARK * apart, UP_DB_PER_BARK * apart)
    khz = middles_hz / 1_000.0
    threshold_db = 3.64 * khz**-0.8 - 6.5 * np.exp(-0.6 * (khz - 3.3) ** 2) + 0.001 * khz**4  # Terhardt's, dB SPL
    unheard = LINES / 2 * 10.0 ** ((threshold_db - FULL_SCALE_SPL_DB) / 10.0)  # a full sine has half the energy
    return (10.0 ** (-loss_db / 10.0)).astype(np.float32), unheard.astype(np.float32)
