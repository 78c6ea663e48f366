"""When within a piece something is said, as far as the sound's loudness tells.

The model gives words without times. They are shared out, by their lengths, among the stretches of the piece that stand
out of its quiet, and cut into phrases at pauses, at ends of sentences, and where a subtitle would get too long. Times
are thus estimates: right to a second or so where pauses show, and no better than the piece where none do.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioflamingo.longform.transcript import Segment
from audioflamingo.types import SAMPLE_RATE_HZ

MAX_PHRASE_CHARS = 84  # two lines of a subtitle
MAX_PHRASE_S = 7.0
MIN_SENTENCE_S = 1.5  # a shorter sentence shares its subtitle with the next one
PAUSE_S = 0.3  # shorter gaps are part of speech
LONG_PAUSE_S = 0.7  # ends a phrase
BLOCK_SAMPLES = SAMPLE_RATE_HZ // 50
ABOVE_FLOOR_DB, BELOW_TOP_DB = 6.0, 35.0
_QUIETEST = 1e-12
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")

Span = tuple[float, float]


@dataclass(frozen=True)
class _Word:
    text: str
    start_s: float
    end_s: float


def loud_stretches(samples: npt.NDArray[np.float32]) -> list[Span]:
    """Stretches (start, end) in seconds that stand out of the quiet of (N,) samples at 16 kHz; all where none do."""
    duration_s = len(samples) / SAMPLE_RATE_HZ
    blocks = samples[: len(samples) // BLOCK_SAMPLES * BLOCK_SAMPLES].reshape(-1, BLOCK_SAMPLES)
    if not len(blocks):
        return [(0.0, duration_s)]
    levels_db = 10 * np.log10(np.square(blocks).mean(axis=1) + _QUIETEST)
    floor_db, top_db = np.percentile(levels_db, (10, 95))
    is_loud = levels_db > max(floor_db + ABOVE_FLOOR_DB, top_db - BELOW_TOP_DB)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_loud, [False])).astype(np.int8)))
    block_s = BLOCK_SAMPLES / SAMPLE_RATE_HZ
    spans = [(float(start) * block_s, float(end) * block_s) for start, end in edges.reshape(-1, 2)]
    return _joined(spans) or [(0.0, duration_s)]


def phrases_of(segment: Segment, stretches: Sequence[Span]) -> Iterator[Segment]:
    """The words of one segment in short segments.

    Args:
        segment: its words; none give nothing.
        stretches: where it sounds, in seconds from the segment's own start, in order.
    """
    phrase: list[_Word] = []
    for word in _timed(segment, stretches):
        if phrase and _ends_before(phrase, word):
            yield _phrase(phrase)
            phrase = []
        phrase.append(word)
    if phrase:
        yield _phrase(phrase)


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans with gaps that are no pause filled."""
    found: list[Span] = []
    for start_s, end_s in spans:
        if found and start_s - found[-1][1] < PAUSE_S:
            found[-1] = (found[-1][0], end_s)
        else:
            found.append((start_s, end_s))
    return found


def _timed(segment: Segment, stretches: Sequence[Span]) -> Iterator[_Word]:
    """Words with times: each gets its share of the sounding time, within the stretch where its middle falls."""
    words = [
        word[start : start + MAX_PHRASE_CHARS]
        for word in segment.text.split()
        for start in range(0, len(word), MAX_PHRASE_CHARS)  # languages without blanks have words without end
    ]
    lengths = [end_s - start_s for start_s, end_s in stretches]
    begun_s = [0.0, *itertools.accumulate(lengths)]
    shares = [0, *itertools.accumulate(len(word) + 1 for word in words)]
    for word, (first, last) in zip(words, itertools.pairwise(shares), strict=True):
        start, end = (place * begun_s[-1] / shares[-1] for place in (first, last))
        middle = (start + end) / 2
        number = next(index for index in reversed(range(len(stretches))) if begun_s[index] <= middle)
        offset_s = segment.start_s + stretches[number][0] - begun_s[number]
        start, end = max(start, begun_s[number]), min(end, begun_s[number + 1])
        yield _Word(word, offset_s + start, min(offset_s + end, segment.end_s))


def _ends_before(phrase: Sequence[_Word], word: _Word) -> bool:
    first, last = phrase[0], phrase[-1]
    num_chars = sum(len(one.text) + 1 for one in phrase) + len(word.text)
    is_sentence = _SENTENCE_END.search(last.text) is not None and last.end_s - first.start_s >= MIN_SENTENCE_S
    is_too_long = num_chars > MAX_PHRASE_CHARS or word.end_s - first.start_s > MAX_PHRASE_S
    return is_sentence or is_too_long or word.start_s - last.end_s >= LONG_PAUSE_S


def _phrase(words: Sequence[_Word]) -> Segment:
    return Segment(words[0].start_s, words[-1].end_s, " ".join(word.text for word in words))
