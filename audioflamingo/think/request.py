"""Asking for thoughts: the sentence that the released model was trained on, behind the last question."""

from __future__ import annotations

from dataclasses import replace

from audioflamingo.prompt import THINK_SUFFIX
from audioflamingo.types import Message


def with_think_suffix(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation with the request to think in a line of its own at the end of the user's last message.

    A message that holds the request already stays as it is.
    """
    last = messages[-1]
    texts = [part for part in last.content if isinstance(part, str)]
    if last.role != "user" or any(THINK_SUFFIX in text for text in texts):
        return messages
    suffix = f"\n{THINK_SUFFIX}" if any(texts) else THINK_SUFFIX
    return (*messages[:-1], replace(last, content=(*last.content, suffix)))
