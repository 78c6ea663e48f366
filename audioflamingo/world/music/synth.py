"""Our own synthesiser: a score in, samples out, in three independent builds of every instrument.

Sustained spectra are read from wavetables, so that a note costs a few array operations; equal notes of a part are made
once. Frequency modulation follows Chowning (1973), the plucked string Karplus and Strong (1983).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import signal

from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.music.instruments import DRUM_KIT, INSTRUMENTS, NUM_BUILDS, Instrument
from audioflamingo.world.music.score import Note, Part, Score
from audioflamingo.world.music.theory import frequency_hz
from audioflamingo.world.music.widened import LOUD, draw_timbre, drum, recorded, tone

Samples = npt.NDArray[np.float32]
Rng = np.random.Generator

TABLE_SIZE = 4_096
HIGHEST_PARTIAL_HZ = 7_200.0
RELEASE_S = 0.08
RING_S = 0.35  # decaying notes ring on after their end
EXCERPT_FADE_S = 0.02
DB60 = 6.908
PEAK = 0.9
PART_LEVELS = {"melody": 1.0, "second voice": 1.0, "chords": 0.5, "bass": 0.9, "drums": 0.8}
VIBRATO_HZ = 5.5
WIDENED_SHARE = 0.75  # of training's parts at full variety
LOOSENESS_S, BALANCE_DB = 0.008, 4.0


@dataclass
class Desk:
    """Settings of one rendering: the build of each part, and a small detuning, from one generator.

    Attributes:
        rng: draws them.
        builds: to draw from.
        variety: share of the parts that get a timbre of their own (`widened`) times `WIDENED_SHARE`.
        notes: those that were made.
    """

    rng: Rng
    builds: tuple[int, ...] = tuple(range(NUM_BUILDS - 1))
    variety: float = 0.0
    notes: dict[tuple[Any, ...], Samples] = field(default_factory=dict)

    def draw(self) -> tuple[int, float]:
        """A build and a tuning for a part."""
        return int(self.rng.choice(self.builds)), float(2.0 ** (self.rng.uniform(-8.0, 8.0) / 1200.0))


def render(score: Score, rng: Rng, *, held_out: bool = False, variety: float = 0.0) -> Samples:
    """A piece as (N,) float32 at 16 kHz with a peak of `PEAK`, cut at the end of its last bar.

    Args:
        score: the piece.
        rng: draws builds and tuning.
        held_out: render every instrument by the build that training never hears.
        variety: for training alone: so often instruments are drawn anew for every part, 0 to 1.
    """
    desk = Desk(rng, (NUM_BUILDS - 1,)) if held_out else Desk(rng, variety=variety)
    total = round(score.duration_s * SAMPLE_RATE_HZ)
    out = np.zeros(total, np.float32)
    for part in score.parts:
        if variety and rng.random() < WIDENED_SHARE * variety:
            out += _widened_part(score, part, desk, total)
        else:
            _add_part(out, score, part, desk)
    return finish(out)


def finish(samples: Samples) -> Samples:
    """At the common peak, with a short fade at the end."""
    fade = min(len(samples), round(0.05 * SAMPLE_RATE_HZ))
    samples[len(samples) - fade :] *= np.linspace(1.0, 0.0, fade, dtype=np.float32)
    return np.asarray(samples * np.float32(PEAK / max(float(np.abs(samples).max(initial=0.0)), 1e-9)))


def excerpt(samples: Samples, start_s: float, end_s: float) -> Samples:
    """Some seconds of a piece, faded in and out within 20 ms, so that they do not click."""
    found = samples[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)].copy()
    ramp = np.linspace(0.0, 1.0, min(round(EXCERPT_FADE_S * SAMPLE_RATE_HZ), len(found)), dtype=np.float32)
    found[: len(ramp)] *= ramp
    found[len(found) - len(ramp) :] *= ramp[::-1]
    return found


def _add_part(out: Samples, score: Score, part: Part, desk: Desk) -> None:
    build, tuning = desk.draw()
    level = PART_LEVELS[part.role]
    for note in part.notes:
        start = round(score.facts.time_s(note.onset) * SAMPLE_RATE_HZ)
        sounding_s = score.facts.time_s(note.onset + note.duration) - score.facts.time_s(note.onset)
        samples = _note(part.instrument, build, tuning, note, round(sounding_s, 2), desk)[: len(out) - start]
        out[start : start + len(samples)] += samples * np.float32(level * note.velocity)


def _widened_part(score: Score, part: Part, desk: Desk, total: int) -> Samples:
    """A part by an instrument that is drawn for it; notes begin within a few milliseconds of where they are written."""
    rng = desk.rng
    drums = part.instrument == DRUM_KIT
    timbre = None if drums else draw_timbre(part.instrument, rng)
    kit = rng.random(6)
    looseness_s = rng.uniform(0.0, LOOSENESS_S)
    notes: dict[tuple[int, float, bool], Samples] = {}
    out = np.zeros(total, np.float32)
    for note in part.notes:
        at_s, end_s = score.facts.time_s(note.onset), score.facts.time_s(note.onset + note.duration)
        key = (note.pitch, 0.0 if drums else round(end_s - at_s, 2), note.velocity > LOUD)
        if key not in notes:
            notes[key] = drum(note.pitch, kit, rng) if timbre is None else tone(timbre, *key[:2], note.velocity)
        start = round(max(0.0, at_s + rng.uniform(-looseness_s, looseness_s)) * SAMPLE_RATE_HZ)
        samples = notes[key][: total - start]
        out[start : start + len(samples)] += samples * np.float32(note.velocity)
    level = PART_LEVELS[part.role] * 10.0 ** (rng.uniform(-BALANCE_DB, BALANCE_DB) / 20.0)
    return np.asarray(recorded(out, rng) * np.float32(level), np.float32)


def _note(name: str, build: int, tuning: float, note: Note, duration_s: float, desk: Desk) -> Samples:
    key = (name, build, note.pitch, duration_s)
    if key not in desk.notes:
        if name == DRUM_KIT:
            desk.notes[key] = _drum(note.pitch, build, desk.rng)
        else:
            instrument = INSTRUMENTS[name]
            hz = frequency_hz(note.pitch) * tuning
            desk.notes[key] = _tone(instrument, build, hz, duration_s, desk.rng)
    return desk.notes[key]


def _tone(instrument: Instrument, build: int, hz: float, duration_s: float, rng: Rng) -> Samples:
    """One note at velocity 1, of unit root mean square in its loudest tenth of a second."""
    tail = RELEASE_S if instrument.decay_s is None else RING_S
    n = round((duration_s + tail) * SAMPLE_RATE_HZ)
    makers: tuple[Callable[..., npt.NDArray[Any]], ...] = (_wavetable, _modulated, _filtered)
    wave = makers[build](instrument, hz, n, rng) * _envelope(instrument, hz, n, tail)
    window = wave[: round(0.15 * SAMPLE_RATE_HZ)]
    return np.asarray(wave / (4.0 * float(np.sqrt(np.mean(window**2))) + 1e-9), dtype=np.float32)


def _envelope(instrument: Instrument, hz: float, n: int, tail_s: float) -> npt.NDArray[Any]:
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE_HZ
    shape = np.minimum(t / instrument.attack_s, 1.0)
    if instrument.decay_s is not None:
        shape *= np.exp(-DB60 * t / (instrument.decay_s * (262.0 / hz) ** 0.3))
    release = round(tail_s * SAMPLE_RATE_HZ)
    shape[n - release :] *= np.linspace(1.0, 0.0, release) ** 2
    return shape


def _phase(instrument: Instrument, hz: float, n: int) -> npt.NDArray[np.float64]:
    """(n,) turns, with vibrato that comes in after a moment."""
    turns = np.arange(n) * (hz / SAMPLE_RATE_HZ)
    if instrument.vibrato:
        t = np.arange(n) / SAMPLE_RATE_HZ
        depth = instrument.vibrato * hz / (2.0 * np.pi * VIBRATO_HZ) * np.minimum(t / 0.3, 1.0)
        turns = turns + depth * np.sin(2.0 * np.pi * VIBRATO_HZ * t)
    return np.asarray(turns)


def _table(partials: tuple[float, ...], hz: float) -> Samples:
    spectrum = np.zeros(TABLE_SIZE // 2 + 1, np.complex64)
    num = max(1, min(len(partials), int(HIGHEST_PARTIAL_HZ / hz)))
    spectrum[1 : num + 1] = np.array(partials[:num]) * np.exp(1j * 2.4 * np.arange(num) ** 2)
    return np.asarray(np.fft.irfft(spectrum) * TABLE_SIZE, dtype=np.float32)


def _read(table: Samples, turns: npt.NDArray[np.float64]) -> Samples:
    return table[(turns * TABLE_SIZE).astype(np.int64) % TABLE_SIZE]


def _wavetable(instrument: Instrument, hz: float, n: int, rng: Rng) -> npt.NDArray[Any]:
    turns = _phase(instrument, hz, n)
    bright: npt.NDArray[Any] = _read(_table(instrument.partials, hz), turns)
    if instrument.decay_s is not None:
        mellow = _read(_table(tuple(a * 0.45**k for k, a in enumerate(instrument.partials)), hz), turns)
        share = np.exp(-np.arange(n, dtype=np.float32) / (0.12 * SAMPLE_RATE_HZ))
        bright = bright * share + mellow * (1.0 - share)
    return _with_breath(bright, instrument, hz, rng)


def _with_breath(wave: npt.NDArray[Any], instrument: Instrument, hz: float, rng: Rng) -> npt.NDArray[Any]:
    if not instrument.breath:
        return wave
    noise = rng.standard_normal(len(wave), dtype=np.float32)
    corner = min(2.0 * hz, 6_000.0) / (SAMPLE_RATE_HZ / 2)
    hiss = signal.lfilter(*signal.butter(1, corner), noise)
    return np.asarray(wave + hiss * (instrument.breath * 3.0 * wave.std() / (hiss.std() + 1e-9)))


def _modulated(instrument: Instrument, hz: float, n: int, rng: Rng) -> npt.NDArray[Any]:
    turns = 2.0 * np.pi * _phase(instrument, hz, n)
    index = instrument.index * min(1.0, 1_500.0 / (hz * instrument.ratio))
    t = np.arange(n) / SAMPLE_RATE_HZ
    if instrument.decay_s is None:
        depth = index * np.minimum(t / (1.5 * instrument.attack_s), 1.0)
    else:
        depth = index * np.exp(-t / 0.25)
    return _with_breath(np.sin(turns + depth * np.sin(instrument.ratio * turns)), instrument, hz, rng)


def _filtered(instrument: Instrument, hz: float, n: int, rng: Rng) -> npt.NDArray[Any]:
    if instrument.filtered == "plucked":
        return _plucked(hz, n, rng)
    if instrument.filtered == "modes":
        return _modes(instrument, hz, n)
    turns = _phase(instrument, hz, n)
    num = max(1, int(HIGHEST_PARTIAL_HZ / hz))
    wave: npt.NDArray[Any]
    if instrument.filtered == "noise":
        band = np.array([0.97, 1.03]) * hz / (SAMPLE_RATE_HZ / 2)
        wave = signal.lfilter(*signal.butter(1, band, "bandpass"), rng.standard_normal(n))
        wave = wave / (wave.std() + 1e-9) + 1.2 * np.sin(2.0 * np.pi * turns)
    else:
        odd_only = instrument.filtered == "pulse"
        partials = tuple(1.0 / k if k % 2 or not odd_only else 0.0 for k in range(1, num + 1))
        wave = _read(_table(partials, hz), turns)
    corner = min(instrument.corner * hz, 7_000.0) / (SAMPLE_RATE_HZ / 2)
    return np.asarray(signal.lfilter(*signal.butter(2, corner), wave))


def _plucked(hz: float, n: int, rng: Rng) -> npt.NDArray[Any]:
    """Noise that goes round a delay line with a two-point average; tuned by its fractional delay."""
    period = SAMPLE_RATE_HZ / hz - 0.5
    whole = int(period)
    part = period - whole
    excitation = np.zeros(n)
    excitation[: whole + 1] = rng.uniform(-1.0, 1.0, whole + 1)[:n]
    loop = np.zeros(whole + 3)
    loop[0] = 1.0
    loss = 0.996
    loop[whole : whole + 3] -= loss * 0.5 * np.array([1.0 - part, 1.0, part])
    return np.asarray(signal.lfilter([1.0], loop, excitation))


def _modes(instrument: Instrument, hz: float, n: int) -> npt.NDArray[Any]:
    """A struck bar: modes at 1, 3.93 and 9.2 times the lowest, the higher ones dying sooner."""
    t = np.arange(n) / SAMPLE_RATE_HZ
    decay = instrument.decay_s or 1.0
    out = np.zeros(n)
    for ratio, level, share in ((1.0, 1.0, 1.0), (3.93, 0.5, 0.4), (9.2, 0.2, 0.15)):
        if hz * ratio < HIGHEST_PARTIAL_HZ:
            out += level * np.sin(2.0 * np.pi * hz * ratio * t) * np.exp(-DB60 * t / (decay * share))
    return out


def _drum(key: int, build: int, rng: Rng) -> Samples:
    """Kick, snare or closed hat by their General MIDI keys, of unit root mean square at the start."""
    n = round({36: 0.25, 38: 0.2}.get(key, 0.07) * SAMPLE_RATE_HZ)
    t = np.arange(n) / SAMPLE_RATE_HZ
    noise = rng.standard_normal(n)
    if key == 36:
        start_hz, glide = ((150.0, 30.0), (220.0, 45.0), (90.0, 12.0))[build]
        turns = np.cumsum(50.0 + start_hz * np.exp(-glide * t)) / SAMPLE_RATE_HZ
        wave = np.sin(2.0 * np.pi * turns) * np.exp(-t * 14.0)
    elif key == 38:
        body_hz, rattle = ((190.0, 1.0), (240.0, 0.6), (170.0, 1.8))[build]
        wave = np.sin(2.0 * np.pi * body_hz * t) * np.exp(-t * 25.0) + rattle * noise * np.exp(-t * 20.0) * 0.5
    else:
        corner = (0.75, 0.6, 0.85)[build]
        wave = signal.lfilter(*signal.butter(2, corner, "highpass"), noise) * np.exp(-t * 60.0)
    return np.asarray(wave / (4.0 * float(np.sqrt(np.mean(wave[:800] ** 2))) + 1e-9), dtype=np.float32)
