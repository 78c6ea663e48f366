"""A long sound cut into pieces that overlap, and their texts stitched.

Two neighbours share some seconds; the words that both heard there are found by matching, and the seam is put behind the
match, so that no word is doubled and none is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from audioflamingo.audio import MIN_SAMPLES
from audioflamingo.errors import OptionError
from audioflamingo.longform.transcript import Segment
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

MIN_MATCH_WORDS = 2
EDGE_WORDS = 2  # fewer match where an overlap is nearly silent: then they end the one and begin the other
QUICK_WORDS_PER_S = 3.0  # what may lie in an overlap though the rest of the piece is silent
POSSIBLY_APART = 1.0  # the two times of a match, by estimate, as a share of the overlap: more they cannot be
SURELY_TOGETHER = 0.5

Match = tuple[int, int, int]
"""Where equal words begin, in the end of one piece and in the beginning of the next, and how many they are."""


def pieces_of(audio: Audio, piece_s: float, overlap_s: float) -> Iterator[tuple[float, Audio]]:
    """Consecutive pieces of a sound with their starts in seconds; neighbours share `overlap_s`.

    Raises:
        OptionError: the overlap is not shorter than the piece, or a number is not positive.
    """
    size, step = round(piece_s * SAMPLE_RATE_HZ), round((piece_s - overlap_s) * SAMPLE_RATE_HZ)
    if not (overlap_s >= 0 and size >= step >= 1):
        raise OptionError(f"pieces of {piece_s} s with an overlap of {overlap_s} s; allowed: less overlap than piece")
    total = len(audio.samples)
    start = 0
    while True:
        samples = audio.samples[start : start + size]
        if len(samples) >= MIN_SAMPLES or start == 0:
            yield start / SAMPLE_RATE_HZ, Audio(samples, f"{audio.name} from {start / SAMPLE_RATE_HZ:.1f} s")
        if start + size >= total:
            return
        start += step


Place = Callable[[Segment, float], float]


def evenly(segment: Segment, share: float) -> float:
    """When so much of a segment's words is said, from 0 to 1, in seconds, if all of it is spoken evenly."""
    return segment.start_s + share * (segment.end_s - segment.start_s)


def stitch(segments: Sequence[Segment], place: Place = evenly) -> list[Segment]:
    """Neighbours that overlap in time without the words that both have, the seam behind what matches.

    Args:
        segments: in order.
        place: when so much of a segment's words is said.
    """
    joined: list[Segment] = []
    for segment in segments:
        if not joined or joined[-1].end_s <= segment.start_s:
            joined.append(segment)
            continue
        joined[-1:] = _seam(joined[-1], segment, place)
    return joined


def _seam(before: Segment, after: Segment, place: Place) -> list[Segment]:
    """Two overlapping segments cut at one place; without a match each keeps its own half of the overlap's words."""
    left, right = before.text.split(), after.text.split()
    shared_s = before.end_s - after.start_s
    num_left = min(len(left), _words_in(left, before, shared_s))
    num_right = min(len(right), _words_in(right, after, shared_s))
    tail, head = [_plain(word) for word in left[len(left) - num_left :]], [_plain(word) for word in right[:num_right]]

    def ends_s(match: Match) -> tuple[float, float]:
        in_tail, in_head, num = match
        cut_left = len(left) - num_left + in_tail + num
        return place(before, _share(left, cut_left)), place(after, _share(right, in_head + num))

    def apart(match: Match) -> float:
        end_s, other_s = ends_s(match)
        return abs(end_s - other_s) / shared_s

    def is_usable(match: Match) -> bool:
        in_tail, in_head, num = match
        is_at_edge = len(tail) - in_tail <= EDGE_WORDS and in_head < EDGE_WORDS
        return num >= MIN_MATCH_WORDS or is_at_edge

    in_tail, in_head, num_same = _best_match([one for one in _matches(tail, head) if is_usable(one)], apart)
    seam_s = (before.end_s + after.start_s) / 2
    if num_same:
        cut_left = len(left) - num_left + in_tail + num_same
        cut_right = in_head + num_same
        guesses_s = ends_s((in_tail, in_head, num_same))
        # The mean of both errs less; it stays within what they share.
        seam_s = min(max(sum(guesses_s) / 2, after.start_s), before.end_s)
    else:  # nothing in common: one of the two heard nothing there, or both heard differently
        cut_left = len(left) if not head else len(left) - num_left // 4
        cut_right = 0 if not tail else num_right // 4
    return [
        replace(before, end_s=seam_s, text=" ".join(left[:cut_left])),
        replace(after, start_s=seam_s, text=" ".join(right[cut_right:])),
    ]


def _share(words: Sequence[str], num: int) -> float:
    """How much of the words the first so many are, by their letters."""
    lengths = [len(word) + 1 for word in words]
    return sum(lengths[:num]) / sum(lengths)


def _matches(tail: Sequence[str], head: Sequence[str]) -> Iterator[Match]:
    """All runs of equal words that could be no longer."""
    runs = [0] * (len(head) + 1)  # runs[j]: equal words that end at tail[i - 1] and head[j - 1]
    for i, one in enumerate(tail, start=1):
        runs = [0, *(runs[j] + 1 if one == other else 0 for j, other in enumerate(head))]
        for j, num in enumerate(runs):
            if num and not (i < len(tail) and j < len(head) and tail[i] == head[j]):
                yield i - num, j - num, num


def _best_match(matches: Sequence[Match], apart: Callable[[Match], float]) -> Match:
    """The longest match, by default none; of several the last of the tail, then the first of the head.

    So no word between them is lost where words repeat. In talk that repeats itself, such as a list, the longest one may
    lie between different sentences, and a seam there would take all between them away: then its two times are further
    apart than they can be, and the longest of those whose times agree is taken, where there is any.

    Args:
        matches: all that may be taken.
        apart: how far the two times of a match are from each other, as a share of the overlap.
    """
    if not matches:
        return 0, 0, 0
    longest = max(matches, key=_by_length)
    if apart(longest) <= POSSIBLY_APART:
        return longest
    return max((one for one in matches if apart(one) <= SURELY_TOGETHER), key=_by_length, default=longest)


def _by_length(match: Match) -> tuple[int, int, int]:
    in_tail, in_head, num = match
    return num, in_tail + num, -in_head


def _words_in(words: Sequence[str], segment: Segment, shared_s: float) -> int:
    """Words that may lie in the overlap: twice its share, as speech is not even, or what is quickly said in it."""
    share = 2 * len(words) * shared_s / max(segment.end_s - segment.start_s, shared_s)
    return round(max(share, QUICK_WORDS_PER_S * shared_s)) + 1


def _plain(word: str) -> str:
    return "".join(letter for letter in word.casefold() if letter.isalnum())
