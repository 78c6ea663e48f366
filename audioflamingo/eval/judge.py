"""Judges the answers to the items of a run; of captions it knows, before any is answered, how rare their words are."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from audioflamingo.errors import OptionError
from audioflamingo.eval.captions import CIDER, Frequencies, reference_words
from audioflamingo.eval.items import Item
from audioflamingo.eval.judging import Verdict, judged, judged_caption
from audioflamingo.eval.normalize import PLAIN, Normalizer


class Judge:
    """Made for all items of a run.

    Args:
        items: what is asked for.
        references: items whose true captions say how rare an n-gram is; () takes those of each group for itself.
        how: makes words of transcripts, true ones and replies alike.

    Raises:
        OptionError: a truth is none for its metric, or there are references and nothing is a caption, or transcripts
            should be normalized and nothing is one.
    """

    def __init__(self, items: Sequence[Item], references: Sequence[Item] = (), how: Normalizer = PLAIN) -> None:
        self._items, self._how = items, how
        self._num_wordless = sum(self._is_wordless(item) for item in (*items, *references))
        if how is not PLAIN and all(item.metric != "words" for item in items):
            raise OptionError("only transcripts are normalized, and no question asks for one; see --metric words")
        groups: dict[str, list[Item]] = {}
        for item in items:
            if item.metric == "caption":
                groups.setdefault(item.group, []).append(item)
        if references and not groups:
            raise OptionError("there are references for captions, and no question asks for one; see --metric caption")
        given = Frequencies.of(item.references for item in references) if references else None
        self.digest = hashlib.sha256(repr([item.references for item in references]).encode()).hexdigest()
        self._frequencies = {
            group: given or Frequencies.of(item.references for item in some) for group, some in groups.items()
        }

    def verdict(self, item: Item, reply: str) -> Verdict:
        """What comes of a reply."""
        if item.metric == "caption":
            return judged_caption(item.references, reply, self._frequencies[item.group])
        return judged(item.metric, item.question, item.truth, reply, self._how.words)

    def notes(self) -> list[str]:
        """What whoever reads the figures should know, of items and not of answers; a line each."""
        found = [
            f"{CIDER} of {group} is 0 by definition: no word tells its {known.num_items} item(s) apart; judge more, or "
            "give the references of the whole set (--references)"
            for group, known in self._frequencies.items()
            if not known.tells_apart
        ]
        unused = sum(bool(item.row.references) and item.metric != "caption" for item in self._items)
        if unused:
            found.append(f"{unused:,} rows have references that are not captions; they are judged by their own answer")
        if self._how is not PLAIN and self._num_wordless:
            found.append(
                f"{self._num_wordless:,} true transcripts have no words once normalized; whatever is said there counts "
                "as wrong words"
            )
        return found

    def _is_wordless(self, item: Item) -> bool:
        """Whether a truth is a transcript without words.

        Raises:
            OptionError: the truth is none, which would be found after hours else.
        """
        try:
            if item.metric == "caption":
                reference_words(item.references)
                return False
            found = judged(item.metric, item.question, item.truth, "", self._how.words)
        except ValueError as error:
            raise OptionError(f"{item.row.origin or item.row.id}: {error}; choose another --metric, or none") from error
        return item.metric == "words" and not found.num_words
