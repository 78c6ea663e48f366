"""Dialogues of 2 to 10 turns over 2 to 8 clips, whose later turns refer back to earlier clips (AF-Chat)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.said import statement
from audioflamingo.world.skills.base import (
    BED_KINDS,
    EVENT_KINDS,
    ORDINALS,
    Job,
    Made,
    Turn,
    label,
    number_word,
    person,
    sentence,
)
from audioflamingo.world.skills.sounds import SILENT_SHARE, empty
from audioflamingo.world.tasks import NOISE, SILENCE
from audioflamingo.world.timeline import Stage, Timeline

WHAT = (
    "What is in this clip?",
    "Describe this sound.",
    "And this one?",
    "What do you hear?",
    "What is it?",
    "What does this one contain?",
    "What is in this one?",
    "Which sounds does this clip contain?",
    "Name what is in this clip.",
    "Tell me what this clip contains.",
    "Report what you hear in this one.",
    "Please identify what is in the clip.",
    "Here is another one: what is it?",
    "Report what this one contains.",
)
WHICH_CLIP = (
    "In which of the clips so far is there {a}?",
    "Which clip has {a}?",
    "Which clip contains {a}?",
    "In which clip did you hear {a}?",
    "Where was {a}, in which clip?",
    "Which of my clips has {a} in it?",
    "Name the clip with {a}.",
    "Tell me which clip contains {a}.",
    "Point to the one with {a}.",
    "Identify the clip that has {a}.",
    "Please say in which clip {a} is heard.",
    "Clip with {a}?",
    "Point to the clip that contains {a}.",
)
AGAIN = (
    "What came first in the {nth} clip?",
    "Going back to the {nth} clip: with what does it begin?",
    "What was the first thing in the {nth} clip?",
    "In the {nth} clip, what do you hear first?",
    "How did the {nth} clip begin: with which sound?",
    "With what does the {nth} clip start?",
    "Remind me what came first in the {nth} clip.",
    "Remind me how the {nth} clip began.",
    "Name the first thing you heard in the {nth} clip.",
    "Tell me what the {nth} clip starts with.",
    "Please go back to the {nth} clip and name what comes first.",
    "First thing in the {nth} clip?",
    "Remind me of the first thing in the {nth} clip.",
)
LONGER = (
    "Which is longer, the {nth} clip or this one?",
    "Does the {nth} clip last longer than this one?",
    "Which has the longer duration, the {nth} clip or this one?",
    "Is the {nth} clip longer or shorter than this one?",
    "Of the {nth} clip and this one, which lasts longer?",
    "Which of the two durations is longer, that of the {nth} clip or of this one?",
    "Compare the {nth} clip with this one: which is longer?",
    "Compare durations: is the {nth} clip the longer one, or this?",
    "Tell me which is longer, this clip or the {nth}.",
    "Name the longer one: the {nth} clip or this.",
    "Please say whether the {nth} clip or this one lasts longer.",
    "Longer one: the {nth} clip or this?",
    "Compare the durations of the {nth} clip and this one.",
)
HOW_MANY = (
    "How many clips did I send so far?",
    "How many sounds have you got until now?",
    "How many clips have you heard so far?",
    "How many clips are there by now?",
    "How many of my clips do you have?",
    "What is the number of clips so far?",
    "Count the clips that I sent.",
    "Count the clips up to now.",
    "Tell me how many clips I gave you.",
    "Give the number of my clips.",
    "Please count all clips so far.",
    "Number of clips until now?",
    "Count my clips.",
)
FEWEST, MOST_CLIPS, MOST_TURNS = 2, 8, 10
LEAST_DIFFERENCE_S = 0.5


def chat(job: Job) -> Made:
    """Clips come one by one; between them are questions about any of the clips so far."""
    num_clips = job.plan.randint(FEWEST, MOST_CLIPS)
    clips = _clips(job, num_clips)
    turns: list[Turn] = []
    num_back = job.plan.randint(1, MOST_TURNS - num_clips)
    after = sorted(job.plan.randint(1, num_clips - 1) for _ in range(num_back))
    for index, clip in enumerate(clips):
        value = [event.kind for event in clip.front]
        turns.append(Turn(job.phrasing.of(WHAT), _named(clip), "heard", {}, value, clip=index, brings=(index,)))
        turns += [_back(job, clips[: index + 1]) for place in after if place == index]
    return Made(tuple(clips), (tuple(turns),))


def _clips(job: Job, num: int) -> list[Timeline]:
    """Short clips of all forms; the kinds of sound do not repeat between clips."""
    names = job.plan.sample(EVENT_KINDS, 2 * num)
    return [job.plan.choice(FORMS)(job, names[2 * index : 2 * index + 2]) for index in range(num)]


def _sounds(job: Job, names: list[str]) -> Timeline:
    stage = job.stage()
    for name in names:
        stage.pause()
        stage.sound(name)
    return stage.close()


def _one_sound(job: Job, names: list[str]) -> Timeline:
    return _sounds(job, names[:1])


def _spoken(job: Job, names: list[str]) -> Timeline:
    """A statement, and behind it a sound or nothing."""
    stage = job.stage()
    _say(job, stage)
    if job.plan.random() < 0.5:
        stage.pause()
        stage.sound(names[0])
    return stage.close()


def _played(job: Job, names: list[str]) -> Timeline:
    stage = job.stage()
    stage.music(compose(draw_facts(job.plan, duration_s=8.0), job.plan))
    stage.pause()
    stage.sound(names[0])
    return stage.close()


def _over_something(job: Job, names: list[str]) -> Timeline:
    """A statement or a sound over a steady one."""
    stage = job.stage()
    stage.bed(job.plan.choice(BED_KINDS))
    stage.pause()
    if job.plan.random() < 0.5:
        _say(job, stage)
    else:
        stage.sound(names[0])
    return stage.close()


def _nothing(job: Job, names: list[str]) -> Timeline:
    """Noise or silence."""
    return empty(job.stage(), is_silent=job.plan.random() < SILENT_SHARE)


def _say(job: Job, stage: Stage) -> None:
    (voice,) = job.cast(None)
    stage.say(statement(job.plan, test=job.test), voice)


FORMS: tuple[Callable[[Job, list[str]], Timeline], ...] = (
    _sounds, _sounds, _one_sound, _one_sound, _spoken, _spoken, _played, _over_something, _nothing,
)  # fmt: skip


def _named(clip: Timeline) -> str:
    if not clip.front:
        return NOISE if np.any(clip.samples) else SILENCE
    told = ", then ".join(person(e) + " speaking" if e.kind == "speech" else label(e.kind) for e in clip.front)
    behind = [f", with {label(event.kind)} in the background" for event in clip.events if event.layer == "back"]
    return sentence(told + "".join(behind))


def _back(job: Job, clips: list[Timeline]) -> Turn:
    forms: tuple[Callable[[Job, list[Timeline]], Turn | None], ...] = (_which_clip, _again, _longer, _how_many)
    turn = job.plan.choice(forms)(job, clips)
    return turn or _how_many(job, clips)


def _which_clip(job: Job, clips: list[Timeline]) -> Turn | None:
    with_sounds = [index for index, clip in enumerate(clips) if clip.front and clip.front[-1].kind in EVENT_KINDS]
    if not with_sounds:
        return None
    index = job.plan.choice(with_sounds)
    kind = clips[index].front[-1].kind
    question = job.phrasing.of(WHICH_CLIP, a=label(kind))
    told = f"In the {ORDINALS[index]} clip."
    return Turn(question, told, "which_clip", {"kind": kind, "so_far": len(clips)}, index)


def _again(job: Job, clips: list[Timeline]) -> Turn | None:
    with_something = [index for index, clip in enumerate(clips) if clip.front]
    if not with_something:
        return None
    index = job.plan.choice(with_something)
    first = clips[index].front[0]
    told = sentence(f"{person(first)} speaking" if first.kind == "speech" else label(first.kind))
    question = job.phrasing.of(AGAIN, nth=ORDINALS[index])
    return Turn(question, told, "nth", {"nth": 0}, first.kind, clip=index)


def _longer(job: Job, clips: list[Timeline]) -> Turn | None:
    index, last = job.plan.randrange(len(clips) - 1), len(clips) - 1
    difference_s = clips[index].duration_s - clips[last].duration_s
    if abs(difference_s) < LEAST_DIFFERENCE_S:
        return None
    longer = index if difference_s > 0 else last
    told = f"The {ORDINALS[longer]} clip is longer."
    question = job.phrasing.of(LONGER, nth=ORDINALS[index])
    return Turn(question, told, "longer_clip", {"clips": [index, last]}, longer)


def _how_many(job: Job, clips: list[Timeline]) -> Turn:
    told = sentence(number_word(len(clips)))
    return Turn(job.phrasing.of(HOW_MANY), told, "num_clips", {"so_far": len(clips)}, len(clips))


def tagged(turns: tuple[Turn, ...]) -> list[str]:
    """The questions with `<sound-k>` for each clip that a turn brings, the k-th of the scene, each on its line."""
    return ["\n".join([*(f"<sound-{clip + 1}>" for clip in turn.brings), turn.question]) for turn in turns]
