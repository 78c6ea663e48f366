"""WebDataset shards: tar files in which the members of a record share a name up to its first dot.

`0001.flac` is a sound, `0001.json` a record (NVIDIA's conversations, or columns), `0001.txt` an answer alone; several
sounds of a record are `0001.0.wav`, `0001.1.wav`. Members are read where they lie; nothing is unpacked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from audioflamingo.train.data.columns import Columns
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError, make_row
from audioflamingo.train.data.sounds import ArchivedSound
from audioflamingo.train.data.sources import Reading, gathered
from audioflamingo.train.data.tar_index import Member, members

SOUND_SUFFIXES = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "aiff", "webm", "mp4")
MAX_TEXT_BYTES = 1 << 20
MAX_SHARDS = 100_000
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")


@dataclass(frozen=True)
class WebDataset:
    """Shards on this machine.

    Attributes:
        shards: their files, in order.
        columns: of the records.
    """

    shards: tuple[Path, ...]
    columns: Columns = field(default_factory=Columns)

    @property
    def name(self) -> str:
        """The first shard's, and how many there are."""
        return self.shards[0].name + (f" and {len(self.shards) - 1} more" if len(self.shards) > 1 else "")

    def read(self, reading: Reading) -> tuple[list[Row], list[BadRow]]:
        """See `Source`."""
        return gathered(self._records(), self.name)

    def _records(self) -> Iterator[tuple[str, str, Callable[[], Row]]]:
        seen: set[str] = set()
        for shard in self.shards:
            for key, parts in _by_key(shard).items():
                # Many sets number their records anew in every shard: a key is no id, and may come again.
                name = f"{shard.name}:{key}" if key in seen else key
                seen.add(key)
                yield f"{shard.name}:{key}", key, partial(self._row, shard, key, name, parts)

    def _row(self, shard: Path, key: str, name: str, parts: list[Member]) -> Row:
        wrong = [part.name for part in parts if not part.is_file]
        if wrong:
            raise TrainingDataError(f"{wrong[0]} is a link or a device, not a file")
        record: dict[str, Any] = {}
        sounds = []
        for part in sorted(parts, key=lambda part: part.name):
            suffix = part.name.rpartition(".")[2].lower()
            if suffix in SOUND_SUFFIXES:
                sounds.append(ArchivedSound(shard, part.offset, part.size, part.name))
            elif suffix == "json":
                record |= _json_object(_text(shard, part), part.name)
            elif suffix == "txt":
                record.setdefault("text", _text(shard, part))
        columns = self.columns.found(record.keys(), f"{shard.name}:{key}")
        values = columns.row(record, 0) | {"id": str(record.get(columns.id, name)) if columns.id else name}
        return make_row(values, tuple(sounds), f"{shard.name}:{key}")


def shards_of(pattern: str) -> tuple[Path, ...]:
    """Files of `name.tar` or `name-{000..123}.tar`, which must all be there.

    Raises:
        TrainingDataError: one is missing, or the range is not usable.
    """
    found = _RANGE.search(pattern)
    if not found:
        paths = [Path(pattern)]
    else:
        first, last = int(found[1]), int(found[2])
        if not first <= last < first + MAX_SHARDS:
            raise TrainingDataError(f"{pattern!r} names shards {first} to {last}; allowed: 1 to {MAX_SHARDS:,} of them")
        numbers = (str(number).zfill(len(found[1])) for number in range(first, last + 1))
        paths = [Path(pattern[: found.start()] + number + pattern[found.end() :]) for number in numbers]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise TrainingDataError(f"the shard {missing[0]} does not exist ({len(missing)} of {len(paths)} are missing)")
    return tuple(paths)


def _by_key(shard: Path) -> dict[str, list[Member]]:
    found: dict[str, list[Member]] = {}
    for member in members(shard):
        folder, _, last = member.name.rpartition("/")
        key = last.partition(".")[0]
        found.setdefault(f"{folder}/{key}" if folder else key, []).append(member)
    return found


def _text(shard: Path, member: Member) -> str:
    if member.size > MAX_TEXT_BYTES:
        raise TrainingDataError(f"{member.name} has {member.size:,} bytes; at most {MAX_TEXT_BYTES:,} are read as text")
    with shard.open("rb") as file:
        file.seek(member.offset)
        content = file.read(member.size)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TrainingDataError(f"{member.name} is not UTF-8 at byte {error.start:,}") from error


def _json_object(text: str, name: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrainingDataError(f"{name} is not valid JSON: {str(error)[:100]}") from error
    if not isinstance(values, dict):
        raise TrainingDataError(f"{name} is a JSON {type(values).__name__}, expected an object")
    return values
