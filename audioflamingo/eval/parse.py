"""From a free answer to what a benchmark scores: an option's letter, yes or no, a number. No model is asked.

A letter counts where it stands as an answer: "(B)", "B.", "the answer is B", or a last "B" by itself; else the option
whose text the answer repeats. What cannot be told is None, which scores as wrong and is counted apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from audioflamingo.think import ThoughtSplitter, split_thoughts
from audioflamingo.think.split import CLOSE, OPEN
from audioflamingo.world.lexicon.numbers import ONES

_STATED = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*[:*]*\s*\(?([A-Z])\)?(?![A-Za-z])", re.IGNORECASE)
_BRACKETED = re.compile(r"\(([A-Z])\)")
_LEADING = re.compile(r"\s*\(?([A-Z])(?:\)|[.:,]|\s*$)")
_ALONE = re.compile(r"(?<![A-Za-z'])([B-Z]|A(?=[.)\s]*$))(?![A-Za-z'])")
_YES_NO = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])-?\d{1,12}(?:\.\d{1,6})?(?![\w])")


def final_answer(text: str) -> str:
    """The answer without the thoughts before it, in any style; of prose that concludes nothing the last sentence."""
    thoughts, answer = split_thoughts(text)
    return answer or thoughts


def whole_answer(text: str, *, concludes: bool = False) -> str:
    """The answer without thoughts in tags, where every sentence of it is judged: a transcript, a caption.

    Args:
        text: the whole reply.
        concludes: whether what stands before a sentence like "Therefore, the answer is" are thoughts, too.
    """
    _, close, after = text.partition(CLOSE)
    if close or text.lstrip().startswith(OPEN):
        return after.strip()
    splitter = ThoughtSplitter()
    answer = splitter.feed(text)[1] if concludes else ""
    return (answer if splitter.is_answering else text).strip()


def option_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option that an answer chooses, "A" for the first; None where it cannot be told.

    Args:
        text: the whole reply, thoughts included.
        options: what could be chosen, without letters.
    """
    answer = final_answer(text)
    letters = [chr(ord("A") + place) for place in range(len(options))]
    for pattern, last in ((_STATED, True), (_LEADING, False), (_BRACKETED, True), (_ALONE, True)):
        found = pattern.match(answer) if pattern is _LEADING else None
        hits = [found[1]] if found else [] if pattern is _LEADING else pattern.findall(answer)
        hits = [hit.upper() for hit in hits if hit.upper() in letters]
        if hits:
            return hits[-1 if last else 0]
    said = " ".join(_words(answer))
    named = [letter for letter, option in zip(letters, options, strict=True) if _holds(said, option)]
    longest = max((options[letters.index(letter)] for letter in named), key=len, default=None)
    # An option within another ("dog" in "hot dog") is meant only where the other is not said.
    rest = [letter for letter in named if longest and not _is_within(options[letters.index(letter)], longest)]
    return rest[0] if len(rest) == 1 else None


def yes_or_no(text: str) -> bool | None:
    """True for yes, False for no; None where both or neither are said first."""
    found = _YES_NO.search(final_answer(text))
    return None if found is None else found[1].lower() == "yes"


def number_in(text: str) -> float | None:
    """The last number of the answer, in digits or as a word up to nineteen."""
    answer = final_answer(text)
    values = [(match.start(), float(match[0])) for match in _NUMBER.finditer(answer)]
    values += [(match.start(), float(ONES.index(match[0].lower()))) for match in _NUMBER_WORD.finditer(answer)]
    return max(values)[1] if values else None


_NUMBER_WORD = re.compile(rf"\b(?:{'|'.join(ONES)})\b", re.IGNORECASE)


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.casefold())


def _holds(said: str, option: str) -> bool:
    wanted = " ".join(_words(option))
    return bool(wanted) and f" {wanted} " in f" {said} "


def _is_within(option: str, longer: str) -> bool:
    return option != longer and _holds(" ".join(_words(longer)), option)
