"""Thoughts checked against their timeline: times that are named, running numbers, and durations (AF-Think)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

Truth = Mapping[str, Any]

_LINE = re.compile(r"^\[(\d+\.\d)s - (\d+\.\d)s\]")
_MOMENT = re.compile(r"\bat (\d+\.\d)s")
_NUMBER = re.compile(r"\((\d+)\)\.$")
_DURATION = re.compile(r"(\d+\.\d) long\b")
COUNTED = ("count", "num_kinds")
SLACK_S = 0.101  # a duration of rounded times


def wrong_thoughts(truth: Truth, turn: Mapping[str, Any]) -> Iterator[str]:
    """What the thoughts of an answer say that is not so, a line each.

    Args:
        truth: the clip that the turn is about, as `Timeline.truth` gives it.
        turn: with "rule", "value" and "answer", whose thoughts come before `</think>`.
    """
    thoughts, ends, _ = str(turn["answer"]).partition("</think>")
    if not ends:
        return
    events = truth["events"]
    *lines, last = thoughts.strip().split("\n")[1:]
    spans = [(f"{e['start_s']:.1f}", f"{e['end_s']:.1f}") for e in events]
    told = [found.groups() for found in map(_LINE.match, lines) if found]
    if sorted(told) != sorted(spans):
        yield f"{turn['rule']}: a thought names a time at which that is not heard, or one is missing"
    if not set(_MOMENT.findall(last)) <= {time for span in spans for time in span}:
        yield f"{turn['rule']}: the last thought names a moment at which nothing starts or ends"
    numbers = [int(found[1]) for found in map(_NUMBER.search, lines) if found]
    if numbers != list(range(1, len(numbers) + 1)) or (turn["rule"] in COUNTED and len(numbers) != turn["value"]):
        yield f"{turn['rule']}: the thoughts count {numbers}"
    if turn["rule"] == "count":
        asked = [event["layer"] == "front" and event["kind"] == turn["about"]["kind"] for event in events]
        counted = sorted(span for span, is_asked in zip(spans, asked, strict=True) if is_asked)
        if sorted(found.groups() for found in map(_LINE.match, filter(_NUMBER.search, lines)) if found) != counted:
            yield "count: a thought counts what is not asked for, or leaves out what is"
    lengths = [e["end_s"] - e["start_s"] for e in events]
    if not all(any(abs(float(one) - s) < SLACK_S for s in lengths) for one in _DURATION.findall(last)):
        yield f"{turn['rule']}: the last thought names a duration that nothing has"
