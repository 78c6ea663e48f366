"""Bytes of checkpoints to where they are needed: several threads read pieces, one puts them in place, nothing twice.

A file is never mapped into memory, so that what was read does not count as used. On a CPU a tensor that keeps its dtype
is read straight into its place. For a GPU pieces go through pinned memory, so that reading and copying overlap.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from audioflamingo.errors import CheckpointError

PIECE_BYTES = 8 << 20
SMALL_BYTES = 64 << 20  # below this, starting threads takes longer than they save
MAX_READERS = 16
ALIGNMENT = 64  # so that a buffer can hold values of any dtype
Progress = Callable[[int, int], None]
"""Called with the bytes that are in place and those of all."""


@dataclass(frozen=True)
class Place:
    """Where the values of a stored tensor go.

    Attributes:
        write: takes the number of the first value and some values (flat, as stored, on the device).
        unit: values that must come together; a row, where rows are quantised.
        target: what to read straight into where it has the stored dtype and lies on the CPU.
    """

    write: Callable[[int, Tensor], None]
    unit: int = 1
    target: Tensor | None = None

    @classmethod
    def of(cls, target: Tensor) -> Place:
        """A place in a contiguous tensor, to whose dtype the values are cast."""
        flat = target.view(-1)

        def write(first: int, values: Tensor) -> None:
            flat[first : first + len(values)].copy_(values, non_blocking=flat.is_cuda)

        return cls(write, target=flat)


@dataclass(frozen=True)
class Source:
    """Where the values of a stored tensor are: file, first byte, dtype, count."""

    file: Path
    offset: int
    dtype: torch.dtype
    num_values: int


@dataclass(frozen=True)
class _Piece:
    source: Source
    place: Place
    first: int
    num_values: int

    @property
    def num_bytes(self) -> int:
        return self.num_values * self.source.dtype.itemsize

    @property
    def is_as_stored(self) -> bool:
        return self.place.target is not None and self.place.target.dtype == self.source.dtype

    def target_bytes(self) -> Tensor:
        assert self.place.target is not None
        return self.place.target[self.first : self.first + self.num_values].view(torch.uint8)


def transfer(jobs: Sequence[tuple[Source, Place]], device: torch.device, progress: Progress | None = None) -> None:
    """Read all sources into their places.

    Raises:
        CheckpointError: a file ended early or cannot be read.
    """
    pieces = [piece for source, place in jobs for piece in _cut(source, place)]
    all_bytes = sum(piece.num_bytes for piece in pieces)
    num_readers = 0 if all_bytes <= SMALL_BYTES else min(MAX_READERS, os.cpu_count() or 1)
    largest = max((piece.num_bytes for piece in pieces), default=0)
    done = 0
    with closing(_Line(device, num_readers, largest)) as line:
        for piece in line.run(pieces):
            done += piece.num_bytes
            if progress is not None:
                progress(done, all_bytes)


class _Line:
    """Pieces on their way: being read, being copied; each holds one of a few buffers, which go round."""

    def __init__(self, device: torch.device, num_readers: int, piece_bytes: int) -> None:
        self._device, self._is_cuda = device, device.type == "cuda"
        self._readers = ThreadPoolExecutor(num_readers) if num_readers else None
        self._depth = max(1, num_readers)
        size = -(-piece_bytes // ALIGNMENT) * ALIGNMENT
        buffers = torch.empty((2 * num_readers or 1, size), dtype=torch.uint8, pin_memory=self._is_cuda)
        self._free: list[Tensor] = list(buffers)
        self._copying: deque[tuple[torch.Event, Tensor]] = deque()

    def run(self, pieces: Sequence[_Piece]) -> Iterator[_Piece]:
        """Bring pieces to their places, in order; each is given back once it was sent there."""
        reading: deque[tuple[_Piece, Tensor | None, Future[None] | None]] = deque()
        for piece in pieces:
            if len(reading) >= self._depth:
                yield self._put(*reading.popleft())
            reading.append(self._begin(piece))
        while reading:
            yield self._put(*reading.popleft())
        if self._is_cuda:
            torch.cuda.synchronize(self._device)

    def close(self) -> None:
        """End the threads; what they have begun is finished."""
        if self._readers is not None:
            self._readers.shutdown(cancel_futures=True)

    def _begin(self, piece: _Piece) -> tuple[_Piece, Tensor | None, Future[None] | None]:
        is_direct = self._device.type == "cpu" and piece.is_as_stored
        buffer = None if is_direct else self._buffer()
        into = piece.target_bytes() if buffer is None else buffer[: piece.num_bytes]
        if self._readers is not None:
            return piece, buffer, self._readers.submit(_read, piece, into)
        _read(piece, into)
        return piece, buffer, None

    def _put(self, piece: _Piece, buffer: Tensor | None, reading: Future[None] | None) -> _Piece:
        if reading is not None:
            reading.result()
        if buffer is None:
            return piece
        values = buffer[: piece.num_bytes].view(piece.source.dtype)
        if not piece.is_as_stored:  # what changes them does so on the device
            values = values.to(self._device, non_blocking=self._is_cuda)
        piece.place.write(piece.first, values)
        if self._is_cuda:
            self._copying.append((torch.cuda.current_stream(self._device).record_event(), buffer))
        else:
            self._free.append(buffer)
        return piece

    def _buffer(self) -> Tensor:
        if self._free:
            return self._free.pop()
        event, buffer = self._copying.popleft()
        event.synchronize()  # the copy out of this buffer, the oldest one, must have ended
        return buffer


def _cut(source: Source, place: Place) -> Iterator[_Piece]:
    step = max(1, PIECE_BYTES // (place.unit * source.dtype.itemsize)) * place.unit
    for first in range(0, source.num_values, step):
        yield _Piece(source, place, first, min(step, source.num_values - first))


def _read(piece: _Piece, into: Tensor) -> None:
    path, left = piece.source.file, memoryview(into.numpy().data)
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(piece.source.offset + piece.first * piece.source.dtype.itemsize)
            while left:
                count = file.readinto(left)
                if not count:
                    raise CheckpointError(f"{path} ends {len(left)} bytes early; fetch it again")
                left = left[count:]
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
