"""The values that questions about a sound are read into. None is what the model does not tell; `untold` says why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pace = Literal["slow", "moderate", "fast"]
Detail = Literal["short", "long"]


@dataclass(frozen=True)
class Emotion:
    """How someone speaks.

    Attributes:
        label: one of `questions.EMOTIONS`.
        tone: the tone of voice in the model's own words.
        evidence: what in voice and words shows it, in the model's own words.
        untold: one line for each of these that the model does not tell.
    """

    label: str
    tone: str | None
    evidence: str | None
    untold: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tags:
    """What is heard.

    Attributes:
        labels: lower case, in the order of the answer, or of the labels asked for; empty where nothing is heard.
    """

    labels: tuple[str, ...]


@dataclass(frozen=True)
class SongFacts:
    """What a piece of music is.

    Attributes:
        genre: in the model's own words.
        mood: likewise.
        instruments: lower case, in the order of the answer; empty where the model names none.
        tempo_bpm: beats a minute, a whole number from `questions.SLOWEST_BPM` to `questions.FASTEST_BPM`.
        pace: the tempo as a listener would call it; the model's own judgement, not computed from `tempo_bpm`.
        key: such as "C major" or "F# minor".
        structure: sections and how they differ, in the model's own words.
        untold: one line for each of these that the model does not tell.
    """

    genre: str | None
    mood: str | None
    instruments: tuple[str, ...]
    tempo_bpm: int
    pace: Pace
    key: str
    structure: str | None
    untold: tuple[str, ...] = ()
