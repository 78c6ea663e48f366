"""One generator per task: a scene made for the question, and the question with its exact answer.

`SKILLS` names them after the data sets of the paper (AudioSkills-XL, LongAudio-XL, AF-Think, AF-Chat). Sarcasm, lyrics
and the history of a piece are left out: nothing that we render would make their answers exact.
"""

from __future__ import annotations

import random
from dataclasses import replace

from audioflamingo.errors import OptionError
from audioflamingo.world.codecs import ANY, drawn
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import (
    at_once,
    by_example,
    chat,
    choices,
    how_far,
    long,
    music,
    several,
    sounds,
    speech,
    there,
    think,
    whole,
)
from audioflamingo.world.skills.base import Job, Made, Skill, Turn
from audioflamingo.world.text import stable_hash
from audioflamingo.world.timeline import World

__all__ = ["SKILLS", "Made", "Skill", "Turn", "make", "parse_tasks"]

_ALL = (
    Skill("temporal_order", "AudioSkills", "which sound comes first, last, next", sounds.temporal_order),
    Skill("temporal_attributes", "AudioSkills", "longer, louder, approaching", sounds.temporal_attributes),
    Skill("counting", "AudioSkills", "how often, how many kinds", sounds.counting),
    Skill("attribute_identification", "AudioSkills", "what kind of source", sounds.attribute_identification),
    Skill("speaker_attributes", "AudioSkills", "sex, pace, number of voices", speech.speaker_attributes),
    Skill("contextual_sound", "AudioSkills", "what place the sounds suggest", sounds.contextual_sound),
    Skill("contextual_speech", "AudioSkills", "which sound follows what is said", speech.contextual_speech),
    Skill("information_extraction", "AudioSkills", "a word of what is said", speech.information_extraction),
    Skill("general", "AudioSkills", "is a sound there: yes or no", sounds.general),
    Skill("sound_reasoning", "AudioSkills", "what goes on behind the events", sounds.sound_reasoning),
    Skill("music_knowledge", "AudioSkills", "instruments, metre, melody, dynamics, mode", music.music_knowledge),
    Skill("music_reasoning", "AudioSkills", "style, use, tempo, changes, key, harmony", music.music_reasoning),
    Skill("speech_in_sound", "AudioSkills", "speech over a steady sound", speech.speech_in_sound),
    Skill("speech_qa", "AudioSkills", "questions about several statements", speech.speech_qa),
    Skill("unanswerable", "AudioSkills", "what the recording does not say", speech.unanswerable),
    Skill("nothing_there", "AudioSkills", "noise and silence", sounds.nothing_there),
    Skill(
        "speech_or_music", "AudioSkills", "is anyone speaking, is there music", there.speech_or_music,
        in_tokenizer=False,
    ),
    Skill("simultaneous", "AudioSkills", "what sounds at the same time", at_once.simultaneous, in_tokenizer=False),
    Skill(
        "distance", "AudioSkills", "which source is nearer, farther, equally far", how_far.distance,
        in_tokenizer=False,
    ),
    Skill(
        "counting_choice", "AudioSkills", "how often, how many kinds: one of four numbers", choices.counting_choice,
        in_tokenizer=False, coded=True,
    ),
    Skill("emotion", "LongAudio", "the mood of a voice as rendered", speech.emotion),
    Skill("emotion_flip", "LongAudio", "a mood that changes", speech.emotion_flip, is_long=True),
    Skill("needle", "LongAudio", "one statement in a long talk", long.needle, is_long=True),
    Skill("long_order", "LongAudio", "the order of topics", long.long_order, is_long=True),
    Skill("grounding", "LongAudio", "when, and what at a time", long.grounding, is_long=True),
    Skill("summary", "LongAudio", "who talks about what", long.summary, paired=False, is_long=True),
    Skill("topic_relation", "LongAudio", "the same topic or not", long.topic_relation, is_long=True),
    Skill("causal", "LongAudio", "why something happened", long.causal_qa, is_long=True),
    Skill("response", "LongAudio", "what is answered to a question", long.response_qa, is_long=True),
    Skill(
        "response_choice", "LongAudio", "what is answered to a question: one of four", choices.response_choice,
        is_long=True, in_tokenizer=False, coded=True,
    ),
    Skill("think", "AF-Think", "evidence with times, then the answer", think.think),
    Skill("chat", "AF-Chat", "dialogues over several clips", chat.chat, paired=False),
    Skill("several_clips", "AF-Chat", "which of several clips, compare, what is in one", several.several_clips),
    Skill("by_example", "AF-Chat", "labels learnt from examples", by_example.by_example),
    Skill("caption", "caption", "everything in a sentence", whole.caption, paired=False),
    Skill("transcript", "transcript", "words, and their times", whole.transcript, paired=False),
    Skill("dialogue_transcript", "transcript", "who says what", whole.dialogue_transcript, paired=False),
)  # fmt: skip
SKILLS: dict[str, Skill] = {skill.name: skill for skill in _ALL}


def parse_tasks(text: str) -> tuple[str, ...]:
    """Names from "counting,needle", from families ("LongAudio") or "all".

    Raises:
        OptionError: a name is unknown.
    """
    found: list[str] = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        fitting = [s.name for s in _ALL if word in ("all", s.name) or word.lower() == s.family.lower()]
        if not fitting:
            families = sorted({skill.family for skill in _ALL})
            raise OptionError(f"{word!r} is no task; allowed: all, {', '.join(families)}, {', '.join(SKILLS)}.")
        found += [name for name in fitting if name not in found]
    if not found:
        raise OptionError("no task is given; name some, or 'all'.")
    return tuple(found)


def make(name: str, world: World, seed: int, index: int) -> Made:
    """The `index`-th scene of a task with its dialogues: the same from the same arguments.

    Of paired tasks, indices 2k and 2k + 1 are a counterfactual pair: the same question, another answer.

    Raises:
        OptionError: the task is unknown.
        FlamingoError: a speech engine or a soundfont is missing.
    """
    skill = SKILLS[parse_tasks(name)[0]]
    pair, flip = (index // 2, bool(index % 2)) if skill.paired else (index, False)
    key = (seed, stable_hash(f"{world.split} {name}"))
    plan = random.Random(repr((*key, pair, "plan")))
    asking = random.Random(repr((*key, pair, "asking")))
    made = skill.make(Job(world, Dice.of(*key, index), plan, asking, flip))
    return _coded(made, skill, world, random.Random(repr((*key, index, "codec"))))


def _coded(made: Made, skill: Skill, world: World, rng: random.Random) -> Made:
    """Every clip through the world's codec, or where it has none sometimes through one of the task's own."""
    clips = []
    for clip in made.clips:
        own = ANY if skill.coded and rng.random() < world.strength else None
        codec = world.codec or own
        clips.append(clip.through(drawn(codec, rng)) if codec else clip)
    return replace(made, clips=tuple(clips))
