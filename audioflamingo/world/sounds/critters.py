"""Frogs, crickets and flying insects."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    buzz,
    convolve,
    curve,
    highpass,
    log_uniform,
    modes,
    noise,
    num_samples,
    phase,
    resonate,
    resonator,
    sine,
    smooth,
    strikes_at,
    swell,
    times,
    uniform,
    unit,
    wander,
)


def _ribbit(rng: Rng, duration_s: float) -> Samples:
    """Pulses of 25 to 70 Hz, each ringing in a vocal sac; one or two syllables."""
    n, rate = num_samples(duration_s), log_uniform(rng, 25.0, 80.0)
    moments = np.arange(0.0, duration_s, 1.0 / rate)
    centre = log_uniform(rng, 500.0, 1_700.0)
    kernel = modes(800, [centre, centre * uniform(rng, 1.5, 2.2)], [0.03, 0.02], [1.0, 0.4])
    pulses = strikes_at(n, moments, 1.0 + 0.2 * rng.standard_normal(len(moments)))
    split = uniform(rng, 0.35, 0.6)
    shapes = ([0, 1, 1, 0], [0.0, 0.1, 0.8, 1.0]), ([0, 0.7, 0, 1, 0], [0.0, split - 0.1, split, split + 0.2, 1.0])
    values, at = shapes[int(rng.integers(2))]
    return convolve(pulses, kernel) * curve(n, values, at)


def _croak(rng: Rng, duration_s: float) -> Samples:
    """A bullfrog's voice: a low rough buzz through two fixed resonances."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 70.0, 160.0)
    source = buzz(pitch * curve(n, [0.85, 1.0, 0.95]) * (1.0 + 0.04 * wander(n, rng, 30.0)), 0.97)
    low = log_uniform(rng, 250.0, 500.0)
    return resonate(source, [low, low * 3.2, low * 5.0], [80, 200, 300], [1.0, 0.7, 0.3]) * swell(n, 0.2, 0.4)


def _peep(rng: Rng, duration_s: float) -> Samples:
    """A tone near 1 kHz, rising, cut into pulses by amplitude modulation."""
    n = num_samples(duration_s)
    f0 = log_uniform(rng, 600.0, 1_800.0) * curve(n, [0.85, 1.0, 1.12])
    cut = np.clip(0.4 + np.sin(phase(np.full(n, log_uniform(rng, 30.0, 90.0)))), 0.0, 1.0)
    return (np.sin(phase(f0)) + 0.3 * np.sin(2.0 * phase(f0) + 1.0)) * cut * swell(n, 0.15, 0.3)


def _pulse_gate(n: int, rng: Rng, chirps_hz: float, pulses: int) -> Curve:
    """Groups of a few short pulses, `chirps_hz` groups a second, slightly uneven."""
    position = np.cumsum(chirps_hz * (1.0 + 0.05 * wander(n, rng, 1.0))) / 16_000.0 + rng.uniform()
    inside = (position % 1.0) * uniform(rng, 1.3, 3.0)
    pulse = (inside * pulses) % 1.0
    return np.asarray(np.sin(np.pi * pulse) ** 2 * (pulse < 1.0) * (inside < 1.0) * (0.5 + 0.5 * inside.clip(0, 1)))


def _crickets(rng: Rng, duration_s: float) -> Samples:
    """Field crickets: a pure carrier in groups of two to five pulses; one to three animals."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    for index in range(int(rng.integers(1, 4))):
        carrier = log_uniform(rng, 3_800.0, 5_600.0)
        f0 = carrier * (1.0 + 0.002 * wander(n, rng, 4.0))
        gate = _pulse_gate(n, rng, log_uniform(rng, 1.5, 4.5), int(rng.integers(2, 6)))
        out += np.sin(phase(f0)) * gate / (1.0 + index)
    return out + 0.003 * noise(n, rng)


def _tree_crickets(rng: Rng, duration_s: float) -> Samples:
    """A continuous trill: the carrier pulses 30 to 60 times a second; several overlap into a shimmer."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    for _ in range(int(rng.integers(1, 5))):
        rate, carrier = log_uniform(rng, 28.0, 65.0), log_uniform(rng, 2_800.0, 6_200.0)
        gate = np.clip(np.sin(phase(rate * (1.0 + 0.01 * wander(n, rng, 2.0)), rng.uniform(0, 6.28))), 0.0, 1.0)
        out += (
            uniform(rng, 0.3, 1.0) * sine(n, carrier, rng.uniform(0, 6.28)) * gate * (1.0 + 0.2 * wander(n, rng, 0.8))
        )
    return out + 0.02 * highpass(noise(n, rng), 3_000.0)


def _stridulation(rng: Rng, duration_s: float) -> Samples:
    """Teeth of a file struck one by one: noise and clicks that a wing resonates, in chirps."""
    n, carrier = num_samples(duration_s), log_uniform(rng, 3_800.0, 5_400.0)
    gate = _pulse_gate(n, rng, log_uniform(rng, 1.8, 4.0), int(rng.integers(3, 5)))
    teeth = buzz(carrier / 2.0 * (1.0 + 0.004 * wander(n, rng, 8.0)), 0.99) + 0.6 * noise(n, rng)
    return resonator(teeth * gate, carrier, uniform(rng, 60.0, 250.0))


def _fly(rng: Rng, duration_s: float) -> Samples:
    """A wing beat of 110 to 300 Hz that comes near and goes away, pitch bending as it passes."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 110.0, 300.0)
    near = np.clip(0.55 + 0.35 * wander(n, rng, uniform(rng, 0.8, 2.5)), 0.05, 1.2)
    f0 = pitch * (1.0 + 0.04 * wander(n, rng, 2.0) + 0.01 * wander(n, rng, 25.0))
    body = resonate(buzz(f0, 0.96), [pitch * 2, pitch * 5.3, 3_000.0], [200, 500, 1_500], [1.0, 0.6, 0.25])
    return (unit(body) + 0.05 * noise(n, rng)) * near


def _swarm(rng: Rng, duration_s: float) -> Samples:
    """Bees: many detuned wing beats, low-passed, each wandering in level."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 150.0, 260.0)
    out = np.zeros(n)
    for _ in range(int(rng.integers(4, 8))):
        f0 = pitch * uniform(rng, 0.85, 1.15) * (1.0 + 0.02 * wander(n, rng, 4.0))
        turn = phase(f0, rng.uniform(0, 6.28))
        out += np.tanh(2.0 * np.sin(turn) + 1.2 * np.sin(2.0 * turn + 0.7)) * np.abs(wander(n, rng, 1.5))
    return smooth(out, 2_500.0)


def _mosquito(rng: Rng, duration_s: float) -> Samples:
    """A thin whine of 350 to 700 Hz with strong upper harmonics."""
    n = num_samples(duration_s)
    f0 = log_uniform(rng, 350.0, 700.0) * (1.0 + 0.03 * wander(n, rng, 3.0) + 0.3 * 0.05 * np.sin(times(n) * 20.0))
    near = np.clip(0.5 + 0.4 * wander(n, rng, 1.2), 0.05, 1.5)
    return (highpass(buzz(f0, 0.85), 500.0) + 0.02 * noise(n, rng)) * near


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = False) -> Kind:
    return Kind(name, label, noun, sentence, "animals", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("frog_croak", "a frog croaking", "frog", "a frog croaks", "a ribbit", "a croaking frog"),
        (0.2, 0.7),
        (_ribbit, _croak, _peep),
        most_repeats=4,
        gap_s=(0.15, 0.5),
    ),
    Recipe(
        _kind("cricket", "crickets chirping", "cricket", "crickets chirp", "chirping crickets", steady=True),
        (2.0, 6.0),
        (_crickets, _tree_crickets, _stridulation),
    ),
    Recipe(
        _kind("insect_buzz", "an insect buzzing", "insect", "an insect buzzes", "a buzzing fly", "a bee", steady=True),
        (1.5, 5.0),
        (_fly, _swarm, _mosquito),
    ),
)
