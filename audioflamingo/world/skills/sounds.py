"""Questions about sound events: order, attributes in time, counting, presence, kinds, places (AudioSkills-XL)."""

from __future__ import annotations

import numpy as np

from audioflamingo.world import rooms
from audioflamingo.world import sounds as kinds
from audioflamingo.world.skills.base import (
    BED_KINDS,
    EVENT_KINDS,
    ORDINALS,
    SINGLE_KINDS,
    STEADY_KINDS,
    Job,
    Made,
    Truth,
    Turn,
    ask,
    does,
    happens,
    label,
    number_word,
    sentence,
    yes_no,
)
from audioflamingo.world.skills.phrasings import (
    AFTER,
    BEFORE,
    CONTINUOUS,
    EARLIER,
    FAMILY,
    FIRST,
    HOW_MANY,
    KINDS_OF_SOUND,
    LAST,
    LONGEST,
    LOUDEST,
    NTH,
    PLACE,
    PRESENT,
    TREND,
    WHAT,
)
from audioflamingo.world.tasks import NOISE, SILENCE
from audioflamingo.world.timeline import Stage, Timeline

PLACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "on a farm": ("wind", ("cow_moo", "pig_oink", "sheep_bleat", "hen_cluck", "rooster_crow")),
    "in a street": ("engine", ("car_horn", "siren", "motorcycle", "footsteps")),
    "at the sea": ("sea_waves", ("wind", "airplane", "crow_caw")),
    "in an office": ("typing", ("phone_ring", "mouse_click", "door_slam")),
    "in a forest at night": ("cricket", ("owl_hoot", "frog_croak", "wind")),
    "in a workshop": ("hand_saw", ("hammer", "drill", "chainsaw")),
    "in a concert hall": ("applause", ("violin", "piano", "flute")),
    "in a bedroom": ("clock_tick", ("snoring", "alarm_clock", "door_creak")),
    "at a railway station": ("train", ("train_horn", "whistle", "footsteps")),
    "in a kitchen": ("water_drops", ("pouring_water", "glass_breaking", "can_opening")),
}
FAMILY_NAMES = {
    "animals": "an animal", "alarms": "a signal or an alarm", "impacts": "an impact or a blow", "people": "a person",
    "vehicles": "a vehicle", "machines": "a machine", "instruments": "a musical instrument",
}  # fmt: skip
LEVEL_STEP_DB = 14.0
SILENT_SHARE = 0.3  # of what has nothing in it


def temporal_order(job: Job) -> Made:
    """Four different sounds in a row; the counterfactual plays them backwards."""
    names = job.plan.sample(EVENT_KINDS, 4)
    played = names[::-1] if job.flip else names
    stage = job.stage()
    for name in played:
        stage.sound(name)
        stage.pause()
    return Made((stage.close(),), ((_order_turn(job, names, played),),))


def _order_turn(job: Job, names: list[str], played: list[str]) -> Turn:
    labels = [label(name) for name in names]
    form, nth = job.plan.randrange(6), job.plan.randrange(4)
    if form <= 1:
        phrasings, place = ((FIRST, 0), (LAST, 3))[form]
        return _named(job, job.phrasing.of(phrasings), played[place], "nth", {"nth": place}, labels)
    if form == 2:
        question = job.phrasing.of(NTH, nth=ORDINALS[nth])
        return _named(job, question, played[nth], "nth", {"nth": nth}, labels)
    if form == 3:
        a, b = job.plan.sample(names, 2)
        question = job.phrasing.of(EARLIER, a=label(a), b=label(b))
        return _named(job, question, min(a, b, key=played.index), "earlier", {"kinds": [a, b]}, labels)
    middle = job.plan.choice(names[1:3])
    phrasings, step = ((AFTER, 1), (BEFORE, -1))[form - 4]
    found = played[played.index(middle) + step]
    rule = "after" if step > 0 else "before"
    return _named(job, job.phrasing.of(phrasings, a=label(middle)), found, rule, {"kind": middle}, labels)


def _named(job: Job, question: str, kind: str, rule: str, about: dict[str, object], pool: list[str]) -> Turn:
    return ask(job, question, label(kind), Truth(rule, about, kind), pool=pool, keep=pool)


def temporal_attributes(job: Job) -> Made:
    """Which of two lasts longer or is louder, or whether one sound approaches; the counterfactual is the reverse."""
    form = job.plan.randrange(3)
    return (_longer, _louder, _trend)[form](job)


def _longer(job: Job) -> Made:
    a, b = job.plan.sample(STEADY_KINDS, 2)
    durations = job.plan.uniform(1.0, 1.8), job.plan.uniform(3.6, 5.0)
    winner = b if job.flip else a
    stage = job.stage()
    for name in job.plan.sample((a, b), 2):
        stage.sound(name, duration_s=durations[name == winner])
        stage.pause()
    question = job.phrasing.of(LONGEST, a=label(a), b=label(b))
    turn = _named(job, question, winner, "longest", {"kinds": [a, b]}, [label(a), label(b)])
    return Made((stage.close(),), ((turn,),))


def _louder(job: Job) -> Made:
    a, b = job.plan.sample(SINGLE_KINDS, 2)
    winner = b if job.flip else a
    stage = job.stage()
    for name in job.plan.sample((a, b, a, b), 4):
        stage.sound(name, level_db=0.0 if name == winner else -LEVEL_STEP_DB)
        stage.pause()
    question = job.phrasing.of(LOUDEST, a=label(a), b=label(b))
    turn = _named(job, question, winner, "loudest", {"kinds": [a, b]}, [label(a), label(b)])
    return Made((stage.close(),), ((turn,),))


def _trend(job: Job) -> Made:
    name, num = job.plan.choice(SINGLE_KINDS), job.plan.randint(4, 6)
    levels = [-20.0 * index / (num - 1) for index in range(num)]
    stage = job.stage()
    for level in levels if job.flip else levels[::-1]:
        stage.sound(name, level_db=level)
        stage.pause(0.4)
    value = "quieter" if job.flip else "louder"
    pool = ("it gets louder, as if it came closer", "it gets quieter, as if it moved away", "it stays the same")
    question = job.phrasing.of(TREND, a=label(name))
    turn = ask(job, question, pool[job.flip], Truth("trend", {"kind": name}, value), pool=pool, keep=pool)
    return Made((stage.close(),), ((turn,),))


def counting(job: Job) -> Made:
    """How often a sound is heard, 0 to 8 times, among others; or how many kinds of sound there are."""
    if job.coin(0.25):
        return _count_kinds(job)
    target, other = job.plan.sample(SINGLE_KINDS, 2)
    num, num_other = job.pair(range(9)), job.plan.randint(0, 3)
    if num + num_other == 0:
        num_other = 1
    order = [target] * num + [other] * num_other
    job.dice.plain.shuffle(order)
    stage = job.stage()
    for name in order:
        stage.sound(name, level_db=job.dice.plain.uniform(-6.0, 0.0))
        stage.pause(job.dice.plain.uniform(0.3, 0.7))
    turn = count_turn(job, target, num)
    return Made((stage.close(),), ((turn,),))


def count_turn(job: Job, kind: str, num: int) -> Turn:
    """How many times a kind is heard."""
    told = sentence(number_word(num)) if num else f"Zero, {label(kind)} is not heard."
    question = job.phrasing.of(HOW_MANY, a=label(kind), happens=happens(kind))
    return ask(job, question, number_word(num), Truth("count", {"kind": kind}, num), told=told)


def _count_kinds(job: Job) -> Made:
    num = job.pair(range(1, 6))
    names = job.plan.sample(EVENT_KINDS, 5)[:num]
    order = names + [name for name in names if job.dice.plain.random() < 0.4]
    job.dice.plain.shuffle(order)
    stage = job.stage()
    for name in order:
        stage.sound(name)
        stage.pause()
    question = job.phrasing.of(KINDS_OF_SOUND)
    return Made((stage.close(),), ((ask(job, question, number_word(num), Truth("num_kinds", {}, num)),),))


def present_question(job: Job, kind: str) -> str:
    """Whether a kind is heard."""
    clause = does(kind)
    return job.phrasing.of(PRESENT, a=label(kind), does=clause, Does=clause[0].upper() + clause[1:])


def general(job: Job) -> Made:
    """Whether a sound is there; half of the answers are "no"."""
    target, *others = job.plan.sample(EVENT_KINDS + STEADY_KINDS, 4)
    num_others, starts_with_no = job.plan.randint(1, 2), job.coin()
    there = starts_with_no == job.flip
    names = others[:num_others] + ([target] if there else [others[2]])
    job.dice.plain.shuffle(names)
    stage = job.stage()
    for name in names:
        stage.sound(name)
        stage.pause()
    turn = yes_no(job, present_question(job, target), there, "present", {"kind": target})
    return Made((stage.close(),), ((turn,),))


def attribute_identification(job: Job) -> Made:
    """To which group of sources a sound belongs."""
    both = job.plan.sample(sorted(FAMILY_NAMES), 2)
    family = both[job.flip]
    name = job.dice.plain.choice(sorted(n for n, kind in kinds.KINDS.items() if kind.family == family))
    stage = job.stage()
    stage.sound(name)
    pool, keep = list(FAMILY_NAMES.values()), [FAMILY_NAMES[one] for one in both]
    turn = ask(job, job.phrasing.of(FAMILY), FAMILY_NAMES[family], Truth("family", {}, family), pool=pool, keep=keep)
    return Made((stage.close(),), ((turn,),))


def contextual_sound(job: Job) -> Made:
    """Where a recording was made, from a background and events that belong to one place only."""
    both = job.plan.sample(sorted(PLACES), 2)
    place = both[job.flip]
    bed, names = PLACES[place]
    stage = job.stage()
    stage.bed(bed)
    for name in job.dice.plain.sample(names, 2):
        stage.pause()
        stage.sound(name)
    turn = ask(job, job.phrasing.of(PLACE), place, Truth("place", {}, place), pool=list(PLACES), keep=both)
    return Made((stage.close(),), ((turn,),))


def sound_reasoning(job: Job) -> Made:
    """Which sound goes on behind the others."""
    bed, other = job.plan.sample(BED_KINDS, 2)
    names = job.plan.sample(EVENT_KINDS, 3)
    stage = job.stage()
    stage.bed(other if job.flip else bed)
    for name in names:
        stage.pause()
        stage.sound(name)
    value = other if job.flip else bed
    question = job.phrasing.of(CONTINUOUS)
    pool = [label(name) for name in (bed, other, *names)]
    turn = ask(job, question, label(value), Truth("background", {}, value), pool=pool, keep=[label(bed), label(other)])
    return Made((stage.close(),), ((turn,),))


def nothing_there(job: Job) -> Made:
    """Noise or silence, of which nothing can be told; the counterfactual has a sound in it."""
    name = job.plan.choice(EVENT_KINDS)
    question = job.phrasing.of(WHAT)
    if job.flip:
        stage = job.stage()
        stage.pause()
        stage.sound(name)
        turn = Turn(question, sentence(label(name)), "heard", {}, [name])
        return Made((stage.close(),), ((turn,),))
    is_silent = job.dice.plain.random() < SILENT_SHARE
    answer = SILENCE if is_silent else NOISE
    return Made((empty(job.stage(), is_silent=is_silent),), ((Turn(question, answer, "heard", {}, []),),))


def empty(stage: Stage, *, is_silent: bool) -> Timeline:
    """1 to 8 s of noise or of digital silence."""
    dice = stage.dice
    closed = stage.close(duration_s=dice.plain.uniform(1.0, 8.0), channel=False)
    if is_silent:
        return closed
    noise = rooms.noise_bed(len(closed.samples), dice.numeric, dice.plain.choice(("white", "pink", "brown", "hum")))
    level = 10.0 ** dice.plain.uniform(-2.0, -0.5) / float(np.max(np.abs(noise)) + 1e-9)
    return Timeline((noise * level).astype("float32"), ())
