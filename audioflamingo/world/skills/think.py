"""Reasoning that lists evidence with times and then answers (AF-Think), from the timeline instead of from a model.

What is to be counted or numbered gets its number where it is listed, so that a small decoder only ever copies, counts
on by one, or holds two things against each other: gathering the events in a second list is where it made mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import accumulate

from audioflamingo.world.skills import sounds, speech
from audioflamingo.world.skills.base import Job, Made, Turn, label, number_word, person
from audioflamingo.world.timeline import Heard, Timeline

OPEN, CLOSE = "<think>", "</think>"
LEVELS = (("loud", -2.0), ("rather loud", -7.0), ("rather soft", -13.0), ("soft", -1_000.0))
"""Words for levels in dB below the loudest, each from its own down to the next."""
BASES: tuple[Callable[[Job], Made], ...] = (
    # Counting and order are where thoughts help most, so they come more often than the others.
    *(sounds.counting,) * 3,
    *(sounds.temporal_order,) * 2,
    sounds.temporal_attributes,
    sounds.general,
    sounds.contextual_sound,
    speech.speech_qa,
    speech.contextual_speech,
    speech.information_extraction,
)


def think(job: Job) -> Made:
    """A question of another skill, answered after its evidence."""
    made = job.plan.choice(BASES)(job)
    dialogues = tuple(tuple(reasoned(turn, made.clips[turn.clip]) for turn in turns) for turns in made.dialogues)
    return Made(made.clips, dialogues)


def reasoned(turn: Turn, timeline: Timeline) -> Turn:
    """The turn with the request to think and its thoughts; its rule is a key of `STEPS`."""
    from audioflamingo.prompt.phrases import THINK_SUFFIX  # here, because it brings torch, which no other task needs

    thoughts = "\n".join([*_purpose(turn), *evidence(timeline, turn), conclusion(turn, timeline)])
    answer = f"{OPEN}\n{thoughts}\n{CLOSE}\n{turn.answer}"
    return replace(turn, question=f"{turn.question}\n{THINK_SUFFIX}", answer=answer)


def _purpose(turn: Turn) -> list[str]:
    """What gets numbers, first of all: then each line is held against one before it and not against the question."""
    if turn.rule == "count":
        return [f"Counted: {label(turn.about['kind'])}."]
    counted = {"num_kinds": "kinds", **dict.fromkeys(("nth", "after", "before"), "everything")}.get(turn.rule)
    return [f"Counted: {counted}."] if counted else []


def evidence(timeline: Timeline, turn: Turn | None = None) -> list[str]:
    """A line for everything in front, with its times, then the background; with numbers where the question has some."""
    heard = [*timeline.front, *(event for event in timeline.events if event.layer == "back")]
    numbers = _numbers(turn, heard) if turn else [0] * len(heard)
    lines = []
    for event, number in zip(heard, numbers, strict=True):
        is_front = event.layer != "back"
        span = f"[{event.start_s:.1f}s - {event.end_s:.1f}s]" if is_front else f"[0.0s - {timeline.duration_s:.1f}s]"
        told = _told(event) if is_front else f"{label(event.kind)} in the background"
        lines.append(f"{span} {told} ({number})." if number else f"{span} {told}.")
    return lines


def _numbers(turn: Turn, heard: Sequence[Heard]) -> list[int]:
    """The running number of each line that counts for the question; 0 for the others."""
    kinds = [event.kind for event in heard]
    fronts = [event.layer != "back" for event in heard]
    counts = {
        "count": [front and kind == turn.about.get("kind") for front, kind in zip(fronts, kinds, strict=True)],
        "num_kinds": [kind not in kinds[:place] for place, kind in enumerate(kinds)],
        **dict.fromkeys(("nth", "after", "before"), fronts),
    }.get(turn.rule, [False] * len(kinds))
    return [number * one for number, one in zip(accumulate(counts), counts, strict=True)]


def _told(event: Heard) -> str:
    if event.kind != "speech":
        return label(event.kind)
    assert event.text is not None
    return f'{person(event)} says "{event.text.rstrip(".")}"'


def conclusion(turn: Turn, timeline: Timeline) -> str:
    """What the evidence amounts to for this question, in steps of which each can be read off the ones before."""
    return STEPS[turn.rule](turn, timeline)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _count(turn: Turn, timeline: Timeline) -> str:
    kind = turn.about["kind"]
    number = sum(event.kind == kind for event in timeline.front)
    return f"{_capital(label(kind))}: {number_word(number)}."


def _num_kinds(turn: Turn, timeline: Timeline) -> str:
    return f"Kinds: {number_word(len({event.kind for event in timeline.events}))}."


def _nth(turn: Turn, timeline: Timeline) -> str:
    place = int(turn.about["nth"])
    return f"Number {number_word(place + 1)} is {label(timeline.front[place].kind)}."


def _beside(turn: Turn, timeline: Timeline) -> str:
    """Finds the number of the one that is named, and goes a step."""
    events, named = timeline.front, turn.about["kind"]
    place = next(at for at, event in enumerate(events) if event.kind == named)
    other = place + (1 if turn.rule == "after" else -1)
    found = f"{label(named)} is number {number_word(place + 1)}, {turn.rule} it is number {number_word(other + 1)}"
    return f"{_capital(found)}, {label(events[other].kind)}."


def _earlier(turn: Turn, timeline: Timeline) -> str:
    both = [next(event for event in timeline.front if event.kind == kind) for kind in turn.about["kinds"]]
    starts = ", ".join(f"{label(event.kind)} is at {event.start_s:.1f}s" for event in both)
    return f"{_capital(starts)}: {label(turn.value)} is earlier."


def tenths(event: Heard) -> float:
    """How long it lasts, from the times as the evidence gives them."""
    return round(round(event.end_s, 1) - round(event.start_s, 1), 1)


def _longest(turn: Turn, timeline: Timeline) -> str:
    both = [next(event for event in timeline.front if event.kind == kind) for kind in turn.about["kinds"]]
    told = ", ".join(f"{label(event.kind)} is {tenths(event):.1f} long" for event in both)
    return f"{_capital(told)}: {label(turn.value)} is longer."


def _loudest(turn: Turn, timeline: Timeline) -> str:
    told = ", ".join(f"{label(kind)} is {'loud' if kind == turn.value else 'soft'}" for kind in turn.about["kinds"])
    return f"{_capital(told)}: {label(turn.value)} is louder."


def level_word(below_db: float) -> str:
    """How loud something is beside the loudest of its kind."""
    return next(word for word, least_db in LEVELS if below_db >= least_db)


def _trend(turn: Turn, timeline: Timeline) -> str:
    """The level at each time, in words, from the first to the last."""
    events = [event for event in timeline.front if event.kind == turn.about["kind"]]
    top_db = max(event.level_db for event in events)
    told = ", ".join(f"at {event.start_s:.1f}s {level_word(event.level_db - top_db)}" for event in events)
    return f"{_capital(label(turn.about['kind']))} {told}: it gets {turn.value}."


def _present(turn: Turn, timeline: Timeline) -> str:
    kind = turn.about["kind"]
    starts = [event.start_s for event in timeline.events if event.kind == kind]
    where = f"is there at {starts[0]:.1f}s: yes" if starts else "is not among them: no"
    return f"{_capital(label(kind))} {where}."


def _place(turn: Turn, timeline: Timeline) -> str:
    return f"{_capital(' and '.join(dict.fromkeys(label(event.kind) for event in timeline.events)))}: {turn.value}."


def _fact(turn: Turn, timeline: Timeline) -> str:
    """The sentence that tells it, and the word."""
    told = [event for event in timeline.front if event.says and event.says.get("pattern") == turn.about["pattern"]]
    assert told, "nobody says it"
    return f'At {told[0].start_s:.1f}s: "{(told[0].text or "").rstrip(".")}": {turn.value}.'


def _after_topic(turn: Turn, timeline: Timeline) -> str:
    topic = turn.about["topic"]
    end_s = max(event.end_s for event in timeline.front if event.says and event.says["topic"] == topic)
    follows = next(event for event in timeline.front if event.kind != "speech" and event.start_s >= end_s)
    return f"The words about {topic} end at {end_s:.1f}s, next at {follows.start_s:.1f}s is {label(follows.kind)}."


def _heard(turn: Turn, timeline: Timeline) -> str:
    return f"In order: {turn.answer[:1].lower()}{turn.answer[1:]}"


def _behind(turn: Turn, timeline: Timeline) -> str:
    return f"Behind all else: {label(turn.value)}."


def _sex(turn: Turn, timeline: Timeline) -> str:
    return f"All that is said is said by {person(next(event for event in timeline.front if event.voice))}."


def _num_voices(turn: Turn, timeline: Timeline) -> str:
    return f"Different voices: {number_word(turn.value)}."


def _words(turn: Turn, timeline: Timeline) -> str:
    return "What is said, in order."


def _everything(turn: Turn, timeline: Timeline) -> str:
    return "All of this, in order."


STEPS: dict[str, Callable[[Turn, Timeline], str]] = {
    "count": _count, "num_kinds": _num_kinds, "nth": _nth, "after": _beside, "before": _beside, "earlier": _earlier,
    "longest": _longest, "loudest": _loudest, "trend": _trend, "present": _present, "place": _place, "fact": _fact,
    "after_topic": _after_topic,
    # Questions that need no thoughts, so that one who asks them with thoughts gets no worse an answer.
    "heard": _heard, "background": _behind, "sex": _sex, "num_voices": _num_voices, "transcript": _words,
    "caption": _everything,
}  # fmt: skip
