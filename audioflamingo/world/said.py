"""Statements whose content is known: who, what, where, when and why, and the questions that they answer.

Like `text`, the two sides are disjoint by construction: a statement belongs to "test" exactly if the hash of its
transcript says so.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audioflamingo.world.patterns import PATTERNS
from audioflamingo.world.text import finish, normalise, stable_hash

TEST_ONE_IN = 8
MAX_DRAWS = 10_000
_SLOT = re.compile(r"{(\w+?)}")

WORDS: dict[str, tuple[str, ...]] = {
    "who": ("Anna", "Peter", "Maria", "Tom", "Lucy", "David", "Emma", "Robert", "Julia", "Simon", "Helen", "Martin",
            "Sarah", "Daniel", "Clara", "Oliver"),
    "city": ("London", "Paris", "Berlin", "Madrid", "Rome", "Vienna", "Oslo", "Dublin", "Lisbon", "Prague", "Athens",
             "Boston"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "time": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "noon"),
    "number": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve"),
    "thing": ("keys", "glasses", "passport", "umbrella", "wallet", "notebook", "ticket", "camera", "letter", "jacket"),
    "place": ("kitchen", "garden", "garage", "library", "office", "cellar", "station", "museum", "market", "hotel"),
    "food": ("soup", "bread", "rice", "fish", "apple pie", "salad", "noodles", "pancakes", "cheese", "chicken"),
    "colour": ("red", "green", "blue", "yellow", "black", "white", "brown", "orange"),
    "sport": ("tennis", "football", "hockey", "chess", "golf", "basketball", "volleyball", "badminton"),
    "instrument": ("piano", "violin", "guitar", "flute", "trumpet", "cello", "clarinet", "harp"),
    "plant": ("roses", "tomatoes", "tulips", "carrots", "beans", "potatoes", "lilies", "onions"),
    "subject": ("history", "physics", "music", "biology", "English", "chemistry", "art", "geography"),
    "sky": ("rain", "snow", "fog", "sunshine", "storms", "wind", "hail", "frost"),
}  # fmt: skip


TOPICS = tuple(sorted({pattern.topic for pattern in PATTERNS}))

CAUSES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "{who} missed the bus",
        ("the alarm did not ring", "the road was closed", "the dog ran away", "the clock was slow"),
    ),
    ("{who} stayed at home", ("it was too hot outside", "a letter had to be written", "the car broke down")),
    (
        "{who} was very tired",
        ("the neighbours sang all night", "the work took ten hours", "the baby cried until morning"),
    ),
    ("{who} sold the house", ("the roof was leaking", "a new job began far away", "the garden was too small")),
    ("{who} called the doctor", ("the fever would not go down", "the knee was swollen", "the cough grew worse")),
)

EXCHANGES: tuple[tuple[str, str, str, str], ...] = (
    ("{who}, where did you put the {thing}?", "I put the {thing} in the {place}.", "place",
     "where the {thing} is"),
    ("{who}, when does the train to {city} leave?", "It leaves at {time}.", "time", "when the train leaves"),
    ("{who}, what shall we eat tonight?", "I would like {food}, please.", "food", "what to eat"),
    ("{who}, which colour shall we paint the wall?", "I think {colour} would look good.", "colour", "the colour"),
    ("{who}, how many chairs do we need?", "We need {number} chairs.", "number", "the number of chairs"),
)  # fmt: skip
"""Question, response, slot that answers it, what it is about."""


@dataclass(frozen=True)
class Statement:
    """A text to be said, and what it says: "topic", "slots", "pattern", "cause", "role" and the like."""

    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def belongs(text: str, test: bool) -> bool:
    """Whether a statement is on the test side (or the training side)."""
    return (stable_hash("said " + normalise(text)) % TEST_ONE_IN == 0) == test


def fill(text: str, slots: Mapping[str, str]) -> str:
    """The text with its slots filled in, as display text."""
    return finish(_SLOT.sub(lambda match: slots[match.group(1)], text))


def draw_slots(rng: random.Random, text: str) -> dict[str, str]:
    """A word for every slot of a text."""
    return {name: rng.choice(WORDS[name]) for name in dict.fromkeys(_SLOT.findall(text))}


def statement(
    rng: random.Random, *, test: bool = False, topic: str | None = None, avoid: frozenset[str] = frozenset()
) -> Statement:
    """A random statement of a side.

    Args:
        rng: draws it.
        test: the side.
        topic: one of `TOPICS`; None draws one.
        avoid: names of people who may not be in it.
    """
    topic = topic or rng.choice(TOPICS)
    fitting = [index for index, pattern in enumerate(PATTERNS) if pattern.topic == topic]
    for _ in range(MAX_DRAWS):
        index = rng.choice(fitting)
        slots = draw_slots(rng, PATTERNS[index].text)
        text = fill(PATTERNS[index].text, slots)
        if slots.get("who") not in avoid and belongs(text, test):
            return Statement(text, {"topic": topic, "slots": slots, "pattern": index})
    raise AssertionError(f"no statement about {topic}")


def statement_with(
    rng: random.Random, slot: str, word: str, *, test: bool = False, avoid: frozenset[str] = frozenset()
) -> Statement:
    """A random statement of a side that has a word in a slot.

    Args:
        rng: draws it.
        slot: a key of `WORDS` that some pattern has.
        word: that stands in it.
        test: the side.
        avoid: words that may not be in other slots.
    """
    fitting = [index for index, pattern in enumerate(PATTERNS) if slot in _SLOT.findall(pattern.text)]
    for _ in range(MAX_DRAWS):
        index = rng.choice(fitting)
        slots = {**draw_slots(rng, PATTERNS[index].text), slot: word}
        text = fill(PATTERNS[index].text, slots)
        if avoid.isdisjoint(slots.values()) and belongs(text, test):
            return Statement(text, {"topic": PATTERNS[index].topic, "slots": slots, "pattern": index})
    raise AssertionError(f"no statement with {word} as {slot}")


def question_about(said: Mapping[str, Any], slot: str, *, held_out: bool, rng: random.Random) -> str:
    """What to ask for the word in a slot of a statement."""
    phrasings = PATTERNS[said["pattern"]].asks[slot]
    chosen = phrasings[-1] if held_out else rng.choice(phrasings[:-1])
    return _SLOT.sub(lambda match: said["slots"][match.group(1)], chosen)


def varied(said: Statement, slot: str, rng: random.Random, *, test: bool = False) -> Statement | None:
    """The same statement with another word in one slot, or None where the side has none."""
    others = [word for word in WORDS[slot] if word != said.facts["slots"][slot]]
    rng.shuffle(others)
    for word in others:
        slots = {**said.facts["slots"], slot: word}
        text = fill(PATTERNS[said.facts["pattern"]].text, slots)
        if belongs(text, test):
            return Statement(text, {**said.facts, "slots": slots})
    return None


def twins(rng: random.Random, *, test: bool = False) -> tuple[Statement, Statement, str]:
    """Two statements that differ in one word, which can be asked for, and the slot that it stands in."""
    for _ in range(MAX_DRAWS):
        one = statement(rng, test=test)
        slot = rng.choice(sorted(PATTERNS[one.facts["pattern"]].asks))
        other = varied(one, slot, rng, test=test)
        if other:
            return one, other, slot
    raise AssertionError("no twins")


def causal(rng: random.Random, *, test: bool = False) -> Statement:
    """A statement with a reason: "Anna missed the bus because the road was closed."."""
    for _ in range(MAX_DRAWS):
        effect, causes = rng.choice(CAUSES)
        who, cause = rng.choice(WORDS["who"]), rng.choice(causes)
        effect_text = effect.format(who=who)
        if belongs(effect_text, test):  # so that all causes of an effect are on one side, and can be told apart there
            return Statement(
                f"{effect_text} because {cause}.",
                {"topic": "reasons", "who": who, "effect": effect_text, "cause": cause},
            )
    raise AssertionError("no causal statement")


def exchange(rng: random.Random, *, test: bool = False) -> tuple[Statement, Statement]:
    """A question and its response, to be said by two voices."""
    for _ in range(MAX_DRAWS):
        question, response, slot, about = rng.choice(EXCHANGES)
        slots = draw_slots(rng, question + response)
        texts = fill(question, slots), fill(response, slots)
        if belongs(texts[1] + texts[0], test):
            facts = {"topic": "exchange", "slots": slots, "slot": slot, "about": about.format(**slots)}
            return (
                Statement(texts[0], {**facts, "role": "question"}),
                Statement(texts[1], {**facts, "role": "response"}),
            )
    raise AssertionError("no exchange")


def replies(response: Mapping[str, Any]) -> dict[str, str]:
    """The texts of all responses to the question of an `exchange`, by the word that answers it.

    Args:
        response: facts of the one that is given.
    """
    slot, slots = response["slot"], response["slots"]
    (text,) = (text for _, text, answers, _ in EXCHANGES if answers == slot)
    return {word: fill(text, {**slots, slot: word}) for word in WORDS[slot]}
