"""From text as it comes to units that can be spoken: words, and the pause after them. Plain Python, no tensors.

A word is complete only when a boundary follows, so that the same units come out however the text was cut into deltas.
Every unit knows how much of the text it covers: what was not heard can be cut from the history.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audioflamingo.speech.spoken import Normaliser, has_silent_mark, needs_follower

MAX_TOKEN_CHARS = 64  # a longer run of letters is cut, so that memory and delay are bounded
MAX_LEFT_OUT = 20  # characters that a note lists
PAUSES_MS = {",": 140, ";": 240, ":": 240, "-": 120, ")": 100, ".": 380, "!": 380, "?": 380, "\n": 320}
PARAGRAPH_PAUSE_MS = 560
SENTENCE_ENDS = (".", "!", "?", ":", "\n")

_TOKEN = re.compile(rf"(\s*)(\S{{1,{MAX_TOKEN_CHARS + 1}}})(\s)?")
_CLOSERS = "\"'”’)]}*_`"
_AFTER_DASH = re.compile(r"(?<=[—…])(?=\w)|(?<=\.\.\.)(?=\w)")  # "one—two" are two tokens
_SAME_PAUSE = {
    "…": ".",
    "—": "-",
    "–": "-",
    "。": ".",
    "，": ",",
    "！": "!",
    "？": "?",
    "、": ",",
    "；": ";",
    "：": ":",
}


@dataclass(frozen=True)
class Unit:
    """A written token ready to be spoken.

    Attributes:
        words: lower-case words of letters and inner apostrophes; none where only a pause is heard.
        pause_ms: silence after them.
        mark: the punctuation that gave the pause, or "".
        source_end: characters of the text that are said once this unit is said.
    """

    words: tuple[str, ...]
    pause_ms: int
    mark: str
    source_end: int

    @property
    def ends_sentence(self) -> bool:
        """Whether an engine may speak all up to here without hearing what follows."""
        return self.mark in (".", "!", "?", "\n")


class TextUnits:
    """Text deltas to units."""

    def __init__(self) -> None:
        self._normaliser = Normaliser()
        self._pending = ""  # text of tokens that are not complete
        self._start = 0  # where in it the next token begins
        self._consumed = 0  # characters of the whole text before it
        self._held: tuple[str, int] | None = None  # a token that waits for the next one, and its end
        self._previous: str | None = None
        self._is_start = True  # of a sentence or a line

    def feed(self, delta: str) -> list[Unit]:
        """Units that are complete now."""
        self._pending += delta
        units: list[Unit] = []
        while (token := self._next_token()) is not None:
            units += self._units(*token)
        self._pending, self._start = self._pending[self._start :], 0
        return units

    def flush(self) -> list[Unit]:
        """The rest: the text ends here, maybe in the middle of a word."""
        units: list[Unit] = []
        end = self._consumed + len(self._pending)
        rest, self._pending, self._consumed = self._pending, "", end
        if token := rest.strip():
            lead = rest[: rest.index(token[0])]
            units += self._units(token, lead, end - len(rest) + len(lead) + len(token))
        return units + self._released(None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the text was not spoken."""
        if not self._normaliser.left_out:
            return ()
        distinct = list(dict.fromkeys(self._normaliser.left_out))
        shown = "".join(distinct[:MAX_LEFT_OUT]) + ("…" if len(distinct) > MAX_LEFT_OUT else "")
        num = len(self._normaliser.left_out)
        were = (
            "1 character cannot be spoken by this voice and was"
            if num == 1
            else (f"{num} characters cannot be spoken by this voice and were")
        )
        return (f"{were} left out: {shown}",)

    def _next_token(self) -> tuple[str, str, int] | None:
        """The next complete token, the blanks before it, and where in the text it ends."""
        match = _TOKEN.match(self._pending, self._start)
        if match is None:
            return None
        token, is_complete = match[2], match[3] is not None
        if not is_complete and len(token) < MAX_TOKEN_CHARS:
            return None
        token = token[:MAX_TOKEN_CHARS]
        end = match.start(2) + len(token)
        self._consumed += end - self._start
        self._start = end
        return token, match[1], self._consumed

    def _units(self, token: str, lead: str, end: int) -> list[Unit]:
        units: list[Unit] = []
        if "\n" in lead:
            units = [*self._released(None), self._line_break(lead, end - len(token))]
        pieces = _AFTER_DASH.split(token)
        start = end - len(token)
        for piece in pieces:
            start += len(piece)
            units += self._released(piece)
            if needs_follower(piece):
                self._held = (piece, start)
            else:
                units.append(self._unit(piece, None, start))
        return units

    def _released(self, follower: str | None) -> list[Unit]:
        """The token that waited, now that the one after it is known; None: no more comes, or on another line."""
        held, self._held = self._held, None
        return [] if held is None else [self._unit(held[0], follower, held[1])]

    def _line_break(self, lead: str, end: int) -> Unit:
        self._is_start = True
        return Unit((), PARAGRAPH_PAUSE_MS if lead.count("\n") > 1 else PAUSES_MS["\n"], "\n", end)

    def _unit(self, token: str, follower: str | None, end: int) -> Unit:
        words = self._normaliser.words(token, follower, is_start=self._is_start)
        mark = "" if has_silent_mark(token, self._previous, follower) else _mark(token)
        self._previous = token
        self._is_start = mark in SENTENCE_ENDS or (self._is_start and not words) or token.rstrip(")").isdigit()
        return Unit(words, PAUSES_MS.get(mark, 0), mark, end)


def _mark(token: str) -> str:
    """The mark at a token's end that is heard as a pause."""
    last = token.rstrip(_CLOSERS)[-1:]
    if last == "-" and len(token) > 1 and token[-2].isalnum():
        return ""  # the first half of "five- to ten-year"
    if (mark := _SAME_PAUSE.get(last, last)) in PAUSES_MS:
        return mark
    return ")" if ")" in token[-2:] and "(" not in token[1:] else ""


def units_of(deltas: Iterable[str], text_units: TextUnits) -> Iterator[Unit]:
    """All units of a stream of text, each as soon as it is complete."""
    for delta in deltas:
        yield from text_units.feed(delta)
    yield from text_units.flush()
