"""Questions about speech, alone and among sounds (AudioSkills-XL): who, how, what is said, what goes on behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from audioflamingo.world.cast import HIGH, LOW, MOODS, draw_cast
from audioflamingo.world.said import TOPICS, WORDS, Statement, question_about, statement, twins
from audioflamingo.world.skills.base import (
    BED_KINDS,
    EVENT_KINDS,
    UNKNOWN,
    Job,
    Made,
    Truth,
    Turn,
    ask,
    label,
    number_word,
    sentence,
    yes_no,
)
from audioflamingo.world.skills.phrasings import BEHIND
from audioflamingo.world.skills.phrasings_speech import (
    AFTER_TOPIC,
    FLIP,
    HOW_MANY_TURNS,
    HOW_MANY_VOICES,
    MOOD,
    PACE,
    PITCH,
    SAID,
    SAME_VOICE,
    SEX,
)
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import Stage
from audioflamingo.world.voices import Sex


def distinct_statements(
    job: Job, num: int, *, beside: Statement | None = None, topics: Sequence[str] | None = None
) -> list[Statement]:
    """Statements of different patterns about different people, so that a question fits one of them only.

    Args:
        job: whose plan draws.
        num: how many.
        beside: one that is there already.
        topics: one for each; None draws them.
    """
    found: list[Statement] = []
    patterns = {beside.facts["pattern"]} if beside else set()
    people = {beside.facts["slots"].get("who", "")} - {""} if beside else set()
    for _ in range(10_000):
        if len(found) == num:
            return found
        topic = topics[len(found)] if topics else None
        one = statement(job.plan, test=job.test, topic=topic, avoid=frozenset(people))
        if one.facts["pattern"] not in patterns:
            found.append(one)
            patterns.add(one.facts["pattern"])
            people |= {one.facts["slots"].get("who", "")} - {""}
    raise AssertionError(f"no {num} distinct statements")


def fact_turn(job: Job, said: Statement, slot: str, *, value: str | None = None, clip: int = 0) -> Turn:
    """What stands in a slot of a statement; `value` is the counterfactual's word, which is one of the options too."""
    word = said.facts["slots"][slot]
    question = question_about(said.facts, slot, held_out=job.world.held_out_phrasings, rng=job.asking)
    about = {"pattern": said.facts["pattern"], "slot": slot}
    keep = [word, value] if value else [word]
    turn = ask(job, question, word, Truth("fact", about, word), pool=WORDS[slot], keep=keep)
    return Turn(turn.question, turn.answer, turn.rule, turn.about, turn.value, turn.options, clip)


def twin(job: Job) -> tuple[Statement, str, str]:
    """A statement that is to be said, the slot to be asked for, and the word that the other of the pair has there."""
    one, other, slot = twins(job.plan, test=job.test)
    said, unsaid = (other, one) if job.flip else (one, other)
    return said, slot, unsaid.facts["slots"][slot]


def speaker_attributes(job: Job) -> Made:
    """Sex, pace, pitch, same or not, number of voices or of sentences."""
    names = sorted(name for name in ATTRIBUTES if name != "sex" or job.has_both_sexes)
    return ATTRIBUTES[job.plan.choice(names)](job)


def _sex(job: Job) -> Made:
    sexes: tuple[Sex, Sex] = ("female", "male")
    sex = job.pair(sexes)
    (voice,) = job.cast(sex)
    stage = job.stage()
    stage.say(statement(job.plan, test=job.test), voice)
    options = ["a man", "a woman"]
    question = job.phrasing.of(SEX)
    turn = ask(job, question, f"a {voice.person}", Truth("sex", {}, sex), pool=options, keep=options)
    return Made((stage.close(),), ((turn,),))


def _pace(job: Job) -> Made:
    pace = job.pair(("slow", "fast"))
    (voice,) = job.cast(None, paces=(pace,))
    stage = job.stage()
    stage.say(statement(job.plan, test=job.test), voice)
    turn = ask(job, job.phrasing.of(PACE), pace, Truth("pace", {}, pace), pool=("slow", "fast"), keep=("slow", "fast"))
    return Made((stage.close(),), ((turn,),))


def _pitch(job: Job) -> Made:
    """Two sentences by one voice, the second higher or lower: only a change of pitch is the same in every voice."""
    (voice,) = job.cast(None)
    factors = (LOW, HIGH) if job.flip else (HIGH, LOW)
    stage = job.stage()
    for factor in factors:
        stage.say(statement(job.plan, test=job.test), voice.pitched(factor))
        stage.pause()
    value = "higher" if job.flip else "lower"
    options = ["higher", "lower"]
    truth = Truth("pitch_change", {}, value)
    turn = ask(job, job.phrasing.of(PITCH), value, truth, pool=options, keep=options)
    return Made((stage.close(),), ((turn,),))


def _same_voice(job: Job) -> Made:
    """Two sentences by one voice, or by two that nobody takes for one: of the other sex, or of the other engine."""
    sexes: tuple[Sex, Sex] = ("female", "male")
    first, other = job.cast(*job.plan.sample(sexes, 2))
    if len(job.world.engines) > 1 and job.coin(0.4):
        drawn = (draw_cast(job.plan, (engine,), (first.sex,)) for engine in job.plan.sample(job.world.engines, 2))
        (first,), (other,) = drawn
        other = replace(other, name="s2")
    same = job.coin() != job.flip
    stage = job.stage()
    for voice in (first, first if same else other):
        stage.say(statement(job.dice.plain, test=job.test), voice)
        stage.pause()
    return Made((stage.close(),), ((yes_no(job, job.phrasing.of(SAME_VOICE), same, "same_voice", {}),),))


def _num_voices(job: Job) -> Made:
    num = job.pair((1, 2, 3, 4))
    cast = job.cast("female", "male", None, None)[:num]
    turns = [cast[index % num] for index in range(max(3, num + 1))]
    said = [statement(job.dice.plain, test=job.test) for _ in turns]
    stage = job.stage()
    for one, voice in zip(said, turns, strict=True):
        stage.say(one, voice)
        stage.pause()
    turn = ask(job, job.phrasing.of(HOW_MANY_VOICES), number_word(num), Truth("num_voices", {}, num))
    return Made((stage.close(),), ((turn,),))


def _num_sentences(job: Job) -> Made:
    num = job.pair(range(1, 6))
    (voice,) = job.cast(None)
    stage = job.stage()
    for _ in range(num):
        stage.say(statement(job.dice.plain, test=job.test), voice)
        stage.pause(0.8)
    turn = ask(job, job.phrasing.of(HOW_MANY_TURNS), number_word(num), Truth("num_sentences", {}, num))
    return Made((stage.close(),), ((turn,),))


ATTRIBUTES: dict[str, Callable[[Job], Made]] = {
    "num_sentences": _num_sentences,
    "num_voices": _num_voices,
    "pace": _pace,
    "pitch": _pitch,
    "same_voice": _same_voice,
    "sex": _sex,
}


def information_extraction(job: Job) -> Made:
    """A word of one or two statements; the counterfactual says another word in its place."""
    asked, slot, other = twin(job)
    said = [asked, *distinct_statements(job, job.plan.randint(0, 1), beside=asked)]
    return _asked_among(job, said, slot, other)


def speech_qa(job: Job) -> Made:
    """Four or five statements joined to 10 to 30 s, and a question about one of them."""
    asked, slot, other = twin(job)
    said = [asked, *distinct_statements(job, job.plan.randint(3, 4), beside=asked)]
    return _asked_among(job, said, slot, other)


def _asked_among(job: Job, said: list[Statement], slot: str, other: str) -> Made:
    """Two voices in turn; the statement in question, which comes first in the list, is said anywhere."""
    cast = job.cast(None, None)
    stage = job.stage()
    for turn, one in enumerate(job.dice.plain.sample(said, len(said))):
        stage.say(one, cast[turn % 2])
        stage.pause()
    return Made((stage.close(),), ((fact_turn(job, said[0], slot, value=other),),))


def speech_in_sound(job: Job) -> Made:
    """A voice over a steady sound: what goes on behind it, and what is said."""
    beds = job.plan.sample(BED_KINDS, 2)
    bed = beds[job.flip]
    (voice,) = job.cast(None)
    one = statement(job.plan, test=job.test)
    stage = job.stage()
    stage.bed(bed)
    stage.pause()
    stage.say(one, voice)
    pool = [label(kind) for kind in BED_KINDS]
    keep = [label(kind) for kind in beds]
    behind = ask(job, job.phrasing.of(BEHIND), label(bed), Truth("background", {}, bed), pool=pool, keep=keep)
    words = normalise(one.text)
    said = Turn(job.phrasing.of(SAID), words, "transcript", {}, words)
    return Made((stage.close(),), ((behind,), (said,)))


def contextual_speech(job: Job) -> Made:
    """Two statements, each followed by a sound: which follows which topic. The counterfactual swaps the sounds."""
    topics = job.plan.sample(TOPICS, 2)
    said = distinct_statements(job, 2, topics=topics)
    names = job.plan.sample(EVENT_KINDS, 2)
    played = names[::-1] if job.flip else names
    (voice,) = job.cast(None)
    stage = job.stage()
    for one, name in zip(said, played, strict=True):
        stage.say(one, voice)
        stage.pause()
        stage.sound(name)
        stage.pause()
    asked = job.plan.randrange(2)
    question = job.phrasing.of(AFTER_TOPIC, topic=topics[asked])
    pool = [label(kind) for kind in EVENT_KINDS]
    keep = [label(kind) for kind in names]
    truth = Truth("after_topic", {"topic": topics[asked]}, played[asked])
    turn = ask(job, question, label(played[asked]), truth, pool=pool, keep=keep)
    return Made((stage.close(),), ((turn,),))


def emotion(job: Job) -> Made:
    """The mood of a voice as rendered."""
    mood = job.pair(sorted(MOODS))
    (voice,) = job.cast(None)
    stage = job.stage()
    for _ in range(2):
        stage.say(statement(job.plan, test=job.test), voice.in_mood(mood))
        stage.pause()
    turn = ask(job, job.phrasing.of(MOOD), mood, Truth("mood", {}, mood), pool=sorted(MOODS), keep=sorted(MOODS))
    return Made((stage.close(),), ((turn,),))


def emotion_flip(job: Job) -> Made:
    """A voice that changes its mood in the middle; the counterfactual goes the other way."""
    moods = job.plan.sample(sorted(MOODS), 2)
    order = moods[::-1] if job.flip else moods
    (voice,) = job.cast(None)
    stage = job.stage()
    filled(job, stage, 15.0)
    for mood in order:
        for _ in range(3):
            stage.say(statement(job.plan, test=job.test), voice.in_mood(mood))
            stage.pause()
    options = [f"from {a} to {b}" for a, b in (moods, moods[::-1])]
    told = f"from {order[0]} to {order[1]}"
    turn = ask(job, job.phrasing.of(FLIP), told, Truth("mood_change", {}, order), pool=options, keep=options)
    return Made((stage.close(duration_s=30.0),), ((turn,),))


def filled(job: Job, stage: Stage, until_s: float) -> None:
    """Sounds with pauses up to a time."""
    while stage.clock_s < until_s:
        stage.sound(job.dice.plain.choice(EVENT_KINDS))
        stage.pause(job.dice.plain.uniform(0.5, 3.0))


def unanswerable(job: Job) -> Made:
    """A question about what nobody says; in the counterfactual somebody does."""
    one, slot, _ = twin(job)
    others = distinct_statements(job, 2, beside=one)
    question = question_about(one.facts, slot, held_out=job.world.held_out_phrasings, rng=job.asking)
    about = {"pattern": one.facts["pattern"], "slot": slot}
    (voice,) = job.cast(None)
    stage = job.stage()
    for said in [one, others[0]] if job.flip else others:
        stage.say(said, voice)
        stage.pause()
    word = one.facts["slots"][slot] if job.flip else None
    answer = sentence(word) if word else UNKNOWN
    return Made((stage.close(),), ((Turn(question, answer, "fact", about, word),),))
