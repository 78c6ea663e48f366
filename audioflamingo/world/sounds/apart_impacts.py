"""Algorithms for training alone: steps, claps, doors and drums. See `apart`."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.apart_parts import (
    bounces,
    bubble_t60,
    diffuse,
    grains,
    heard,
    logs,
    plate,
    room,
    tap,
)
from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    convolve,
    curve,
    decay,
    highpass,
    level,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    partials,
    phase,
    place,
    resonator,
    smooth,
    strikes_at,
    swell,
    uniform,
    unit,
    wander,
)

MEMBRANE = np.array([1.0, 1.593, 2.135, 2.295, 2.653, 2.917, 3.155, 3.5, 3.598, 4.06])  # zeros of Bessel functions


def _paces(rng: Rng, duration_s: float) -> list[float]:
    """Moments in seconds at which the feet come down, at a walk or a run, with a slight limp."""
    pace, limp = log_uniform(rng, 0.28, 0.75), uniform(rng, -0.06, 0.06)
    moments = [uniform(rng, 0.01, 0.15)]
    while moments[-1] < duration_s:
        side = 1.0 if len(moments) % 2 else -1.0
        moments.append(moments[-1] + pace * (1.0 + side * limp) * uniform(rng, 0.94, 1.06))
    return moments[:-1]


def _boards(rng: Rng, duration_s: float) -> Samples:
    """Steps on a floor that gives: the heel knocks, the sole slaps, the shoe scuffs; wood, stone or iron stairs."""
    n = num_samples(duration_s)
    ground = int(rng.integers(3))
    lowest, t60, dull = ((60.0, 0.25, 0.7), (150.0, 0.04, 0.8), (170.0, 0.7, 0.3))[ground]
    floor = plate(6_400, rng, lowest * uniform(rng, 0.8, 2.0), t60 * uniform(rng, 0.6, 1.6), dull)
    soft, late = log_uniform(rng, 0.0006, 0.012), uniform(rng, 0.05, 0.16)
    heel_hz, heel_loud = logs(rng, 900.0, 5_000.0, 4), log_uniform(rng, 0.06, 1.0) * min(1.0, 0.003 / soft)
    scuff_low, scuff_loud = log_uniform(rng, 500.0, 3_000.0), log_uniform(rng, 0.01, 0.25)
    contact_hz, contact_loud = log_uniform(rng, 800.0, 6_000.0), log_uniform(rng, 0.15, 2.0)
    out = np.zeros(n)
    for moment in _paces(rng, duration_s):
        hard, loud = soft * uniform(rng, 0.7, 1.4), uniform(rng, 0.6, 1.0)
        force = np.zeros(6_400)
        place(force, tap(rng, hard), 0.0, loud)
        place(force, tap(rng, 2.0 * hard), late * uniform(rng, 0.8, 1.2), loud * uniform(rng, 0.2, 0.8))
        step = level(convolve(force, floor))
        contact = bandpass(noise(800, rng), 150.0, contact_hz, 1) * decay(800, 0.04, hard)
        place(step, level(contact), 0.0, contact_loud)
        place(step, modes(500, heel_hz, np.full(4, 0.015), rng.uniform(0.2, 1.0, 4)), 0.0, heel_loud)
        num = num_samples(late * 1.3)
        scuff = bandpass(noise(num, rng), scuff_low, 2.2 * scuff_low, 1) * swell(num, 0.4, 0.5)
        place(step, scuff, 0.3 * late, scuff_loud)
        place(out, step, moment, loud)
    size = (uniform(rng, 2.0, 6.0), uniform(rng, 3.0, 20.0), uniform(rng, 2.3, 4.0))
    near = room(4_800, rng, size, uniform(rng, 0.2, 0.85), log_uniform(rng, 800.0, 4_000.0))
    return heard(convolve(out, near), rng)


def _loose(rng: Rng, duration_s: float) -> Samples:
    """Steps on loose ground: grains collide ever less as weight settles; gravel, leaves, snow, sand or a puddle."""
    n, ground = num_samples(duration_s), int(rng.integers(5))
    center = (1_900.0, 3_600.0, 750.0, 1_200.0, 900.0)[ground] * uniform(rng, 0.7, 1.4)
    spread = (0.55, 0.4, 0.4, 0.6, 0.5)[ground]
    num = int((90, 130, 420, 350, 60)[ground] * uniform(rng, 0.6, 1.5))
    ring = (0.008, 0.003, 0.006, 0.002, 0.04)[ground] * uniform(rng, 0.7, 1.6)
    thud_hz, thud = uniform(rng, 50.0, 140.0), log_uniform(rng, 0.05, 0.8)
    out, settle = np.zeros(n), uniform(rng, 0.03, 0.1)
    for moment in _paces(rng, duration_s):
        toe, loud = uniform(rng, 0.1, 0.25), uniform(rng, 0.6, 1.0)
        when = rng.exponential(settle, num) + np.where(rng.random(num) < 0.5, 0.0, toe)
        hz = center * rng.lognormal(0.0, spread, num)
        size = rng.lognormal(0.0, 0.7, num) * np.exp(-when / 0.3)
        t60 = bubble_t60(hz) if ground == 4 else np.full(num, ring) * rng.uniform(0.5, 1.5, num)
        step = level(grains(9_600, when, hz, t60, size, 5.0 if ground == 4 else 0.0))
        step += thud * modes(9_600, [thud_hz, 2.3 * thud_hz], [0.1, 0.06], [1.0, 0.5])
        if ground == 2:
            squeak = strikes_at(9_600, np.cumsum(rng.gamma(8.0, 1.0 / 8.0 / 170.0, 30)), np.linspace(1.0, 0.2, 30))
            step += uniform(rng, 0.0, 0.6) * level(resonator(squeak, 1.3 * center, 300.0))
        splash = bandpass(noise(9_600, rng), 0.8 * center, 4.0 * center, 1) * decay(9_600, uniform(rng, 0.1, 0.3), 0.02)
        place(out, step + (0.5 if ground in (3, 4) else 0.08) * level(splash), moment, loud)
    return out


def _cupped(rng: Rng, duration_s: float) -> Samples:
    """A clap of hollow hands: air squeezed out rings in the hollow, skin slaps, and the room answers."""
    n, hollow = num_samples(duration_s), log_uniform(rng, 380.0, 1_900.0)
    out = np.zeros(n)
    for _ in range(int(rng.choice((1, 1, 1, 2, 3)))):
        push = np.zeros(n)
        num = num_samples(log_uniform(rng, 0.0008, 0.005))
        push[:num] = np.hanning(num + 2)[1:-1] * (1.0 + 0.8 * rng.standard_normal(num))
        air = level(resonator(push, hollow * uniform(rng, 0.95, 1.05), hollow / uniform(rng, 1.2, 5.0)))
        skin = highpass(noise(n, rng), log_uniform(rng, 1_200, 4_000)) * decay(n, log_uniform(rng, 0.006, 0.03))
        place(out, air + uniform(rng, 0.2, 1.2) * level(skin), rng.exponential(0.008), uniform(rng, 0.5, 1.0))
    size = (uniform(rng, 2.0, 9.0), uniform(rng, 3.0, 16.0), uniform(rng, 2.3, 6.0))
    return heard(convolve(out, room(n, rng, size, uniform(rng, 0.2, 0.9), log_uniform(rng, 1_000.0, 5_000.0))), rng)


def _fingers(rng: Rng, duration_s: float) -> Samples:
    """A clap of fingers on a palm: four small slaps that nearly meet, a jet of air, and a diffuse hall or none."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    spread, bright = log_uniform(rng, 0.0004, 0.004), log_uniform(rng, 900.0, 3_500.0)
    for moment in np.sort(rng.uniform(0.0, 4.0 * spread, int(rng.integers(3, 7)))).tolist():
        hz = bright * rng.lognormal(0.0, 0.3, 3)
        slap = modes(640, hz, rng.uniform(0.004, 0.014, 3), rng.uniform(0.3, 1.0, 3))
        place(out, slap * rng.choice((-1.0, 1.0)), moment, uniform(rng, 0.4, 1.0))
    jet = bandpass(noise(n, rng), 0.4 * bright, 3.0 * bright, 1) * decay(n, log_uniform(rng, 0.015, 0.06), 0.002)
    out = level(out) + uniform(rng, 0.2, 1.0) * level(jet)
    hall = convolve(out, diffuse(n, rng, log_uniform(rng, 0.1, 1.2), log_uniform(rng, 0.08, 0.6)))
    return level(out) + log_uniform(rng, 0.01, 0.35) * level(hall)


def _wood(rng: Rng) -> Curve:
    return plate(4_800, rng, log_uniform(rng, 70.0, 260.0), uniform(rng, 0.1, 0.4), uniform(rng, 0.5, 0.9))


def _slips(rng: Rng, duration_s: float) -> Samples:
    """A hinge that moves by jerks: strain builds up, lets go, and the longer it held the harder it knocks."""
    n = num_samples(duration_s)
    rates = log_uniform(rng, 12.0, 160.0) * np.exp(
        np.interp(np.linspace(0, 1, 4_000), np.linspace(0, 1, 6), rng.normal(0, 0.7, 6))
    )
    gaps = rng.gamma(log_uniform(rng, 2.0, 60.0), 1.0, 4_000)
    gaps = gaps / gaps.mean() / rates
    moments = 0.02 + np.cumsum(gaps)
    keep = moments < duration_s * uniform(rng, 0.8, 1.0)
    keep[:3] = True
    pulses = strikes_at(n, moments[keep], (gaps / gaps.mean())[keep] ** 0.7 * rng.lognormal(0.0, 0.2, 4_000)[keep])
    edge = logs(rng, 700.0, 6_000.0, 5)
    iron = modes(640, edge, rng.uniform(0.006, 0.03, 5), rng.uniform(0.2, 1.0, 5))
    out = level(convolve(pulses, _wood(rng))) + log_uniform(rng, 0.3, 4.0) * level(convolve(pulses, iron))
    grit = bandpass(noise(n, rng), 800.0, 4_000.0, 1) * smooth(np.abs(pulses), 60.0)
    return out + uniform(rng, 0.0, 0.3) * level(grit)


def _squeal(rng: Rng, duration_s: float) -> Samples:
    """A dry hinge that sings: friction drives one mode of the door, then jumps to the next as the leaf turns."""
    n = num_samples(duration_s)
    place_in = np.linspace(0.0, 1.0, n)
    ladder = log_uniform(rng, 180.0, 900.0) * np.cumprod(np.r_[1.0, rng.uniform(1.05, 1.5, 7)])
    borders = np.sort(rng.uniform(0.0, 1.0, int(rng.integers(0, 6))))
    rungs = np.clip(np.cumsum(rng.choice((-1, 1, 1, 2), len(borders) + 1)), 0, 7)
    f0 = smooth(ladder[rungs][np.searchsorted(borders, place_in)] - ladder[rungs[0]], 25.0) + ladder[rungs[0]]
    f0 = f0 * curve(n, rng.uniform(0.85, 1.2, 5).tolist()) * (1.0 + 0.01 * wander(n, rng, 30.0))
    saw = partials(n, f0, (np.arange(1.0, 12.0) ** -uniform(rng, 0.5, 1.6)).tolist())
    chatter_hz = log_uniform(rng, 10.0, 60.0) * curve(n, rng.uniform(0.5, 1.6, 4).tolist())
    chatter = 1.0 - uniform(rng, 0.0, 0.9) * (
        0.5 + 0.5 * np.sin(phase(chatter_hz * (1.0 + 0.2 * wander(n, rng, 15.0))))
    )
    force = np.maximum(curve(n, [0.1, *rng.uniform(0.2, 1.0, 5), 0.1]) + 0.2 * wander(n, rng, 6.0), 0.0)
    sung = saw * chatter * force
    out = unit(sung) + uniform(rng, 0.3, 1.5) * unit(convolve(sung, _wood(rng)))
    rub = bandpass(noise(n, rng), 1_000.0, 5_000.0, 1) * force
    return (out + uniform(rng, 0.02, 0.2) * unit(rub)) * swell(n, 0.05, 0.1)


def _leaf(rng: Rng, duration_s: float) -> Samples:
    """A door meets its frame: the leaf knocks and springs back, the latch falls in, panes and handle rattle."""
    n = num_samples(duration_s)
    out, start = np.zeros(n), uniform(rng, 0.01, 0.06)
    wood = plate(n, rng, log_uniform(rng, 35.0, 130.0), uniform(rng, 0.2, 0.6), uniform(rng, 0.4, 0.8))
    moments, levels = bounces(rng, uniform(rng, 0.02, 0.07), uniform(rng, 0.15, 0.5), 4)
    force = np.zeros(n)
    for moment, loud in zip(moments.tolist(), levels.tolist(), strict=True):
        place(force, tap(rng, log_uniform(rng, 0.001, 0.008)), start + moment, loud)
    out += level(convolve(force, wood))
    bang = lowpass(noise(n, rng), log_uniform(rng, 900.0, 7_000.0), 1) * smooth(force, 40.0)
    out += uniform(rng, 0.5, 2.0) * level(bang) + uniform(rng, 0.1, 0.5) * level(
        resonator(force, uniform(rng, 35, 90), 15)
    )
    latch = modes(1_600, logs(rng, 800, 5_000, 6), logs(rng, 0.02, 0.1, 6), rng.uniform(0.2, 1.0, 6))
    for moment in (start + uniform(rng, -0.01, 0.01), start + uniform(rng, 0.02, 0.09)):
        place(out, level(latch), max(0.0, moment), log_uniform(rng, 0.05, 0.6))
    if rng.random() < 0.6:
        shakes, sizes = bounces(rng, uniform(rng, 0.03, 0.06), uniform(rng, 0.85, 0.95), 14)
        hz = uniform(rng, 400.0, 2_800.0) * rng.uniform(0.9, 1.1, 14)
        out += uniform(rng, 0.05, 0.4) * grains(n, start + shakes, hz, logs(rng, 0.02, 0.08, 14), sizes)
    swish = bandpass(noise(n, rng), 150.0, 900.0, 1) * np.exp(-np.maximum(start - np.arange(n) / 16_000, 0.0) * 30.0)
    out += uniform(rng, 0.0, 0.1) * level(swish) * (np.arange(n) < start * 16_000)
    size = (uniform(rng, 2.0, 5.0), uniform(rng, 2.5, 12.0), uniform(rng, 2.3, 3.5))
    return heard(convolve(out, room(n, rng, size, uniform(rng, 0.4, 0.92), log_uniform(rng, 700.0, 3_500.0))), rng)


def _heavy(rng: Rng, duration_s: float) -> Samples:
    """A heavy door: of iron in a stairwell, of a car with its rubber seal, or of a cupboard, and then its lock."""
    n, made_of = num_samples(duration_s), int(rng.integers(3))
    lowest, t60, dull = ((70.0, 1.1, 0.25), (45.0, 0.14, 0.6), (140.0, 0.12, 0.7))[made_of]
    soft = log_uniform(rng, *((0.0006, 0.003), (0.004, 0.014), (0.0008, 0.004))[made_of])
    contact = tap(rng, soft)
    crunch = np.zeros(n)
    crunch[: len(contact)] = contact * (1.0 + 0.7 * rng.standard_normal(len(contact)))
    body = plate(n, rng, lowest * uniform(rng, 0.8, 1.6), t60 * uniform(rng, 0.6, 1.5), dull, 6)
    out = level(convolve(crunch, body))
    thump = lowpass(noise(n, rng), log_uniform(rng, 80.0, 300.0)) * decay(n, uniform(rng, 0.1, 0.4), 0.004)
    out += uniform(rng, 0.3, 1.5) * level(thump)
    slap = bandpass(noise(n, rng), 300.0, log_uniform(rng, 1_500, 5_000), 1) * decay(n, uniform(rng, 0.02, 0.09), 0.001)
    out += log_uniform(rng, 0.2, 2.0) * level(slap)
    for moment in rng.uniform(0.008, 0.16, int(rng.integers(1, 4))).tolist():
        lock = modes(1_200, logs(rng, 500, 4_500, 5), logs(rng, 0.01, 0.06, 5), rng.uniform(0.2, 1.0, 5))
        place(out, level(lock), moment, log_uniform(rng, 0.05, 0.5))
    wet = (log_uniform(rng, 0.6, 2.5), 0.25, 0.4)[made_of]
    hall = convolve(out, diffuse(n, rng, wet, 0.6 * wet))
    return np.tanh(heard(level(out) + log_uniform(rng, 0.02, 0.5) * level(hall), rng) * log_uniform(rng, 0.5, 4.0))


def _skin(rng: Rng, duration_s: float) -> Samples:
    """A struck membrane of any size, by hand, stick or mallet: tension lets its pitch fall; wires may buzz below."""
    n, lowest = num_samples(duration_s), log_uniform(rng, 45.0, 420.0)
    hz = lowest * MEMBRANE * rng.uniform(0.98, 1.02, 10)
    t60 = log_uniform(rng, 0.15, 1.2) * (hz / lowest) ** -uniform(rng, 0.3, 1.2)
    edge = uniform(rng, 0.2, 1.2)
    start = np.full(10, 0.002)
    fall = -uniform(rng, 0.0, 0.6) / np.maximum(t60, 0.1)
    skin = level(grains(n, start, hz, t60, rng.uniform(0.3, 1.0, 10) * (hz / lowest) ** -(1.5 - edge), fall))
    hit = np.zeros(n)
    place(hit, lowpass(noise(n, rng), log_uniform(rng, 500.0, 7_000.0), 1) * decay(n, log_uniform(rng, 0.008, 0.05)), 0)
    out = skin + log_uniform(rng, 0.05, 0.8) * level(hit)
    shell = resonator(out, lowest * uniform(rng, 1.1, 3.0), 0.2 * lowest)
    out += uniform(rng, 0.0, 0.6) * level(shell)
    if lowest > 120.0 and rng.random() < 0.4:
        push = np.maximum(np.abs(skin) - uniform(rng, 0.0, 0.1), 0.0)
        wires = highpass(noise(n, rng), log_uniform(rng, 1_200.0, 3_500.0)) * smooth(push, 60.0)
        out += uniform(rng, 0.3, 1.2) * level(wires)
    return out


IMPACTS: dict[str, tuple[Variant, ...]] = {
    "footsteps": (_boards, _loose),
    "hand_clap": (_cupped, _fingers),
    "door_creak": (_slips, _squeal),
    "door_slam": (_leaf, _heavy),
    "drum": (_skin,),
}
"""By the kind's name."""
