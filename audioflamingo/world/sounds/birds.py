"""Songbirds, crows, cocks, hens and owls."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.mammals import scaled, voiced
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    buzz,
    curve,
    log_uniform,
    noise,
    num_samples,
    partials,
    phase,
    place,
    swell,
    times,
    uniform,
    unit,
    wander,
)
from audioflamingo.world.sounds.vocal import (
    Call,
    additive,
    modulated,
    source_filter,
    wave_functions,
)


def _whistled(f0: Curve, rng: Rng) -> Curve:
    """A syrinx: nearly a sine, with a weak octave."""
    turn = phase(f0)
    return np.asarray(np.sin(turn) + uniform(rng, 0.0, 0.15) * np.sin(2.0 * turn) * (np.max(f0) < 3_700.0))


def _chirps(rng: Rng, duration_s: float) -> Samples:
    """A phrase of short swept notes, each drawn from a repertoire of one to three."""
    out = np.zeros(num_samples(duration_s))
    centre = log_uniform(rng, 2_200.0, 5_200.0)
    repertoire = [(uniform(rng, 0.03, 0.14), rng.uniform(0.65, 1.3, 3) * centre) for _ in range(rng.integers(1, 4))]
    start, gap = 0.0, uniform(rng, 0.03, 0.2)
    while start < duration_s - 0.03:
        length_s, pitches = repertoire[int(rng.integers(len(repertoire)))]
        n = num_samples(length_s)
        f0 = np.minimum(curve(n, pitches.tolist()), 7_300.0)
        place(out, _whistled(f0, rng) * swell(n, 0.25, 0.5), start, uniform(rng, 0.6, 1.0))
        start += length_s + gap * uniform(rng, 0.7, 1.4)
    return out


def _trill(rng: Rng, duration_s: float) -> Samples:
    """One long note whose pitch and loudness are modulated fast, as by a canary or a wren."""
    n = num_samples(duration_s)
    rate = log_uniform(rng, 9.0, 35.0) * curve(n, [1.0, uniform(rng, 0.8, 1.3)])
    turn = phase(rate)
    centre = log_uniform(rng, 2_500.0, 5_500.0) * curve(n, [uniform(rng, 0.9, 1.1), 1.0, uniform(rng, 0.8, 1.2)])
    f0 = np.clip(centre * (1.0 + uniform(rng, 0.05, 0.25) * np.sin(turn)), 500.0, 7_400.0)
    gate = np.clip(0.5 + uniform(rng, 0.5, 1.2) * np.sin(turn + uniform(rng, 0, 6.28)), 0.0, 1.0)
    return _whistled(f0, rng) * gate * swell(n, 0.1, 0.15)


def _tweets(rng: Rng, duration_s: float) -> Samples:
    """Two-note calls made by frequency modulation with side tones, like a sparrow's or a chickadee's."""
    out = np.zeros(num_samples(duration_s))
    pitch, start = log_uniform(rng, 2_400.0, 4_300.0), 0.0
    while start < duration_s - 0.08:
        for ratio in (1.0, uniform(rng, 0.75, 1.25)):
            n = num_samples(uniform(rng, 0.05, 0.16))
            f0 = pitch * ratio * curve(n, [0.92, 1.05, 0.95])
            carrier = phase(f0) + uniform(rng, 0.3, 1.5) * np.sin(phase(f0 * 0.0 + uniform(rng, 90.0, 400.0)))
            place(out, np.sin(carrier) * swell(n, 0.15, 0.4), start)
            start += n / 16_000.0 + uniform(rng, 0.01, 0.05)
        start += uniform(rng, 0.05, 0.3)
    return out


def _caw(rng: Rng, duration_s: float) -> Call:
    n, pitch = num_samples(duration_s), log_uniform(rng, 280.0, 560.0)
    f0 = pitch * curve(n, [0.9, 1.08, 1.0, 0.8]) * (1.0 + 0.03 * wander(n, rng, 25.0))
    mouth = scaled(((1000, 1700, 2900), (1250, 1900, 3100), (1050, 1600, 2900)), uniform(rng, 0.85, 1.2))
    shape = swell(n, uniform(rng, 0.08, 0.2), uniform(rng, 0.25, 0.5))
    return Call(f0, shape, mouth, uniform(rng, 0.15, 0.4), uniform(rng, 0.6, 1.0), 4_000.0, 0.2)


def _croaky_caw(rng: Rng, duration_s: float) -> Samples:
    """A caw from a harsh pulse train, multiplied by a growl of 30 to 70 Hz and squeezed."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 300.0, 520.0)
    f0 = pitch * curve(n, [0.85, 1.1, 1.0, 0.75]) * (1.0 + 0.05 * wander(n, rng, 60.0))
    growl = 1.0 + 0.9 * np.sin(phase(curve(n, [1.0, 0.8]) * uniform(rng, 30.0, 70.0)) + wander(n, rng, 20.0))
    body = bandpass(buzz(f0, 0.99), 900.0, 2_400.0, 1) + 0.4 * bandpass(noise(n, rng), 1_000.0, 3_000.0)
    return np.tanh(1.5 * unit(body) * growl) * swell(n, 0.12, 0.4)


def _crow(rng: Rng, duration_s: float) -> Call:
    """Cock-a-doodle-doo: three or four syllables, the last but one the highest, the last one long."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 420.0, 680.0)
    high, long = uniform(rng, 1.5, 2.0), uniform(rng, 1.5, 1.9)
    at = [0.0, 0.1, 0.15, 0.27, 0.33, 0.45, 0.52, 0.62, 0.85, 1.0]
    f0 = pitch * curve(n, [0.9, 1.15, 1.1, 1.4, 1.3, high, 1.4, long, long * 0.9, long * uniform(rng, 0.45, 0.7)], at)
    dips = [0.0, 0.03, 0.12, 0.15, 0.18, 0.29, 0.31, 0.34, 0.47, 0.5, 0.54, 0.85, 1.0]
    shape = curve(n, [0.0, 0.6, 0.6, 0.02, 0.7, 0.7, 0.05, 0.9, 0.9, 0.2, 1.0, 0.8, 0.0], dips)
    mouth = scaled(
        ((750, 1500, 2800), (900, 1900, 3100), (1100, 2200, 3400), (1000, 1900, 3200), (850, 1600, 2900)),
        uniform(rng, 0.9, 1.2),
    )
    return Call(f0, shape, mouth, uniform(rng, 0.03, 0.15), uniform(rng, 0.1, 0.4), 4_000.0, 0.16)


def _short_crow(rng: Rng, duration_s: float) -> Call:
    """A bantam's crow: two short calls and one long scream that falls."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 650.0, 950.0)
    f0 = pitch * curve(n, [0.8, 1.0, 0.9, 1.1, 1.0, 1.35, 1.2, 0.7], [0.0, 0.12, 0.2, 0.34, 0.42, 0.52, 0.8, 1.0])
    shape = curve(n, [0, 0.7, 0.7, 0, 0.8, 0.8, 0, 1, 0.9, 0], [0, 0.04, 0.14, 0.19, 0.23, 0.35, 0.41, 0.46, 0.85, 1])
    mouth = scaled(((900, 1900, 3300), (1300, 2400, 3700), (1000, 2000, 3400)), uniform(rng, 0.9, 1.15))
    return Call(f0, shape, mouth, 0.1, uniform(rng, 0.2, 0.6), 4_000.0, 0.18)


def _cluck(rng: Rng, duration_s: float) -> Call:
    """A run of short clucks that may end in a squawk: bok, bok, bok, bagaw."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 380.0, 620.0)
    shape, f0, start = np.zeros(n), np.full(n, pitch), 0.0
    while start < duration_s - 0.1:
        last = duration_s - start < 0.5 and rng.random() < 0.7
        length_s = duration_s - start if last else uniform(rng, 0.05, 0.1)
        num = num_samples(length_s)
        place(shape, swell(num, 0.15, 0.6), start, 1.0 if last else uniform(rng, 0.4, 0.8))
        place(f0, pitch * curve(num, [0.2, uniform(rng, 0.5, 1.0) if last else 0.3, -0.2]), start)
        start += length_s + uniform(rng, 0.12, 0.28)
    mouth = scaled(((800, 1500, 2900), (1000, 1700, 3100)), uniform(rng, 0.9, 1.25))
    return Call(
        np.maximum(f0, 200.0),
        np.minimum(shape, 1.0),
        mouth,
        uniform(rng, 0.05, 0.25),
        uniform(rng, 0.2, 0.6),
        3_000.0,
        0.16,
    )


def _hoots(rng: Rng, duration_s: float) -> Samples:
    """A tawny owl: one long hoot, a pause, then a quavering one; or a horned owl's rhythm of short ones."""
    out, pitch = np.zeros(num_samples(duration_s)), log_uniform(rng, 280.0, 700.0)
    rhythms = ([0.0, 0.3, 0.3, 0.65], [0.0, 0.1, 0.18, 0.28, 0.36, 0.6, 0.68, 0.98], [0.0, 0.2, 0.3, 0.5, 0.6, 0.8])
    edges = rhythms[int(rng.integers(len(rhythms)))]
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        n = num_samples((end - begin) * duration_s)
        quaver = 1.0 + 0.015 * wander(n, rng, 12.0)
        f0 = pitch * curve(n, [0.92, 1.0, 1.0, 0.9]) * quaver
        tone = partials(n, f0, [1.0, uniform(rng, 0.02, 0.15), uniform(rng, 0.01, 0.06)])
        breath = unit(bandpass(noise(n, rng), pitch * 0.8, pitch * 1.5))
        place(out, (tone + uniform(rng, 0.02, 0.08) * breath) * swell(n, 0.3, 0.35), begin * duration_s)
    return out


def _blown_hoots(rng: Rng, duration_s: float) -> Samples:
    """Hoots as narrow noise: air across a cavity, so that pitch and level flutter."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 300.0, 550.0)
    t, period = times(n) / duration_s, uniform(rng, 0.22, 0.5)
    gate = np.clip(np.sin(np.pi * (t % period) / (0.62 * period)), 0.0, 1.0) * ((t % period) < 0.62 * period)
    air = unit(bandpass(noise(n, rng), pitch * 0.97, pitch * 1.03, 1))
    tone = np.sin(phase(pitch * (0.94 + 0.06 * gate)))
    return (tone + 0.5 * air) * gate**0.7 * swell(n, 0.02, 0.02)


def _hoo(rng: Rng, duration_s: float) -> Call:
    """A deep hoo-hoo with an audible throat: two to four pulses of a low, soft voice."""
    n, count = num_samples(duration_s), int(rng.integers(2, 5))
    position = (np.linspace(0.0, count - 1e-6, n)) % 1.0
    shape = np.clip(np.sin(np.pi * position / uniform(rng, 0.55, 0.85)), 0.0, 1.0)
    f0 = log_uniform(rng, 250.0, 480.0) * (0.93 + 0.07 * shape)
    mouth = ((360.0, 720.0),)
    return Call(f0, shape * swell(n, 0.02, 0.05), mouth, uniform(rng, 0.02, 0.12), 0.05, 400.0)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str) -> Kind:
    return Kind(name, label, noun, sentence, "animals", phrases)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind(
            "bird_chirp", "a bird chirping", "bird", "a bird chirps", "birdsong", "a singing bird", "a tweeting bird"
        ),
        (0.5, 2.5),
        (_chirps, _trill, _tweets),
    ),
    Recipe(
        _kind("crow_caw", "a crow cawing", "crow", "a crow caws", "a caw", "a cawing crow"),
        (0.22, 0.6),
        (voiced(_caw, source_filter), voiced(_caw, additive, wave_functions), _croaky_caw),
        most_repeats=3,
        gap_s=(0.15, 0.5),
    ),
    Recipe(
        _kind(
            "rooster_crow", "a rooster crowing", "rooster", "a rooster crows", "a cock-a-doodle-doo", "a crowing cock"
        ),
        (1.4, 2.8),
        (voiced(_crow, source_filter), voiced(_crow, additive), voiced(_short_crow, modulated, wave_functions)),
    ),
    Recipe(
        _kind("hen_cluck", "a hen clucking", "hen", "a hen clucks", "clucking", "a chicken clucking"),
        (0.8, 2.4),
        (voiced(_cluck, source_filter), voiced(_cluck, additive), voiced(_cluck, modulated)),
    ),
    Recipe(
        _kind("owl_hoot", "an owl hooting", "owl", "an owl hoots", "a hoot", "a hooting owl"),
        (1.2, 3.0),
        (_hoots, voiced(_hoo, source_filter, additive), _blown_hoots),
    ),
)
