"""The times that thoughts name: "[0:05 - 0:10] a dog barks", "5.2s-10s: ...", "(1:02:03) ...". No torch in here."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TIME = (
    r"(?:\d{1,2}:\d{2}:\d{2}(?:\.\d{1,3})?|\d{1,3}:\d{2}(?:\.\d{1,3})?|\d{1,5}(?:\.\d{1,3})?\s?s(?:ec(?:onds?)?)?\b)"
)
_RANGE = re.compile(
    rf"[\[(<]?\s*(?P<start>{_TIME}|\d{{1,5}}(?:\.\d{{1,3}})?(?=\s?(?:-|–|to)\s?{_TIME}))"
    rf"(?:\s?(?:-|–|—|to)\s?(?P<end>{_TIME}))?\s*[\])>]?\s*[:,]?\s*"
)


@dataclass(frozen=True)
class TimedThought:
    """A part of the thoughts that says when.

    Attributes:
        start_s: where it begins, in seconds.
        end_s: where it ends, or None where only one time is named.
        text: what is said of it, up to the next time.
    """

    start_s: float
    end_s: float | None
    text: str


def timed_thoughts(thoughts: str) -> tuple[TimedThought, ...]:
    """Every time or range of times in a text, with the words behind it, in the order of the text."""
    found = list(_RANGE.finditer(thoughts))
    ends = [*(match.start() for match in found), len(thoughts)][1:]
    return tuple(
        TimedThought(
            seconds_of(match["start"]),
            seconds_of(match["end"]) if match["end"] else None,
            " ".join(thoughts[match.end() : end].split()).rstrip(" ,;"),
        )
        for match, end in zip(found, ends, strict=True)
    )


def seconds_of(time: str) -> float:
    """Seconds of "1:02:03", "2:03.5", "5.2 s" or "5.2"."""
    total = 0.0
    for part in re.sub(r"[^0-9:.]", "", time).strip(".").split(":"):
        total = 60 * total + float(part)
    return total
