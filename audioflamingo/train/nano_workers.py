"""Processes that render shards of items beside the trainer, for as long as it wants more."""

from __future__ import annotations

import multiprocessing
import os
import threading
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event as StopEvent
from pathlib import Path

from audioflamingo.train.nano_items import PlainTokenizer, save_items
from audioflamingo.train.nano_render import draw_item

ITEMS_PER_SHARD = 96
NICENESS = 10  # the trainer launches kernels one after another: it must not wait for a core


@dataclass(frozen=True)
class RenderOrder:
    """What all processes render; a shard's scenes depend on the seed and its number, not to the last sample.

    Attributes:
        folder: where shards appear.
        tokenizer_file: tokenizer.json.
        seed: of everything.
        mixture: a key of `SHARES`.
        max_ahead: so many shards may wait for the trainer, which deletes what it has read.
        longest_s: of the long scenes.
        items_per_shard: a shard appears when it is whole.
        soundfonts: half of the music is played through one of these; none leaves it all to our synthesiser.
    """

    folder: Path
    tokenizer_file: Path
    seed: int
    mixture: str = "all"
    max_ahead: int = 64
    longest_s: float = 600.0
    items_per_shard: int = ITEMS_PER_SHARD
    soundfonts: tuple[Path, ...] = ()


def run_order(order: RenderOrder, worker: int, num_workers: int, stop: StopEvent) -> None:
    """Write this worker's shards until told to stop; waits while too many are unread."""
    end_with_parent()
    if multiprocessing.parent_process() is not None:
        os.nice(NICENESS)
    tokenizer = PlainTokenizer(order.tokenizer_file)
    number = _next_number(order.folder, worker, num_workers)
    while not stop.is_set():
        if sum(1 for _ in order.folder.glob("shard-*.npz")) >= order.max_ahead:
            stop.wait(0.5)
            continue
        seeds = [(order.seed, number, i) for i in range(order.items_per_shard)]
        items = [
            draw_item(seed, tokenizer, mixture=order.mixture, longest_s=order.longest_s, soundfonts=order.soundfonts)
            for seed in seeds
        ]
        save_items(items, order.folder / f"shard-{number:06d}.npz")
        number += num_workers
        (order.folder / f"next-{worker}.txt").write_text(str(number))


def end_with_parent() -> None:
    """A trainer that is killed cannot end its workers, so each of them watches it."""
    parent = multiprocessing.parent_process()
    if parent is None:  # not a worker's process
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _next_number(folder: Path, worker: int, num_workers: int) -> int:
    """Where this worker stopped, so that a resumed run hears new scenes."""
    file = folder / f"next-{worker}.txt"
    number = int(file.read_text()) if file.exists() else worker
    return number + (worker - number) % num_workers


def start_workers(order: RenderOrder, num_workers: int) -> tuple[list[SpawnProcess], StopEvent]:
    """Start the processes; set the returned event to stop them after their current shard."""
    order.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker is one of as many as there are cores
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = [
        context.Process(target=run_order, args=(order, worker, num_workers, stop), daemon=True)
        for worker in range(num_workers)
    ]
    for process in workers:
        process.start()
    return workers, stop
