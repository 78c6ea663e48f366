"""What a conversation holds: items of text and sound in their order, and the messages that the model reads of them."""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audioflamingo.audio import MIN_SAMPLES
from audioflamingo.audio import load as load_audio
from audioflamingo.errors import FlamingoError
from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.events import Dialect, EventError, Fields, new_id
from audioflamingo.speech.speaker import PCM_PEAK
from audioflamingo.speech.stream import BYTES_PER_SAMPLE, SPEECH_RATE_HZ
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Message, Role

ROLES = ("user", "assistant", "system")
MAX_ID_CHARS = 64
MAX_TEXT_CHARS = 32_768
MAX_PARTS = 16
MIN_SOUND_MS = 100  # of what a client commits, as OpenAI asks for

Pcm = np.ndarray[Any, np.dtype[np.int16]]


@dataclass(eq=False)
class Item:
    """One message of a conversation.

    Attributes:
        role: whose.
        content: texts and sounds in the order in which they were said.
        id: its name.
        status: "in_progress", "completed" or "incomplete".
        is_spoken: whether the assistant's text was spoken.
        audio_ms: length of that sound as far as it was sent.
        heard_text: the part of the text that is heard in so many ms of it.
        transcript: of the user's sound, once it was asked for.
    """

    role: Role
    content: tuple[str | Audio, ...] = ()
    id: str = field(default_factory=lambda: new_id("item"))
    status: str = "completed"
    is_spoken: bool = False
    audio_ms: float = 0.0
    heard_text: Callable[[float], str] | None = None
    transcript: str | None = None

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(part for part in self.content if isinstance(part, str))

    @property
    def audio_s(self) -> float:
        """Length of its sounds."""
        return sum(part.duration_s for part in self.content if isinstance(part, Audio))

    def described(self, dialect: Dialect) -> dict[str, Any]:
        """As events show it; sounds are not sent back."""
        content = [self._part(part, dialect) for part in self.content]
        return {
            "id": self.id,
            "object": "realtime.item",
            "type": "message",
            "status": self.status,
            "role": self.role,
            "content": content,
        }

    def _part(self, part: str | Audio, dialect: Dialect) -> dict[str, Any]:
        prefix = "output_" if dialect == "ga" else ""
        if isinstance(part, Audio):
            return {"type": "input_audio", "transcript": self.transcript}
        if self.role != "assistant":
            return {"type": "input_text", "text": part}
        if self.is_spoken:
            return {"type": f"{prefix}audio", "transcript": part}
        return {"type": f"{prefix}text", "text": part}


class Conversation:
    """Items in order, within bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self.id = new_id("conv")
        self._bounds = bounds
        self._items: list[Item] = []

    def __len__(self) -> int:
        return len(self._items)

    def find(self, item_id: str) -> Item:
        """The item of this name.

        Raises:
            EventError: there is none.
        """
        for item in self._items:
            if item.id == item_id:
                return item
        raise EventError(f"there is no item {item_id!r} in this conversation", "item_not_found", "item_id")

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Put an item at the end, or after another one, or first (after "root"); returns which it stands after.

        Raises:
            EventError: its name is taken, or there is none to stand after.
        """
        if any(one.id == item.id for one in self._items):
            raise EventError(f"there is an item {item.id!r} already; choose another id", "item_exists", "item.id")
        place = len(self._items)
        if after is not None:
            place = 0 if after == "root" else self._items.index(self.find(after)) + 1
        self._items.insert(place, item)
        return self._items[place - 1].id if place else None

    def remove(self, item: Item) -> None:
        """Take an item out, if it is there."""
        if item in self._items:
            self._items.remove(item)

    def outgrown(self) -> list[Item]:
        """The oldest items that have to leave, so that the rest is within bounds; the last one always stays."""
        num, audio_s = len(self._items), sum(item.audio_s for item in self._items)
        leaving = []
        for item in self._items[:-1]:
            if num <= self._bounds.max_items and audio_s <= self._bounds.max_history_s:
                break
            leaving.append(item)
            num, audio_s = num - 1, audio_s - item.audio_s
        return leaving

    @property
    def items(self) -> tuple[Item, ...]:
        """All of them, in order."""
        return tuple(self._items)


def messages_of(items: Iterable[Item], instructions: str, turn_text: str) -> tuple[Message, ...]:
    """What the model reads.

    Args:
        items: in order; the user's that follow one another are one message.
        instructions: the system message; none where it is empty.
        turn_text: stands behind the sounds of a user's message without text.
    """
    said = (item for item in items if any(item.content))
    messages = [Message("system", (instructions,))] if instructions else []
    for role, group in itertools.groupby(said, lambda item: item.role):
        contents = [tuple(part for part in item.content if part) for item in group]
        if role != "user":
            messages += [Message(role, content) for content in contents]
            continue
        content = tuple(itertools.chain.from_iterable(contents))
        has_text = any(isinstance(part, str) for part in content)
        messages.append(Message(role, content if has_text or not turn_text else (*content, turn_text)))
    return tuple(messages)


def read_item(fields: Fields, bounds: Bounds) -> Item:
    """An item that a client made.

    Raises:
        EventError: something in it is missing or not allowed.
    """
    fields.only(("id", "object", "type", "status", "role", "content"))
    fields.one_of("type", ("message",), "message")
    role: Any = fields.one_of("role", ROLES)
    parts = fields.items("content")
    if not 1 <= len(parts) <= MAX_PARTS:
        raise EventError(
            f"{fields.name('content')} has {len(parts)} parts; allowed: 1 to {MAX_PARTS}", param=fields.name("content")
        )
    content = tuple(_read_part(part, role, bounds) for part in parts)
    if not any(content):
        raise EventError(f"{fields.name('content')} is empty; give text or a sound", param=fields.name("content"))
    own_id = fields.text("id", new_id("item"), most=MAX_ID_CHARS)
    return Item(role, content, own_id or new_id("item"))


def _read_part(part: Fields, role: str, bounds: Bounds) -> str | Audio:
    allowed = {"user": ("input_text", "input_audio"), "system": ("input_text",), "assistant": ("text", "output_text")}
    kind = part.one_of("type", allowed[role])
    if kind != "input_audio":
        return part.text("text", most=MAX_TEXT_CHARS)
    return sound_of(decoded(part.text("audio"), part.name("audio")), bounds, part.name("audio"))


def decoded(text: str, place: str) -> Pcm:
    """Base64 to (N,) int16 samples.

    Raises:
        EventError: it is no base64, or holds half a sample.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EventError(f"{place} is not base64 ({error}); encode the bytes of the sound", param=place) from error
    if len(data) % BYTES_PER_SAMPLE:
        raise EventError(f"{place} has {len(data)} bytes, half a sample; allowed: 16-bit samples", param=place)
    return np.frombuffer(data, "<i2")


def as_float(pcm: Pcm) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(N,) int16 to float32 samples."""
    return pcm.astype(np.float32) / np.float32(PCM_PEAK)


def sound_of(pcm: Pcm, bounds: Bounds, place: str) -> Audio:
    """A whole sound at 24 kHz as the model hears it.

    Raises:
        EventError: it is too short or too long, or no sound.
    """
    duration_s = len(pcm) / SPEECH_RATE_HZ
    least_s = max(MIN_SOUND_MS / 1000, MIN_SAMPLES / SAMPLE_RATE_HZ)
    if duration_s < least_s:
        raise EventError(
            f"{place} lasts {1000 * duration_s:.0f} ms; it must be {1000 * least_s:.0f} ms or more. Append sound first",
            "input_audio_buffer_commit_empty",
            place,
        )
    if duration_s > bounds.max_buffer_s:
        raise EventError(
            f"{place} lasts {duration_s:.1f} s; allowed: {bounds.max_buffer_s:g} s", "sound_too_long", place
        )
    try:
        return load_audio(as_float(pcm), sample_rate_hz=SPEECH_RATE_HZ, name="your sound")
    except FlamingoError as error:
        raise EventError(f"{place}: {error}", param=place) from error
