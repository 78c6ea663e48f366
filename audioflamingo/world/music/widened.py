"""Instruments in a hundred builds for training: every part of every piece has a timbre of its own.

Partials are read from three wavetables (low, middle, high), each with its own envelope and its own stretch; the
spectrum comes from resonances that stay while the pitch moves, as in an instrument, or that move with it within a zone
of a few keys, as in a sampler. Noise of hammer, bow or breath is added, then a player's vibrato and an ensemble's
width. String loops, filters over bright waves and ready-made modes are left to the held-out build (`synth`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import rooms
from audioflamingo.world.music.character import CHARACTERS, Character

Samples = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Rng = np.random.Generator

TABLE_SIZE = 4_096
MOST_PARTIALS = 40
HIGHEST_HZ = 7_300.0
GROUP_ENDS = (2, 6, MOST_PARTIALS)  # partials of the low, the middle and the high wavetable
DB60 = 6.908
LOUD = 0.7  # velocities above it play the bright layer
LEVEL_BLOCK = 1_600
NOISE_S = 2.0
MIDDLE_C_HZ = 262.0
EVEN_FROM, EVEN_KEYS = 86, 16  # keys; a closed pipe overblown is not so hollow any more
COARSE_SHARE, DULL_SHARE = 0.12, 0.15


@dataclass
class Timbre:
    """One part's instrument, as drawn; levels in dB, times in seconds.

    Attributes:
        character: the instrument's ranges.
        rng: draws what differs from note to note.
        formants: (Hz, dB, octaves wide) of each resonance.
        slope: exponent with which partials fall.
        corner_hz: above it they fall faster.
        even: level of even partials.
        pluck: place on the string; 0 where there is none.
        stretch: inharmonicity.
        uneven_db: (MOST_PARTIALS,) of each partial, whatever the note.
        zone: keys that share a sample; 0 where each is made by itself.
        modes: frequencies over the lowest; empty for partials.
        stops: (frequency over the written one, level).
        attack_s: until full loudness.
        decay_s: 60 dB at middle C, or None.
        release_s: after the end of a note.
        second: share of the decay that is slow.
        sustain: level that is held after the attack.
        settling_s: in which it is reached.
        group_decay: of the decay, by group of partials.
        brightening: delay of the highest group, in attacks.
        strike_db: of the stroke; None without.
        breath_db: of breath or bow; None without.
        detunes: frequency of each voice over the written one.
        vibrato: (Hz, depth as a share, seconds until it begins).
        tremolo: (Hz, depth).
        loop: (seconds, depth) of a ripple as of a short loop.
        touch_db: slope between 100 Hz and 6.4 kHz that a loud note has more than a soft one.
        noise: `NOISE_S` of noise with the resonances.
    """

    character: Character
    rng: Rng
    formants: tuple[tuple[float, float, float], ...]
    slope: float
    corner_hz: float
    even: float
    pluck: float
    stretch: float
    uneven_db: Floats
    zone: int
    modes: tuple[float, ...]
    stops: tuple[tuple[float, float], ...]
    attack_s: float
    decay_s: float | None
    release_s: float
    second: float
    sustain: float
    settling_s: float
    group_decay: tuple[float, float, float]
    brightening: float
    strike_db: float | None
    breath_db: float | None
    detunes: tuple[float, ...]
    vibrato: tuple[float, float, float]
    tremolo: tuple[float, float]
    loop: tuple[float, float]
    touch_db: float
    noise: Samples = field(default_factory=lambda: np.zeros(0, np.float32))


def draw_timbre(name: str, rng: Rng) -> Timbre:
    """An instrument of this name that was never heard before.

    Args:
        name: a key of `CHARACTERS`.
        rng: draws everything, then and later.
    """
    c = CHARACTERS[name]
    timbre = Timbre(
        c, rng, _draw_formants(c, rng), rng.uniform(*c.slope), _log(rng, c.corner_hz), _log(rng, c.even),
        rng.uniform(*c.pluck) if c.pluck else 0.0, rng.uniform(*c.stretch),
        rng.standard_normal(MOST_PARTIALS) * rng.uniform(0.5, 5.0), int(rng.choice((0, 0, 3, 6, 12, 24))),
        tuple(rng.uniform(*mode) for mode in c.modes), _draw_stops(c, rng), _log(rng, c.attack_s),
        _log(rng, c.decay_s) if c.decay_s else None, _log(rng, c.release_s), rng.uniform(0.2, 0.98),
        rng.uniform(0.45, 1.0), _log(rng, (0.06, 1.5)),
        (1.0, rng.uniform(0.45, 1.0), rng.uniform(0.2, 0.8)), rng.uniform(*c.brightening),
        _maybe(rng, c.strike_db), _maybe(rng, c.breath_db), _draw_detunes(c, rng),
        (rng.uniform(4.3, 7.2), rng.uniform(*c.vibrato_cents) / 1_731.0, rng.uniform(0.0, 0.5)),
        (_log(rng, (0.8, 7.5)), rng.uniform(*c.tremolo) * float(rng.random() < 0.6)),
        (_log(rng, (0.02, 0.4)), rng.uniform(0.0, 0.12) * float(rng.random() < 0.4)), rng.uniform(0.0, 14.0),
    )  # fmt: skip
    timbre.noise = _noise(timbre)
    return timbre


def _log(rng: Rng, limits: tuple[float, float]) -> float:
    return float(np.exp(rng.uniform(*np.log(limits))))


def _maybe(rng: Rng, limits_db: tuple[float, float] | None) -> float | None:
    return rng.uniform(*limits_db) if limits_db and rng.random() < 0.85 else None


def _draw_formants(c: Character, rng: Rng) -> tuple[tuple[float, float, float], ...]:
    """One of the sets, moved, with a few more of any frequency: rooms, bodies, microphones."""
    own = c.formants[int(rng.integers(len(c.formants)))]
    moved = [(hz * _log(rng, (0.82, 1.22)), db * rng.uniform(0.6, 1.3), rng.uniform(0.2, 0.5)) for hz, db in own]
    more = [(_log(rng, (90.0, 6_000.0)), rng.uniform(-8.0, 8.0), rng.uniform(0.15, 1.0)) for _ in range(3)]
    return (*moved, *more)


def _draw_stops(c: Character, rng: Rng) -> tuple[tuple[float, float], ...]:
    """The written pitch always sounds."""
    others = [stop for stop in c.octaves if stop != 1.0 and rng.random() < 0.45]
    return ((1.0, 1.0), *((stop, rng.uniform(0.15, 1.2)) for stop in others))


def _draw_detunes(c: Character, rng: Rng) -> tuple[float, ...]:
    """Around a tuning that is a little off for all."""
    off, width = rng.uniform(-8.0, 8.0), rng.uniform(*c.detune_cents)
    num = int(rng.integers(c.voices[0], c.voices[1] + 1))
    cents = off + (rng.uniform(-width, width, num) if num > 1 else np.zeros(1))
    return tuple(float(2.0 ** (one / 1_200.0)) for one in cents)


def _noise(timbre: Timbre) -> Samples:
    """Hiss between two corners, of unit deviation."""
    rng = timbre.rng
    low, high = _log(rng, (80.0, 800.0)), _log(rng, (1_500.0, 7_000.0))
    band = np.array([low, high]) / (SAMPLE_RATE_HZ / 2)
    hiss = signal.lfilter(
        *signal.butter(1, band, "bandpass"), rng.standard_normal(round(NOISE_S * SAMPLE_RATE_HZ)).astype(np.float32)
    )
    return np.asarray(hiss / hiss.std(), np.float32)


def tone(timbre: Timbre, pitch: int, duration_s: float, velocity: float) -> Samples:
    """One note with the touch of its velocity; (N,) float32 of a root mean square of a quarter where it is loudest.

    Args:
        timbre: of the part.
        pitch: MIDI number.
        duration_s: until the key is released.
        velocity: 0 to 1; decides the touch, not the level.
    """
    hz = 440.0 * 2.0 ** ((pitch - 69) / 12)
    n = round((duration_s + timbre.release_s) * SAMPLE_RATE_HZ)
    t = np.arange(n, dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)
    touch_db = timbre.touch_db * (velocity - LOUD)
    wave = _bar(timbre, hz, t) if timbre.modes else _partials(timbre, hz, pitch, t, touch_db)
    wave = wave / (np.sqrt(np.mean(np.square(wave[:LEVEL_BLOCK]))) + 1e-9)
    wave = _with_noises(timbre, wave, t)
    wave *= _course(timbre, t)
    release = round(timbre.release_s * SAMPLE_RATE_HZ)
    wave[n - release :] *= np.linspace(1.0, 0.0, release, dtype=np.float32) ** 2
    return np.asarray(wave / (4.0 * _loudest(wave) + 1e-9), np.float32)


def _loudest(wave: Samples) -> float:
    """Root mean square of the loudest tenth of a second among the first four."""
    head = wave[: 4 * LEVEL_BLOCK]
    blocks = [head[at : at + LEVEL_BLOCK] for at in range(0, max(len(head) - LEVEL_BLOCK, 0) + 1, LEVEL_BLOCK)]
    return max(float(np.sqrt(np.mean(np.square(block)))) for block in blocks)


def _levels(timbre: Timbre, hz: float, pitch: int, touch_db: float) -> Floats:
    """(P,) amplitude of each partial of a note; in a sampler's zone resonances move along with the key."""
    num = max(1, min(MOST_PARTIALS, int(HIGHEST_HZ / hz)))
    k = np.arange(1, num + 1)
    heard_hz = k * hz
    if timbre.zone:
        heard_hz = heard_hz * 2.0 ** ((timbre.zone / 2 - pitch % timbre.zone) / 12)
    octaves = np.log2(heard_hz)
    db = timbre.uneven_db[:num] - 20.0 * timbre.slope * np.log10(k) + touch_db * (octaves - 9.6) / 6.0
    for centre, height, width in timbre.formants:
        db = db + height * np.exp(-0.5 * ((octaves - np.log2(centre)) / width) ** 2)
    db = db - 10.0 * np.log10(1.0 + (heard_hz / timbre.corner_hz) ** 4)
    levels = 10.0 ** (db / 20.0)
    levels[1::2] *= timbre.even ** np.clip((EVEN_FROM - pitch) / EVEN_KEYS, 0.15, 1.0)
    if timbre.pluck:
        levels *= 0.08 + np.abs(np.sin(np.pi * k * timbre.pluck))
    return np.asarray(levels)


def _partials(timbre: Timbre, hz: float, pitch: int, t: Samples, touch_db: float) -> Samples:
    """Strings, pipes and voices: three wavetables a voice and stop, each with its own envelope."""
    out = np.zeros(len(t), np.float32)
    envelopes = [_envelope(timbre, hz, t, group) for group in range(len(GROUP_ENDS))]
    turns = _turns(timbre, hz, t)
    for stop, level in timbre.stops:
        levels = _levels(timbre, hz * stop, pitch, touch_db) * level
        tables = _tables(levels, timbre.rng)
        for group, table in enumerate(tables):
            if table is None:
                continue
            middle = (GROUP_ENDS[group] + (GROUP_ENDS[group - 1] if group else 1)) / 2
            stretch = stop * np.sqrt(1.0 + timbre.stretch * min(middle, len(levels)) ** 2)
            heard = sum(_read(table, one * stretch) for one in turns)
            out += heard * envelopes[group]
    return out


def _tables(levels: Floats, rng: Rng) -> list[Samples | None]:
    """One period of each group of partials, with phases by chance; None where a group has none."""
    phases = np.exp(1j * rng.uniform(0.0, 2.0 * np.pi, len(levels)))
    found: list[Samples | None] = []
    first = 0
    for end in GROUP_ENDS:
        end = min(end, len(levels))
        spectrum = np.zeros(TABLE_SIZE // 2 + 1, np.complex64)
        spectrum[first + 1 : end + 1] = levels[first:end] * phases[first:end]
        found.append(np.fft.irfft(spectrum).astype(np.float32) * TABLE_SIZE if first < end else None)
        first = end
    return found


def _turns(timbre: Timbre, hz: float, t: Samples) -> list[Floats]:
    """Of each voice: its phase in turns, with its own vibrato and its own moment to begin it."""
    rate, depth, late_s = timbre.vibrato
    found = []
    for detune in timbre.detunes:
        turns = t.astype(np.float64) * (hz * detune) + timbre.rng.random()
        if depth > 0:
            mine = rate * timbre.rng.uniform(0.9, 1.1)
            swing = np.sin(np.float32(2.0 * np.pi * mine) * t + np.float32(timbre.rng.uniform(0.0, 6.28)))
            turns += swing * np.minimum(t / np.float32(late_s + 0.05), 1.0) * (depth * hz / (2.0 * np.pi * mine))
        found.append(turns)
    return found


def _read(table: Samples, turns: Floats) -> Samples:
    return np.asarray(table[(turns * TABLE_SIZE).astype(np.int64) & (TABLE_SIZE - 1)])


def _envelope(timbre: Timbre, hz: float, t: Samples, group: int) -> Samples:
    """Attack, and decay in two stages or a level that is held; high partials come later and go sooner."""
    late = 1.0 + timbre.brightening * group / (len(GROUP_ENDS) - 1)
    shape = np.minimum(t / np.float32(timbre.attack_s * late), 1.0)
    if timbre.decay_s is None:
        after = np.exp(-np.maximum(t - np.float32(timbre.attack_s), 0.0) / np.float32(timbre.settling_s))
        return np.asarray(shape * (timbre.sustain + (1.0 - timbre.sustain) * after), np.float32)
    decay = timbre.decay_s * (MIDDLE_C_HZ / hz) ** 0.35 * timbre.group_decay[group]
    slow, fast = np.exp(np.float32(-DB60 / decay) * t), np.exp(np.float32(-4.0 * DB60 / decay) * t)
    return np.asarray(shape * (timbre.second * slow + (1.0 - timbre.second) * fast), np.float32)


def _bar(timbre: Timbre, hz: float, t: Samples) -> Samples:
    """A struck bar: a few modes, the higher ones weaker and shorter."""
    assert timbre.decay_s is not None
    out = np.zeros(len(t), np.float32)
    for place, ratio in enumerate(timbre.modes):
        if hz * ratio > HIGHEST_HZ:
            break
        level = (place + 1.0) ** -(2.0 * timbre.slope) * 10.0 ** (timbre.uneven_db[place] / 20.0)
        decay = timbre.decay_s * (MIDDLE_C_HZ / hz) ** 0.3 * timbre.group_decay[place] ** (place + 1)
        course = np.exp(np.float32(-DB60 / decay) * t) * np.minimum(t / np.float32(timbre.attack_s), 1.0)
        mine = hz * ratio * timbre.detunes[0]
        out += np.float32(level) * np.sin(np.float32(2.0 * np.pi * mine) * t) * course
    return out


def _with_noises(timbre: Timbre, wave: Samples, t: Samples) -> Samples:
    """The stroke at the start, breath or bow all along; levels against a tone of unit level."""
    if timbre.strike_db is None and timbre.breath_db is None:
        return wave
    start = int(timbre.rng.integers(len(timbre.noise)))
    hiss = np.take(timbre.noise, np.arange(start, start + len(t)), mode="wrap")
    gain: Any = np.zeros(len(t), np.float32)
    if timbre.strike_db is not None:
        gain = gain + np.float32(10.0 ** (timbre.strike_db / 20.0) * 3.0) * np.exp(-t / np.float32(0.015))
    if timbre.breath_db is not None:
        level = 10.0 ** (timbre.breath_db / 20.0)
        gain = gain + np.float32(level) * np.minimum(t / np.float32(0.5 * timbre.attack_s), 1.0)
    return np.asarray(wave + hiss * gain, np.float32)


def _course(timbre: Timbre, t: Samples) -> Samples:
    """Tremolo, and the ripple of a loop that is too short."""
    course = np.ones(len(t), np.float32)
    rate, depth = timbre.tremolo
    if depth > 0:
        phase = np.float32(timbre.rng.uniform(0.0, 6.28))
        course *= 1.0 - np.float32(0.5 * depth) * (1.0 + np.sin(np.float32(2.0 * np.pi * rate) * t + phase))
    period_s, ripple = timbre.loop
    if ripple > 0:
        course *= 1.0 - np.float32(ripple) * ((t / np.float32(period_s)) % 1.0) * (t > 0.3)
    return course


def drum(key: int, kit: Floats, rng: Rng) -> Samples:
    """Kick, snare or hat by their General MIDI keys, in a kit of six numbers from 0 to 1; level as of `tone`."""
    n = round({36: 0.15 + 0.3 * kit[0], 38: 0.1 + 0.25 * kit[1]}.get(key, 0.03 + 0.12 * kit[2]) * SAMPLE_RATE_HZ)
    t = np.arange(n) / SAMPLE_RATE_HZ
    noise = rng.standard_normal(n)
    if key == 36:
        glide_hz = 40.0 + 25.0 * kit[3] + (80.0 + 200.0 * kit[4]) * np.exp(-t * (12.0 + 50.0 * kit[5]))
        wave = np.sin(2.0 * np.pi * np.cumsum(glide_hz) / SAMPLE_RATE_HZ) + 0.4 * kit[4] * noise * np.exp(-t * 300.0)
        wave *= np.exp(-t * (8.0 + 14.0 * (1.0 - kit[0])))
    elif key == 38:
        body_hz = 150.0 + 130.0 * kit[3]
        wave = np.sin(2.0 * np.pi * body_hz * t) * np.exp(-t * (18.0 + 20.0 * kit[5]))
        wave = wave + (0.3 + 1.2 * kit[4]) * noise * np.exp(-t * (12.0 + 16.0 * (1.0 - kit[1]))) * 0.5
    else:
        corner = 0.5 + 0.38 * kit[3]
        wave = signal.lfilter(*signal.butter(2, corner, "highpass"), noise) * np.exp(-t * (30.0 + 80.0 * kit[5]))
    return np.asarray(wave / (4.0 * float(np.sqrt(np.mean(wave[:800] ** 2))) + 1e-9), np.float32)


def recorded(part: Samples, rng: Rng) -> Samples:
    """A part as some sampler or microphone would give it: coloured, now and then dull or coarse; times stay."""
    out = rooms.equalise(part, rng, float(rng.uniform(0.0, 9.0)))
    if rng.random() < DULL_SHARE:
        corner = _log(rng, (2_500.0, 6_500.0)) / (SAMPLE_RATE_HZ / 2)
        out = np.asarray(signal.lfilter(*signal.butter(2, corner), out), np.float32)
    if rng.random() < COARSE_SHARE:
        peak = float(np.abs(out).max()) + 1e-9
        steps = 2.0 ** int(rng.integers(7, 11))
        out = np.asarray(np.rint(out * np.float32(steps / peak)) * np.float32(peak / steps), np.float32)
    return out
