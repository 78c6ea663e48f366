"""Where each sound stands among the text: by the caller's `<sound>` and `<sound-k>`, or first in its message."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audioflamingo.errors import PromptError
from audioflamingo.types import Audio, Message, Role

_TAG = re.compile(r"<sound(?:-([0-9]{1,6}))?>", re.IGNORECASE)
_NAME_TAG = re.compile(r"<sound:[^<>\n]{0,255}>", re.IGNORECASE)  # a chat puts a number for it
_BLANKS = " \t\n"


@dataclass(frozen=True)
class Slot:
    """The place of one sound: an index into the conversation's sounds, counted as they are said."""

    sound: int


@dataclass(frozen=True)
class Turn:
    """One message as text and slots in their final order; neighbouring texts are joined."""

    role: Role
    parts: tuple[str | Slot, ...]

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The turn's slots in order."""
        return tuple(part for part in self.parts if isinstance(part, Slot))

    @property
    def texts(self) -> tuple[str, ...]:
        """The turn's texts in order."""
        return tuple(part for part in self.parts if isinstance(part, str))


def place_sounds(messages: Sequence[Message], *, placeholders: bool) -> tuple[tuple[Turn, ...], tuple[Audio, ...]]:
    """Give every sound its place.

    In messages of the user and of the system, each `<sound>` takes the next of the message's own sounds, and
    `<sound-k>` takes the k-th sound of the whole conversation, from 1, as often as it is written. Own sounds that
    no tag takes stand first in their message, in order. Text of the assistant is never searched for tags.

    Args:
        messages: the conversation.
        placeholders: whether to read tags; False takes them as ordinary text.

    Returns:
        The turns, and all sounds in the order in which they are said; slots are indices into these.

    Raises:
        PromptError: the numbers of tags and sounds differ, or a tag points at no sound.
    """
    sounds = tuple(part for message in messages for part in message.content if isinstance(part, Audio))
    turns: list[Turn] = []
    num_before = 0
    for number, message in enumerate(messages, start=1):
        num_own = sum(isinstance(part, Audio) for part in message.content)
        own = range(num_before, num_before + num_own)
        text = "".join(part for part in message.content if isinstance(part, str))
        if placeholders and message.role != "assistant":
            parts = _place_by_tags(text, own, len(sounds), number)
        else:
            parts = [*map(Slot, own), text]
        turns.append(Turn(message.role, tuple(part for part in parts if part != "")))
        num_before += num_own
    return tuple(turns), sounds


def with_newlines(turn: Turn) -> Turn:
    """NVIDIA's form of a turn: a run of sounds has a line of its own; blanks around newlines and final newlines go."""
    parts = list(_lines(turn.parts))
    if parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip("\n")
    return Turn(turn.role, tuple(part for part in parts if part != ""))


def _place_by_tags(text: str, own: range, num_sounds: int, number: int) -> list[str | Slot]:
    if meant := _NAME_TAG.search(text):
        raise PromptError(
            f"message {number} has {meant[0]}, which points at no sound; allowed: <sound-k> for the k-th sound of the "
            "conversation and, in a chat, <sound:NAME>, or pass placeholders=False if it is ordinary text"
        )
    tags = list(_TAG.finditer(text))
    numbered = {_numbered_sound(tag, num_sounds, number) for tag in tags if tag[1]}
    waiting = [sound for sound in own if sound not in numbered]
    num_plain = sum(not tag[1] for tag in tags)
    if num_plain and num_plain != len(waiting):
        raise PromptError(
            f"message {number} has {num_plain} <sound> placeholder(s) for {len(waiting)} sound(s) of its own; "
            "the numbers must be equal: add sounds, write <sound-k> to point at the k-th sound of the conversation, "
            "or pass placeholders=False if it is ordinary text"
        )
    parts: list[str | Slot] = [] if num_plain else [Slot(sound) for sound in waiting]
    next_own, done = iter(waiting), 0
    for tag in tags:
        sound = int(tag[1]) - 1 if tag[1] else next(next_own)
        parts += [text[done : tag.start()], Slot(sound)]
        done = tag.end()
    return [*parts, text[done:]]


def _numbered_sound(tag: re.Match[str], num_sounds: int, number: int) -> int:
    if not 1 <= (k := int(tag[1])) <= num_sounds:
        allowed = f"allowed are 1 to {num_sounds}" if num_sounds else "give it the sounds that its tags name"
        raise PromptError(f"message {number} has {tag[0]}, but the conversation has {num_sounds} sound(s); {allowed}")
    return k - 1


def _lines(parts: Sequence[str | Slot]) -> Iterator[str | Slot]:
    for index, part in enumerate(parts):
        if isinstance(part, Slot):
            yield part
            continue
        text = _without_blanks_at_newlines(part)
        after_sound = index > 0 and isinstance(parts[index - 1], Slot)
        before_sound = index + 1 < len(parts) and isinstance(parts[index + 1], Slot)
        text = text.lstrip(_BLANKS) if after_sound else text
        text = text.rstrip(_BLANKS) if before_sound else text
        if text:  # blanks between two sounds do not end a run
            yield "\n" * after_sound + text + "\n" * before_sound


def _without_blanks_at_newlines(text: str) -> str:
    first, *rest = text.split("\n")
    if not rest:
        return text
    *middle, last = rest
    return "\n".join([first.rstrip(" \t"), *(line.strip(" \t") for line in middle), last.lstrip(" \t")])
