"""How a speaker of `tract` speaks, and the parts that a text is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audioflamingo.world.tract_flite import Segment
from audioflamingo.world.tract_phones import Formants, Phone


@dataclass(frozen=True)
class Saying:
    """How a speaker moves, hisses, sings and hurries; `tract.person` draws it.

    Attributes:
        scale: factors on F1, F2, F3.
        vowels: targets of each vowel before scaling, in Hz.
        widths: factor on bandwidths.
        move_s: time of a formant between a consonant and a vowel.
        undershoot: how far the shortest vowels stay where their neighbours are, 0 to 1.
        onset: factor on the time between a burst and the voice.
        burst_db, hiss_db, hush_db, aspiration_db, bar_db: levels of bursts, of s and its like, of f and th, of h and
            the breath after bursts, and of the voice in closures, against the tables'.
        nasal: strength of a nasal's gap.
        breath: noise in the voice.
        whisper: breath in place of the voice.
        recorded: the voice is put together of recordings: steps at joins, level pitch.
        join: size of those steps.
        flaps: says t between vowels as a flap.
        dark_l, r_depth: how far l after a vowel is dark, and how far r goes down.
        releases: chance that a stop before a pause is released.
        pitch_hz: own pitch.
        declination, accent, fall, rise, comma, micro, tremor, drift: semitones.
        accent_late: where in its syllable an accent peaks; accent_s: its half width.
        stretch: factor on durations by kind; reduced: on unstressed vowels'; unsteady: deviation of each.
        pause: factor on pauses.
        stress_db: accented against unstressed.
    """

    scale: Formants
    vowels: Mapping[str, tuple[Formants, ...]]
    widths: float
    move_s: float
    undershoot: float
    onset: float
    burst_db: float
    hiss_db: float
    hush_db: float
    aspiration_db: float
    bar_db: float
    nasal: float
    breath: float
    whisper: bool
    recorded: bool
    join: float
    flaps: bool
    dark_l: float
    r_depth: float
    releases: float
    pitch_hz: float
    declination: float
    accent: float
    accent_late: float
    accent_s: float
    fall: float
    rise: float
    comma: float
    micro: float
    tremor: float
    drift: float
    stretch: Mapping[str, float]
    reduced: float
    unsteady: float
    pause: float
    stress_db: float


@dataclass
class Part:
    """A sound with its place in frames, filled step by step.

    Attributes:
        segment: as it was planned.
        phone: its table.
        first, last: frames, the last excluded.
        release: frame from which formants move to the next sound: a stop's burst.
        targets: formants, before the speaker's scale.
    """

    segment: Segment
    phone: Phone
    first: int = 0
    last: int = 0
    release: int = 0
    targets: tuple[Formants, ...] = field(default=())

    @property
    def frames(self) -> int:
        """How many."""
        return self.last - self.first
