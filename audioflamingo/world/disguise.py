"""Other voices and other renderings out of the ones at hand: the envelope of the spectrum is moved, its source kept.

A voice with its formants moved is another throat at the same pitch; noise in place of part of its phases is breath; a
speed that wanders is another way of timing. Sounds get the same, stronger. Training alone uses this: it widens what
two speech engines and two or three algorithms a sound can give, so that unknown ones lie within what was heard.

Everything takes and gives (N,) float32 mono samples at 16 kHz; only `wander` changes N.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

Samples = npt.NDArray[np.float32]
Rng = np.random.Generator

FRAME, HOP = 512, 256
NUM_BINS = FRAME // 2 + 1
NUM_CEPSTRA = 40  # below a pitch of 400 Hz the cepstrum up to here is the throat's, not the voice's
FLOOR = 1e-6
WANDER_POINTS_A_S = 2.0
BENDS_AT_HZ = (0.0, 500.0, 1_500.0, 2_600.0, 4_500.0, 8_000.0)  # roughly where the formants of a vowel lie


@dataclass(frozen=True)
class Change:
    """What is done to a spectrum, frame by frame.

    Attributes:
        formants: factor on the frequencies of the envelope; above 1 is a smaller throat.
        breath: share of each frame's phases that are replaced by noise, 0 to 1.
        tilt_db: slope added from 0 to 8 kHz.
        depth: exponent of the envelope; below 1 is flatter, above 1 more resonant.
        bends: further factors at `BENDS_AT_HZ`, straight between them: throats differ in shape, not in size alone.
    """

    formants: float = 1.0
    breath: float = 0.0
    tilt_db: float = 0.0
    depth: float = 1.0
    bends: tuple[float, ...] = (1.0,) * len(BENDS_AT_HZ)


def draw_change(rng: Rng, variety: float) -> Change:
    """A change for a voice; at full variety its formants move by up to 18 % either way, and each by 8 % of its own."""
    return Change(
        formants=float(np.exp(variety * rng.uniform(-0.166, 0.166))),
        bends=tuple(np.exp(variety * rng.uniform(-0.08, 0.08, len(BENDS_AT_HZ))).tolist()),
        breath=float(variety * rng.choice((0.0, 0.0, 0.0, rng.uniform(0.1, 0.5), rng.uniform(0.5, 1.0) ** 2))),
        tilt_db=float(variety * rng.uniform(-12.0, 12.0)),
        depth=float(1.0 + variety * rng.uniform(-0.3, 0.25)),
    )


def changed(x: Samples, change: Change, rng: Rng) -> Samples:
    """The same sound by another source; as long and as loud as before, everything at the same time.

    Args:
        x: (N,) float32.
        change: what to do.
        rng: draws the breath's phases.
    """
    if len(x) < FRAME:
        return x
    spectrum = _analyse(x)
    magnitude = np.abs(spectrum)
    log = np.log(np.maximum(magnitude, FLOOR + 1e-4 * magnitude.max(axis=1, keepdims=True)))
    envelope = log @ _smoothing()
    gain = np.exp(_moved(envelope, change) - envelope + _tilt(change.tilt_db))
    out = spectrum * gain
    if change.breath > 0:
        out = _breathy(out, np.exp(envelope) * gain, change.breath, rng)
    return _as_loud(_synthesise(out, len(x)), x)


def wander(x: Samples, rng: Rng, deviation: float, factor: float = 1.0) -> Samples:
    """Speed that wanders smoothly by up to `deviation` around a factor: pitch, formants and timing go along."""
    num_points = max(3, int(len(x) / 16_000 * WANDER_POINTS_A_S) + 2)
    speeds = factor * np.exp(rng.uniform(-deviation, deviation, num_points))
    slow = np.interp(np.linspace(0.0, num_points - 1.0, len(x)), np.arange(num_points), 1.0 / speeds)
    moments = np.cumsum(slow)
    num = max(1, int(moments[-1]))
    places = np.interp(np.arange(num), moments, np.arange(len(x)))
    return _read(x, places)


def _read(x: Samples, places: npt.NDArray[np.float64]) -> Samples:
    """Values between samples by a cubic through four neighbours: a straight line would dull the top octave."""
    whole = np.clip(places.astype(np.int64), 1, max(1, len(x) - 3))
    if len(x) < 4:
        return x
    t = (places - whole).astype(np.float32)
    a, b, c, d = (x[whole + step] for step in (-1, 0, 1, 2))
    cubic = ((d - 3 * c + 3 * b - a) * t + (2 * a - 5 * b + 4 * c - d)) * t + (c - a)
    return np.asarray(b + np.float32(0.5) * t * cubic, np.float32)


@lru_cache(maxsize=1)
def _window() -> Samples:
    return np.sqrt(np.hanning(FRAME + 1)[:FRAME]).astype(np.float32)


def _analyse(x: Samples) -> npt.NDArray[np.complex64]:
    num = -(-len(x) // HOP) + 1
    padded = np.zeros((num - 1) * HOP + FRAME, np.float32)
    padded[HOP : HOP + len(x)] = x
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    return np.asarray(fft.rfft(frames * _window(), axis=1), np.complex64)


def _synthesise(spectrum: npt.NDArray[np.complex64], num_samples: int) -> Samples:
    frames = fft.irfft(spectrum, FRAME, axis=1).astype(np.float32) * _window()
    out = np.zeros((len(frames) + 1, HOP), np.float32)
    out[:-1] = frames[:, :HOP]
    out[1:] += frames[:, HOP:]
    return out.reshape(-1)[HOP : HOP + num_samples]


@lru_cache(maxsize=1)
def _smoothing() -> Samples:
    """(bins, bins) from log magnitudes (as rows) to their envelope: the low end of the cepstrum."""
    cepstra = fft.irfft(np.eye(NUM_BINS), FRAME, axis=1)
    cepstra[:, NUM_CEPSTRA : FRAME - NUM_CEPSTRA + 1] = 0.0
    return np.asarray(fft.rfft(cepstra, axis=1).real, np.float32)


def _moved(envelope: Samples, change: Change) -> Samples:
    """(frames, bins) log envelopes with their frequencies moved, and made flatter or more resonant."""
    bins = np.arange(NUM_BINS)
    knots = np.asarray(BENDS_AT_HZ) / BENDS_AT_HZ[-1] * (NUM_BINS - 1)
    places = np.clip(bins / (change.formants * np.interp(bins, knots, change.bends)), 0.0, NUM_BINS - 1 - 1e-3)
    low = places.astype(np.int64)
    share = (places - low).astype(np.float32)
    moved = envelope[:, low] * (1.0 - share) + envelope[:, low + 1] * share
    return np.asarray(moved * np.float32(change.depth), np.float32)


@lru_cache(maxsize=1)
def _slope() -> Samples:
    return np.linspace(-0.5, 0.5, NUM_BINS, dtype=np.float32)


def _tilt(tilt_db: float) -> Samples:
    return _slope() * np.float32(tilt_db * np.log(10.0) / 20.0)


def _breathy(
    spectrum: npt.NDArray[np.complex64], envelope: Samples, breath: float, rng: Rng
) -> npt.NDArray[np.complex64]:
    parts = rng.standard_normal((2, *spectrum.shape), dtype=np.float32) * np.float32(0.7 * breath)
    noise: Any = (parts[0] + 1j * parts[1]) * envelope
    return np.asarray(spectrum * np.float32(np.sqrt(1.0 - breath)) + noise, np.complex64)


def _as_loud(out: Samples, x: Samples) -> Samples:
    before, after = float(np.sqrt(np.mean(np.square(x)))), float(np.sqrt(np.mean(np.square(out))))
    return np.asarray(out * np.float32(before / (after + 1e-9)), np.float32)
