"""Questions of time about any scene: when something starts, ends, comes again, and what is heard at a moment."""

from __future__ import annotations

from collections.abc import Iterator

from audioflamingo.world.skills import long
from audioflamingo.world.skills.base import ORDINALS, Job, Turn, label, person, seconds, sentence
from audioflamingo.world.timeline import Heard, Timeline

STARTS = (
    "When does {a} start?",
    "At what time does {a} begin?",
    "At which point in time does {a} start?",
    "When do you first hear {a}?",
    "When does {a} begin?",
    "Give the time at which {a} starts.",
    "Tell me when {a} begins.",
    "Name the second at which {a} begins.",
    "Locate the beginning of {a}.",
    "Please say when {a} starts.",
    "Start of {a}?",
    "How many seconds go by before {a} starts?",
    "Locate the start of {a} in time.",
)
ENDS = (
    "When does {a} end?",
    "At what time does {a} stop?",
    "At which second does {a} end?",
    "Until when do you hear {a}?",
    "When does {a} stop?",
    "Give the time at which {a} ends.",
    "Tell me when {a} stops.",
    "Name the second at which {a} is over.",
    "Locate the end of {a}.",
    "Please say when {a} ends.",
    "End of {a}?",
    "When is {a} over?",
    "Locate the end of {a} in time.",
)
AGAIN = (
    "When is {a} heard for the {nth} time?",
    "At what time does {a} start for the {nth} time?",
    "When do you hear {a} for the {nth} time?",
    "At which second does {a} come for the {nth} time?",
    "When does {a} occur for the {nth} time?",
    "Give the time at which {a} is heard for the {nth} time.",
    "Tell me when {a} starts for the {nth} time.",
    "Name the second of {a} when it comes for the {nth} time.",
    "Locate {a} where it is heard for the {nth} time.",
    "Please say when {a} comes for the {nth} time.",
    "{nth} time of {a}: when?",
    "Of all the times you hear {a}, when is the {nth}?",
    "Locate the {nth} time {a} is heard.",
)
SHORTEST_ASKED_S = 0.2  # nothing shorter is asked for by a moment in it


def time_turns(timeline: Timeline, job: Job) -> list[Turn]:
    """All that can be asked about times, one phrasing each; music lasts all through and is left out.

    Args:
        timeline: what is heard.
        job: whose `asking` draws phrasings and moments.
    """
    names = [event.kind for event in timeline.front]
    found: list[Turn] = []
    for place, event in enumerate(timeline.front):
        if event.kind == "music":
            continue
        if names.count(event.kind) == 1:
            found += _alone(event, job)
        elif event.kind != "speech" and names[:place].count(event.kind) < len(ORDINALS):
            found.append(_again(event, names[:place].count(event.kind), job))
        found += _moment(event, timeline, job)
    return found


def _alone(event: Heard, job: Job) -> Iterator[Turn]:
    yield long.when_turn(job, event)
    for phrasings, rule, at_s in ((STARTS, "starts", event.start_s), (ENDS, "ends", event.end_s)):
        question = job.phrasing.of(phrasings, a=label(event.kind))
        yield Turn(question, f"At {seconds(at_s)}.", rule, {"kind": event.kind}, round(at_s, 1))


def _again(event: Heard, place: int, job: Job) -> Turn:
    question = job.phrasing.of(AGAIN, a=label(event.kind), nth=ORDINALS[place])
    about = {"kind": event.kind, "nth": place}
    return Turn(question[:1].upper() + question[1:], f"At {seconds(event.start_s)}.", "again", about,
                round(event.start_s, 1))  # fmt: skip


def _moment(event: Heard, timeline: Timeline, job: Job) -> Iterator[Turn]:
    """What is heard at any moment of an event, where nothing else is."""
    at_s = round(job.asking.uniform(event.start_s, event.end_s), 1)
    near = [e for e in timeline.front if e.start_s - 0.1 <= at_s <= e.end_s + 0.1]
    if near != [event] or event.duration_s < SHORTEST_ASKED_S:
        return
    told = f"{person(event)} speaking" if event.voice is not None else label(event.kind)
    yield Turn(job.phrasing.of(long.AT_TIME, t=seconds(at_s)), sentence(told), "at", {"time_s": at_s}, event.kind)
