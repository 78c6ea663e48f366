"""How high a voice is at every moment: its fundamental by autocorrelation, told in classes of two semitones.

Measured on the voice alone, before rooms and noise, as it was rendered: engines answer a factor on the pitch each in
its own way (a factor of 1.64 becomes 1.37 with espeak-ng and 1.66 with flite), and what can be heard is the result.
Boersma (1993): the autocorrelation of a windowed frame over that of the window.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioflamingo.types import SAMPLE_RATE_HZ

Samples = npt.NDArray[np.float32]

HOP = 640  # samples: an audio token
FRAME = 1_024
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
BOTTOM_HZ, STEP, NUM_HEIGHTS = 65.0, 2.0 ** (1 / 6), 16
LEAST_PERIODIC, LEAST_LOUD, NEARLY = 0.55, 0.05, 0.87
MOST_OCTAVES_OFF = 0.75  # from the median of what is said: farther ones are mistakes or creaks
UNVOICED = -1


def fundamental_hz(samples: Samples) -> npt.NDArray[np.float64]:
    """(N / `HOP`,) fundamental in the middle of each 40 ms; 0 where nothing periodic is heard.

    Args:
        samples: (N,) float32, one voice alone.
    """
    num = len(samples) // HOP
    if not num:
        return np.zeros(0)
    padded = np.pad(samples, (FRAME // 2, FRAME))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[HOP // 2 :: HOP][:num]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * _window()[0]
    power = np.abs(fft.rfft(frames, 2 * FRAME, axis=1)) ** 2
    correlation = fft.irfft(power, axis=1)[:, : FRAME // 2] * _window()[1]
    correlation /= correlation[:, :1] + 1e-9
    first, last = int(SAMPLE_RATE_HZ / HIGHEST_HZ), int(SAMPLE_RATE_HZ / LOWEST_HZ)
    inside = correlation[:, first:last]
    best = inside.max(axis=1, keepdims=True)
    is_peak = (inside >= correlation[:, first - 1 : last - 1]) & (inside > correlation[:, first + 1 : last + 1])
    is_peak &= inside > NEARLY * best
    loudness = np.sqrt(np.mean(frames**2, axis=1))
    voiced = (best[:, 0] > LEAST_PERIODIC) & (loudness > LEAST_LOUD * loudness.max()) & is_peak.any(axis=1)
    return np.where(voiced, SAMPLE_RATE_HZ / (first + is_peak.argmax(axis=1)), 0.0)


def heights(samples: Samples) -> tuple[int, ...]:
    """Class of every 40 ms of a voice: 0 is `BOTTOM_HZ`, each next one two semitones higher; `UNVOICED` for none."""
    hz = fundamental_hz(samples)
    if not (hz > 0).any():
        return (UNVOICED,) * len(hz)
    middle = float(np.median(hz[hz > 0]))
    steps = np.round(np.log(np.maximum(hz, 1.0) / BOTTOM_HZ) / np.log(STEP)).clip(0, NUM_HEIGHTS - 1).astype(int)
    known = (hz > 0) & (np.abs(np.log2(np.maximum(hz, 1.0) / middle)) < MOST_OCTAVES_OFF)
    return tuple(int(one) for one in np.where(known, steps, UNVOICED))


@lru_cache(maxsize=1)
def _window() -> tuple[Samples, npt.NDArray[np.float64]]:
    """The window, and what its own correlation has to be divided by, as a factor by lag."""
    window = np.hanning(FRAME).astype(np.float32)
    own = fft.irfft(np.abs(fft.rfft(window, 2 * FRAME)) ** 2)[: FRAME // 2]
    return window, np.asarray(own[0] / own, np.float64)
