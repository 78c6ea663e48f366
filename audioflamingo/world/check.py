"""The independent checker: finds every answer again from the timeline alone, by code that made none of them.

It reads what an export writes: timelines as JSON, and turns with the rule that ties them to it. Nothing of `skills` is
used here but its list of places, which is a definition and not a computation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Any

from audioflamingo.world import sounds
from audioflamingo.world.check_clips import (
    CLIP_CHOICES,
    CLIP_COUNTS,
    CLIP_RULES,
    CLIP_YES_NO,
    NTH,
    example_label,
)
from audioflamingo.world.check_events import (
    EVENT_COUNTS,
    EVENT_KIND_RULES,
    EVENT_RULES,
    EVENT_YES_NO,
    is_unclear,
)
from audioflamingo.world.check_music import MUSIC_RULES, music_words
from audioflamingo.world.check_thoughts import wrong_thoughts
from audioflamingo.world.skills.sounds import PLACES

Truth = Mapping[str, Any]

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
GROUPS = {
    "animals": "an animal", "alarms": "a signal or an alarm", "impacts": "an impact or a blow", "people": "a person",
    "vehicles": "a vehicle", "machines": "a machine", "instruments": "a musical instrument",
}  # fmt: skip
NOTHING_HEARD = ("Nothing recognisable, only noise.", "Silence.")
TRENDS = {"louder": "it gets louder", "quieter": "it gets quieter"}


def check_turn(truths: Sequence[Truth], turn: Mapping[str, Any]) -> list[str]:
    """What is wrong with a turn about some clips; nothing if all is right.

    Args:
        truths: the clips of the dialogue, as `Timeline.truth` gives them.
        turn: "question", "answer", "rule", "about", "value", "options", "clip" of the turn.
    """
    rule = str(turn["rule"])
    found = _value(truths, turn)
    problems = []
    if _plain(found) != _plain(turn["value"]):
        problems.append(f"{rule}: the timeline gives {found!r}, the turn says {turn['value']!r}")
    answer = str(turn["answer"]).rsplit("</think>\n", 1)[-1]
    if rule == "caption":
        return problems + [
            f"caption: {c!r} is missing" for c in _clauses(truths[turn["clip"]]) if c not in answer.lower()
        ]
    told = _told(rule, found)
    if rule == "heard" and not found and answer not in NOTHING_HEARD:
        problems.append(f"heard: there is nothing, but the answer is {answer!r}")
    if turn["options"]:
        problems += _check_options(told, answer, turn)
    elif told.lower() not in _SPEAKER.sub("speaking", answer.lower()):
        problems.append(f"{rule}: the answer {answer!r} does not say {told!r}")
    return [*problems, *wrong_thoughts(truths[turn["clip"]], turn)]


def _value(truths: Sequence[Truth], turn: Mapping[str, Any]) -> Any:
    rule, clip = str(turn["rule"]), int(turn["clip"])
    if rule in MUSIC_RULES:
        return MUSIC_RULES[rule](next(e["piece"] for e in truths[clip]["events"] if "piece" in e))
    if rule in CLIP_RULES:
        return CLIP_RULES[rule](truths, turn["about"])
    if rule == "by_example":
        return example_label(truths, turn["about"], clip)
    return RULES[rule](truths[clip]["events"], turn["about"])


def _check_options(told: str, answer: str, turn: Mapping[str, Any]) -> list[str]:
    right = [option for option in turn["options"] if option == told or option.startswith(f"{told},")]
    if len(right) != 1 or len(set(turn["options"])) != len(turn["options"]):
        return [f"{turn['rule']}: {len(right)} of the options {turn['options']} are {told!r}"]
    letter = "ABCDEFGH"[list(turn["options"]).index(right[0])]
    if answer != f"({letter}) {right[0]}" or answer not in str(turn["question"]).split("\n"):
        return [f"{turn['rule']}: the answer is {answer!r}, right is ({letter})"]
    return []


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


_SPEAKER = re.compile(r"a (?:wo)?man speaking")


def _fore(events: Sequence[Truth]) -> list[Truth]:
    return sorted((e for e in events if e["layer"] == "front"), key=lambda e: float(e["start_s"]))


def _sequence(events: Sequence[Truth]) -> list[str]:
    return [str(event["kind"]) for event in _fore(events)]


def _speech(events: Sequence[Truth]) -> list[Truth]:
    return [event for event in _fore(events) if event["kind"] == "speech"]


def _only(values: Sequence[Any]) -> Any:
    """The one value that all agree on, or a complaint in its place."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else f"not one but {distinct}"


def _beside(step: int) -> Callable[[Sequence[Truth], Truth], str]:
    def rule(events: Sequence[Truth], about: Truth) -> str:
        names = _sequence(events)
        places = [index for index, name in enumerate(names) if name == about["kind"]]
        return names[places[0] + step] if len(places) == 1 else "ambiguous"

    return rule


def _earlier(events: Sequence[Truth], about: Truth) -> str:
    return str(min((e["start_s"], e["kind"]) for e in events if e["kind"] in about["kinds"])[1])


def _longest(events: Sequence[Truth], about: Truth) -> str:
    spans = {kind: max(e["end_s"] - e["start_s"] for e in events if e["kind"] == kind) for kind in about["kinds"]}
    best, second = sorted((str(kind) for kind in spans), key=lambda kind: -spans[kind])[:2]
    return best if spans[best] > 1.3 * spans[second] else "too close"


def _loudest(events: Sequence[Truth], about: Truth) -> str:
    levels = {kind: max(e["level_db"] for e in events if e["kind"] == kind) for kind in about["kinds"]}
    return str(max(levels, key=lambda kind: float(levels[kind])))


def _pitch_change(events: Sequence[Truth], about: Truth) -> str:
    first, last = (float(event["voice"]["pitch"]) for event in _speech(events))
    return "higher" if last > 1.2 * first else "lower" if first > 1.2 * last else "the same"


def _trend(events: Sequence[Truth], about: Truth) -> str:
    levels = [e["level_db"] for e in _fore(events) if e["kind"] == about["kind"]]
    return "louder" if levels == sorted(levels) else "quieter" if levels == sorted(levels)[::-1] else "neither"


def _fact(events: Sequence[Truth], about: Truth) -> Any:
    said = [e["says"] for e in _speech(events) if e.get("says", {}).get("pattern") == about["pattern"]]
    return _only([one["slots"][about["slot"]] for one in said]) if said else None


def _after_topic(events: Sequence[Truth], about: Truth) -> str:
    ends = [e["end_s"] for e in _speech(events) if e["says"]["topic"] == about["topic"]]
    later = [e for e in _fore(events) if e["kind"] != "speech" and e["start_s"] >= max(ends)]
    return str(later[0]["kind"])


def _at(events: Sequence[Truth], about: Truth) -> str:
    at_s = about["time_s"]
    return str(_only([e["kind"] for e in _fore(events) if e["start_s"] - 0.1 <= at_s <= e["end_s"] + 0.1]))


def _when(events: Sequence[Truth], about: Truth) -> list[float]:
    spans = [(e["start_s"], e["end_s"]) for e in events if e["kind"] == about["kind"]]
    return [round(spans[0][0], 1), round(spans[0][1], 1)] if len(spans) == 1 else []


def _edge(name: str) -> Callable[[Sequence[Truth], Truth], Any]:
    """Where the only sound of a kind begins or ends."""

    def rule(events: Sequence[Truth], about: Truth) -> Any:
        return _only([round(e[name], 1) for e in _fore(events) if e["kind"] == about["kind"]])

    return rule


def _again(events: Sequence[Truth], about: Truth) -> float:
    return float(round([e["start_s"] for e in _fore(events) if e["kind"] == about["kind"]][about["nth"]], 1))


def _topics(events: Sequence[Truth], about: Truth) -> list[str]:
    return [topic for topic, _ in groupby(e["says"]["topic"] for e in _speech(events))]


def _summary(events: Sequence[Truth], about: Truth) -> list[dict[str, str]]:
    parts: list[dict[str, str]] = []
    for event in _fore(events):
        if event["kind"] == "speech":
            part = {"sex": event["voice"]["sex"], "topic": event["says"]["topic"]}
        else:
            part = {"kind": event["kind"]}
        if not parts or parts[-1] != part:
            parts.append(part)
    return parts


def _place(events: Sequence[Truth], about: Truth) -> Any:
    heard = {event["kind"] for event in events}
    return _only([place for place, (bed, names) in PLACES.items() if heard <= {bed, *names}])


def _answering(events: Sequence[Truth], about: Truth) -> list[Truth]:
    """What is said right after the question, where it answers anything."""
    found = []
    for asked, answered in pairwise(_speech(events)):
        says = asked.get("says", {})
        is_asked = says.get("role") == "question" and says["about"] == about["about"]
        if is_asked and answered.get("says", {}).get("role") == "response":
            found.append(answered)
    return found


def _response(events: Sequence[Truth], about: Truth) -> Any:
    return _only([event["says"]["slots"][event["says"]["slot"]] for event in _answering(events, about)])


def _reply(events: Sequence[Truth], about: Truth) -> Any:
    return _only([event["text"] for event in _answering(events, about)])


def _word_times(events: Sequence[Truth], about: Truth) -> list[list[Any]]:
    return [[word["text"], round(word["start_s"], 2)] for event in _speech(events) for word in event["words"]]


def _dialogue(events: Sequence[Truth], about: Truth) -> list[list[Any]]:
    order = list(dict.fromkeys(event["voice"]["name"] for event in _speech(events)))
    return [[order.index(event["voice"]["name"]) + 1, event["transcript"]] for event in _speech(events)]


def _background(events: Sequence[Truth], about: Truth) -> Any:
    return _only([event["kind"] for event in events if event["layer"] == "back"])


RULES: dict[str, Callable[[Sequence[Truth], Truth], Any]] = {
    "nth": lambda events, about: _sequence(events)[about["nth"]],
    "after": _beside(1),
    "before": _beside(-1),
    "earlier": _earlier,
    "longest": _longest,
    "loudest": _loudest,
    "trend": _trend,
    "count": lambda events, about: _sequence(events).count(about["kind"]),
    "num_kinds": lambda events, about: len({event["kind"] for event in events}),
    "present": lambda events, about: any(event["kind"] == about["kind"] for event in events),
    "family": lambda events, about: _only([sounds.KINDS[event["kind"]].family for event in events]),
    "place": _place,
    "background": _background,
    "heard": lambda events, about: _sequence(events),
    "caption": lambda events, about: [e["kind"] for e in sorted(events, key=lambda e: (e["start_s"], e["end_s"]))],
    "sex": lambda events, about: _only([event["voice"]["sex"] for event in _speech(events)]),
    "pitch_change": _pitch_change,
    "same_voice": lambda events, about: (
        len({(event["voice"]["engine"], event["voice"]["voice"]) for event in _speech(events)}) == 1
    ),
    "pace": lambda events, about: _only([event["voice"]["pace"] for event in _speech(events)]),
    "mood": lambda events, about: _only([event["voice"]["mood"] for event in _speech(events)]),
    "mood_change": lambda events, about: [m for m, _ in groupby(e["voice"]["mood"] for e in _speech(events))],
    "num_voices": lambda events, about: len({event["voice"]["voice"] for event in _speech(events)}),
    "num_sentences": lambda events, about: len(_speech(events)),
    "fact": _fact,
    "transcript": lambda events, about: " ".join(event["transcript"] for event in _speech(events)),
    "after_topic": _after_topic,
    "at": _at,
    "when": _when,
    "starts": _edge("start_s"),
    "ends": _edge("end_s"),
    "again": _again,
    "topics": _topics,
    "same_topic": lambda events, about: len({event["says"]["topic"] for event in _speech(events)}) == 1,
    "summary": _summary,
    "cause": lambda events, about: _only(
        [e["says"]["cause"] for e in _speech(events) if e.get("says", {}).get("effect") == about["effect"]]
    ),
    "response": _response,
    "reply": _reply,
    "word_times": _word_times,
    "dialogue": _dialogue,
    **EVENT_RULES,
}


_KIND_RULES = {
    "nth", "after", "before", "earlier", "longest", "loudest", "background", "after_topic", "at", "common", "only_in",
    *EVENT_KIND_RULES,
}  # fmt: skip
_COUNT_RULES = {"count", "num_kinds", "num_voices", "num_sentences", *CLIP_COUNTS, *EVENT_COUNTS}


def _label(kind: str) -> str:
    """What an answer says at least; of a speaker, either sex."""
    return {"speech": "speaking", "music": "music"}.get(kind) or sounds.KINDS[kind].label


def _clauses(truth: Truth) -> list[str]:
    """What a caption has to say of every event."""
    clauses = []
    for event in truth["events"]:
        if event["kind"] == "speech":
            who = "woman" if event["voice"]["sex"] == "female" else "man"
            clauses.append(f'a {who} says: "{event["text"].rstrip(".").lower()}"')
        elif event["kind"] == "music" and "piece" not in event:
            clauses.append("music plays")
        elif event["kind"] == "music":
            clauses += [
                event["piece"]["style"],
                event["piece"]["mode"],
                *(p["instrument"] for p in event["piece"]["parts"]),
            ]
        else:
            clauses.append(sounds.KINDS[event["kind"]].sentence.lower())
    return clauses


def _told(rule: str, value: Any) -> str:
    """What the answer has to say, at least."""
    if is_unclear(value):
        return str(value)
    if rule in MUSIC_RULES:
        return music_words(rule, value)
    if rule in _COUNT_RULES:
        return WORDS[value]
    if rule in ("present", "same_topic", "same_voice", *CLIP_YES_NO, *EVENT_YES_NO):
        return "yes" if value else "no"
    if rule in CLIP_CHOICES:
        return f"the {NTH[value]} clip" if isinstance(value, int) else str(value)
    if rule in _KIND_RULES:
        return _label(value)
    if rule in TELLERS:
        return TELLERS[rule](value)
    return str(value)


def _heard_told(kinds: list[str]) -> str:
    if not kinds:
        return ""
    return ", then ".join(_label(kind) for kind in kinds)


def _summary_told(parts: list[dict[str, str]]) -> str:
    words = [
        f"there is {sounds.KINDS[p['kind']].label}" if "kind" in p
        else f"a {'woman' if p['sex'] == 'female' else 'man'} talks about {p['topic']}"
        for p in parts
    ]  # fmt: skip
    return ", then ".join(words)


TELLERS: dict[str, Callable[[Any], str]] = {
    "fact": lambda value: value if value is not None else "The recording does not say.",
    "family": lambda value: GROUPS[value],
    "trend": lambda value: TRENDS[value],
    "sex": lambda value: "a woman" if value == "female" else "a man",
    "mood_change": lambda value: f"from {value[0]} to {value[1]}",
    "when": lambda value: f"from {value[0]:.1f} s to {value[1]:.1f} s",
    "starts": lambda value: f"at {value:.1f} s",
    "ends": lambda value: f"at {value:.1f} s",
    "again": lambda value: f"at {value:.1f} s",
    "topics": lambda value: ", then ".join(value),
    "heard": _heard_told,
    "summary": _summary_told,
    "cause": lambda value: f"because {value}",
    "word_times": lambda value: " ".join(f"[{start_s:.2f}] {word}" for word, start_s in value),
    "dialogue": lambda value: "\n".join(f"Speaker {number}: {text}" for number, text in value),
    "each": lambda value: " ".join(f"{NTH[at]} clip: {_heard_told(kinds)}." for at, kinds in enumerate(value)),
}
