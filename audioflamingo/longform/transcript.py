"""Words and when they are spoken."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Words and when they are spoken, in seconds from the beginning of the sound."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Transcript:
    """All words of a sound.

    Attributes:
        segments: one a piece, in the order of time, without overlap.
        duration_s: length of the sound.
        notes: what was done to it that its author should know of.
        phrases: the same words in shorter segments, as subtitles show them; where there are none, segments stand in.
    """

    segments: tuple[Segment, ...]
    duration_s: float
    notes: tuple[str, ...] = ()
    phrases: tuple[Segment, ...] = ()

    @property
    def text(self) -> str:
        """All words, a blank between segments."""
        return " ".join(segment.text for segment in self.segments if segment.text)

    @property
    def spoken(self) -> tuple[Segment, ...]:
        """Phrases, or else segments, that hold words."""
        return tuple(one for one in self.phrases or self.segments if one.text)
