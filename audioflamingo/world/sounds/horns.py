"""Church bells, whistles, the horns of cars and trains, and Morse code."""

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
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    partials,
    phase,
    place,
    resonate,
    resonator,
    sine,
    smooth,
    swell,
    times,
    uniform,
    unit,
    wander,
)

BELL_RATIOS = np.array(
    [0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0, 5.3, 6.7]
)  # hum, prime, tierce, quint, nominal ...


def _church_bell(rng: Rng, duration_s: float) -> Samples:
    """A minor-third bell by its partials, each split in two that beat, with the clang of the clapper."""
    n, prime, ring = num_samples(duration_s), log_uniform(rng, 160.0, 620.0), uniform(rng, 3.0, 9.0)
    ratios = BELL_RATIOS * (1.0 + 0.006 * rng.standard_normal(len(BELL_RATIOS)))
    decays = ring / np.maximum(ratios, 0.6) ** 0.9
    gains = rng.uniform(0.3, 1.0, len(ratios)) / (1.0 + 0.2 * ratios)
    pair = 1.0 + rng.uniform(0.0005, 0.004, len(ratios))
    out = modes(n, prime * ratios, decays, gains) + 0.6 * modes(n, prime * ratios * pair, decays, gains)
    return out + 0.5 * unit(bandpass(noise(n, rng), 1_500.0, 6_000.0)) * decay(n, 0.06)


def _modulated_bell(rng: Rng, duration_s: float) -> Samples:
    """Chowning's bell: an inharmonic modulator whose index dies away with the loudness."""
    n, f0, ring = num_samples(duration_s), log_uniform(rng, 180.0, 600.0), uniform(rng, 3.0, 8.0)
    turn, fade = times(n) * 2.0 * np.pi * f0, decay(n, ring, 0.003)
    ratio = (1.4, 1.19, 2.41)[int(rng.integers(3))] * uniform(rng, 0.98, 1.02)
    strike = np.sin(turn + uniform(rng, 2.0, 5.0) * fade * np.sin(ratio * turn))
    return strike * fade + 0.4 * np.sin(0.5 * turn + 1.0) * decay(n, ring * 1.5)


def _pealing(rng: Rng, duration_s: float) -> Samples:
    """A bell that swings: strokes about a second apart through a bank of measured-like random modes."""
    n, prime, period = num_samples(duration_s), log_uniform(rng, 200.0, 500.0), uniform(rng, 0.7, 1.4)
    ratios = np.sort(np.concatenate(([0.5, 1.0, 1.2, 2.0], rng.uniform(1.4, 9.0, 14))))
    one = modes(n, prime * ratios, uniform(rng, 2.0, 5.0) / ratios**0.7, 1.0 / (0.5 + ratios))
    out, start = np.zeros(n), 0.0
    while start < duration_s - 0.3:
        place(out, one, start, uniform(rng, 0.6, 1.0))
        start += period * uniform(rng, 0.95, 1.05)
    return out


def _pea_whistle(rng: Rng, duration_s: float) -> Samples:
    """A referee's whistle: two close tones, chopped by the pea at 25 to 50 Hz, with air noise."""
    n, pitch = num_samples(duration_s), uniform(rng, 2_000.0, 3_600.0)
    pea = np.sin(phase(uniform(rng, 25.0, 50.0) * (1.0 + 0.1 * wander(n, rng, 4.0))))
    f0 = pitch * curve(n, [0.94, 1.0, 1.0, 0.95], [0.0, 0.06, 0.9, 1.0]) * (1.0 + 0.02 * pea)
    tone = np.sin(phase(f0)) + 0.7 * np.sin(phase(f0 * uniform(rng, 1.03, 1.12))) + 0.1 * np.sin(phase(2.0 * f0))
    air = unit(bandpass(noise(n, rng), pitch * 0.8, pitch * 1.3))
    return (tone * (1.0 + 0.6 * pea) + uniform(rng, 0.05, 0.2) * air) * swell(n, 0.04, 0.06)


def _lips(rng: Rng, duration_s: float) -> Samples:
    """Somebody whistling: a sine that slides between one and four notes, with breath around it."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 900.0, 2_200.0)
    notes = pitch * 2.0 ** (rng.integers(-5, 8, int(rng.integers(2, 5))) / 12.0)
    f0 = smooth(np.repeat(notes, -(-n // len(notes)))[:n] - notes[0], 12.0) + notes[0]
    f0 *= 1.0 + uniform(rng, 0.002, 0.012) * np.sin(times(n) * 2.0 * np.pi * uniform(rng, 4.5, 7.0))
    breath = unit(bandpass(noise(n, rng), pitch * 0.9, pitch * 2.5))
    return (np.sin(phase(f0)) + 0.03 * breath) * swell(n, 0.08, 0.15) * (1.0 + 0.1 * wander(n, rng, 5.0))


def _jet_whistle(rng: Rng, duration_s: float) -> Samples:
    """A tin whistle without a pea: noise forced through a very sharp resonance and its octave."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 1_800.0, 3_800.0)
    air = noise(n, rng)
    body = unit(resonator(resonator(air, pitch, 25.0), pitch, 40.0)) + 0.1 * unit(resonator(air, 2.0 * pitch, 80.0))
    return np.tanh(2.0 * body) * swell(n, 0.05, 0.1) + 0.04 * air * swell(n, 0.02, 0.1)


def _car_horn(rng: Rng, duration_s: float) -> Samples:
    """Two electromagnetic horns a third apart: rich pulses through the peaks of their trumpets."""
    n, low = num_samples(duration_s), uniform(rng, 300.0, 480.0)
    start = curve(n, [0.96, 1.0, 1.0, 0.98], [0.0, 0.03, 0.97, 1.0])
    source = buzz(low * start, 0.975) + buzz(low * uniform(rng, 1.18, 1.28) * start, 0.975) * (rng.random() < 0.8)
    cone = resonate(source, [900, 1_700, 2_600, 3_600], [350, 500, 700, 900], rng.uniform(0.4, 1.0, 4).tolist())
    return (cone + 0.3 * lowpass(source, 1_200.0)) * swell(n, 0.02, 0.05)


def _beeping_horn(rng: Rng, duration_s: float) -> Samples:
    """A driver who hits the horn once or twice: clipped sums of sines, with a mechanical onset."""
    n, low = num_samples(duration_s), uniform(rng, 320.0, 520.0)
    gate = (swell(n, 0.02, 0.05), curve(n, [0, 1, 1, 0, 0, 1, 1, 0], [0, 0.02, 0.33, 0.36, 0.5, 0.52, 0.97, 1]))[
        int(rng.integers(2))
    ]
    tones = np.sin(phase(np.full(n, low))) + np.sin(phase(np.full(n, low * 1.25)) + 1.0)
    body = np.tanh(uniform(rng, 2.0, 5.0) * tones + 0.3)
    return bandpass(body, 250.0, uniform(rng, 2_500.0, 5_000.0), 1) * gate


def _old_horn(rng: Rng, duration_s: float) -> Samples:
    """A single reed horn (ah-oo-gah or hoot) as harmonics with a scooped pitch."""
    n, pitch = num_samples(duration_s), uniform(rng, 250.0, 420.0)
    f0 = pitch * curve(n, [0.8, 1.0, 1.0, 0.85], [0.0, 0.12, 0.8, 1.0])
    gains = rng.uniform(0.3, 1.0, 20) * np.exp(-0.5 * ((np.arange(1, 21) - 4.0) / 4.0) ** 2) + 0.08
    return partials(n, f0, gains) * (1.0 + 0.2 * np.sin(phase(np.full(n, 47.0)))) * swell(n, 0.04, 0.08)


CHORDS = ((1.0, 1.189, 1.414, 1.682), (1.0, 1.19, 1.41, 1.59, 1.89), (1.0, 1.25, 1.5), (1.0, 1.2, 1.5))


def _air_horn(rng: Rng, duration_s: float) -> Samples:
    """A diesel's chord of three to five air chimes, opened and closed together."""
    n, root = num_samples(duration_s), uniform(rng, 220.0, 330.0)
    out, blow = np.zeros(n), curve(n, [0.97, 1.0, 1.0, 0.95], [0.0, 0.08, 0.85, 1.0])
    for ratio in CHORDS[int(rng.integers(len(CHORDS)))]:
        f0 = root * ratio * uniform(rng, 0.99, 1.01) * blow * (1.0 + 0.002 * wander(n, rng, 6.0))
        out += smooth(buzz(f0, 0.95), 1_800.0)
    return (unit(out) + 0.06 * noise(n, rng)) * swell(n, 0.08, uniform(rng, 0.1, 0.3))


def _steam_whistle(rng: Rng, duration_s: float) -> Samples:
    """Steam: breathy sines in a chord, pitch rising with pressure, with hiss."""
    n, root = num_samples(duration_s), log_uniform(rng, 350.0, 700.0)
    press = curve(n, [0.85, 1.0, 1.0, 0.9], [0.0, 0.15, 0.8, 1.0])
    out = np.zeros(n)
    for ratio in CHORDS[int(rng.integers(len(CHORDS)))]:
        f0 = root * ratio * press * (1.0 + 0.004 * wander(n, rng, 12.0))
        out += partials(n, f0, [1.0, 0.25, 0.12])
    hiss = unit(bandpass(noise(n, rng), root, 6_000.0, 1))
    return (unit(out) + uniform(rng, 0.15, 0.4) * hiss) * swell(n, 0.1, 0.15)


def _blasted_horn(rng: Rng, duration_s: float) -> Samples:
    """Long-short blasts of a chord in FM, brighter while louder."""
    n, root = num_samples(duration_s), uniform(rng, 230.0, 360.0)
    gate = smooth(((times(n) % uniform(rng, 0.9, 1.6)) > 0.18).astype(float), 12.0)
    out = np.zeros(n)
    for ratio in CHORDS[int(rng.integers(len(CHORDS)))]:
        turn = phase(root * ratio * (0.95 + 0.05 * gate))
        out += np.sin(turn + 2.2 * gate * np.sin(turn) + 0.5 * np.sin(2.0 * turn))
    return out * gate * swell(n, 0.05, 0.15)


CODES = (".-", "-...", "-.-.", "-..", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.", "---", "...", "-")


def _keying(rng: Rng, duration_s: float) -> Curve:
    """On and off of a Morse key, at 8 to 25 words a minute."""
    n, dot = num_samples(duration_s), 1.2 / uniform(rng, 8.0, 25.0)
    gate, start = np.zeros(n), 0.0
    while start < duration_s - dot:
        for mark in CODES[int(rng.integers(len(CODES)))]:
            length_s = dot if mark == "." else 3.0 * dot
            place(gate, np.ones(num_samples(length_s)), start)
            start += length_s + dot
        start += 2.0 * dot
    return np.minimum(gate, 1.0)


def _morse(rng: Rng, duration_s: float) -> Samples:
    """A keyed sine."""
    gate = smooth(_keying(rng, duration_s), uniform(rng, 40.0, 150.0))
    return sine(len(gate), log_uniform(rng, 450.0, 1_100.0)) * gate


def _spark(rng: Rng, duration_s: float) -> Samples:
    """A buzzing key: a spark transmitter's rough tone, or a pulse tone in static."""
    gate = smooth(_keying(rng, duration_s), 200.0)
    n = len(gate)
    tone = buzz(log_uniform(rng, 350.0, 800.0) * (1.0 + 0.01 * wander(n, rng, 40.0)), uniform(rng, 0.6, 0.95))
    return bandpass(tone, 300.0, 3_000.0, 1) * gate + uniform(rng, 0.0, 0.04) * noise(n, rng)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = False) -> Kind:
    return Kind(name, label, noun, sentence, "alarms", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("church_bell", "a church bell ringing", "church bell", "a church bell rings", "a tolling bell", "a bell"),
        (2.0, 4.0),
        (_church_bell, _pealing, _modulated_bell),
    ),
    Recipe(
        _kind("whistle", "a whistle blowing", "whistle", "a whistle blows", "whistling", "a referee's whistle"),
        (0.4, 1.6),
        (_pea_whistle, _lips, _jet_whistle),
    ),
    Recipe(
        _kind("car_horn", "a car horn honking", "car horn", "a car horn honks", "a honk", "a honking car"),
        (0.3, 1.6),
        (_car_horn, _beeping_horn, _old_horn),
    ),
    Recipe(
        _kind("train_horn", "a train horn blowing", "train horn", "a train horn blows", "a train whistle"),
        (1.2, 4.0),
        (_air_horn, _steam_whistle, _blasted_horn),
    ),
    Recipe(
        _kind("morse_code", "Morse code beeping", "Morse code", "Morse code beeps", "a telegraph", steady=True),
        (1.5, 4.0),
        (_morse, _spark),
    ),
)
