"""Beside the trainer: a thread that takes what the drawer says, writes shards' samples to the ring, and hands plans on.

No plan hears samples that are not its own:

* Samples and plans are copied to a GPU on one stream in the order in which the drawer said them, and an event behind a
  plan tells the trainer's stream when the plan, and with it every sample that it may hear, is there.
* Before a shard's samples are written, all plans that may hear what lies there must have been heard. Which those are
  says `Placed.since`; a plan has been heard when the next one is taken, and an event on the trainer's stream tells the
  copying one when the GPU is as far. The guard of `nano_pool` sees to it that this is hardly ever waited for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioflamingo.train.nano_draw import (
    END_S,
    LONG,
    NEXT,
    READ,
    SHORT,
    Apart,
    Beside,
    DrawOrder,
    Placed,
    Quiet,
    Source,
)
from audioflamingo.train.nano_packed import PackedPlan
from audioflamingo.train.nano_plan import Plan
from audioflamingo.train.nano_pool import Draws

PREFETCHED = 4
KEPT = "kept"
BYTES_PER_S = 32_000
SWITCH_S = 0.0005  # the thread that launches kernels must not wait for long
PIECE = 1 << 21  # samples that are read from the disk at once


@dataclass(eq=False)
class Ready:
    """A plan that was drawn when `num_placed` shards had been.

    Attributes:
        plan: the one.
        num_placed: see above.
        sent: its bytes on the CPU, from which a GPU may still be copying.
        line: what its tensors see.
        arrived: on a GPU, an event behind the copy.
    """

    plan: Plan
    num_placed: int
    sent: Tensor
    line: Tensor
    arrived: Any


class NanoFeed:
    """Plans on the device, drawn ahead.

    Args:
        samples: (N,) int16, the ring, on the trainer's device.
        folder: where shards appear; once they are read they go to its folder `kept`.
        draws: how.
        seed: of the drawing.
        keep_hours: of sound that `kept` holds at most; a later piece reads them first.
        first_step: number in the whole run of the first step that `next` gives.
        apart: whether a process of its own draws; None has one on a GPU.
    """

    def __init__(
        self, samples: Tensor, folder: Path, draws: Draws, seed: tuple[int, ...], *, keep_hours: float = 0.0,
        first_step: int = 0, apart: bool | None = None,
    ) -> None:  # fmt: skip
        self.writer, self.draws = SampleWriter(samples), draws
        self.kept = Kept(folder, keep_hours)
        order = DrawOrder(folder, tuple(self.kept.sizes), len(samples), draws, seed, first_step)
        on_gpu = samples.device.type == "cuda"
        self.source: Source = Apart(order, pins=on_gpu) if (on_gpu if apart is None else apart) else Beside(order)
        self.ready: list[Ready] = []
        self.in_hand: Ready | None = None  # the plan that was taken last
        self.lent: deque[tuple[Ready, Any]] = deque()  # with when the GPU has heard it: until then its memory stays
        self.heard: dict[int, Any] = {}  # by `num_placed`, when the GPU had heard the last such plan
        self.condition = threading.Condition()
        self.thread: threading.Thread | None = None
        self.stopped = False
        self.failure: BaseException | None = None
        self.num_placed = self.num_shards = 0
        self.hours = self.waited_s = 0.0

    def fill(self, hours: float, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until so much sound is there; nothing else runs meanwhile."""
        while self.hours < hours:
            if not self._take_one() and not is_alive():
                raise RuntimeError("all rendering processes ended before the first sounds were there")

    def one(self, *, is_long: bool = False) -> Plan:
        """A plan out of turn, before `start`; a long one only if there is a long sound."""
        self._hear()
        self.source.ask(LONG if is_long else SHORT)
        while not self.ready:
            self._take_one()
        return self._handed()

    def start(self) -> None:
        """From now on a thread takes what is drawn."""
        sys.setswitchinterval(SWITCH_S)
        self._hear()
        self.source.ask(NEXT * PREFETCHED)
        self.thread = threading.Thread(target=self._take_on, daemon=True)
        self.thread.start()

    def next(self) -> Plan:
        """The next plan; the one before must have been heard: its step's kernels are launched."""
        began = time.monotonic()
        self._hear()
        with self.condition:
            self.condition.wait_for(lambda: self.ready or self.failure)
            if self.failure is not None:
                raise RuntimeError("a feeding thread failed") from self.failure
            plan = self._handed()
        self.source.ask(NEXT)
        self.waited_s += time.monotonic() - began
        return plan

    def stop(self) -> None:
        """End the thread and whoever draws."""
        with self.condition:
            self.stopped = True
            self.condition.notify_all()
        self.source.close()
        if self.thread is not None:
            self.thread.join(END_S)

    def _handed(self) -> Plan:
        first = self.ready.pop(0)
        self.in_hand = first
        self.writer.lend(first)
        return first.plan

    def _hear(self) -> None:
        """The plan in hand is no longer."""
        with self.condition:
            if self.in_hand is not None:
                event = self.writer.now()
                self.heard[self.in_hand.num_placed] = event
                self.lent.append((self.in_hand, event))
                self.in_hand = None
                self.condition.notify_all()
        while self.lent and (self.lent[0][1] is None or self.lent[0][1].query()):
            self.lent.popleft()

    def _take_on(self) -> None:
        try:
            self.writer.enter_thread()
            while not self.stopped:
                self._take_one()
        except BaseException as error:  # a thread's failure must end the run, not hang it
            with self.condition:
                self.failure = error
                self.condition.notify_all()

    def _take_one(self) -> bool:
        """One message of the drawer's; False if there was nothing to do."""
        message = self.source.receive()
        if isinstance(message, Placed):
            self._write(message)
        elif isinstance(message, PackedPlan):
            shape = self.draws.long if message.head["is_long"] else self.draws.short
            line, arrived = self.writer.sent(message.line)
            ready = Ready(message.plan(shape, line), self.num_placed, message.line, line, arrived)
            with self.condition:
                self.ready.append(ready)
                self.condition.notify_all()
        return not isinstance(message, Quiet)

    def _write(self, placed: Placed) -> None:
        with self.condition:
            self.condition.wait_for(lambda: self.stopped or self._is_free(placed.since))
            if self.stopped:
                return
            before = [self.heard.pop(when) for when in list(self.heard) if when < placed.since]
        path = Path(placed.path)
        self.writer.write(path, placed.first_byte, placed.start, placed.num_samples, before)
        self.kept.take(path, is_old=placed.is_old)
        self.source.ask(READ)
        self.num_placed += 1
        self.num_shards += not placed.is_old
        self.hours = placed.hours

    def _is_free(self, since: int) -> bool:
        under_way = [*self.ready, *([] if self.in_hand is None else [self.in_hand])]
        return all(one.num_placed >= since for one in under_way)


class SampleWriter:
    """Copies samples into the ring, and plans; on a GPU on a stream of its own, from pinned memory.

    Args:
        samples: (N,) int16, the ring.
    """

    def __init__(self, samples: Tensor) -> None:
        self.samples, self.device = samples, samples.device
        self.stream: Any = None
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self.pieces = [torch.empty(PIECE, dtype=torch.int16, pin_memory=True) for _ in range(2)]
            self.copied: list[Any] = [torch.cuda.Event() for _ in self.pieces]  # type: ignore[no-untyped-call]
            self.stream.wait_stream(torch.cuda.current_stream(self.device))  # which made the ring

    def enter_thread(self) -> None:
        """Every thread begins with the first GPU."""
        if self.device.index is not None:
            torch.cuda.set_device(self.device)

    def now(self) -> Any:
        """An event behind all that the caller's stream has to do; None on a CPU."""
        if self.stream is None:
            return None
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event

    def write(self, path: Path, first_byte: int, start: int, num_samples: int, before: list[Any]) -> None:
        """Read (N,) int16 from a file's byte on, and write them from `start` on once the events have come."""
        rooms = torch.split(self.samples[start : start + num_samples], PIECE)
        with path.open("rb", buffering=0) as file:
            file.seek(first_byte)
            if self.stream is None:
                for room in rooms:
                    _read(file, room)
                return
            for event in before:
                self.stream.wait_event(event)
            with torch.cuda.stream(self.stream):
                for number, room in enumerate(rooms):
                    piece, copied = self.pieces[number % 2][: len(room)], self.copied[number % 2]
                    copied.synchronize()  # what lay in this piece before is out of it
                    _read(file, piece)
                    room.copy_(piece, non_blocking=True)
                    copied.record()

    def sent(self, line: Tensor) -> tuple[Tensor, Any]:
        """(bytes,) uint8 on its way to the device, and an event behind it; None on a CPU."""
        if self.stream is None:
            return line, None
        with torch.cuda.stream(self.stream):
            there = (line if line.is_pinned() else line.pin_memory()).to(self.device, non_blocking=True)
            return there, self.now()

    def lend(self, ready: Ready) -> None:
        """The caller's stream may read a plan from now on, and its memory is not used again before it has."""
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(ready.arrived)
            ready.line.record_stream(current)


def _read(file: Any, into: Tensor) -> None:
    """Fill a CPU tensor from a raw file; the interpreter's lock is free meanwhile."""
    left = into.numpy().data.cast("B") if len(into) else memoryview(b"")  # a shard may be text alone
    while left:
        num = file.readinto(left)
        if not num:
            raise EOFError(f"{file.name}: ends within its samples; delete it")
        left = left[num:]


class Kept:
    """Shards that were read stay for the next piece on this machine, the newest of them.

    Args:
        folder: where shards appear; they stay in its folder `kept`.
        hours: how much of them.
    """

    def __init__(self, folder: Path, hours: float) -> None:
        self.folder = folder / KEPT
        self.folder.mkdir(parents=True, exist_ok=True)
        self.num_bytes = hours * 3_600 * BYTES_PER_S
        self.sizes = {path: path.stat().st_size for path in sorted(self.folder.glob("shard-*.npz"))}
        self.unread = set(self.sizes)

    def take(self, path: Path, *, is_old: bool) -> None:
        """A shard that is read; the oldest go where there are too many, but none that is still to be read."""
        if is_old:
            self.unread.discard(path)
        else:
            kept = path.rename(self.folder / path.name)
            self.sizes[kept] = kept.stat().st_size
        while self.sizes and sum(self.sizes.values()) > self.num_bytes:
            oldest = next(iter(self.sizes))
            if oldest in self.unread:
                break
            oldest.unlink()
            del self.sizes[oldest]
