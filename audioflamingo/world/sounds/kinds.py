"""What a sound event is called, and what a recipe for making it consists of."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from audioflamingo.world.sounds.synthesis import Samples

PLURALS = ("people", "crickets", "waves", "fireworks")
Variant = Callable[[np.random.Generator, float], Samples]
"""Makes one unit of a sound: (generator, duration in seconds) -> samples, of that duration or shorter."""


@dataclass(frozen=True)
class Kind:
    """The words for one kind of sound.

    Attributes:
        name: identifier, such as "dog_bark".
        label: noun phrase of the sound, "a dog barking".
        noun: what makes it, "dog".
        sentence: clause for captions, "a dog barks".
        family: group of related kinds, "animals".
        phrases: other wordings that questions may use.
        countable: whether single events of it can be told apart and counted.
        steady: whether it goes on for as long as asked, as rain does.
    """

    name: str
    label: str
    noun: str
    sentence: str
    family: str
    phrases: tuple[str, ...]
    countable: bool = True
    steady: bool = False

    @property
    def question(self) -> str:
        """The sentence as a question's clause, "does a dog bark"."""
        words = self.sentence.removesuffix(" once").split()  # it is asked how often, too
        if words[0] in PLURALS:
            return f"do {self.sentence}"
        verb = next(i for i, word in enumerate(words) if i and word.endswith("s"))
        before, after = words[:verb], words[verb + 1 :]
        if words[verb] == "is":
            return " ".join(["is", *before, *after])
        return " ".join(["does", *before, _infinitive(words[verb]), *after])


def _infinitive(verb: str) -> str:
    """Of a third person: "barks", "cries", "crashes"."""
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    return verb[:-2] if re.search(r"(ch|sh|ss|x|zz)es$", verb) else verb[:-1]


@dataclass(frozen=True)
class Recipe:
    """How one kind is made.

    Attributes:
        kind: its words.
        unit_s: shortest and longest natural unit, in seconds.
        variants: independent algorithms; the last is held out from training.
        most_repeats: most units in one natural event (a burst of barks).
        gap_s: shortest and longest silence between them, in seconds.
    """

    kind: Kind
    unit_s: tuple[float, float]
    variants: tuple[Variant, ...]
    most_repeats: int = 1
    gap_s: tuple[float, float] = (0.1, 0.4)
