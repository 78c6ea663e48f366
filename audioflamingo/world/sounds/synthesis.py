"""Building blocks of sound synthesis: curves, oscillators, resonators, noises and grain clouds, all mono at 16 kHz.

Sources: Farnell, "Designing Sound"; Moorer 1976 for the closed-form harmonic sum; Karplus and Strong 1983.
Signals are (N,) float64 inside and become float32 when an event is finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

from audioflamingo.types import SAMPLE_RATE_HZ

Samples = npt.NDArray[np.floating[Any]]
Curve = npt.NDArray[np.float64]
Rng = np.random.Generator

RATE = SAMPLE_RATE_HZ
TOP_HZ = 7_600.0  # nothing is synthesised above: room below Nyquist for glides
DB60 = 6.908  # ln(1000): a 60 dB decay in nepers


def uniform(rng: Rng, low: float, high: float) -> float:
    """One draw, evenly between two values."""
    return float(rng.uniform(low, high))


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """One draw, evenly in the logarithm: for frequencies, times and rates."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def num_samples(duration_s: float) -> int:
    """Samples in a duration, at least one."""
    return max(1, round(duration_s * RATE))


def times(n: int) -> Curve:
    """(n,) seconds since the start."""
    return np.arange(n) / RATE


def curve(n: int, values: Sequence[float], at: Sequence[float] | None = None) -> Curve:
    """(n,) piecewise linear curve through `values`, at fractions `at` of the whole, or evenly spaced."""
    places = np.linspace(0.0, 1.0, len(values)) if at is None else np.asarray(at)
    return np.interp(np.linspace(0.0, 1.0, n), places, np.asarray(values, dtype=np.float64))


def wander(n: int, rng: Rng, rate_hz: float) -> Curve:
    """(n,) smooth random curve of about unit deviation that turns about `rate_hz` times a second."""
    num_points = max(4, int(n / RATE * rate_hz) + 4)
    points = rng.standard_normal(num_points)
    position = np.arange(n) * (rate_hz / RATE) + rng.uniform()
    whole = np.minimum(position.astype(np.int64), num_points - 2)
    part = np.clip(position - whole, 0.0, 1.0)
    part = part * part * (3.0 - 2.0 * part)
    return np.asarray(points[whole] * (1.0 - part) + points[whole + 1] * part)


def phase(frequency_hz: Curve, start: float = 0.0) -> Curve:
    """(N,) phase in radians of an oscillator that follows a frequency curve."""
    return start + np.cumsum(frequency_hz) * (2.0 * np.pi / RATE)


def sine(n: int, frequency_hz: float, start: float = 0.0) -> Curve:
    """(n,) sine of one frequency."""
    return np.asarray(np.sin(np.arange(n) * (2.0 * np.pi * frequency_hz / RATE) + start))


def buzz(f0_hz: Curve, rolloff: float = 0.98) -> Curve:
    """(N,) pulse train without aliasing: harmonics up to `TOP_HZ`, each `rolloff` times the one below (Moorer 1976)."""
    num_harmonics = max(1, int(TOP_HZ / max(20.0, float(np.max(f0_hz)))))
    z = rolloff * np.exp(1j * phase(f0_hz))
    total = z * (1.0 - z**num_harmonics) / (1.0 - z)
    return np.asarray(total.real * (2.0 / np.sqrt(num_harmonics)))


def partials(n: int, f0_hz: Curve, amplitudes: Sequence[float] | Curve) -> Curve:
    """(n,) sum of harmonics of a gliding pitch; those above `TOP_HZ` are left out."""
    turn = phase(f0_hz)
    highest = float(np.max(f0_hz))
    out = np.zeros(n)
    for index, amplitude in enumerate(amplitudes, start=1):
        if index * highest < TOP_HZ:
            out += amplitude * np.sin(index * turn)
    return out


def noise(n: int, rng: Rng) -> Curve:
    """(n,) white noise of unit deviation."""
    return rng.standard_normal(n, dtype=np.float32).astype(np.float64)


def shaped_noise(n: int, rng: Rng, frequencies_hz: Sequence[float], gains_db: Sequence[float]) -> Curve:
    """(n,) noise of unit deviation whose spectrum follows points, interpolated over log frequency."""
    size = fft.next_fast_len(n, real=True)
    spectrum = fft.rfft(rng.standard_normal(size, dtype=np.float32))
    bins = np.log(np.arange(len(spectrum)) * (RATE / size) + 1.0)
    gains = np.interp(bins, np.log(np.asarray(frequencies_hz) + 1.0), gains_db)
    shaped = fft.irfft(spectrum * np.power(10.0, gains / 20.0).astype(np.float32), size)[:n].astype(np.float64)
    return np.asarray(shaped / (shaped.std() + 1e-9))


@lru_cache(maxsize=512)
def _sections(order: int, low_hz: float, high_hz: float, shape: str) -> Curve:
    edges: float | tuple[float, float] = (low_hz, high_hz) if shape == "bandpass" else max(low_hz, high_hz)
    return np.asarray(signal.butter(order, edges, shape, fs=RATE, output="sos"))


def _edge(frequency_hz: float) -> float:
    """Rounds to 2 % steps, so that designs of filters are found again, and keeps below Nyquist."""
    return float(min(7_900.0, max(10.0, 1.02 ** round(np.log(max(frequency_hz, 1.0)) / np.log(1.02)))))


def lowpass(x: Samples, cutoff_hz: float, order: int = 2) -> Curve:
    """Butterworth low-pass."""
    return np.asarray(signal.sosfilt(_sections(order, 0.0, _edge(cutoff_hz), "lowpass"), x))


def highpass(x: Samples, cutoff_hz: float, order: int = 2) -> Curve:
    """Butterworth high-pass."""
    return np.asarray(signal.sosfilt(_sections(order, 0.0, _edge(cutoff_hz), "highpass"), x))


def bandpass(x: Samples, low_hz: float, high_hz: float, order: int = 2) -> Curve:
    """Butterworth band-pass."""
    low = _edge(low_hz)
    return np.asarray(signal.sosfilt(_sections(order, low, max(_edge(high_hz), low * 1.05), "bandpass"), x))


def smooth(x: Samples, cutoff_hz: float) -> Curve:
    """One-pole low-pass."""
    keep = float(np.exp(-2.0 * np.pi * cutoff_hz / RATE))
    return np.asarray(signal.lfilter([1.0 - keep], [1.0, -keep], x))


def resonator(x: Samples, frequency_hz: float, bandwidth_hz: float) -> Curve:
    """Two-pole resonance with a peak gain of about one."""
    radius = float(np.exp(-np.pi * bandwidth_hz / RATE))
    angle = 2.0 * np.pi * min(frequency_hz, TOP_HZ) / RATE
    gain = (1.0 - radius) * np.sqrt(1.0 - 2.0 * radius * np.cos(2.0 * angle) + radius * radius)
    return np.asarray(signal.lfilter([gain], [1.0, -2.0 * radius * np.cos(angle), radius * radius], x))


def resonate(
    x: Samples, frequencies_hz: Sequence[float], bandwidths_hz: Sequence[float], gains: Sequence[float]
) -> Curve:
    """Parallel resonances; signs alternate so that the valleys between neighbours do not cancel."""
    out = np.zeros(len(x))
    for index, (frequency, bandwidth, gain) in enumerate(zip(frequencies_hz, bandwidths_hz, gains, strict=True)):
        if frequency < TOP_HZ:
            out += (gain if index % 2 == 0 else -gain) * resonator(x, frequency, bandwidth)
    return out


def modes(
    n: int,
    frequencies_hz: Sequence[float] | Samples,
    decays_s: Sequence[float] | Samples,
    gains: Sequence[float] | Samples,
) -> Curve:
    """(n,) modal impulse response: sines that lose 60 dB in `decays_s`; modes above `TOP_HZ` are left out."""
    out = np.zeros(n)
    for frequency, decay, gain in zip(frequencies_hz, decays_s, gains, strict=True):
        if frequency >= TOP_HZ:
            continue
        num = min(n, num_samples(decay * 1.2))
        z = np.exp(complex(-DB60 / (decay * RATE), 2.0 * np.pi * frequency / RATE))
        out[:num] += gain * _powers(z, num).imag
    return out


def _powers(z: complex, num: int) -> npt.NDArray[np.complex128]:
    """(num,) z**0 .. z**(num-1), as an outer product of two short lists: a tenth of the cost of exp."""
    block = 256
    inner = z ** np.arange(block)
    outer = (z**block) ** np.arange(-(-num // block))
    return np.asarray(np.outer(outer, inner).reshape(-1)[:num])


def decay(n: int, t60_s: float, attack_s: float = 0.0) -> Curve:
    """(n,) exponential decay by 60 dB in `t60_s`, after a linear attack."""
    t = times(n)
    out = np.exp(-DB60 * np.maximum(t - attack_s, 0.0) / max(t60_s, 1e-4))
    if attack_s > 0.0:
        out *= np.minimum(t / attack_s, 1.0)
    return np.asarray(out)


def swell(n: int, attack: float, release: float) -> Curve:
    """(n,) envelope with rounded edges; `attack` and `release` are fractions of the whole."""
    up, down = max(1, int(n * attack)), max(1, int(n * release))
    out = np.ones(n)
    out[: min(up, n)] = np.sin(0.5 * np.pi * np.arange(min(up, n)) / up) ** 2
    tail = min(down, n)
    out[n - tail :] *= np.cos(0.5 * np.pi * np.arange(tail) / down) ** 2
    return out


def place(out: Samples, x: Samples, start_s: float, gain: float = 1.0) -> None:
    """Adds `x` into `out` from `start_s`; what does not fit is dropped."""
    start = round(start_s * RATE)
    num = min(len(x), len(out) - start)
    if num > 0:
        out[start : start + num] += gain * x[:num]


def cloud(n: int, rng: Rng, rate_hz: float, grains: Sequence[Samples], spread_db: float = 8.0) -> Curve:
    """(n,) grains strewn at random (Poisson, `rate_hz` a second in all), with levels that scatter by `spread_db`."""
    out = np.zeros(n)
    for grain in grains:
        num = int(rng.poisson(rate_hz * n / RATE / len(grains)))
        strikes = np.zeros(n)
        levels = 10.0 ** (rng.standard_normal(num) * spread_db / 20.0) * rng.choice((-1.0, 1.0), num)
        np.add.at(strikes, rng.integers(0, n, num), levels)
        out += signal.oaconvolve(strikes, grain)[:n] if num > 8 else _strew(strikes, grain)
    return out


def _strew(strikes: Curve, grain: Samples) -> Curve:
    """Convolution with few non-zero samples, added one by one."""
    out = np.zeros(len(strikes))
    for index in np.flatnonzero(strikes).tolist():
        num = min(len(grain), len(out) - index)
        out[index : index + num] += strikes[index] * grain[:num]
    return out


def strikes_at(n: int, moments_s: Sequence[float] | Curve, levels: Sequence[float] | Curve) -> Curve:
    """(n,) impulses at given moments, each shared between its two neighbouring samples."""
    position = np.asarray(moments_s) * RATE
    index = position.astype(np.int64)
    inside = (index >= 0) & (index < n - 1)
    part = (position - index)[inside]
    out = np.zeros(n)
    np.add.at(out, index[inside], np.asarray(levels)[inside] * (1.0 - part))
    np.add.at(out, index[inside] + 1, np.asarray(levels)[inside] * part)
    return out


def convolve(x: Samples, kernel: Samples) -> Curve:
    """Linear convolution cut to the length of `x`."""
    return np.asarray(signal.oaconvolve(x, kernel)[: len(x)])


def pluck(n: int, frequency_hz: float, brightness: float, t60_s: float, rng: Rng) -> Curve:
    """(n,) plucked string: noise in a damped loop (Karplus and Strong 1983), tuned by a fractional delay."""
    period = RATE / frequency_hz - 0.5
    whole = int(period)
    part = period - whole
    loss = float(np.exp(-DB60 / (t60_s * frequency_hz)))
    feedback = np.zeros(whole + 3)
    feedback[0] = 1.0
    for offset, weight in ((0, (1.0 - part) * 0.5), (1, 0.5), (2, part * 0.5)):
        feedback[whole + offset] -= loss * weight
    burst = np.zeros(n)
    num = min(n, whole)
    burst[:num] = smooth(rng.uniform(-1.0, 1.0, num), 400.0 + 7_000.0 * brightness)
    return np.asarray(signal.lfilter([1.0], feedback, burst))


def level(x: Samples, peak: float = 1.0) -> Curve:
    """`x` scaled to a peak; silence stays silence."""
    return np.asarray(x * (peak / max(float(np.abs(x).max()), 1e-9)))


def unit(x: Samples) -> Curve:
    """`x` scaled to unit root mean square."""
    return np.asarray(x / max(float(np.sqrt(np.mean(np.square(x)))), 1e-9))
