"""What `counting` and `response` ask, as one of four options (AudioSkills-XL, LongAudio-XL).

Nothing but the sound tells which option is right: the counterfactual exchanges the right one with another of the same
options, and what that other one names is heard in the scene as well, in another place.
"""

from __future__ import annotations

from collections.abc import Sequence

from audioflamingo.world.said import WORDS, Statement, replies, statement_with
from audioflamingo.world.skills.base import (
    EVENT_KINDS,
    SINGLE_KINDS,
    Job,
    Made,
    Truth,
    Turn,
    choose,
    label,
    number_word,
)
from audioflamingo.world.skills.long import SHORTEST_S, length_s, talk, two_responses
from audioflamingo.world.skills.phrasings_choices import NUMBER_OF_KINDS, NUMBER_OF_TIMES, WHICH_REPLY

NUM_OPTIONS = 4
KINDS_SHARE, WHOLE_SHARE = 0.25, 0.5  # of the counts: of kinds; of the replies: all that is said
# How often the lowest option is each number from the first one on. Any of the four may be right; these make numbers at
# the ends, which are in fewer rows of four, about as frequent as the others.
TIMES_FROM, TIMES_WEIGHTS = 0, (3, 1, 1, 1, 1, 3)
KINDS_FROM, KINDS_WEIGHTS = 1, (2, 1, 2)
LEVEL_DB, GAP_S = (-6.0, 0.0), (0.3, 0.7)
REPEATED = 0.4  # of the kinds: how many are heard twice
PLACES = (0.1, 0.8)  # of the exchange and of what is said beside it, as shares of the whole


def counting_choice(job: Job) -> Made:
    """How often a sound is heard, 0 to 8 times, beside another one; or how many kinds of sound there are, 1 to 6."""
    return _kinds(job) if job.coin(KINDS_SHARE) else _times(job)


def _times(job: Job) -> Made:
    """Two sounds, each as often as one of the options says; the counterfactual exchanges the sounds."""
    target, other = job.plan.sample(SINGLE_KINDS, 2)
    numbers, num, num_other = _numbers(job, TIMES_FROM, TIMES_WEIGHTS)
    order = [target] * num + [other] * num_other
    rng, stage = job.dice.plain, job.stage()
    rng.shuffle(order)
    for kind in order:
        stage.sound(kind, level_db=rng.uniform(*LEVEL_DB))
        stage.pause(rng.uniform(*GAP_S))
    question = job.phrasing.of(NUMBER_OF_TIMES, a=label(target))
    return Made((stage.close(),), ((_number_turn(job, question, numbers, Truth("count", {"kind": target}, num)),),))


def _kinds(job: Job) -> Made:
    """Different sounds, some of them twice."""
    numbers, num, _ = _numbers(job, KINDS_FROM, KINDS_WEIGHTS)
    names = job.plan.sample(EVENT_KINDS, KINDS_FROM + len(KINDS_WEIGHTS) + NUM_OPTIONS - 2)[:num]
    rng, stage = job.dice.plain, job.stage()
    order = names + [name for name in names if rng.random() < REPEATED]
    rng.shuffle(order)
    for kind in order:
        stage.sound(kind)
        stage.pause()
    turn = _number_turn(job, job.phrasing.of(NUMBER_OF_KINDS), numbers, Truth("num_kinds", {}, num))
    return Made((stage.close(),), ((turn,),))


def _numbers(job: Job, first: int, weights: Sequence[int]) -> tuple[list[int], int, int]:
    """Successive numbers, the one of them that is right, and the one that is right in the other of the pair."""
    (lowest,) = job.plan.choices(range(first, first + len(weights)), weights)
    numbers = list(range(lowest, lowest + NUM_OPTIONS))
    one, other = job.plan.sample(numbers, 2)
    return (numbers, other, one) if job.flip else (numbers, one, other)


def _number_turn(job: Job, question: str, numbers: Sequence[int], truth: Truth) -> Turn:
    options = [number_word(number) for number in numbers]
    return choose(job, question, number_word(truth.value), truth, pool=options, keep=options)


def response_choice(job: Job) -> Made:
    """What one voice answers to the question of another; the other answer's word is said elsewhere, of something else.

    Options are words, or replies from beginning to end.
    """
    total_s = length_s(job)
    is_whole, both = job.coin(WHOLE_SHARE), two_responses(job)
    (asking, answering), (_, unsaid) = both[::-1] if job.flip else both
    facts, cast = answering.facts, job.cast("female", "male")
    slot, about = facts["slot"], facts["about"]
    word, other = facts["slots"][slot], unsaid.facts["slots"][slot]
    rng, stage = job.dice.plain, job.stage()
    avoid = frozenset({*asking.facts["slots"].values(), *unsaid.facts["slots"].values()} - {other})
    beside = statement_with(rng, slot, other, test=job.test, avoid=avoid)
    exchanged = ((asking, answering), (beside,))
    for said, place in zip(rng.sample(exchanged, 2), sorted(rng.uniform(*PLACES) for _ in range(2)), strict=True):
        talk(job, stage, cast, total_s * place)
        for one, voice in zip(said, cast if len(said) == 2 else rng.sample(cast, 1), strict=True):
            stage.say(one, voice)
            stage.pause(0.4)
        stage.pause()
    talk(job, stage, cast, total_s - 5.0)
    question = job.phrasing.of(WHICH_REPLY, about=about)
    turn = _reply_turn(job, question, answering, (word, other), is_whole=is_whole)
    return Made((stage.close(duration_s=SHORTEST_S),), ((turn,),))


def _reply_turn(job: Job, question: str, answering: Statement, words: tuple[str, str], *, is_whole: bool) -> Turn:
    facts = answering.facts
    about = {"about": facts["about"]}
    if not is_whole:
        truth = Truth("response", about, words[0])
        return choose(job, question, words[0], truth, pool=WORDS[facts["slot"]], keep=words)
    texts = replies(facts)
    truth = Truth("reply", about, answering.text)
    return choose(job, question, answering.text, truth, pool=list(texts.values()), keep=[texts[word] for word in words])
