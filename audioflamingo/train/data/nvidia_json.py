"""Files of rows: a JSON list, or JSON lines. A row that cannot be read does not take the others with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError, parse_row

EXPECTED = "expected a JSON list of conversations, or one object a line"
MAX_LIST_BYTES = 4 << 30  # of a JSON list, which is read as a whole; lines have no such limit
MAX_LINE_BYTES = 16 << 20


def read_rows(path: Path) -> tuple[list[Row], list[BadRow]]:
    """The rows of a file, and those that are left out.

    Raises:
        TrainingDataError: the file as a whole cannot be read, or holds no row.
    """
    rows: list[Row] = []
    bad: list[BadRow] = []
    seen: set[str] = set()
    for origin, values in _entries(path):
        try:
            row = parse_row(_decoded(values), path.parent, origin)
            if row.id in seen:
                raise TrainingDataError("its id was used before in this file")
        except TrainingDataError as error:
            name = values.get("id", "") if isinstance(values, dict) else ""
            bad.append(BadRow(origin, str(name)[:100], str(error)))
            continue
        seen.add(row.id)
        rows.append(row)
    if not rows and not bad:
        raise TrainingDataError(f"{path} holds no rows; {EXPECTED}")
    return rows, bad


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Place and content of every row; a line of JSONL is still bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
            file.seek(0)
            if b"\0" in start:
                raise TrainingDataError(f"{path} is no text; {EXPECTED}")
            if start.startswith(b"["):
                yield from _list_entries(path, file.read(MAX_LIST_BYTES + 1))
                return
            for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
                if len(line) > MAX_LINE_BYTES:
                    raise TrainingDataError(f"{path}:{number} has more than {MAX_LINE_BYTES:,} bytes in one line")
                if line.strip():
                    yield f"{path.name}:{number}", line
    except OSError as error:
        raise TrainingDataError(f"{path} cannot be read: {error.strerror}; give a .json or .jsonl file") from error


def _list_entries(path: Path, content: bytes) -> Iterator[tuple[str, Any]]:
    if len(content) > MAX_LIST_BYTES:
        raise TrainingDataError(f"{path} has more than {MAX_LIST_BYTES:,} bytes; write it as JSON lines")
    try:
        values = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TrainingDataError(f"{path} is not UTF-8 at byte {error.start:,}; convert it") from error
    except (ValueError, RecursionError) as error:
        raise TrainingDataError(f"{path} is not valid JSON: {str(error)[:100]}") from error
    for number, entry in enumerate(values, 1):
        yield f"{path.name}[{number}]", entry


def _decoded(values: Any) -> Any:
    if not isinstance(values, bytes):
        return values
    try:
        return json.loads(values.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise TrainingDataError(f"it is not UTF-8 at byte {error.start:,}") from error
    except (ValueError, RecursionError) as error:
        raise TrainingDataError(f"it is not valid JSON: {str(error)[:100]}") from error
