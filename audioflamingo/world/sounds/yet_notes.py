"""One more flute, piano and violin, from air column, strings and bow rather than drawn timbres; for training alone."""

from __future__ import annotations

import numpy as np
from scipy import signal

from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.synthesis import (
    DB60,
    RATE,
    TOP_HZ,
    Rng,
    Samples,
    bandpass,
    curve,
    decay,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    resonate,
    sine,
    smooth,
    swell,
    uniform,
    unit,
)
from audioflamingo.world.sounds.yet_tools import (
    drift,
    echoes,
    harmonics,
    moments_of,
    rough,
    scattered,
    struck,
    turns_of,
    wave,
)


def _pitch(rng: Rng, low_key: int, high_key: int) -> float:
    return float(440.0 * 2.0 ** ((rng.integers(low_key, high_key + 1) - 69 + 0.1 * rng.standard_normal()) / 12.0))


def _pipe(rng: Rng, duration_s: float) -> Samples:
    """A flute: breath in a tuned tube gives a breathy tone, the jet locks to it with a purer one; chiff first."""
    n, hz = num_samples(duration_s), _pitch(rng, 60, 93)
    breath = swell(n, min(uniform(rng, 0.03, 0.15) / duration_s, 0.4), min(uniform(rng, 0.06, 0.2) / duration_s, 0.4))
    delay, keep = round(RATE / hz), uniform(rng, 0.9, 0.985)
    loop = np.zeros(delay + 2)
    loop[0], loop[delay], loop[delay + 1] = 1.0, -0.6 * keep, -0.4 * keep
    tube = signal.lfilter([1.0], loop, lowpass(noise(n, rng), uniform(rng, 2_000.0, 5_000.0), 1) * breath)
    true_hz = RATE / (delay + 0.4)
    vibrato = sine(n, uniform(rng, 4.0, 6.5)) * curve(n, [0.0, 0.3, 1.0, 1.0])
    f0 = true_hz * (1.0 + uniform(rng, 0.0, 0.008) * vibrato) * (0.985 + 0.015 * breath)
    tone = wave(turns_of(f0), harmonics(rng, float(f0.max()), uniform(rng, 1.3, 2.8), 0.5), rng)
    chiff = bandpass(noise(n, rng), 1.5 * hz, 4.0 * hz, 1) * decay(n, uniform(rng, 0.05, 0.2), 0.008)
    out = tone * breath ** uniform(rng, 1.0, 2.0) * (1.0 + uniform(rng, 0.0, 0.3) * vibrato)
    out += uniform(rng, 0.1, 0.7) * unit(tube) * breath + uniform(rng, 0.0, 0.25) * unit(chiff)
    return echoes(out, rng, 0.25, uniform(rng, 0.0, 0.35))


def _strings(rng: Rng, duration_s: float) -> Samples:
    """A piano: stiff strings struck near one end, a little out of tune, two decays, the hammer's knock."""
    n, hz = num_samples(duration_s), _pitch(rng, 30, 92)
    k = np.arange(1.0, 25.0)
    stiff = k * hz * np.sqrt(1.0 + log_uniform(rng, 5e-5, 1e-3) * k**2)
    hit = np.abs(np.sin(np.pi * k * uniform(rng, 0.08, 0.15))) + 0.05
    gains = hit * k ** -uniform(rng, 0.9, 2.4) * scattered(rng, 24, 3.0)
    lasts = uniform(rng, 2.0, 9.0) * (260.0 / hz) ** 0.5 / (1.0 + 0.12 * k * hz / 260.0)
    apart = 1.0 + rng.uniform(2e-4, 2e-3)
    out = modes(n, stiff, lasts * 0.4, gains) + 0.5 * modes(n, stiff[:10] * apart, lasts[:10], gains[:10])
    knock = modes(n, rng.uniform(70.0, 900.0, 7), rng.uniform(0.04, 0.15, 7), rng.uniform(0.3, 1.0, 7))
    knock += 0.4 * lowpass(noise(n, rng), uniform(rng, 800.0, 3_000.0)) * decay(n, 0.03)
    out = out / np.abs(out).max() + uniform(rng, 0.02, 0.25) * knock / np.abs(knock).max()
    if rng.random() < 0.5:  # the damper falls
        out *= np.where(np.arange(n) < 0.8 * n, 1.0, np.exp(-DB60 * (np.arange(n) - 0.8 * n) / (0.15 * n)))
    return echoes(out * np.minimum(np.arange(n) / uniform(rng, 20.0, 120.0), 1.0), rng, 0.1, uniform(rng, 0.0, 0.4))


def _bow(rng: Rng, duration_s: float) -> Samples:
    """A violin: the bow's grip and slip, each period a little uneven, through a wooden body's many resonances."""
    n, hz = num_samples(duration_s), _pitch(rng, 55, 93)
    pull = swell(n, min(uniform(rng, 0.03, 0.25) / duration_s, 0.45), min(uniform(rng, 0.05, 0.3) / duration_s, 0.45))
    slow = np.maximum(curve(n, [0.0, 0.0, 1.0, 1.0], [0.0, 0.2, 0.5, 1.0]), 0.1)
    vibrato = sine(n, uniform(rng, 4.5, 7.0)) * slow * uniform(rng, 0.0, 0.013)
    f0 = hz * (
        1.0 + vibrato + uniform(rng, 0.0, 0.03) * -decay(n, uniform(rng, 0.05, 0.2)) + 0.0015 * drift(n, rng, 9.0)
    )
    slip = np.zeros(round(RATE / hz))
    at = uniform(rng, 0.05, 0.2)
    slip += np.interp(np.linspace(0.0, 1.0, len(slip)), [0.0, at, 1.0], [1.0, -1.0, 1.0])
    moments = moments_of(turns_of(f0), rng, uniform(rng, 0.001, 0.01))
    string = struck(n, moments, scattered(rng, len(moments), uniform(rng, 0.1, 0.8)), slip - slip.mean())
    if hz < 0.3 * TOP_HZ:  # the corners of the motion, which the moments alone round off
        string += uniform(rng, 0.1, 0.6) * wave(turns_of(f0), harmonics(rng, float(f0.max()), 0.9), rng, 0.1)
    wood = np.sort(np.exp(rng.uniform(np.log(240.0), np.log(4_500.0), 12)))
    body = resonate(string, wood.tolist(), (30.0 + 0.09 * wood).tolist(), rng.uniform(0.3, 1.0, 12).tolist())
    scratch = bandpass(noise(n, rng), 1_500.0, 6_000.0, 1) * (0.3 + smooth(np.abs(string), 400.0))
    scratch *= 0.3 + decay(n, 0.15)
    out = unit(body) + uniform(rng, 0.0, 0.5) * unit(string) + uniform(rng, 0.02, 0.2) * unit(scratch)
    return echoes(out * pull * rough(n, rng, 5.0, 0.05), rng, 0.2, uniform(rng, 0.0, 0.35))


NOTES: dict[str, tuple[Variant, ...]] = {"flute": (_pipe,), "piano": (_strings,), "violin": (_bow,)}
"""By the kind's name."""
