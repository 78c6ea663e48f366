"""A small grammar of random text: alternatives, optional parts, slots for inflected words, rules that use rules.

Notation of one alternative:

* `(could|can|would) you` one of several texts; an empty one makes the part optional.
* `{food}` a word of class `food`; `{food|drink}` of either; `{food.pl}`, `{cook.ing}` inflected (`inflection.FORMS`).
* `{=take.ed}` this very word, inflected.
* `{place_np}` an alternative of rule `place_np`; `{vp.ed}` likewise, and inside that rule `.*` stands for `ed`.
* `{time}`, `{price}` and the other names of `numbers.NUMBER_SLOTS` call a function.
"""

import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from audioflamingo.errors import FlamingoError
from audioflamingo.world.lexicon import word_classes
from audioflamingo.world.lexicon.inflection import FORMS
from audioflamingo.world.lexicon.numbers import NUMBER_SLOTS

# One in so many nouns of these classes gets an adjective of the class beside it.
ADJECTIVE_ONE_IN = 8
ADJECTIVE_OF = {
    "thing": "a_thing", "household": "a_thing", "tool": "a_thing", "container": "a_thing", "furniture": "a_thing",
    "buyable": "a_thing", "vehicle": "a_thing", "clothes": "a_colour", "rare": "a_thing", "animal": "a_animal",
    "building": "a_place", "room": "a_place", "nature": "a_place", "food": "a_food", "dish": "a_food",
    "profession": "a_person", "person": "a_person", "family": "a_person", "abstract": "a_idea", "event": "a_idea",
    "word_thing": "a_idea", "work_thing": "a_idea", "science_thing": "a_idea", "plant": "a_colour",
}  # fmt: skip

_TOKEN = re.compile(r"[{}()|]|[^{}()|]+")


@dataclass(slots=True)
class Text:
    """Fixed text."""

    text: str

    def expand(self, rng: random.Random, out: list[str]) -> None:
        """Append the text."""
        out.append(self.text)


@dataclass(slots=True)
class Words:
    """A random entry of a list of ready surface forms."""

    words: list[str]

    def expand(self, rng: random.Random, out: list[str]) -> None:
        """Append one entry."""
        words = self.words
        out.append(words[int(rng.random() * len(words))])


@dataclass(slots=True)
class Call:
    """A random text from a function (numbers, times, ...)."""

    function: Callable[[random.Random], str]

    def expand(self, rng: random.Random, out: list[str]) -> None:
        """Append what the function returns."""
        out.append(self.function(rng))


@dataclass(slots=True)
class Choice:
    """One of several sequences of nodes; a weight is kept as repetition."""

    alternatives: list[list["Node"]] = field(default_factory=list)

    def expand(self, rng: random.Random, out: list[str]) -> None:
        """Append the expansion of one alternative."""
        alternatives = self.alternatives
        for node in alternatives[int(rng.random() * len(alternatives))]:
            node.expand(rng, out)


Node = Text | Words | Call | Choice


class Grammar:
    """Templates compiled against the lexicon.

    Args:
        rules: alternatives with weights, by rule name.
        surfaces: maps (words of a class, form) to the surface forms that may be used; this is where a split withholds
            or favours words.
    """

    def __init__(
        self,
        rules: dict[str, list[tuple[int, str]]],
        surfaces: Callable[[tuple[str, ...], str], list[str]],
    ) -> None:
        self._rules = rules
        self._surfaces = surfaces
        self._compiled: dict[tuple[str, str], Node] = {}
        self._words_of: dict[tuple[str, str], Words] = {}

    def rule(self, name: str, form: str = "") -> Node:
        """The compiled rule `name`, whose `.*` slots take `form`; compiled once."""
        key = (name, form)
        if key not in self._compiled:
            choice = Choice()
            self._compiled[key] = choice  # before its parts, so that a rule may use itself
            for weight, line in self._rules[name]:
                choice.alternatives.extend([self.parse(line, form)] * weight)
        return self._compiled[key]

    def parse(self, line: str, form: str = "") -> list[Node]:
        """Compile one alternative.

        Raises:
            FlamingoError: brackets do not match or a slot names no class, rule, form or number slot.
        """
        tokens = _TOKEN.findall(line)
        nodes, end = self._sequence(tokens, 0, form)
        if end != len(tokens):
            raise FlamingoError(f"unbalanced brackets in the template {line!r}; close every '(' and '{{'")
        return nodes

    def _sequence(self, tokens: list[str], at: int, form: str) -> tuple[list[Node], int]:
        nodes: list[Node] = []
        while at < len(tokens) and tokens[at] not in ")|":
            if tokens[at] == "(":
                node, at = self._group(tokens, at + 1, form)
            elif tokens[at] == "{":
                close = tokens.index("}", at)
                node, at = self._slot("".join(tokens[at + 1 : close]), form), close + 1
            else:
                node, at = Text(tokens[at]), at + 1
            nodes.append(node)
        return nodes, at

    def _group(self, tokens: list[str], at: int, form: str) -> tuple[Node, int]:
        choice = Choice()
        while True:
            nodes, at = self._sequence(tokens, at, form)
            choice.alternatives.append(nodes)
            if at == len(tokens):
                raise FlamingoError(f"unbalanced '(' in the template {''.join(tokens)!r}; close every '('")
            at += 1
            if tokens[at - 1] == ")":
                return choice, at

    def _slot(self, slot: str, outer_form: str) -> Node:
        name, _, form = slot.partition(".")
        form = outer_form if form == "*" else form
        if name in NUMBER_SLOTS:
            return Call(NUMBER_SLOTS[name])
        if name in self._rules:
            return self.rule(name, form)
        classes = word_classes()
        unknown = [part for part in name.split("|") if not part.startswith("=") and part not in classes]
        if unknown or form not in FORMS:
            raise FlamingoError(f"the slot {{{slot}}} names no known class, rule or form; add it to the lexicon")
        if name.startswith("="):
            return Text(FORMS[form](name[1:]))
        noun = self._words(name, form)
        if name not in ADJECTIVE_OF:
            return noun
        bare: list[Node] = [noun]
        return Choice([bare] * (ADJECTIVE_ONE_IN - 1) + [[self._words(ADJECTIVE_OF[name], ""), Text(" "), noun]])

    def _words(self, name: str, form: str) -> Words:
        key = (name, form)
        if key not in self._words_of:
            words = (word for part in name.split("|") for word in word_classes()[part].words)
            self._words_of[key] = Words(self._surfaces(tuple(dict.fromkeys(words)), form))
        return self._words_of[key]


def reachable_texts(roots: Iterable[Node]) -> Iterator[str]:
    """Every fixed text and word that some expansion of `roots` can contain (number slots aside)."""
    pending, seen = list(roots), set[int]()
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Words):
            yield from node.words
        elif isinstance(node, Choice):
            pending.extend(part for alternative in node.alternatives for part in alternative)
