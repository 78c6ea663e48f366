"""Sounds that came as paths, bytes, files or arrays, wherever they stand in a conversation, as `Audio`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from audioflamingo.audio import Source
from audioflamingo.audio import load as load_audio
from audioflamingo.types import Audio, Message

Sources = Source | list[Source] | tuple[Source, ...] | None


def loaded(audio: Sources, sample_rate_hz: int | None = None) -> list[Audio]:
    """Sounds from one source, several, or none."""
    if audio is None:
        return []
    sources = cast("Iterable[Source]", audio if isinstance(audio, list | tuple) else (audio,))
    return [load_audio(source, sample_rate_hz=sample_rate_hz) for source in sources]


def with_loaded_sounds(conversation: Any) -> Any:
    """The same conversation with a checked `Audio` for every sound's source; what else is wrong stays for others."""
    if isinstance(conversation, Message):
        return Message(conversation.role, tuple(map(_loaded, conversation.content)))
    if isinstance(conversation, Mapping):
        content: Any = conversation.get("content")
        is_list = isinstance(content, list | tuple)
        return {**conversation, "content": [*map(_loaded, content)] if is_list else _loaded(content)}
    if isinstance(conversation, Sequence) and not isinstance(conversation, str):
        return [with_loaded_sounds(one) if isinstance(one, Message | Mapping) else one for one in conversation]
    return conversation


def _loaded(item: Any) -> Any:
    if isinstance(item, Path | Audio):
        return load_audio(item)
    if isinstance(item, Mapping) and item.get("type", "audio") == "audio" and "audio" in item:
        return load_audio(item["audio"], sample_rate_hz=item.get("sample_rate_hz"), name=item.get("name"))
    return item
