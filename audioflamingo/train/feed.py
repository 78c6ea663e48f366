"""Packs of a run, decoded ahead of time in threads. A row that turns out to be broken is left out and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from audioflamingo.errors import FlamingoError
from audioflamingo.train.data import BadRow, Corpus, Example, ExampleMaker, Schedule
from audioflamingo.train.data.schedule import Pack
from audioflamingo.world.workers import LostWorkerError

NUM_THREADS = 4
CACHE_SAMPLES = 512 << 18  # 512 MB of fp32: a small data set is decoded once


class Feed:
    """Examples of every step, for one process of several.

    Args:
        corpus: rows.
        maker: turns them into examples.
        schedule: which and when.
        rank: of this process; it gets every `schedule.num_processes`-th pack.
        bad: rows that were found broken before a resume, by index.
        bad_file: where the run lists them, for errors.
    """

    def __init__(
        self,
        corpus: Corpus,
        maker: ExampleMaker,
        schedule: Schedule,
        *,
        rank: int = 0,
        bad: Mapping[int, BadRow] | None = None,
        bad_file: Path | None = None,
    ) -> None:
        self.bad_file = bad_file
        self.corpus, self.maker, self.schedule, self.rank = corpus, maker, schedule, rank
        self.bad: dict[int, BadRow] = dict(bad or {})
        self._threads = ThreadPoolExecutor(NUM_THREADS)
        self._waiting: dict[int, list[tuple[int, list[Future[Example | None]]]]] = {}
        self._cache: OrderedDict[int, Example] = OrderedDict()
        self._cached_samples = 0
        self._lock = Lock()

    def step(self, number: int) -> list[tuple[int, list[Example]]]:
        """This process's packs of a step: each one's number within the step, and its examples, perhaps none.

        Every process gets equally many: where the last step of an epoch runs out, empty ones fill it up.
        """
        for ahead in (number, number + 1):
            if ahead not in self._waiting and ahead < self.schedule.num_steps:
                self._waiting[ahead] = [(index, self._submit(pack)) for index, pack in self._mine(ahead)]
        packs = self._waiting.pop(number)
        return [
            (index, [example for future in futures if (example := future.result()) is not None])
            for index, futures in packs
        ]

    @property
    def bad_rows(self) -> list[BadRow]:
        """Rows that turned out to be broken, each once however often the mixture repeats it."""
        return list({row.origin: row for row in self.bad.values()}.values())

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _mine(self, number: int) -> list[tuple[int, Pack]]:
        packs = self.schedule.step(number)
        size = self.schedule.num_processes
        filled = [*packs, *[()] * (-len(packs) % size)]
        return [(index, filled[index]) for index in range(self.rank, len(filled), size)]

    def _submit(self, pack: Pack) -> list[Future[Example | None]]:
        return [self._threads.submit(self._example, index) for index in pack]

    def _example(self, index: int) -> Example | None:
        with self._lock:
            if index in self.bad:
                return None
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        row = self.corpus.samples[index].row
        try:
            example = self.maker.make(row)
        except LostWorkerError:  # no fault of the row's: the run stops, and goes on from its checkpoint
            raise
        except FlamingoError as error:
            with self._lock:
                self.bad[index] = BadRow(row.origin, row.id[:100], str(error))
            return None
        self._keep(index, example)
        return example

    def _keep(self, index: int, example: Example) -> None:
        with self._lock:
            self._cache[index] = example
            self._cached_samples += _num_samples(example)
            while self._cached_samples > CACHE_SAMPLES and self._cache:
                self._cached_samples -= _num_samples(self._cache.popitem(last=False)[1])


def _num_samples(example: Example) -> int:
    return sum(len(audio.samples) for audio in example.audios)
