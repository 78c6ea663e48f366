"""What is done of a long transcript, kept in a file, so that the same call goes on after an interruption."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioflamingo.errors import FlamingoError

MAX_RESUME_BYTES = 64 << 20


@dataclass(frozen=True)
class Done:
    """One piece that is done: its words, and whether they were cut at the most tokens of an answer."""

    text: str
    is_cut: bool = False


class Progress:
    """Pieces that are done, in a file if there is one; the file is replaced by a complete one after every addition."""

    def __init__(self, path: str | Path | None, key: str) -> None:
        """Read the file, or make it, so that a place that cannot be written to is known before any work.

        Args:
            path: the file, or None to keep nothing.
            key: what the pieces belong to; a file of another key is refused.

        Raises:
            FlamingoError: the file belongs to something else, cannot be read, or cannot be written.
        """
        self._path = None if path is None else Path(path)
        self._key = key
        self._pieces: list[Done] = []
        if self._path is not None and self._path.exists():
            self._pieces = self._read(self._path)
        self._write()

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, number: int) -> Done:
        return self._pieces[number]

    def add(self, pieces: Sequence[Done]) -> None:
        """Keep the pieces that come next.

        Raises:
            FlamingoError: the file cannot be written; it still holds what was done before.
        """
        self._pieces += pieces
        self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        values = {"key": self._key, "pieces": [[one.text, one.is_cut] for one in self._pieces]}
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            partial.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")
            os.replace(partial, self._path)
        except OSError as error:
            _remove(partial)
            why = f"{self._path} cannot be written: {error.strerror or error}."
            if not self._path.exists():
                raise FlamingoError(f"{why} Name a file in a folder that is there and may be written to") from error
            raise FlamingoError(
                f"{why} What it held is still there: make room or name another file, and give the same words again"
            ) from error

    def _read(self, path: Path) -> list[Done]:
        try:
            if not path.is_file():
                raise ValueError("it is no regular file")
            if path.stat().st_size > MAX_RESUME_BYTES:
                raise ValueError(f"it has more than {MAX_RESUME_BYTES:,} bytes")
            values = json.loads(path.read_text(encoding="utf-8"))
            key, pieces = values["key"], [_piece(one) for one in values["pieces"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:100]
            raise FlamingoError(f"{path} holds no transcript to go on with ({why}); name another file") from error
        if key != self._key:
            raise FlamingoError(
                f"{path} belongs to another sound, another model or other options; remove it, or name another file"
            )
        return pieces


def _piece(value: Any) -> Done:
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], bool)):
        raise ValueError("one of its pieces is no pair of a text and true or false")
    return Done(*value)


def _remove(partial: Path) -> None:
    """What could not be written whole takes no room; a disk that refuses this, too, has said enough."""
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return
