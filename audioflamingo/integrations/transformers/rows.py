"""Which sounds belong to which text of a batch, and where they stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audioflamingo.errors import PromptError
from audioflamingo.integrations.transformers.sources import is_one_sound
from audioflamingo.tokenizer import END_OF_TEXT, IM_END, IM_START, SOUND

CHAT_MARKUP = (IM_START, IM_END, END_OF_TEXT)


@dataclass(frozen=True)
class Row:
    """One text and the sounds that belong to it, not loaded yet."""

    text: str
    sources: tuple[Any, ...] = ()


def rows_of(text: str | Sequence[str], audio: Any) -> list[Row]:
    """Pair texts with sounds.

    Args:
        text: one text or several.
        audio: None; one sound; or a list. For one text, a list holds that text's sounds. For several, it holds for
            each text a sound, a list of sounds or None; or, if the texts have exactly as many `<sound>` as the list
            has sounds, these in their order.

    Raises:
        PromptError: the two do not fit.
    """
    texts: list[Any] = list(text) if isinstance(text, list | tuple) else [text]
    if not texts or not all(isinstance(one, str) for one in texts):
        raise PromptError(f"text is {_shown(text)}; expected a string or a list of strings")
    for number, one in enumerate(texts, start=1):
        _check_characters(one, number)
    if audio is None:
        return [Row(one) for one in texts]
    entries = [audio] if is_one_sound(audio) else list(audio)
    is_nested = any(entry is None or not is_one_sound(entry) for entry in entries)
    if len(texts) == 1 and not is_nested:
        return [Row(texts[0], tuple(entries))]
    placed = [one.count(SOUND) for one in texts]
    if not is_nested and sum(placed) == len(entries):
        waiting = iter(entries)
        return [Row(one, tuple(next(waiting) for _ in range(count))) for one, count in zip(texts, placed, strict=True)]
    if len(entries) != len(texts):
        raise PromptError(
            f"{len(texts)} text(s) came with {len(entries)} sound(s), and {sum(placed)} {SOUND} in the texts; give "
            "audio as a list with one entry a text: a sound, a list of sounds, or None"
        )
    return [Row(one, _sources(entry)) for one, entry in zip(texts, entries, strict=True)]


def is_formatted(text: str) -> bool:
    """Whether a text is a written-out prompt already: it has a placeholder or marks of the chat format."""
    return SOUND in text or any(mark in text for mark in CHAT_MARKUP)


def check_message(text: str) -> None:
    """Refuse marks of the chat format in what is to become one message.

    Raises:
        PromptError: there are some.
    """
    found = [mark for mark in CHAT_MARKUP if mark in text]
    if found:
        raise PromptError(
            f"the text holds {', '.join(found)}, which end or open a message; leave them out, or pass as_chat=False if "
            "the whole prompt is written out"
        )


def check_placeholders(rows: Sequence[Row]) -> None:
    """Check that every text has as many placeholders as sounds.

    Raises:
        PromptError: one has not.
    """
    for number, row in enumerate(rows, start=1):
        if row.text.count(SOUND) != len(row.sources):
            raise PromptError(
                f"text {number} has {row.text.count(SOUND)} {SOUND} placeholder(s) for {len(row.sources)} sound(s); "
                "the numbers must be equal. Give the missing ones, or give the question alone: it is put into the "
                "chat format, its sounds first"
            )


def _check_characters(text: str, number: int) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise PromptError(
            f"text {number} holds half of a surrogate pair at position {error.start}; only whole characters can be "
            "encoded: decode its source as UTF-8 with errors='replace'"
        ) from None


def _sources(entry: Any) -> tuple[Any, ...]:
    if entry is None:
        return ()
    return (entry,) if is_one_sound(entry) else tuple(entry)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
