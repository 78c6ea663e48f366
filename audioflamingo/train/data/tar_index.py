"""What is in a tar file and where, from its headers alone; nothing is unpacked, no name is used as a path.

Written for archives from strangers: every read is bounded, only plain files count, sizes and offsets are checked
against the file before they are believed. Forms: ustar (POSIX.1-1988), pax (POSIX.1-2001), GNU's long names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audioflamingo.train.data.rows import TrainingDataError

BLOCK = 512
MAX_MEMBERS = 1_000_000
MAX_NAME_BYTES = 4_096
MAX_PAX_BYTES = 1 << 16
FILE_TYPES, LONG_NAME, PAX, PAX_GLOBAL, DIRECTORY = (b"0", b"\0", b"7"), b"L", b"x", b"g", b"5"
GZIP, ZSTD, BZ2, XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ"


@dataclass(frozen=True)
class Member:
    """One entry.

    Attributes:
        name: as it stands there.
        offset: of its first byte in the archive.
        size: bytes.
        is_file: whether it is a plain file; links and devices are not.
    """

    name: str
    offset: int
    size: int
    is_file: bool = True


def members(path: Path) -> Iterator[Member]:
    """All entries but directories, in order.

    Raises:
        TrainingDataError: it is no tar file, is compressed, damaged, cut off, or holds too much.
    """
    try:
        with path.open("rb") as file:
            yield from _members(file, path)
    except OSError as error:
        raise TrainingDataError(f"{path} cannot be read: {error.strerror}") from error


def _members(file: BinaryIO, path: Path) -> Iterator[Member]:
    size = file.seek(0, 2)
    file.seek(0)
    if file.read(6).startswith((GZIP, ZSTD, BZ2, XZ)):
        raise TrainingDataError(
            f"{path} is compressed; its sounds are read where they lie, so unpack it to a plain .tar"
        )
    at, count, long_name, pax = 0, 0, None, _Pax()
    while at + BLOCK <= size:
        file.seek(at)
        header = file.read(BLOCK)
        if not header.strip(b"\0"):
            return  # the end: blocks of zeros
        kind, length = header[156:157], _checked_size(header, path, at)
        content = at + BLOCK
        if kind in (LONG_NAME, PAX, PAX_GLOBAL):
            extra = _bounded(file, length, MAX_NAME_BYTES if kind == LONG_NAME else MAX_PAX_BYTES, path, at)
            long_name = extra.rstrip(b"\0") if kind == LONG_NAME else long_name
            pax = _Pax.parse(extra) if kind == PAX else pax
        else:
            length = length if pax.size is None else pax.size
            count += 1
            if count > MAX_MEMBERS:
                raise TrainingDataError(f"{path} has more than {MAX_MEMBERS:,} members; split it")
            if content + length > size:
                raise TrainingDataError(f"{path} is cut off within its member at byte {at:,}; copy it again")
            if kind != DIRECTORY:
                name = (pax.path or long_name or _name(header)).decode("utf-8", "replace")
                yield Member(name, content, length, kind in FILE_TYPES)
            long_name, pax = None, _Pax()
        at = content + -(-length // BLOCK) * BLOCK


@dataclass(frozen=True)
class _Pax:
    """What an extended header says of the next member."""

    path: bytes | None = None
    size: int | None = None

    @classmethod
    def parse(cls, content: bytes) -> _Pax:
        """Records are a length, a blank, KEY=VALUE and a line feed; what cannot be read ends the list."""
        found: dict[bytes, bytes] = {}
        while content:
            digits, blank, _ = content.partition(b" ")
            length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
            if not blank or not len(digits) + 2 < length <= len(content):
                break
            key, _, value = content[len(digits) + 1 : length - 1].partition(b"=")
            found[key] = value
            content = content[length:]
        digits = found.get(b"size", b"")
        size = int(digits) if digits.isdigit() and len(digits) < 20 else None
        return cls(found.get(b"path", b"")[:MAX_NAME_BYTES] or None, size)


def _checked_size(header: bytes, path: Path, at: int) -> int:
    """The size that a header states, once its checksum is right."""
    stated = _number(header[148:156])
    if stated != sum(header[:148]) + sum(header[156:]) + 8 * 32:  # the sum's own place counts as blanks
        raise TrainingDataError(f"{path} is not a tar file, or damaged at byte {at:,}; copy it again")
    size = _number(header[124:136])
    if size is None:
        raise TrainingDataError(f"{path} is damaged at byte {at:,}: a size that is no number; copy it again")
    return size


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's big-endian binary for large ones."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8) if not digits.startswith((b"-", b"+")) and b"_" not in digits else None
    except ValueError:
        return None


def _bounded(file: BinaryIO, length: int, most: int, path: Path, at: int) -> bytes:
    if length > most:
        raise TrainingDataError(f"{path} has a header of {length:,} bytes at byte {at:,}; at most {most:,} are read")
    return file.read(length)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    return prefix + b"/" + name if prefix and header[257:262] == b"ustar" and header[262:263] == b"\0" else name
