"""Word error rate, accuracy, and how sure one can be of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audioflamingo.train.validate import word_errors

NUM_RESAMPLES = 1_000
_NOT_A_WORD = re.compile(r"[^a-z0-9' ]+")

Chosen = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % interval, from resampling the items.

    Attributes:
        value: the figure; a share, or of captions CIDEr-D.
        low: 2.5th percentile over resamples.
        high: 97.5th percentile.
        num_items: how many items it rests on.
    """

    value: float
    low: float
    high: float
    num_items: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}], n = {self.num_items}"


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation."""
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def word_error_rate(
    truths: Sequence[str], guesses: Sequence[str], words: Callable[[str], list[str]] = words_of
) -> Measured:
    """Errors of all sentences over words of all sentences.

    Args:
        truths: what is said.
        guesses: as many.
        words: makes words of a text, see `normalize`.

    Raises:
        ValueError: `words` refuses a text, or there are none.
    """
    pairs = [(words(t), words(g)) for t, g in zip(truths, guesses, strict=True)]
    return share_of([word_errors(t, g) for t, g in pairs], [len(t) for t, _ in pairs])


def share_of(parts: Sequence[float], wholes: Sequence[float]) -> Measured:
    """The parts of all items over their wholes: wrong words over words, points over questions."""
    part, whole = np.array(parts, float), np.array(wholes, float)
    return resampled(len(part), lambda chosen: float(part[chosen].sum()) / max(float(whole[chosen].sum()), 1.0))


def accuracy(hits: Sequence[bool]) -> Measured:
    """Share of items that are right."""
    return share_of(hits, [1] * len(hits))


def resampled(num_items: int, figure: Callable[[Chosen], float]) -> Measured:
    """A figure of all items, with its interval.

    Args:
        num_items: how many there are.
        figure: of the items whose numbers it is given, which may repeat.

    Raises:
        ValueError: there are none.
    """
    if not num_items:
        raise ValueError("there is nothing to measure: the list of items is empty")
    rng = np.random.default_rng(0)
    values = [float(figure(rng.integers(0, num_items, num_items))) for _ in range(NUM_RESAMPLES)]
    low, high = np.percentile(values, [2.5, 97.5])
    return Measured(float(figure(np.arange(num_items))), float(low), float(high), num_items)
