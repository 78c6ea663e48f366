"""Sounds of any length in overlapping pieces: a transcript with times, stitched where pieces overlap, and resumable.

A piece is heard by itself. Two neighbours share `overlap_s` of sound; the words that both heard there are found by
matching, and the seam is put in the middle of the match, so that no word is doubled and none is cut. Times are those of
the pieces, shared out among words by their lengths: right to within a piece, not to the word.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from audioflamingo.audio import MIN_SAMPLES
from audioflamingo.config import WINDOW_S
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Reply

OVERLAP_S = 5.0
MIN_MATCH_WORDS = 2
MAX_RESUME_BYTES = 64 << 20
Progress = Callable[[float, float], None]


class Transcriber(Protocol):
    """Writes down the words of one sound; `audioflamingo.api.AudioFlamingo` does."""

    def transcribe(self, audio: Audio, **options: Any) -> Reply:
        """The words that are spoken."""


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
        segments: in the order of time, without overlap.
        duration_s: length of the sound.
        notes: what was done to it that its author should know of.
    """

    segments: tuple[Segment, ...]
    duration_s: float
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All words, a blank between segments."""
        return " ".join(segment.text for segment in self.segments if segment.text)


def pieces_of(audio: Audio, piece_s: float, overlap_s: float) -> Iterator[tuple[float, Audio]]:
    """Consecutive pieces of a sound with their starts in seconds; neighbours share `overlap_s`.

    Raises:
        OptionError: the overlap is not shorter than the piece, or a number is not positive.
    """
    if not (piece_s > 0 and 0 <= overlap_s < piece_s):
        raise OptionError(f"pieces of {piece_s} s with an overlap of {overlap_s} s; allowed: less overlap than piece")
    size, step = round(piece_s * SAMPLE_RATE_HZ), round((piece_s - overlap_s) * SAMPLE_RATE_HZ)
    total = len(audio.samples)
    start = 0
    while True:
        samples = audio.samples[start : start + size]
        if len(samples) >= MIN_SAMPLES or start == 0:
            yield start / SAMPLE_RATE_HZ, Audio(samples, f"{audio.name} from {start / SAMPLE_RATE_HZ:.1f} s")
        if start + size >= total:
            return
        start += step


def transcribe_long(
    model: Transcriber,
    audio: Audio,
    *,
    piece_s: float = WINDOW_S,
    overlap_s: float = OVERLAP_S,
    resume: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Transcript:
    """Write down the words of a sound of any length.

    Args:
        model: what hears the pieces.
        audio: the sound.
        piece_s: length of a piece; one window of 30 s is what the model transcribes best.
        overlap_s: what two neighbours share.
        resume: a file that keeps what is done, so that the same call goes on after an interruption.
        progress: called with the seconds that are done and all seconds.
        options: of every answer.

    Raises:
        FlamingoError: the sound or an option is not usable, or the file belongs to another sound or other options.
    """
    overlap_s = overlap_s if audio.duration_s > piece_s else 0.0
    done = _Done(resume, _key(audio, piece_s, overlap_s, options))
    found: list[Segment] = []
    notes: list[str] = []
    for number, (start_s, piece) in enumerate(pieces_of(audio, piece_s, overlap_s)):
        end_s = start_s + piece.duration_s
        text = done.text(number)
        if text is None:
            reply = model.transcribe(piece, **options)
            text = " ".join(reply.text.split())
            if reply.finish_reason == "length":
                notes.append(f"the words from {start_s:.1f} s to {end_s:.1f} s were cut at max_new_tokens; raise it")
            done.add(number, text)
        found.append(Segment(start_s, end_s, text))
        if progress:
            progress(end_s, audio.duration_s)
    return Transcript(tuple(stitch(found)), audio.duration_s, tuple(notes))


def stitch(segments: Sequence[Segment]) -> list[Segment]:
    """Neighbours that overlap in time without the words that both have, the seam in the middle of what matches."""
    joined: list[Segment] = []
    for segment in segments:
        if not joined or joined[-1].end_s <= segment.start_s:
            joined.append(segment)
            continue
        joined[-1:] = _seam(joined[-1], segment)
    return joined


def _seam(before: Segment, after: Segment) -> list[Segment]:
    """Two overlapping segments cut at one place; without a match each keeps its own half of the overlap's words."""
    left, right = before.text.split(), after.text.split()
    shared_s = before.end_s - after.start_s
    num_left = min(len(left), _words_in(left, before, shared_s))
    num_right = min(len(right), _words_in(right, after, shared_s))
    tail, head = [_plain(word) for word in left[len(left) - num_left :]], [_plain(word) for word in right[:num_right]]
    match = difflib.SequenceMatcher(None, tail, head, autojunk=False).find_longest_match()
    middle_s = (before.end_s + after.start_s) / 2
    if match.size >= min(MIN_MATCH_WORDS, max(len(tail), len(head))) and match.size:
        cut_left = len(left) - num_left + match.a + match.size
        cut_right = match.b + match.size
    else:  # nothing in common: one of the two heard nothing there, or both heard differently
        cut_left = len(left) if not head else len(left) - num_left // 4
        cut_right = 0 if not tail else num_right // 4
    return [
        replace(before, end_s=middle_s, text=" ".join(left[:cut_left])),
        replace(after, start_s=middle_s, text=" ".join(right[cut_right:])),
    ]


def _words_in(words: Sequence[str], segment: Segment, shared_s: float) -> int:
    """Words that may lie in the overlap: twice its share, as speech is not even."""
    return round(2 * len(words) * shared_s / max(segment.end_s - segment.start_s, shared_s)) + 1


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def _key(audio: Audio, piece_s: float, overlap_s: float, options: dict[str, Any]) -> str:
    asked = json.dumps([audio.key, piece_s, overlap_s, options], sort_keys=True, default=str)
    return hashlib.sha256(asked.encode()).hexdigest()


class _Done:
    """Texts of the pieces that are done, kept in a file if there is one; written after every piece."""

    def __init__(self, path: str | Path | None, key: str) -> None:
        self._path = None if path is None else Path(path)
        self._key = key
        self._texts: list[str] = []
        if self._path is not None and self._path.exists():
            self._texts = self._read(self._path)

    def text(self, number: int) -> str | None:
        return self._texts[number] if number < len(self._texts) else None

    def add(self, number: int, text: str) -> None:
        assert number == len(self._texts), "pieces are done in order"
        self._texts.append(text)
        if self._path is not None:
            partial = self._path.with_name(f".{self._path.name}.partial")
            partial.write_text(json.dumps({"key": self._key, "texts": self._texts}), encoding="utf-8")
            os.replace(partial, self._path)

    def _read(self, path: Path) -> list[str]:
        try:
            if path.stat().st_size > MAX_RESUME_BYTES:
                raise ValueError(f"it has more than {MAX_RESUME_BYTES:,} bytes")
            values = json.loads(path.read_text(encoding="utf-8"))
            texts = values["texts"]
            if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
                raise ValueError("its texts are no list of strings")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise FlamingoError(f"{path} holds no transcript to go on with ({error}); remove it") from error
        if values.get("key") != self._key:
            raise FlamingoError(f"{path} belongs to another sound or other options; remove it or name another file")
        return texts


def as_srt(transcript: Transcript) -> str:
    """Subtitles in SubRip's form."""
    said = [segment for segment in transcript.segments if segment.text]
    return "".join(
        f"{number}\n{_stamp(one.start_s, ',')} --> {_stamp(one.end_s, ',')}\n{one.text}\n\n"
        for number, one in enumerate(said, start=1)
    )


def as_vtt(transcript: Transcript) -> str:
    """Subtitles in WebVTT's form; `-->` and markup in words cannot end a cue or style it."""
    said = [segment for segment in transcript.segments if segment.text]
    escaped = ((one, one.text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")) for one in said)
    cues = (f"{_stamp(one.start_s, '.')} --> {_stamp(one.end_s, '.')}\n{text}\n\n" for one, text in escaped)
    return "WEBVTT\n\n" + "".join(cues)


def as_values(transcript: Transcript) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "text": transcript.text,
        "duration_s": round(transcript.duration_s, 3),
        "segments": [asdict(segment) for segment in transcript.segments],
        "notes": list(transcript.notes),
    }


def _stamp(time_s: float, point: str) -> str:
    milliseconds = round(time_s * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    whole, milliseconds = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{milliseconds:03}"
