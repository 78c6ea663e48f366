"""Wind, thunder and fire."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    cloud,
    convolve,
    curve,
    decay,
    highpass,
    log_uniform,
    lowpass,
    noise,
    num_samples,
    place,
    resonator,
    shaped_noise,
    strikes_at,
    swell,
    uniform,
    unit,
    wander,
)


def _gusts(rng: Rng, duration_s: float) -> Samples:
    """Wind: dark noise whose level and brightness follow the speed of slow gusts."""
    n = num_samples(duration_s)
    force = np.clip(0.5 + 0.3 * wander(n, rng, uniform(rng, 0.3, 1.2)) + 0.08 * wander(n, rng, 4.0), 0.05, 1.3)
    dark = shaped_noise(n, rng, [30, 200, 800, 2_500, 8_000], [0, uniform(rng, -3, 3), -10, -25, -45])
    bright = shaped_noise(n, rng, [100, 500, 1_500, 4_000, 8_000], [-20, -4, 0, -12, -30])
    return dark * force + uniform(rng, 0.2, 0.7) * bright * force**2.5


def _howl(rng: Rng, duration_s: float) -> Samples:
    """Wind that whistles in gaps: narrow bands of noise that slide with the force, over a low rumble."""
    n, steps = num_samples(duration_s), 9
    force = np.clip(0.5 + 0.35 * wander(n, rng, uniform(rng, 0.3, 0.9)), 0.0, 1.2)
    source, low = noise(n, rng), log_uniform(rng, 250.0, 600.0)
    out = 0.35 * shaped_noise(n, rng, [30, 150, 600, 3_000, 8_000], [0, 0, -9, -30, -50]) * (0.3 + force)
    for index in range(steps):
        centre = index / (steps - 1)
        weight = np.maximum(0.0, 1.0 - np.abs(force - centre) * (steps - 1))
        f0 = low * 2.0 ** (1.4 * centre)
        out += unit(resonator(source, f0, f0 * 0.07)) * weight * (0.15 + force)
    return out


def _blizzard(rng: Rng, duration_s: float) -> Samples:
    """Wind in a microphone or in trees: rumble that buffets, and a rustle of leaves."""
    n = num_samples(duration_s)
    push: Curve = np.abs(wander(n, rng, uniform(rng, 2.0, 6.0))) * (0.6 + 0.3 * wander(n, rng, 0.5)).clip(0.1)
    rumble = unit(lowpass(noise(n, rng), uniform(rng, 80.0, 250.0)))
    leaves = np.asarray(unit(bandpass(noise(n, rng), 1_200.0, 6_000.0, 1)) * push**1.5)
    return (
        rumble * (0.2 + push)
        + uniform(rng, 0.1, 0.4) * leaves
        + 0.2 * unit(bandpass(noise(n, rng), 200.0, 900.0)) * push
    )


def _thunder(rng: Rng, duration_s: float) -> Samples:
    """A crack that may be near or far, then a rumble of rolling bursts that grow darker."""
    n, near = num_samples(duration_s), rng.random()
    crack = unit(highpass(noise(n, rng), 300.0)) * decay(n, uniform(rng, 0.1, 0.5)) * near
    roll = np.abs(wander(n, rng, uniform(rng, 4.0, 9.0))) ** 1.5 + 0.3
    low = shaped_noise(n, rng, [25, 70, 200, 700, 3_000], [-4, 0, -5, -18, -50])
    mid = shaped_noise(n, rng, [50, 200, 900, 3_000, 8_000], [-10, 0, -6, -22, -50]) * decay(n, duration_s * 0.6)
    fade = curve(n, [0.15 + 0.6 * near, 1.0, 0.6, 0.0], [0.0, uniform(rng, 0.05, 0.25), 0.5, 1.0])
    return (low + 0.7 * mid) * roll * fade + 1.2 * crack


def _far_thunder(rng: Rng, duration_s: float) -> Samples:
    """Thunder as N-waves from a jagged channel: hundreds of pulses at random delays, low-passed by the air."""
    n = num_samples(duration_s)
    num = int(rng.integers(150, 500))
    moments = np.sort(rng.beta(1.2, 3.0, num)) * duration_s * 0.9
    strokes = strikes_at(n, moments, rng.standard_t(3, num) * np.exp(-2.0 * moments / duration_s))
    wave = np.linspace(1.0, -1.0, int(rng.integers(120, 320)))
    rumble = lowpass(convolve(strokes, wave), uniform(rng, 150.0, 600.0), 1)
    return unit(rumble) * swell(n, 0.02, 0.3) + 0.3 * unit(lowpass(noise(n, rng), 120.0)) * curve(n, [0.3, 1.0, 0.0])


def _fire(rng: Rng, duration_s: float) -> Samples:
    """Crackles of all sizes, the lapping of flames and the hiss of gas (Farnell)."""
    n = num_samples(duration_s)
    grains = [
        bandpass(noise(k, rng) * decay(k, k / 16_000.0), f * 0.5, f * 1.5, 1)
        for k, f in zip(rng.integers(30, 300, 8), rng.uniform(900.0, 5_500.0, 8), strict=True)
    ]
    crackle = cloud(n, rng, uniform(rng, 8.0, 45.0), grains, 8.0)
    lapping = shaped_noise(n, rng, [30, 120, 500, 3_000], [0, -2, -20, -50]) * (0.6 + 0.4 * wander(n, rng, 6.0)).clip(
        0.1
    )
    hiss: Curve = shaped_noise(n, rng, [300, 2_000, 6_000, 8_000], [-30, -6, 0, -4]) * np.abs(wander(n, rng, 2.0))
    size = max(float(np.abs(crackle).max()), 1e-6)
    return np.asarray(crackle / size + uniform(rng, 0.03, 0.12) * lapping + uniform(rng, 0.002, 0.012) * hiss)


def _snapping(rng: Rng, duration_s: float) -> Samples:
    """Wood that snaps: clicks in clusters, each with a short wooden ring, over a roar."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    start = 0.0
    while start < duration_s:
        for moment in start + rng.exponential(0.03, int(rng.integers(1, 7))):
            ring = resonator(
                strikes_at(320, [0.0, 0.0006], [1.0, -0.8]),
                log_uniform(rng, 700.0, 4_500.0),
                uniform(rng, 300.0, 1_500.0),
            )
            place(out, ring / np.abs(ring).max(), float(moment), 10.0 ** uniform(rng, -1.6, 0.0))
        start += rng.exponential(uniform(rng, 0.06, 0.3))
    roar = shaped_noise(n, rng, [30, 200, 1_000, 4_000], [0, -2, -12, -28]) * (0.7 + 0.3 * wander(n, rng, 3.0))
    return out + uniform(rng, 0.02, 0.08) * roar


def _campfire(rng: Rng, duration_s: float) -> Samples:
    """A near fire: pops whose sizes follow a power law, each a damped sine or a spark, over fluttering gas."""
    n = num_samples(duration_s)
    num = int(rng.poisson(uniform(rng, 10.0, 50.0) * duration_s)) + 1
    sizes = np.minimum((rng.random(num) + 0.02) ** -0.8, 20.0) / 20.0
    pops = strikes_at(n, rng.uniform(0.0, duration_s, num), sizes * rng.choice((-1.0, 1.0), num))
    sparks = highpass(convolve(pops, noise(70, rng) * decay(70, 0.005)), 1_000.0)
    knocks = resonator(pops, log_uniform(rng, 400.0, 1_400.0), 250.0)
    gas = shaped_noise(n, rng, [30, 150, 600, 3_000, 8_000], [-4, 0, -14, -24, -30]) * np.abs(wander(n, rng, 9.0))
    out = sparks / np.abs(sparks).max() + 0.5 * knocks / np.abs(knocks).max()
    return np.asarray(out + uniform(rng, 0.01, 0.06) * gas)


def _claps_of_thunder(rng: Rng, duration_s: float) -> Samples:
    """A near strike: several overlapping claps of noise, each duller and longer than the one before."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    start, cut = 0.0, uniform(rng, 500.0, 2_000.0)
    for index in range(int(rng.integers(3, 8))):
        num = num_samples(max(0.2, duration_s - start))
        clap = unit(lowpass(noise(num, rng), max(cut * 0.6**index, 90.0), 1)) * decay(
            num, 0.4 + 0.35 * index, 0.01 * index
        )
        place(out, clap, start, uniform(rng, 0.4, 1.0))
        start = min(start + rng.exponential(0.25), duration_s * 0.7)
    return out * curve(n, [1.0, 1.0, 0.0], [0.0, 0.75, 1.0])


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = True) -> Kind:
    return Kind(name, label, noun, sentence, "nature", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("wind", "wind blowing", "wind", "the wind blows", "a gust of wind", "howling wind"),
        (2.0, 8.0),
        (_gusts, _howl, _blizzard),
    ),
    Recipe(
        _kind(
            "thunder", "thunder rumbling", "thunder", "thunder rumbles", "a thunderclap", "a thunderstorm", steady=False
        ),
        (2.0, 4.0),
        (_thunder, _claps_of_thunder, _far_thunder),
    ),
    Recipe(
        _kind("fire_crackling", "a fire crackling", "fire", "a fire crackles", "a crackling fire", "a campfire"),
        (2.0, 8.0),
        (_fire, _campfire, _snapping),
    ),
)
