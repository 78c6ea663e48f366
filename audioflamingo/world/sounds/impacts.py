"""Knocks, hammers, breaking glass, doors, claps and footsteps."""

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
    modes,
    noise,
    num_samples,
    place,
    resonate,
    shaped_noise,
    strikes_at,
    uniform,
    unit,
)


def _plate(n: int, rng: Rng, low_hz: float, high_hz: float, num: int, t60_s: float) -> Curve:
    """A struck body: random modes between two frequencies; higher ones die sooner and are weaker."""
    freqs = np.exp(np.sort(rng.uniform(np.log(low_hz), np.log(high_hz), num)))
    tilt = (low_hz / freqs) ** uniform(rng, 0.3, 1.0)
    return modes(
        n, freqs, t60_s * (low_hz / freqs) ** 0.5 * rng.uniform(0.6, 1.4, num), tilt * rng.uniform(0.3, 1.0, num)
    )


def _click(n: int, rng: Rng, low_hz: float, high_hz: float, t60_s: float) -> Curve:
    """A burst of band noise with an abrupt start."""
    return unit(bandpass(noise(n, rng), low_hz, high_hz, 1) * decay(n, t60_s)) * 0.14


def _series(n: int, rng: Rng, hit: Curve, count: int, gap_s: float) -> Curve:
    """The same blow struck several times, with human unevenness."""
    out, start = np.zeros(n), 0.0
    for _ in range(count):
        place(out, hit, start, uniform(rng, 0.6, 1.0))
        start += gap_s * uniform(rng, 0.88, 1.12)
    return out


def _knuckles(rng: Rng, duration_s: float) -> Samples:
    """Two to five knocks on a door: low, short wooden modes and the thud of the panel."""
    n, hit_n = num_samples(duration_s), num_samples(0.25)
    hit = _plate(hit_n, rng, uniform(rng, 90.0, 260.0), 2_200.0, 14, uniform(rng, 0.08, 0.22))
    hit = hit + 0.5 * _click(hit_n, rng, 300.0, 3_000.0, 0.02)
    gap = uniform(rng, 0.14, 0.3)
    return _series(n, rng, hit, max(2, min(5, int(duration_s / gap))), gap)


def _panel(rng: Rng, duration_s: float) -> Samples:
    """A hollow door: each knock is a soft pulse through three resonances of the cavity."""
    n, gap = num_samples(duration_s), uniform(rng, 0.13, 0.32)
    count = max(2, min(5, int(duration_s / gap)))
    moments = np.cumsum(gap * rng.uniform(0.9, 1.1, count)) - gap
    strikes = strikes_at(n, moments.clip(0.0), rng.uniform(0.6, 1.0, count))
    strikes = convolve(strikes, decay(64, 0.004) * (1.0 + 0.3 * rng.standard_normal(64)))
    low = uniform(rng, 110.0, 280.0)
    return resonate(strikes, [low, low * 2.3, low * 4.9, low * 9.0], [25, 60, 150, 400], [1.0, 0.8, 0.6, 0.4])


def _nail(rng: Rng, duration_s: float) -> Samples:
    """A hammer on a nail: a bright metal ring over a wooden thud, at a steady rhythm."""
    n, hit_n, gap = num_samples(duration_s), num_samples(0.35), uniform(rng, 0.28, 0.55)
    ring = _plate(hit_n, rng, uniform(rng, 1_200.0, 2_600.0), 7_400.0, 10, uniform(rng, 0.1, 0.35))
    hit = (
        ring
        + uniform(rng, 0.6, 1.5) * _plate(hit_n, rng, 120.0, 900.0, 8, 0.12)
        + _click(hit_n, rng, 1_000.0, 7_000.0, 0.015)
    )
    return _series(n, rng, hit, max(1, int(duration_s / gap)), gap)


def _anvil(rng: Rng, duration_s: float) -> Samples:
    """A hammer on iron: few, long, inharmonic modes that are excited by noise."""
    n, gap = num_samples(duration_s), uniform(rng, 0.35, 0.7)
    base = log_uniform(rng, 900.0, 2_400.0)
    hits = np.zeros(n)
    for start in np.arange(0.0, max(duration_s - 0.15, 0.01), gap):
        place(hits, noise(60, rng) * decay(60, 0.004), start + uniform(rng, 0.0, 0.02), uniform(rng, 0.7, 1.0))
    ratios = np.array([1.0, 1.58, 2.24, 2.87, 3.62])
    ringing = resonate(
        hits, (base * ratios).tolist(), rng.uniform(4.0, 14.0, 5).tolist(), rng.uniform(0.4, 1.0, 5).tolist()
    )
    return ringing + 0.02 * lowpass(hits, 500.0)


def _shatter(rng: Rng, duration_s: float) -> Samples:
    """Glass: a crack, then shards that ring and fall ever more sparsely."""
    n = num_samples(duration_s)
    out = 1.5 * unit(highpass(noise(n, rng), 1_500.0)) * decay(n, uniform(rng, 0.08, 0.25))
    for moment in rng.exponential(uniform(rng, 0.12, 0.35), int(rng.integers(25, 60))):
        num = num_samples(uniform(rng, 0.06, 0.3))
        freqs = rng.uniform(2_000.0, 7_500.0, 4)
        place(
            out, modes(num, freqs, rng.uniform(0.04, 0.3, 4), rng.uniform(0.2, 1.0, 4)), moment, np.exp(-2.5 * moment)
        )
    return out


def _bottle(rng: Rng, duration_s: float) -> Samples:
    """A bottle or window as a cloud of noise grains through sharp resonances, after a thump."""
    n = num_samples(duration_s)
    fall = decay(n, duration_s * uniform(rng, 0.7, 1.2))
    hits = cloud(n, rng, uniform(rng, 60.0, 140.0), [np.ones(1)], 10.0) * fall
    place(hits, noise(400, rng) * decay(400, 0.02), 0.0, 4.0)
    freqs = rng.uniform(1_800.0, 7_400.0, 12).tolist()
    shards = resonate(hits, freqs, rng.uniform(15.0, 90.0, 12).tolist(), rng.uniform(0.3, 1.0, 12).tolist())
    return unit(shards) + 0.5 * unit(highpass(hits, 3_000.0)) + 0.6 * _plate(n, rng, 200.0, 1_200.0, 6, 0.08)


def _slam(rng: Rng, duration_s: float) -> Samples:
    """A door: the latch, the leaf against its frame, and the air of the room behind."""
    n = num_samples(duration_s)
    thud = _plate(n, rng, uniform(rng, 45.0, 90.0), 700.0, 16, uniform(rng, 0.25, 0.6))
    boom = unit(shaped_noise(n, rng, [60, 300, 1_200, 5_000], [0, -6, -18, -36])) * decay(n, uniform(rng, 0.25, 0.7))
    out = unit(thud) + uniform(rng, 0.6, 1.5) * boom
    for moment in (0.0, uniform(rng, 0.015, 0.06), uniform(rng, 0.05, 0.14)):
        place(out, _click(num_samples(0.08), rng, 500.0, 5_000.0, 0.04), moment, uniform(rng, 0.5, 3.0))
    return out


def _heavy_slam(rng: Rng, duration_s: float) -> Samples:
    """A car or cupboard door: a damped pulse through body resonances and a short rattle."""
    n = num_samples(duration_s)
    hit = strikes_at(n, [0.0005, uniform(rng, 0.01, 0.03)], [1.0, 0.6])
    hit = convolve(hit, noise(200, rng) * decay(200, 0.012))
    low = uniform(rng, 55.0, 120.0)
    body = resonate(
        hit, [low, low * 1.9, low * 3.3, low * 7.0, 1_800], [18, 40, 90, 200, 500], [1.0, 0.9, 0.8, 0.6, 0.35]
    )
    rattle = cloud(n, rng, 60.0, [decay(80, 0.004)]) * decay(n, uniform(rng, 0.1, 0.3))
    return unit(body) + 0.15 * highpass(rattle, 700.0)


def _clap(rng: Rng, duration_s: float) -> Samples:
    """One clap: two or three near-simultaneous bursts of noise around 1 to 2 kHz."""
    n, centre = num_samples(duration_s), log_uniform(rng, 700.0, 2_200.0)
    burst, out = num_samples(0.12), np.zeros(num_samples(duration_s))
    shape = bandpass(noise(burst, rng), centre * 0.6, centre * 1.8, 1) * decay(burst, uniform(rng, 0.03, 0.09))
    for index in range(int(rng.integers(1, 4))):
        place(out, shape, 0.004 * index * uniform(rng, 0.6, 1.6), 1.0 - 0.2 * index)
    return out + 0.1 * unit(bandpass(noise(n, rng), 400.0, 3_000.0)) * decay(n, 0.15) * float(np.abs(out).max())


def _cupped_clap(rng: Rng, duration_s: float) -> Samples:
    """A cupped clap: a pressure pulse through the cavity of the hands, with a high snap."""
    n, cavity = num_samples(duration_s), log_uniform(rng, 450.0, 1_200.0)
    pulse = np.zeros(n)
    place(pulse, noise(90, rng) * decay(90, 0.005), 0.0)
    low = resonate(pulse, [cavity, cavity * 2.4, cavity * 4.1], [120, 300, 700], [1.0, 0.6, 0.4])
    return unit(low) + 0.5 * unit(highpass(pulse, 2_000.0))


def _heels(rng: Rng, duration_s: float) -> Samples:
    """Hard soles on a floor: heel, then ball of the foot, at a walking or running pace."""
    n, gap = num_samples(duration_s), uniform(rng, 0.32, 0.65)
    step_n, out = num_samples(0.22), np.zeros(n)
    heel = _plate(step_n, rng, uniform(rng, 70.0, 200.0), 1_800.0, 12, uniform(rng, 0.05, 0.12)) + _click(
        step_n, rng, 600.0, 5_000.0, 0.02
    )
    sole = 0.6 * _click(step_n, rng, 400.0, 3_500.0, 0.05)
    for start in np.arange(0.0, max(duration_s - 0.12, 0.01), gap):
        begin = start + uniform(rng, 0.0, 0.03)
        place(out, heel, begin, uniform(rng, 0.7, 1.0))
        place(out, sole, begin + uniform(rng, 0.05, 0.09), uniform(rng, 0.3, 0.9))
    return out


def _gravel(rng: Rng, duration_s: float) -> Samples:
    """Steps on gravel, snow or leaves: each step is a crunch of many grains that swells twice."""
    n, gap = num_samples(duration_s), uniform(rng, 0.4, 0.75)
    high = log_uniform(rng, 1_500.0, 4_500.0)
    grains = [bandpass(noise(160, rng) * decay(160, 0.008), high * 0.5, high * 1.6, 1) for _ in range(5)]
    out = np.zeros(n)
    for start in np.arange(0.0, max(duration_s - 0.2, 0.01), gap):
        num = num_samples(uniform(rng, 0.2, 0.35))
        crunch = cloud(num, rng, uniform(rng, 300.0, 900.0), grains, 8.0) * curve(num, [0.2, 1.0, 0.4, 0.8, 0.0])
        place(out, crunch, start + uniform(rng, 0.0, 0.04), uniform(rng, 0.6, 1.0))
    return out + 0.3 * lowpass(np.abs(out), 120.0)


def _muffled_steps(rng: Rng, duration_s: float) -> Samples:
    """Steps on boards or stairs: soft pulses through the resonances of the wood, with creaks of the sole."""
    n, gap = num_samples(duration_s), uniform(rng, 0.35, 0.7)
    moments = np.arange(0.0, max(duration_s - 0.1, 0.01), gap)
    moments = np.sort(np.concatenate([moments, moments + uniform(rng, 0.06, 0.1)]))
    pulses = convolve(
        strikes_at(n, moments + 0.001, rng.uniform(0.3, 1.0, len(moments))), noise(120, rng) * decay(120, 0.01)
    )
    low = uniform(rng, 80.0, 170.0)
    return resonate(pulses, [low, low * 2.2, low * 5.1, 1_900], [30, 70, 160, 900], [1.0, 0.7, 0.4, 0.15])


def _table_knock(rng: Rng, duration_s: float) -> Samples:
    """Knocks as thumps: a sine that drops in pitch, with a dull burst of noise on its front."""
    n, num, gap = num_samples(duration_s), num_samples(0.16), uniform(rng, 0.13, 0.28)
    f0 = log_uniform(rng, 130.0, 420.0) * (1.0 + 0.8 * decay(num, 0.03))
    thump = np.sin(np.cumsum(f0) * 2.0 * np.pi / 16_000.0) * decay(num, uniform(rng, 0.06, 0.15))
    front = unit(lowpass(noise(num, rng), uniform(rng, 1_200.0, 3_500.0))) * decay(num, 0.018)
    return _series(n, rng, thump + uniform(rng, 0.2, 0.7) * front, max(2, min(5, int(duration_s / gap))), gap)


def _crash(rng: Rng, duration_s: float) -> Samples:
    """A dropped glass: a clink, and pieces that bounce, each a chord of bright FM partials with a spark."""
    out, start, gap = np.zeros(num_samples(duration_s)), 0.0, uniform(rng, 0.05, 0.14)
    num = num_samples(0.25)
    t = np.arange(num) * (2.0 * np.pi / 16_000.0)
    while start < duration_s - 0.1:
        for _ in range(int(rng.integers(2, 6))):
            f0 = uniform(rng, 1_800.0, 5_500.0)
            ring = np.sin(f0 * t + 0.6 * np.sin(0.37 * f0 * t)) * decay(num, uniform(rng, 0.05, 0.22))
            place(out, ring, start + rng.exponential(0.02), uniform(rng, 0.2, 1.0) * np.exp(-2.0 * start))
        place(
            out, highpass(noise(num, rng), 2_500.0) * decay(num, uniform(rng, 0.03, 0.1)), start, np.exp(-3.0 * start)
        )
        start += gap * uniform(rng, 0.4, 1.8)
        gap *= 1.1
    return out


def _house_door(rng: Rng, duration_s: float) -> Samples:
    """A front door: a swish of air, the bang with its low boom, and the lock that falls in after it."""
    n, bang = num_samples(duration_s), uniform(rng, 0.0, 0.12)
    out = np.zeros(n)
    if bang > 0.04:
        swish = num_samples(bang)
        place(out, lowpass(noise(swish, rng), 1_200.0) * curve(swish, [0.0, 1.0]), 0.0, 0.08)
    num = num_samples(duration_s - bang)
    f0 = uniform(rng, 50.0, 110.0) * (1.0 + 0.6 * decay(num, 0.08))
    boom = np.sin(np.cumsum(f0) * 2.0 * np.pi / 16_000.0) * decay(num, uniform(rng, 0.2, 0.5))
    smack = unit(bandpass(noise(num, rng), 150.0, uniform(rng, 1_500.0, 3_500.0), 1)) * decay(
        num, uniform(rng, 0.06, 0.2)
    )
    place(out, boom + uniform(rng, 0.8, 1.8) * smack, bang)
    place(
        out,
        _plate(num_samples(0.1), rng, 900.0, 5_000.0, 8, 0.05),
        bang + uniform(rng, 0.03, 0.1),
        uniform(rng, 0.1, 0.4),
    )
    return out


def _flat_clap(rng: Rng, duration_s: float) -> Samples:
    """A flat clap in a room: a spectrum-shaped burst and its slap-back echoes."""
    n, num = num_samples(duration_s), num_samples(0.15)
    peak = log_uniform(rng, 800.0, 2_500.0)
    burst = shaped_noise(num, rng, [100, peak * 0.5, peak, peak * 2.5, 8_000], [-26, -6, 0, -8, -22]) * decay(
        num, uniform(rng, 0.025, 0.08), 0.001
    )
    out = np.zeros(n)
    for index in range(int(rng.integers(1, 6))):
        place(out, burst, 0.0 if index == 0 else uniform(rng, 0.008, 0.09), 0.5**index)
    return out


def _mallet(rng: Rng, duration_s: float) -> Samples:
    """A hammer on wood or metal sheet: clanging FM blows over a thud, sometimes in pairs."""
    n, gap, num = num_samples(duration_s), uniform(rng, 0.22, 0.6), num_samples(0.4)
    f0, t = log_uniform(rng, 500.0, 1_800.0), np.arange(num) * (2.0 * np.pi / 16_000.0)
    clang = np.sin(f0 * t + 2.5 * decay(num, 0.1) * np.sin(1.73 * f0 * t)) * decay(num, uniform(rng, 0.08, 0.35))
    hit = clang + _plate(num, rng, 90.0, 600.0, 6, 0.12) + 0.5 * noise(num, rng) * decay(num, 0.02)
    return _series(n, rng, hit, max(1, int(duration_s / gap)), gap)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str) -> Kind:
    return Kind(name, label, noun, sentence, "impacts", phrases)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("door_knock", "knocking on a door", "knock", "somebody knocks on a door", "a knock on wood", "knocking"),
        (0.5, 1.4),
        (_knuckles, _table_knock, _panel),
    ),
    Recipe(
        _kind("hammer", "a hammer striking", "hammer", "a hammer strikes", "hammering", "a hammer on metal"),
        (0.4, 2.0),
        (_nail, _mallet, _anvil),
    ),
    Recipe(
        _kind("glass_breaking", "glass breaking", "glass", "glass breaks", "shattering glass", "a window breaking"),
        (0.7, 1.8),
        (_shatter, _crash, _bottle),
    ),
    Recipe(
        _kind("door_slam", "a door slamming", "door", "a door slams", "a slammed door"),
        (0.5, 1.2),
        (_slam, _house_door, _heavy_slam),
    ),
    Recipe(
        _kind("hand_clap", "a hand clap", "hand clap", "somebody claps once", "a single clap"),
        (0.3, 0.4),
        (_clap, _flat_clap, _cupped_clap),
        most_repeats=3,
        gap_s=(0.05, 0.4),
    ),
    Recipe(
        _kind("footsteps", "footsteps", "footstep", "somebody walks", "walking", "steps"),
        (1.2, 3.5),
        (_heels, _gravel, _muffled_steps),
    ),
)
