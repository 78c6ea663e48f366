"""Parts that the algorithms of `apart` share: blast waves, rooms, plates, damped grains and slow random courses."""

from __future__ import annotations

import numpy as np
from scipy import fft

from audioflamingo.world.sounds.synthesis import (
    DB60,
    RATE,
    TOP_HZ,
    Curve,
    Rng,
    Samples,
    bandpass,
    decay,
    highpass,
    log_uniform,
    modes,
    noise,
    num_samples,
    smooth,
    strikes_at,
    uniform,
)

STEP = 160  # samples between two points of a slow course
SLOW_HZ = RATE / STEP
GRAINS_AT_ONCE = 512
SOUND_M_PER_S = 340.0


def slow_points(n: int) -> int:
    """How many points `ramp` needs for n samples."""
    return n // STEP + 2


def slow_times(n: int) -> Curve:
    """(slow_points,) seconds of the points of a slow course."""
    return np.arange(slow_points(n)) / SLOW_HZ


def ramp(points: Samples, n: int) -> Curve:
    """(n,) straight lines through points that are `STEP` samples apart: far cheaper than a general interpolation."""
    steps = np.diff(points)[:, None] * (np.arange(STEP) / STEP)
    return np.asarray((points[:-1, None] + steps).reshape(-1)[:n], np.float64)


def turbulence(n: int, rng: Rng, turn_hz: float, slope: float = 5.0 / 3.0) -> Curve:
    """(slow_points,) slow course of unit deviation with a power spectrum that falls as f**-slope above `turn_hz`."""
    num = max(slow_points(n), 4_096)
    size = fft.next_fast_len(num, real=True)
    hz = np.arange(size // 2 + 1) * (SLOW_HZ / size)
    spectrum = fft.rfft(rng.standard_normal(size)) * (1.0 + (hz / turn_hz) ** 2) ** (-slope / 4.0)
    spectrum[0] = 0.0
    course = fft.irfft(spectrum, size)
    start = int(rng.integers(0, num - slow_points(n) + 1))
    return np.asarray((course / course.std())[start : start + slow_points(n)])


def grains(
    n: int, starts_s: Samples, hz: Samples, t60_s: Samples, levels: Samples, rise_per_s: Samples | float = 0.0
) -> Curve:
    """(n,) sum of damped sines, every one with values of its own.

    Args:
        n: samples to make.
        starts_s: (M,) when each begins; those outside are left out.
        hz: (M,) pitch at the start.
        t60_s: (M,) seconds to lose 60 dB.
        levels: (M,) peak.
        rise_per_s: (M,) or one: the share of its pitch by which each rises in a second.
    """
    starts = np.asarray(starts_s * RATE).astype(np.int64)
    rise = np.broadcast_to(np.asarray(rise_per_s, np.float64), starts.shape)
    hz = np.minimum(hz, TOP_HZ / (1.0 + np.maximum(rise, 0.0) * t60_s))
    inside = np.flatnonzero((starts >= 0) & (starts < n))
    order = inside[np.argsort(np.asarray(t60_s)[inside])]
    longest = num_samples(float(np.max(t60_s))) if len(t60_s) else 1
    out = np.zeros(n + longest)
    for first in range(0, len(order), GRAINS_AT_ONCE):
        part = order[first : first + GRAINS_AT_ONCE]
        t = (np.arange(num_samples(float(t60_s[part[-1]]))) / RATE).astype(np.float32)
        turn = (2.0 * np.pi * hz[part]).astype(np.float32)[:, None] * t
        turn *= 1.0 + (0.5 * rise[part]).astype(np.float32)[:, None] * t
        loss = (-DB60 / t60_s[part]).astype(np.float32)[:, None] * t
        wave = np.asarray(levels)[part].astype(np.float32)[:, None] * np.exp(loss) * np.sin(turn)
        where = starts[part][:, None] + np.arange(len(t))
        np.add.at(out, where.reshape(-1), wave.reshape(-1).astype(np.float64))
    return out[:n]


def poisson(n: int, rng: Rng, rate_hz: float, least: int = 3) -> Curve:
    """(M,) moments in seconds, strewn evenly; never fewer than `least`."""
    seconds = n / RATE
    return np.asarray(rng.uniform(0.0, seconds, max(least, int(rng.poisson(rate_hz * seconds)))))


def logs(rng: Rng, low: float, high: float, num: int) -> Curve:
    """(num,) draws, even in the logarithm."""
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), num)))


def blast(width_s: float, sharpness: float = 1.0) -> Curve:
    """Pressure of an explosion after Friedlander: a jump, a fall below zero after `width_s`, a slow return."""
    t = np.arange(num_samples(7.0 * width_s)) / (RATE * width_s)
    return np.asarray((1.0 - t) * np.exp(-sharpness * t))


def n_wave(width_s: float) -> Curve:
    """Pressure of a shock: up, straight down, and back up, with edges a sample wide."""
    num = max(4, num_samples(width_s))
    return np.pad(np.linspace(1.0, -1.0, num), 1)


def room(n: int, rng: Rng, size_m: tuple[float, float, float], keep: float, dull_hz: float) -> Curve:
    """(n,) echoes of a box-shaped room by its mirror images, the direct sound first at level 1.

    Args:
        n: length in samples.
        rng: draws where source and listener are.
        size_m: the three sides in metres.
        keep: share of the pressure that a wall throws back.
        dull_hz: the later echoes lose what is above.
    """
    squares: list[Curve] = []
    hits: list[Curve] = []
    turns = np.arange(-4, 5)
    for side in size_m:
        source, ear = rng.uniform(0.15, 0.85, 2) * side
        squares.append(np.concatenate([2 * turns * side + source - ear, 2 * turns * side - source - ear]) ** 2)
        hits.append(np.abs(np.concatenate([2 * turns, 2 * turns - 1])).astype(np.float64))
    meters = np.sqrt(squares[0][:, None, None] + squares[1][:, None] + squares[2] + 0.04).reshape(-1)
    count = (hits[0][:, None, None] + hits[1][:, None] + hits[2]).reshape(-1)
    direct = float(meters.min())
    late_s = (meters - direct) / SOUND_M_PER_S
    near = late_s < n / RATE
    levels = keep**count * direct / meters * rng.choice((-1.0, 1.0), len(count))
    levels[int(np.argmin(meters))] = 1.0
    kernel = strikes_at(n, late_s[near], levels[near])
    clear = decay(n, 0.15)
    return np.asarray(kernel * clear + smooth(kernel, dull_hz) * (1.0 - clear))


def diffuse(n: int, rng: Rng, low_t60_s: float, high_t60_s: float, start_s: float = 0.005) -> Curve:
    """(n,) echoes too dense to tell apart, of unit root mean square at their start; low pitches die last or first."""
    edges = (60.0, 250.0, 800.0, 2_500.0, 7_000.0)
    t60s = np.geomspace(low_t60_s, high_t60_s, len(edges) - 1)
    white = noise(n, rng)
    out = np.zeros(n)
    for low, high, t60 in zip(edges, edges[1:], t60s.tolist(), strict=False):
        out += bandpass(white, low, high, 1) * decay(n, t60, start_s)
    return out


def plate(n: int, rng: Rng, lowest_hz: float, t60_s: float, dull: float = 0.5, num: int = 5) -> Curve:
    """(n,) a struck rectangular plate: bending modes, weighted by where it is struck; higher ones die sooner.

    Args:
        n: length in samples.
        rng: draws the ratio of the sides and the place that is struck.
        lowest_hz: pitch of its first mode.
        t60_s: decay of that mode.
        dull: exponent by which the decay falls with frequency: 0.2 metal, 0.6 wood, 1 board.
        num: modes along each side.
    """
    ratio, place_x, place_y = uniform(rng, 0.4, 1.0), uniform(rng, 0.1, 0.5), uniform(rng, 0.1, 0.5)
    x, y = np.meshgrid(np.arange(1, num + 1), np.arange(1, num + 1))
    hz = lowest_hz * (x**2 + (ratio * y) ** 2) / (1.0 + ratio**2) * rng.uniform(0.97, 1.03, x.shape)
    weights = np.abs(np.sin(np.pi * x * place_x) * np.sin(np.pi * y * place_y)) + 0.05
    t60s = t60_s * (lowest_hz / hz) ** dull
    return modes(n, hz.reshape(-1), t60s.reshape(-1), (weights * (hz / lowest_hz) ** -0.3).reshape(-1))


def bounces(rng: Rng, first_s: float, keep: float, num: int) -> tuple[Curve, Curve]:
    """Moments in seconds and levels of something that hits, springs back and hits again."""
    gaps = first_s * keep ** np.arange(num) * rng.uniform(0.85, 1.15, num)
    return np.concatenate([[0.0], np.cumsum(gaps)[:-1]]), np.asarray(keep ** np.arange(num), np.float64)


def tap(rng: Rng, soft_s: float) -> Curve:
    """Force of something that hits something: a hump as long as it is soft."""
    num = max(3, num_samples(soft_s))
    return np.asarray(np.hanning(num + 2)[1:-1] * rng.uniform(0.7, 1.0))


def strewn(rng: Rng, points: Samples, num: int) -> Curve:
    """(num,) moments in seconds, as dense as a slow course of rates says."""
    total = np.cumsum(np.maximum(points, 0.0) + 1e-9)
    return np.asarray(np.interp(rng.uniform(0.0, total[-1], num), total, np.arange(len(points)) / SLOW_HZ))


def bubble_t60(hz: Samples) -> Curve:
    """(M,) seconds in which bubbles of given pitches lose 60 dB by heat, friction and radiation (van den Doel 2005)."""
    return np.asarray(np.clip(DB60 / (0.043 * hz + 0.0014 * hz**1.5), 0.005, 0.15))


def heard(x: Samples, rng: Rng) -> Curve:
    """What a microphone keeps: the lowest pitches, which pressure waves and rooms have in plenty, fade."""
    return highpass(x, log_uniform(rng, 30.0, 90.0))
