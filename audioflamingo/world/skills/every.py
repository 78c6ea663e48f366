"""Everything that can be asked about a timeline, whatever it was made for: rendering costs more than asking.

The rules are those of the generators, so the checker checks these turns too. Nothing is balanced here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from audioflamingo.world.cast import MOODS
from audioflamingo.world.check_music import MUSIC_RULES
from audioflamingo.world.patterns import PATTERNS
from audioflamingo.world.said import WORDS, question_about
from audioflamingo.world.skills import music, sounds, there, times, whole
from audioflamingo.world.skills.base import (
    EVENT_KINDS,
    ORDINALS,
    Job,
    Truth,
    Turn,
    ask,
    label,
    number_word,
    person,
    sentence,
    yes_no,
)
from audioflamingo.world.skills.music import SubSkill
from audioflamingo.world.skills.phrasings import (
    AFTER,
    BACKGROUND,
    BEFORE,
    BEHIND,
    EARLIER,
    FIRST,
    KINDS_OF_SOUND,
    LAST,
    LONGEST,
    NTH,
    WHAT,
)
from audioflamingo.world.skills.phrasings_speech import (
    HOW_MANY_TURNS,
    HOW_MANY_VOICES,
    MOOD,
    PACE,
    PITCH,
    SAID,
    SEX,
)
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import Heard, Timeline

MOST_EVENTS_NAMED, MOST_EVENTS_COUNTED = 6, 10
MOST_WORDS = 60
LONGEST_TRANSCRIPT_S = 30.0
LEAST_RATIO, LEAST_HIGHER = 1.5, 1.25
MUSIC_SKILLS = (*music.KNOWLEDGE, *music.REASONING)
MUSIC_ALONE = ("style", "context", "lead_instrument", "lead_family", "num_parts", "texture", "mode")


def every_turn(timeline: Timeline, job: Job) -> list[Turn]:
    """One turn, in one phrasing, for each thing that this timeline answers.

    Args:
        timeline: what is heard.
        job: whose `asking` draws phrasings and forms, and what is asked for.
    """
    every = (_order, _numbers, _times, _behind, _voices, _manner, _words, _facts, _music, _all, _there)
    return [turn for about in every for turn in about(timeline, job)]


def _named(events: tuple[Heard, ...]) -> str:
    return sentence(", then ".join(f"{person(e)} speaking" if e.kind == "speech" else label(e.kind) for e in events))


def _unique(timeline: Timeline) -> list[Heard]:
    """Sounds whose kind is heard once."""
    names = [event.kind for event in timeline.front]
    return [event for event in timeline.front if names.count(event.kind) == 1 and event.kind not in ("speech", "music")]


def _order(timeline: Timeline, job: Job) -> Iterator[Turn]:
    events = timeline.front
    if not 2 <= len(events) <= len(ORDINALS) or any(e.kind in ("speech", "music") for e in events):
        return
    pool = sorted({label(event.kind) for event in events})
    forms = ((FIRST, 0), (LAST, len(events) - 1), (NTH, job.asking.randrange(len(events))))
    for phrasings, place in forms:
        if place < len(events):
            question = job.phrasing.of(phrasings, nth=ORDINALS[place])
            truth = Truth("nth", {"nth": place}, events[place].kind)
            yield ask(job, question, label(events[place].kind), truth, pool=pool if len(pool) > 2 else ())
    alone = _unique(timeline)
    if len(alone) < 2:
        return
    a, b = job.asking.sample(alone, 2)
    first = min(a, b, key=lambda event: event.start_s)
    question = job.phrasing.of(EARLIER, a=label(a.kind), b=label(b.kind))
    yield Turn(question, sentence(label(first.kind)), "earlier", {"kinds": [a.kind, b.kind]}, first.kind)
    yield from _beside(events, alone, job)
    if max(a.duration_s, b.duration_s) > LEAST_RATIO * min(a.duration_s, b.duration_s):
        longer = max(a, b, key=lambda event: event.duration_s)
        question = job.phrasing.of(LONGEST, a=label(a.kind), b=label(b.kind))
        yield Turn(question, sentence(label(longer.kind)), "longest", {"kinds": [a.kind, b.kind]}, longer.kind)


def _beside(events: tuple[Heard, ...], alone: list[Heard], job: Job) -> Iterator[Turn]:
    """What comes right after and right before."""
    for phrasings, step, rule in ((AFTER, 1, "after"), (BEFORE, -1, "before")):
        middle = job.asking.choice(alone)
        place = events.index(middle) + step
        if 0 <= place < len(events):
            question = job.phrasing.of(phrasings, a=label(middle.kind))
            found = events[place].kind
            yield Turn(question, sentence(label(found)), rule, {"kind": middle.kind}, found)


def _numbers(timeline: Timeline, job: Job) -> Iterator[Turn]:
    names = [event.kind for event in timeline.front if event.kind not in ("speech", "music")]
    absent = _absent(timeline, job)
    if names and len(names) <= MOST_EVENTS_COUNTED:
        kind = job.asking.choice(sorted(set(names)))
        yield sounds.count_turn(job, kind, names.count(kind))
        if absent and job.asking.random() < 0.2:
            yield sounds.count_turn(job, absent, 0)
        if len(names) == len(timeline.events):
            truth = Truth("num_kinds", {}, len(set(names)))
            yield ask(job, job.phrasing.of(KINDS_OF_SOUND), number_word(truth.value), truth)
    asked = job.asking.choice(sorted(set(names))) if names and job.asking.random() < 0.5 else absent
    if asked is None:
        return
    yield yes_no(job, sounds.present_question(job, asked), asked in names, "present", {"kind": asked})


def _absent(timeline: Timeline, job: Job) -> str | None:
    """A kind that is not heard; None in a long scene where all are."""
    there = {event.kind for event in timeline.events}
    kinds = [kind for kind in EVENT_KINDS if kind not in there]
    return job.asking.choice(kinds) if kinds else None


def _times(timeline: Timeline, job: Job) -> Iterator[Turn]:
    """Some of all questions of time; `times.time_turns` gives them all."""
    if any(event.kind not in ("speech", "music") for event in timeline.front):
        found = times.time_turns(timeline, job)
        yield from job.asking.sample(found, min(4, len(found)))


def _behind(timeline: Timeline, job: Job) -> Iterator[Turn]:
    back = [event for event in timeline.events if event.layer == "back"]
    if len(back) == 1 and back[0].kind != "music":
        question = job.phrasing.of(BEHIND if any(e.kind == "speech" for e in timeline.front) else BACKGROUND)
        yield Turn(question, sentence(label(back[0].kind)), "background", {}, back[0].kind)


def _voices(timeline: Timeline, job: Job) -> Iterator[Turn]:
    said = [event for event in timeline.front if event.kind == "speech"]
    if not said:
        return
    sexes = {event.voice["sex"] for event in said if event.voice}
    num = len({event.voice["voice"] for event in said if event.voice})
    if len(sexes) == 1:
        right = person(said[0])
        options = ["a man", "a woman"]
        truth = Truth("sex", {}, sexes.pop())
        yield ask(job, job.phrasing.of(SEX), right, truth, pool=options, keep=options)
    if num <= 4:
        truth = Truth("num_voices", {}, num)
        yield ask(job, job.phrasing.of(HOW_MANY_VOICES), number_word(num), truth)
    if len(said) <= MOST_EVENTS_NAMED:
        truth = Truth("num_sentences", {}, len(said))
        yield ask(job, job.phrasing.of(HOW_MANY_TURNS), number_word(len(said)), truth)


def _manner(timeline: Timeline, job: Job) -> Iterator[Turn]:
    """How all that is said is said, and whether the second of two sentences is higher."""
    voices = [event.voice for event in timeline.front if event.voice is not None]
    for name, phrasings, allowed in (("mood", MOOD, tuple(sorted(MOODS))), ("pace", PACE, ("slow", "fast"))):
        values = {str(voice[name]) for voice in voices}
        if len(values) == 1 and values <= set(allowed):
            (value,) = values
            yield ask(job, job.phrasing.of(phrasings), value, Truth(name, {}, value), pool=allowed)
    if len(voices) == 2 and voices[0]["voice"] == voices[1]["voice"]:
        first, second = (float(voice["pitch"]) for voice in voices)
        if max(first, second) > LEAST_HIGHER * min(first, second):
            value, options = "higher" if second > first else "lower", ["higher", "lower"]
            truth = Truth("pitch_change", {}, value)
            yield ask(job, job.phrasing.of(PITCH), value, truth, pool=options, keep=options)


def _words(timeline: Timeline, job: Job) -> Iterator[Turn]:
    said = [normalise(event.text or "") for event in timeline.front if event.kind == "speech"]
    words = " ".join(said)
    if said and timeline.duration_s <= LONGEST_TRANSCRIPT_S and len(words.split()) <= MOST_WORDS:
        phrasings = job.asking.choice((SAID, whole.TRANSCRIBE))
        yield Turn(job.phrasing.of(phrasings), words, "transcript", {}, words)


def _facts(timeline: Timeline, job: Job) -> Iterator[Turn]:
    """A word of statements whose pattern is said once."""
    told = [event.says for event in timeline.front if event.says and "pattern" in event.says]
    patterns = [says["pattern"] for says in told]
    once = [says for says in told if patterns.count(says["pattern"]) == 1]
    for says in job.asking.sample(once, min(2, len(once))):
        slot = job.asking.choice(sorted(PATTERNS[says["pattern"]].asks))
        question = question_about(says, slot, held_out=job.world.held_out_phrasings, rng=job.asking)
        word = says["slots"][slot]
        about = {"pattern": says["pattern"], "slot": slot}
        yield ask(job, question, word, Truth("fact", about, word), pool=WORDS[slot])


def _music(timeline: Timeline, job: Job) -> Iterator[Turn]:
    pieces = [event.piece for event in timeline.events if event.piece]
    if len(pieces) != 1:
        return
    piece = pieces[0]
    alone = len(timeline.events) == 1
    for sub in MUSIC_SKILLS:
        if (alone or sub.name in MUSIC_ALONE) and is_defined(sub, piece):
            value = MUSIC_RULES[f"music_{sub.name}"](piece)
            pool = sorted({sub.words(one) for one in sub.values}) if sub.has_options else ()
            truth = Truth(f"music_{sub.name}", {}, value)
            yield ask(job, job.phrasing.of(sub.phrasings), sub.words(value), truth, pool=pool)


def is_defined(sub: SubSkill, piece: Mapping[str, Any]) -> bool:
    """Whether a piece has one clear value of this, among those that are asked for."""
    style, roles = piece["style"], {part["role"] for part in piece["parts"]}
    if sub.name in ("contour", "articulation") and style != "solo":
        return False
    if sub.name == "beats_per_bar" and style not in ("waltz", "rock", "blues", "dance"):
        return False
    if sub.name in ("tempo_bpm", "tonic_name", "first_chord", "modulation") and not {"chords", "bass"} <= roles:
        return False
    if sub.name in ("tempo_bpm", "tempo") and piece["tempo_change"] != "steady":
        return False
    if sub.name in ("tonic_name", "first_chord") and (piece["mode"] != "major" or piece["modulation"]):
        return False
    if sub.name == "first_chord" and style not in ("lullaby", "waltz"):
        return False
    if sub.name in ("late", "mode") and (piece["late"] is None) == (sub.name == "late"):
        return False
    return MUSIC_RULES[f"music_{sub.name}"](piece) in tuple(sub.values)


def _there(timeline: Timeline, job: Job) -> Iterator[Turn]:
    """Whether there is speech, or music."""
    kind = job.asking.choice(there.BOTH)
    yield there.present_turn(job, kind, any(event.kind == kind for event in timeline.events))


def _all(timeline: Timeline, job: Job) -> Iterator[Turn]:
    """Names of all that is heard, and a caption."""
    kinds = [event.kind for event in timeline.front]
    if not kinds or len(kinds) > MOST_EVENTS_NAMED:
        return
    if len(kinds) == len(timeline.events):
        yield Turn(job.phrasing.of(WHAT), _named(timeline.front), "heard", {}, kinds)
    if timeline.duration_s <= LONGEST_TRANSCRIPT_S:
        value = [event.kind for event in timeline.events]
        yield Turn(job.phrasing.of(whole.CAPTION), whole.described(timeline), "caption", {}, value)
