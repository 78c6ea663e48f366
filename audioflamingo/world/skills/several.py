"""Questions about two to four clips that come at once: which of them, compare, what is in one of them (AF-Chat).

The clips of a scene are brought to levels that their events tell, and a person is disguised in the same way in all of
them, so that loudness and voices can be held against each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from audioflamingo.world import rooms
from audioflamingo.world.cast import MOODS, Voice, draw_cast
from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.music.instruments import MELODIC
from audioflamingo.world.said import Statement, statement
from audioflamingo.world.skills import across
from audioflamingo.world.skills.base import EVENT_KINDS, SINGLE_KINDS, STEADY_KINDS, Job, Made, Turn
from audioflamingo.world.skills.music import TEMPI
from audioflamingo.world.skills.speech import twin
from audioflamingo.world.timeline import FULL_SCALE, Stage, Timeline
from audioflamingo.world.voices import Sex

FEWEST, MOST = 2, 4
FULL_LEVEL = 0.05  # root mean square of what sounds in a clip at 0 dB
QUIETEST_DB, STEP_DB = -16.0, -12.0
PIECE_S = (5.0, 8.0)
SEXES: tuple[Sex, Sex] = ("female", "male")
MOST_TIMES = 4

Put = Callable[[Stage], object]
"""Puts one thing on a stage."""


def several_clips(job: Job) -> Made:
    """Some clips at once, and a question over them; the counterfactual has another answer."""
    return job.plan.choices([form for form, _ in FORMS.values()], [weight for _, weight in FORMS.values()])[0](job)


def about(job: Job, name: str) -> Made:
    """Clips and the question of one form, a key of `FORMS`."""
    return FORMS[name][0](job)


def sound(kind: str, duration_s: float | None = None) -> Put:
    """One unit of a kind."""
    return lambda stage: stage.sound(kind, duration_s=duration_s)


def said(one: Statement, voice: Voice) -> Put:
    """A statement by a voice."""
    return lambda stage: stage.say(one, voice)


def played(job: Job, **wanted: object) -> Put:
    """A short piece, composed now."""
    score = compose(draw_facts(job.plan, duration_s=job.plan.uniform(*PIECE_S), **wanted), job.plan)
    return lambda stage: stage.music(score)


def clips_of(job: Job, contents: Sequence[Sequence[Put]], levels_db: Sequence[float] | None = None) -> list[Timeline]:
    """A clip for each list of contents, one after another; levels are drawn where none are given.

    Given levels are kept apart as they are, all of them lower where one of the clips would exceed full scale.
    """
    stages = [job.stage() for _ in contents]
    clips = []
    for stage, puts in zip(stages, contents, strict=True):
        stage.disguises = stages[0].disguises
        for put in puts:
            stage.pause(job.dice.plain.uniform(0.1, 0.7))
            put(stage)
        clips.append(stage.close())
    if levels_db is None:
        return [levelled(clip, job.dice.plain.uniform(QUIETEST_DB, 0.0)) for clip in clips]
    too_high = max(level_db - highest_db(clip) for clip, level_db in zip(clips, levels_db, strict=True))
    return [levelled(clip, level_db - max(too_high, 0.0)) for clip, level_db in zip(clips, levels_db, strict=True)]


def highest_db(clip: Timeline) -> float:
    """The level at which a clip reaches full scale."""
    peak = float(np.abs(clip.samples).max(initial=0.0)) + 1e-9
    return 20.0 * math.log10(FULL_SCALE * (rooms.active_rms(clip.samples) + 1e-9) / (peak * FULL_LEVEL))


def levelled(clip: Timeline, level_db: float) -> Timeline:
    """The clip at a level relative to `FULL_LEVEL`, or at full scale below it; its events tell which."""
    level_db = min(level_db, highest_db(clip))
    factor = FULL_LEVEL * 10.0 ** (level_db / 20.0) / (rooms.active_rms(clip.samples) + 1e-9)
    loudest_db = max(event.level_db for event in clip.events)
    events = tuple(replace(e, level_db=round(e.level_db - loudest_db + level_db, 2)) for e in clip.events)
    return Timeline(np.asarray(clip.samples * factor, np.float32), events)


def brought(clips: Sequence[Timeline], *turns: Turn) -> Made:
    """One dialogue, whose first turn brings all clips."""
    first, *rest = turns
    return Made(tuple(clips), ((replace(first, brings=tuple(range(len(clips)))), *rest),))


def _mixed(job: Job, place: int, *, own: Put, others: Sequence[Put]) -> list[list[Put]]:
    """Clips of one thing, or of two; `own` is in the clip at `place`, the others each in one of their own."""
    contents: list[list[Put]] = [[other] for other in others]
    contents[place].insert(job.dice.plain.randrange(2), own)
    return contents


def _fillers(job: Job, num: int, *avoid: str) -> list[str]:
    return job.plan.sample([kind for kind in EVENT_KINDS if kind not in avoid], num)


def _num(job: Job, fewest: int = FEWEST, most: int = MOST) -> int:
    return job.plan.randint(fewest, most)


def _which_has(job: Job) -> Made:
    num = _num(job)
    target, *names = job.plan.sample(EVENT_KINDS, 2 * num + 1)
    place = job.pair(range(num))
    second = [job.coin() for _ in range(num)]
    contents = _mixed(job, place, own=sound(target), others=[sound(name) for name in names[:num]])
    for at, name in enumerate(names[num:]):
        contents[at] += [sound(name)] if at != place and second[at] else []
    return brought(clips_of(job, contents), across.which_has(job, num, place, "kind", target))


def _which_voice(job: Job) -> Made:
    """In which clip a woman or a man speaks; in the others the other sex, or a sound."""
    if not job.has_both_sexes:
        return _which_has(job)
    num = _num(job)
    sex = job.plan.choice(SEXES)
    other: Sex = "male" if sex == "female" else "female"
    cast = job.cast(sex, *[other] * (num - 1))
    place = job.pair(range(num))
    rest: list[Put] = [
        said(statement(job.plan, test=job.test), voice) if job.coin(0.7) else sound(job.plan.choice(EVENT_KINDS))
        for voice in cast[1:]
    ]
    rest.insert(place, said(statement(job.plan, test=job.test), cast[0]))
    return brought(clips_of(job, [[put] for put in rest]), across.which_has(job, num, place, "sex", sex))


def _which_mood(job: Job) -> Made:
    num = _num(job, most=3)
    moods = job.plan.sample(sorted(MOODS), num)
    (voice,) = job.cast(None)
    place = job.pair(range(num))
    own, *others = moods
    order = [*others[:place], own, *others[place:]]
    contents = [[said(statement(job.plan, test=job.test), voice.in_mood(mood))] for mood in order]
    return brought(clips_of(job, contents), across.which_has(job, num, place, "mood", own))


def _which_instrument(job: Job) -> Made:
    num = _num(job, most=3)
    own, *others = job.plan.sample(list(MELODIC), num)
    place = job.pair(range(num))
    order = [*others[:place], own, *others[place:]]
    contents = [[played(job, style="solo", instruments={"melody": name})] for name in order]
    return brought(clips_of(job, contents), across.which_has(job, num, place, "instrument", own))


def _louder(job: Job) -> Made:
    """The same sound in all of them, or another one in each."""
    num = _num(job, most=3)
    place = job.pair(range(num))
    names = [job.plan.choice(EVENT_KINDS)] * num if job.coin() else job.plan.sample(EVENT_KINDS, num)
    levels = [0.0 if at == place else STEP_DB - job.plan.uniform(0.0, 5.0) for at in range(num)]
    clips = clips_of(job, [[sound(name)] for name in names], levels)
    return brought(clips, across.compared(job, num, place, "louder_clip"))


def _longer(job: Job) -> Made:
    num = _num(job, most=3)
    place = job.pair(range(num))
    names = [job.plan.choice(STEADY_KINDS)] * num if job.coin() else job.plan.sample(STEADY_KINDS, num)
    lengths = [job.plan.uniform(5.0, 8.0) if at == place else job.plan.uniform(1.2, 2.4) for at in range(num)]
    clips = clips_of(job, [[sound(name, length)] for name, length in zip(names, lengths, strict=True)])
    return brought(clips, across.compared(job, num, place, "longer_clip"))


def _faster(job: Job) -> Made:
    num = _num(job, most=3)
    ranks = job.plan.sample(sorted(TEMPI, key=lambda name: TEMPI[name]), num)
    fastest = max(ranks, key=lambda name: TEMPI[name])
    place = job.pair(range(num))
    others = [name for name in ranks if name != fastest]
    order = [*others[:place], fastest, *others[place:]]
    contents = [[played(job, style="solo", tempo_bpm=job.plan.randint(*TEMPI[name]))] for name in order]
    return brought(clips_of(job, contents), across.compared(job, num, place, "faster_clip"))


def _more_often(job: Job) -> Made:
    num = _num(job, most=3)
    target, other = job.plan.sample(SINGLE_KINDS, 2)
    most, *rest = sorted(job.plan.sample(range(MOST_TIMES + 1), num), reverse=True)
    place = job.pair(range(num))
    counts = [*rest[:place], most, *rest[place:]]
    contents = [_shuffled(job, [target] * count + [other] * (1 + job.coin())) for count in counts]
    return brought(clips_of(job, contents), across.more_often(job, num, place, target))


def _shuffled(job: Job, names: list[str]) -> list[Put]:
    job.dice.plain.shuffle(names)
    return [sound(name) for name in names]


def _same_kind(job: Job) -> Made:
    first, second = job.plan.sample(EVENT_KINDS, 2)
    value = job.coin() != job.flip
    clips = clips_of(job, [[sound(first)], [sound(first if value else second)]])
    return brought(clips, across.same(job, "same_kind", value))


def _same_speaker(job: Job) -> Made:
    """One voice twice, or two that nobody takes for one."""
    first, other = job.cast(*job.plan.sample(SEXES, 2))
    if len(job.world.engines) > 1 and job.coin(0.4):
        (first,), (other,) = (draw_cast(job.plan, (engine,), (first.sex,)) for engine in
                              job.plan.sample(job.world.engines, 2))  # fmt: skip
        other = replace(other, name="s2")
    value = job.coin() != job.flip
    voices = (first, first if value else other)
    clips = clips_of(job, [[said(statement(job.dice.plain, test=job.test), voice)] for voice in voices])
    return brought(clips, across.same(job, "same_speaker", value))


def _same_instrument(job: Job) -> Made:
    first, second = job.plan.sample(list(MELODIC), 2)
    value = job.coin() != job.flip
    names = (first, first if value else second)
    contents = [[played(job, style="solo", instruments={"melody": name})] for name in names]
    return brought(clips_of(job, contents), across.same(job, "same_instrument", value))


def _in_nth(job: Job) -> Made:
    """One of them has other sounds in the counterfactual."""
    num = _num(job)
    place, lengths = job.plan.randrange(num), [job.plan.randint(1, 2) for _ in range(num)]
    names = iter(job.plan.sample(EVENT_KINDS, sum(lengths) + 2))
    kinds = [[next(names) for _ in range(length)] for length in lengths]
    if job.flip:
        kinds[place] = [next(names) for _ in kinds[place]]
    clips = clips_of(job, [[sound(name) for name in one] for one in kinds])
    return brought(clips, across.in_nth(job, clips, place))


def _said_in(job: Job) -> Made:
    num = _num(job, most=3)
    cast = job.cast(*[None] * num)
    place = job.plan.randrange(num)
    texts = [statement(job.plan, test=job.test) for _ in range(num)]
    texts[place] = twin(job)[0]
    clips = clips_of(job, [[said(one, voice)] for one, voice in zip(texts, cast, strict=True)])
    return brought(clips, across.said_in(job, clips, place))


def _present_in(job: Job) -> Made:
    """A sound that is in the clip in question, or in another one instead."""
    num = _num(job)
    target, *names = job.plan.sample(EVENT_KINDS, num + 1)
    asked, other = job.plan.sample(range(num), 2)
    place = asked if job.coin() != job.flip else other
    clips = clips_of(job, _mixed(job, place, own=sound(target), others=[sound(name) for name in names]))
    return brought(clips, across.present_in(job, clips, asked, target))


def _first_in(job: Job) -> Made:
    num = _num(job)
    place = job.plan.randrange(num)
    names = job.plan.sample(EVENT_KINDS, 2 * num)
    kinds = [names[2 * at : 2 * at + 2] for at in range(num)]
    if job.flip:
        kinds[place] = kinds[place][::-1]
    clips = clips_of(job, [[sound(name) for name in one] for one in kinds])
    return brought(clips, across.first_in(job, clips, place))


def _count_all(job: Job) -> Made:
    num = _num(job, most=3)
    target, other = job.plan.sample(SINGLE_KINDS, 2)
    total = job.pair(range(1, 9))
    counts = [0] * num
    for _ in range(total):
        counts[job.dice.plain.randrange(num)] += 1
    contents = [_shuffled(job, [target] * count + [other] * (count == 0 or job.coin(0.3))) for count in counts]
    return brought(clips_of(job, contents), across.count_all(job, num, target, total))


def _how_many_have(job: Job) -> Made:
    num = _num(job, fewest=3)
    target = job.plan.choice(EVENT_KINDS)
    found = job.pair(range(1, num + 1))
    names = _fillers(job, num, target)
    having = job.dice.plain.sample(range(num), found)
    contents = [_shuffled(job, [name, target] if at in having else [name]) for at, name in enumerate(names)]
    return brought(clips_of(job, contents), across.how_many_have(job, num, target, found))


def _each(job: Job) -> Made:
    """All clips, one by one; the counterfactual has them in another order."""
    num = _num(job)
    names = job.plan.sample(EVENT_KINDS, num)
    (voice,) = job.cast(None)
    puts = [[sound(name)] for name in names]
    puts[job.plan.randrange(num)] = [said(statement(job.plan, test=job.test), voice)]
    if job.coin():
        puts[job.plan.randrange(num)].append(sound(_fillers(job, 1, *names)[0]))
    clips = clips_of(job, puts[1:] + puts[:1] if job.flip else puts)
    return brought(clips, across.each(job, clips))


def _common(job: Job) -> Made:
    num = _num(job, most=3)
    first, second, *names = job.plan.sample(EVENT_KINDS, num + 2)
    shared = second if job.flip else first
    clips = clips_of(job, [_shuffled(job, [name, shared]) for name in names])
    pool = [first, second, *names]
    return brought(clips, across.common(job, num, shared, pool, [first, second]))


def _only_in(job: Job) -> Made:
    num = _num(job, most=3)
    first, second, shared, *names = job.plan.sample(EVENT_KINDS, num + 3)
    place, other = job.plan.sample(range(num), 2)
    alone = second if job.flip else first
    kinds = [[name] for name in names[:num]]
    kinds[place], kinds[other] = [shared, alone], [shared, names[0]] if job.coin() else [shared]
    clips = clips_of(job, [_shuffled(job, one) for one in kinds])
    pool = [first, second, shared, *names[:num]]
    return brought(clips, across.only_in(job, place, other, alone, pool, [first, second]))


def _odd(job: Job) -> Made:
    num = _num(job, fewest=3)
    usual, odd = job.plan.sample(EVENT_KINDS, 2)
    place = job.pair(range(num))
    clips = clips_of(job, [[sound(odd if at == place else usual)] for at in range(num)])
    return brought(clips, across.odd_one(job, num, place))


def _matching(job: Job) -> Made:
    """One of the clips is there twice, rendered anew; the counterfactual has the second of them elsewhere."""
    num = _num(job, fewest=3)
    names = job.plan.sample(EVENT_KINDS, num - 1)
    clip = job.plan.randrange(num)
    others = [place for place in range(num) if place != clip]
    place = others[job.pair(range(num - 1))]
    left = iter(names[1:])
    kinds = [names[0] if at in (clip, place) else next(left) for at in range(num)]
    return brought(clips_of(job, [[sound(name)] for name in kinds]), across.matching(job, num, place, clip))


def _num_clips(job: Job) -> Made:
    num = job.pair(range(FEWEST, MOST + 1))
    names = job.plan.sample(EVENT_KINDS, MOST)[:num]
    return brought(clips_of(job, [[sound(name)] for name in names]), across.num_clips(job, num))


FORMS: dict[str, tuple[Callable[[Job], Made], float]] = {
    "which_has": (_which_has, 3.0), "which_voice": (_which_voice, 2.0), "which_mood": (_which_mood, 1.0),
    "which_instrument": (_which_instrument, 1.5), "louder": (_louder, 6.0), "longer": (_longer, 2.0),
    "faster": (_faster, 2.0), "more_often": (_more_often, 2.0), "same_kind": (_same_kind, 3.0),
    "same_speaker": (_same_speaker, 3.0), "same_instrument": (_same_instrument, 1.5), "in_nth": (_in_nth, 3.0),
    "said_in": (_said_in, 2.0), "present_in": (_present_in, 2.0), "first_in": (_first_in, 1.0),
    "count_all": (_count_all, 3.0), "how_many_have": (_how_many_have, 1.5), "each": (_each, 2.0),
    "common": (_common, 2.0), "only_in": (_only_in, 1.5), "odd": (_odd, 3.0),
    "matching": (_matching, 3.0), "num_clips": (_num_clips, 0.5),
}  # fmt: skip
"""Each form of question with how often it is drawn."""
