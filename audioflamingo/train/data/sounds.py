"""Where the sound of a row comes from: a file, a piece of an archive, a cell of a table, or a scene made on demand."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from audioflamingo.audio import load
from audioflamingo.audio.decode import open_file
from audioflamingo.errors import AudioError
from audioflamingo.train.data.rows import TrainingDataError
from audioflamingo.types import Audio

MAX_SOUND_BYTES = 1 << 30


class StoredSound(Protocol):
    """A sound that is no file of its own."""

    @property
    def name(self) -> str:
        """What errors call it; the same in every run."""

    def load(self) -> Audio:
        """The sound, decoded; every call may read it anew."""

    def duration_s(self) -> float:
        """Its length, without decoding it where its header is to be trusted."""


SoundSource = Path | StoredSound


def load_sound(source: SoundSource) -> Audio:
    """The sound of a row.

    Raises:
        AudioError: it cannot be read or decoded.
    """
    return load(source) if isinstance(source, Path) else source.load()


def duration_s(source: SoundSource) -> float:
    """Length of a sound, by its header where that is to be trusted, else by decoding it.

    Raises:
        AudioError: it cannot be opened.
    """
    if not isinstance(source, Path):
        return source.duration_s()
    if source.exists() and not source.is_file():
        raise AudioError(f"{source} is not a regular file")  # opening a pipe would wait for whoever writes to it
    try:
        with source.open("rb") as file:
            found = _stated_s(file, source.name)
    except FileNotFoundError as error:
        raise AudioError(f"{source} does not exist") from error
    except OSError as error:
        raise AudioError(f"{source} cannot be opened ({error.strerror})") from error
    return load(source).duration_s if found is None else found


@dataclass(frozen=True)
class ArchivedSound:
    """A piece of a file that holds the bytes of an audio file, read where it lies: nothing is ever unpacked.

    Attributes:
        archive: the file.
        offset: first byte.
        size: bytes.
        name: of the member.
    """

    archive: Path
    offset: int
    size: int
    name: str

    def _bytes(self) -> bytes:
        if self.size > MAX_SOUND_BYTES:
            raise AudioError(f"{self.name} has {self.size:,} bytes; at most {MAX_SOUND_BYTES:,} are read")
        try:
            with self.archive.open("rb") as file:
                file.seek(self.offset)
                content = file.read(self.size)
        except OSError as error:
            raise AudioError(f"{self.archive} cannot be read ({error.strerror})") from error
        if len(content) < self.size:
            raise AudioError(f"{self.name} is cut off: {self.archive.name} ends within it")
        return content

    def load(self) -> Audio:
        """See `StoredSound`."""
        return load(self._bytes(), name=self.name)

    def duration_s(self) -> float:
        """See `StoredSound`."""
        return duration_of_bytes(self._bytes(), self.name)


def duration_of_bytes(content: bytes, name: str) -> float:
    """Length of an audio file in memory; see `duration_s`."""
    found = _stated_s(io.BytesIO(content), name)
    return load(content, name=name).duration_s if found is None else found


def _stated_s(file: BinaryIO, name: str) -> float | None:
    with open_file(file, name) as stream:
        return None if stream.num_samples is None else stream.num_samples / stream.rate_hz


def missing_package(package: str, extra: str) -> TrainingDataError:
    """What is said where a source needs a package that is not there."""
    return TrainingDataError(f"this data needs the package {package}: pip install 'audioflamingo[{extra}]'")
