"""Guns and fireworks: shock waves, booms, echoes and showers of sparks."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Rng,
    Samples,
    cloud,
    convolve,
    curve,
    decay,
    highpass,
    lowpass,
    noise,
    num_samples,
    place,
    shaped_noise,
    strikes_at,
    uniform,
    unit,
    wander,
)


def _shot(rng: Rng, duration_s: float) -> Samples:
    """A gun: a shock wave, the muzzle blast, and a long tail of echoes that grows darker."""
    n = num_samples(duration_s)
    crack = noise(n, rng) * decay(n, uniform(rng, 0.02, 0.08))
    blast = unit(lowpass(noise(n, rng), uniform(rng, 400.0, 1_200.0))) * decay(n, uniform(rng, 0.15, 0.4))
    tail = unit(shaped_noise(n, rng, [80, 500, 2_000, 6_000], [0, -3, -14, -30])) * decay(
        n, uniform(rng, 0.6, 1.8), 0.02
    )
    out = 2.0 * crack + 1.5 * blast + uniform(rng, 0.15, 0.5) * tail
    for _ in range(int(rng.integers(0, 4))):
        place(out, lowpass(crack[:1_600], 2_000.0), uniform(rng, 0.06, 0.4), uniform(rng, 0.1, 0.4))
    return np.tanh(1.5 * out)


def _blast(rng: Rng, duration_s: float) -> Samples:
    """A shot by a Friedlander pulse smeared through dense early reflections."""
    n = num_samples(duration_s)
    t = np.arange(n) / (16_000.0 * uniform(rng, 0.002, 0.006))
    pulse = (1.0 - t) * np.exp(-np.minimum(t, 50.0))
    echoes = noise(n, rng) * decay(n, uniform(rng, 0.3, 1.0)) * 0.15 + strikes_at(n, [0.0], [3.0])
    return convolve(lowpass(echoes, uniform(rng, 2_500.0, 6_000.0)), pulse[:1_000]) + 0.1 * decay(n, 0.1) * noise(
        n, rng
    )


def _rocket(rng: Rng, duration_s: float) -> Samples:
    """Fireworks: a whistle that climbs, a bang, and a crackling shower."""
    n, bang = num_samples(duration_s), duration_s * uniform(rng, 0.3, 0.5)
    out, num = np.zeros(n), num_samples(bang)
    f0 = curve(num, [uniform(rng, 900.0, 1_600.0), uniform(rng, 2_200.0, 4_000.0)])
    place(out, np.sin(np.cumsum(f0) * 2 * np.pi / 16_000.0) * curve(num, [0.0, 0.25, 0.2, 0.0]), 0.0)
    place(out, _shot(rng, duration_s - bang), bang, 1.0)
    tail = num_samples(duration_s - bang)
    place(
        out,
        cloud(tail, rng, uniform(rng, 20.0, 90.0), [noise(60, rng) * decay(60, 0.003)], 6.0) * decay(tail, 2.0),
        bang + 0.1,
        0.25,
    )
    return out


def _volley(rng: Rng, duration_s: float) -> Samples:
    """Distant fireworks: several dull booms, each followed by fizz."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    for index in range(int(rng.integers(2, 6))):
        start = 0.0 if index == 0 else uniform(rng, 0.1, 0.8) * duration_s
        num = num_samples(1.2)
        place(
            out,
            unit(lowpass(noise(num, rng), uniform(rng, 150.0, 600.0))) * decay(num, uniform(rng, 0.3, 0.8), 0.003),
            start,
        )
        fizz = cloud(num, rng, uniform(rng, 60.0, 250.0), [decay(24, 0.002)], 8.0) * decay(num, 1.0, 0.15)
        place(out, highpass(fizz, 1_500.0), start + uniform(rng, 0.05, 0.2), 0.35)
    return out * (1.0 + 0.1 * wander(n, rng, 3.0))


def _rifle(rng: Rng, duration_s: float) -> Samples:
    """A rifle outdoors: a sharp crack, a boom, then separate echoes that return ever duller."""
    n = num_samples(duration_s)
    num = num_samples(0.3)
    crack = np.tanh(3.0 * unit(highpass(noise(num, rng), 500.0)) * decay(num, uniform(rng, 0.03, 0.1)))
    boom = unit(lowpass(noise(num, rng), uniform(rng, 200.0, 700.0))) * decay(num, 0.25)
    out = np.zeros(n)
    place(out, crack + boom, 0.0)
    start = uniform(rng, 0.12, 0.3)
    for index in range(int(rng.integers(2, 7))):
        place(
            out, lowpass(crack + boom, max(250.0, 2_500.0 * 0.6**index), 1), start, uniform(rng, 0.15, 0.5) * 0.7**index
        )
        start += uniform(rng, 0.06, 0.25)
    return out


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str) -> Kind:
    return Kind(name, label, noun, sentence, "impacts", phrases)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("gunshot", "a gunshot", "gun", "a gun is fired", "a shot", "a gun firing"),
        (0.6, 1.8),
        (_shot, _rifle, _blast),
        most_repeats=2,
        gap_s=(0.1, 0.6),
    ),
    Recipe(
        _kind("fireworks", "fireworks exploding", "firework", "fireworks explode", "a rocket bursting"),
        (1.5, 3.8),
        (_rocket, _volley),
    ),
)
