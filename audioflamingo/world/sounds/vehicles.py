"""Engines, motorcycles, helicopters, aeroplanes and trains: pulse trains and chopped noise through resonances."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    buzz,
    convolve,
    curve,
    decay,
    highpass,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    phase,
    place,
    resonate,
    shaped_noise,
    smooth,
    strikes_at,
    times,
    uniform,
    unit,
    wander,
)


def _firings(rate_hz: Curve, rng: Rng, weights: Curve, late: float) -> Curve:
    """Pulses of the cylinders in turn: unequal in strength, uneven in time."""
    n = len(rate_hz)
    cycles = np.cumsum(rate_hz) / 16_000.0
    moments = np.searchsorted(cycles, np.arange(1, int(cycles[-1]) + 1)) / 16_000.0
    num = len(moments)
    levels = np.resize(weights, num) * (1.0 + 0.15 * rng.standard_normal(num))
    return strikes_at(n, moments + late * rng.standard_normal(num) / float(rate_hz.mean()), levels)


def _exhaust(pulses: Curve, rng: Rng, low_hz: float) -> Curve:
    """A pipe and a silencer: each firing is a noisy puff that rings in a few resonances."""
    puff = decay(240, 0.02) * (1.0 + 0.6 * rng.standard_normal(240))
    body = [low_hz, low_hz * 2.1, low_hz * 3.7, low_hz * 7.0, low_hz * 13.0]
    return resonate(convolve(pulses, puff), body, [30, 60, 120, 250, 500], [1.0, 0.8, 0.6, 0.4, 0.25])


def _idle(rng: Rng, duration_s: float) -> Samples:
    """A car that idles: 18 to 45 firings a second, loping a little, with valve ticks and fan noise."""
    n = num_samples(duration_s)
    rate = uniform(rng, 18.0, 45.0) * (1.0 + 0.03 * wander(n, rng, 1.5) + 0.02 * wander(n, rng, 8.0))
    pulses = _firings(rate, rng, rng.uniform(0.6, 1.0, 4), 0.02)
    body = unit(_exhaust(pulses, rng, log_uniform(rng, 55.0, 130.0)))
    ticks = highpass(convolve(pulses, noise(60, rng) * decay(60, 0.003)), 2_000.0)
    return (
        body
        + uniform(rng, 0.02, 0.12) * unit(ticks)
        + uniform(rng, 0.05, 0.2) * shaped_noise(n, rng, [60, 400, 2_000, 8_000], [-10, 0, -8, -25])
    )


def _diesel(rng: Rng, duration_s: float) -> Samples:
    """A diesel or a bus: harmonics of a low pitch, clatter that is struck at each firing, and a slow rev."""
    n = num_samples(duration_s)
    f0 = (
        uniform(rng, 22.0, 40.0)
        * curve(n, [1.0, 1.0, uniform(rng, 1.0, 1.8), 1.1])
        * (1.0 + 0.01 * wander(n, rng, 6.0))
    )
    turn = phase(f0)
    low = sum(
        uniform(rng, 0.3, 1.0) / k**0.8 * np.sin(k * turn + rng.uniform(0, 6.28)) for k in (1, 1.5, 2, 3, 4, 5, 6, 8)
    )
    clatter = unit(bandpass(noise(n, rng), 900.0, 3_500.0, 1)) * np.maximum(np.sin(2.0 * turn), 0.0) ** 8
    return unit(np.asarray(low)) + uniform(rng, 0.2, 0.5) * np.asarray(clatter) + 0.1 * lowpass(noise(n, rng), 500.0)


def _passing(rng: Rng, duration_s: float) -> Samples:
    """A car that pulls away: a band-limited buzz in rising gears, through a body and the noise of tyres."""
    n = num_samples(duration_s)
    revs = curve(n, [1.0, 1.9, 1.3, 2.0, 1.5, 2.1], [0.0, 0.35, 0.38, 0.7, 0.73, 1.0])
    source = buzz(uniform(rng, 30.0, 60.0) * revs * (1.0 + 0.02 * wander(n, rng, 10.0)), 0.96)
    low = uniform(rng, 90.0, 180.0)
    body = resonate(
        np.tanh(2.0 * source), [low, low * 2.7, low * 6.0, 1_600], [60, 150, 300, 700], [1.0, 0.8, 0.5, 0.2]
    )
    return unit(body) + uniform(rng, 0.1, 0.4) * shaped_noise(n, rng, [80, 500, 1_200, 8_000], [-10, -3, 0, -22])


def _motorcycle(rng: Rng, duration_s: float) -> Samples:
    """A V-twin or single: strong, uneven firings that are revved up and let down."""
    n, calm = num_samples(duration_s), uniform(rng, 22.0, 45.0)
    revs = np.clip(1.6 + 0.9 * wander(n, rng, uniform(rng, 0.4, 1.2)), 1.0, 4.0)
    pulses = _firings(calm * revs, rng, np.array([1.0, uniform(rng, 0.3, 1.0)]), 0.03)
    body = unit(_exhaust(pulses, rng, log_uniform(rng, 80.0, 170.0)))
    return np.tanh(1.2 * body) * (0.5 + 0.25 * revs) + 0.05 * bandpass(noise(n, rng), 500.0, 4_000.0) * revs


def _sport_bike(rng: Rng, duration_s: float) -> Samples:
    """A four-cylinder machine that accelerates: a hard buzz of 80 to 400 Hz with gear changes and a rasp."""
    n = num_samples(duration_s)
    revs = curve(n, [0.5, 0.9, 0.65, 0.95, 0.75, 1.0], [0.0, 0.3, 0.34, 0.62, 0.66, 1.0])
    f0 = log_uniform(rng, 140.0, 380.0) * revs * (1.0 + 0.01 * wander(n, rng, 15.0))
    half = buzz(f0, 0.97) + 0.6 * buzz(0.5 * f0, 0.97)
    rasp = unit(resonate(half, [350, 900, 2_100, 3_600], [150, 300, 600, 900], [1.0, 0.9, 0.6, 0.35]))
    return np.tanh(1.5 * rasp) + 0.08 * noise(n, rng) * revs


def _moped(rng: Rng, duration_s: float) -> Samples:
    """A two-stroke scooter: an even, nasal rattle in FM that wavers with the throttle."""
    n = num_samples(duration_s)
    f0 = (
        uniform(rng, 55.0, 120.0)
        * np.clip(1.0 + 0.3 * wander(n, rng, 0.8), 0.6, 1.8)
        * (1.0 + 0.02 * wander(n, rng, 20.0))
    )
    turn = phase(f0)
    tone = np.sin(turn + 3.0 * np.sin(turn) + 1.5 * np.sin(5.0 * turn)) + 0.5 * np.sin(9.0 * turn + 2.0 * np.sin(turn))
    return bandpass(tone, 120.0, 4_500.0, 1) + 0.1 * noise(n, rng) * (1.0 + np.sin(turn))


def _rotor(rng: Rng, duration_s: float) -> Samples:
    """A helicopter: blades slap 9 to 24 times a second, each a thump and a swish, over a turbine."""
    n, rate = num_samples(duration_s), uniform(rng, 9.0, 24.0)
    turn = phase(rate * (1.0 + 0.01 * wander(n, rng, 1.0)))
    slap = np.maximum(np.cos(turn), 0.0) ** uniform(rng, 3.0, 12.0)
    near = 1.0 + 0.3 * wander(n, rng, 0.4)
    low = shaped_noise(n, rng, [30, 90, 300, 1_000, 8_000], [-3, 0, -6, -20, -45])
    swish = shaped_noise(n, rng, [100, 600, 1_800, 5_000], [-20, 0, -4, -20])
    turbine = np.sin(phase(np.full(n, uniform(rng, 900.0, 3_200.0))) + 0.5 * wander(n, rng, 20.0))
    thump = np.sin(2.0 * turn) * slap + np.sin(5.0 * turn) * slap
    return (low * (0.15 + slap) + 0.4 * swish * (0.2 + slap) + 0.8 * thump + uniform(rng, 0.0, 0.08) * turbine) * near


def _chopper(rng: Rng, duration_s: float) -> Samples:
    """A near helicopter as a pulse train with blade-vortex cracks, repeated through a short echo."""
    n, rate = num_samples(duration_s), uniform(rng, 10.0, 20.0)
    moments = np.arange(0.0, duration_s, 1.0 / rate)
    levels = np.resize(rng.uniform(0.7, 1.0, 2), len(moments))
    kernel = lowpass(noise(900, rng) * decay(900, 0.05), uniform(rng, 300.0, 900.0), 1) + 0.6 * modes(
        900, [55, 110, 190], [0.06, 0.05, 0.04], [1, 0.8, 0.6]
    )
    out = convolve(strikes_at(n, moments, levels), kernel)
    echo = np.zeros(n)
    place(echo, out, uniform(rng, 0.008, 0.02), -0.5)
    return unit(out + echo) + 0.12 * shaped_noise(n, rng, [60, 500, 2_500, 8_000], [-6, 0, -8, -24])


def _jet(rng: Rng, duration_s: float) -> Samples:
    """A jet passing over: broad noise that swells, comb-filtered by the ground, with the whine of the fan."""
    n, peak = num_samples(duration_s), uniform(rng, 0.3, 0.7)
    near = curve(n, [0.3, 0.6, 1.0, 0.7, 0.35], [0.0, peak * 0.6, peak, peak + 0.15, 1.0])
    roar = shaped_noise(n, rng, [30, 150, 600, 2_000, 8_000], [-6, 0, -3, -14, -36])
    bright = shaped_noise(n, rng, [300, 1_500, 4_000, 8_000], [-12, 0, -6, -16])
    whine = np.sin(
        phase(uniform(rng, 1_400.0, 3_200.0) * curve(n, [1.06, 1.03, 0.94, 0.92], [0, peak - 0.1, peak + 0.1, 1]))
    )
    shift = int(uniform(rng, 12, 50))
    out = roar * near + 0.4 * bright * near**2 + uniform(rng, 0.0, 0.15) * whine * near
    return out + 0.5 * np.roll(out, shift)


def _propeller(rng: Rng, duration_s: float) -> Samples:
    """A light aircraft: harmonics of a propeller at 65 to 130 Hz, two slightly apart, with a Doppler glide."""
    n = num_samples(duration_s)
    f0 = uniform(rng, 65.0, 130.0) * curve(n, [1.05, 1.03, 0.95, 0.92], [0.0, 0.35, 0.65, 1.0])
    drone = buzz(f0, 0.93) + 0.7 * buzz(f0 * uniform(rng, 1.004, 1.02), 0.9)
    near = curve(n, [0.4, 0.8, 1.0, 0.7, 0.4])
    return (
        lowpass(unit(drone), uniform(rng, 1_200.0, 3_000.0), 1)
        + uniform(rng, 0.1, 0.4) * shaped_noise(n, rng, [60, 300, 1_200, 8_000], [-4, 0, -8, -30])
    ) * near


def _rails(rng: Rng, duration_s: float) -> Samples:
    """A train on jointed rails: pairs of clacks per bogie over rolling noise."""
    n, period, axle = num_samples(duration_s), uniform(rng, 0.45, 1.1), uniform(rng, 0.09, 0.17)
    clacks = np.zeros(n)
    num = num_samples(0.2)
    for start in np.arange(uniform(rng, 0.0, 0.3), duration_s, period):
        for index, offset in enumerate((0.0, axle, 2.4 * axle, 3.4 * axle)):
            if index >= 2 and period < 4.5 * axle:
                break
            hit = modes(num, [70, 160, 420, 950, 2_100], [0.15, 0.12, 0.08, 0.05, 0.03], rng.uniform(0.3, 1.0, 5))
            hit += unit(bandpass(noise(num, rng), 300.0, 2_500.0)) * decay(num, 0.04)
            place(clacks, hit, start + offset, uniform(rng, 0.5, 1.0))
    rolling = shaped_noise(n, rng, [40, 150, 500, 2_000, 8_000], [-2, 0, -6, -16, -34]) * (
        1.0 + 0.15 * wander(n, rng, 3.0)
    )
    return clacks + uniform(rng, 0.15, 0.5) * rolling


def _locomotive(rng: Rng, duration_s: float) -> Samples:
    """A steam engine: four chuffs a turn, noise bursts through a chimney, gaining speed."""
    n = num_samples(duration_s)
    rate = uniform(rng, 2.5, 6.0) * curve(n, [0.8, 1.3])
    position = np.cumsum(rate) / 16_000.0
    inside = position % 1.0
    beat = np.array([1.0, 0.7, 0.85, 0.65])[position.astype(np.int64) % 4]
    chuff: Curve = np.exp(-5.0 * inside) * np.minimum(inside * 12.0, 1.0) * beat
    steam = shaped_noise(n, rng, [60, 250, 900, 3_000, 8_000], [-6, 0, -2, -8, -20])
    return (
        steam * chuff
        + 0.1 * shaped_noise(n, rng, [40, 120, 500, 4_000], [0, 0, -12, -30])
        + 0.1 * smooth(noise(n, rng), 300.0) * np.sin(times(n) * 60.0)
    )


def _far_rotor(rng: Rng, duration_s: float) -> Samples:
    """A helicopter farther off: harmonics of the blade rate, dull noise that beats with them, a slow approach."""
    n, rate = num_samples(duration_s), uniform(rng, 10.0, 22.0)
    turn = phase(np.full(n, rate))
    tones = sum(np.sin(k * turn + rng.uniform(0, 6.28)) * uniform(rng, 0.3, 1.0) / k**0.5 for k in range(2, 16))
    beat = (0.5 + 0.5 * np.cos(turn)) ** 2
    air = shaped_noise(n, rng, [40, 150, 500, 1_500, 8_000], [-6, 0, -5, -18, -44]) * (0.2 + beat)
    return (0.5 * unit(np.asarray(tones)) + air) * curve(n, rng.uniform(0.5, 1.0, 4).tolist())


def _airliner(rng: Rng, duration_s: float) -> Samples:
    """An airliner high up: low rumble that comes and goes with the wind, a faint falling whine."""
    n = num_samples(duration_s)
    rumble = shaped_noise(n, rng, [30, 100, 400, 1_500, 8_000], [-8, 0, -2, -16, -40])
    drift = np.clip(0.7 + 0.2 * wander(n, rng, 0.7), 0.3, 1.3)
    hiss = shaped_noise(n, rng, [300, 1_200, 3_000, 8_000], [-16, 0, -6, -22])
    whine = np.sin(phase(uniform(rng, 300.0, 1_200.0) * curve(n, [1.05, 0.92])))
    return rumble * drift + uniform(rng, 0.05, 0.3) * hiss * drift**2 + uniform(rng, 0.0, 0.1) * whine


def _carriages(rng: Rng, duration_s: float) -> Samples:
    """Inside or beside carriages: rumble that pounds in a triple rhythm, wheels that squeal now and then."""
    n, rate = num_samples(duration_s), uniform(rng, 0.8, 2.2)
    inside = (times(n) * rate + rng.uniform()) % 1.0
    pound = (
        np.exp(-14.0 * inside)
        + 0.8 * np.exp(-14.0 * ((inside - 0.22) % 1.0))
        + 0.4 * np.exp(-14.0 * ((inside - 0.5) % 1.0))
    )
    low = shaped_noise(n, rng, [30, 90, 300, 1_200, 8_000], [-3, 0, -6, -16, -38])
    mid = shaped_noise(n, rng, [200, 600, 1_500, 4_000, 8_000], [-12, 0, -3, -14, -28])
    squeal = np.sin(phase(log_uniform(rng, 1_800.0, 3_800.0) * (1.0 + 0.005 * wander(n, rng, 20.0)))) * np.maximum(
        wander(n, rng, 1.0) - 0.5, 0.0
    )
    return low * (0.35 + pound) + 0.5 * mid * (0.15 + pound) + uniform(rng, 0.0, 0.25) * squeal


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str) -> Kind:
    return Kind(name, label, noun, sentence, "vehicles", phrases, countable=False, steady=True)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("engine", "a car engine running", "car engine", "a car engine runs", "an idling engine", "a motor"),
        (2.0, 8.0),
        (_idle, _diesel, _passing),
    ),
    Recipe(
        _kind("motorcycle", "a motorcycle revving", "motorcycle", "a motorcycle revs", "a motorbike"),
        (2.0, 6.0),
        (_motorcycle, _sport_bike, _moped),
    ),
    Recipe(
        _kind("helicopter", "a helicopter flying", "helicopter", "a helicopter flies by", "a chopper", "rotor blades"),
        (2.0, 8.0),
        (_rotor, _far_rotor, _chopper),
    ),
    Recipe(
        _kind("airplane", "an airplane flying over", "airplane", "an airplane flies over", "a plane", "an aircraft"),
        (2.5, 8.0),
        (_jet, _airliner, _propeller),
    ),
    Recipe(
        _kind("train", "a train rolling by", "train", "a train rolls by", "a railway train", "a passing train"),
        (2.5, 8.0),
        (_rails, _carriages, _locomotive),
    ),
)
