"""The same question as other people would write it: greetings, requests, no capitals, no question mark."""

from __future__ import annotations

import random
import re
from functools import cache

from audioflamingo.world import tasks
from audioflamingo.world.skills import whole
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
# Transcripts are what is asked for most, in words that no list holds.
COMPOSED_SHARE = 0.35  # of the questions for a transcript
ASKED_FOR_WORDS = frozenset((*tasks.TRANSCRIBE, *whole.TRANSCRIBE))
WORDS_HELD_OUT = frozenset((tasks.TRANSCRIBE[-1], whole.TRANSCRIBE[-1]))
WHAT_IS_SAID = (
    "the speech", "the audio", "what is said", "the recording", "the words", "the spoken words", "everything said",
    "all that is said", "what you hear being said", "the talk", "this speech", "the voice", "what the person says",
    "every word", "the sentence", "what is being said",
)  # fmt: skip
WRITE = (
    "transcribe {}", "write down {}", "write out {}", "type {}", "type out {}", "note down {}", "turn {} into text",
    "convert {} to text", "put {} into writing", "put {} down in writing", "put {} on paper", "get {} into text",
    "give me {} as text", "give {} in writing", "spell out {}", "make a transcript of {}", "produce a transcript of {}",
    "take down {}", "render {} as text", "repeat {}",
)  # fmt: skip
REQUESTS = ("{}.", "Please {}.", "{}, please.", "Can you {}?", "Could you {}?", "I want you to {}.", "Now {}.", "{}")


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


def asking_for_words(rng: random.Random) -> str:
    """A request for a transcript, put together from a verb, what is to be written, and how one asks; none held out."""
    while True:
        text = rng.choice(REQUESTS).format(rng.choice(WRITE).format(rng.choice(WHAT_IS_SAID)))
        text = text[:1].upper() + text[1:]
        if not any(held_out.rstrip(".?").lower() in text.lower() for held_out in WORDS_HELD_OUT):
            return text


def reworded(question: str, rng: random.Random, num_clips: int = 1) -> str:
    """Most questions as they are; options and all lines after the first stay in any case.

    Args:
        question: in one of its phrasings.
        rng: draws.
        num_clips: that come with it: "listen to this" is said of one.
    """
    if question in ASKED_FOR_WORDS and rng.random() < COMPOSED_SHARE:
        question = asking_for_words(rng)
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
