"""What is heard when: short overlapping pieces of a sound are asked about, and what all agree on is heard.

It needs no model that was trained on times. A piece is answered like any short clip, and a sound is named wherever a
part of it is in the piece; so at a given time is heard what every piece that holds this time names. Starts and ends are
therefore right to about one step, though pieces are longer. Pieces that reach over the ends of the sound are cut there.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from audioflamingo.errors import OptionError
from audioflamingo.facts.asking import hears_speech, listed, names_music, names_speech
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message, Reply

Lane = Literal["sound", "speech", "music"]

PIECE_S = 4.0
STEP_S = 1.0
SHORTEST_S = 0.5  # what is left of a piece at an end of the sound is asked about from here on
EDGE_DIGITS = 6  # sums that differ in their last bit are the same edge
MAX_PIECES = 100_000
MAX_ANSWER_TOKENS = 24
PIECES_AT_ONCE = 32
QUESTIONS: dict[Lane, str] = {
    "sound": "What do you hear?",
    "speech": "Is anyone speaking?",
    "music": "Is there music?",
}
SPEAKER_QUESTION = "Is it a man or a woman?"
Progress = Callable[[float, float], None]
Span = tuple[float, float]
Labels = list[set[str]]


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
    model: Answering,
    audio: Audio,
    *,
    piece_s: float = PIECE_S,
    step_s: float = STEP_S,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Event, ...]:
    """Everything that is heard, ordered by start.

    Args:
        model: what hears the pieces.
        audio: the sound, of any length.
        piece_s: length of a piece.
        step_s: from one piece's start to the next one's; also how exact the times are.
        progress: called with the seconds that were heard, each as often as a question is asked about it, and all.
        options: of every answer.

    Raises:
        OptionError: piece and step do not fit, or make more pieces than are allowed.
    """
    pieces = _pieces(audio.duration_s, piece_s, step_s)
    asking = _Asking(model, audio, pieces, {"max_new_tokens": MAX_ANSWER_TOKENS} | options, progress)
    cells = list(itertools.pairwise(sorted({edge for piece in pieces for edge in piece})))
    said = asking.ask("sound")
    # Small models name speech and music, but do not always affirm them.
    speaks = [hears_speech(is_so, one) for is_so, one in zip(asking.affirmed("speech"), said, strict=True)]
    plays = [is_so or names_music(one) for is_so, one in zip(asking.affirmed("music"), said, strict=True)]
    speakers = asking.speakers([place for place, is_so in enumerate(speaks) if is_so])
    found: dict[Lane, Labels] = {
        "sound": heard([_sounds(one) for one in said], pieces, cells),
        "speech": named(
            heard([{"speech"} if is_so else set() for is_so in speaks], pieces, cells), speakers, pieces, cells
        ),
        "music": heard([{"music"} if is_so else set() for is_so in plays], pieces, cells),
    }
    events = [event for lane, labels in found.items() for event in joined(lane, labels, cells)]
    return tuple(sorted(events, key=lambda event: (event.start_s, event.lane, event.label)))


def _sounds(said: str) -> set[str]:
    """What an answer names but for speech and music, which have lanes of their own."""
    return {label for label in listed(said) if label != "music" and not names_speech(label)}


def heard(labels: Sequence[set[str]], pieces: Sequence[Span], cells: Sequence[Span]) -> Labels:
    """What every piece over a cell names; a label that a single piece lacks between two that have it counts as named.

    Args:
        labels: of each piece.
        pieces: (start, end) of each piece in seconds, by start.
        cells: consecutive stretches (start, end), within each of which no piece begins or ends.
    """
    full = [
        own | (labels[place - 1] & labels[place + 1]) if 0 < place < len(labels) - 1 else own
        for place, own in enumerate(labels)
    ]
    votes, num_pieces = _votes(full, pieces, cells)
    return [
        {label for label, count in cell.items() if count == num} for cell, num in zip(votes, num_pieces, strict=True)
    ]


def named(found: Labels, names: Sequence[str | None], pieces: Sequence[Span], cells: Sequence[Span]) -> Labels:
    """Instead of what was found, where anything was, the commonest name among the pieces over the cell."""
    votes, _ = _votes([{name} if name else set() for name in names], pieces, cells)
    return [
        {min(cell, key=lambda name: (-cell[name], name))} if labels and cell else set()
        for labels, cell in zip(found, votes, strict=True)
    ]


def joined(lane: Lane, labels: Sequence[set[str]], spans: Sequence[Span]) -> Iterable[Event]:
    """One event for each run of neighbouring spans that have a label in common."""
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


def check_pieces(duration_s: float, piece_s: float, step_s: float) -> None:
    """Refuse what `timeline` would refuse for a sound of this length; nothing is computed.

    Raises:
        OptionError: piece and step do not fit, or make more pieces than are allowed.
    """
    if not 0 < step_s <= piece_s:
        raise OptionError(f"pieces of {piece_s} s every {step_s} s; allowed: a step above 0, at most the piece")
    num_all = int((duration_s + piece_s) / step_s)
    if num_all > MAX_PIECES:
        raise OptionError(f"{num_all:,} pieces of {piece_s} s came, allowed: {MAX_PIECES:,}; raise the step")


def _pieces(duration_s: float, piece_s: float, step_s: float) -> list[Span]:
    """Pieces every step, the first and last of which begin before the sound or end behind it, all cut to the sound."""
    check_pieces(duration_s, piece_s, step_s)
    num_before, num_all = int((piece_s - step_s) / step_s + 1e-9), int((duration_s + piece_s) / step_s)
    starts = (number * step_s for number in range(-num_before, num_all))
    edges = ((max(0.0, start_s), min(start_s + piece_s, duration_s)) for start_s in map(float, starts))
    spans = ((round(start_s, EDGE_DIGITS), round(end_s, EDGE_DIGITS)) for start_s, end_s in edges)
    shortest_s = min(SHORTEST_S, step_s / 2, duration_s)
    found = sorted({span for span in spans if span[1] - span[0] >= shortest_s})
    return [*found[:-1], (found[-1][0], duration_s)] if found else [(0.0, duration_s)]  # a dropped rest is added there


def _votes(
    labels: Sequence[set[str]], pieces: Sequence[Span], cells: Sequence[Span]
) -> tuple[list[Counter[str]], list[int]]:
    """For each cell how many of the pieces over it have each label, and how many there are."""
    number_of = {start_s: number for number, (start_s, _) in enumerate(cells)}
    votes: list[Counter[str]] = [Counter() for _ in cells]
    num_pieces = [0] * len(cells)
    for own, (start_s, end_s) in zip(labels, pieces, strict=True):
        for number in range(number_of[start_s], number_of.get(end_s, len(cells))):
            num_pieces[number] += 1
            votes[number].update(own)
    return votes, num_pieces


class _Asking:
    """Asks the same questions of all pieces, and tells how far it is."""

    def __init__(
        self,
        model: Answering,
        audio: Audio,
        pieces: Sequence[Span],
        options: dict[str, Any],
        progress: Progress | None,
    ) -> None:
        self._model, self._audio, self._pieces = model, audio, pieces
        self._options, self._progress = options, progress
        self._num_asked = 0

    def ask(self, lane: Lane) -> list[str]:
        """The answers to a lane's question, one a piece."""
        return self._asked(range(len(self._pieces)), QUESTIONS[lane])

    def affirmed(self, lane: Lane) -> list[bool]:
        """Whether a lane's question is answered by yes, for each piece."""
        return [one.strip().lower().startswith("yes") for one in self.ask(lane)]

    def speakers(self, places: Sequence[int]) -> list[str | None]:
        """Who speaks in each piece, None in those that are not among the places."""
        answers = dict(zip(places, self._asked(places, SPEAKER_QUESTION), strict=True))
        return [_speaker(answers[place]) if place in answers else None for place in range(len(self._pieces))]

    def _asked(self, places: Sequence[int], question: str) -> list[str]:
        answers: list[str] = []
        for start in range(0, len(places), PIECES_AT_ONCE):
            some = places[start : start + PIECES_AT_ONCE]
            conversations = [(Message("user", (self._sound(place), question)),) for place in some]
            answers += [reply.text for reply in self._model.generate(conversations, **self._options)]
            self._tell(len(some))
        return answers

    def _sound(self, place: int) -> Audio:
        start, end = (round(edge_s * SAMPLE_RATE_HZ) for edge_s in self._pieces[place])
        return Audio(self._audio.samples[start:end], self._audio.name)

    def _tell(self, num: int) -> None:
        self._num_asked += num
        if self._progress:
            share = min(1.0, self._num_asked / (len(self._pieces) * len(QUESTIONS)))
            self._progress(share * self._audio.duration_s, self._audio.duration_s)


def _speaker(answer: str) -> str:
    words = re.findall(r"[a-z]+", answer.lower())
    return next((word for word in words if word in ("man", "woman", "child")), "someone")
