"""What goes where: answers to stdout as they come, and nothing else; progress, notes and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

_CLEAR_LINE = "\r\033[K"


def report_error(error: Exception) -> None:
    """One line on stderr, whatever the error's text holds."""
    show_progress("")
    _write_line("error", str(error))


def report_notes(notes: Iterable[str]) -> None:
    """What was done to a sound that its author should know of, on stderr."""
    for note in notes:
        _write_line("note", note)


def show_progress(text: str) -> None:
    """Replace the line that says what is going on; only where a person watches. Empty text clears it."""
    if sys.stderr.isatty():
        sys.stderr.write(_CLEAR_LINE + (f"{printable(text)} ..." if text else ""))
        sys.stderr.flush()


def write_text(text: str) -> None:
    """A piece of an answer, at once."""
    if text:
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()


def write_json(values: dict[str, Any]) -> None:
    """One object, one line."""
    write_text(json.dumps(values, ensure_ascii=False) + "\n")


def printable(text: str) -> str:
    """The text without characters that would steer a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "�" for one in text)


def _write_line(kind: str, text: str) -> None:
    sys.stderr.write(f"flamingo: {kind}: {printable(' '.join(text.split()))}\n")
    sys.stderr.flush()
