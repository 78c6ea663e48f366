"""The loop: packs through the loss, one update a step, a checkpoint now and then; it goes on where it was stopped.

Nothing of a step depends on anything but the seed, the step's number and the parameters: dropout is seeded anew for
every pack. So a run that was killed ends with the same bits as one that was not, and two processes with half as many
packs each end where one does, up to the order of fp32 sums.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from audioflamingo.train import checkpoint
from audioflamingo.train.collate import PackedBatch, collate
from audioflamingo.train.costs import StepCost
from audioflamingo.train.data import BadRow, Example
from audioflamingo.train.data.corpus import check_bad_share
from audioflamingo.train.distributed import Processes, is_divided
from audioflamingo.train.explained import TrainingError, explained_step
from audioflamingo.train.feed import Feed
from audioflamingo.train.heard import Heard
from audioflamingo.train.stages import Stage
from audioflamingo.train.updates import Updates, rate_at


@dataclass(frozen=True)
class Progress:
    """One step as it is reported.

    Attributes:
        step: how many are done.
        num_steps: of the run.
        loss: mean of -log p over the step's learnt tokens.
        rate: that was used.
        norm: of the gradients before clipping.
        num_tokens: that went through the decoder, in this process.
        num_targets: learnt tokens, in all processes.
        tokens_per_s: in this process.
        left_s: time to the end at this speed.
        num_bad: rows that were left out.
        mfu: share of the device's measured rate of matrix products that went into the model, data and all; None where
            that rate is not known.
    """

    step: int
    num_steps: int
    loss: float
    rate: float
    norm: float
    num_tokens: int
    num_targets: int
    tokens_per_s: float
    left_s: float
    num_bad: int
    mfu: float | None = None


@dataclass(frozen=True)
class Saving:
    """Where and how often checkpoints are written."""

    folder: Path
    every_steps: int = 100
    keep: int = 3


class Trainer:
    """A run in one process.

    Args:
        loss: gives the summed loss of a pack.
        stage: how.
        updates: of the trained parameters.
        feed: what is heard.
        processes: of the run.
        saving: checkpoints, or None.
        identity: what a run must have in common with its checkpoints.
        filler_id: any token id, for packs that hold nothing.
        cost: operations of a pack, for the progress.
        heard: what a frozen encoder gave, or None where it hears every pack anew.
        is_told_to_stop: asked after every step; where it is, a checkpoint is written and the run ends.
    """

    def __init__(  # noqa: PLR0913 - keyword-only parts of one run
        self,
        *,
        loss: nn.Module,
        stage: Stage,
        updates: Updates,
        feed: Feed,
        processes: Processes,
        saving: Saving | None,
        identity: str,
        filler_id: int,
        cost: StepCost | None = None,
        heard: Heard | None = None,
        is_told_to_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.loss, self.stage, self.updates, self.feed = loss, stage, updates, feed
        self.processes, self.saving, self.identity, self.filler_id = processes, saving, identity, filler_id
        self.cost, self.heard, self.is_told_to_stop = cost, heard, is_told_to_stop
        # Of a sharded model only what is in shards itself has its gradients summed by the library.
        self._sums_itself = not any(is_divided(parameter) for parameter in updates.parameters.values())
        self.step = 0
        self._seconds: list[float] = []

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.feed.schedule.num_steps

    def resume(self) -> int:
        """Go back to the newest checkpoint, if there is one; returns the step.

        Raises:
            CheckpointError: it is damaged.
            TrainingError: it belongs to another run.
        """
        found = checkpoint.complete(self.saving.folder) if self.saving else []
        if not found:
            return 0
        state = checkpoint.read_state(found[-1])
        if state.get("identity") != self.identity:
            raise TrainingError(
                f"{found[-1].parent} holds checkpoints of a run with another base, data or options; "
                "choose another --out, or remove them"
            )
        checkpoint.restore(found[-1], self.updates.tensors())
        self.updates.write_back()
        self.feed.bad.update({int(index): BadRow(**row) for index, row in state.get("bad", {}).items()})
        self.step = state["step"]
        return self.step

    def run(self, report: Callable[[Progress], None]) -> None:
        """Train to the end.

        Raises:
            TrainingError: memory ran out, numbers stopped being finite, or the run was told to stop.
            TrainingDataError: too many rows turned out to be broken.
            CheckpointError: a checkpoint cannot be written.
        """
        while self.step < self.num_steps:
            with explained_step(self.stage, self.step):
                progress = self._one_step()
            report(progress)
            at_end = self.step == self.num_steps
            must_stop = self._must_stop() and not at_end
            if self.saving and (self.step % self.saving.every_steps == 0 or at_end or must_stop):
                self.save(self.saving)
            if must_stop:
                raise TrainingError(
                    f"told to stop (SIGTERM) after step {self.step} of {self.num_steps}; start again with the same "
                    "--out: the run goes on from there"
                )

    def _must_stop(self) -> bool:
        """Whether any process was told to: all of them have to write the checkpoint."""
        told = torch.tensor([float(self.is_told_to_stop())], device=self.processes.device)
        self.processes.sum([told])
        return bool(told.item())

    def save(self, saving: Saving) -> None:
        """Write a checkpoint of the present state."""
        bad = {str(index): asdict(row) for index, row in self.feed.bad.items()}
        state = {"step": self.step, "identity": self.identity, "bad": bad}
        checkpoint.save(saving.folder, self.updates.tensors(), state, self.processes, keep=saving.keep)

    def _one_step(self) -> Progress:
        began = time.monotonic()
        packs = self.feed.step(self.step)
        num_targets = self._count(packs)
        total, num_tokens, flops = torch.zeros((), dtype=torch.float64), 0, 0
        num_sharing = self.processes.size if self.processes.splits else 1
        for index, examples in packs:
            if examples or self.processes.shards:
                pack = collate(examples, self.processes.device, self.heard) if examples else self._nothing()
                total += self._learn(pack, index, num_targets)
                num_tokens += sum(pack.lengths) // num_sharing
                flops += self.cost.of(pack) // num_sharing if self.cost else 0
        gradients = self.updates.gradients()
        if self._sums_itself:  # shards were summed on their way back
            self.processes.sum(gradients.values())
        mean = (total / num_targets).to(self.processes.device, torch.float32)
        self.processes.sum([mean])
        rate = rate_at(self.stage, self.step, self.num_steps)
        if not torch.isfinite(mean):
            raise TrainingError(f"the loss of step {self.step + 1} is not finite; lower --rate and start again")
        norm = self.updates.step(gradients, rate)
        self.step += 1
        self._seconds.append(time.monotonic() - began)
        return Progress(
            self.step, self.num_steps, float(mean), rate, norm, num_tokens, num_targets,
            num_tokens / self._seconds[-1], self._left_s(), len(self.feed.bad_rows),
            self.cost.mfu(flops, self._seconds[-1]) if self.cost else None,
        )  # fmt: skip

    def _learn(self, pack: PackedBatch, index: int, num_targets: int) -> float:
        """Forward and backward of one pack; returns its summed loss."""
        part = (self.processes.rank,) if self.processes.splits else ()
        torch.manual_seed(_seed(self.stage.seed, self.step, index, *part))
        loss = self.loss(pack)
        # Shards are averaged over processes by the library; the factor makes it a sum.
        scale = 1 if self._sums_itself else self.processes.size
        torch.autograd.backward(loss * (scale / num_targets))
        self.updates.collect()
        return float(loss.detach())

    def _count(self, packs: Sequence[tuple[int, list[Example]]]) -> int:
        """Learnt tokens of the step in all processes; stops all of them where too many rows are broken."""
        own = sum(example.num_targets for _, examples in packs for example in examples)
        found = self.feed.bad_rows
        counts = torch.tensor([own, len(found)], dtype=torch.int64, device=self.processes.device)
        if not self.processes.splits:  # there all hear the same
            self.processes.sum([counts])
        num_targets, num_found = counts.tolist()
        if num_found:
            corpus = self.feed.corpus
            num_elsewhere = num_found - len(found)
            check_bad_share([*found, *corpus.bad], corpus.num_rows, self.feed.bad_file, num_elsewhere=num_elsewhere)
        return max(int(num_targets), 1)

    def _nothing(self) -> PackedBatch:
        """A pack without a learnt token, so that every process of a sharded run makes the same calls."""
        ids = torch.tensor([self.filler_id], device=self.processes.device)
        return PackedBatch(ids, (1,), ids[:0], ids[:0], None, [])

    def _left_s(self) -> float:
        recent = self._seconds[-50:]
        return (self.num_steps - self.step) * sum(recent) / len(recent)


def _seed(*parts: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")
