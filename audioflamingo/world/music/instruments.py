"""Instruments of our own synthesiser: their names, families, General MIDI programs and how they sound.

Each has `NUM_BUILDS` independent ways of being synthesised; the last one is held out from training:
0 wavetables (a bright layer that fades and a mellow one), 1 frequency modulation, 2 source and filter (for plucked
strings Karplus-Strong, for struck bars decaying modes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal[
    "keyboard", "plucked string", "bowed string", "woodwind", "brass", "mallet", "voice", "synthesizer", "drums"
]
Filtered = Literal["saw", "pulse", "noise", "plucked", "modes"]

NUM_BUILDS = 3
HELD_OUT_BUILD = NUM_BUILDS - 1
DRUM_KIT = "drums"


@dataclass(frozen=True)
class Instrument:
    """One instrument.

    Attributes:
        family: it belongs to.
        program: General MIDI program, from 0.
        partials: amplitude of each harmonic of the bright layer.
        attack_s: until full loudness.
        decay_s: loses 60 dB in this time at middle C; None for instruments that sustain.
        vibrato: depth as a share of the frequency.
        breath: share of noise.
        ratio: modulator over carrier frequency in the frequency modulation build.
        index: depth of that modulation.
        filtered: excitation of the source and filter build.
        corner: of its low-pass filter, in multiples of the note's frequency.
    """

    family: Family
    program: int
    partials: tuple[float, ...]
    attack_s: float
    decay_s: float | None
    vibrato: float = 0.0
    breath: float = 0.0
    ratio: float = 1.0
    index: float = 1.0
    filtered: Filtered = "saw"
    corner: float = 4.0


def _falling(num: int, slope: float) -> tuple[float, ...]:
    return tuple((k + 1) ** -slope for k in range(num))


def _odd(num: int, slope: float) -> tuple[float, ...]:
    return tuple((k + 1) ** -slope * (1.0 if k % 2 == 0 else 0.06) for k in range(num))


INSTRUMENTS: dict[str, Instrument] = {
    "piano": Instrument("keyboard", 0, _falling(14, 1.3), 0.003, 2.5, ratio=1.0, index=1.6, filtered="plucked"),
    "organ": Instrument(
        "keyboard", 19, (1.0, 0.8, 0.3, 0.6, 0.05, 0.3, 0.02, 0.4), 0.02, None, ratio=2.0, index=0.9, filtered="pulse",
        corner=8.0,
    ),
    "guitar": Instrument("plucked string", 24, _falling(18, 1.0), 0.002, 1.6, ratio=3.0, index=0.9, filtered="plucked"),
    "harp": Instrument("plucked string", 46, _falling(8, 1.7), 0.004, 2.2, ratio=2.0, index=0.5, filtered="plucked"),
    "bass guitar": Instrument(
        "plucked string", 33, _falling(9, 1.4), 0.004, 1.8, ratio=1.0, index=0.9, filtered="plucked"
    ),
    "double bass": Instrument(
        "bowed string", 43, _falling(14, 1.1), 0.06, None, 0.003, ratio=1.0, index=1.1, filtered="saw"
    ),
    "violin": Instrument(
        "bowed string", 40, _falling(20, 0.9), 0.07, None, 0.006, 0.01, ratio=1.0, index=1.9, filtered="saw", corner=7.0
    ),
    "cello": Instrument(
        "bowed string", 42, _falling(16, 1.0), 0.08, None, 0.005, 0.01, ratio=1.0, index=1.4, filtered="saw"
    ),
    "flute": Instrument(
        "woodwind", 73, (1.0, 0.35, 0.12, 0.03), 0.06, None, 0.005, 0.05, ratio=1.0, index=0.3, filtered="noise",
        corner=1.5,
    ),
    "clarinet": Instrument("woodwind", 71, _odd(13, 0.9), 0.04, None, 0.001, 0.01, 2.0, 1.3, "pulse", 5.0),
    "trumpet": Instrument(
        "brass", 56, (0.6, 0.9, 1.0, 0.8, 0.6, 0.45, 0.3, 0.2, 0.12, 0.08), 0.035, None, 0.003, 0.005, 1.0, 2.6, "saw",
        9.0,
    ),
    "vibraphone": Instrument("mallet", 11, (1.0, 0.0, 0.0, 0.35), 0.002, 2.0, 0.0, 0.0, 4.0, 0.8, "modes"),
    "marimba": Instrument("mallet", 12, (1.0, 0.0, 0.0, 0.5), 0.002, 0.5, 0.0, 0.0, 3.9, 1.2, "modes"),
    "choir": Instrument(
        "voice", 52, (1.0, 0.7, 0.5, 0.2, 0.1, 0.15, 0.08), 0.12, None, 0.008, 0.03, 1.0, 0.8, "saw", 3.0
    ),
    "synthesizer": Instrument("synthesizer", 81, _falling(24, 0.75), 0.01, None, 0.0, 0.0, 1.0, 3.5, "saw", 16.0),
}  # fmt: skip
MELODIC = (
    "piano",
    "organ",
    "guitar",
    "harp",
    "violin",
    "flute",
    "clarinet",
    "trumpet",
    "vibraphone",
    "choir",
    "synthesizer",
)
CHORDAL = ("piano", "organ", "guitar", "harp", "cello", "marimba", "choir")
BASSES = ("bass guitar", "double bass")


def family_of(instrument: str) -> Family:
    """Of an instrument by name, drums included."""
    return "drums" if instrument == DRUM_KIT else INSTRUMENTS[instrument].family
