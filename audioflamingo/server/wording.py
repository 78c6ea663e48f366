"""Errors and notes in a client's words: remedies that name an argument of the Python API name the request's field.

They come from rooms that know nothing of HTTP. A remedy that a request does not have is replaced by one that it has, or
left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

ROOM = "max_new_tokens"
ROOM_FIELDS = ("max_completion_tokens", "max_tokens")
"""What the most tokens of an answer are called here; the first where a request names none."""

_REMEDIES = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"Pass long_audio='truncate' or 'split', or cut the file",
            "Send a shorter one; for its words alone, /v1/audio/transcriptions takes any length",
        ),
        (r", or pass continue_final=True to continue a message of the assistant", ""),
        (r", or pass placeholders=False if it is ordinary text", ", or leave its brackets out if it is ordinary text"),
        (r", or raise max_prompt_tokens \([^)]*\)", ""),
        (r" were cut at max_new_tokens; raise it", " were cut where the room for an answer ended"),
        (r" \(--max-new-tokens\)", ""),
        (r"more \(max_thought_tokens, --think=N\)", "more (a larger think)"),
        (r"\bmax_thought_tokens is (\d+)", r"think is \1"),
    )
)
_ROOM = re.compile(rf"\b{ROOM}\b")
_BLAMED = re.compile(r"(\w+) is ")


def told(text: str, fields: Iterable[str] = ()) -> str:
    """What an error or a note says, on one line, for who sent a request with these fields."""
    for pattern, words in _REMEDIES:
        text = pattern.sub(words, text)
    given = set(fields)
    room = next((name for name in ROOM_FIELDS if name in given), ROOM_FIELDS[0])
    return " ".join(_ROOM.sub(room, text).split())


def blamed(message: str, fields: Iterable[str]) -> str | None:
    """The field that a message begins with, as in "top_p is 0.0, ...", where the request has it."""
    found = _BLAMED.match(message)
    return found[1] if found and found[1] in set(fields) else None
