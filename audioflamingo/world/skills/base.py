"""What every generator of questions is made of: a job to do, turns with their truth, and ways of putting a question.

A turn names the rule by which its truth follows from the timeline and what that rule is about, so that a checker that
shares no code with the generators can find the truth again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from audioflamingo.world import sounds
from audioflamingo.world.cast import Voice, draw_cast
from audioflamingo.world.scenes import Dice
from audioflamingo.world.tasks import Phrasing
from audioflamingo.world.timeline import Heard, Stage, Timeline, World
from audioflamingo.world.voices import Sex

Family = Literal["AudioSkills", "LongAudio", "AF-Think", "AF-Chat", "caption", "transcript"]

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
UNKNOWN = "The recording does not say."
CHOOSE = "Choose the correct option from the following options:"
LETTERS = "ABCDEFGH"

# One unit of these is one event to the ear in every synthesis family, so they can be counted.
SINGLE_KINDS = (
    "dog_bark", "cat_meow", "cow_moo", "sheep_bleat", "pig_oink", "crow_caw", "whistle", "door_slam", "hand_clap",
    "sneeze", "drum", "guitar", "violin",
)  # fmt: skip
EVENT_KINDS = tuple(sorted(name for name, kind in sounds.KINDS.items() if kind.countable and not kind.steady))
STEADY_KINDS = tuple(sorted(name for name, kind in sounds.KINDS.items() if kind.steady))
BED_KINDS = (
    "stream", "sea_waves", "wind", "fire_crackling", "applause", "engine", "helicopter", "train", "vacuum_cleaner",
    "washing_machine", "typing", "clock_tick", "cricket", "water_drops",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    """One question and its answer.

    Attributes:
        question: without the sound's placeholder.
        answer: the truth in words.
        rule: by which the truth follows from the timeline, a name in `check.RULES`.
        about: what the rule needs to know.
        value: the truth itself, a JSON value.
        options: of a multiple choice; empty for open questions.
        clip: index of the clip that the question is about.
        brings: indices of the clips that come with this turn, in order; where a scene is one clip, its first turn
            brings it and this is left empty.
        given: whether the answer is an example of the user's, which nobody could know.
    """

    question: str
    answer: str
    rule: str
    about: Mapping[str, Any]
    value: Any
    options: tuple[str, ...] = ()
    clip: int = 0
    brings: tuple[int, ...] = ()
    given: bool = False


@dataclass(frozen=True, eq=False)
class Made:
    """What a generator made of one job: clips, and dialogues about them."""

    clips: tuple[Timeline, ...]
    dialogues: tuple[tuple[Turn, ...], ...]


@dataclass(frozen=True)
class Job:
    """One order to a generator.

    Attributes:
        world: sources.
        dice: for the scene and the rendering.
        plan: for what is to be in it: starts the same for both of a counterfactual pair.
        asking: for the words and the form of the question: the same for both of a pair, whatever the plan drew.
        flip: make the other one of the pair: the same question with another answer.
    """

    world: World
    dice: Dice
    plan: random.Random
    asking: random.Random
    flip: bool = False
    phrasing: Phrasing = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "phrasing", Phrasing(self.asking, self.world.held_out_phrasings))

    @property
    def test(self) -> bool:
        """Whether statements come from the test side."""
        return self.world.split != "train"

    @property
    def has_both_sexes(self) -> bool:
        """Whether the engines have voices of women and of men."""
        return len({voice.sex for voice in draw_cast(random.Random(0), self.world.engines, ("female", "male"))}) == 2

    def stage(self) -> Stage:
        """An empty stage."""
        return Stage(self.world, self.dice)

    def cast(self, *sexes: Sex | None, paces: tuple[str, ...] = ("normal",)) -> tuple[Voice, ...]:
        """Distinct voices, drawn by the plan."""
        return draw_cast(self.plan, self.world.engines, sexes, paces=paces, tract_share=self.world.tract_share)

    def pair(self, values: Sequence[Any]) -> Any:
        """One of the values, or, when flipped, another one: both are drawn, so that either is equally likely."""
        first, second = self.plan.sample(list(values), 2)
        return second if self.flip else first

    def coin(self, chance: float = 0.5) -> bool:
        """Whether something happens in both of a pair."""
        return self.plan.random() < chance


@dataclass(frozen=True)
class Skill:
    """A generator with its place in the taxonomy of the paper.

    Attributes:
        name: on the command line and in ids.
        family: data set of the paper that it stands for.
        about: a line for humans.
        make: does a job.
        paired: whether flipped jobs ask the same question with another answer.
        is_long: whether scenes last 30 s and more.
        in_tokenizer: whether the embedded model's tokenizer was made of its words, too; it is older than some skills.
        coded: whether clips go through codecs, as often as the world's strength says.
    """

    name: str
    family: Family
    about: str
    make: Callable[[Job], Made]
    paired: bool = True
    is_long: bool = False
    in_tokenizer: bool = True
    coded: bool = False


def label(kind: str) -> str:
    """Noun phrase of a kind: "a dog barking"."""
    return {"speech": "a person speaking", "music": "music"}.get(kind) or sounds.KINDS[kind].label


def does(kind: str) -> str:
    """A question's clause about a kind: "does a dog bark"."""
    return {"speech": "does anybody speak", "music": "does music play"}.get(kind) or sounds.KINDS[kind].question


def happens(kind: str) -> str:
    """The same where it is counted: of a sound that may be several in a row, whether one hears it."""
    return does(kind) if kind in SINGLE_KINDS else f"do you hear {label(kind)}"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + "."


def clip_by_clip(told: Sequence[str]) -> str:
    """What each of several clips contains: "First clip: a dog barking. Second clip: rain falling."."""
    return " ".join(f"{ORDINALS[place].capitalize()} clip: {one}." for place, one in enumerate(told))


def person(event: Heard) -> str:
    """The speaker: "a woman" or "a man"."""
    assert event.voice is not None
    return "a woman" if event.voice["sex"] == "female" else "a man"


def number_word(value: int) -> str:
    """In words up to twelve."""
    return NUMBERS[value] if value < len(NUMBERS) else str(value)


def seconds(value: float) -> str:
    """Such as "12.3 s"."""
    return f"{value:.1f} s"


@dataclass(frozen=True)
class Truth:
    """The rule, what it is about, and the value that it gives; see `Turn`."""

    rule: str
    about: Mapping[str, Any]
    value: Any


def ask(
    job: Job,
    question: str,
    right: str,
    truth: Truth,
    *,
    pool: Sequence[str] = (),
    keep: Sequence[str] = (),
    told: str | None = None,
) -> Turn:
    """A turn: open, or half of the time a multiple choice where there is a pool of options.

    Args:
        job: decides the form.
        question: as it is asked.
        right: the right option.
        truth: what the answer follows from.
        pool: all texts that may be options.
        keep: those that must be among them, such as the counterfactual's right one.
        told: the open answer; None makes a sentence of `right`.
    """
    if not pool or job.asking.random() < 0.5:
        return Turn(question, told or sentence(right), truth.rule, truth.about, truth.value)
    return choose(job, question, right, truth, pool=pool, keep=keep)


def choose(job: Job, question: str, right: str, truth: Truth, *, pool: Sequence[str], keep: Sequence[str] = ()) -> Turn:
    """A multiple choice of four, or of as many as there are; arguments as those of `ask`."""
    fixed = sorted({right, *keep})
    others = [option for option in sorted(set(pool)) if option not in fixed]
    options = sorted(fixed + job.asking.sample(others, min(len(others), max(0, 4 - len(fixed)))))
    job.asking.shuffle(options)
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    text = "\n".join([f"{question} {CHOOSE}", *lines])
    return Turn(text, lines[options.index(right)], truth.rule, truth.about, truth.value, tuple(options))


def yes_no(job: Job, question: str, value: bool, rule: str, about: Mapping[str, Any]) -> Turn:
    """A question that is answered by yes or no."""
    return Turn(question, "Yes." if value else "No.", rule, about, value)
