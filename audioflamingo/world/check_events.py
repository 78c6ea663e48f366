"""Rules about how events lie to one another, in time and in distance: a part of the independent checker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

Truth = Mapping[str, Any]
Rule = Callable[[Sequence[Truth], Truth], Any]

LEAST_TOGETHER_S, LEAST_APART_S = 0.6, 0.5  # what lies between is asked of nobody
LEAST_FARTHER = 2.5
EQUALLY_FAR = 1.1
SLACK_S = 0.002  # times are told to the millisecond
UNCLEAR = "unclear: "
EVENT_YES_NO = ("overlap", "speech_during", "voices_overlap", "as_far")
EVENT_KIND_RULES = ("during", "begins_over", "nearest", "farthest")
EVENT_COUNTS = ("most_at_once",)


class _UnclearError(Exception):
    """The timeline has no clear answer."""


def is_unclear(value: Any) -> bool:
    """Whether this is the complaint that stands in the place of a value where there is no clear one."""
    return isinstance(value, str) and value.startswith(UNCLEAR)


def _fore(events: Sequence[Truth]) -> list[Truth]:
    return sorted((event for event in events if event["layer"] == "front"), key=lambda event: float(event["start_s"]))


def _the(events: Sequence[Truth], kind: str) -> Truth:
    found = [event for event in _fore(events) if event["kind"] == kind]
    if len(found) != 1:
        raise _UnclearError(f"{len(found)} events are {kind}")
    return found[0]


def _together(one: Truth, other: Truth) -> bool:
    """Whether two events sound at the same time for long enough.

    Raises:
        _UnclearError: they neither do so nor are clearly apart.
    """
    shared_s = min(one["end_s"], other["end_s"]) - max(one["start_s"], other["start_s"])
    if shared_s >= LEAST_TOGETHER_S - SLACK_S:
        return True
    if shared_s <= SLACK_S - LEAST_APART_S:
        return False
    raise _UnclearError(f"{one['kind']} and {other['kind']} share {shared_s:.2f} s")


def _one(values: Sequence[Any]) -> Any:
    if len(values) != 1:
        raise _UnclearError(f"not one but {list(values)}")
    return values[0]


def _overlap(events: Sequence[Truth], about: Truth) -> bool:
    first, second = about["kinds"]
    return _together(_the(events, first), _the(events, second))


def _during(events: Sequence[Truth], about: Truth) -> str:
    one = _the(events, about["kind"])
    return str(_one([event["kind"] for event in _fore(events) if event is not one and _together(one, event)]))


def _begins_over(events: Sequence[Truth], about: Truth) -> str:
    pairs = [(before, later) for before, later in combinations(_fore(events), 2) if _together(before, later)]
    return str(_one([later["kind"] for _, later in pairs]))


def _num_together(pairs: Iterable[tuple[Truth, Truth]]) -> int:
    """Of how many pairs the events sound at the same time; every pair has to be clear."""
    return sum(_together(*pair) for pair in pairs)


def _most_at_once(events: Sequence[Truth], about: Truth) -> int:
    """The largest number of events that share a moment, which has to be long enough."""
    fore, most = _fore(events), 1
    for num in range(2, len(fore) + 1):
        for some in combinations(fore, num):
            if _num_together(combinations(some, 2)) == num * (num - 1) // 2:
                shared_s = min(event["end_s"] for event in some) - max(event["start_s"] for event in some)
                if shared_s < LEAST_TOGETHER_S - SLACK_S:
                    raise _UnclearError(f"{num} events share {shared_s:.2f} s")
                most = num
    return most


def _speech_during(events: Sequence[Truth], about: Truth) -> bool:
    one = _the(events, about["kind"])
    return _num_together((one, event) for event in _fore(events) if event["kind"] == "speech") > 0


def _voices_overlap(events: Sequence[Truth], about: Truth) -> bool:
    said = [event for event in _fore(events) if event["kind"] == "speech"]
    pairs = [pair for pair in combinations(said, 2) if pair[0]["voice"]["name"] != pair[1]["voice"]["name"]]
    if not pairs:
        raise _UnclearError("fewer than two voices speak")
    return _num_together(pairs) > 0


def _extreme(place: int) -> Rule:
    """The kind at the end of the order of distances; `kinds` names those that are compared."""

    def rule(events: Sequence[Truth], about: Truth) -> str:
        order = sorted((float(_the(events, kind)["distance_m"]), str(kind)) for kind in about["kinds"])
        (best, kind), (second, _) = order[place], order[1 if place == 0 else -2]
        if max(best, second) < LEAST_FARTHER * min(best, second):
            raise _UnclearError(f"{best} m and {second} m are too close")
        return kind

    return rule


def _as_far(events: Sequence[Truth], about: Truth) -> bool:
    near, far = sorted(float(_the(events, kind)["distance_m"]) for kind in about["kinds"])
    if EQUALLY_FAR * near < far < LEAST_FARTHER * near:
        raise _UnclearError(f"{near} m and {far} m are neither equal nor clearly apart")
    return far <= EQUALLY_FAR * near


def _told_if_unclear(rule: Rule) -> Rule:
    """The complaint in the place of a value, which no turn has."""

    def found(events: Sequence[Truth], about: Truth) -> Any:
        try:
            return rule(events, about)
        except _UnclearError as unclear:
            return f"{UNCLEAR}{unclear}"

    return found


EVENT_RULES: dict[str, Rule] = {
    name: _told_if_unclear(rule)
    for name, rule in {
        "overlap": _overlap,
        "during": _during,
        "begins_over": _begins_over,
        "most_at_once": _most_at_once,
        "speech_during": _speech_during,
        "voices_overlap": _voices_overlap,
        "nearest": _extreme(0),
        "farthest": _extreme(-1),
        "as_far": _as_far,
    }.items()
}
