"""Threads beside the trainer: one loads shards into the pool as they appear, one draws the next steps."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audioflamingo.train.nano_plan import Plan
from audioflamingo.train.nano_pool import Draws, ItemPool

PREFETCHED = 4
KEPT = "kept"
BYTES_PER_S = 32_000
OLD_AT_ONCE = 20
SWITCH_S = 0.0005  # the thread that launches kernels must not wait for one that packs


class NanoFeed:
    """Plans on the device, drawn ahead.

    Args:
        pool: what is drawn from.
        folder: where shards appear; once they are read they go to its folder `kept`.
        draws: how.
        seed: of the drawing.
        keep_hours: of sound that `kept` holds at most; a later piece reads them first.
    """

    def __init__(
        self, pool: ItemPool, folder: Path, draws: Draws, seed: tuple[int, ...], *, keep_hours: float = 0.0
    ) -> None:
        self.pool, self.folder, self.draws = pool, folder, draws
        self.kept = folder / KEPT
        self.kept.mkdir(parents=True, exist_ok=True)
        self.keep_bytes = keep_hours * 3_600 * BYTES_PER_S
        self.old = sorted(self.kept.glob("shard-*.npz"))
        self.sizes = {path: path.stat().st_size for path in self.old}
        self.rng = np.random.default_rng(seed)
        self.ready: list[Plan] = []
        self.condition = threading.Condition()
        self.stopped = False
        self.failure: BaseException | None = None
        self.num_shards = 0
        self.waited_s = 0.0

    def fill(self, hours: float, is_alive: Callable[[], bool] = lambda: True) -> None:
        """Wait until so much sound is there; nothing else runs meanwhile."""
        while self.pool.hours < hours:
            if not self._load():
                if not is_alive():
                    raise RuntimeError("all rendering processes ended before the first sounds were there")
                time.sleep(0.2)

    def start(self) -> None:
        """From now on load and draw in threads."""
        sys.setswitchinterval(SWITCH_S)
        for loop in (self._load_on, self._draw_on):
            threading.Thread(target=self._guard, args=(loop,), daemon=True).start()

    def one(self) -> Plan:
        """A plan drawn here and now."""
        return self.pool.draw(self.rng, self.draws).to(self.pool.device)

    def next(self) -> Plan:
        """The next plan."""
        began = time.monotonic()
        with self.condition:
            self.condition.wait_for(lambda: self.ready or self.failure)
            if self.failure is not None:
                raise RuntimeError("a feeding thread failed") from self.failure
            plan = self.ready.pop(0)
            self.condition.notify_all()
        self.waited_s += time.monotonic() - began
        return plan

    def stop(self) -> None:
        """End the threads."""
        with self.condition:
            self.stopped = True
            self.condition.notify_all()

    def _guard(self, loop: Callable[[], None]) -> None:
        try:
            if self.pool.device.index is not None:
                torch.cuda.set_device(self.pool.device)  # every thread begins with the first GPU
            loop()
        except BaseException as error:  # a thread's failure must end the run, not hang it
            with self.condition:
                self.failure = error
                self.condition.notify_all()

    def _load(self) -> int:
        """Read all shards that are there, and some of an earlier piece; returns how many."""
        paths = sorted(self.folder.glob("shard-*.npz"))
        for path in paths:
            if self.stopped:
                break
            self.pool.append(path)
            self._keep(path)
            self.num_shards += 1
        old, self.old = self.old[:OLD_AT_ONCE], self.old[OLD_AT_ONCE:]
        for path in old:
            if path.exists() and not self.stopped:
                self.pool.append(path)
        return len(paths) + len(old)

    def _keep(self, path: Path) -> None:
        """Move a shard that is read; the oldest go where there are too many."""
        kept = path.rename(self.kept / path.name)
        self.sizes[kept] = kept.stat().st_size
        while self.sizes and sum(self.sizes.values()) > self.keep_bytes:
            oldest = next(iter(self.sizes))
            oldest.unlink()
            del self.sizes[oldest]

    def _load_on(self) -> None:
        on_gpu = self.pool.device.type == "cuda"
        stream: Any = torch.cuda.Stream() if on_gpu else None  # type: ignore[no-untyped-call]
        while not self.stopped:
            with torch.cuda.stream(stream):
                found = self._load()
            if not found:
                time.sleep(0.3)

    def _draw_on(self) -> None:
        while not self.stopped:
            plan = self.one()
            with self.condition:
                self.condition.wait_for(lambda: len(self.ready) < PREFETCHED or self.stopped)
                self.ready.append(plan)
                self.condition.notify_all()
