"""The same question as other people would write it: greetings, requests, no capitals, no question mark."""

from __future__ import annotations

import random
import re
from functools import cache

from audioflamingo.world.sounds import KINDS

OTHERWISE_SHARE = 0.3  # of the names of sounds in questions
VAGUE = ("bird", "insect", "person", "can")  # there are others of their kind, or it is not heard at all
BARE_SHARE, BEFORE_SHARE, AFTER_SHARE = 0.15, 0.12, 0.08
BEFORE = (
    "Please tell me: ", "Listen carefully. ", "Question: ", "Tell me: ", "Can you say: ", "Listen to this. ",
    "Answer this: ", "I would like to know: ", "Hi! ", "Hello. ", "Quick question: ", "One more thing: ", "And now: ",
)  # fmt: skip
ONE_TO_MORE = {"Listen to this. ": "Listen to these. "}
AFTER = (
    " Answer briefly.", " Please.", " Thank you.", " Be short.", " Tell me.", " Give the answer only.", " Thanks!",
    " Answer in a word or two.",
)  # fmt: skip


@cache
def other_names() -> dict[str, tuple[str, ...]]:
    """By the name that answers use: what else people call a sound, "a rooster", "a crowing cock"."""
    found = {kind.label: (*kind.phrases, *_what_makes(name)) for name, kind in KINDS.items()}
    return {label: names for label, names in found.items() if names}


def _what_makes(name: str) -> tuple[str, ...]:
    """Such as "a rooster", unless other kinds of sound have one too."""
    kind = KINDS[name]
    others = " ".join(" ".join((one.label, one.noun, *one.phrases)) for one in KINDS.values() if one is not kind)
    found = re.match(rf"an? {re.escape(kind.noun)}\b", kind.label)
    is_its_own = kind.noun not in VAGUE and not re.search(rf"\b{re.escape(kind.noun)}", others)
    return (found.group(),) if found and is_its_own and found.group() != kind.label else ()


@cache
def _labels() -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(other_names(), key=len, reverse=True))))


def otherwise(text: str, rng: random.Random) -> str:
    """With other names for some of the sounds that are named in it."""

    def name(found: re.Match[str]) -> str:
        return rng.choice(other_names()[found.group()]) if rng.random() < OTHERWISE_SHARE else found.group()

    return _labels().sub(name, text)


def reworded(question: str, rng: random.Random, num_clips: int = 1) -> str:
    """Most questions as they are; options and all lines after the first stay in any case.

    Args:
        question: in one of its phrasings.
        rng: draws.
        num_clips: that come with it: "listen to this" is said of one.
    """
    first, line, rest = question.partition("\n")
    head, choose, options = first.partition(" Choose the correct option")
    head = otherwise(head, rng)
    chance = rng.random()
    if chance < BARE_SHARE:
        head = head[:1].lower() + head[1:].rstrip("?.")
    elif chance < BARE_SHARE + BEFORE_SHARE:
        words = rng.choice(BEFORE)
        head = (ONE_TO_MORE.get(words, words) if num_clips > 1 else words) + head
    elif chance < BARE_SHARE + BEFORE_SHARE + AFTER_SHARE and not choose:
        head += rng.choice(AFTER)
    return head + choose + options + line + rest
