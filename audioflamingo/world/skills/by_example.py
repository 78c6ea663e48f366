"""Labels learnt from examples in the dialogue: what they stand for is told by nothing but the examples (AF-Chat)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from audioflamingo.world import sounds
from audioflamingo.world.said import statement
from audioflamingo.world.skills.base import EVENT_KINDS, ORDINALS, Job, Made, Truth, Turn, ask
from audioflamingo.world.skills.phrasings_clips import BY_EXAMPLE, LABEL
from audioflamingo.world.skills.several import SEXES, Put, clips_of, said, sound

LABELS = (
    ("red", "blue", "green"), ("alpha", "beta", "gamma"), ("left", "right", "middle"), ("apple", "pear", "plum"),
    ("zibo", "mola", "keru"), ("north", "south", "east"), ("circle", "square", "star"), ("good", "bad", "odd"),
)  # fmt: skip
FAMILIES = ("animals", "alarms", "impacts", "machines", "instruments")
MOST_EXAMPLES = 4


def by_example(job: Job) -> Made:
    """Two to four clips with labels, then one without; the counterfactual's last clip belongs to another label.

    The first dialogue gives all clips at once and tells the labels; in the second each clip comes with its own turn,
    and the answers before the last are the examples.
    """
    by = job.plan.choice(("kind", "kind", "family", "sex" if job.has_both_sexes else "kind"))
    values, put = _meaning(job, by)
    names = job.plan.sample(job.plan.choice(LABELS), len(values))
    num = job.plan.randint(len(values), MOST_EXAMPLES)
    order = [*range(len(values)), *(job.plan.randrange(len(values)) for _ in range(num - len(values)))]
    job.plan.shuffle(order)
    right = job.pair(range(len(values)))
    clips = clips_of(job, [[put(values[place])] for place in (*order, right)])
    labels = [names[place] for place in order]
    truth = Truth("by_example", {"by": by, "labels": labels}, names[right])
    return Made(tuple(clips), (_at_once(job, labels, truth, sorted(names)), _one_by_one(job, labels, truth)))


def _meaning(job: Job, by: str) -> tuple[list[str], Callable[[str], Put]]:
    """What the labels stand for, and how to make a clip of it: each time another one."""
    if by == "sex":
        cast = {sex: iter(job.cast(*[sex] * (MOST_EXAMPLES + 1))) for sex in SEXES}
        numbered = {"female": "f", "male": "m"}

        def speaking(sex: str) -> Put:
            voice = next(cast["female" if sex == "female" else "male"])
            voice = replace(voice, name=f"{numbered[sex]}{voice.name}")
            return said(statement(job.plan, test=job.test), voice)

        return [*job.plan.sample(SEXES, 2)], speaking
    num = job.plan.randint(2, 3)
    if by == "kind":
        return job.plan.sample(EVENT_KINDS, num), sound
    families = job.plan.sample(FAMILIES, num)
    members = {name: iter(_members(job, name)) for name in families}
    return families, lambda name: sound(next(members[name]))


def _members(job: Job, family: str) -> list[str]:
    kinds = [kind for kind in EVENT_KINDS if sounds.KINDS[kind].family == family]
    return (job.plan.sample(kinds, len(kinds)) * (MOST_EXAMPLES + 1))[: MOST_EXAMPLES + 1]


def _at_once(job: Job, labels: Sequence[str], truth: Truth, pool: Sequence[str]) -> tuple[Turn, ...]:
    last = len(labels)
    told = "; ".join(f"the {ORDINALS[place]} clip is {label}" for place, label in enumerate(labels))
    question = job.phrasing.of(BY_EXAMPLE, told=f"{told[0].upper()}{told[1:]}.", nth=ORDINALS[last])
    turn = ask(job, question, str(truth.value), truth, pool=pool, keep=pool)
    return (replace(turn, clip=last, brings=tuple(range(last + 1))),)


def _one_by_one(job: Job, labels: Sequence[str], truth: Truth) -> tuple[Turn, ...]:
    question = job.phrasing.of(LABEL)
    turns = [
        Turn(
            question, f"{label.capitalize()}.", truth.rule, truth.about, label,
            clip=place, brings=(place,), given=True,
        )
        for place, label in enumerate(labels)
    ]  # fmt: skip
    last, value = len(labels), str(truth.value)
    turns.append(Turn(question, f"{value.capitalize()}.", truth.rule, truth.about, value, clip=last, brings=(last,)))
    return tuple(turns)
