"""What the model still sees of a conversation that has outgrown its context. Memory itself loses nothing.

The rule: whole exchanges (a question and its answer) are left out, oldest first, until the rest fits. Never left out
are the system message, the pinned beginning (in-context examples), the last question, and an exchange with a sound that
a later question in the prompt names as ``<sound-k>``. What was left out is said in a note.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from audioflamingo.errors import PromptError
from audioflamingo.types import Audio, Message

_TAG = re.compile(r"<sound-([0-9]{1,6})>", re.IGNORECASE)


def fitted(
    messages: tuple[Message, ...], num_pinned: int, fits: Callable[[tuple[Message, ...]], bool]
) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The messages that are sent, and a note where some are left out.

    Args:
        messages: a whole conversation whose last message is the user's.
        num_pinned: messages at the beginning that always stay.
        fits: whether the model takes a conversation.

    Raises:
        PromptError: it does not fit even with all left out that may be.
    """
    kept = list(range(len(messages)))
    dropped: list[int] = []
    while not fits(_selected(messages, kept)):
        exchange = _oldest_droppable(messages, kept, num_pinned)
        if exchange is None:
            raise PromptError(
                "the conversation does not fit the context even without its earlier exchanges; "
                "shorten the question or its sounds, lower max_new_tokens, or begin a new conversation"
            )
        dropped += exchange
        kept = [index for index in kept if index not in exchange]
    return _selected(messages, kept), _note(messages, dropped, num_pinned)


def num_sounds(messages: Sequence[Message]) -> int:
    """Sounds in the messages, in all places where they were said."""
    return sum(isinstance(part, Audio) for message in messages for part in message.content)


def _oldest_droppable(messages: tuple[Message, ...], kept: list[int], num_pinned: int) -> list[int] | None:
    for place, index in enumerate(kept):
        if index < num_pinned or messages[index].role != "user" or index == kept[-1]:
            continue
        exchange = [index]
        for follower in kept[place + 1 :]:
            if messages[follower].role == "user":
                break
            exchange.append(follower)
        rest = [other for other in kept if other not in exchange]
        if not _named(messages, rest) & _own_sounds(messages, exchange):
            return exchange
    return None


def _own_sounds(messages: tuple[Message, ...], indices: Sequence[int]) -> set[int]:
    """Numbers, from 1, of the sounds that are said in these messages."""
    found: set[int] = set()
    for index in indices:
        before = num_sounds(messages[:index])
        found |= set(range(before + 1, before + 1 + num_sounds(messages[index : index + 1])))
    return found


def _named(messages: tuple[Message, ...], indices: Sequence[int]) -> set[int]:
    texts = (
        part for index in indices if messages[index].role != "assistant"
        for part in messages[index].content if isinstance(part, str)
    )  # fmt: skip
    return {int(number) for text in texts for number in _TAG.findall(text)}


def _selected(messages: tuple[Message, ...], kept: list[int]) -> tuple[Message, ...]:
    """These messages, their ``<sound-k>`` counted anew."""
    if len(kept) == len(messages):
        return messages
    old_numbers = sorted(_own_sounds(messages, kept))
    new_number = {old: new for new, old in enumerate(old_numbers, start=1)}

    def renumbered(part: str | Audio, role: str) -> str | Audio:
        if isinstance(part, Audio) or role == "assistant":
            return part
        return _TAG.sub(lambda tag: f"<sound-{new_number.get(int(tag[1]), tag[1])}>", part)

    return tuple(
        Message(messages[index].role, tuple(renumbered(part, messages[index].role) for part in messages[index].content))
        for index in kept
    )


def _note(messages: tuple[Message, ...], dropped: list[int], num_pinned: int) -> tuple[str, ...]:
    if not dropped:
        return ()
    turns = [index for index, message in enumerate(messages) if message.role == "user" and index >= num_pinned]
    numbers = sorted(turns.index(index) + 1 for index in dropped if index in turns)
    sounds = num_sounds([messages[index] for index in dropped])
    return (
        f"the context is full: question {', '.join(map(str, numbers))} of this conversation, with answer and "
        f"{sounds} sound(s), left out of the prompt (oldest first)",
    )
