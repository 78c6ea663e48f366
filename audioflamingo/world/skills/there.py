"""Is anyone speaking, is there music: alone, over each other, behind silence, and where neither is there."""

from __future__ import annotations

from collections.abc import Sequence

from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.said import statement
from audioflamingo.world.skills.base import EVENT_KINDS, Job, Made, Turn, yes_no
from audioflamingo.world.skills.phrasings_events import MUSIC_THERE
from audioflamingo.world.tasks import SPEECH_PRESENT
from audioflamingo.world.timeline import Stage, Timeline

BOTH = ("speech", "music")
PIECE_S = (4.0, 12.0)
SHORTEST_PART_S, CUT_SHARE = 1.0, 0.6
LEAD_S, LONG_LEAD_S, LONG_SHARE = (0.05, 0.5), (0.8, 5.0), 0.5
UNDER_DB, ALONE_DB = (-12.0, 0.0), (-6.0, 0.0)


def speech_or_music(job: Job) -> Made:
    """Whether there is speech, or music; the counterfactual has it where this one lacks it, and else the same."""
    asked, other = job.plan.sample(BOTH, 2)
    there = job.coin() == job.flip
    wanted = {other} if job.coin() else set()
    sound = job.plan.choice(EVENT_KINDS) if job.coin(0.4) or not wanted else None
    wanted |= {asked} if there else set()
    return Made((_scene(job, wanted, sound),), ((present_turn(job, asked, there),),))


def present_turn(job: Job, kind: str, there: bool) -> Turn:
    """Whether there is speech or music, put as one asks for these."""
    question = job.phrasing.of(SPEECH_PRESENT if kind == "speech" else MUSIC_THERE)
    return yes_no(job, question, there, "present", {"kind": kind})


def _scene(job: Job, wanted: set[str], sound: str | None) -> Timeline:
    """What is wanted, in any order or speech over music, with silence before and behind."""
    rng, stage = job.dice.plain, job.stage()
    stage.pause(_silence_s(job))
    if wanted == set(BOTH) and rng.random() < 0.5:
        _music(job, stage, UNDER_DB)
        begun_s, end_s = stage.events[-1].start_s, stage.clock_s
        _say(job, stage, start_s=rng.uniform(begun_s, max(begun_s, end_s - 3.0)))
        rest: Sequence[str] = [sound] if sound else []
    else:
        rest = [*sorted(wanted), *([sound] if sound else [])]
    for kind in rng.sample(rest, len(rest)):
        if stage.events:
            stage.pause()
        if kind == "music":
            _music(job, stage, ALONE_DB)
        elif kind == "speech":
            _say(job, stage)
        else:
            stage.sound(kind)
    return stage.close(duration_s=stage.clock_s + _silence_s(job))


def _silence_s(job: Job) -> float:
    return job.dice.plain.uniform(*(LONG_LEAD_S if job.dice.plain.random() < LONG_SHARE else LEAD_S))


def _say(job: Job, stage: Stage, start_s: float | None = None) -> None:
    (voice,) = job.cast(None)
    stage.say(statement(job.dice.plain, test=job.test), voice, start_s=start_s)


def _music(job: Job, stage: Stage, level_db: tuple[float, float]) -> None:
    """A piece, or some seconds out of one."""
    rng = job.dice.plain
    part_s = None
    if rng.random() < CUT_SHARE:
        start_s = rng.uniform(0.0, 3.0)
        part_s = (start_s, start_s + rng.uniform(SHORTEST_PART_S, 6.0))
    score = compose(draw_facts(rng, duration_s=rng.uniform(*PIECE_S)), rng)
    stage.music(score, level_db=rng.uniform(*level_db), part_s=part_s)
