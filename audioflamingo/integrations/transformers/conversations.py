"""Conversations as transformers has them, brought to what the checkpoint's template can write.

The released template writes one `<sound>` for a message whatever number of sounds it has. So a message with several
sounds, or with a sound behind text, goes to it with the placeholders in its text; a single leading sound stays an item,
and the result is the reference's to the character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from audioflamingo.errors import PromptError
from audioflamingo.integrations.transformers.sources import as_audio
from audioflamingo.prompt import as_messages
from audioflamingo.prompt.placeholders import Slot, Turn, place_sounds
from audioflamingo.tokenizer import SOUND
from audioflamingo.types import Audio, Message

Conversation = Sequence[Mapping[str, Any]]
SOUND_KEYS = ("audio", "path", "url")


def normalised(conversation: Any) -> tuple[list[Conversation], bool]:
    """A list of conversations, and whether a list came."""
    if not isinstance(conversation, list | tuple):
        raise PromptError(
            f"the conversation is of type {type(conversation).__name__}; give a list of messages, as "
            '[{"role": "user", "content": ...}], or a list of such lists'
        )
    if not conversation:
        raise PromptError("the conversation is empty; give a list of messages, or a list of such lists")
    is_batch = isinstance(conversation[0], list | tuple)
    return (list(conversation) if is_batch else [conversation]), is_batch


def template_messages(
    conversation: Conversation, sample_rate_hz: int, *, loads: bool
) -> tuple[list[dict[str, Any]], tuple[Any, ...]]:
    """Messages for the template, and their sounds in the order of the placeholders.

    Args:
        conversation: messages with sounds as items.
        sample_rate_hz: rate of arrays.
        loads: whether sounds are read; else they are only given their places, and come back as they were.

    Raises:
        PromptError: messages or placeholders cannot be used.
        AudioError: a sound cannot be read.
    """
    sources: list[Any] = []
    messages = as_messages([_with_stand_ins(message, sources) for message in conversation])
    turns, stand_ins = place_sounds(messages, placeholders=True)
    order = [slot.sound for turn in turns for slot in turn.slots]
    assert len(stand_ins) == len(sources)
    if not loads:
        return [_written(turn) for turn in turns], tuple(sources[index] for index in order)
    audios = [as_audio(one, sample_rate_hz, f"audio {number}") for number, one in enumerate(sources, start=1)]
    return [_written(turn) for turn in turns], tuple(audios[index] for index in order)


def _with_stand_ins(message: Any, sources: list[Any]) -> Any:
    """The message with an empty `Audio` for each sound, whose source is put aside."""
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), list | tuple):
        return message
    content: list[Any] = []
    for item in message["content"]:
        if not isinstance(item, Mapping) or item.get("type") not in ("audio", "input_audio"):
            content.append(item)
            continue
        found = [item[key] for key in SOUND_KEYS if item.get(key) is not None]
        if len(found) != 1:
            raise PromptError(f"an audio item has the keys {sorted(item)}; expected one of {', '.join(SOUND_KEYS)}")
        rate = item.get("sampling_rate")
        sources.append(found[0] if rate is None else {"array": found[0], "sampling_rate": rate})
        content.append(Audio(np.zeros(0, dtype=np.float32)))
    return {"role": message.get("role"), "content": content}


def _written(turn: Turn) -> dict[str, Any]:
    parts = turn.parts
    if len(turn.slots) == 1 and isinstance(parts[0], Slot):
        return {"role": turn.role, "content": [{"type": "audio"}, *_text_items(parts[1:])]}
    return {"role": turn.role, "content": _text_items(parts) if turn.slots else "".join(turn.texts)}


def _text_items(parts: Sequence[str | Slot]) -> list[dict[str, str]]:
    text = "".join(SOUND if isinstance(part, Slot) else part for part in parts)
    return [{"type": "text", "text": text}] if text else []


__all__ = ["Conversation", "Message", "normalised", "template_messages"]
