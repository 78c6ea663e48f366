"""One piece of the embedded model's training from start to end: workers, feed, steps, looks, states.

`nano` is the command around it.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from audioflamingo.train.nano_bench import chosen_speed, listed_kernels, start_look
from audioflamingo.train.nano_check import Checks
from audioflamingo.train.nano_feed import NanoFeed
from audioflamingo.train.nano_graphs import Speed
from audioflamingo.train.nano_items import PlainTokenizer
from audioflamingo.train.nano_pool import Draws
from audioflamingo.train.nano_ranks import Ranks, Word
from audioflamingo.train.nano_recipe import NanoRecipe
from audioflamingo.train.nano_state import read_progress
from audioflamingo.train.nano_trainer import NanoTrainer, Start, decay_share
from audioflamingo.train.nano_workers import ITEMS_PER_SHARD, RenderOrder, start_workers

LOG_EVERY_S = 10.0
SHARDS_AHEAD = 16  # of each process: what may wait on the disk while a GPU is looked at


@dataclass(frozen=True)
class Job:
    """One piece of training; of several processes, each has its own workers, pool and shards.

    Attributes:
        work: folder of shards, of held-out items and of the exact state, on this machine.
        out: folder of what goes out: the small state, the checkpoint, the log.
        begin: what a run without a state begins with.
        resume: folder of a small state, or None.
        piece_s: seconds of training in this piece.
        decay_s: of which so many end it with falling rates; 0 leaves the rates up.
        num_workers: rendering processes.
        pool_hours: length of the ring of sound.
        first_hours: training starts when so many are there.
        check_every_s: between two looks at held-out items.
        num_steps: end after so many steps; 0 is no limit.
        longest_s: of the scenes.
        check_counts: held-out items of each kind; None takes the usual.
        items_per_shard: see `RenderOrder`.
        keep_hours: of sound that stay on the disk for the next piece on this machine.
        profiled_step: number in this piece of the step whose kernels are listed in `out`; 0 is none.
        soundfonts: through which half of the music is played.
        draws_apart: whether a process of its own draws the steps; None has one on a GPU.
        until_s: the piece ends when so many seconds of training are reached in all pieces together, however often it
            was broken off; 0 has it end after `piece_s` of its own.
        after_s: seconds of training of later pieces that are among the last `decay_s`.
    """

    work: Path
    out: Path
    begin: Start
    resume: Path | None
    piece_s: float
    decay_s: float = 0.0
    num_workers: int = 2
    pool_hours: float = 1.0
    first_hours: float = 0.05
    check_every_s: float = 120.0
    num_steps: int = 0
    longest_s: float = 600.0
    check_counts: dict[str, int] | None = None
    items_per_shard: int = ITEMS_PER_SHARD
    keep_hours: float = 0.0
    profiled_step: int = 0
    soundfonts: tuple[Path, ...] = ()
    draws_apart: bool | None = None
    until_s: float = 0.0
    after_s: float = 0.0


class Piece:
    """One piece from start to end, as one of its processes has it: the first one checks, logs and writes."""

    def __init__(
        self, recipe: NanoRecipe, job: Job, device: torch.device, speed: str, ranks: Ranks | None = None
    ) -> None:
        self.recipe, self.job, self.device, self.ranks = recipe, job, device, ranks or Ranks()
        self.began = time.monotonic()
        self.shards = self.ranks.folder(job.work) / "shards"
        tokenizer = PlainTokenizer(job.begin.tokenizer)
        self.workers, self.stop_workers = start_workers(self._order(), job.num_workers)
        try:
            chosen, self.checks = self._prepare(tokenizer, speed)
            self.trainer = NanoTrainer(recipe, job.begin, device, chosen, self.ranks)
            self._take_state()
            self.piece_s = job.until_s - self.trainer.spent_s if job.until_s else job.piece_s
            self.samples = torch.zeros(round(job.pool_hours * 3_600 * 16_000), dtype=torch.int16, device=device)
            self.feed = NanoFeed(
                self.samples, self.shards, self._draws(tokenizer), self._seed_of_draws(), keep_hours=job.keep_hours,
                first_step=self.trainer.num_steps, apart=job.draws_apart,
            )  # fmt: skip
        except BaseException:
            self._end_workers()
            raise
        self.is_told_to_end = threading.Event()

    def _order(self) -> RenderOrder:
        job, recipe = self.job, self.recipe
        return RenderOrder(
            self.shards, job.begin.tokenizer, self.ranks.seed(recipe.seed) + self._steps_elsewhere(), recipe.mixture,
            max_ahead=max(4, SHARDS_AHEAD * job.num_workers), longest_s=job.longest_s,
            items_per_shard=job.items_per_shard, soundfonts=job.soundfonts,
        )  # fmt: skip

    def _steps_elsewhere(self) -> int:
        """What another machine has done: its scenes are not rendered again."""
        return 0 if self.job.resume is None else int(read_progress(self.job.resume)["num_steps"])

    def _prepare(self, tokenizer: PlainTokenizer, speed: str) -> tuple[Speed, Checks | None]:
        """The first process looks which speed is the best and makes held-out items; the others wait for the speed."""
        job, checks = self.job, None
        if self.ranks.is_first:
            look = start_look(speed, job.work, self.device)
            checks = Checks(
                job.work / "checks.npz", tokenizer, self.device, self.recipe.model.decoder.vocab_size,
                counts=job.check_counts or self.recipe.checks, longest_s=job.longest_s,
            )  # fmt: skip
            speed = chosen_speed(speed, job.work, self.device, look)
        return cast("Speed", self.ranks.from_first(speed)), checks

    def _seed_of_draws(self) -> tuple[int, ...]:
        alone = (self.recipe.seed, self.trainer.num_steps)
        return alone if self.ranks.is_first else (*alone, self.ranks.rank)

    def _draws(self, tokenizer: PlainTokenizer) -> Draws:
        recipe = self.recipe
        return Draws(
            recipe.short, recipe.long, recipe.long_share, recipe.model.decoder.vocab_size,
            tokenizer.encode("<sound>")[0], recipe.token_noise, recipe.one_clip,
        )  # fmt: skip

    @property
    def state_file(self) -> Path:
        """The exact state."""
        return self.job.work / "state.pt"

    def _take_state(self) -> None:
        if self.ranks.is_first and self.state_file.exists():
            self.trainer.restore(torch.load(self.state_file, map_location=self.device, weights_only=True))
        elif self.ranks.is_first and self.job.resume is not None:
            self.trainer.restore_small(self.job.resume)
        self.trainer.take_from_first()

    def run(self) -> NanoTrainer:
        """Train, and save whatever ends it but a failure."""
        previous = signal.signal(signal.SIGTERM, lambda *_: self.is_told_to_end.set())
        try:
            self.feed.fill(self.job.first_hours, lambda: any(worker.is_alive() for worker in self.workers))
            self.log({"ready_after_s": round(time.monotonic() - self.began, 1), "speed": self.trainer.runner.speed})
            self._capture()
            self.feed.start()
            self.ranks.open_lines(self.device)
            self._loop()
        finally:
            self.feed.stop()
            self._end_workers()
            signal.signal(signal.SIGTERM, previous)
        if self.ranks.is_first:
            self._save()
        return self.trainer

    def _capture(self) -> None:
        """Compile and capture before any thread runs; this changes no weights."""
        runner = self.trainer.runner
        if runner.speed == "eager":
            return
        began, seen, apart = time.monotonic(), set(), list[float]()
        mode = self.recipe.phase(self.trainer.spent_s).mode
        for is_long in (False, True)[: 1 + bool(self.recipe.long_share)]:
            plan = self.feed.one(is_long=is_long)
            if plan.shape in seen:
                continue
            seen.add(plan.shape)
            apart.append(runner.prepare(self.trainer.mel(self.samples, plan), plan, mode))
        seconds = round(time.monotonic() - began, 1)
        self.log({"captured_after_s": seconds, "shapes": len(seen), "apart": apart, "speed": runner.speed})

    def _loop(self) -> None:
        trainer, job = self.trainer, self.job
        began, before, first_step = time.monotonic(), trainer.spent_s, trainer.num_steps
        sums, num, logged, checked, falls, compares = dict[str, Tensor](), 0, began, began, False, False
        while not (word := self.ranks.tell(self._word(before, first_step, compares=compares))).ends:
            trainer.spent_s, compares = word.spent_s, False
            if word.compares:
                self._compare()
            if word.decay < 1.0 and not falls:
                falls = True
                self._keep_undecayed()
            with self._watched(trainer.num_steps + 1 - first_step):
                losses = trainer.step(self.samples, self.feed.next(), word.decay)
            if not self.ranks.is_first:
                continue
            for name, value in losses.items():
                sums[name] = sums[name] + value if name in sums else value
            num += 1
            now = time.monotonic()
            if now - logged >= LOG_EVERY_S or trainer.num_steps == first_step + 1:
                self.log(self._means(sums, num, now - logged, word.decay))
                sums, num, logged = {}, 0, time.monotonic()
            if now - checked >= job.check_every_s:
                self.log(self._check())
                self._keep_state()  # whatever ends this piece costs no more than the time since
                checked = logged = time.monotonic()
                sums, num, compares = {}, 0, True
            trainer.spent_s = before + time.monotonic() - began
        trainer.spent_s = word.spent_s
        self._compare()

    def _word(self, before: float, first_step: int, *, compares: bool) -> Word:
        """What the first process decides before each step; the others' is not heard."""
        job, trainer = self.job, self.trainer
        spent_s = trainer.spent_s - before
        done = bool(job.num_steps) and trainer.num_steps >= first_step + job.num_steps
        return Word(
            trainer.spent_s, decay_share(self.piece_s + job.after_s - spent_s, job.decay_s, self.recipe.last_rate),
            ends=self.is_told_to_end.is_set() or done or spent_s >= self.piece_s, compares=compares,
        )  # fmt: skip

    def _compare(self) -> None:
        """All processes have the same weights; should bits differ, the log says so, and all get the first one's."""
        if self.ranks.size == 1:
            return
        are_equal = self.ranks.are_equal(self.trainer.optimiser.masters)
        self.log({"ranks": self.ranks.size, "weights_are_equal": are_equal})
        if not are_equal:
            self.trainer.take_from_first()

    def _check(self) -> dict[str, float]:
        assert self.checks is not None, "only the first process has held-out items"
        return self.checks.run(self.trainer.model, self.trainer.heads)

    def _watched(self, number: int) -> AbstractContextManager[None]:
        """A step of this piece, counted from 1: of the one that was asked for, what its kernels took."""
        if number != self.job.profiled_step or not self.ranks.is_first:
            return nullcontext()
        return listed_kernels(self.job.out / "profile.txt", self.device)

    def _means(self, sums: dict[str, Tensor], num: int, seconds: float, decay: float) -> dict[str, Any]:
        values = {name: round(float(value) / num, 4) for name, value in sums.items()}
        return {"ms_per_step": round(1_000 * seconds / num, 1), "decay": round(decay, 3), **values}

    def _save(self) -> None:
        """The exact state here; the small one and the better of the last and the averaged weights outside."""
        trainer, out = self.trainer, self.job.out
        self._keep_state()
        last = self._check()
        self.log({"weights": "last", **last})
        with trainer.with_average():
            mean = self._check()
            self.log({"weights": "averaged", **mean})
            is_better = mean["val_tokens"] >= last["val_tokens"]
            if is_better:
                trainer.export(out)
        if not is_better:
            trainer.export(out)
        if self.recipe.adapter is None:
            # Whoever goes on with rates up wants the last weights; a piece that decays is an end.
            trainer.save_small(out / "small", averaged=is_better and self.job.decay_s > self.job.after_s)

    def _keep_undecayed(self) -> None:
        """A small state to go on from: what has fallen to small rates is an end."""
        if self.ranks.is_first and self.recipe.adapter is None:
            self.trainer.save_small(self.job.out / "before_decay")

    def _keep_state(self) -> None:
        """The exact state, which appears under its name when it is whole."""
        partial = self.state_file.with_suffix(".partial")
        torch.save(self.trainer.state(), partial)
        partial.replace(self.state_file)

    def _end_workers(self) -> None:
        self.stop_workers.set()
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.join()

    def log(self, values: dict[str, Any]) -> None:
        """A line of JSON, printed and kept: of the first process, but for what all have heard."""
        if not self.ranks.is_first:
            return
        trainer = self.trainer
        line = {
            "s": round(trainer.spent_s, 1), "step": trainer.num_steps, "heard_h": round(trainer.heard_s / 3_600, 2),
            "pool_h": round(self.feed.hours, 2), "shards": self.feed.num_shards,
            "waited_s": round(self.feed.waited_s, 1), **values,
        }  # fmt: skip
        print(json.dumps(line), flush=True)
        self.job.out.mkdir(parents=True, exist_ok=True)
        with (self.job.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
