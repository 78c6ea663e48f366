"""Reasoning that lists evidence with times and then answers (AF-Think), from the timeline instead of from a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from audioflamingo.world.skills import sounds, speech
from audioflamingo.world.skills.base import Job, Made, Turn, label, number_word, person
from audioflamingo.world.timeline import Heard, Timeline

OPEN, CLOSE = "<think>", "</think>"
BASES: tuple[Callable[[Job], Made], ...] = (
    sounds.counting,
    sounds.temporal_order,
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
    dialogues = tuple(tuple(_reasoned(turn, made.clips[turn.clip]) for turn in turns) for turns in made.dialogues)
    return Made(made.clips, dialogues)


def _reasoned(turn: Turn, timeline: Timeline) -> Turn:
    from audioflamingo.prompt.phrases import THINK_SUFFIX  # here, because it brings torch, which no other task needs

    thoughts = "\n".join([*evidence(timeline), conclusion(turn, timeline)])
    answer = f"{OPEN}\n{thoughts}\n{CLOSE}\n{turn.answer}"
    return replace(turn, question=f"{turn.question}\n{THINK_SUFFIX}", answer=answer)


def evidence(timeline: Timeline) -> list[str]:
    """A line for everything in front, with its times, then the background."""
    lines = [f"[{event.start_s:.1f}s - {event.end_s:.1f}s] {_told(event)}." for event in timeline.front]
    lines += [
        f"[0.0s - {timeline.duration_s:.1f}s] {label(e.kind)} in the background."
        for e in timeline.events
        if e.layer == "back"
    ]
    return lines


def _told(event: Heard) -> str:
    if event.kind != "speech":
        return label(event.kind)
    assert event.text is not None
    return f'{person(event)} says "{event.text.rstrip(".")}"'


def conclusion(turn: Turn, timeline: Timeline) -> str:
    """What the evidence amounts to for this question."""
    if turn.rule == "count":
        num = sum(event.kind == turn.about["kind"] for event in timeline.front)
        return f"{number_word(num).capitalize()} of these are {label(turn.about['kind'])}."
    if turn.rule in ("nth", "after", "before", "earlier"):
        kinds = [label(event.kind) for event in timeline.front]
        return f"In order: {', '.join(kinds)}."
    if turn.rule in ("longest", "loudest", "trend"):
        return "Comparing them shows it."
    if turn.rule == "present":
        heard = "is" if turn.value else "is not"
        return f"{label(turn.about['kind']).capitalize()} {heard} among them."
    return "That tells the answer."
