"""Test items from the world's skills: a conversation up to a question, its truth, and whether a reply is right."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from audioflamingo.eval.metrics import words_of
from audioflamingo.eval.parse import final_answer, number_in, option_letter, yes_or_no
from audioflamingo.types import Audio, Message
from audioflamingo.world import rooms, tasks
from audioflamingo.world.check_clips import CLIP_CHOICES, CLIP_COUNTS, CLIP_YES_NO
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills.base import ORDINALS, Job, Made
from audioflamingo.world.text import stable_hash
from audioflamingo.world.timeline import World

Instead = Literal["noise", "silence", "other"]
"""What may stand in place of the sound: noise, digital silence, or the sound of the item before."""

WITHIN_S, WITHIN_TEMPO = 1.0, 0.04
COUNTS = ("count", "num_kinds", "num_voices", "num_sentences", "music_num_parts", *CLIP_COUNTS)
YES_NO = ("present", "same_topic", "same_voice", *CLIP_YES_NO)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*s\b")
_CLIP = re.compile(rf"\b({'|'.join(ORDINALS)})\b", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Posed:
    """One question with everything before it.

    Attributes:
        messages: the conversation, which ends with the question.
        answer: the truth in words.
        rule: how it follows from the sound, see `world.check`.
        value: the truth itself.
        options: of a multiple choice.
    """

    messages: tuple[Message, ...]
    answer: str
    rule: str
    value: Any
    options: tuple[str, ...] = ()


def job_of(world: World, name: str, seed: int, index: int) -> Job:
    """The order for the `index`-th item of a row; the same from the same arguments."""
    key = (seed, stable_hash(f"eval {world.split} {name}"), index)
    flip = random.Random(repr((key, "flip"))).random() < 0.5
    return Job(world, Dice.of(*key), random.Random(repr((key, "plan"))), random.Random(repr((key, "asking"))), flip)


def posed(made: Made, choose: Callable[[Any], bool] = lambda turn: True, seed: int = 0) -> Posed | None:
    """One question of a scene that `choose` takes, behind the true turns before it; None where it takes none."""
    found = [(turns, place) for turns in made.dialogues for place, turn in enumerate(turns) if choose(turn)]
    if not found:
        return None
    turns, place = random.Random(seed).choice(found)
    messages: list[Message] = []
    for index, turn in enumerate(turns[: place + 1]):
        brings = turn.brings or ((0,) if index == 0 and len(made.clips) == 1 else ())
        heard = [Audio(made.clips[clip].samples, f"clip {clip + 1}") for clip in brings]
        messages.append(Message("user", (*heard, turn.question)))
        if index < place:
            messages.append(Message("assistant", (turn.answer,)))
    asked = turns[place]
    return Posed(tuple(messages), asked.answer, asked.rule, asked.value, asked.options)


def with_sound(item: Posed, instead: Instead, other: Posed, seed: int) -> Posed:
    """The same question about another sound: what a model says then it does not say because of what it hears."""
    rng = np.random.default_rng(seed)
    theirs = [part for message in other.messages for part in message.content if isinstance(part, Audio)]

    def changed(part: Audio | str) -> Audio | str:
        if not isinstance(part, Audio):
            return part
        if instead == "other":
            return theirs[0]
        if instead == "silence":
            return Audio(np.zeros_like(part.samples), part.name)
        noise = rooms.noise_bed(len(part.samples), rng)
        return Audio(np.asarray(0.3 * noise / (np.abs(noise).max() + 1e-9), np.float32), part.name)

    messages = tuple(replace(m, content=tuple(changed(part) for part in m.content)) for m in item.messages)
    return replace(item, messages=messages)


def is_right(item: Posed, reply: str) -> bool:
    """Whether a reply says the truth, whatever else it says."""
    said = final_answer(reply)
    if item.options:
        right = next(o for o in item.options if item.answer.endswith(f") {o}") or item.answer == o)
        return option_letter(reply, item.options) == "ABCDEFGH"[item.options.index(right)]
    if item.rule in COUNTS:
        return number_in(reply) == float(item.value)
    if item.rule in YES_NO:
        return yes_or_no(reply) is bool(item.value)
    if item.rule in _BY_VALUE:
        return _BY_VALUE[item.rule](said, item.value)
    if item.rule == "fact":
        wanted = " ".join(words_of(final_answer(item.answer)))
        return f" {wanted} " in f" {' '.join(words_of(said))} "
    return words_of(said) == words_of(final_answer(item.answer))


def says_nothing_recognisable(reply: str) -> bool:
    """Whether a reply says that there is nothing to be heard, in one of the ways that were taught."""
    ways = (tasks.NOISE, tasks.SILENCE, tasks.NO_SPEECH, "The recording does not say.")
    return words_of(final_answer(reply)) in [words_of(way) for way in ways]


def _when(said: str, value: Any) -> bool:
    times = [float(time) for time in _TIME.findall(said)][:2]
    return len(times) == 2 and all(abs(t - v) <= WITHIN_S for t, v in zip(times, value, strict=True))


def _at(said: str, value: Any) -> bool:
    times = [float(time) for time in _TIME.findall(said)]
    return len(times) == 1 and abs(times[0] - value) <= WITHIN_S


def _which(said: str, value: Any) -> bool:
    """Whether one clip is named, and the right one."""
    return {word.lower() for word in _CLIP.findall(said)} == {ORDINALS[value]}


def _tempo(said: str, value: Any) -> bool:
    told = number_in(said)
    return told is not None and abs(told - value) <= WITHIN_TEMPO * value


_BY_VALUE: Mapping[str, Callable[[str, Any], bool]] = {
    "when": _when, "starts": _at, "ends": _at, "again": _at, "music_tempo_bpm": _tempo,
    **dict.fromkeys(CLIP_CHOICES, _which),
}  # fmt: skip
