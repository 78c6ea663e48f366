"""Render the whole world to items; `nano_workers` does so in parallel, for as long as the trainer wants more.

Rendering is dear and asking is cheap: every scene is asked everything that it answers (`skills.every`), in several
conversations of one to four turns.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from audioflamingo.audio.windows import num_audio_tokens
from audioflamingo.train.nano_items import (
    Ask,
    Conversation,
    Encodes,
    Hearing,
    Item,
    conversation,
    windows_of,
)
from audioflamingo.train.nano_labels import spans_of_scene, spans_of_timeline
from audioflamingo.train.nano_words import reworded
from audioflamingo.train.render import CLEAN_SHARE, scene_of
from audioflamingo.world import tasks
from audioflamingo.world.rooms import noise_bed
from audioflamingo.world.said import WORDS
from audioflamingo.world.scenes import Dice, Scene, Source
from audioflamingo.world.skills import SKILLS, make
from audioflamingo.world.skills.across import POINTING_RULES, every_across
from audioflamingo.world.skills.base import CHOOSE, EVENT_KINDS, LETTERS, Job, Made, Turn, label
from audioflamingo.world.skills.every import every_turn
from audioflamingo.world.skills.music import KNOWLEDGE, REASONING
from audioflamingo.world.skills.think import STEPS, reasoned
from audioflamingo.world.skills.times import time_turns
from audioflamingo.world.text import normalise
from audioflamingo.world.timeline import Heard, Split, Timeline, World

MOST_TOKENS = 16_000
NUM_CONVERSATIONS = 6
FEWEST_TURNS, MOST_TURNS = 3, 8
LONG_S, MOST_LONG_TURNS = 60.0, 24  # beside minutes of sound a turn costs nothing
OWN_WEIGHT, OWN_SHARE = 0.5, 0.6  # of a skill's own question: asked alone, against all else; among other turns
NUM_ROUNDS = 3  # of asking everything, each time in other words and about other things
LOOKUP_SHARE = 0.5
# Conversations of nothing but times, beside what else weighs 1.5 in a skill's item: many in short scenes.
SHORT_S, SHORT_TIMES, LONG_TIMES, NUM_TIMES = 30.0, 0.5, 0.25, 2
PLAINLY_SHARE = 0.15  # of conversations about clips of which all can be named: they begin with "What do you hear?"
AT_ONCE_SHARE = 0.7  # of the conversations about several clips: all come with the first question
DRILL_SHARE = 0.45  # of what is spoken in plain scenes: words to practise with instead of a sentence
ENDED_SHARE = 0.25  # of conversations with thoughts: these are ended somewhere, as a budget does
TRANSCRIPT_TIMES = 2  # how much a token of a plain scene's transcript counts
POINTING_TIMES = 4  # how much one of an answer that is nothing but which clip or label
COMPARABLE = ("several_clips", "by_example")  # tasks whose clips have levels and voices that can be compared
# How often each is drawn, in parts of all scenes. Transcripts are the hardest, so they are most of the seconds.
PLAIN_SHARES: dict[str, float] = {
    "speech": 64.0, "speech_long": 11.0, "speech_over_sound": 5.0, "one_sound": 9.0, "two_sounds": 6.0, "empty": 2.0,
    "text_only": 5.0,
}  # fmt: skip
SKILL_SHARES: dict[str, float] = {
    "temporal_order": 4.5, "temporal_attributes": 4.0, "counting": 6.5, "attribute_identification": 1.0,
    "speaker_attributes": 7.0, "contextual_sound": 1.0, "contextual_speech": 1.2, "information_extraction": 2.0,
    "general": 1.2, "sound_reasoning": 1.2, "music_knowledge": 4.6, "music_reasoning": 5.6, "speech_in_sound": 1.0,
    "speech_qa": 1.2, "unanswerable": 1.0, "nothing_there": 0.8, "emotion": 2.2, "think": 2.6, "chat": 8.0,
    "several_clips": 16.0, "by_example": 6.0, "speech_or_music": 2.0, "simultaneous": 0.8, "distance": 0.8,
    "counting_choice": 1.0, "response_choice": 0.05,
    "caption": 0.8, "transcript": 1.0, "dialogue_transcript": 0.6, "needle": 0.8, "long_order": 0.12,
    "grounding": 0.6, "summary": 0.10, "topic_relation": 0.08, "causal": 0.10, "response": 0.10,
    "emotion_flip": 0.25,
}  # fmt: skip
THINK_SHARES: dict[str, float] = {"think": 1.0}
# Stage 4: clips that are held against each other and turns that refer back, and enough of all else to keep it.
CHAT_SHARES: dict[str, float] = {
    **PLAIN_SHARES, **SKILL_SHARES, "speech": 30.0, "speech_long": 8.0, "one_sound": 10.0, "text_only": 3.0,
    "several_clips": 36.0, "by_example": 12.0, "chat": 18.0, "needle": 1.0,
}  # fmt: skip
# All tasks, with more of what is right less often than nine times in ten (docs/nano.md).
FINISH_SHARES: dict[str, float] = {
    **PLAIN_SHARES, **SKILL_SHARES, "speech": 84.0, "by_example": 14.0, "counting": 9.0, "counting_choice": 3.0,
    "simultaneous": 2.5, "distance": 2.5, "speech_or_music": 4.0,
}  # fmt: skip
# Clips that come in one by one, and enough of what fits into small steps.
LATER_SHARES: dict[str, float] = {
    **PLAIN_SHARES, **SKILL_SHARES, "speech": 30.0, "speech_long": 4.0, "several_clips": 12.0, "chat": 60.0,
    **dict.fromkeys(("needle", "grounding", "long_order", "summary", "topic_relation"), 0.0),
    **dict.fromkeys(("causal", "response", "emotion_flip"), 0.0),
}  # fmt: skip
SHARES: dict[str, dict[str, float]] = {
    "all": {**PLAIN_SHARES, **SKILL_SHARES}, "chat": CHAT_SHARES, "finish": FINISH_SHARES, "think": THINK_SHARES,
    "later": LATER_SHARES,
}  # fmt: skip
NOTHING_TO_HEAR_SHARE = 0.02  # of the skills' short items: the sound is replaced by noise, and the answer says so
NOISE_ANSWER = tasks.NOISE


def draw_item(
    seed: tuple[int, ...], tokenizer: Encodes, *, mixture: str = "all", split: Split = "train",
    longest_s: float = 600.0, soundfonts: tuple[Path, ...] = (),
) -> Item:  # fmt: skip
    """The item that belongs to this seed."""
    rng = random.Random(repr((seed, "item")))
    shares = SHARES[mixture]
    name = rng.choices(list(shares), list(shares.values()))[0]
    return item_of(name, seed, tokenizer, split=split, longest_s=longest_s, soundfonts=soundfonts)


def item_of(
    name: str, seed: tuple[int, ...], tokenizer: Encodes, *, split: Split = "train", longest_s: float = 600.0,
    soundfonts: tuple[Path, ...] = (),
) -> Item:  # fmt: skip
    """The item of one kind, a key of the shares, that belongs to this seed."""
    rng = random.Random(repr((seed, name)))
    strength = 0.0 if rng.random() < CLEAN_SHARE else rng.uniform(0.25, 1.0)
    variety = 1.0 if split == "train" else 0.0
    if name in SKILLS:
        world = World(split, 0.8 * strength, longest_s, soundfonts, variety=variety, exact=False)
        return _skill_item(name, world, seed, rng, tokenizer)
    if name == "text_only":
        return _text_item(rng, tokenizer)
    drill = DRILL_SHARE if split == "train" else 0.0
    source = Source("train" if split == "train" else "test", strength=strength, variety=variety, drill=drill)
    return _scene_item(scene_of(name, source, Dice.of(*seed)), rng, tokenizer)


def _scene_item(scene: Scene, rng: random.Random, tokenizer: Encodes) -> Item:
    """A scene with single questions by their weights, and conversations of several."""
    questions = tasks.questions(scene, rng)
    hearing = Hearing(scene.samples, spans_of_scene(scene), scene.transcript or "")
    single = [([replace(_ask_about(one), clips=(0,))], one.weight) for one in questions]
    weights = [one.weight for one in questions]
    several = []
    for _ in range(2):
        picked = rng.choices(questions, weights, k=rng.randint(2, 3))
        chosen = list({one.task: one for one in picked}.values())
        if len(chosen) > 1:
            several.append(_asks(chosen))
    total = sum(weights)
    world = World("train", phrasings="train")
    times = _times(_timeline_of(scene), Job(world, Dice.of(0), rng, rng))
    found = [*single, *((one, 0.2 * total) for one in several), *((one, weight * total) for one, weight in times)]
    return _item([hearing], found, tokenizer, rng)


def _timeline_of(scene: Scene) -> Timeline:
    """A scene in the terms of the skills: what is heard when, and the sex of who speaks."""
    events = [Heard(e.kind, e.start_s, e.end_s, voice={"sex": e.sex} if e.sex else None) for e in scene.events]
    return Timeline(scene.samples, tuple(events))


def _times(timeline: Timeline, job: Job) -> list[tuple[list[Ask], float]]:
    """Conversations of nothing but times, as shares of the weight of all else; none where only voices are heard."""
    found = []
    share = SHORT_TIMES if timeline.duration_s < SHORT_S else LONG_TIMES
    for _ in range(NUM_TIMES if any(event.kind not in ("speech", "music") for event in timeline.front) else 0):
        turns = time_turns(timeline, job)
        turns = job.asking.sample(turns, min(len(turns), job.asking.randint(1, _most_turns(timeline))))
        found.append(([Ask(turn.question, turn.answer, () if place else (0,)) for place, turn in enumerate(turns)],
                      share / NUM_TIMES))  # fmt: skip
    return found


def _most_turns(timeline: Timeline) -> int:
    return MOST_LONG_TURNS if timeline.duration_s > LONG_S else MOST_TURNS


def _asks(questions: Sequence[tasks.Question]) -> list[Ask]:
    return [replace(_ask_about(one), clips=() if place else (0,)) for place, one in enumerate(questions)]


def _ask_about(question: tasks.Question) -> Ask:
    return Ask(question.text, question.answer, times=TRANSCRIPT_TIMES if question.task == "transcribe" else 1)


def _text_item(rng: random.Random, tokenizer: Encodes) -> Item:
    questions = tasks.text_only_questions()
    picked = rng.choices(questions, [one.weight for one in questions], k=16)
    asks = [_lookup(rng) if rng.random() < LOOKUP_SHARE else Ask(one.text, one.answer) for one in picked]
    return _item([], [([ask], 1.0) for ask in asks], tokenizer, rng)


def _lookup(rng: random.Random) -> Ask:
    """The letter of an option that is named: half of what a multiple choice asks for, without a sound."""
    pool = rng.choice(_option_pools())
    options = rng.sample(pool, min(len(pool), rng.randint(2, 4)))
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    wanted = rng.randrange(len(options))
    return Ask("\n".join([f"Which option says {options[wanted]}? {CHOOSE}", *lines]), lines[wanted])


@cache
def _option_pools() -> tuple[tuple[str, ...], ...]:
    """Everything that options are made of: sounds, half of the time; each fact of music; words that are said."""
    music = [
        tuple(sorted({sub.words(value) for value in sub.values})) for sub in (*KNOWLEDGE, *REASONING) if sub.has_options
    ]
    others = [*music, *(tuple(words) for words in WORDS.values())]
    sounds = tuple(label(kind) for kind in EVENT_KINDS)
    return (*[sounds] * len(others), *others)


def _skill_item(name: str, world: World, seed: tuple[int, ...], rng: random.Random, tokenizer: Encodes) -> Item:
    """A skill's own dialogues for half of the weight, everything else that its clips answer for the other half."""
    made = make(name, world, _flat(seed), rng.randrange(1 << 30))
    if not SKILLS[name].is_long and len(made.clips) == 1 and rng.random() < NOTHING_TO_HEAR_SHARE:
        return _silenced(made, rng, tokenizer)
    hearings = [_hearing(clip) for clip in made.clips]
    own = [([_ask_of(turn) for turn in turns], OWN_WEIGHT / len(made.dialogues)) for turns in made.dialogues]
    job = Job(world, Dice.of(*seed), rng, rng)
    times: list[tuple[list[Ask], float]] = []
    if name == "think":
        more = _thoughts(made.clips[0], job)
        own, more = [(_ended(asks, rng), weight) for asks, weight in own], [_ended(asks, rng) for asks in more]
    elif len(made.clips) > 1:
        more = [_across(made.clips, job, comparable=name in COMPARABLE) for _ in range(NUM_CONVERSATIONS)]
    else:
        asked = _asked(made, job)
        more, times = _conversations(made, asked, rng), _times(made.clips[0], job)
        if made.clips[0].duration_s > LONG_S:
            own = [([*asks, *_further(turns, asked, rng)], weight)
                   for (asks, weight), turns in zip(own, made.dialogues, strict=True)]  # fmt: skip
    return _item(hearings, [*own, *((one, 1.0 / NUM_CONVERSATIONS) for one in more), *times], tokenizer, rng)


def _thoughts(clip: Timeline, job: Job) -> list[list[Ask]]:
    """Other questions about a clip whose answers are worked out in thoughts, each in a conversation of its own."""
    turns = [turn for turn in every_turn(clip, job) if turn.rule in STEPS]
    turns = job.asking.sample(turns, min(len(turns), NUM_CONVERSATIONS))
    return [[Ask(turn.question, turn.answer)] for turn in (reasoned(turn, clip) for turn in turns)]


def _ended(asks: list[Ask], rng: random.Random) -> list[Ask]:
    """Some with their thoughts ended early: what is heard is still there to be answered by."""
    return [replace(ask, thought=rng.random()) for ask in asks] if rng.random() < ENDED_SHARE else asks


def _across(clips: Sequence[Timeline], job: Job, *, comparable: bool) -> list[Ask]:
    """Turns about several clips that come all at once, or in groups with questions between them."""
    rng = job.asking
    asks: list[Ask] = []
    seen: set[tuple[str, str, int]] = set()
    num_before = 0
    for num in _arrivals(len(clips), rng):
        turns = every_across(clips[:num], job, comparable=comparable) if num > 1 else every_turn(clips[0], job)
        wanted = rng.randint(1, MOST_TURNS - 2) if num == len(clips) else rng.randint(1, 2)
        everything = next((turn for turn in turns if turn.rule == "each"), None)
        if everything is not None and not num_before and rng.random() < PLAINLY_SHARE:
            plain = Ask(rng.choice(tasks.IDENTIFY[:-1]), everything.answer, tuple(range(num)))
            asks, num_before, wanted = [plain], num, wanted - 1
            seen.add(("each", repr(everything.about), everything.clip))
        for turn in rng.sample(turns, len(turns)):
            key = (turn.rule, repr(turn.about), turn.clip)
            if wanted and key not in seen:
                seen.add(key)
                asks.append(_ask_of(replace(turn, brings=tuple(range(num_before, num)))))
                num_before, wanted = num, wanted - 1
    return asks


def _arrivals(num: int, rng: random.Random) -> list[int]:
    """How many clips there are after each turn that brings some."""
    if rng.random() < AT_ONCE_SHARE:
        return [num]
    return [*sorted(rng.sample(range(1, num), rng.randint(1, min(num - 1, 3)))), num]


def _asked(made: Made, job: Job) -> list[Turn]:
    """All that a clip answers, several times."""
    return [turn for _ in range(NUM_ROUNDS) for turn in every_turn(made.clips[0], job)]


def _further(turns: Sequence[Turn], asked: Sequence[Turn], rng: random.Random) -> list[Ask]:
    """What else is asked after a skill's own turns about a long clip."""
    seen = {(turn.rule, repr(turn.about)) for turn in turns}
    drawn = rng.sample(list(asked), min(len(asked), rng.randint(0, MOST_LONG_TURNS)))
    others = {(turn.rule, repr(turn.about)): turn for turn in drawn}
    return [Ask(turn.question, turn.answer) for key, turn in others.items() if key not in seen]


def _conversations(made: Made, more: Sequence[Turn], rng: random.Random) -> list[list[Ask]]:
    """Several turns about one clip; one of them may be the skill's own."""
    own = [turn for turns in made.dialogues for turn in turns]
    found, most = [], _most_turns(made.clips[0])
    for _ in range(NUM_CONVERSATIONS):
        if not more:
            break
        turns = rng.sample(list(more), min(len(more), rng.randint(FEWEST_TURNS, 2 * most)))
        if rng.random() < OWN_SHARE:
            turns.insert(rng.randint(0, len(turns)), rng.choice(own))
        # What is asked twice is read off the text; what is asked of too much leaves no room for others.
        turns = list({(turn.rule, repr(turn.about)): turn for turn in turns}.values())[:most]
        found.append([Ask(turn.question, turn.answer, () if place else (0,)) for place, turn in enumerate(turns)])
    return found


def _silenced(made: Made, rng: random.Random, tokenizer: Encodes) -> Item:
    """Noise in place of the sound: whatever is asked, nothing recognisable is heard."""
    numeric = np.random.default_rng(rng.randrange(1 << 30))
    clip = made.clips[0]
    noise = noise_bed(min(len(clip.samples), 160_000), numeric)
    level = 10.0 ** rng.uniform(-1.5, -0.3) / (float(np.abs(noise).max()) + 1e-9)
    turns = [turn for dialogue in made.dialogues for turn in dialogue]
    asks = [([Ask(turn.question, NOISE_ANSWER, (0,))], 1.0) for turn in turns]
    return _item([Hearing(noise * np.float32(level), [], "")], asks, tokenizer, rng)


def _hearing(clip: Timeline) -> Hearing:
    said = [normalise(event.text or "") for event in clip.events if event.kind == "speech"]
    return Hearing(clip.samples, spans_of_timeline(clip), " ".join(said))


def _ask_of(turn: Turn) -> Ask:
    times = POINTING_TIMES if turn.rule in POINTING_RULES else 1
    return Ask(turn.question, turn.answer, turn.brings, turn.given, times)


def _item(
    hearings: Sequence[Hearing], conversations: Sequence[tuple[list[Ask], float]], tokenizer: Encodes,
    rng: random.Random,
) -> Item:  # fmt: skip
    windows = [windows_of(hearing, clip) for clip, hearing in enumerate(hearings)]
    num_tokens = [sum(num_audio_tokens(len(window.samples)) for window in clip) for clip in windows]
    sequences: list[Conversation] = []
    weights: list[float] = []
    for asks, weight in conversations:
        if len(hearings) == 1:
            asks = [replace(asks[0], clips=(0,)), *asks[1:]]
        asks = [replace(ask, question=reworded(ask.question, rng, len(ask.clips))) for ask in asks]
        made = conversation(asks, num_tokens, tokenizer)
        if len(made.ids) <= MOST_TOKENS:
            sequences.append(made)
            weights.append(weight)
    assert sequences, "an item without a conversation that fits"
    return Item(tuple(window for clip in windows for window in clip), tuple(sequences), tuple(weights))


def _flat(seed: tuple[int, ...]) -> int:
    return int(random.Random(repr(seed)).randrange(1 << 48))
