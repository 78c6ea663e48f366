"""Train the embedded model from nothing: render the world, learn from it, save in the released checkpoint's form.

python -m audioflamingo.train.nano --work runs/nano --out out --budget-s 1080 --until-s 540
python -m audioflamingo.train.nano --work runs/nano --out out --budget-s 1080            # goes on from there
"""

from __future__ import annotations

import argparse
import json
import math
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.clips import END_OF_TURN, EVENT_NAMES, SYSTEM_AND_USER, load_shard, save_shard
from audioflamingo.train.features import BatchLogMel
from audioflamingo.train.heads import ListeningHeads
from audioflamingo.train.initialise import initialise
from audioflamingo.train.optim import MasterAdamW
from audioflamingo.train.pool import Batch, ClipPool, text_only_batch
from audioflamingo.train.recipes import Recipe, nano
from audioflamingo.train.render import PlainTokenizer, render_clip, start_rendering
from audioflamingo.train.step import losses, text_only_loss
from audioflamingo.train.validate import Validation

PREFETCHED = 4
LOG_EVERY_STEPS = 50
TEXT_ONLY_EVERY_STEPS = 20
HOURS_PER_SHARD = 0.12  # of the mixture, measured; a little less, so that the pool is filled


@dataclass(frozen=True)
class Job:
    """Where and how long to train.

    Attributes:
        work: folder of shards and of the state that a later piece resumes from.
        out: folder for the checkpoint and the log.
        tokenizer_file: tokenizer.json.
        until_s: stop (and save the state) once so much of the budget is spent.
        num_workers: rendering processes.
        pool_hours: room for so many hours of sound on the device.
        first_hours: training starts when so many are there.
    """

    work: Path
    out: Path
    tokenizer_file: Path
    until_s: float
    num_workers: int = 2
    pool_hours: float = 1.0
    first_hours: float = 0.02


class Feeder:
    """Appends shards as they appear and keeps a few batches ready, in threads of its own."""

    def __init__(self, pool: ClipPool, folder: Path, recipe: Recipe, first_step: int) -> None:
        self.pool, self.folder, self.recipe = pool, folder, recipe
        self.seen: set[str] = set()
        self.max_length_s = recipe.short_s
        self.ready: list[Batch] = []
        self.condition = threading.Condition()
        self.stopped = False
        self.rng = np.random.default_rng((recipe.seed, 7, first_step))
        self.failure: BaseException | None = None
        self.threads = [threading.Thread(target=self._guard, args=(loop,), daemon=True) for loop in self._loops()]

    def _loops(self) -> tuple[Any, Any]:
        return self._load_shards, self._prepare_batches

    def _guard(self, loop: Any) -> None:
        try:
            loop()
        except BaseException as error:  # a thread's failure must end the run, not hang it
            with self.condition:
                self.failure = error
                self.condition.notify_all()

    def start(self, first_hours: float) -> None:
        """Wait until the first hours are loaded, then prepare batches."""
        self.threads[0].start()
        while self.pool.hours < first_hours and self.failure is None:
            time.sleep(0.2)
        self.threads[1].start()

    def _load_shards(self) -> None:
        while not self.stopped:
            fresh = sorted(p for p in self.folder.glob("shard-*.npz") if p.name not in self.seen)
            for path in fresh:
                if self.stopped or not self.pool.append(path):
                    return
                self.seen.add(path.name)
            time.sleep(0.5)

    def _prepare_batches(self) -> None:
        while not self.stopped:
            batch = self.pool.draw(self.rng, self.recipe.batch_s, self.max_length_s)
            with self.condition:
                self.condition.wait_for(lambda: len(self.ready) < PREFETCHED or self.stopped)
                self.ready.append(batch)
                self.condition.notify_all()

    def next(self) -> Batch:
        """The next batch."""
        with self.condition:
            self.condition.wait_for(lambda: self.ready or self.failure)
            if self.failure is not None:
                raise RuntimeError("a feeding thread failed") from self.failure
            batch = self.ready.pop(0)
            self.condition.notify_all()
        return batch

    def stop(self) -> None:
        """End the threads."""
        with self.condition:
            self.stopped = True
            self.condition.notify_all()


class Trainer:
    """Model, heads, optimiser and the clock."""

    def __init__(self, recipe: Recipe, job: Job, device: torch.device) -> None:
        self.recipe, self.job, self.device = recipe, job, device
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        torch.manual_seed(recipe.seed)
        self.model = Flamingo(recipe.model)
        initialise(self.model, recipe.seed)
        self.heads = ListeningHeads(recipe.model.encoder.width)
        self.optimiser = self._move(dtype)
        self.log_mel = BatchLogMel(device)
        self.tokenizer = PlainTokenizer(job.tokenizer_file)
        self.prefix = torch.tensor(self.tokenizer.encode(SYSTEM_AND_USER), device=device)
        self.text_only = text_only_batch(self.tokenizer, device)
        self.spent_s, self.num_steps, self.heard_s = 0.0, 0, 0.0
        self.model.train()

    def _move(self, dtype: torch.dtype) -> MasterAdamW:
        # The masters are taken in fp32 before the model is rounded.
        self.model.to(self.device), self.heads.to(self.device)
        optimiser = MasterAdamW(
            {
                "encoder": [*self.model.encoder.parameters(), *self.heads.parameters()],
                "decoder": [*self.model.projector.parameters(), *self.model.decoder.parameters()],
            }
        )
        self.model.to(dtype), self.heads.to(dtype)
        optimiser.parameters = _trainable(self.model, self.heads, optimiser)
        return optimiser

    @property
    def progress(self) -> float:
        """Share of the budget that is spent."""
        return min(self.spent_s / self.recipe.budget_s, 1.0)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One step; losses stay on the device."""
        mel = self.log_mel(batch.samples, self.recipe.augmentation_at(self.progress))
        plan = self.recipe.plan(self.progress)
        parts = losses(self.model, self.heads, batch, mel, self.prefix, plan)
        torch.autograd.backward(parts["total"])
        if plan.decoder and self.num_steps % TEXT_ONLY_EVERY_STEPS == 0:
            torch.autograd.backward(text_only_loss(self.model, self.text_only, self.prefix, plan))
        parts["norm"] = self.optimiser.step(self.recipe.rates(self.progress))
        self.num_steps += 1
        self.heard_s += batch.samples.numel() / 16_000
        return {name: value.detach() for name, value in parts.items()}

    def state(self) -> dict[str, Any]:
        """All that a later piece needs."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "spent_s": self.spent_s,
            "num_steps": self.num_steps,
            "heard_s": self.heard_s,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.spent_s, self.num_steps, self.heard_s = state["spent_s"], state["num_steps"], state["heard_s"]


def _trainable(model: Flamingo, heads: ListeningHeads, optimiser: MasterAdamW) -> list[torch.nn.Parameter]:
    """Parameters in the optimiser's order; `Module.to` may have replaced the tensors behind them."""
    assert all(p.requires_grad for p in optimiser.parameters)
    known = {id(p) for p in [*model.parameters(), *heads.parameters()]}
    assert all(id(p) in known for p in optimiser.parameters), "Module.to replaced parameters"
    return optimiser.parameters


def run(recipe: Recipe, job: Job, device: torch.device) -> Trainer:
    """Train until the job's share of the budget is spent; returns the trainer."""
    workers, stop = start_rendering(
        job.work / "shards",
        job.tokenizer_file,
        seed=recipe.seed,
        num_workers=job.num_workers,
        max_shards=math.ceil(job.pool_hours / HOURS_PER_SHARD),
    )
    trainer = Trainer(recipe, job, device)
    state_file = job.work / "state.pt"
    if state_file.exists():
        trainer.restore(torch.load(state_file, map_location=device, weights_only=True))
    pool = ClipPool(
        device,
        max_samples=int(job.pool_hours * 3_600 * 16_000),
        num_event_names=len(EVENT_NAMES),
        pad_id=trainer.tokenizer.encode(END_OF_TURN)[0],
    )
    validation = Validation(_validation_shard(recipe, job, trainer.tokenizer), trainer.tokenizer, device)
    feeder = Feeder(pool, job.work / "shards", recipe, trainer.num_steps)
    feeder.start(job.first_hours)
    try:
        _loop(trainer, feeder, validation)
    finally:
        feeder.stop()
        stop.set()
        for worker in workers:
            worker.terminate()
    save(trainer, state_file)
    return trainer


def _loop(trainer: Trainer, feeder: Feeder, validation: Validation) -> None:
    recipe, job = trainer.recipe, trainer.job
    began, before, sums = time.monotonic(), trainer.spent_s, dict[str, Tensor]()
    next_validation = before
    while trainer.spent_s < job.until_s:
        feeder.max_length_s = recipe.short_s if trainer.progress < recipe.short_until else 30.0
        for name, value in trainer.step(feeder.next()).items():
            sums[name] = sums.get(name, 0.0) + value
        if trainer.num_steps % LOG_EVERY_STEPS == 0:
            _log(trainer, {k: round(float(v) / LOG_EVERY_STEPS, 4) for k, v in sums.items()}, feeder.pool.hours)
            sums = {}
        if trainer.spent_s >= next_validation + recipe.budget_s / 12:
            next_validation = trainer.spent_s
            _log(trainer, validation.run(trainer), feeder.pool.hours)
        trainer.spent_s = before + time.monotonic() - began
    _log(trainer, validation.run(trainer), feeder.pool.hours)


def _log(trainer: Trainer, values: dict[str, Any], hours: float) -> None:
    line = {
        "s": round(trainer.spent_s, 1),
        "step": trainer.num_steps,
        "heard_h": round(trainer.heard_s / 3_600, 1),
        "pool_h": round(hours, 1),
        **values,
    }
    print(json.dumps(line), flush=True)
    trainer.job.out.mkdir(parents=True, exist_ok=True)
    with (trainer.job.out / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def _validation_shard(recipe: Recipe, job: Job, tokenizer: PlainTokenizer, num_clips: int = 192) -> dict[str, Any]:
    """Clips of the test split, the same in every run."""
    path = job.work / "validation.npz"
    if not path.exists():
        job.work.mkdir(parents=True, exist_ok=True)
        save_shard([render_clip((recipe.seed, 999, i), tokenizer, "test") for i in range(num_clips)], path)
    return load_shard(path)


def save(trainer: Trainer, state_file: Path) -> None:
    """The state to go on from, and the checkpoint as it is now."""
    from safetensors.torch import save_file

    from audioflamingo.model.weights import save_flamingo, write_companions

    torch.save(trainer.state(), state_file)
    out = trainer.job.out
    save_flamingo(trainer.model, out / "checkpoint", dtype=torch.bfloat16, max_shard_bytes=15_500_000, overwrite=True)
    write_companions(out / "checkpoint", trainer.model.config, trainer.job.tokenizer_file.parent)
    heads = {name: tensor.bfloat16().contiguous() for name, tensor in trainer.heads.state_dict().items()}
    save_file(heads, out / "heads.safetensors")


def main() -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("runs/nano"))
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json, see train/words.py")
    parser.add_argument("--budget-s", type=float, default=1_080.0, help="seconds of training in all pieces together")
    parser.add_argument("--until-s", type=float, help="end this piece once so much is spent (default: the budget)")
    parser.add_argument("--batch-s", type=float, default=1_000.0, help="seconds of sound a step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pool-hours", type=float, default=1.0)
    parser.add_argument("--first-hours", type=float, default=0.02)
    options = parser.parse_args()
    job = Job(
        options.work, options.out, options.tokenizer, options.until_s or options.budget_s,
        options.workers, options.pool_hours, options.first_hours,
    )  # fmt: skip
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for every shape, and nearly every batch has its own
    run(nano(options.budget_s, options.batch_s), job, device)


if __name__ == "__main__":
    main()
