"""Rules about several clips: the part of the independent checker that compares them, from their timelines alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audioflamingo.world import sounds
from audioflamingo.world.check_music import lead_instrument, tempo_bpm

Truth = Mapping[str, Any]
Rule = Callable[[Sequence[Truth], Truth], Any]

NTH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
CLEARLY = 1.25  # a comparison of durations or tempi is fair from this ratio on
CLEARLY_DB = 8.0
CLIP_CHOICES = (
    "which_clip",
    "clip_with",
    "louder_clip",
    "longer_clip",
    "faster_clip",
    "more_clip",
    "odd_clip",
    "matching_clip",
)
"""Rules whose value is the place of a clip."""
CLIP_COUNTS = ("num_clips", "count_all", "num_with")
CLIP_YES_NO = ("same_kind", "same_speaker", "same_instrument")


def _first(truths: Sequence[Truth], about: Truth) -> Sequence[Truth]:
    return truths[: about["so_far"]]


def _kinds(truth: Truth) -> list[str]:
    """What is heard in front, in order."""
    front = [event for event in truth["events"] if event["layer"] == "front"]
    return [str(event["kind"]) for event in sorted(front, key=lambda event: float(event["start_s"]))]


def _all_kinds(truth: Truth) -> set[str]:
    return {str(event["kind"]) for event in truth["events"]}


def _one(places: Sequence[int]) -> Any:
    return places[0] if len(places) == 1 else f"not one but {list(places)}"


def _facts(truth: Truth, name: str) -> set[str]:
    """All values of a fact in a clip."""
    if name == "kind":
        return _all_kinds(truth)
    if name == "instrument":
        return {lead_instrument(event["piece"]) for event in truth["events"] if "piece" in event}
    if name == "family":
        return {sounds.KINDS[event["kind"]].family for event in truth["events"]}
    return {str(event["voice"][name]) for event in truth["events"] if "voice" in event}


def _clip_with(truths: Sequence[Truth], about: Truth) -> Any:
    heard = [_facts(truth, about["fact"]) for truth in _first(truths, about)]
    return _one([place for place, values in enumerate(heard) if about["value"] in values])


def _largest(sizes: Sequence[float], least: float, *, by_ratio: bool = True) -> Any:
    ranked = sorted(enumerate(sizes), key=lambda pair: pair[1])
    (_, second), (place, best) = ranked[-2:]
    apart = best / second if by_ratio else best - second
    return place if apart >= least else "too close"


def _louder(truths: Sequence[Truth], about: Truth) -> Any:
    levels = [max(float(e["level_db"]) for e in truths[clip]["events"]) for clip in about["clips"]]
    return _largest(levels, CLEARLY_DB, by_ratio=False)


def _longer(truths: Sequence[Truth], about: Truth) -> int:
    return int(max(about["clips"], key=lambda clip: float(truths[clip]["duration_s"])))


def _faster(truths: Sequence[Truth], about: Truth) -> Any:
    pieces = [next(e["piece"] for e in truths[clip]["events"] if "piece" in e) for clip in about["clips"]]
    return _largest([tempo_bpm(piece) for piece in pieces], CLEARLY)


def _more(truths: Sequence[Truth], about: Truth) -> Any:
    counts = [_kinds(truth).count(about["kind"]) for truth in _first(truths, about)]
    return _one([place for place, count in enumerate(counts) if count == max(counts)])


def _odd(truths: Sequence[Truth], about: Truth) -> Any:
    heard = [frozenset(_all_kinds(truth)) for truth in _first(truths, about)]
    return _one([place for place, kinds in enumerate(heard) if heard.count(kinds) == 1])


def _matching(truths: Sequence[Truth], about: Truth) -> Any:
    heard = [_all_kinds(truth) for truth in _first(truths, about)]
    mine = heard[about["clip"]]
    return _one([place for place, kinds in enumerate(heard) if place != about["clip"] and kinds == mine])


def _same(name: str) -> Rule:
    def rule(truths: Sequence[Truth], about: Truth) -> Any:
        values = [_facts(truths[clip], name) for clip in about["clips"]]
        return values[0] == values[1] if all(len(one) == 1 for one in values) else f"several: {values}"

    return rule


def _same_speaker(truths: Sequence[Truth], about: Truth) -> bool:
    who = {
        (event["voice"]["engine"], event["voice"]["voice"])
        for clip in about["clips"]
        for event in truths[clip]["events"]
        if "voice" in event
    }
    return len(who) == 1


def _common(truths: Sequence[Truth], about: Truth) -> Any:
    shared = set.intersection(*(_all_kinds(truth) for truth in _first(truths, about)))
    return shared.pop() if len(shared) == 1 else f"several: {sorted(shared)}"


def _only_in(truths: Sequence[Truth], about: Truth) -> Any:
    place, other = about["clips"]
    alone = _all_kinds(truths[place]) - _all_kinds(truths[other])
    return alone.pop() if len(alone) == 1 else f"several: {sorted(alone)}"


def example_label(truths: Sequence[Truth], about: Truth, clip: int) -> str:
    """The label of the only group of examples that agree with a clip in what the labels stand for."""
    mine = _facts(truths[clip], about["by"])
    labels = {label for place, label in enumerate(about["labels"]) if _facts(truths[place], about["by"]) == mine}
    return labels.pop() if len(labels) == 1 else f"several: {sorted(labels)}"


CLIP_RULES: dict[str, Rule] = {
    "which_clip": lambda truths, about: _clip_with(truths, {**about, "fact": "kind", "value": about["kind"]}),
    "clip_with": _clip_with,
    "louder_clip": _louder,
    "longer_clip": _longer,
    "faster_clip": _faster,
    "more_clip": _more,
    "odd_clip": _odd,
    "matching_clip": _matching,
    "same_kind": _same("kind"),
    "same_instrument": _same("instrument"),
    "same_speaker": _same_speaker,
    "num_clips": lambda truths, about: len(_first(truths, about)),
    "count_all": lambda truths, about: sum(_kinds(truth).count(about["kind"]) for truth in _first(truths, about)),
    "num_with": lambda truths, about: sum(about["kind"] in _all_kinds(truth) for truth in _first(truths, about)),
    "each": lambda truths, about: [_kinds(truth) for truth in _first(truths, about)],
    "common": _common,
    "only_in": _only_in,
}
