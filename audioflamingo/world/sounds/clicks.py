"""Small mechanisms: clocks, keyboards, mice, cameras and cans."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    buzz,
    curve,
    decay,
    highpass,
    log_uniform,
    modes,
    noise,
    num_samples,
    place,
    resonate,
    shaped_noise,
    strikes_at,
    swell,
    uniform,
    unit,
)


def _tick(rng: Rng, low_hz: float, high_hz: float, t60_s: float) -> Curve:
    """A small part that snaps against another: a few high modes and a spark of noise."""
    n = num_samples(0.08)
    freqs = rng.uniform(low_hz, high_hz, 6)
    ring = modes(n, freqs, t60_s * rng.uniform(0.4, 1.3, 6), rng.uniform(0.3, 1.0, 6))
    return np.asarray(ring + uniform(rng, 0.3, 1.0) * noise(n, rng) * decay(n, t60_s * 0.3))


def _clock(rng: Rng, duration_s: float) -> Samples:
    """Tick and tock in turn, each with its own colour, at one of the usual rates."""
    n, gap = num_samples(duration_s), (1.0, 0.5, 0.25, 0.2, uniform(rng, 0.4, 0.9))[int(rng.integers(5))]
    pitch, ring = log_uniform(rng, 1_200.0, 3_500.0), uniform(rng, 0.01, 0.05)
    pair = (_tick(rng, pitch, pitch * 2.0, ring), _tick(rng, pitch * 0.8, pitch * 1.7, ring))
    out = 0.002 * noise(n, rng)
    for index, start in enumerate(np.arange(0.05, duration_s, gap)):
        place(out, pair[index % 2], float(start), 1.0 - 0.3 * (index % 2))
    return out


def _pendulum(rng: Rng, duration_s: float) -> Samples:
    """A tall clock: an impulse with two bounces through the resonances of its case."""
    n, gap = num_samples(duration_s), uniform(rng, 0.45, 1.05)
    moments = np.arange(0.05, duration_s, gap)
    late = np.where(np.arange(len(moments)) % 2 == 1, uniform(rng, 0.0, 0.06), 0.0)
    hits = np.zeros(n)
    for delay, loud in ((0.0, 0.4), (uniform(rng, 0.006, 0.02), 1.0), (uniform(rng, 0.025, 0.05), 0.3)):
        hits += strikes_at(n, moments + late + delay, np.full(len(moments), loud))
    low = uniform(rng, 350.0, 900.0)
    return resonate(
        hits, [low, low * 2.6, low * 4.7, low * 8.2], [60, 150, 300, 600], [0.8, 1.0, 0.9, 0.6]
    ) + 1e-5 * noise(n, rng)


def _keyboard(rng: Rng, duration_s: float) -> Samples:
    """Keys of a computer: a click down and a softer one up, in runs of words with pauses."""
    n, out, start = num_samples(duration_s), np.zeros(num_samples(duration_s)), 0.02
    keys = [_tick(rng, 1_200.0, 6_000.0, uniform(rng, 0.008, 0.03)) for _ in range(6)]
    thud = modes(num_samples(0.06), [160, 290, 520], [0.04, 0.03, 0.025], [1.0, 0.7, 0.5])
    gap = uniform(rng, 0.08, 0.2)
    while start < duration_s - 0.05:
        loud = uniform(rng, 0.5, 1.0)
        place(out, keys[int(rng.integers(6))], start, loud)
        place(out, thud, start + 0.003, loud * 1.2)
        place(out, keys[int(rng.integers(6))], start + uniform(rng, 0.05, 0.1), 0.3 * loud)
        start += gap * uniform(rng, 0.5, 1.6) + (uniform(rng, 0.15, 0.5) if rng.random() < 0.15 else 0.0)
    return out + 0.001 * noise(n, rng)


def _typewriter(rng: Rng, duration_s: float) -> Samples:
    """A typewriter or a mechanical keyboard: hard hits of type on a roller, metallic, with the lever's return."""
    out, start = np.zeros(num_samples(duration_s)), 0.02
    n, gap = num_samples(0.12), uniform(rng, 0.11, 0.24)
    clack = unit(bandpass(noise(n, rng) * decay(n, 0.02), 800.0, 5_000.0, 1))
    clack = clack + unit(modes(n, rng.uniform(900, 6_500, 7), np.full(7, 0.06), np.ones(7)))
    while start < duration_s - 0.08:
        place(out, clack, start, uniform(rng, 0.5, 1.0))
        place(out, highpass(clack, 3_000.0), start + uniform(rng, 0.04, 0.07), uniform(rng, 0.1, 0.3))
        start += gap * uniform(rng, 0.6, 1.7)
    return out


def _mouse(rng: Rng, duration_s: float) -> Samples:
    """A mouse button: press and release 60 to 130 ms apart."""
    out = np.zeros(num_samples(duration_s))
    press, release = _tick(rng, 1_800.0, 6_500.0, 0.012), _tick(rng, 2_200.0, 7_000.0, 0.01)
    hold = uniform(rng, 0.06, 0.13)
    place(out, press, 0.01)
    place(out, release, 0.01 + hold, uniform(rng, 0.4, 0.9))
    return out


def _switch(rng: Rng, duration_s: float) -> Samples:
    """A micro-switch: double pulses through the plastic shell's resonances."""
    n, hold = num_samples(duration_s), uniform(rng, 0.06, 0.15)
    moments = np.array([0.01, 0.0125, 0.01 + hold, 0.0117 + hold])
    hits = strikes_at(n, moments, [1.0, -0.6, 0.7, -0.4])
    return resonate(hits, [1_500, 2_900, 4_600, 6_300], [350, 500, 700, 900], rng.uniform(0.4, 1.0, 4).tolist())


def _shutter(rng: Rng, duration_s: float) -> Samples:
    """A reflex camera: mirror up, curtain, mirror down, then perhaps a motor that winds the film."""
    n = num_samples(duration_s)
    out, gap = np.zeros(n), uniform(rng, 0.04, 0.12)
    thump = modes(num_samples(0.08), [180, 420, 900], [0.05, 0.04, 0.03], [1.0, 0.8, 0.5])
    for start, loud in ((0.0, 0.7), (gap * 0.4, 1.0), (gap, 0.9), (gap * 1.35, 0.5)):
        place(out, _tick(rng, 1_000.0, 6_000.0, 0.03), start, loud)
        place(out, thump, start, loud * 0.8)
    if duration_s > 0.35 and rng.random() < 0.6:
        wind = num_samples(duration_s - gap * 1.6)
        whirr = unit(buzz(uniform(rng, 250.0, 500.0) * curve(wind, [0.6, 1.0, 1.0, 0.7]), 0.9)) + 0.3 * noise(wind, rng)
        place(out, highpass(whirr, 400.0) * swell(wind, 0.1, 0.2), gap * 1.6, 0.4)
    return out


def _iris(rng: Rng, duration_s: float) -> Samples:
    """A leaf shutter or the sound of a telephone's camera: two swept bursts of noise, the second reversed."""
    out, gap = np.zeros(num_samples(duration_s)), uniform(rng, 0.07, 0.16)
    n = num_samples(uniform(rng, 0.03, 0.06))
    sharp = unit(bandpass(noise(n, rng), uniform(rng, 900, 2_000), 6_500.0, 1)) * decay(n, 0.04)
    place(out, sharp, 0.0)
    place(out, 0.8 * sharp[::-1], gap)
    place(out, unit(bandpass(noise(n, rng), 500.0, 3_000.0)) * decay(n, 0.02), gap + n / 16_000.0, 0.7)
    return out


def _can(rng: Rng, duration_s: float) -> Samples:
    """A can of soda: the tab's click, the crack, a burst of gas that dies into fizz."""
    n, tab = num_samples(duration_s), uniform(rng, 0.06, 0.2)
    out = np.zeros(n)
    place(out, _tick(rng, 1_500.0, 5_000.0, 0.03), 0.0, 0.4)
    place(out, _tick(rng, 800.0, 6_500.0, 0.06), tab, 1.5)
    gas_n = num_samples(max(0.1, duration_s - tab))
    gas = shaped_noise(gas_n, rng, [300, 1_500, 4_000, 7_000, 8_000], [-25, -8, 0, 0, -3])
    place(
        out,
        gas * (decay(gas_n, uniform(rng, 0.15, 0.5), 0.005) + 0.04 * decay(gas_n, 2.0)),
        tab + 0.01,
        uniform(rng, 0.8, 2.0),
    )
    place(
        out,
        modes(num_samples(0.2), rng.uniform(600, 2_500, 5), np.full(5, 0.12), np.ones(5)),
        tab + uniform(rng, 0.1, 0.25),
        0.4,
    )
    return out


def _pop_top(rng: Rng, duration_s: float) -> Samples:
    """A can by resonances: impulses and hiss through the cavity of thin metal."""
    n, tab = num_samples(duration_s), uniform(rng, 0.05, 0.18)
    hits = strikes_at(n, [0.002, tab, tab + 0.004, tab + uniform(rng, 0.08, 0.2)], [0.4, 1.0, -0.7, 0.4])
    metal = resonate(
        hits, [720, 1_650, 2_900, 4_700, 6_400], [60, 120, 160, 250, 400], rng.uniform(0.4, 1.0, 5).tolist()
    )
    jet = np.zeros(n)
    rest = n - num_samples(tab)
    place(jet, unit(highpass(noise(rest, rng), 2_500.0)) * decay(rest, uniform(rng, 0.1, 0.35), 0.003), tab)
    return np.asarray(metal / np.abs(metal).max() + uniform(rng, 0.3, 0.8) * jet)


def _wrist_watch(rng: Rng, duration_s: float) -> Samples:
    """A quartz or wrist watch: a dry, very short spark of high noise at an even rate."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    gap, num = (1.0, 0.2, 0.5, 0.333)[int(rng.integers(4))], num_samples(0.04)
    peak = log_uniform(rng, 1_500.0, 5_500.0)
    spark = shaped_noise(num, rng, [200, peak * 0.5, peak, peak * 1.6, 8_000], [-30, -12, 0, -12, -24]) * decay(
        num, uniform(rng, 0.006, 0.03)
    )
    for start in np.arange(uniform(rng, 0.02, 0.15), duration_s, gap):
        place(out, spark, float(start), uniform(rng, 0.85, 1.0))
    return out + uniform(rng, 0.001, 0.01) * noise(n, rng)


def _soft_keys(rng: Rng, duration_s: float) -> Samples:
    """A flat keyboard: soft taps of band noise, four to eleven a second, with a louder space bar at times."""
    n, out, start = num_samples(duration_s), np.zeros(num_samples(duration_s)), 0.02
    num, gap = num_samples(0.05), uniform(rng, 0.09, 0.22)
    low = uniform(rng, 300.0, 1_200.0)
    while start < duration_s - 0.06:
        tap = unit(bandpass(noise(num, rng), low, low * uniform(rng, 3.0, 6.0), 1)) * decay(
            num, uniform(rng, 0.012, 0.035)
        )
        place(out, tap, start, 1.6 if rng.random() < 0.15 else uniform(rng, 0.4, 1.0))
        start += gap * float(np.clip(rng.gamma(4.0, 0.25), 0.4, 3.0))
    return out + 0.002 * noise(n, rng)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = False) -> Kind:
    return Kind(name, label, noun, sentence, "mechanisms", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("clock_tick", "a clock ticking", "clock", "a clock ticks", "a tick-tock", "a ticking clock", steady=True),
        (2.0, 6.0),
        (_clock, _wrist_watch, _pendulum),
    ),
    Recipe(
        _kind(
            "typing",
            "typing on a keyboard",
            "keyboard",
            "somebody types on a keyboard",
            "typing",
            "a keyboard",
            steady=True,
        ),
        (1.5, 5.0),
        (_keyboard, _soft_keys, _typewriter),
    ),
    Recipe(
        _kind("mouse_click", "a mouse click", "mouse click", "somebody clicks a mouse", "a computer mouse clicking"),
        (0.3, 0.5),
        (_mouse, _switch),
        most_repeats=2,
    ),
    Recipe(
        _kind(
            "camera",
            "a camera shutter",
            "camera",
            "a camera takes a picture",
            "a shutter click",
            "a photograph being taken",
        ),
        (0.3, 0.9),
        (_shutter, _iris),
    ),
    Recipe(
        _kind("can_opening", "a can being opened", "can", "somebody opens a can", "a can of soda opening"),
        (0.5, 1.3),
        (_can, _pop_top),
    ),
)
