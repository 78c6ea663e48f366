"""Parts that algorithms for training alone share: waveforms by look-up, moments of a turning wheel, passing, echoes."""

from __future__ import annotations

import numpy as np
from scipy import fft

from audioflamingo.world.sounds.synthesis import (
    RATE,
    TOP_HZ,
    Curve,
    Rng,
    Samples,
    convolve,
    curve,
    log_uniform,
    lowpass,
    num_samples,
    strikes_at,
    uniform,
    unit,
    wander,
)

TABLE = 16_384
MOST_HARMONICS = 200
COARSE = 32  # samples between the points of a slow curve


def turns_of(rate_hz: Curve, start: float = 0.0) -> Curve:
    """(N,) how often a wheel of a changing rate has turned."""
    return start + np.cumsum(rate_hz) / RATE


def harmonics(rng: Rng, highest_hz: float, slope: float, ripple: float = 0.0) -> Curve:
    """(K,) amplitudes that fall as `k**-slope`, scattered by `ripple` nepers, for a pitch of at most `highest_hz`."""
    k = np.arange(1.0, 1.0 + max(1, min(MOST_HARMONICS, int(TOP_HZ / highest_hz))))
    return np.asarray(k**-slope * np.exp(ripple * rng.standard_normal(len(k))))


def wave(turns: Curve, amplitudes: Curve, rng: Rng, scatter: float = 1.0) -> Curve:
    """(N,) periodic wave of unit power, one period a turn; phases go from a pulse (0) to any shape (`scatter` 1)."""
    spectrum = np.zeros(TABLE // 2 + 1, np.complex128)
    spectrum[1 : len(amplitudes) + 1] = amplitudes * np.exp(2j * np.pi * scatter * rng.random(len(amplitudes)))
    table = unit(fft.irfft(spectrum, TABLE))
    return np.asarray(table[(turns * TABLE).astype(np.int64) & (TABLE - 1)])


def moments_of(turns: Curve, rng: Rng, jitter: float = 0.0) -> Curve:
    """(K,) seconds at which whole turns are done, the first at the start; `jitter` is a share of a turn."""
    whole = turns[0] + np.arange(int(turns[-1] - turns[0]) + 1)
    whole[1:] += jitter * rng.standard_normal(len(whole) - 1)
    return np.asarray(np.interp(whole, turns, np.arange(len(turns)) / RATE))


def struck(n: int, moments_s: Curve, levels: Curve, kernel: Samples) -> Curve:
    """(n,) a response at each of many moments, of unit power."""
    return unit(convolve(strikes_at(n, moments_s, levels), kernel))


def scattered(rng: Rng, num: int, spread_db: float) -> Curve:
    """(num,) levels around one."""
    return np.asarray(10.0 ** (rng.standard_normal(num) * spread_db / 20.0))


def tamed(x: Curve) -> Curve:
    """`x` at unit power with its highest peaks rounded off, so that one blow does not drown the rest."""
    return np.asarray(3.0 * np.tanh(unit(x) / 3.0))


def drift(n: int, rng: Rng, rate_hz: float) -> Curve:
    """(n,) as `wander`, for slow rates a good deal faster: drawn at every 32nd sample."""
    if rate_hz > 40.0:
        return wander(n, rng, rate_hz)
    coarse = wander(n // COARSE + 2, rng, rate_hz * COARSE)
    return np.interp(np.arange(n) / COARSE, np.arange(len(coarse)), coarse)


def hand(n: int, rng: Rng, low: float, high: float, every_s: float) -> Curve:
    """(n,) what a hand sets: a new value between two about every so many seconds, reached smoothly."""
    num = int(n / RATE / every_s) + 2
    return curve(n, rng.uniform(low, high, num).tolist())


def passing(n: int, rng: Rng) -> tuple[Curve, Curve]:
    """(n,) loudness and (n,) factor of pitch of something that goes by, comes, or leaves."""
    mach, span = log_uniform(rng, 0.01, 0.3), log_uniform(rng, 0.2, 5.0)
    along = span * (np.linspace(-1.0, 1.0, n) - uniform(rng, -1.3, 1.3))
    far = np.sqrt(1.0 + along**2)
    return np.asarray(1.0 / far), np.asarray(1.0 / (1.0 + mach * along / far))


def ground(x: Curve, rng: Rng) -> Curve:
    """The sound and its reflection from the ground, whose delay changes: notches that wander."""
    delay = RATE * curve(len(x), [log_uniform(rng, 2e-4, 6e-3) for _ in range(3)])
    place_in = np.maximum(np.arange(len(x)) - delay, 0.0)
    whole = place_in.astype(np.int64)
    part = place_in - whole
    later = x[whole] * (1.0 - part) + x[np.minimum(whole + 1, len(x) - 1)] * part
    return np.asarray(x + uniform(rng, 0.3, 0.9) * later)


def echoes(x: Curve, rng: Rng, longest_s: float, level: float) -> Curve:
    """A few duller copies from walls or woods."""
    out, dull = x.copy(), lowpass(x, log_uniform(rng, 700.0, 5_000.0), 1)
    for _ in range(int(rng.integers(2, 7))):
        late = num_samples(uniform(rng, 0.05, 1.0) * longest_s)
        if late < len(x):
            out[late:] += uniform(rng, 0.2, 1.0) * level * dull[:-late]
    return out


def afar(x: Curve, rng: Rng) -> Curve:
    """Near, with all its treble, or far, with little of it, and with echoes."""
    if rng.random() < 0.5:
        x = lowpass(x, log_uniform(rng, 900.0, 6_500.0), 1)
    return echoes(x, rng, uniform(rng, 0.05, 0.6), uniform(rng, 0.05, 0.4)) if rng.random() < 0.5 else x


def rough(n: int, rng: Rng, rate_hz: float, depth: float) -> Curve:
    """(n,) a factor around one that wanders and stays positive."""
    return np.maximum(1.0 + depth * drift(n, rng, rate_hz), 0.05)
