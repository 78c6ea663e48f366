"""Questions about music (AudioSkills-XL): knowledge and reasoning with their sub-skills, from the score's own facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from audioflamingo.world.music.compose import CONTOURS, DYNAMICS, STYLES, compose, draw_facts
from audioflamingo.world.music.instruments import INSTRUMENTS, MELODIC, family_of
from audioflamingo.world.music.score import Facts
from audioflamingo.world.music.theory import chord_name, key_name
from audioflamingo.world.skills.base import Job, Made, Truth, ask, number_word
from audioflamingo.world.skills.phrasings_music import MUSIC

TEMPI = {"slow": (56, 70), "moderate": (92, 108), "fast": (150, 176)}
METRES = {2: "two", 3: "three", 4: "four"}
METRE_STYLES = {2: "march", 3: "waltz", 4: "rock"}
TEXTURE_STYLES = {"monophonic": "solo", "homophonic": "lullaby", "polyphonic": "canon"}
TEXTURE_NAMES = {
    "monophonic": "a single line alone",
    "homophonic": "a melody with accompaniment",
    "polyphonic": "two voices that imitate each other",
}
PIECE_S = (9.0, 16.0)


@dataclass(frozen=True)
class SubSkill:
    """One kind of question about music.

    Attributes:
        name: rule of the checker: the property of the piece.
        phrasings: the last is held out.
        values: that the property may take, balanced.
        wanted: facts that make a piece have a value.
        words: of a value, as options and answers.
        has_options: whether it may be asked as a multiple choice.
    """

    name: str
    phrasings: tuple[str, ...]
    values: Sequence[Any]
    wanted: Callable[[Any], dict[str, Any]]
    words: Callable[[Any], str] = str
    has_options: bool = True


BPM = range(56, 181, 2)
BPM_STYLES = (("lullaby", 76), ("blues", 100), ("march", 124), ("rock", 150), ("waltz", 180))  # up to this tempo
"""Styles whose accompaniment tells which of two tempi, one twice the other, is meant."""


def _bpm(value: int) -> dict[str, Any]:
    return {"style": next(style for style, most in BPM_STYLES if value <= most), "tempo_bpm": value}


def _tempo(value: str) -> dict[str, Any]:
    low, high = TEMPI[value]
    return {"style": "solo", "tempo_bpm": (low + high) // 2}


KNOWLEDGE = (
    SubSkill(
        "lead_instrument", MUSIC["lead_instrument"],
        MELODIC, lambda value: {"instruments": {"melody": value}},
        lambda value: f"a {value}" if value[0] != "o" else "an organ",
    ),
    SubSkill(
        "lead_family", MUSIC["lead_family"],
        sorted({INSTRUMENTS[name].family for name in MELODIC}),
        lambda value: {"instruments": {"melody": next(name for name in MELODIC if family_of(name) == value)}},
    ),
    SubSkill(
        "beats_per_bar", MUSIC["beats_per_bar"],
        (3, 4), lambda value: {"style": METRE_STYLES[value], "beats_per_bar": value}, lambda value: METRES[value],
    ),
    SubSkill(
        "contour", MUSIC["contour"],
        CONTOURS, lambda value: {"style": "solo", "contour": value},
        lambda value: {"rising": "it rises", "falling": "it falls", "arch": "it rises and then falls",
                       "wave": "it goes up and down in waves"}[value],
    ),
    SubSkill(
        "dynamics", MUSIC["dynamics"],
        DYNAMICS[2:], lambda value: {"dynamics": value},
    ),
    SubSkill(
        "mode", MUSIC["mode"],
        ("major", "minor"), lambda value: {"style": "waltz", "mode": value},
    ),
    SubSkill(
        "articulation", MUSIC["articulation"],
        ("legato", "staccato"), lambda value: {"style": "solo", "articulation": value},
    ),
    SubSkill(
        "texture", MUSIC["texture"],
        tuple(TEXTURE_NAMES), lambda value: {"style": TEXTURE_STYLES[value]}, lambda value: TEXTURE_NAMES[value],
    ),
)  # fmt: skip

REASONING = (
    SubSkill(
        "style", MUSIC["style"],
             sorted(STYLES), lambda value: {"style": value}),
    SubSkill(
        "context", MUSIC["context"],
        [STYLES[name].context for name in sorted(STYLES)],
        lambda value: {"style": next(name for name in STYLES if STYLES[name].context == value)},
    ),
    SubSkill(
        "tempo", MUSIC["tempo"],
             tuple(TEMPI), _tempo),
    SubSkill(
        "tempo_bpm", MUSIC["tempo_bpm"],
        BPM, _bpm, lambda value: f"{value} beats a minute", has_options=False,
    ),
    SubSkill(
        "tempo_change", MUSIC["tempo_change"],
        ("steady", "faster", "slower"), lambda value: {"tempo_change": value},
        lambda value: {"steady": "it stays the same", "faster": "it gets faster", "slower": "it gets slower"}[value],
    ),
    SubSkill(
        "late", MUSIC["late"],
        ("piano", "guitar", "cello", "organ", "marimba"),
        lambda value: {"style": "waltz", "late": "chords", "instruments": {"chords": value, "melody": "flute"}},
        lambda value: f"the {value}",
    ),
    SubSkill(
        "tonic_name", MUSIC["tonic_name"],
        range(12), lambda value: {"tonic": value, "mode": "major", "style": "lullaby"},
        lambda value: key_name(value, "major"),
    ),
    SubSkill(
        "first_chord", MUSIC["first_chord"],
        range(12), lambda value: {"tonic": value, "mode": "major", "style": "lullaby", "degrees": (0, 3, 4, 0)},
        lambda value: chord_name(value, "major", 0),
    ),
    SubSkill(
        "modulation", MUSIC["modulation"],
        (0, 2, 3), lambda value: {"style": "waltz", "modulation": value},
        lambda value: "the key stays" if not value else "the key moves up",
    ),
    SubSkill(
        "num_parts", MUSIC["num_parts"],
        (1, 2, 3, 4),
        lambda value: {"style": {1: "solo", 2: "canon", 3: "waltz", 4: "rock"}[value]}, number_word,
    ),
)  # fmt: skip


def piece(job: Job, **wanted: Any) -> Facts:
    """Facts of a piece of 9 to 16 s, drawn by the plan."""
    return draw_facts(job.plan, duration_s=job.plan.uniform(*PIECE_S), **wanted)


def music_knowledge(job: Job) -> Made:
    """One property of a piece that theory names; the counterfactual has another value of it."""
    return _about_music(job, KNOWLEDGE)


def music_reasoning(job: Job) -> Made:
    """What follows from a piece: style, use, tempo, changes in time, key, harmony."""
    return _about_music(job, REASONING)


def about(job: Job, name: str) -> Made:
    """A piece and the question about one property, by the name of its sub-skill."""
    return _about_music(job, [sub for sub in (*KNOWLEDGE, *REASONING) if sub.name == name])


def _about_music(job: Job, sub_skills: Sequence[SubSkill]) -> Made:
    sub = job.plan.choice(sub_skills)
    a, b = _two(job, sub)
    value = b if job.flip else a
    facts = piece(job, **sub.wanted(value))
    stage = job.stage()
    stage.music(compose(facts, job.dice.plain))
    pool = sorted({sub.words(one) for one in sub.values}) if sub.has_options else []
    keep = sorted({sub.words(a), sub.words(b)})
    question = job.phrasing.of(sub.phrasings)
    turn = ask(job, question, sub.words(value), Truth(f"music_{sub.name}", {}, value), pool=pool, keep=keep)
    return Made((stage.close(),), ((turn,),))


def _two(job: Job, sub: SubSkill) -> tuple[Any, Any]:
    """Two values whose words differ."""
    while True:
        a, b = job.plan.sample(list(sub.values), 2)
        if sub.words(a) != sub.words(b):
            return a, b
