"""Our own world as a source: rows with exact answers whose sounds are made when they are needed, and never stored.

`world:counting,needle@2@7` is two hours of two tasks from seed 7, scene for scene what `flamingo world` writes. How
long a scene is shows only once it is made; so all are made once before the run, in parallel, and what is known of them
then (questions, answers, lengths) is kept in the run's folder. While training they are made again, from the same seeds
to the same samples; the latest are kept in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from audioflamingo.config import WINDOW_S
from audioflamingo.errors import OptionError
from audioflamingo.train.data.rows import BadRow, Row, TrainingDataError, make_row
from audioflamingo.train.data.sounds import missing_package
from audioflamingo.train.data.sources import Reading, gathered
from audioflamingo.types import SAMPLE_RATE_HZ, Audio
from audioflamingo.world.workers import Workers, result

if TYPE_CHECKING:
    from audioflamingo.world.export import Order

PREFIX = "world:"
MAX_HOURS = 1_000.0
MAX_SEED = 1 << 53
KEPT_SAMPLES = 256 << 20  # of 2 bytes: four and a half hours
SHORTEST_LONG_S = 40.0  # the world's long tasks need this much
FULL_SCALE = 32_768.0  # what a decoder divides by
AHEAD = 4  # scenes asked of each worker

Pcm = npt.NDArray[np.int16]
SceneRows = list[dict[str, Any]]
Made = tuple[SceneRows, list[Pcm]]


@dataclass(frozen=True)
class LiveWorld:
    """Scenes of some tasks.

    Attributes:
        tasks: names or families, as `flamingo world --tasks` takes them.
        hours: of sound, at least; the last scene is whole.
        seed: decides everything.
        num_workers: processes that make scenes; 0: none, in the caller's.
    """

    tasks: str
    hours: float
    seed: int = 0
    num_workers: int = field(default_factory=lambda: num_cores(), compare=False)

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            TrainingDataError: one is exceeded.
        """
        if not 0 < self.hours <= MAX_HOURS or not 0 <= self.seed <= MAX_SEED:
            raise TrainingDataError(
                f"{self.name} is not usable: hours above 0 and at most {MAX_HOURS:g}, a seed from 0 to {MAX_SEED}"
            )

    @classmethod
    def parse(cls, text: str) -> LiveWorld:
        """From `world:TASKS`, `world:TASKS@HOURS` or `world:TASKS@HOURS@SEED`.

        Raises:
            TrainingDataError: it is not of this form.
        """
        tasks, *numbers = text.removeprefix(PREFIX).split("@")
        try:
            hours, seed = float(numbers[0]) if numbers else 1.0, int(numbers[1]) if len(numbers) > 1 else 0
        except ValueError:
            numbers = ["", "", ""]
        if not tasks or len(numbers) > 2:
            raise TrainingDataError(f"{text!r} is not world:TASKS@HOURS@SEED, such as world:counting,needle@2@7")
        return cls(tasks, hours, seed)

    @property
    def name(self) -> str:
        """As it is written in a mixture."""
        return f"{PREFIX}{self.tasks}@{self.hours:g}@{self.seed}"

    def read(self, reading: Reading) -> tuple[list[Row], list[BadRow]]:
        """See `Source`."""
        order = self._order(reading.max_windows)
        maker = SceneMaker(order, self.num_workers)
        cached = None if reading.cache is None else reading.cache / f"world-{_digest(order, self.hours)}.jsonl"
        scenes = _read_index(cached) or self._made(maker, order.hours * 3_600)
        if cached is not None and not cached.exists():
            _write_index(cached, scenes)
        return gathered(_records(scenes, maker), self.name)

    def _order(self, max_windows: int) -> Order:
        try:
            from audioflamingo.world.export import Order
            from audioflamingo.world.skills import SKILLS, parse_tasks
            from audioflamingo.world.timeline import LONGEST_S, World
        except ImportError as error:
            raise missing_package(error.name or "scipy", "world") from error
        tasks, longest_s = parse_tasks(self.tasks), float(max_windows * WINDOW_S)
        long = [task for task in tasks if SKILLS[task].is_long]
        if long and longest_s < SHORTEST_LONG_S:
            raise OptionError(
                f"scenes of {', '.join(long)} are longer than this recipe's {longest_s:g} s; leave them out, or take a "
                "stage for longer sounds (stage_3, stage_3_5, lora)"
            )
        world = World(longest_s=min(LONGEST_S, max(longest_s, SHORTEST_LONG_S)))
        return Order(tasks, self.hours, self.seed, world)

    def _made(self, maker: SceneMaker, wanted_s: float) -> list[SceneRows]:
        """Rows of scenes, until they are long enough together."""
        scenes: list[SceneRows] = []
        done_s = 0.0
        for rows, clips in maker.first():
            scenes.append(rows)
            done_s += sum(map(len, clips)) / SAMPLE_RATE_HZ
            if done_s >= wanted_s:
                break
        return scenes


class SceneMaker:
    """Makes scenes of an order by their numbers, in other processes where there are some.

    Threads may call it: the world's engines are only ever used by one at a time in each process.
    """

    def __init__(self, order: Order, num_workers: int) -> None:
        self.order, self.num_workers = order, num_workers
        self._lock = Lock()
        self._pool: Workers | None = None
        self._kept: OrderedDict[int, list[Pcm]] = OrderedDict()
        self._num_kept = 0

    def first(self) -> Iterator[tuple[SceneRows, list[Pcm]]]:
        """Scenes in order, without end."""
        ahead: list[Future[Made]] = []
        numbers = count()
        for index in count():
            if self.num_workers:
                while len(ahead) < AHEAD * self.num_workers:
                    ahead.append(self._workers().submit(make_scene, self.order, next(numbers)))
                rows, clips = result(ahead.pop(0))
            else:
                rows, clips = make_scene(self.order, index)
            self._keep(index, clips)
            yield rows, clips

    def clips(self, index: int) -> list[Pcm]:
        """The sounds of a scene, from memory or made again."""
        with self._lock:
            if index in self._kept:
                self._kept.move_to_end(index)
                return self._kept[index]
            if not self.num_workers:
                _, clips = make_scene(self.order, index)
        if self.num_workers:
            _, clips = result(self._workers().submit(make_scene, self.order, index))
        self._keep(index, clips)
        return clips

    def _keep(self, index: int, clips: list[Pcm]) -> None:
        with self._lock:
            if index not in self._kept:
                self._kept[index] = clips
                self._num_kept += sum(map(len, clips))
            while self._num_kept > KEPT_SAMPLES and len(self._kept) > 1:
                self._num_kept -= sum(map(len, self._kept.popitem(last=False)[1]))

    def _workers(self) -> Workers:
        with self._lock:
            if self._pool is None:
                self._pool = Workers(self.num_workers)
                weakref.finalize(self, self._pool.close)
            return self._pool


@dataclass(frozen=True)
class SceneSound:
    """One sound of a scene.

    Attributes:
        maker: of the scene.
        scene: its number.
        clip: number within the scene.
        num_samples: at 16 kHz.
        name: for reports.
    """

    maker: SceneMaker = field(repr=False, compare=False)
    scene: int
    clip: int
    num_samples: int
    name: str

    def load(self) -> Audio:
        """See `StoredSound`: what a decoder gives for the file that `flamingo world` writes."""
        samples = self.maker.clips(self.scene)[self.clip].astype(np.float32) / np.float32(FULL_SCALE)
        return Audio(samples, self.name)

    def duration_s(self) -> float:
        """See `StoredSound`."""
        return self.num_samples / SAMPLE_RATE_HZ


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_scene(order: Order, index: int) -> tuple[SceneRows, list[Pcm]]:
    """Rows of a scene, with the lengths of its sounds in samples for paths, and its sounds."""
    from audioflamingo.world.export import pcm16, rows_of, scene, task_of

    made = scene(order, index)
    clips = [pcm16(clip) for clip in made.clips]
    name = f"{task_of(order, index)}-{order.world.split}-{order.seed}-{index:07d}"
    rows = rows_of(name, [str(len(clip)) for clip in clips], made)
    return [{**row, "scene": index} for row in rows], clips


def _records(scenes: list[SceneRows], maker: SceneMaker) -> Iterator[tuple[str, str, Callable[[], Row]]]:
    for rows in scenes:
        for row in rows:
            yield row["id"], row["id"], partial(_row, row, maker)


def _row(values: dict[str, Any], maker: SceneMaker) -> Row:
    lengths = values["sound"] if isinstance(values["sound"], list) else [values["sound"]]
    scene = values["scene"]
    sounds = tuple(
        SceneSound(maker, scene, clip, int(length), f"scene-{scene:07d}-{clip}") for clip, length in enumerate(lengths)
    )
    return make_row(values, sounds, values["id"])


def _digest(order: Order, hours: float) -> str:
    settings = order.settings() | {"audio": None, "hours": hours}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _read_index(path: Path | None) -> list[SceneRows] | None:
    if path is None or not path.is_file():
        return None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _write_index(path: Path, scenes: list[SceneRows]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_text("".join(json.dumps(rows, ensure_ascii=False) + "\n" for rows in scenes), encoding="utf-8")
    partial.replace(path)
