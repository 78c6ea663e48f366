"""Algorithms for training alone: the sea, streams, water that is poured, and fire. See `apart`."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.apart_parts import (
    blast,
    bounces,
    bubble_t60,
    diffuse,
    grains,
    logs,
    poisson,
    ramp,
    slow_times,
    strewn,
    turbulence,
)
from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    convolve,
    curve,
    highpass,
    level,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    phase,
    place,
    resonator,
    smooth,
    strikes_at,
    swell,
    uniform,
    unit,
)


def _swells(rng: Rng, duration_s: float, low_s: float, high_s: float) -> Curve:
    """Moments in seconds at which waves break, from before the start; one falls early, so that none is missed."""
    gaps = uniform(rng, low_s, high_s) * rng.uniform(0.7, 1.3, int(duration_s / (0.6 * low_s)) + 3)
    return np.asarray(np.cumsum(gaps) - gaps[0] * uniform(rng, 0.7, 1.6))


def _course(t: Curve, peaks_s: Curve, levels: Curve, up_s: float, down_s: float) -> Curve:
    """(points,) what waves give together: each grows exponentially to its peak and falls from there."""
    out = np.zeros(len(t))
    for peak, loud in zip(peaks_s.tolist(), levels.tolist(), strict=True):
        first, last = np.searchsorted(t, [peak - 9.0 * up_s, peak + 9.0 * down_s])
        since = t[first:last] - peak
        out[first:last] += loud * np.exp(np.where(since < 0.0, since / up_s, -since / down_s))
    return out


def _breakers(rng: Rng, duration_s: float) -> Samples:
    """Surf: a low roar comes near, the wave breaks and grows bright, foam hisses, pebbles roll back."""
    n = num_samples(duration_s)
    t, breaks = slow_times(n), _swells(rng, duration_s, 4.0, 12.0)
    heights, white = rng.lognormal(0.0, 0.35, len(breaks)), noise(n, rng)
    edges = np.array([50.0, 220.0, 800.0, 2_500.0, 7_000.0]) * uniform(rng, 0.8, 1.1)
    slope, out = uniform(rng, 0.25, 0.8), np.zeros(n)
    for band in range(4):
        peaks = breaks + 0.25 * band * uniform(rng, 0.5, 2.0)
        grow, fall = uniform(rng, 0.8, 2.0) / (1.0 + 0.7 * band), uniform(rng, 0.6, 1.4) * (1.0 + 0.3 * band)
        force = _course(t, peaks, heights ** (1.0 + 0.3 * band), grow, fall) + uniform(rng, 0.03, 0.15)
        force *= np.exp(0.15 * turbulence(n, rng, 3.0))
        out += slope**band * unit(bandpass(white, edges[band], edges[band + 1], 1)) * ramp(force, n)
    if rng.random() < 0.6:
        backwash = _course(t, breaks + uniform(rng, 1.5, 3.0), heights, 0.4, 0.9) + 1e-3
        moments = strewn(rng, backwash, int(uniform(rng, 10.0, 80.0) * duration_s) + 1)
        num = len(moments)
        out += grains(
            n, moments, logs(rng, 900, 5_500, num), logs(rng, 0.003, 0.02, num), rng.lognormal(-1.2, 0.7, num)
        )
    return out


def _rocks(rng: Rng, duration_s: float) -> Samples:
    """Waves against rocks or a jetty: a slap, spray that rains down, gulps in clefts, trickles, and far surf."""
    n = num_samples(duration_s)
    t, hits = slow_times(n), _swells(rng, duration_s, 2.5, 8.0)
    force, white = rng.lognormal(0.0, 0.5, len(hits)), noise(n, rng)
    far = ramp(np.exp(0.3 * turbulence(n, rng, 0.15, 3.0)), n)
    out = uniform(rng, 0.08, 0.5) * far * unit(lowpass(white, log_uniform(rng, 300.0, 900.0), 1))
    rush = unit(bandpass(white, log_uniform(rng, 120, 500), log_uniform(rng, 900, 3_000), 1))
    out += rush * ramp(_course(t, hits, force, uniform(rng, 0.1, 0.5), uniform(rng, 0.3, 0.9)), n)
    spray = unit(highpass(white, log_uniform(rng, 1_200.0, 4_000.0), 1))
    fall = _course(t, hits + uniform(rng, 0.2, 0.7), force**1.3, 0.1, uniform(rng, 0.4, 1.3))
    out += uniform(rng, 0.05, 0.6) * spray * ramp(fall, n)
    slaps = convolve(strikes_at(n, hits, force), blast(uniform(rng, 0.003, 0.012), 0.7))
    out += uniform(rng, 0.0, 2.0) * slaps
    for low, high, rate, share in ((70.0, 350.0, 4.0, 0.5), (500.0, 3_500.0, 25.0, 0.15)):
        moments = strewn(
            rng, _course(t, hits + uniform(rng, 0.6, 1.8), force, 0.4, 1.2) + 1e-3, int(rate * duration_s) + 1
        )
        hz = logs(rng, low, high, len(moments))
        loud = uniform(rng, 0.2, 1.5) * share * rng.lognormal(0.0, 0.5, len(moments))
        out += grains(n, moments, hz, 2.0 * bubble_t60(hz), loud, rng.uniform(0.0, 4.0, len(moments)))
    return out


def _riffles(rng: Rng, duration_s: float) -> Samples:
    """A brook: at each spot bubbles of about one size gulp in fits, every bubble with pitch and decay of its own."""
    n, num_spots = num_samples(duration_s), int(rng.integers(3, 9))
    out = np.zeros(n)
    per_spot = log_uniform(rng, 30.0, 160.0) / num_spots
    for spot_hz in logs(rng, 350.0, 3_000.0, num_spots):
        fits = np.exp(uniform(rng, 0.5, 1.6) * turbulence(n, rng, log_uniform(rng, 1.0, 5.0), 2.5))
        moments = strewn(rng, fits, int(rng.poisson(per_spot * duration_s)) + 2)
        hz = spot_hz * rng.lognormal(0.0, 0.3, len(moments))
        loud = (hz / 800.0) ** -0.7 * rng.lognormal(0.0, 0.6, len(moments))
        out += grains(n, moments, hz, bubble_t60(hz), loud, rng.exponential(3.0, len(moments)))
    hiss = unit(bandpass(noise(n, rng), log_uniform(rng, 500, 2_000), log_uniform(rng, 3_000, 7_000), 1))
    return unit(out) + log_uniform(rng, 0.05, 0.8) * hiss * ramp(np.exp(0.2 * turbulence(n, rng, 1.0)), n)


def _weir(rng: Rng, duration_s: float) -> Samples:
    """Water that falls a little way: sheets of it flutter band by band, a pool booms below, voices babble in it."""
    n, white = num_samples(duration_s), noise(num_samples(duration_s), rng)
    out, low, slope = np.zeros(n), log_uniform(rng, 100.0, 400.0), uniform(rng, 0.4, 1.0)
    for band in range(4):
        flutter = np.exp(uniform(rng, 0.1, 0.5) * turbulence(n, rng, uniform(rng, 1.0, 8.0), 2.0))
        edge = low * 2.4**band
        out += slope**band * unit(bandpass(white, edge, 2.4 * edge, 1)) * ramp(flutter, n)
    for hz in logs(rng, 150.0, 700.0, int(rng.integers(1, 3))):
        out += uniform(rng, 0.1, 0.6) * unit(resonator(white, float(hz), 0.15 * float(hz)))
    loud = uniform(rng, 0.5, 3.0)
    for hz in logs(rng, 300.0, 1_600.0, int(rng.integers(2, 5))):
        fits = np.maximum(turbulence(n, rng, 3.0, 2.0), 0.0) ** 2
        bend = np.exp(0.35 * turbulence(n, rng, 8.0, 2.5))
        out += loud * np.sin(phase(ramp(hz * np.minimum(bend, 3.0), n))) * ramp(fits, n)
    return out


def _vessel(rng: Rng, duration_s: float) -> Samples:
    """Water fills a jug, cup or bucket: the air above it sounds ever higher, its wall ever lower, bubbles ring."""
    n, deep_m = num_samples(duration_s), log_uniform(rng, 0.08, 0.4)
    full = curve(n, [uniform(rng, 0.0, 0.4), uniform(rng, 0.6, 0.95)])
    pitch, out = 340.0 / (4.0 * (deep_m * (1.0 - full) + 0.02)), np.zeros(n)
    jet = 1.0 + 0.4 * unit(lowpass(noise(n, rng), uniform(rng, 4.0, 20.0)))
    for number in (1, 3, 5):
        if number * pitch.max() < 7_000.0:
            shift = phase(number * pitch)
            wide = uniform(rng, 15.0, 90.0) * number**0.5
            air = np.cos(shift) * lowpass(noise(n, rng), wide) + np.sin(shift) * lowpass(noise(n, rng), wide)
            out += unit(air) * uniform(rng, 0.4, 1.0) / number
    splash = unit(bandpass(noise(n, rng), log_uniform(rng, 400, 1_500), log_uniform(rng, 3_000, 7_000), 1))
    out += log_uniform(rng, 0.15, 1.2) * splash * curve(n, [1.0, 0.7, 0.5])
    moments = poisson(n, rng, log_uniform(rng, 15.0, 150.0))
    hz = logs(rng, 400.0, 3_500.0, len(moments))
    bubbles = grains(n, moments, hz, bubble_t60(hz), rng.lognormal(0, 0.6, len(hz)), rng.exponential(3.0, len(hz)))
    out = (out + uniform(rng, 0.2, 1.2) * unit(bubbles)) * jet
    return out * swell(n, min(0.5, 0.08 / duration_s), min(0.5, uniform(rng, 0.05, 0.3) / duration_s))


def _glugs(rng: Rng, duration_s: float) -> Samples:
    """A bottle is emptied: air gulps in, glug by glug, each with a falling hollow tone, and water lands between."""
    n, rate = num_samples(duration_s), uniform(rng, 2.5, 7.0)
    gaps = rng.uniform(0.8, 1.2, int(rate * duration_s) + 2) / rate
    starts = uniform(rng, 0.0, 0.1) + np.cumsum(gaps)
    hollow = log_uniform(rng, 140.0, 450.0)
    empty = 1.0 - uniform(rng, 0.1, 0.5) * np.clip(starts / duration_s, 0.0, 1.0)
    out, flow, loud = np.zeros(n), np.zeros(n), rng.uniform(0.5, 1.0, len(starts))
    for overtone, share in ((1.0, 1.0), (uniform(rng, 1.8, 3.2), uniform(rng, 0.1, 0.6)), (uniform(rng, 4, 6), 0.2)):
        t60s = np.full(len(starts), 1.2 / rate / overtone**0.5)
        bend = rng.uniform(-1.0, 3.0, len(starts))
        out += grains(n, starts, hollow * empty * overtone, t60s, share * loud, bend)
    for start, one in zip(starts.tolist(), loud.tolist(), strict=True):
        num = num_samples(0.9 / rate)
        place(flow, swell(num, 0.3, 0.6), start, one)
    water = bandpass(noise(n, rng), log_uniform(rng, 300, 1_200), log_uniform(rng, 2_500, 7_000), 1)
    out = unit(out) * uniform(rng, 0.6, 1.3) + log_uniform(rng, 0.3, 1.6) * unit(water) * (flow + 0.1)
    moments = strewn(rng, flow[::160] + 0.05, int(log_uniform(rng, 20.0, 120.0) * duration_s))
    hz = logs(rng, 400.0, 4_000.0, len(moments))
    bubbles = grains(n, moments, hz, bubble_t60(hz), rng.lognormal(0, 0.6, len(hz)), rng.exponential(4.0, len(hz)))
    return out + uniform(rng, 0.2, 1.0) * unit(bubbles)


def _logs(rng: Rng, duration_s: float) -> Samples:
    """Burning logs: steam bursts cells, one burst sets off others, every snap through wood of its own size."""
    n = num_samples(duration_s)
    firsts = poisson(n, rng, log_uniform(rng, 1.5, 12.0), 4)
    after = rng.poisson(uniform(rng, 0.5, 5.0), len(firsts))
    moments = np.concatenate([firsts, np.repeat(firsts, after) + rng.exponential(0.06, int(after.sum()))])
    num = len(moments)
    sizes = np.minimum(rng.pareto(uniform(rng, 1.2, 2.5), num) + 0.1, 8.0)
    hz = np.clip(log_uniform(rng, 900.0, 3_000.0) * rng.lognormal(0.0, 0.7, num) * sizes**-0.25, 150.0, 7_000.0)
    out = grains(n, moments, hz, logs(rng, 0.002, 0.02, num), sizes)
    out += grains(n, moments, 2.7 * hz, logs(rng, 0.001, 0.006, num), 0.7 * sizes)
    flames = ramp(np.exp(0.5 * turbulence(n, rng, uniform(rng, 2.0, 10.0))), n)
    roar = unit(smooth(noise(n, rng), log_uniform(rng, 60.0, 250.0))) * flames
    gas = unit(bandpass(noise(n, rng), log_uniform(rng, 1_000, 3_000), log_uniform(rng, 4_000, 7_000), 1))
    hissing = ramp(np.maximum(turbulence(n, rng, 0.5, 3.0), -0.8) + 0.9, n)
    return level(out, 18.0) + log_uniform(rng, 0.06, 0.9) * roar + log_uniform(rng, 0.02, 0.3) * gas * hissing


def _twigs(rng: Rng, duration_s: float) -> Samples:
    """Twigs or a stove: snaps are single pushes of air, wide or narrow, in showers; flames puff; embers drop."""
    n = num_samples(duration_s)
    showers = np.exp(uniform(rng, 0.6, 1.8) * turbulence(n, rng, log_uniform(rng, 0.3, 3.0), 2.0))
    out, rate = np.zeros(n), log_uniform(rng, 8.0, 90.0)
    for width_s in np.geomspace(0.00007, log_uniform(rng, 0.0003, 0.002), 4).tolist():
        moments = strewn(rng, showers, int(rng.poisson(0.25 * rate * duration_s)) + 2)
        snaps = strikes_at(n, moments, np.minimum(rng.lognormal(0.0, uniform(rng, 0.5, 1.2), len(moments)), 6.0))
        out += convolve(snaps, blast(width_s, uniform(rng, 0.8, 2.0)))
    if rng.random() < 0.5:
        stove = modes(1_600, logs(rng, 150, 1_200, 5), logs(rng, 0.03, 0.1, 5), rng.uniform(0.2, 1.0, 5))
        out = level(out) + uniform(rng, 0.1, 0.5) * level(convolve(out, stove))
    else:
        out = level(out) + uniform(rng, 0.0, 0.02) * convolve(out, diffuse(3_000, rng, 0.1, 0.15))
    puffs = ramp(np.maximum(1.0 + uniform(rng, 0.2, 0.6) * turbulence(n, rng, uniform(rng, 4.0, 12.0), 2.0), 0.1), n)
    flame = unit(bandpass(noise(n, rng), log_uniform(rng, 40, 120), log_uniform(rng, 250, 1_200), 1)) * puffs
    for moment in poisson(n, rng, 0.1, 0).tolist():
        starts, falls = bounces(rng, uniform(rng, 0.03, 0.12), 0.7, 4)
        place(out, grains(8_000, starts, logs(rng, 120, 700, 4), np.full(4, 0.07), 0.3 * falls), moment)
    return level(out, 10.0) + log_uniform(rng, 0.05, 0.8) * flame


WATER: dict[str, tuple[Variant, ...]] = {
    "sea_waves": (_breakers, _rocks),
    "stream": (_riffles, _weir),
    "pouring_water": (_vessel, _glugs),
    "fire_crackling": (_logs, _twigs),
}
"""By the kind's name."""
