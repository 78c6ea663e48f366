"""Questions about what sounds at the same time (AudioSkills-XL's temporal relations).

A scene is a row of groups: the sounds of a group all overlap, groups are clearly apart. The counterfactual groups the
same sounds otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audioflamingo.world.cast import Voice
from audioflamingo.world.said import Statement, statement
from audioflamingo.world.skills.base import Job, Made, Truth, Turn, ask, label, number_word, yes_no
from audioflamingo.world.skills.phrasings_events import (
    BEGINS_OVER,
    DURING,
    MOST_AT_ONCE,
    SPEAKS_DURING,
    TOGETHER,
    VOICES_TOGETHER,
)
from audioflamingo.world.timeline import Stage

# Sounds of one list would melt into each other, so a scene has at most one of each. What is steady lasts as long as it
# is told to, and is heard all the while; the last list has sounds of lengths of their own, none below 0.6 s.
STEADY_LISTS = (
    ("rain", "stream", "sea_waves", "wind", "applause", "airplane"),
    ("engine", "chainsaw", "drill", "helicopter", "motorcycle", "vacuum_cleaner", "washing_machine", "train",
     "insect_buzz"),
    ("siren", "cricket", "morse_code", "hand_saw", "breathing", "typing", "fire_crackling"),
)  # fmt: skip
OF_OWN_LENGTH = (
    "rooster_crow", "phone_ring", "train_horn", "footsteps", "alarm_clock", "cow_moo", "owl_hoot",
)  # fmt: skip
LEAD_S, APART_S, STAGGER_S, SHARED_S, LONGER_S = (0.1, 0.6), (0.65, 1.2), (0.4, 0.8), (0.9, 1.5), (0.0, 0.8)
ALONE_S = (1.4, 2.8)
ENTERS = (0.2, 0.4)  # where something begins over a voice, as a share of the time that it speaks
LEVEL_DB, BEHIND_VOICE_DB = (-3.0, 0.0), -6.0


@dataclass(frozen=True)
class Said:
    """What a voice says in a group of sounds."""

    voice: Voice
    words: Statement


Member = str | Said
"""A kind of sound, or somebody who speaks."""


def simultaneous(job: Job) -> Made:
    """Two to four sounds, or sounds and voices, of which some overlap and others do not."""
    form = job.plan.randrange(6)
    return (_together, _during, _begins_over, _most_at_once, _speaks_during, _voices)[form](job)


def _together(job: Job) -> Made:
    """Two sounds overlap, or one of them with a third."""
    a, b, other = _kinds(job, 3)
    starts_with_no, joined, alone = job.coin(), *job.plan.sample((a, b), 2)
    overlap = starts_with_no == job.flip
    groups = [[a, b], [other]] if overlap else [[joined, other], [alone]]
    question = job.phrasing.of(TOGETHER, a=label(a), b=label(b))
    return _made(job, groups, yes_no(job, question, overlap, "overlap", {"kinds": [a, b]}))


def _during(job: Job) -> Made:
    """One sound overlaps with the one that is asked about; the counterfactual has another one there."""
    asked, *others = _kinds(job, job.plan.randint(3, 4))
    both = job.plan.sample(others, 2)
    found = both[job.flip]
    groups = [[asked, found], *([kind] for kind in others if kind != found)]
    question = job.phrasing.of(DURING, a=label(asked))
    return _made(job, groups, _named(job, question, found, "during", {"kind": asked}, others))


def _begins_over(job: Job) -> Made:
    """Three sounds one after another, but that the second or the third does not wait."""
    names = _kinds(job, 3, steady=True)
    late = job.coin() != job.flip
    groups = [[names[0]], names[1:]] if late else [names[:2], [names[2]]]
    found = names[1 + late]
    turn = _named(job, job.phrasing.of(BEGINS_OVER), found, "begins_over", {}, names)
    return _made(job, groups, turn, in_order=True)


def _most_at_once(job: Job) -> Made:
    """Four sounds, of which one, two or three sound at once."""
    names, num = _kinds(job, 4), job.pair((1, 2, 3))
    is_twice = num == 2 and job.dice.plain.random() < 0.5
    groups = [names[:2], names[2:]] if is_twice else [names[:num], *([kind] for kind in names[num:])]
    pool = [number_word(one) for one in range(1, 5)]
    turn = ask(job, job.phrasing.of(MOST_AT_ONCE), number_word(num), Truth("most_at_once", {}, num), pool=pool)
    return _made(job, groups, turn)


def _speaks_during(job: Job) -> Made:
    """A voice over one of two sounds."""
    (asked, other), (voice,) = _kinds(job, 2), job.cast(None)
    said = Said(voice, statement(job.plan, test=job.test))
    speaks = job.coin() == job.flip
    groups: list[list[Member]] = [[asked, said], [other]] if speaks else [[asked], [other, said]]
    question = job.phrasing.of(SPEAKS_DURING, a=label(asked))
    return _made(job, groups, yes_no(job, question, speaks, "speech_during", {"kind": asked}))


def _voices(job: Job) -> Made:
    """Two voices at once, or one of them with a sound."""
    (kind,), cast = _kinds(job, 1, steady=True), job.cast("female", "male")
    first, second = (Said(voice, statement(job.plan, test=job.test)) for voice in job.plan.sample(cast, 2))
    overlap = job.coin() == job.flip
    groups: list[list[Member]] = [[first, second], [kind]] if overlap else [[first], [kind, second]]
    return _made(job, groups, yes_no(job, job.phrasing.of(VOICES_TOGETHER), overlap, "voices_overlap", {}))


def _kinds(job: Job, num: int, *, steady: bool = False) -> list[str]:
    """Kinds of different lists in any order."""
    lists = job.plan.sample(STEADY_LISTS if steady else (*STEADY_LISTS, OF_OWN_LENGTH), num)
    return [job.plan.choice(names) for names in lists]


def _named(job: Job, question: str, kind: str, rule: str, about: dict[str, object], kinds: Sequence[str]) -> Turn:
    pool = [label(one) for one in kinds]
    return ask(job, question, label(kind), Truth(rule, about, kind), pool=pool, keep=pool)


def _made(job: Job, groups: Sequence[Sequence[Member]], turn: Turn, *, in_order: bool = False) -> Made:
    """The scene of a row of groups; where the order tells nothing it is drawn."""
    rng, stage = job.dice.plain, job.stage()
    stage.pause(rng.uniform(*LEAD_S))
    for group in groups if in_order else rng.sample(groups, len(groups)):
        _put(job, stage, group if in_order else rng.sample(group, len(group)))
        stage.pause(rng.uniform(*APART_S))
    return Made((stage.close(),), ((turn,),))


def _put(job: Job, stage: Stage, group: Sequence[Member]) -> None:
    """All of a group, each beginning while those before it last: what is steady, then voices, then what is called."""
    rng, voices = job.dice.plain, [one for one in group if isinstance(one, Said)]
    kinds = [one for one in group if isinstance(one, str)]
    steady = [kind for kind in kinds if kind not in OF_OWN_LENGTH]
    level_db = rng.uniform(*LEVEL_DB) + (BEHIND_VOICE_DB if voices else 0.0)
    starts_s = [stage.clock_s]
    for _ in group[1:] if steady else ():
        starts_s.append(starts_s[-1] + rng.uniform(*STAGGER_S))
    shared_s = starts_s[-1] + rng.uniform(*SHARED_S)
    for kind, at_s in zip(steady, starts_s, strict=False):
        end_s = shared_s + rng.uniform(*LONGER_S) if len(group) > 1 else at_s + rng.uniform(*ALONE_S)
        stage.even(kind, start_s=at_s, duration_s=end_s - at_s, level_db=level_db)
    at_s = starts_s[-1]
    for said in voices:
        heard = stage.say(said.words, said.voice, start_s=at_s)
        at_s += heard.duration_s * rng.uniform(*ENTERS)
    for kind in kinds:
        if kind in OF_OWN_LENGTH:
            stage.even(kind, start_s=at_s, level_db=level_db)
