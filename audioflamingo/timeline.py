"""What is heard when: short overlapping pieces of a sound are asked about, and equal answers of neighbours are joined.

It needs no model that was trained on times: a piece is answered like any short clip, and where the answer changes, so
does the timeline. Starts and ends are therefore right to about one step.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from audioflamingo.audio import MIN_SAMPLES
from audioflamingo.errors import OptionError
from audioflamingo.facts.asking import listed
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message, Reply

Lane = Literal["sound", "speech", "music"]

PIECE_S = 4.0
STEP_S = 2.0
MAX_PIECES = 20_000
MAX_ANSWER_TOKENS = 24
PIECES_AT_ONCE = 32
QUESTIONS: dict[Lane, str] = {
    "sound": "What do you hear?",
    "speech": "Is anyone speaking?",
    "music": "Is there music?",
}
SPEAKER_QUESTION = "Is it a man or a woman?"


class Answering(Protocol):
    """Answers many conversations as one batch; `audioflamingo.api.AudioFlamingo` does."""

    def generate(self, conversations: Sequence[Sequence[Message]], **options: Any) -> list[Reply]:
        """One answer a conversation."""


@dataclass(frozen=True)
class Event:
    """Something that is heard from `start_s` to `end_s`; `lane` says of which kind it is, `label` what."""

    start_s: float
    end_s: float
    lane: Lane
    label: str


def timeline(
    model: Answering, audio: Audio, *, piece_s: float = PIECE_S, step_s: float = STEP_S, **options: Any
) -> tuple[Event, ...]:
    """Everything that is heard, ordered by start.

    Args:
        model: what hears the pieces.
        audio: the sound, of any length.
        piece_s: length of a piece.
        step_s: from one piece's start to the next one's; also how exact the times are.
        options: of every answer.

    Raises:
        OptionError: piece and step do not fit, or make more pieces than are allowed.
    """
    starts = _starts(audio, piece_s, step_s)
    size = round(piece_s * SAMPLE_RATE_HZ)
    pieces = [Audio(audio.samples[start : start + size], audio.name) for start in starts]
    options = {"max_new_tokens": MAX_ANSWER_TOKENS} | options
    labels = {lane: _labels(lane, _asked(model, pieces, question, options)) for lane, question in QUESTIONS.items()}
    speaking = [place for place, found in enumerate(labels["speech"]) if found]
    answers = _asked(model, [pieces[place] for place in speaking], SPEAKER_QUESTION, options)
    for place, answer in zip(speaking, answers, strict=True):
        labels["speech"][place] = {_speaker(answer)}
    spans = _spans(starts, audio.duration_s, piece_s)
    events = [event for lane, found in labels.items() for event in joined(lane, found, spans)]
    return tuple(sorted(events, key=lambda event: (event.start_s, event.lane, event.label)))


def joined(lane: Lane, labels: Sequence[set[str]], spans: Sequence[tuple[float, float]]) -> Iterable[Event]:
    """One event for each run of neighbouring pieces that have a label in common."""
    open_since: dict[str, int] = {}
    for place in range(len(labels) + 1):
        now = labels[place] if place < len(labels) else set()
        for label in sorted(open_since.keys() - now):
            first = open_since.pop(label)
            yield Event(spans[first][0], spans[place - 1][1], lane, label)
        for label in now - open_since.keys():
            open_since[label] = place


def as_table(events: Sequence[Event]) -> str:
    """One line an event: start, end, lane, label."""
    lines = (f"{one.start_s:9.1f} {one.end_s:9.1f}  {one.lane:7} {one.label}\n" for one in events)
    return f"{'start s':>9} {'end s':>9}  {'kind':7} what\n" + "".join(lines)


def _starts(audio: Audio, piece_s: float, step_s: float) -> list[int]:
    if not 0 < step_s <= piece_s:
        raise OptionError(f"pieces of {piece_s} s every {step_s} s; allowed: a step above 0, at most the piece")
    step = max(1, round(step_s * SAMPLE_RATE_HZ))
    last = max(1, len(audio.samples) - round((piece_s - step_s) * SAMPLE_RATE_HZ))
    starts = [start for start in range(0, last, step) if len(audio.samples) - start >= MIN_SAMPLES] or [0]
    if len(starts) > MAX_PIECES:
        raise OptionError(f"{len(starts):,} pieces of {piece_s} s came, allowed: {MAX_PIECES:,}; raise the step")
    return starts


def _spans(starts: Sequence[int], duration_s: float, piece_s: float) -> list[tuple[float, float]]:
    """The stretch of time that each piece decides: up to the middle between its centre and its neighbours'."""
    centres = [start / SAMPLE_RATE_HZ + piece_s / 2 for start in starts]
    borders = [0.0, *((one + other) / 2 for one, other in itertools.pairwise(centres)), duration_s]
    return list(itertools.pairwise(borders))


def _asked(model: Answering, pieces: Sequence[Audio], question: str, options: dict[str, Any]) -> list[str]:
    answers: list[str] = []
    for start in range(0, len(pieces), PIECES_AT_ONCE):
        some = pieces[start : start + PIECES_AT_ONCE]
        replies = model.generate([(Message("user", (piece, question)),) for piece in some], **options)
        answers += [reply.text for reply in replies]
    return answers


def _labels(lane: Lane, answers: Sequence[str]) -> list[set[str]]:
    if lane == "sound":
        return [set(listed(answer)) for answer in answers]
    return [{lane} if answer.strip().lower().startswith("yes") else set() for answer in answers]


def _speaker(answer: str) -> str:
    words = re.findall(r"[a-z]+", answer.lower())
    return next((word for word in words if word in ("man", "woman", "child")), "someone")
