"""How near an answer comes to true captions: CIDEr-D, BLEU-1 to 4, ROUGE-L, by their papers' formulas.

CIDEr-D (Vedantam et al. 2015) weighs every n-gram by how few items have it in their references. With h(g, s) how often
the n-gram g stands in the text s, d(g) the number of items with g in a reference, and N that of all items:

    v(g, s)    = h(g, s) (log N - log max(1, d(g)))
    a_n(c, s)  = sum over n-grams g of min(v(g, c), v(g, s)) v(g, s) / (|v(., c)| |v(., s)|), or 0 where a norm is 0
    CIDEr-D(c) = 10 mean over n = 1..4 and over references s of exp(-(words of c - words of s)^2 / (2 6^2)) a_n(c, s)

v takes counts, not shares of a text, as the program behind the published figures does. BLEU is Papineni et al. 2002
over all items at once, with the reference whose length is nearest (of two the shorter), not smoothed. ROUGE-L is Lin
2004 with beta 1.2; its precision and its recall are each those of the best reference.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from audioflamingo.eval.metrics import Chosen, Measured, resampled, share_of
from audioflamingo.eval.parse import whole_answer

ORDERS = (1, 2, 3, 4)
SIGMA, SCALE = 6.0, 10.0
BETA = 1.2
MAX_TEXT_CHARS = 100_000
"""Of an answer or a reference that is judged: no caption is longer, and no answer may take minutes."""

CIDER, ROUGE_L = "CIDEr-D", "ROUGE-L"
BLEU = tuple(f"BLEU-{order}" for order in ORDERS)
FIGURES = (CIDER, *BLEU, ROUGE_L)

Words = Sequence[str]
Ngram = tuple[str, ...]
Table = npt.NDArray[np.float64]

_WORD = re.compile(
    r"[^\W_]+?(?=n't\b)|n't\b"  # does n't
    r"|'(?:s|m|d|re|ve|ll)\b"  # dog 's
    r"|[^\W_]+(?:-[^\W_]+)*"
)


@dataclass(frozen=True)
class CaptionScore:
    """What one answer adds to the figures of its set.

    Attributes:
        cider: its CIDEr-D, 0 to 10.
        rouge_l: its ROUGE-L, 0 to 1.
        matches: n-grams of the answer that a reference has too, of each n, clipped.
        num_words: of the answer.
        num_reference_words: of the reference whose length is nearest.
    """

    cider: float
    rouge_l: float
    matches: tuple[int, ...]
    num_words: int
    num_reference_words: int


@dataclass(frozen=True)
class Frequencies:
    """How many items have an n-gram in one of their references.

    Attributes:
        num_items: all of them.
        counts: by n-gram; what is missing is in none.
    """

    num_items: int
    counts: Counter[Ngram]

    @classmethod
    def of(cls, items: Iterable[Sequence[str]]) -> Frequencies:
        """From the references of every item, as texts.

        Raises:
            ValueError: an item has no reference, or one that cannot be compared, see `reference_words`.
        """
        counts: Counter[Ngram] = Counter()
        num_items = 0
        for references in items:
            num_items += 1
            words = reference_words(references)
            counts.update({ngram for one in words for order in ORDERS for ngram in _ngrams(one, order)})
        return cls(num_items, counts)

    @property
    def tells_apart(self) -> bool:
        """Whether any n-gram weighs something; where all items have all n-grams, as of one item, CIDEr-D is 0."""
        return any(count < self.num_items for count in self.counts.values())

    def weight(self, ngram: Ngram) -> float:
        """Its inverse document frequency, in nats; 0 where every item has it."""
        return math.log(self.num_items) - math.log(max(1, self.counts[ngram]))


def caption_words(text: str) -> list[str]:
    """Lower-case words without punctuation or thoughts, of any script; "dog's" is two, "high-pitched" is one."""
    return _WORD.findall(whole_answer(text).lower().replace("’", "'"))


def reference_words(references: Sequence[str]) -> list[list[str]]:
    """The words of an item's references.

    Raises:
        ValueError: there are none, one is no text or has no words, or is longer than `MAX_TEXT_CHARS`.
    """
    if isinstance(references, str) or not references:
        raise ValueError(f"the references are {references!r:.60}, expected a list of one text or more")
    found = []
    for reference in references:
        if not isinstance(reference, str):
            raise ValueError(f"the reference {reference!r:.60} is no text")
        if len(reference) > MAX_TEXT_CHARS:
            raise ValueError(
                f"the reference {reference[:40]!r}... has {len(reference):,} characters, at most {MAX_TEXT_CHARS:,}"
            )
        found.append(caption_words(reference))
        if not found[-1]:
            raise ValueError(f"the reference {reference!r:.60} has no words")
    return found


def compared(answer: str, references: Sequence[str], frequencies: Frequencies) -> CaptionScore:
    """One answer beside the true captions of its item. Takes time in proportion to the answer's length.

    Raises:
        ValueError: the references cannot be compared, or the answer is longer than `MAX_TEXT_CHARS`.
    """
    if len(answer) > MAX_TEXT_CHARS:
        raise ValueError(f"the answer has {len(answer):,} characters, at most {MAX_TEXT_CHARS:,} are judged")
    said, truths = caption_words(answer), reference_words(references)
    nearest = min((abs(len(truth) - len(said)), len(truth)) for truth in truths)[1]
    matches = tuple(_matches(said, truths, order) for order in ORDERS)
    return CaptionScore(_cider(said, truths, frequencies), _rouge_l(said, truths), matches, len(said), nearest)


def caption_figures(scores: Sequence[CaptionScore]) -> dict[str, Measured]:
    """All figures of a set, by name, with intervals from resampled answers; document frequencies stay as they are.

    Raises:
        ValueError: there are no scores.
    """
    matches = np.array([score.matches for score in scores], float)
    lengths = np.array([(score.num_words, score.num_reference_words) for score in scores], float)
    found = {CIDER: share_of([score.cider for score in scores], [1.0] * len(scores))}
    for order, name in zip(ORDERS, BLEU, strict=True):
        found[name] = resampled(len(scores), partial(_bleu, matches[:, :order], lengths))
    found[ROUGE_L] = share_of([score.rouge_l for score in scores], [1.0] * len(scores))
    return found


def judge_captions(
    answers: Sequence[str], references: Sequence[Sequence[str]], frequencies: Frequencies | None = None
) -> dict[str, Measured]:
    """All figures of answers that are there already.

    Args:
        answers: one an item.
        references: of every item, one or more.
        frequencies: of the references of a larger set; None takes these items' own.

    Raises:
        ValueError: there is nothing to judge, the lengths differ, or a text cannot be compared.
    """
    known = frequencies or Frequencies.of(references)
    return caption_figures([compared(a, r, known) for a, r in zip(answers, references, strict=True)])


def _ngrams(words: Words, order: int) -> Iterator[Ngram]:
    return zip(*(words[start:] for start in range(order)), strict=False)


def _cider(said: Words, truths: Sequence[Words], frequencies: Frequencies) -> float:
    # A length too far off scores exactly 0 in floating point: an answer without end is never counted through.
    penalties = [math.exp(-((len(said) - len(truth)) ** 2) / (2 * SIGMA**2)) for truth in truths]
    if not any(penalties):
        return 0.0
    total = 0.0
    for order in ORDERS:
        got = _weighed(said, order, frequencies)
        for truth, penalty in zip(truths, penalties, strict=True):
            total += penalty * _alike(got, _weighed(truth, order, frequencies))
    return SCALE * total / (len(ORDERS) * len(truths))


def _weighed(words: Words, order: int, frequencies: Frequencies) -> dict[Ngram, float]:
    return {ngram: count * frequencies.weight(ngram) for ngram, count in Counter(_ngrams(words, order)).items()}


def _alike(got: dict[Ngram, float], wanted: dict[Ngram, float]) -> float:
    norms = math.hypot(*got.values()) * math.hypot(*wanted.values())
    shared = sum(min(weight, wanted[ngram]) * wanted[ngram] for ngram, weight in got.items() if ngram in wanted)
    return shared / norms if norms else 0.0


def _matches(said: Words, truths: Sequence[Words], order: int) -> int:
    most: Counter[Ngram] = Counter()
    for truth in truths:
        most |= Counter(_ngrams(truth, order))
    found = Counter(ngram for ngram in _ngrams(said, order) if ngram in most)
    return (found & most).total()


def _bleu(matches: Table, lengths: Table, chosen: Chosen) -> float:
    """BLEU of some items together.

    Args:
        matches: (I, n) float64, clipped matches of n-grams up to n.
        lengths: (I, 2) float64, words of answers and of references.
        chosen: numbers of the items.
    """
    shared, some = matches[chosen].sum(axis=0), lengths[chosen]
    if not shared.all():
        return 0.0
    totals = [np.maximum(some[:, 0] - order, 0).sum() for order in range(len(shared))]
    said, true = some.sum(axis=0)
    return math.exp(min(0.0, 1.0 - float(true / said)) + float(np.log(shared / totals).mean()))


def _rouge_l(said: Words, truths: Sequence[Words]) -> float:
    if not said:
        return 0.0
    common = [_longest_common(truth, said) for truth in truths]
    precision = max(common) / len(said)
    recall = max(length / len(truth) for length, truth in zip(common, truths, strict=True))
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision) if precision else 0.0


def _longest_common(one: Words, other: Words) -> int:
    """Length of the longest common subsequence: a bit a word of `one`, cleared where the subsequence grows."""
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    rest = whole = (1 << len(one)) - 1
    for word in other:
        taken = rest & places.get(word, 0)
        rest = ((rest + taken) | (rest - taken)) & whole
    return len(one) - rest.bit_count()
