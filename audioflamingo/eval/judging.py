"""How one answer is judged: what kind of question it was, and whether the reply is right. No model is asked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from audioflamingo.eval.captions import (
    MAX_TEXT_CHARS,
    CaptionScore,
    Frequencies,
    caption_words,
    compared,
    reference_words,
)
from audioflamingo.eval.metrics import words_of
from audioflamingo.eval.parse import final_answer, number_in, option_letter, whole_answer, yes_or_no
from audioflamingo.prompt import spoken_words
from audioflamingo.train.validate import word_errors

Metric = Literal["words", "choice", "yes_no", "number", "caption", "open"]
METRICS: tuple[Metric, ...] = ("words", "choice", "yes_no", "number", "caption", "open")
MAX_OPTIONS = 26

_BRACKETED = re.compile(r"\(([A-Z])\)\s*(.*?)(?=\s*\([A-Z]\)|\s*$|\n)", re.DOTALL)
_LINES = re.compile(r"^\s*([A-Z])[.):]\s+(.+?)\s*$", re.MULTILINE)
_TRANSCRIPT = re.compile(
    r"\btranscri(?:be|pt|ption)\b|\binto writing\b|\bverbatim\b|\bword for word\b|\bwrite down (?:the words|what)\b",
    re.IGNORECASE,
)
_CAPTION = re.compile(
    r"\bcaption\b|\b(?:describe|description of)\s+(?:the|this)\s+(?:whole\s+|entire\s+|input\s+|given\s+)?"
    r"(?:audio|sounds?|music|recording|clip|(?:audio|sound)\s+clip|scene)(?=\s*[.!?,:;]|\s+in\b|\s*$)",
    re.IGNORECASE,
)
_TIME = re.compile(r"\[\s*\d")  # a transcript with times is more than its words
_ARTICLES = {"a", "an", "the"}


@dataclass(frozen=True)
class Verdict:
    """What came of one answer.

    Attributes:
        metric: by which it was judged.
        score: 1 for right, 0 for wrong; of `open` the F1 of its words; of `words` 1 less the share of wrong words; of
            `caption` its CIDEr-D, 0 to 10.
        is_right: to the option, number, yes or no; of `words`, `caption` and `open` to the last word.
        is_told: whether the reply says anything that can be judged; what does not is wrong.
        num_errors: of `words`.
        num_words: of the truth; of `words`.
        caption: what it adds to its set's figures; of `caption`.
    """

    metric: Metric
    score: float
    is_right: bool
    is_told: bool = True
    num_errors: int = 0
    num_words: int = 0
    caption: CaptionScore | None = None


def options_of(question: str) -> tuple[str, ...]:
    """The options of a multiple-choice question, "(A) rain (B) wind" or "A. rain" a line each; () where it has none."""
    for pattern in (_BRACKETED, _LINES):
        found = pattern.findall(question)
        letters = [letter for letter, _ in found]
        if 2 <= len(found) <= MAX_OPTIONS and letters == [chr(ord("A") + place) for place in range(len(found))]:
            return tuple(text.strip().rstrip(".,;") for _, text in found)
    return ()


def spelt_as(truth: str, options: Sequence[str]) -> list[str]:
    """All options in the form of the true answer: with their letters and brackets or without, and its full stop."""
    begins = re.match(r"\s*(\(?)[A-Z]([).:]+)\s*(\S?)", truth)
    ends = "." if truth.rstrip().endswith(".") else ""
    if begins is None:
        return [f"{option}{ends}" for option in options]
    letters = [f"{begins[1]}{chr(ord('A') + place)}{begins[2]}" for place in range(len(options))]
    if not begins[3]:
        return letters
    return [f"{letter} {option}{ends}" for letter, option in zip(letters, options, strict=True)]


def metric_of(question: str, truth: str) -> Metric:
    """By what an answer to this question is judged, where nobody says."""
    options = options_of(question)
    if options and option_letter(truth, options) is not None:
        return "choice"
    if _TRANSCRIPT.search(question) and not _TIME.search(truth):
        return "words"
    said = words_of(final_answer(truth))
    if said[:1] in (["yes"], ["no"]):
        return "yes_no"
    if len(said) == 1 and number_in(truth) is not None:
        return "number"
    return "caption" if _CAPTION.search(question) else "open"


def judged(
    metric: Metric, question: str, truth: str, reply: str, words: Callable[[str], list[str]] = words_of
) -> Verdict:
    """Judge a reply; thoughts before its answer, and before the truth's, do not count.

    Args:
        metric: by which.
        question: with its options.
        truth: the true answer.
        reply: thoughts included.
        words: makes words of a transcript, see `normalize`; a reply of which it raises a ValueError counts as none.

    Raises:
        ValueError: the truth is none for this metric: no option of the question, no yes or no, no number, nothing that
            `words` takes. Or it is a caption: see `judged_caption`.
    """
    if metric == "caption":
        raise ValueError("a caption is judged among others, by judged_caption")
    if metric == "words":
        return _by_words(truth, reply, words)
    if metric == "open":
        return _open(truth, reply)
    options = options_of(question)
    read = {"choice": lambda text: option_letter(text, options), "yes_no": yes_or_no, "number": number_in}[metric]
    wanted, got = read(truth), read(reply)
    if wanted is None:
        raise ValueError(f"the true answer {truth[:80]!r} is no {metric.replace('_', ' or ')} of the question")
    return Verdict(metric, float(got == wanted), got == wanted, got is not None)


def judged_caption(references: Sequence[str], reply: str, frequencies: Frequencies) -> Verdict:
    """Judge a reply that captions; one longer than `captions.MAX_TEXT_CHARS` is not read, and counts as none.

    Args:
        references: all true captions.
        reply: thoughts included.
        frequencies: of the n-grams of its set.

    Raises:
        ValueError: a reference cannot be compared.
    """
    text = reply if len(reply) <= MAX_TEXT_CHARS else ""
    score, said = compared(text, references, frequencies), caption_words(text)
    return Verdict("caption", score.cider, said in reference_words(references), bool(said), caption=score)


def _by_words(truth: str, reply: str, words: Callable[[str], list[str]]) -> Verdict:
    wanted = words(spoken_words(whole_answer(truth)))
    try:
        got = words(spoken_words(whole_answer(reply)))
    except ValueError:
        return Verdict("words", 0.0, False, False, len(wanted), len(wanted))
    errors = word_errors(wanted, got)
    share = errors / max(1, len(wanted))
    return Verdict("words", max(0.0, 1.0 - share), errors == 0, True, errors, len(wanted))


def _open(truth: str, reply: str) -> Verdict:
    wanted, got = _content(truth), _content(reply)
    shared = sum((Counter(wanted) & Counter(got)).values())
    f1 = 1.0 if wanted == got else 2 * shared / (len(wanted) + len(got)) if shared else 0.0
    return Verdict("open", f1, wanted == got, bool(got) or not wanted)


def _content(text: str) -> Sequence[str]:
    return [word for word in words_of(whole_answer(text, concludes=True)) if word not in _ARTICLES]
