"""The same question as other people would write it: greetings, requests, no capitals, no question mark."""

from __future__ import annotations

import random

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


def reworded(question: str, rng: random.Random, num_clips: int = 1) -> str:
    """Most questions as they are; options and all lines after the first stay in any case.

    Args:
        question: in one of its phrasings.
        rng: draws.
        num_clips: that come with it: "listen to this" is said of one.
    """
    first, line, rest = question.partition("\n")
    head, choose, options = first.partition(" Choose the correct option")
    chance = rng.random()
    if chance < BARE_SHARE:
        head = head[:1].lower() + head[1:].rstrip("?.")
    elif chance < BARE_SHARE + BEFORE_SHARE:
        words = rng.choice(BEFORE)
        head = (ONE_TO_MORE.get(words, words) if num_clips > 1 else words) + head
    elif chance < BARE_SHARE + BEFORE_SHARE + AFTER_SHARE and not choose:
        head += rng.choice(AFTER)
    return head + choose + options + line + rest
