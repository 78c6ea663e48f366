"""Conversations in convenient forms, brought to `Message` tuples and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from audioflamingo.errors import PromptError
from audioflamingo.prompt.placeholders import place_sounds
from audioflamingo.types import Audio, Message, Role

MAX_MESSAGES = 4_096
MAX_TEXT_CHARS = 1_000_000  # far beyond any budget of tokens; keeps a giant text from being tokenised at all

_ROLES = get_args(Role)


def as_messages(conversation: Sequence[Message | Mapping[str, Any]] | Message | str) -> tuple[Message, ...]:
    """Bring a conversation to the form that `build` works on.

    Args:
        conversation: messages, or dicts `{"role": ..., "content": ...}` whose content is a string, an `Audio`, or a
            list of strings, `Audio` objects, `{"type": "text", "text": str}` and `{"type": "audio", "audio": Audio}`
            (the `type` may be left out). A single message, or one string as the user's question, will do, too.

    Raises:
        PromptError: it is empty, too large, or has an unknown role or item.
    """
    if isinstance(conversation, str):
        conversation = Message("user", (conversation,))
    if isinstance(conversation, Message | Mapping):
        conversation = [conversation]
    if not isinstance(conversation, Sequence) or not conversation:
        raise PromptError("the conversation is empty; give at least one message of the user")
    if len(conversation) > MAX_MESSAGES:
        raise PromptError(f"the conversation has {len(conversation):,} messages; at most {MAX_MESSAGES:,} are allowed")
    messages = tuple(_message(entry, number) for number, entry in enumerate(conversation, start=1))
    num_chars = _num_chars(messages)
    if num_chars > MAX_TEXT_CHARS:
        raise PromptError(f"the conversation has {num_chars:,} characters of text; at most {MAX_TEXT_CHARS:,} fit")
    return messages


def is_measurable(messages: Sequence[Message]) -> bool:
    """Whether the messages keep the limits within which tokens are counted at all."""
    return len(messages) <= MAX_MESSAGES and _num_chars(messages) <= MAX_TEXT_CHARS


def _num_chars(messages: Sequence[Message]) -> int:
    return sum(len(part) for message in messages for part in message.content if isinstance(part, str))


def check_contents(messages: Sequence[Message]) -> None:
    """Check messages from which a conversation goes on, whoever spoke last: what could never be part of a prompt.

    Raises:
        PromptError: a user's message is empty, a text is no valid Unicode, or a tag names a sound that is not there.
    """
    _check_users(messages)
    for number, message in enumerate(messages, start=1):
        for text in (part for part in message.content if isinstance(part, str)):
            if any("\ud800" <= letter <= "\udfff" for letter in text):
                raise PromptError(f"message {number} holds half of a surrogate pair; only whole characters can be said")
    if messages:
        as_messages(messages)
        place_sounds(messages, placeholders=True)


def _check_users(messages: Sequence[Message]) -> None:
    for number, message in enumerate(messages, start=1):
        if message.role == "user" and not any(message.content):
            raise PromptError(f"message {number} of the user is empty; give it text or a sound")


def check_turns(messages: Sequence[Message], continue_final: bool) -> None:
    """Check that the model's turn is next, or that there is an answer to continue.

    Raises:
        PromptError: it is somebody else's turn, or a user's message is empty.
    """
    _check_users(messages)
    last = messages[-1]
    if continue_final and not (
        last.role == "assistant" and any(isinstance(part, str) and part for part in last.content)
    ):
        raise PromptError(
            f"continue_final needs a last message of the assistant with text, but it is of the {last.role}; "
            "add the beginning of the answer, or leave continue_final out"
        )
    if not continue_final and last.role != "user":
        raise PromptError(
            f"the last message is of the {last.role}, but an answer needs a last message of the user; "
            "add one, or pass continue_final=True to continue a message of the assistant"
        )


def _message(entry: Any, number: int) -> Message:
    role: Any
    content: Any
    if isinstance(entry, Message):
        role, content = entry.role, entry.content
    elif isinstance(entry, Mapping) and "role" in entry and "content" in entry:
        role, content = entry["role"], entry["content"]
    else:
        raise PromptError(f"message {number} is {_shown(entry)}; expected a Message or a dict with role and content")
    if role not in _ROLES:
        raise PromptError(f"message {number} has the role {role!r}; allowed are {', '.join(_ROLES)}")
    if isinstance(content, str | Audio | Mapping):
        content = (content,)
    if not isinstance(content, Sequence):
        raise PromptError(f"message {number} has {_shown(content)} as content; expected a string or a list of items")
    return Message(role, tuple(_part(item, number) for item in content))


def _part(item: Any, number: int) -> str | Audio:
    if isinstance(item, Mapping):
        kind = item.get("type", "audio" if "audio" in item else "text")
        if kind not in ("text", "audio") or kind not in item:
            raise PromptError(
                f"message {number} has an item with the keys {sorted(map(str, item))} and the type {kind!r}; "
                'expected {"type": "text", "text": ...} or {"type": "audio", "audio": ...}'
            )
        item = item[kind]
        if isinstance(item, str) and kind == "audio":
            raise PromptError(f"message {number} has {_shown(item)} as audio; load the file first and give the Audio")
    if not isinstance(item, str | Audio):
        raise PromptError(f"message {number} has {_shown(item)} in its content; expected text or an Audio")
    return item


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
