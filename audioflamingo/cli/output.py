"""What goes where: answers to stdout as they come, and nothing else; progress, notes and errors to stderr."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from audioflamingo.cli.wording import told
from audioflamingo.errors import FlamingoError

SLOW_BYTES = 1_000_000_000
_CLEAR_LINE = "\r\033[K"
_DIM, _PLAIN = "\033[2m", "\033[0m"


class OutputError(FlamingoError):
    """The answer cannot be written."""


@dataclass
class _ProgressLine:
    """Whether the terminal's line holds progress now: only that may be cleared, never a piece of an answer."""

    is_shown: bool = False


_progress = _ProgressLine()


def report_error(error: Exception, wording: Callable[[Exception], str] = told) -> None:
    """One line on stderr, whatever the error's text holds; `wording` puts it into the words of who reads it."""
    _write_line("error", wording(error))


def report_notes(notes: Iterable[str]) -> None:
    """What was done to a sound that its author should know of, on stderr."""
    for note in notes:
        _write_line("note", note)


def cut_notes(finish_reason: str | None) -> list[str]:
    """A note where an answer ended for lack of room."""
    return ["the answer was cut; a larger --max-new-tokens gives it more room"] if finish_reason == "length" else []


def show_progress(text: str) -> None:
    """Replace the line that says what is going on; only where a person watches. Empty text clears it."""
    if not sys.stderr.isatty() or not (text or _progress.is_shown):
        return
    line = f"{printable(text)} ..." if text else ""
    if len(line) >= shutil.get_terminal_size().columns:
        line = line[: shutil.get_terminal_size().columns - 5] + " ..."  # a second line could not be cleared
    sys.stderr.write((_CLEAR_LINE if _progress.is_shown else "") + line)
    sys.stderr.flush()
    _progress.is_shown = bool(text)


def show_loading(done_bytes: int, all_bytes: int) -> None:
    """Progress of a model that takes a while to load; of a small one nothing is shown."""
    if all_bytes >= SLOW_BYTES:
        show_progress(f"loading {done_bytes / 1e9:.1f} of {all_bytes / 1e9:.1f} GB" if done_bytes < all_bytes else "")


def write_text(text: str) -> None:
    """A piece of an answer, at once.

    Raises:
        OutputError: the disk is full, or something else keeps it from being written.
        BrokenPipeError: the reader went away.
    """
    if not text:
        return
    try:
        sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_stdout()
        raise OutputError(f"the answer cannot be written: {error.strerror}. Send it somewhere else.") from error


def abandon_stdout() -> None:
    """What is still buffered goes nowhere; without this, Python complains about it while it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_thoughts(text: str) -> None:
    """A piece of the model's reasoning, at once, on stderr; dim where a person watches."""
    if not text:
        return
    is_watched = sys.stderr.isatty()
    sys.stderr.write(f"{_DIM}{printable(text)}{_PLAIN}" if is_watched else text)
    sys.stderr.flush()


def write_json(values: dict[str, Any]) -> None:
    """One object, one line."""
    write_text(json.dumps(values, ensure_ascii=False) + "\n")


def printable(text: str) -> str:
    """The text without characters that would steer a terminal."""
    return "".join(one if one.isprintable() or one in "\n\t" else "�" for one in text)


def _write_line(kind: str, text: str) -> None:
    show_progress("")
    sys.stderr.write(f"flamingo: {kind}: {printable(' '.join(text.split()))}\n")
    sys.stderr.flush()
