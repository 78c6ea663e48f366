"""How far one instrument may differ from another of its name: ranges from which training draws a timbre for each part.

What makes a piano a piano is kept (strings that are struck, decay in two stages, resonances that stay while the pitch
moves), everything that one build fixes is drawn: attack, decay, slope of the spectrum, resonances, noise of hammer, bow
and breath, vibrato, tremolo, width of the ensemble. General facts of the instruments are from Fletcher and Rossing,
"The Physics of Musical Instruments" (1998). Training alone uses this.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]
Formants = tuple[tuple[float, float], ...]  # (Hz, dB above the rest)

VOWELS: tuple[Formants, ...] = (
    ((750.0, 18.0), (1_150.0, 14.0), (2_700.0, 8.0)),
    ((430.0, 18.0), (800.0, 12.0), (2_500.0, 3.0)),
    ((500.0, 18.0), (1_800.0, 10.0), (2_600.0, 8.0)),
    ((320.0, 18.0), (2_200.0, 8.0), (3_000.0, 6.0)),
)


@dataclass(frozen=True)
class Character:
    """Ranges of an instrument; one draw from each makes the timbre of a part.

    Attributes:
        slope: exponent with which partials fall.
        attack_s: until full loudness.
        decay_s: loses 60 dB in this time at middle C; None where the sound sustains.
        release_s: after the end of a note.
        formants: sets of resonances that stay while the pitch moves; one set is drawn.
        corner_hz: above it partials fall by 12 dB an octave more.
        even: level of even partials of low notes; in high ones they are as strong as others.
        pluck: place of the string that is struck or plucked, a share of its length; partials with a node there are
            weak. None where there is none.
        stretch: inharmonicity of strings, the B of f = k f0 sqrt(1 + B k^2).
        modes: frequencies of a bar's modes over the lowest; empty for whole-numbered partials.
        strike_db: noise of the stroke, against the tone.
        breath_db: noise of breath or bow, against the tone.
        voices: players or strings that sound together.
        detune_cents: how far apart those are.
        vibrato_cents: depth of vibrato.
        tremolo: depth of tremolo, a share.
        brightening: by how much later than the lowest the highest partials come, in attacks.
        octaves: stops that sound along, frequencies over the written one.
    """

    slope: Range
    attack_s: Range
    decay_s: Range | None = None
    release_s: Range = (0.04, 0.2)
    formants: tuple[Formants, ...] = ((),)
    corner_hz: Range = (1_500.0, 7_000.0)
    even: Range = (1.0, 1.0)
    pluck: Range | None = None
    stretch: Range = (0.0, 0.0)
    modes: tuple[Range, ...] = ()
    strike_db: Range | None = None
    breath_db: Range | None = None
    voices: tuple[int, int] = (1, 1)
    detune_cents: Range = (2.0, 8.0)
    vibrato_cents: Range = (0.0, 0.0)
    tremolo: Range = (0.0, 0.0)
    brightening: Range = (0.0, 0.5)
    octaves: tuple[float, ...] = (1.0,)


CHARACTERS: dict[str, Character] = {
    "piano": Character(
        (0.6, 2.0), (0.001, 0.025), (2.5, 14.0), (0.06, 0.5), (((120.0, 4.0), (400.0, 3.0)), ((250.0, 5.0),)),
        (900.0, 4_500.0), pluck=(0.10, 0.15), stretch=(0.0001, 0.0012), strike_db=(-32.0, -12.0), voices=(1, 3),
        detune_cents=(0.5, 6.0),
    ),
    "organ": Character(
        (0.3, 1.4), (0.008, 0.08), None, (0.04, 0.35), ((),), (1_500.0, 7_000.0), even=(0.3, 1.0),
        strike_db=(-36.0, -20.0), breath_db=(-50.0, -32.0), voices=(1, 3), detune_cents=(1.0, 7.0),
        tremolo=(0.0, 0.2), octaves=(0.5, 1.0, 2.0, 3.0, 4.0, 8.0),
    ),
    "guitar": Character(
        (0.5, 1.7), (0.001, 0.02), (1.5, 9.0), (0.04, 0.5),
        (((105.0, 7.0), (205.0, 6.0), (420.0, 3.0)), ((180.0, 5.0), (600.0, 4.0))),
        (1_500.0, 6_000.0), pluck=(0.08, 0.4), stretch=(0.0, 0.0002), strike_db=(-34.0, -16.0), voices=(1, 2),
    ),
    "harp": Character(
        (1.0, 2.6), (0.001, 0.025), (2.0, 10.0), (0.2, 0.9), (((200.0, 4.0),), ((350.0, 5.0), (700.0, 3.0))),
        (1_200.0, 4_500.0), pluck=(0.28, 0.5), strike_db=(-40.0, -22.0),
    ),
    "bass guitar": Character(
        (0.6, 1.9), (0.002, 0.02), (2.0, 12.0), (0.04, 0.15), ((),), (500.0, 3_000.0), pluck=(0.08, 0.35),
        stretch=(0.0, 0.0004), strike_db=(-36.0, -18.0),
    ),
    "double bass": Character(
        (0.8, 1.8), (0.015, 0.15), None, (0.06, 0.25), (((70.0, 5.0), (110.0, 5.0), (250.0, 4.0)), ((90.0, 6.0),)),
        (700.0, 3_000.0), breath_db=(-38.0, -20.0), voices=(1, 3), vibrato_cents=(0.0, 14.0), brightening=(0.2, 1.2),
    ),
    "violin": Character(
        (0.4, 1.5), (0.012, 0.16), None, (0.05, 0.3),
        (((280.0, 6.0), (480.0, 8.0), (1_000.0, 5.0), (2_800.0, 10.0)), ((450.0, 8.0), (1_200.0, 5.0), (3_300.0, 8.0))),
        (2_500.0, 7_000.0), breath_db=(-48.0, -16.0), voices=(1, 3), detune_cents=(3.0, 12.0),
        vibrato_cents=(0.0, 35.0), tremolo=(0.0, 0.3), brightening=(0.2, 1.5),
    ),
    "cello": Character(
        (0.5, 1.6), (0.015, 0.18), None, (0.06, 0.3), (((100.0, 6.0), (210.0, 7.0), (1_500.0, 6.0)), ((180.0, 7.0),)),
        (1_500.0, 5_000.0), breath_db=(-48.0, -18.0), voices=(1, 3), detune_cents=(3.0, 10.0),
        vibrato_cents=(0.0, 28.0), tremolo=(0.0, 0.3), brightening=(0.2, 1.5),
    ),
    "flute": Character(
        (0.9, 3.2), (0.02, 0.13), None, (0.04, 0.2), ((), ((900.0, 5.0),), ((1_300.0, 5.0),)), (1_500.0, 5_000.0),
        even=(0.3, 1.3), strike_db=(-32.0, -16.0), breath_db=(-42.0, -10.0), vibrato_cents=(0.0, 22.0),
        tremolo=(0.0, 0.3), brightening=(0.0, 1.0),
    ),
    "clarinet": Character(
        (0.4, 1.4), (0.015, 0.09), None, (0.03, 0.15), (((1_500.0, 5.0),), ((1_200.0, 4.0), (2_800.0, 6.0))),
        (1_500.0, 5_000.0), even=(0.02, 0.3), breath_db=(-42.0, -24.0), vibrato_cents=(0.0, 8.0),
        brightening=(0.2, 1.2),
    ),
    "trumpet": Character(
        (-0.3, 0.7), (0.008, 0.08), None, (0.03, 0.15), (((1_200.0, 6.0),), ((1_500.0, 7.0), (2_600.0, 4.0))),
        (1_200.0, 6_000.0), breath_db=(-44.0, -26.0), voices=(1, 2), vibrato_cents=(0.0, 18.0), brightening=(0.8, 3.0),
    ),
    "vibraphone": Character(
        (1.0, 2.2), (0.001, 0.025), (3.0, 16.0), (0.1, 0.9), ((),), (2_500.0, 7_000.0),
        modes=((1.0, 1.0), (3.92, 4.02), (9.4, 10.8)), strike_db=(-38.0, -20.0), tremolo=(0.0, 0.6),
    ),
    "marimba": Character(
        (0.9, 2.4), (0.001, 0.015), (0.6, 3.5), (0.05, 0.4), ((),), (2_500.0, 7_000.0),
        modes=((1.0, 1.0), (3.85, 4.05), (9.0, 10.9)), strike_db=(-30.0, -12.0),
    ),
    "choir": Character(
        (0.4, 1.2), (0.05, 0.3), None, (0.08, 0.4), VOWELS, (2_000.0, 5_000.0), breath_db=(-36.0, -18.0),
        voices=(3, 6), detune_cents=(6.0, 22.0), vibrato_cents=(0.0, 35.0), tremolo=(0.0, 0.3), brightening=(0.0, 1.0),
    ),
    "synthesizer": Character(
        (0.4, 1.1), (0.002, 0.04), None, (0.02, 0.25), ((),), (2_500.0, 7_500.0), even=(0.2, 1.0), voices=(1, 4),
        detune_cents=(2.0, 18.0), vibrato_cents=(0.0, 10.0), tremolo=(0.0, 0.3), brightening=(0.0, 0.3),
    ),
}  # fmt: skip
