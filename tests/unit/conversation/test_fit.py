"""What is left out of a full context, against a slow twin that follows the stated rule step by step."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.conversation import PromptSize
from audioflamingo.conversation.fit import fitted, num_sounds
from audioflamingo.errors import PromptError
from audioflamingo.types import Audio, Message

TAG = re.compile(r"<sound-([0-9]+)>")
SOUNDS = [Audio(np.full(100, number, np.float32), str(number)) for number in range(4)]


def size(messages):
    """A length that shrinks with every message: tags count as one, whatever their number."""
    return sum(
        40 if isinstance(part, Audio) else len(TAG.sub("x", part)) for one in messages for part in one.content
    ) + len(messages)  # fmt: skip


def numbers_said(messages, index):
    before = num_sounds(messages[:index])
    return set(range(before + 1, before + 1 + num_sounds(messages[index : index + 1])))


def names(messages, indices):
    return {
        int(number)
        for index in indices
        if messages[index].role != "assistant"
        for part in messages[index].content
        if isinstance(part, str)
        for number in TAG.findall(part)
    }


def slow(messages, num_pinned, limit):
    """Indices that stay: the oldest exchange whose sounds nothing else names goes, until the rest fits; or None."""
    kept = list(range(len(messages)))
    while size([messages[index] for index in kept]) > limit:
        for place, index in enumerate(kept):
            if index < num_pinned or messages[index].role != "user" or index == kept[-1]:
                continue
            followers = kept[place + 1 :]
            stop = next((at for at, other in enumerate(followers) if messages[other].role == "user"), len(followers))
            exchange = [index, *followers[:stop]]
            rest = [other for other in kept if other not in exchange]
            if not set().union(*(numbers_said(messages, one) for one in exchange)) & names(messages, rest):
                kept = rest
                break
        else:
            return None
    return kept


@st.composite
def conversations(draw):
    """Roles in nearly any order, the last message the user's; tags name sounds that were said before."""
    messages, num = [], 0
    roles = draw(st.lists(st.sampled_from(["user", "assistant", "user", "assistant", "system"]), max_size=14))
    for role in [*roles, "user"]:
        own = draw(st.lists(st.sampled_from(SOUNDS), max_size=2)) if role == "user" else []
        num += len(own)
        text = "y" * draw(st.integers(1, 60))
        if num and draw(st.booleans()):
            text += f" <sound-{draw(st.integers(1, num))}>"
        messages.append(Message(role, (*own, text)))
    return tuple(messages), draw(st.integers(0, len(messages) - 1))


@given(conversations(), st.floats(0, 1))
def test_it_is_the_stated_rule(conversation, share):
    messages, num_pinned = conversation
    limit = int(size(messages) * share)
    expected = slow(messages, num_pinned, limit)
    if expected is None:
        with pytest.raises(PromptError, match="even without its earlier exchanges"):
            fitted(messages, num_pinned, lambda some: size(some) <= limit)
        return
    sent, notes = fitted(messages, num_pinned, lambda some: size(some) <= limit)
    assert [(one.role, TAG.sub("x", one.content[-1])) for one in sent] == [
        (messages[index].role, TAG.sub("x", messages[index].content[-1])) for index in expected
    ]
    assert bool(notes) == (len(sent) < len(messages))
    before = [part for one in messages for part in one.content if isinstance(part, Audio)]
    after = [part for one in sent for part in one.content if isinstance(part, Audio)]
    for one, index in zip(sent, expected, strict=True):
        if one.role != "assistant":  # a number still means the same sound
            for new, old in zip(TAG.findall(one.content[-1]), TAG.findall(messages[index].content[-1]), strict=True):
                assert after[int(new) - 1] is before[int(old) - 1]


def test_thousands_of_turns_are_measured_a_few_times():
    turns = [Message("user", (f"Question {number}?",)) for number in range(4_000)]
    answers = [Message("assistant", ("Yes.",))] * len(turns)
    messages = tuple(one for pair in zip(turns, answers, strict=True) for one in pair)[:-1]
    measured = []

    def fits(some):
        measured.append(len(some))
        return len(some) <= 101

    sent, (note,) = fitted(messages, 0, fits)
    assert len(sent) == 101
    assert "question 1 to 3949 of this conversation" in note
    assert len(measured) <= 14


def test_a_size_that_does_not_fit_says_what_will_be_left_out():
    assert str(PromptSize(300, 100, 400)) == (
        "300 of 400 prompt tokens used, 100 of them audio; 100 left (25 a second of sound)"
    )
    assert str(PromptSize(417, 100, 400)).endswith(
        "17 too many, so the oldest questions are left out of the next prompt"
    )
