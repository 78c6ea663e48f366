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


@dataclass(frozen=True)
class Pattern:
    """A kind of statement.

    Attributes:
        topic: what it is about.
        text: with slots of `WORDS`.
        asks: question for the word in a slot, phrasings the last of which is held out; other slots may be filled in.
    """

    topic: str
    text: str
    asks: dict[str, tuple[str, ...]]


PATTERNS: tuple[Pattern, ...] = (
    Pattern("travel", "{who} takes the train to {city} on {day}.", {
        "city": ("Where does {who} go by train?", "What is the destination of {who}?"),
        "day": ("On which day does {who} take the train?", "When does {who} travel by train?")}),
    Pattern("travel", "The flight to {city} leaves at {time} on {day}.", {
        "time": ("At what time does the flight to {city} leave?", "What is the departure of the flight to {city}?"),
        "city": ("Where does the flight go?", "What is the destination of the flight?")}),
    Pattern("cooking", "For dinner {who} will cook {food} for {number} guests.", {
        "food": ("What will {who} cook?", "Which dish does {who} prepare?"),
        "number": ("How many guests does {who} cook for?", "For how many people is {who} cooking?")}),
    Pattern("cooking", "{who} burned the {food} in the oven again.", {
        "food": ("What did {who} burn?", "Which food was burned by {who}?")}),
    Pattern("work", "The meeting with {who} is at {time} on {day}.", {
        "who": ("Who is the meeting with?", "With whom is the meeting?"),
        "time": ("At what time is the meeting with {who}?", "When does the meeting with {who} begin?"),
        "day": ("On which day is the meeting with {who}?", "Which weekday is the meeting with {who}?")}),
    Pattern("work", "{who} has to write {number} reports before {day}.", {
        "number": ("How many reports must {who} write?", "What number of reports does {who} have to write?"),
        "day": ("Before which day must {who} write the reports?", "What is the deadline of {who}?")}),
    Pattern("weather", "On {day} we expect {sky} in {city}.", {
        "sky": ("What weather is expected in {city}?", "What is the forecast for {city}?"),
        "city": ("For which city is the weather told?", "Which city does the forecast mention?")}),
    Pattern("sport", "{who} plays {sport} every {day}.", {
        "sport": ("What does {who} play?", "Which sport does {who} do?"),
        "day": ("On which day does {who} play?", "When does {who} do sport?")}),
    Pattern("sport", "The {colour} team won the {sport} match by {number} points.", {
        "colour": ("Which team won the {sport} match?", "What is the colour of the team that won at {sport}?"),
        "number": ("By how many points was the {sport} match won?", "What was the margin in the {sport} match?")}),
    Pattern("music", "{who} practises the {instrument} for {number} hours a day.", {
        "instrument": ("Which instrument does {who} practise?", "What does {who} learn to play?"),
        "number": ("How many hours does {who} practise?", "For how long does {who} practise each day?")}),
    Pattern("gardening", "{who} planted {number} rows of {plant} last {day}.", {
        "plant": ("What did {who} plant?", "What grows in the rows of {who}?"),
        "number": ("How many rows did {who} plant?", "What number of rows was planted by {who}?")}),
    Pattern("school", "The {subject} lesson of {who} starts at {time}.", {
        "subject": ("Which lesson does {who} have?", "What subject is taught to {who}?"),
        "time": ("When does the lesson of {who} start?", "At what time does the teaching of {who} begin?")}),
    Pattern("household", "{who} left the {colour} {thing} in the {place}.", {
        "thing": ("What did {who} leave somewhere?", "Which object was left by {who}?"),
        "colour": ("Which colour is the thing that {who} left?", "What colour has the object of {who}?"),
        "place": ("Where did {who} leave the {thing}?", "In which place is the {thing} of {who}?")}),
    Pattern("shopping", "{who} bought {number} {colour} chairs at the {place} shop.", {
        "number": ("How many chairs did {who} buy?", "What number of chairs was bought by {who}?"),
        "colour": ("Which colour are the chairs of {who}?", "What colour did {who} choose for the chairs?")}),
)  # fmt: skip
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
