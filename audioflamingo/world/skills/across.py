"""Questions about several clips together, and all of them that some finished clips answer.

A turn here says nothing of which clips come with it (see `Turn.brings`): whoever builds a dialogue decides that. The
rules are in `world.check_clips`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from audioflamingo.world.check_music import MUSIC_RULES
from audioflamingo.world.skills import chat
from audioflamingo.world.skills.base import (
    EVENT_KINDS,
    ORDINALS,
    Job,
    Truth,
    Turn,
    ask,
    clip_by_clip,
    happens,
    label,
    number_word,
    person,
    sentence,
    yes_no,
)
from audioflamingo.world.skills.phrasings_clips import (
    BOTH,
    COMMON,
    COUNT_ALL,
    EACH,
    FASTER,
    HOW_MANY_HAVE,
    IN_NTH,
    LASTS,
    LOUDER,
    MATCH,
    MORE_OFTEN,
    ODD,
    ONLY_IN,
    PRESENT_IN,
    SAID_IN,
    SAME_INSTRUMENT,
    SAME_KIND,
    SAME_SPEAKER,
    THESE,
    THESE_TWO,
    WHICH_HAS,
)
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import Heard, Timeline

Clips = Sequence[Timeline]

LEAST_RATIO, LEAST_LOUDER_DB = 1.4, 9.0  # from which on a comparison is clear
MOST_NAMED, MOST_LISTED, MOST_COUNTED = 4, 4, 12
MOST_WORDS = 40
SEXES = {"female": "a woman speaking", "male": "a man speaking"}


def these(job: Job, num: int) -> str:
    """How so many clips are called."""
    return job.asking.choice(THESE_TWO) if num == 2 else job.asking.choice(THESE).format(num=number_word(num))


def nth(place: int) -> str:
    """Such as "the second clip"."""
    return f"the {ORDINALS[place]} clip"


def _which(job: Job, question: str, truth: Truth, num: int, told: str = "The {nth} clip.") -> Turn:
    """A question whose answer is one of the clips; their places may be options."""
    pool = [nth(place) for place in range(num)]
    return ask(job, question, pool[truth.value], truth, pool=pool, keep=pool,
               told=told.format(nth=ORDINALS[truth.value]))  # fmt: skip


def called(fact: str, value: str) -> str:
    """A fact about a clip as something that one hears."""
    if fact == "kind":
        return label(value)
    if fact == "sex":
        return SEXES[value]
    article = "an" if value[0] in "aeio" else "a"
    return f"{article} {value} voice" if fact == "mood" else f"{article} {value}"


def which_has(job: Job, num: int, place: int, fact: str, value: str) -> Turn:
    """Which clip has a kind of sound, a woman or a man, a mood, an instrument."""
    question = job.phrasing.of(WHICH_HAS, a=called(fact, value), these=these(job, num))
    about = {"fact": fact, "value": value, "so_far": num}
    return _which(job, question, Truth("clip_with", about, place), num, "In the {nth} clip.")


COMPARED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "louder_clip": (LOUDER, "louder", "loudest"),
    "longer_clip": (LASTS, "longer", "longest"),
    "faster_clip": (FASTER, "faster", "fastest"),
}


def compared(job: Job, num: int, place: int, rule: str) -> Turn:
    """Which clip is louder, longer or faster than the others; `rule` is a key of `COMPARED`."""
    phrasings, than_one, than_more = COMPARED[rule]
    er = than_one if num == 2 else than_more
    question = job.phrasing.of(phrasings, er=er, these=these(job, num))
    told = f"The {{nth}} clip is {er}."
    return _which(job, question, Truth(rule, {"clips": list(range(num))}, place), num, told)


POINTING_RULES = frozenset({"by_example", "clip_with", "matching_clip", "more_clip", "odd_clip", *COMPARED})
"""Of turns whose answer is one of the clips, or the label of one."""


def more_often(job: Job, num: int, place: int, kind: str) -> Turn:
    """In which clip a sound is heard more often."""
    words = {"a": label(kind), "er": "more" if num == 2 else "most", "these": these(job, num)}
    truth = Truth("more_clip", {"kind": kind, "so_far": num}, place)
    return _which(job, _capital(job.phrasing.of(MORE_OFTEN, **words)), truth, num, "In the {nth} clip.")


def odd_one(job: Job, num: int, place: int) -> Turn:
    """Which clip has another sound than the rest."""
    question = job.phrasing.of(ODD, these=these(job, num))
    return _which(job, question, Truth("odd_clip", {"so_far": num}, place), num)


def matching(job: Job, num: int, place: int, clip: int) -> Turn:
    """Which other clip has the sounds of one of them."""
    question = job.phrasing.of(MATCH, nth=ORDINALS[clip])
    pool = [nth(other) for other in range(num) if other != clip]
    truth = Truth("matching_clip", {"so_far": num, "clip": clip}, place)
    return ask(job, question, nth(place), truth, pool=pool, keep=pool, told=f"The {ORDINALS[place]} clip.")


SAME = {"same_kind": SAME_KIND, "same_speaker": SAME_SPEAKER, "same_instrument": SAME_INSTRUMENT}


def same(job: Job, rule: str, value: bool) -> Turn:
    """Whether the first two clips have the same kind of sound, speaker or instrument."""
    two = job.asking.choice((*THESE_TWO, *BOTH))
    return yes_no(job, job.phrasing.of(SAME[rule], these=two), value, rule, {"clips": [0, 1]})


def named(clip: Timeline) -> str:
    """All that is in a clip, without capital and full stop."""
    return ", then ".join(f"{person(e)} speaking" if e.kind == "speech" else label(e.kind) for e in clip.front)


def in_nth(job: Job, clips: Clips, place: int) -> Turn:
    """What one of the clips contains."""
    value = [event.kind for event in clips[place].front]
    question = job.phrasing.of(IN_NTH, nth=ORDINALS[place])
    return Turn(question, sentence(named(clips[place])), "heard", {}, value, clip=place)


def said_in(job: Job, clips: Clips, place: int) -> Turn:
    """The words of one of the clips."""
    words = " ".join(normalise(event.text or "") for event in clips[place].front if event.kind == "speech")
    return Turn(job.phrasing.of(SAID_IN, nth=ORDINALS[place]), words, "transcript", {}, words, clip=place)


def first_in(job: Job, clips: Clips, place: int) -> Turn:
    """With what one of the clips begins."""
    first = clips[place].front[0]
    told = sentence(f"{person(first)} speaking" if first.kind == "speech" else label(first.kind))
    return Turn(job.phrasing.of(chat.AGAIN, nth=ORDINALS[place]), told, "nth", {"nth": 0}, first.kind, clip=place)


def present_in(job: Job, clips: Clips, place: int, kind: str) -> Turn:
    """Whether a sound is in one of the clips."""
    question = _capital(job.phrasing.of(PRESENT_IN, a=label(kind), nth=ORDINALS[place]))
    there = any(event.kind == kind for event in clips[place].events)
    return replace(yes_no(job, question, there, "present", {"kind": kind}), clip=place)


def count_all(job: Job, num: int, kind: str, total: int) -> Turn:
    """How often a sound is heard in all clips together."""
    question = job.phrasing.of(COUNT_ALL, a=label(kind), happens=happens(kind), these=these(job, num))
    return ask(job, question, number_word(total), Truth("count_all", {"kind": kind, "so_far": num}, total))


def how_many_have(job: Job, num: int, kind: str, found: int) -> Turn:
    """How many of the clips have a sound in them."""
    question = _capital(job.phrasing.of(HOW_MANY_HAVE, a=label(kind), these=these(job, num)))
    return ask(job, question, number_word(found), Truth("num_with", {"kind": kind, "so_far": num}, found))


def each(job: Job, clips: Clips) -> Turn:
    """What all of the clips contain, one by one."""
    value = [[event.kind for event in clip.front] for clip in clips]
    told = clip_by_clip([named(clip) for clip in clips])
    return Turn(job.phrasing.of(EACH, these=these(job, len(clips))), told, "each", {"so_far": len(clips)}, value)


def common(job: Job, num: int, kind: str, pool: Sequence[str], keep: Sequence[str]) -> Turn:
    """The only sound that all clips have; `pool` and `keep` are kinds, for options."""
    question = job.phrasing.of(COMMON, these=these(job, num))
    truth = Truth("common", {"so_far": num}, kind)
    return ask(job, question, label(kind), truth, pool=[*map(label, pool)], keep=[*map(label, keep)])


def only_in(job: Job, place: int, other: int, kind: str, pool: Sequence[str], keep: Sequence[str]) -> Turn:
    """The only sound that one clip has and another has not; `pool` and `keep` are kinds, for options."""
    question = job.phrasing.of(ONLY_IN, nth=ORDINALS[place], other=ORDINALS[other])
    truth = Truth("only_in", {"clips": [place, other]}, kind)
    return ask(job, question, label(kind), truth, pool=[*map(label, pool)], keep=[*map(label, keep)])


def num_clips(job: Job, num: int) -> Turn:
    """How many clips there are."""
    return Turn(job.phrasing.of(chat.HOW_MANY), sentence(number_word(num)), "num_clips", {"so_far": num}, num)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def every_across(clips: Clips, job: Job, *, comparable: bool = False) -> list[Turn]:
    """One turn, in one phrasing, for each thing that these clips together answer; nothing is balanced here.

    Args:
        clips: two to eight.
        job: whose `asking` draws phrasings, forms, and what is asked for.
        comparable: whether they were made to be held against each other: their events' levels tell how loud they are
            beside each other, and a person sounds the same in all of them.
    """
    makers = (_contents, _having, _comparing, _counting, _sameness, _sharing)
    turns = [turn for maker in makers for turn in maker(clips, job)]
    return [*turns, *_loudness(clips, job), *_speakers(clips, job)] if comparable else turns


def _contents(clips: Clips, job: Job) -> Iterator[Turn]:
    """What single clips contain."""
    clear = [0 < len(clip.front) <= MOST_NAMED and len(clip.front) == len(clip.events) for clip in clips]
    told = [place for place, fits in enumerate(clear) if fits]
    for place in job.asking.sample(told, min(2, len(told))):
        yield in_nth(job, clips, place)
    if all(clear) and len(clips) <= MOST_LISTED:
        yield each(job, clips)
    several = [place for place, clip in enumerate(clips) if len(clip.front) > 1]
    if several:
        yield first_in(job, clips, job.asking.choice(several))
    said = [place for place, clip in enumerate(clips) if 0 < len(_words(clip)) <= MOST_WORDS]
    if said:
        yield said_in(job, clips, job.asking.choice(said))
    there = sorted({event.kind for clip in clips for event in clip.events} - {"speech", "music"})
    kind = job.asking.choice(there if there and job.asking.random() < 0.8 else EVENT_KINDS)
    yield present_in(job, clips, job.asking.randrange(len(clips)), kind)
    yield num_clips(job, len(clips))


def _words(clip: Timeline) -> list[str]:
    return [word for event in clip.front if event.kind == "speech" for word in (event.text or "").split()]


def facts_of(clip: Timeline) -> set[tuple[str, str]]:
    """What can be said to be in a clip: kinds, sexes, moods that are not calm, the instrument of the melody."""
    found = {("kind", event.kind) for event in clip.events if event.kind != "speech"}
    for event in clip.events:
        if event.voice is not None:
            found |= {("sex", str(event.voice["sex"])), ("mood", str(event.voice["mood"]))}
        if event.piece is not None:
            found.add(("instrument", _lead(event)))
    return found - {("mood", "calm")}


def _lead(event: Heard) -> str:
    assert event.piece is not None
    return str(MUSIC_RULES["music_lead_instrument"](event.piece))


def _having(clips: Clips, job: Job) -> Iterator[Turn]:
    """What exactly one clip has, and what some have."""
    facts = [facts_of(clip) for clip in clips]
    places: dict[tuple[str, str], list[int]] = {}
    for place, found in enumerate(facts):
        for one in sorted(found):
            places.setdefault(one, []).append(place)
    alone = [one for one, where in places.items() if len(where) == 1]
    for fact, value in job.asking.sample(alone, min(3, len(alone))):
        yield which_has(job, len(clips), places[fact, value][0], fact, value)
    kinds = [value for fact, value in places if fact == "kind" and value != "music"]
    if kinds:
        kind = job.asking.choice(kinds)
        yield how_many_have(job, len(clips), kind, len(places["kind", kind]))


def winner(sizes: Sequence[float], least_ratio: float = LEAST_RATIO) -> int | None:
    """The place of the largest, if it is so much larger than the next; else None."""
    order = sorted(range(len(sizes)), key=lambda place: -sizes[place])
    return order[0] if sizes[order[0]] >= least_ratio * max(sizes[order[1]], 1e-9) else None


def _comparing(clips: Clips, job: Job) -> Iterator[Turn]:
    """Lengths and tempi."""
    longest = winner([clip.duration_s for clip in clips])
    if longest is not None:
        yield compared(job, len(clips), longest, "longer_clip")
    tempi = [_tempo(clip) for clip in clips]
    fastest = winner([tempo or 1.0 for tempo in tempi]) if all(tempi) else None
    if fastest is not None:
        yield compared(job, len(clips), fastest, "faster_clip")


def _tempo(clip: Timeline) -> float | None:
    """Of the only piece, which keeps it."""
    pieces = [event.piece for event in clip.events if event.piece is not None]
    return float(pieces[0]["tempo_bpm"]) if len(pieces) == 1 and pieces[0]["tempo_change"] == "steady" else None


def _loudness(clips: Clips, job: Job) -> Iterator[Turn]:
    levels = [max(event.level_db for event in clip.front) for clip in clips if clip.front]
    if len(levels) < len(clips):
        return
    loudest = winner([10.0 ** (level / 20.0) for level in levels], 10.0 ** (LEAST_LOUDER_DB / 20.0))
    if loudest is not None:
        yield compared(job, len(clips), loudest, "louder_clip")


def _counting(clips: Clips, job: Job) -> Iterator[Turn]:
    """How often a sound is heard in all, and where more often."""
    heard = [[event.kind for event in clip.front] for clip in clips]
    kinds = sorted({kind for names in heard for kind in names} & set(EVENT_KINDS))
    if not kinds:
        return
    kind = job.asking.choice(kinds)
    total = sum(names.count(kind) for names in heard)
    if total <= MOST_COUNTED:
        yield count_all(job, len(clips), kind, total)
    counts = {kind: [names.count(kind) for names in heard] for kind in kinds}
    clear = [kind for kind in kinds if sorted(counts[kind])[-1] > sorted(counts[kind])[-2] > 0]
    if clear:
        kind = job.asking.choice(clear)
        yield more_often(job, len(clips), counts[kind].index(max(counts[kind])), kind)


def _sameness(clips: Clips, job: Job) -> Iterator[Turn]:
    """Of two clips: the same or different; of more: the one that is different."""
    kinds = [{event.kind for event in clip.events} for clip in clips]
    if all(len(one) == 1 and not one & {"speech", "music"} for one in kinds):
        names = [one.copy().pop() for one in kinds]
        alone = [place for place, name in enumerate(names) if names.count(name) == 1]
        if len(clips) == 2:
            yield same(job, "same_kind", names[0] == names[1])
        elif len(alone) == 1 and len(set(names)) == 2:
            yield odd_one(job, len(clips), alone[0])
    pairs = [pair for pair in ((clip, _partner(kinds, clip)) for clip in range(len(clips))) if pair[1] is not None]
    if pairs and len(clips) > 2:
        clip, place = job.asking.choice(pairs)
        assert place is not None
        yield matching(job, len(clips), place, clip)
    pieces = [event for clip in clips for event in clip.events if event.piece and len(event.piece["parts"]) == 1]
    if len(clips) == 2 and len(pieces) == 2 and all(len(clip.events) == 1 for clip in clips):
        yield same(job, "same_instrument", _lead(pieces[0]) == _lead(pieces[1]))


def _partner(kinds: Sequence[set[str]], clip: int) -> int | None:
    """The only other clip that has any of a clip's sounds, if it has just these; None where voices or music are."""
    mine = kinds[clip]
    sharing = [place for place, theirs in enumerate(kinds) if place != clip and theirs & mine]
    is_clear = len(sharing) == 1 and kinds[sharing[0]] == mine and not mine & {"speech", "music"}
    return sharing[0] if is_clear else None


def _speakers(clips: Clips, job: Job) -> Iterator[Turn]:
    """Of two clips with one voice each: the same or not, where nobody takes one for the other."""
    voices = [{_voice(event) for event in clip.front if event.voice is not None} for clip in clips]
    if len(clips) == 2 and all(len(one) == 1 for one in voices):
        (first,), (second,) = voices
        if first == second or first[0] != second[0] or first[2] != second[2]:
            yield same(job, "same_speaker", first == second)


def _voice(event: Heard) -> tuple[str, str, str]:
    voice: Mapping[str, Any] = event.voice or {}
    return str(voice["engine"]), str(voice["voice"]), str(voice["sex"])


def _sharing(clips: Clips, job: Job) -> Iterator[Turn]:
    """What is in all clips, and what in one and not in another."""
    kinds = [{event.kind for event in clip.events} for clip in clips]
    if any(one & {"speech", "music"} for one in kinds):
        return
    pool = sorted(set().union(*kinds))
    shared = sorted(set.intersection(*kinds))
    if len(shared) == 1:
        yield common(job, len(clips), shared[0], pool if len(pool) > 1 else (), shared)
    place, other = job.asking.sample(range(len(clips)), 2)
    alone = sorted(kinds[place] - kinds[other])
    if len(alone) == 1:
        yield only_in(job, place, other, alone[0], pool if len(pool) > 1 else (), alone)
