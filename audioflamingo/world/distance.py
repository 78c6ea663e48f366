"""Sounds that are heard from distances of their own in one room, and how loud sounds of different kinds are to the ear.

What a wall sends back reaches every place alike, what comes straight from the source falls by 1/r: so from afar a sound
is softer, drowned in its own reverberation, and duller, because air takes more of high frequencies. Nothing delays the
direct sound, as in `rooms`: the times of events stay exact.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.rooms import reverberate

Samples = npt.NDArray[np.float32]

NEAREST_M, FARTHEST_M = 0.5, 60.0
TAIL_SHARE = 0.6  # of the time in which the reverberation loses 60 dB: what comes later is not heard
AIR_HZ = 8_000.0
PADDING = 2_048
WEIGHTING_HZ = (20.6, 107.7, 737.9, 12_194.0)  # corners of IEC 61672's curve A
WEIGHTING_GAIN = 1.2589
FAST_S = 0.125  # over which the same standard's "fast" meter averages, about as the ear does


@dataclass(frozen=True)
class Hall:
    """A room in which every source has a distance of its own.

    Attributes:
        rt60_s: time in which the reverberation loses 60 dB.
        critical_m: the distance from which a sound comes straight as strongly as by the walls.
        air_db_per_m: what the air takes at `AIR_HZ`; at other frequencies by their square.
        seed: of its walls.
    """

    rt60_s: float
    critical_m: float
    air_db_per_m: float
    seed: int


def draw_hall(rng: random.Random, nearest_m: float) -> Hall:
    """A hall in which a source at `nearest_m` is heard more straight than by the walls."""
    return Hall(
        rng.uniform(0.4, 1.0), nearest_m * rng.uniform(1.6, 4.0), rng.uniform(0.08, 0.2), rng.randrange(1 << 30)
    )


def heard_from(x: Samples, hall: Hall, distance_m: float) -> Samples:
    """A dry sound as it is heard at a distance; at 1 m what comes straight has gain 1.

    Args:
        x: (N,) float32.
        hall: the same for all that sounds in one room.
        distance_m: of the source.

    Returns:
        (N + tail,) float32: the reverberation goes on behind the source's end.

    Raises:
        OptionError: the distance is outside `NEAREST_M` to `FARTHEST_M`.
    """
    if not NEAREST_M <= distance_m <= FARTHEST_M:
        raise OptionError(f"distance_m is {distance_m}; heard_from takes {NEAREST_M} to {FARTHEST_M} m.")
    dull = _through_air(x, hall.air_db_per_m * distance_m)
    dull = np.pad(dull, (0, round(TAIL_SHARE * hall.rt60_s * SAMPLE_RATE_HZ)))
    ratio_db = 20.0 * float(np.log10(hall.critical_m / distance_m))
    walls = np.random.default_rng(hall.seed)
    out = reverberate(dull, walls, rt60_s=hall.rt60_s, direct_to_reverberant_db=ratio_db)
    return np.asarray(out / np.float32(distance_m), dtype=np.float32)


def _through_air(x: Samples, loss_db: float) -> Samples:
    """Without the `loss_db` that the air takes at `AIR_HZ`; zero phase."""
    size = fft.next_fast_len(len(x) + PADDING, real=True)
    hz = np.arange(size // 2 + 1, dtype=np.float32) * np.float32(SAMPLE_RATE_HZ / size)
    gains = 10.0 ** (-loss_db / 20.0 * (hz / AIR_HZ) ** 2)
    return np.asarray(fft.irfft(fft.rfft(x, size) * gains.astype(np.float32), size)[: len(x)], dtype=np.float32)


def loudness(x: Samples) -> float:
    """Root mean square of the loudest `FAST_S` of (N,) samples, frequencies weighted as the ear does (curve A).

    Silence between blows does not count, and neither does how long a sound lasts.
    """
    size = fft.next_fast_len(len(x) + PADDING, real=True)
    squares = (np.arange(size // 2 + 1, dtype=np.float64) * (SAMPLE_RATE_HZ / size)) ** 2
    first, second, third, last = (corner**2 for corner in WEIGHTING_HZ)
    below = (squares + first) * np.sqrt((squares + second) * (squares + third)) * (squares + last)
    weights = WEIGHTING_GAIN * last * squares**2 / below
    heard = fft.irfft(fft.rfft(x, size) * weights.astype(np.float32), size)[: len(x)]
    window = min(round(FAST_S * SAMPLE_RATE_HZ), len(x))
    energy = np.concatenate([[0.0], np.cumsum(np.square(heard, dtype=np.float64))])
    return float(np.sqrt(max(np.max(energy[window:] - energy[:-window]), 0.0) / window))
