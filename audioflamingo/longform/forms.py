"""A transcript as subtitles, or as plain values for JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from audioflamingo.longform.transcript import Segment, Transcript

MAX_LINE_CHARS = 42
MILLISECONDS_PER_S = 1000


def as_srt(transcript: Transcript) -> str:
    """Subtitles in SubRip's form; a `-->` in words becomes an arrow, which no reader takes for times."""
    cues = (f"{_times(one, ',')}\n{_lines(one.text.replace('-->', '→'))}" for one in transcript.spoken)
    return "".join(f"{number}\n{cue}\n\n" for number, cue in enumerate(cues, start=1))


def as_vtt(transcript: Transcript) -> str:
    """Subtitles in WebVTT's form; `-->` and markup in words cannot end a cue or style it."""
    cues = (f"{_times(one, '.')}\n{_escaped(_lines(one.text))}\n\n" for one in transcript.spoken)
    return "WEBVTT\n\n" + "".join(cues)


def as_values(transcript: Transcript) -> dict[str, Any]:
    """Plain values for JSON; its segments are phrases, times to the millisecond."""
    return {
        "text": transcript.text,
        "duration_s": round(transcript.duration_s, 3),
        "segments": [
            asdict(one) | {"start_s": round(one.start_s, 3), "end_s": round(one.end_s, 3)} for one in transcript.spoken
        ],
        "notes": list(transcript.notes),
    }


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _lines(text: str) -> str:
    """The text on two lines, broken at the blank that is nearest to its middle, where one line would be too long."""
    blanks = [place for place, letter in enumerate(text) if letter == " "]
    if len(text) <= MAX_LINE_CHARS or not blanks:
        return text
    place = min(blanks, key=lambda blank: abs(2 * blank - len(text)))
    return f"{text[:place]}\n{text[place + 1 :]}"


def _times(segment: Segment, point: str) -> str:
    """Start and end; a segment shorter than a millisecond gets one, as readers refuse empty ones."""
    start = round(segment.start_s * MILLISECONDS_PER_S)
    end = max(start + 1, round(segment.end_s * MILLISECONDS_PER_S))
    return f"{_stamp(start, point)} --> {_stamp(end, point)}"


def _stamp(milliseconds: int, point: str) -> str:
    hours, rest = divmod(milliseconds, 3600 * MILLISECONDS_PER_S)
    minutes, rest = divmod(rest, 60 * MILLISECONDS_PER_S)
    whole, milliseconds = divmod(rest, MILLISECONDS_PER_S)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{milliseconds:03}"
