"""What the sounds of American English are made of, as rounded averages of men: the tables of `tract`.

Vowels: average formants as phonetics courses teach them (after Peterson and Barney 1952, Hillenbrand et al. 1995).
Consonants: the frequencies that formants point to beside them (locus equations), and where their noise lies.
All in Hz, dB or seconds; names of the sounds are flite's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["vowel", "glide", "liquid", "nasal", "fricative", "stop", "affricate", "aspirate", "pause"]
Formants = tuple[float, float, float]

NEUTRAL: Formants = (500.0, 1_500.0, 2_500.0)
UPPER_HZ = (3_500.0, 4_500.0, 5_500.0, 6_500.0, 7_500.0)  # F4 and above, the same in every sound
UPPER_WIDTH_HZ = (220.0, 280.0, 350.0, 450.0, 550.0)


@dataclass(frozen=True)
class Place:
    """Where a consonant is made: formants beside it are `start + slope * vowel's`, for F2 and F3; F1 falls to `f1`."""

    f2: float
    slope2: float
    f3: float
    slope3: float
    f1: float = 230.0
    slope1: float = 0.2

    def beside(self, vowel: Formants) -> Formants:
        """The formants at the border to a vowel."""
        return (
            self.f1 + self.slope1 * (vowel[0] - self.f1),
            self.f2 + self.slope2 * vowel[1],
            self.f3 + self.slope3 * vowel[2],
        )


LIPS = Place(200.0, 0.76, 500.0, 0.70)
LIP_AND_TEETH = Place(270.0, 0.72, 600.0, 0.70)
TEETH = Place(760.0, 0.46, 1_500.0, 0.42)
GUM = Place(1_020.0, 0.43, 1_750.0, 0.36)
PALATE = Place(1_250.0, 0.37, 1_700.0, 0.33)
VELUM = Place(330.0, 0.86, 1_100.0, 0.46)


@dataclass(frozen=True)
class Phone:
    """A sound.

    Attributes:
        kind: how it is made.
        targets: formants that it is held at; two for a diphthong; none where it takes what is around it.
        place: of a consonant without formants of its own.
        voice_db: level of the voice relative to a vowel's, before the throat; None without voice.
        bar: how far the mouth is closed to high frequencies, 0 to 1.
        noise: a key of `NOISES`.
        noise_db: its level relative to a vowel's.
        onset_s: of a voiceless stop: from the burst to the voice.
        zero_hz: of a nasal: where its spectrum has a gap.
    """

    kind: Kind
    targets: tuple[Formants, ...] = ()
    place: Place | None = None
    voice_db: float | None = None
    bar: float = 0.0
    noise: str = ""
    noise_db: float = 0.0
    onset_s: float = 0.0
    zero_hz: float = 0.0


def _vowel(*targets: Formants, db: float = 0.0) -> Phone:
    return Phone("vowel", targets, voice_db=db)


VOWELS: dict[str, Phone] = {
    "iy": _vowel((290, 2_290, 3_000), (280, 2_330, 3_050), db=1.0),
    "ih": _vowel((410, 1_990, 2_580), (430, 1_900, 2_550)),
    "ey": _vowel((460, 1_980, 2_560), (340, 2_220, 2_720)),
    "eh": _vowel((560, 1_820, 2_520), (580, 1_740, 2_500)),
    "ae": _vowel((660, 1_760, 2_450), (680, 1_660, 2_430)),
    "aa": _vowel((750, 1_130, 2_480)),
    "ao": _vowel((620, 930, 2_450), (610, 970, 2_450)),
    "ow": _vowel((500, 1_010, 2_380), (380, 840, 2_300)),
    "uh": _vowel((450, 1_130, 2_300)),
    "uw": _vowel((330, 1_050, 2_270), (310, 920, 2_260), db=1.0),
    "ah": _vowel((630, 1_230, 2_480)),
    "ax": _vowel((500, 1_420, 2_480), db=-1.5),
    "er": _vowel((470, 1_330, 1_680)),
    "aw": _vowel((730, 1_330, 2_450), (430, 900, 2_350)),
    "ay": _vowel((740, 1_230, 2_450), (390, 2_010, 2_600)),
    "oy": _vowel((520, 860, 2_400), (390, 1_980, 2_550)),
}

CONSONANTS: dict[str, Phone] = {
    "y": Phone("glide", ((270, 2_250, 3_000),), voice_db=-2.5),
    "w": Phone("glide", ((290, 650, 2_200),), voice_db=-2.0),
    "r": Phone("liquid", ((350, 1_150, 1_450),), voice_db=-2.0),
    "l": Phone("liquid", ((350, 1_080, 2_750),), voice_db=-3.0),
    "el": Phone("liquid", ((430, 800, 2_650),), voice_db=-2.0),
    "m": Phone("nasal", place=LIPS, voice_db=-3.0, bar=0.55, zero_hz=1_150.0),
    "n": Phone("nasal", place=GUM, voice_db=-3.0, bar=0.5, zero_hz=1_750.0),
    "ng": Phone("nasal", place=VELUM, voice_db=-3.0, bar=0.55, zero_hz=3_000.0),
    "p": Phone("stop", place=LIPS, noise="p", noise_db=-11.0, onset_s=0.045),
    "t": Phone("stop", place=GUM, noise="t", noise_db=-5.0, onset_s=0.055),
    "k": Phone("stop", place=VELUM, noise="k", noise_db=-5.0, onset_s=0.062),
    "b": Phone("stop", place=LIPS, voice_db=-7.0, noise="p", noise_db=-13.0),
    "d": Phone("stop", place=GUM, voice_db=-7.0, noise="t", noise_db=-10.0),
    "g": Phone("stop", place=VELUM, voice_db=-7.0, noise="k", noise_db=-9.0),
    "dx": Phone("stop", place=GUM, voice_db=-4.0, noise="t", noise_db=-25.0),
    "ch": Phone("affricate", place=PALATE, noise="sh", noise_db=-9.0),
    "jh": Phone("affricate", place=PALATE, voice_db=-8.0, noise="sh", noise_db=-13.0),
    "s": Phone("fricative", place=GUM, noise="s", noise_db=-9.0),
    "sh": Phone("fricative", place=PALATE, noise="sh", noise_db=-9.0),
    "f": Phone("fricative", place=LIP_AND_TEETH, noise="f", noise_db=-23.0),
    "th": Phone("fricative", place=TEETH, noise="th", noise_db=-25.0),
    "z": Phone("fricative", place=GUM, voice_db=-7.0, bar=0.7, noise="s", noise_db=-15.0),
    "zh": Phone("fricative", place=PALATE, voice_db=-7.0, bar=0.7, noise="sh", noise_db=-15.0),
    "v": Phone("fricative", place=LIP_AND_TEETH, voice_db=-5.0, bar=0.4, noise="f", noise_db=-27.0),
    "dh": Phone("fricative", place=TEETH, voice_db=-5.0, bar=0.4, noise="th", noise_db=-28.0),
    "hh": Phone("aspirate"),
}
PHONES: dict[str, Phone] = {**VOWELS, **CONSONANTS, "pau": Phone("pause")}
FLOWING = ("vowel", "glide", "liquid")  # kinds with formants of their own

# Noise as humps: centre, half width and level in dB. "kb" and "kf" are k before back and front vowels.
NOISES: dict[str, tuple[tuple[float, float, float], ...]] = {
    "s": ((5_300, 900, 0.0), (7_300, 1_300, -2.0), (3_600, 700, -18.0)),
    "sh": ((2_700, 500, 0.0), (4_000, 900, -3.0), (5_800, 1_500, -10.0)),
    "f": ((1_500, 1_200, -7.0), (4_500, 2_200, -3.0), (7_500, 2_000, 0.0)),
    "th": ((1_700, 700, -9.0), (5_200, 2_000, -3.0), (7_600, 1_500, 0.0)),
    "p": ((700, 700, 0.0), (2_200, 1_500, -9.0)),
    "t": ((3_900, 900, 0.0), (5_500, 1_500, -4.0), (2_000, 500, -12.0)),
    "kb": ((1_500, 260, 0.0), (3_900, 600, -10.0)),
    "kf": ((2_500, 420, 0.0), (4_800, 900, -8.0)),
}
NOISE_ROWS = {name: row for row, name in enumerate(NOISES)}
