"""Sounds that came as paths, bytes, files or arrays, wherever they stand in a conversation, as `Audio`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from audioflamingo.audio import Source
from audioflamingo.audio import load as load_audio
from audioflamingo.errors import OptionError
from audioflamingo.types import Audio, Message

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".aac", ".aiff", ".aif", ".webm")
Sources = Source | list[Source] | tuple[Source, ...] | None


def loaded(audio: Sources, sample_rate_hz: int | None = None) -> list[Audio]:
    """Sounds from one source, several, or none."""
    if audio is None:
        return []
    sources = cast("Iterable[Source]", audio if isinstance(audio, list | tuple) else (audio,))
    return [load_audio(source, sample_rate_hz=sample_rate_hz) for source in sources]


def question_about(audio: Sources, question: str, sample_rate_hz: int | None = None) -> Message:
    """A question of the user with its sounds before it; for errors, that of ``ask(audio, question)``.

    Raises:
        FlamingoError: a sound is not usable, or the question is no text or stands in the sound's place.
    """
    check_order(audio, question, "ask(audio, question)")
    return Message("user", (*loaded(audio, sample_rate_hz), question))


def check_order(audio: Any, question: Any, order: str) -> None:
    """Refuse a question that is no text, and a sound and a question that stand in each other's place.

    Args:
        audio: what came as the sound.
        question: what came as the question.
        order: how the call is written, for the error.

    Raises:
        OptionError: they are swapped, or the question is no text.
    """
    if not isinstance(question, str):
        kind = type(question).__name__
        raise OptionError(f"the question is a {kind}, allowed: a text; the order is {order}")
    if isinstance(audio, str) and not os.path.exists(audio) and _is_file_name(question) and not _is_file_name(audio):
        raise OptionError(
            f"the question is {question[:60]!r}, which names a sound, and the sound is {audio[:60]!r}; "
            f"the order is {order}: swap the two"
        )


def _is_file_name(text: str) -> bool:
    """Whether a text names a file that is there, or is written like a sound's."""
    return os.path.isfile(text) or ("\n" not in text and Path(text).suffix.lower() in SOUND_SUFFIXES)


def with_loaded_sounds(conversation: Any) -> Any:
    """The same conversation with a checked `Audio` for every sound's source; what else is wrong stays for others.

    Raises:
        FlamingoError: a sound cannot be read, or a sound's name stands in a list as if it were a text.
    """
    if isinstance(conversation, Message):
        return Message(conversation.role, tuple(map(_loaded, conversation.content)))
    if isinstance(conversation, Mapping):
        content: Any = conversation.get("content")
        is_list = isinstance(content, list | tuple)
        if is_list:
            _check_names(content)
        return {**conversation, "content": [*map(_loaded, content)] if is_list else _loaded(content)}
    if isinstance(conversation, Sequence) and not isinstance(conversation, str):
        return [with_loaded_sounds(one) if isinstance(one, Message | Mapping) else one for one in conversation]
    return conversation


def _check_names(items: Sequence[Any]) -> None:
    """Refuse a list of a file's name and a question, of which the name would be read as words and never be heard.

    Raises:
        OptionError: one of several items is a sound's name alone; in `{"type": "text", ...}` it is taken as a text.
    """
    for item in items if len(items) > 1 else ():
        if isinstance(item, str) and (os.path.isfile(item) or (len(item.split()) == 1 and _is_file_name(item))):
            raise OptionError(
                f"the content has the text {item[:60]!r}, which names a sound that would not be heard; give "
                f"Path({item[:60]!r}), or {{'type': 'text', 'text': {item[:60]!r}}} if it is a text"
            )


def _loaded(item: Any) -> Any:
    if isinstance(item, Path | Audio):
        return load_audio(item)
    if isinstance(item, Mapping) and item.get("type", "audio") == "audio" and "audio" in item:
        return load_audio(item["audio"], sample_rate_hz=item.get("sample_rate_hz"), name=item.get("name"))
    return item
