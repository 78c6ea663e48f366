"""Who draws steps: it watches the folder of shards, decides where each lies in the ring, and packs plans.

That is Python and numpy all the time. In the trainer's process it would keep the interpreter's lock from the thread
that launches kernels, so on a GPU it has a process of its own; the same in the trainer's process is the slow twin.

All that it says goes through one channel in order: `Placed`, where a shard's samples belong, before every plan that
may hear them. A process says it through a socket: a line of bytes is read from it by one call, without the lock and
straight into pinned memory, and it ends when the other side does, whatever that died of.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import queue
import select
import signal
import socket
import struct
import traceback
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.train.nano_packed import PackedPlan
from audioflamingo.train.nano_pool import Draws, Ring, is_long_step
from audioflamingo.train.nano_workers import end_with_parent

NEXT, SHORT, LONG, READ = b"n", b"s", b"l", b"r"
"""Requests: the run's next step, a short or a long one out of turn; and that a shard's samples have been read."""
LOOK_S = 0.3
MOST_UNREAD = 3  # shards; a plan must not wait behind hundreds of them
OLD_AT_ONCE = 20
END_S = 5.0
ZIP_HEADER = struct.Struct("<26xHH")  # of a file in an archive; ends with the lengths of what follows
LENGTH = struct.Struct("<q")


@dataclass(frozen=True)
class DrawOrder:
    """What is drawn.

    Attributes:
        folder: where shards appear.
        old: shards of an earlier piece, which are read too, after what is new.
        num_samples: length of the ring.
        draws: how.
        seed: of the drawing.
        first_step: number in the whole run of the first step that is drawn in turn.
    """

    folder: Path
    old: tuple[Path, ...]
    num_samples: int
    draws: Draws
    seed: tuple[int, ...]
    first_step: int


@dataclass(frozen=True)
class Placed:
    """A shard whose samples are to be written.

    Attributes:
        path: its file.
        first_byte: where in the file its samples begin, as int16.
        num_samples: how many.
        start: where in the ring they belong.
        since: see `nano_pool.Place`.
        hours: of sound that can be drawn from now on.
        is_old: whether it is an earlier piece's.
    """

    path: str
    first_byte: int
    num_samples: int
    start: int
    since: int
    hours: float
    is_old: bool


class Quiet:
    """Nothing is there to be read or drawn."""


Message = Placed | PackedPlan | Quiet


class EndedError(Exception):
    """The other side is gone."""


class Source(Protocol):
    """Both ways of drawing, as a feed sees them."""

    def ask(self, request: bytes) -> None:
        """Request something; does not wait."""
        ...

    def receive(self) -> Message:
        """Wait for the next message.

        Raises:
            EndedError: after `close`.
            RuntimeError: drawing failed.
        """
        ...

    def close(self) -> None:
        """End it, from any thread."""
        ...


class Drawer:
    """Looks for shards, places them, and draws what is asked for."""

    def __init__(self, order: DrawOrder) -> None:
        self.order, self.ring = order, Ring(order.num_samples)
        self.rng = np.random.default_rng(order.seed)
        self.number = order.first_step
        self.old = deque(order.old)
        self.seen: set[Path] = set()  # of those that are there, for they stay until their samples are read
        self.found: deque[tuple[Path, bool]] = deque()
        self.asked: deque[int] = deque()
        self.num_unread = 0

    @property
    def is_busy(self) -> bool:
        """Whether there is something to do without being asked again."""
        return bool(self.asked) or (bool(self.found) and self.num_unread < MOST_UNREAD)

    def turn(self, requests: bytes) -> Iterator[Message]:
        """Take some requests, then place at most one shard and draw at most one plan."""
        self.num_unread -= requests.count(READ)
        self.asked.extend(one for one in requests if one != READ[0])
        if self.num_unread < MOST_UNREAD and not self.found:
            self._look()
        if self.num_unread < MOST_UNREAD and self.found:
            self.num_unread += 1
            yield self._place(*self.found.popleft())
        elif not self.num_unread and not self.asked:
            yield Quiet()
        if self.asked:
            yield self._draw(self.asked.popleft())

    def _look(self) -> None:
        there = sorted(self.order.folder.glob("shard-*.npz"))
        self.found.extend((path, False) for path in there if path not in self.seen)
        self.seen = set(there)
        for _ in range(min(OLD_AT_ONCE, len(self.old))):
            self.found.append((self.old.popleft(), True))

    def _place(self, path: Path, is_old: bool) -> Placed:
        arrays, first_byte = read_shard(path)
        place = self.ring.place(arrays)
        num = self.ring.shards[-1].num_samples
        return Placed(str(path), first_byte, num, place.start, place.since, self.ring.hours, is_old)

    def _draw(self, request: int) -> PackedPlan:
        is_long = request == LONG[0]
        if request == NEXT[0]:
            is_long = is_long_step(self.number, self.order.draws.long_share)
            self.number += 1
        plan = self.ring.draw(self.rng, self.order.draws, is_long=is_long)
        return PackedPlan.of(plan, is_long=is_long and plan.shape == self.order.draws.long)


def read_shard(path: Path) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """A shard's arrays without its samples, and where in the file those begin.

    Raises:
        ValueError: the samples are not the plain int16 that `save_items` writes.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files if name != "samples"}
        entry: zipfile.ZipInfo = file.zip.getinfo("samples.npy")
    with path.open("rb") as file:
        file.seek(entry.header_offset)
        name, extra = ZIP_HEADER.unpack(file.read(ZIP_HEADER.size))
        file.seek(name + extra, 1)
        if entry.compress_type != zipfile.ZIP_STORED or np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{path}: samples are compressed or of a newer format; write shards by save_items")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        if shape != (int(arrays["samples_offsets"][-1]),) or dtype != np.int16:
            raise ValueError(f"{path}: samples are {dtype} of shape {shape}; write shards by save_items")
        return arrays, file.tell()


class Beside:
    """A drawer in this process: it draws while `receive` waits."""

    def __init__(self, order: DrawOrder) -> None:
        self.drawer = Drawer(order)
        self.requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.messages: Iterator[Message] = iter(())

    def ask(self, request: bytes) -> None:
        """See `Source`."""
        self.requests.put(request)

    def receive(self) -> Message:
        """See `Source`."""
        while (message := next(self.messages, None)) is None:
            self.messages = self.drawer.turn(self._requests())
        return message

    def _requests(self) -> bytes:
        found = b""
        with contextlib.suppress(queue.Empty):
            found = self.requests.get(timeout=0.0 if self.drawer.is_busy else LOOK_S) or found
            if not found:
                raise EndedError
        return found

    def close(self) -> None:
        """See `Source`."""
        self.requests.put(b"")


class Apart:
    """A drawer in a process of its own, which ends with this one.

    Args:
        order: what it draws.
        pins: whether plans are put into pinned memory, from which a GPU copies while others work.
    """

    def __init__(self, order: DrawOrder, *, pins: bool) -> None:
        self.pins, self.is_closed = pins, False
        self.socket, theirs = socket.socketpair()
        context = multiprocessing.get_context("spawn")
        # A program's end asks its processes to end before it closes sockets; this one ends when its socket does.
        self.at_end = Finalize(None, self.close, exitpriority=10)
        self.process = context.Process(target=run_drawer, args=(order, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, request: bytes) -> None:
        """See `Source`."""
        with contextlib.suppress(OSError):  # `receive` tells what happened
            self.socket.sendall(request)

    def receive(self) -> Message:
        """See `Source`."""
        try:
            head = json.loads(_received(self.socket))
            kind, told = head["kind"], head["told"]
            if kind == "plan":
                line = torch.empty(told["num_bytes"], dtype=torch.uint8, pin_memory=self.pins)
                _fill(self.socket, line.numpy().data)
                return PackedPlan(told, line)
        except EndedError:
            if not self.is_closed:
                self.process.join(END_S)
                raise EndedError(f"the drawing process is gone, exit code {self.process.exitcode}") from None
            raise
        if kind == "failure":
            raise RuntimeError(f"the drawing process failed:\n{told}")
        return Placed(**told) if kind == "placed" else Quiet()

    def close(self) -> None:
        """See `Source`."""
        self.is_closed = True
        self.at_end.cancel()
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.process.join(END_S)
        self.process.kill()
        self.process.join()
        self.socket.close()


def run_drawer(order: DrawOrder, line: socket.socket) -> None:
    """Draw for who holds the other end of `line`, until that is closed."""
    end_with_parent()
    for number in (signal.SIGTERM, signal.SIGINT):  # whole groups get them; the trainer still wants to save
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    with contextlib.suppress(EndedError, OSError):
        try:
            drawer = Drawer(order)
            while True:
                for message in drawer.turn(_requests(line, 0.0 if drawer.is_busy else LOOK_S)):
                    _send(line, message)
        except (EndedError, BrokenPipeError, ConnectionResetError):
            raise
        except BaseException:
            _say(line, "failure", traceback.format_exc())


def _requests(line: socket.socket, seconds: float) -> bytes:
    """Those that are there, after waiting for one for so long."""
    if not select.select([line], [], [], seconds)[0]:
        return b""
    found = line.recv(1 << 10)
    if not found:
        raise EndedError
    return found


def _send(line: socket.socket, message: Message) -> None:
    if isinstance(message, PackedPlan):
        _say(line, "plan", message.head)
        line.sendall(message.line.numpy().data)
    elif isinstance(message, Placed):
        _say(line, "placed", asdict(message))
    else:
        _say(line, "quiet", None)


def _say(line: socket.socket, kind: str, told: Any) -> None:
    head = json.dumps({"kind": kind, "told": told}).encode()
    line.sendall(LENGTH.pack(len(head)) + head)


def _received(line: socket.socket) -> bytes:
    """What one `_say` said."""
    length = bytearray(LENGTH.size)
    _fill(line, memoryview(length))
    head = bytearray(*LENGTH.unpack(length))
    _fill(line, memoryview(head))
    return bytes(head)


def _fill(line: socket.socket, left: memoryview) -> None:
    """Receive a whole buffer; the interpreter's lock is free meanwhile."""
    while left:
        try:
            num = line.recv_into(left, len(left), socket.MSG_WAITALL)
        except OSError:  # closed here, or left by a process that died with requests unread
            num = 0
        if not num:
            raise EndedError
        left = left[num:]
