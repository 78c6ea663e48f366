"""Rain, streams, waves, drops, pouring and flushing: bubbles and grains (van den Doel 2005, Minnaert 1933)."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    cloud,
    curve,
    decay,
    highpass,
    log_uniform,
    lowpass,
    noise,
    num_samples,
    phase,
    place,
    resonator,
    shaped_noise,
    swell,
    times,
    uniform,
    unit,
    wander,
)


def bubble(rng: Rng, frequency_hz: float, rise: float, t60_s: float) -> Curve:
    """A bubble's ring: a damped sine (Minnaert's frequency) that climbs as the bubble nears the surface."""
    n = num_samples(t60_s * 1.1)
    f0 = np.minimum(frequency_hz * (1.0 + rise * times(n) / t60_s), 7_400.0)
    return np.asarray(np.sin(phase(f0, rng.uniform(0.0, 6.28))) * decay(n, t60_s, 0.001))


def _bubbles(rng: Rng, low_hz: float, high_hz: float, num: int = 10) -> list[Curve]:
    """A stock of bubbles; small ones are high and short."""
    out = []
    for _ in range(num):
        f0 = log_uniform(rng, low_hz, high_hz)
        ring = uniform(rng, 8.0, 30.0) / f0
        out.append(bubble(rng, f0, uniform(rng, 0.05, 0.6), max(ring, 0.006)) * (low_hz / f0) ** 0.3)
    return out


def _drop_grains(rng: Rng) -> list[Curve]:
    """Drops on leaves and ground: ticks of noise in different bands."""
    out = []
    for _ in range(8):
        n, high = int(rng.integers(24, 160)), log_uniform(rng, 1_500.0, 7_000.0)
        out.append(bandpass(noise(n, rng) * decay(n, n / 16_000.0), high * 0.4, high, 1))
    return out


def _rain(rng: Rng, duration_s: float) -> Samples:
    """Countless far drops as bright noise, near ones as grains."""
    n, heavy = num_samples(duration_s), rng.random()
    far = shaped_noise(n, rng, [100, 500, 2_000, 5_000, 8_000], [uniform(rng, -22, -8), -9, -2, 0, uniform(rng, -6, 2)])
    near = unit(cloud(n, rng, log_uniform(rng, 60.0, 600.0), _drop_grains(rng), 9.0))
    return far * (1.0 + 0.08 * wander(n, rng, 1.0)) + (1.4 - heavy) * near


def _rain_on_roof(rng: Rng, duration_s: float) -> Samples:
    """Drops on a roof or car: each excites a panel, over a dull hiss."""
    n = num_samples(duration_s)
    low = log_uniform(rng, 250.0, 900.0)
    grains = [
        resonator(noise(400, rng) * decay(400, 0.006), low * uniform(rng, 0.6, 3.0), uniform(rng, 150, 500))
        for _ in range(8)
    ]
    hits = unit(cloud(n, rng, log_uniform(rng, 80.0, 500.0), grains + _drop_grains(rng)[:4], 7.0))
    return hits + uniform(rng, 0.3, 0.9) * shaped_noise(n, rng, [80, 400, 3_000, 8_000], [-15, -3, 0, -8])


def _downpour(rng: Rng, duration_s: float) -> Samples:
    """Dense rain with splashes: very many clicks and small bubbles in puddles."""
    n = num_samples(duration_s)
    clicks = unit(
        cloud(n, rng, uniform(rng, 2_000.0, 6_000.0), [np.array([1.0, -0.8]), np.array([0.6, 0.3, -0.7])], 7.0)
    )
    puddles = unit(cloud(n, rng, uniform(rng, 30.0, 200.0), _bubbles(rng, 1_200.0, 5_000.0), 6.0))
    return lowpass(clicks, uniform(rng, 4_000.0, 7_500.0), 1) + uniform(rng, 0.2, 0.7) * puddles


def _stream(rng: Rng, duration_s: float) -> Samples:
    """A brook: a dense crowd of bubbles of all sizes, with a little hiss."""
    n, low = num_samples(duration_s), log_uniform(rng, 300.0, 700.0)
    run = unit(cloud(n, rng, uniform(rng, 150.0, 600.0), _bubbles(rng, low, low * uniform(rng, 4.0, 8.0), 16), 6.0))
    return run * (1.0 + 0.15 * wander(n, rng, 3.0)) + uniform(rng, 0.1, 0.5) * shaped_noise(
        n, rng, [100, 800, 4_000, 8_000], [-20, 0, -6, -16]
    )


def _river(rng: Rng, duration_s: float) -> Samples:
    """Running water as wandering resonances in noise (a babble of random pitches), after Farnell."""
    n = num_samples(duration_s)
    out = 0.5 * shaped_noise(n, rng, [60, 300, 1_500, 6_000], [-14, 0, -4, -18])
    for _ in range(5):
        f0 = np.clip(
            log_uniform(rng, 500.0, 2_200.0) * (1.0 + 0.35 * wander(n, rng, uniform(rng, 15.0, 40.0))), 150.0, 6_000.0
        )
        out += 0.5 * np.sin(phase(f0)) * np.maximum(wander(n, rng, uniform(rng, 12.0, 30.0)), 0.0) ** 1.5
    return out


def _waves(rng: Rng, duration_s: float) -> Samples:
    """Surf: noise swells and grows brighter as a wave breaks, then hisses away over the sand."""
    n, period = num_samples(duration_s), uniform(rng, 3.5, 8.0)
    position = (times(n) / period + rng.uniform()) % 1.0
    crest = np.interp(position, [0.0, 0.3, 0.45, 0.6, 1.0], [0.08, 0.35, 1.0, 0.5, 0.08])
    foam = np.interp(position, [0.0, 0.38, 0.5, 0.8, 1.0], [0.1, 0.1, 1.0, 0.4, 0.1])
    deep = shaped_noise(n, rng, [40, 150, 600, 2_000, 8_000], [-6, 0, -6, -18, -40])
    hiss = shaped_noise(n, rng, [200, 1_000, 4_000, 8_000], [-24, -4, 0, -6])
    return deep * crest + uniform(rng, 0.3, 0.9) * hiss * foam


def _breakers(rng: Rng, duration_s: float) -> Samples:
    """Overlapping breakers: single bursts of noise whose cut-off falls, on a constant roar."""
    n = num_samples(duration_s)
    out = uniform(rng, 0.08, 0.25) * shaped_noise(n, rng, [40, 300, 3_000, 8_000], [0, -4, -16, -30])
    start = -uniform(rng, 0.0, 2.0)
    while start < duration_s:
        num = num_samples(uniform(rng, 2.5, 5.0))
        rise = uniform(rng, 0.2, 0.45)
        shape = curve(num, [0.0, 0.25, 1.0, 0.35, 0.0], [0.0, rise * 0.7, rise, rise + 0.25, 1.0])
        loud, dull = lowpass(noise(num, rng), uniform(rng, 2_500.0, 6_000.0), 1), lowpass(noise(num, rng), 500.0, 1)
        wave = loud * shape**1.5 + 2.0 * dull * shape
        place(out, wave[max(0, -round(start * 16_000)) :], max(start, 0.0), uniform(rng, 0.5, 1.0))
        start += uniform(rng, 1.8, 4.5)
    return out


def _drips(rng: Rng, duration_s: float) -> Samples:
    """Single drops into a basin: a tick, then a rising bubble a few milliseconds later."""
    out, start, pitch = np.zeros(num_samples(duration_s)), 0.0, log_uniform(rng, 700.0, 2_400.0)
    while start < duration_s - 0.1:
        drop = bubble(rng, pitch * uniform(rng, 0.75, 1.35), uniform(rng, 0.1, 0.9), uniform(rng, 0.03, 0.14))
        place(out, highpass(noise(80, rng) * decay(80, 0.004), 2_000.0), start, 0.15)
        place(out, drop, start + uniform(rng, 0.002, 0.02), uniform(rng, 0.5, 1.0))
        if rng.random() < 0.3:
            place(out, bubble(rng, pitch * 1.8, 0.4, 0.03), start + uniform(rng, 0.03, 0.08), 0.4)
        start += uniform(rng, 0.25, 0.9)
    return out


def _plinks(rng: Rng, duration_s: float) -> Samples:
    """Drops on a hollow vessel: a short pulse through a cavity whose pitch jumps up."""
    n, cavity = num_samples(duration_s), log_uniform(rng, 500.0, 1_500.0)
    out = np.zeros(n)
    for start in np.cumsum(rng.uniform(0.2, 0.8, 12)) - 0.2:
        num = num_samples(0.2)
        pitch = cavity * uniform(rng, 0.9, 1.1)
        f0 = np.where(times(num) < uniform(rng, 0.008, 0.02), pitch, pitch * uniform(rng, 1.3, 1.9))
        turn = phase(f0)
        drop = (np.sin(turn) + 0.3 * np.sin(2.76 * turn)) * decay(num, uniform(rng, 0.06, 0.2), 0.001)
        place(out, drop, start, uniform(rng, 0.4, 1.0))
    return out


def _pouring(rng: Rng, duration_s: float) -> Samples:
    """Water into a glass: bubbles and splash through an air column that shortens, so that its pitch climbs."""
    n = num_samples(duration_s)
    run = unit(cloud(n, rng, uniform(rng, 200.0, 700.0), _bubbles(rng, 500.0, 3_500.0, 12), 6.0))
    splash = run + uniform(rng, 0.3, 0.8) * shaped_noise(n, rng, [100, 1_000, 5_000, 8_000], [-20, -2, 0, -8])
    low = uniform(rng, 350.0, 700.0)
    out, steps = 0.35 * splash, 6
    for index in range(steps):
        weight = np.zeros(steps)
        weight[index] = 1.0
        f0 = low * (1.0 + uniform(rng, 1.8, 2.2) * (index / (steps - 1)) ** 1.5)
        out += 2.5 * resonator(splash, f0, f0 * 0.12) * curve(n, weight.tolist())
    return out * swell(n, 0.05, 0.08)


def _glugs(rng: Rng, duration_s: float) -> Samples:
    """A bottle that glugs: large bubbles at an even rate, climbing slowly, over a trickle."""
    n, rate = num_samples(duration_s), uniform(rng, 5.0, 11.0)
    out = 0.12 * unit(cloud(n, rng, 250.0, _bubbles(rng, 900.0, 4_000.0), 6.0))
    low = uniform(rng, 220.0, 420.0)
    for start in np.arange(0.0, duration_s, 1.0 / rate):
        begin = start + uniform(rng, 0.0, 0.3) / rate
        f0 = low * (1.0 + 0.8 * begin / duration_s) * uniform(rng, 0.92, 1.08)
        place(out, bubble(rng, f0, uniform(rng, 0.2, 0.7), uniform(rng, 0.08, 0.16)), begin, uniform(rng, 0.5, 1.0))
    return out


def _flush(rng: Rng, duration_s: float) -> Samples:
    """A toilet: a click, a rush that darkens, gurgles at the end and the hiss of the cistern."""
    n, middle = num_samples(duration_s), uniform(rng, 0.45, 0.65)
    rush = shaped_noise(n, rng, [60, 250, 900, 3_000, 8_000], [-6, 0, -2, -10, -22]) * curve(
        n, [0, 1, 0.9, 0.25, 0.1], [0, 0.08, middle, middle + 0.2, 1]
    )
    swirl = unit(cloud(n, rng, uniform(rng, 60.0, 200.0), _bubbles(rng, 150.0, 900.0, 12), 6.0)) * curve(
        n, [0.1, 0.5, 1.0, 0.2], [0, 0.3, middle, 1]
    )
    hiss = shaped_noise(n, rng, [500, 2_500, 5_000, 8_000], [-30, -3, 0, -6]) * curve(n, [0.05, 0.15, 0.25])
    return rush * (1.0 + 0.15 * wander(n, rng, 8.0)) + uniform(rng, 0.3, 0.8) * swirl + hiss


def _flush_wide(rng: Rng, duration_s: float) -> Samples:
    """A flush as noise through a falling resonance of the bowl, with a sucking end."""
    n = num_samples(duration_s)
    source = noise(n, rng) * (1.0 + 0.4 * wander(n, rng, 20.0))
    high, low = bandpass(source, 500.0, 3_500.0, 1), bandpass(source, 120.0, 600.0, 1)
    fade = curve(n, [0.0, 1.0, 0.7, 0.1, 0.05], [0.0, 0.1, 0.55, 0.8, 1.0])
    gulps = np.maximum(wander(n, rng, 9.0), 0.0) * curve(n, [0.0, 0.2, 1.5, 0.0], [0.0, 0.5, 0.78, 1.0])
    return unit(high) * fade + unit(low) * (fade**2 + gulps)


def _lapping(rng: Rng, duration_s: float) -> Samples:
    """Small waves at a shore: each washes in with bubbles and draws back over pebbles."""
    n, out, start = num_samples(duration_s), np.zeros(num_samples(duration_s)), 0.0
    pebbles = _bubbles(rng, 500.0, 3_000.0, 8) + _drop_grains(rng)
    while start < duration_s:
        num = num_samples(uniform(rng, 1.5, 3.5))
        wash = unit(lowpass(noise(num, rng), uniform(rng, 900.0, 3_000.0), 1)) * swell(num, 0.35, 0.6)
        wash += uniform(rng, 0.2, 0.6) * unit(cloud(num, rng, 250.0, pebbles, 6.0)) * swell(num, 0.5, 0.45)
        place(out, wash, start, uniform(rng, 0.4, 1.0))
        start += uniform(rng, 1.2, 3.0)
    return out + 0.1 * shaped_noise(n, rng, [40, 200, 1_000, 8_000], [0, -2, -12, -36])


def _tap(rng: Rng, duration_s: float) -> Samples:
    """A running tap or gutter: fine spray with resonances of the basin and quick gurgles."""
    n = num_samples(duration_s)
    spray = shaped_noise(n, rng, [100, 600, 2_000, 5_000, 8_000], [-18, -6, 0, uniform(rng, -6, 2), -10])
    basin = resonator(spray, log_uniform(rng, 300.0, 900.0), 120.0) + resonator(
        spray, log_uniform(rng, 900.0, 2_200.0), 300.0
    )
    gurgle = unit(cloud(n, rng, uniform(rng, 40.0, 250.0), _bubbles(rng, 350.0, 2_400.0, 14), 7.0))
    return 0.4 * spray * (1.0 + 0.2 * wander(n, rng, 12.0)) + unit(basin) * 0.5 + uniform(rng, 0.5, 1.2) * gurgle


def _cave_drops(rng: Rng, duration_s: float) -> Samples:
    """Drops in a hollow place: a falling-then-rising blip and a few echoes."""
    n, out, start = num_samples(duration_s), np.zeros(num_samples(duration_s)), 0.0
    while start < duration_s - 0.1:
        num, pitch = num_samples(0.12), log_uniform(rng, 600.0, 3_000.0)
        blip = np.sin(phase(pitch * curve(num, [1.3, 1.0, 1.1, 1.6], [0.0, 0.1, 0.4, 1.0]))) * decay(
            num, uniform(rng, 0.04, 0.12)
        )
        for index in range(int(rng.integers(1, 5))):
            place(out, blip, start + 0.07 * index * uniform(rng, 0.7, 1.4), 0.45**index)
        start += uniform(rng, 0.3, 1.1)
    return out + 0.001 * noise(n, rng)


def _filling(rng: Rng, duration_s: float) -> Samples:
    """A glass that fills: bubbles whose size shrinks with time, so that the whole rises in pitch."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    low, climb = uniform(rng, 300.0, 600.0), uniform(rng, 1.5, 3.0)
    parts = 5
    for index in range(parts):
        f0 = low * climb ** (index / (parts - 1))
        weight = np.zeros(parts)
        weight[index] = 1.0
        out += unit(cloud(n, rng, uniform(rng, 80.0, 200.0), _bubbles(rng, f0, f0 * 2.5, 4), 6.0)) * curve(
            n, weight.tolist()
        )
    spray = shaped_noise(n, rng, [200, 1_500, 5_000, 8_000], [-24, -4, 0, -6])
    return (out + uniform(rng, 0.1, 0.4) * spray) * swell(n, 0.04, 0.06)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = False) -> Kind:
    return Kind(name, label, noun, sentence, "water", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("rain", "rain falling", "rain", "rain falls", "rainfall", "a shower", steady=True),
        (2.0, 8.0),
        (_rain, _rain_on_roof, _downpour),
    ),
    Recipe(
        _kind("stream", "a stream flowing", "stream", "a stream flows", "running water", "a brook", steady=True),
        (2.0, 8.0),
        (_stream, _tap, _river),
    ),
    Recipe(
        _kind("sea_waves", "sea waves breaking", "waves", "waves break on a shore", "the sea", "surf", steady=True),
        (3.0, 9.0),
        (_waves, _lapping, _breakers),
    ),
    Recipe(
        _kind(
            "water_drops",
            "water dripping",
            "water drops",
            "water drips",
            "dripping water",
            "a dripping tap",
            steady=True,
        ),
        (1.5, 5.0),
        (_drips, _cave_drops, _plinks),
    ),
    Recipe(
        _kind("pouring_water", "water being poured", "pouring water", "somebody pours water", "pouring a drink"),
        (1.2, 3.8),
        (_pouring, _filling, _glugs),
    ),
    Recipe(
        _kind("toilet_flush", "a toilet flushing", "toilet", "a toilet flushes", "a flush", "flushing"),
        (2.2, 4.0),
        (_flush, _flush_wide),
    ),
)
