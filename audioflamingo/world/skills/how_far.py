"""Questions about how far away each source of a scene is: which is nearer, which is farthest, are two equally far."""

from __future__ import annotations

import math
from collections.abc import Mapping

from audioflamingo.world.distance import draw_hall
from audioflamingo.world.skills.base import SINGLE_KINDS, Job, Made, Truth, Turn, ask, label, yes_no
from audioflamingo.world.skills.phrasings_events import AS_FAR, FARTHER, FARTHEST, NEARER, NEAREST

# What could stand in one room. Their own tails are short, so that a long one is the room's.
KINDS = tuple(sorted({
    *SINGLE_KINDS, "alarm_clock", "baby_cry", "bird_chirp", "car_horn", "cough", "door_creak", "door_knock", "flute",
    "footsteps", "hammer", "hen_cluck", "laughter", "phone_ring", "rooster_crow",
}))  # fmt: skip
NEAR_M = (1.0, 3.0)
TWO_APART, THREE_APART = (3.0, 10.0), (2.8, 4.0)  # factors from each distance to the next
LEAD_S, GAP_S = (0.1, 0.6), (0.8, 1.3)


def distance(job: Job) -> Made:
    """Two or three sounds, each at a distance of its own; the counterfactual has them elsewhere."""
    form = job.plan.randrange(5)
    if form == 4:
        return _as_far(job)
    if form >= 2:
        return _among_three(job, farthest=form == 3)
    return _of_two(job, farther=form == 1)


def _of_two(job: Job, *, farther: bool) -> Made:
    a, b = job.plan.sample(KINDS, 2)
    near, far = _distances(job, 2)
    nearer, other = (b, a) if job.flip else (a, b)
    question = job.phrasing.of(FARTHER if farther else NEARER, a=label(a), b=label(b))
    turn = _named(job, question, other if farther else nearer, farther, [a, b])
    return _made(job, near, {nearer: near, other: far}, turn)


def _among_three(job: Job, *, farthest: bool) -> Made:
    names, at_m = job.plan.sample(KINDS, 3), _distances(job, 3)
    near_m = at_m[0]
    both = job.plan.sample(range(3), 2)
    found = names[both[job.flip]]
    at_m.insert(both[job.flip], at_m.pop(-1 if farthest else 0))
    turn = _named(job, job.phrasing.of(FARTHEST if farthest else NEAREST), found, farthest, names)
    return _made(job, near_m, dict(zip(names, at_m, strict=True)), turn)


def _as_far(job: Job) -> Made:
    """Both near, both far, or one of each."""
    a, b = job.plan.sample(KINDS, 2)
    both_m = job.plan.sample(_distances(job, 2), 2)
    equal = job.coin() == job.flip
    at_m = {a: both_m[0], b: both_m[0 if equal else 1]}
    question = job.phrasing.of(AS_FAR, a=label(a), b=label(b))
    return _made(job, min(both_m), at_m, yes_no(job, question, equal, "as_far", {"kinds": [a, b]}))


def _distances(job: Job, num: int) -> list[float]:
    """Metres in rising order, clearly apart."""
    found = [job.plan.uniform(*NEAR_M)]
    for _ in range(num - 1):
        lowest, highest = TWO_APART if num == 2 else THREE_APART
        found.append(found[-1] * math.exp(job.plan.uniform(math.log(lowest), math.log(highest))))
    return found


def _named(job: Job, question: str, kind: str, is_far: bool, kinds: list[str]) -> Turn:
    pool = [label(one) for one in kinds]
    truth = Truth("farthest" if is_far else "nearest", {"kinds": kinds}, kind)
    return ask(job, question, label(kind), truth, pool=pool, keep=pool)


def _made(job: Job, near_m: float, at_m: Mapping[str, float], turn: Turn) -> Made:
    """The sounds in any order, one after another, in a hall that leaves what is at `near_m` clear."""
    rng, stage = job.dice.plain, job.stage()
    hall = draw_hall(rng, near_m)
    stage.pause(rng.uniform(*LEAD_S))
    for kind in rng.sample(sorted(at_m), len(at_m)):
        stage.even(kind, hall=hall, distance_m=at_m[kind])
        stage.pause(rng.uniform(*GAP_S))
    return Made((stage.close(),), ((turn,),))
