"""Telling thoughts from the answer, in one piece or as the text comes; the result does not depend on how it is cut.

Two styles are known. "tags": thoughts stand between ``<think>`` and ``</think>`` (Audio Flamingo Next, the embedded
model). "free": prose that ends in a sentence which begins like "Therefore, the answer is" (Audio Flamingo 3); what
follows those words is the answer, and where no sentence begins so, the last sentence is. No torch in here.
"""

from __future__ import annotations

import re
from typing import Literal

ThinkStyle = Literal["auto", "tags", "free"]

OPEN, CLOSE = "<think>", "</think>"
CONCLUSION = "Therefore, the answer is: "

_LEAD = r"[\s*_#]*(?:(?:therefore|thus|hence|so|in\s+conclusion)\s*,?\s+)?"
_CONCLUDING = re.compile(
    rf"{_LEAD}(?:(?:the|my)\s+(?:(?:final|correct|best|right)\s+)?answer\s+is\b|(?:(?:the|my)\s+)?final\s+answer\s*(?:is\b|(?=[:*])))"
    r"[\s:*]*(?=[^\s:*])",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?][\"')\]]*\s+(?=\S)|\n\s*(?=\S)")
_State = Literal["start", "tags", "free", "answer"]


class ThoughtSplitter:
    """Takes the text of one reply piece by piece and gives back what are thoughts and what is answer."""

    def __init__(self, style: ThinkStyle = "auto", *, is_open: bool = False) -> None:
        """Start before the first character.

        Args:
            style: "tags" or "free" where it is known; "auto" looks whether the text begins with a tag.
            is_open: thoughts have begun without an opening tag, which only a closing tag ends.
        """
        self._style = style
        self._state: _State = "tags" if is_open else "start"
        self._held = ""
        self._may_open = is_open
        self._is_answer_begun = False
        self._is_doubtful = False

    def expect_more(self) -> None:
        """Thoughts were ended for the model, which may go on with them.

        The answer is then given back at the end only, and what stands before a further closing tag is thoughts.
        """
        self._is_doubtful = True

    @property
    def is_answering(self) -> bool:
        """Whether the thoughts are over."""
        return self._state == "answer"

    @property
    def uses_tags(self) -> bool:
        """Whether thoughts stand in tags, as far as is known."""
        return self._state == "tags" or self._style == "tags"

    def feed(self, text: str) -> tuple[str, str]:
        """New text; returns (thoughts, answer) that are certain now."""
        self._held += text
        thoughts = ""
        if self._state == "start":
            self._decide()
        if self._state == "tags":
            thoughts = self._in_tags()
        elif self._state == "free":
            thoughts = self._in_prose()
        return thoughts, self._answer() if self._state == "answer" else ""

    def flush(self) -> tuple[str, str]:
        """What was held back, once no more text will come."""
        held, self._held = self._held, ""
        if self._state == "tags":
            return held if len(held) < 2 or not CLOSE.startswith(held) else "", ""  # a tag that was cut is no thought
        if self._state == "start" and OPEN.startswith(held.strip()) and self._style != "free":
            return "", held.lstrip() if len(held.strip()) < 2 else ""
        if self._state == "answer":
            return _last_answer(held) if self._is_doubtful else ("", held)
        return "", held.lstrip()  # prose without a conclusion: its last sentence is the answer

    def _decide(self) -> None:
        begun = self._held.lstrip()
        if self._style != "free" and begun.startswith(OPEN):
            self._state, self._held = "tags", begun.removeprefix(OPEN).lstrip()
        elif self._style == "free" or not OPEN.startswith(begun):
            self._state = "free"

    def _in_tags(self) -> str:
        if self._may_open:
            begun = self._held.lstrip()
            if OPEN.startswith(begun) and begun != OPEN:
                return ""
            self._held, self._may_open = begun.removeprefix(OPEN), False
        before, tag, after = self._held.partition(CLOSE)
        if tag:
            self._state, self._held = "answer", after
            return before
        num_held = next((size for size in range(len(CLOSE) - 1, 0, -1) if before.endswith(CLOSE[:size])), 0)
        self._held = before[len(before) - num_held :]
        return before[: len(before) - num_held]

    def _in_prose(self) -> str:
        # One pass: a long text of many sentences is neither copied nor searched anew for each of them.
        held, place = self._held, 0
        close = held.find(CLOSE)
        while True:
            conclusion = _CONCLUDING.match(held, place)
            if conclusion:
                self._state, self._held = "answer", held[conclusion.end() :]
                return held[:place]
            end = _SENTENCE_END.search(held, place)
            if close >= 0 and (end is None or close < end.end()):
                self._state, self._held = "answer", held[close + len(CLOSE) :]
                return held[:close]
            if end is None:
                self._held = held[place:]
                return held[:place]
            place = end.end()

    def _answer(self) -> str:
        if self._is_doubtful:
            return ""
        text, self._held = self._held, ""
        if not self._is_answer_begun:
            text = text.lstrip()
            self._is_answer_begun = bool(text)
        return text


def _last_answer(text: str) -> tuple[str, str]:
    """(thoughts, answer) of what came behind a closing tag that the model did not write itself."""
    thoughts, _, answer = text.rpartition(CLOSE)
    thoughts = thoughts.replace(CLOSE, "").replace(OPEN, "").strip()
    answer = answer.replace(OPEN, "").strip()
    num_cut = next((size for size in range(len(CLOSE) - 1, 0, -1) if answer.endswith(CLOSE[:size])), 0)
    return f"\n{thoughts}\n" if thoughts else "", answer[: len(answer) - num_cut].rstrip()


def split_thoughts(text: str, style: ThinkStyle = "auto") -> tuple[str, str]:
    """(thoughts, answer) of a whole reply; blanks around either are dropped."""
    splitter = ThoughtSplitter(style)
    parts = [splitter.feed(text), splitter.flush()]
    return "".join(part[0] for part in parts).strip(), "".join(part[1] for part in parts).strip()
