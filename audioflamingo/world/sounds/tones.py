"""Single notes of instruments, drum strokes, and a sweeping test tone."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Rng,
    Samples,
    bandpass,
    buzz,
    curve,
    decay,
    highpass,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    partials,
    phase,
    place,
    pluck,
    resonate,
    smooth,
    swell,
    times,
    uniform,
    unit,
    wander,
)


def midi_hz(note: float) -> float:
    """Frequency of a MIDI note: 69 is A at 440 Hz."""
    return float(440.0 * 2.0 ** ((note - 69.0) / 12.0))


def _piano(rng: Rng, duration_s: float) -> Samples:
    """Three slightly detuned stiff strings: stretched partials, two stages of decay, the knock of the hammer."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(33, 88)))
    order = np.arange(1, max(2, min(30, int(7_400.0 / f0))) + 1)
    freqs = f0 * order * np.sqrt(1.0 + uniform(rng, 1e-4, 6e-4) * order**2)
    gains = np.abs(np.sin(np.pi * order / uniform(rng, 7.0, 9.0))) / order ** uniform(rng, 0.8, 1.5) + 0.02 / order
    t60 = np.clip(6.0 * (220.0 / f0) ** 0.5, 0.8, 9.0) / order**0.5
    out = modes(n, freqs, t60, gains) + 0.4 * modes(n, freqs * 1.0009, t60 * 2.0, gains)
    knock = unit(bandpass(noise(n, rng), 80.0, 900.0)) * decay(n, 0.06)
    return out + 0.06 * float(np.abs(out).max()) * knock


def _felt(rng: Rng, duration_s: float) -> Samples:
    """An electric piano in FM: a tine of fourteen times the pitch that dies at once, a body that stays."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(40, 84)))
    turn = times(n) * 2.0 * np.pi * f0
    body = np.sin(turn + uniform(rng, 0.6, 1.8) * decay(n, 1.5) * np.sin(turn)) * decay(
        n, uniform(rng, 2.0, 5.0), 0.002
    )
    tine = np.sin(turn + 0.5 * np.sin(min(14.0, 6_000.0 / f0) * turn)) * decay(n, 0.4, 0.001)
    return body + uniform(rng, 0.2, 0.5) * tine


def _guitar(rng: Rng, duration_s: float) -> Samples:
    """A plucked string (Karplus and Strong) on a body with two resonances."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(40, 77)))
    string = pluck(n, f0, rng.random(), uniform(rng, 1.5, 5.0), rng)
    return string + 0.5 * resonate(string, [uniform(rng, 95, 120), uniform(rng, 190, 230)], [20, 30], [1.0, 0.8])


def _strum(rng: Rng, duration_s: float) -> Samples:
    """A chord: three to six strings one after another within 80 ms."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    root, late = float(rng.integers(40, 53)), uniform(rng, 0.006, 0.025)
    third = float(rng.integers(3, 5))
    chord = [0.0, 7.0, 12.0, 12.0 + third, 19.0, 24.0][: int(rng.integers(3, 7))]
    for index, interval in enumerate(chord):
        place(
            out, pluck(n, midi_hz(root + interval), uniform(rng, 0.3, 1.0), uniform(rng, 1.5, 4.0), rng), index * late
        )
    return out


def _modal_string(rng: Rng, duration_s: float) -> Samples:
    """A string by its modes: harmonics missing where it was plucked, higher ones short, with a fret buzz."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(40, 77)))
    order = np.arange(1, min(36, int(7_400.0 / f0)) + 1)
    gains = np.sin(np.pi * order * uniform(rng, 0.1, 0.4)) / order
    t60 = uniform(rng, 2.0, 5.0) / (1.0 + 0.25 * order)
    return modes(n, f0 * order * (1.0 + 2e-5 * order**2), t60, gains) + 0.02 * highpass(noise(n, rng), 1_500.0) * decay(
        n, 0.03
    )


def _flute(rng: Rng, duration_s: float) -> Samples:
    """Few harmonics, vibrato that grows, breath around the pitch and a chiff at the start."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(60, 92)))
    vibrato = np.sin(times(n) * 6.28 * uniform(rng, 4.5, 6.5)) * curve(n, [0.0, 0.3, 1.0])
    pitch = f0 * (1.0 + 0.006 * vibrato + 0.002 * wander(n, rng, 6.0))
    tone = partials(n, pitch, [1.0, uniform(rng, 0.2, 0.7), uniform(rng, 0.1, 0.4), 0.1, 0.05])
    breath = unit(bandpass(noise(n, rng), f0 * 0.8, min(f0 * 3.0, 7_500.0), 1))
    chiff = unit(bandpass(noise(n, rng), 1_000.0, 5_000.0)) * decay(n, 0.08)
    return (tone * (1.0 + 0.15 * vibrato) + uniform(rng, 0.05, 0.15) * breath) * swell(n, 0.08, 0.12) + 0.2 * chiff


def _pipe(rng: Rng, duration_s: float) -> Samples:
    """A recorder or pan pipe: breath noise through sharp resonances at odd harmonics, plus a tone."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(62, 90)))
    press = swell(n, 0.06, 0.15) * (1.0 + 0.06 * wander(n, rng, 5.0))
    air = noise(n, rng) * press
    body = unit(resonate(air, [f0, 2 * f0, 3 * f0], [12, 40, 60], [1.0, 0.25, 0.4]))
    return body * press + uniform(rng, 0.5, 1.5) * np.sin(phase(f0 * (1.0 + 0.01 * press))) * press


def _violin(rng: Rng, duration_s: float) -> Samples:
    """A bowed string: saw-like motion, vibrato, and the formants of a violin's body."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(55, 90)))
    vibrato = np.sin(times(n) * 6.28 * uniform(rng, 5.0, 6.5)) * curve(n, [0.1, 0.6, 1.0])
    bow = buzz(f0 * (1.0 + uniform(rng, 0.003, 0.009) * vibrato + 0.002 * wander(n, rng, 10.0)), 0.985)
    source = smooth(bow, 900.0) + 0.02 * noise(n, rng)
    return (
        resonate(
            source, [290, 470, 700, 1_100, 2_400, 3_200], [50, 60, 90, 180, 500, 600], rng.uniform(0.5, 1.0, 6).tolist()
        )
        + 0.4 * source
    ) * swell(n, uniform(rng, 0.08, 0.25), 0.15)


def _fiddle(rng: Rng, duration_s: float) -> Samples:
    """A violin or cello by harmonics whose levels waver independently, with a scratch of the bow."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(43, 84)))
    pitch = f0 * (1.0 + 0.005 * np.sin(times(n) * 6.28 * uniform(rng, 4.5, 6.5)))
    out, turn = np.zeros(n), phase(pitch)
    for k in range(1, min(25, int(7_300.0 / f0)) + 1):
        out += np.sin(k * turn) / k ** uniform(rng, 0.7, 1.3) * (1.0 + 0.2 * wander(n, rng, 6.0))
    scratch = unit(bandpass(noise(n, rng), 1_500.0, 5_000.0)) * (0.02 + 0.2 * decay(n, 0.15))
    return (unit(out) + scratch) * swell(n, 0.15, 0.2)


def _kick(rng: Rng, duration_s: float) -> Samples:
    """A bass drum or tom: a membrane whose pitch falls, with the slap of the beater."""
    n, low = num_samples(duration_s), log_uniform(rng, 45.0, 160.0)
    f0 = low * (1.0 + uniform(rng, 0.5, 2.5) * decay(n, uniform(rng, 0.05, 0.2)))
    slap = highpass(noise(n, rng), 800.0) * decay(n, 0.015)
    return np.sin(phase(f0)) * decay(n, uniform(rng, 0.25, 0.9), 0.001) + uniform(rng, 0.1, 0.5) * slap


def _snare(rng: Rng, duration_s: float) -> Samples:
    """A snare: two shell modes and rattling wires."""
    n, low = num_samples(duration_s), uniform(rng, 160.0, 260.0)
    shell = modes(n, [low, low * 1.75, low * 2.4], [0.2, 0.15, 0.1], [1.0, 0.7, 0.4])
    wires = unit(bandpass(noise(n, rng), uniform(rng, 900, 2_000), 7_200.0, 1)) * decay(
        n, uniform(rng, 0.12, 0.4), 0.001
    )
    return shell + uniform(rng, 0.4, 1.2) * wires


def _conga(rng: Rng, duration_s: float) -> Samples:
    """A hand drum by the modes of a circular membrane (zeros of Bessel functions), struck off centre."""
    n, low = num_samples(duration_s), log_uniform(rng, 70.0, 320.0)
    ratios = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.5])
    hit = modes(n, low * ratios, uniform(rng, 0.3, 0.8) / ratios, rng.uniform(0.2, 1.0, 8) / ratios)
    return hit + 0.3 * lowpass(noise(n, rng), 2_500.0) * decay(n, 0.03)


def _sweep(rng: Rng, duration_s: float) -> Samples:
    """A sine that glides exponentially, up or down."""
    n = num_samples(duration_s)
    low, high = log_uniform(rng, 100.0, 700.0), log_uniform(rng, 1_500.0, 6_500.0)
    f0 = np.exp(curve(n, [np.log(low), np.log(high)] if rng.random() < 0.5 else [np.log(high), np.log(low)]))
    return np.sin(phase(f0)) * swell(n, 0.03, 0.05)


def _glide(rng: Rng, duration_s: float) -> Samples:
    """A glide with overtones, linear in frequency, there and back or one way."""
    n = num_samples(duration_s)
    low, high = uniform(rng, 100.0, 500.0), uniform(rng, 1_000.0, 3_000.0)
    f0 = curve(n, [low, high, low][: int(rng.integers(2, 4))])
    return buzz(f0, uniform(rng, 0.3, 0.8)) * swell(n, 0.03, 0.05)


def _upright(rng: Rng, duration_s: float) -> Samples:
    """A piano by looped strings: three Karplus-Strong loops, struck softly, through a soundboard."""
    n, f0 = num_samples(duration_s), midi_hz(float(rng.integers(36, 80)))
    hard, ring = uniform(rng, 0.1, 0.6), uniform(rng, 2.0, 6.0)
    strings = sum(pluck(n, f0 * detune, hard, ring, rng) for detune in (0.9992, 1.0, 1.0009))
    board = resonate(np.asarray(strings), [110, 220, 420, 900], [40, 60, 120, 300], [0.5, 0.6, 0.5, 0.3])
    return np.asarray(strings) + 0.4 * board + 0.05 * lowpass(noise(n, rng), 600.0) * decay(n, 0.05)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str) -> Kind:
    return Kind(name, label, noun, sentence, "instruments", phrases)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("piano", "a piano note", "piano", "a piano plays a note", "a piano", "a struck piano key"),
        (0.8, 3.0),
        (_piano, _upright, _felt),
    ),
    Recipe(
        _kind("guitar", "a guitar being plucked", "guitar", "somebody plucks a guitar", "a guitar", "a guitar string"),
        (0.8, 3.0),
        (_guitar, _strum, _modal_string),
    ),
    Recipe(
        _kind("flute", "a flute playing", "flute", "a flute plays", "a flute note", "a wind instrument"),
        (0.5, 2.5),
        (_flute, _pipe),
    ),
    Recipe(
        _kind("violin", "a violin playing", "violin", "a violin plays", "a fiddle", "a bowed string"),
        (0.6, 3.0),
        (_violin, _fiddle),
    ),
    Recipe(
        _kind("drum", "a drum being struck", "drum", "somebody strikes a drum", "a drum beat", "a drum"),
        (0.3, 0.9),
        (_kick, _snare, _conga),
        most_repeats=4,
        gap_s=(0.02, 0.3),
    ),
    Recipe(
        _kind("tone_sweep", "a sweeping tone", "tone", "a tone sweeps", "a gliding tone", "a frequency sweep"),
        (0.8, 3.0),
        (_sweep, _glide),
    ),
)
