"""The embedded model's training on several GPUs of one machine: what the processes tell each other.

torchrun starts one process for each GPU. Each renders, draws and learns from sound of its own; gradients are
averaged, so that all take the same step. The first process has the clock, the checks and all files that go out.
What concerns the CPU goes through gloo, gradients through NCCL.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from audioflamingo.train.distributed import joined

PATIENCE = timedelta(hours=1)  # the first process makes held-out items and compiles while the others wait
SEEDS_APART = 1_000_003


@dataclass(frozen=True)
class Word:
    """What the first process says before every step.

    Attributes:
        spent_s: seconds of training in all pieces; they choose the phase.
        decay: share of the rates.
        ends: no step follows.
        compares: all processes compare their weights first.
    """

    spent_s: float
    decay: float = 1.0
    ends: bool = False
    compares: bool = False


class Ranks:
    """The processes of a piece, as one of them sees it; alone, nothing is told and nothing is changed.

    Args:
        rank: number of this one.
        size: how many there are; more than one need torch's default process group, for the gradients.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size
        self.group: Any = distributed.new_group(backend="gloo", timeout=PATIENCE) if size > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this is the one that decides, checks and writes."""
        return self.rank == 0

    def folder(self, work: Path) -> Path:
        """Where this process keeps its shards: the first one in WORK, as if it were alone."""
        return work if self.is_first else work / f"rank-{self.rank}"

    def seed(self, seed: int) -> int:
        """The seed of this process's scenes and masks; the first one's is `seed`."""
        return seed + self.rank * SEEDS_APART

    def tell(self, word: Word) -> Word:
        """The first process's word, to all; what the others pass is not read."""
        if self.size == 1:
            return word
        values = torch.tensor([word.spent_s, word.decay, word.ends, word.compares], dtype=torch.float64)
        distributed.broadcast(values, 0, group=self.group)
        spent_s, decay, ends, compares = values.tolist()
        return Word(spent_s, decay, bool(ends), bool(compares))

    def from_first(self, value: Any, device: torch.device | str = "cpu") -> Any:
        """The first process's value, to all: tensors in dicts and lists, text, numbers.

        Args:
            value: what the first one gives; what the others pass is not read.
            device: where the others want its tensors; the first one gets `value` itself.
        """
        if self.size == 1:
            return value
        file = io.BytesIO()
        if self.is_first:
            torch.save(value, file)
        size = torch.tensor([file.tell()])
        distributed.broadcast(size, 0, group=self.group)
        data = torch.frombuffer(file.getbuffer(), dtype=torch.uint8) if self.is_first else None
        data = torch.empty(int(size), dtype=torch.uint8) if data is None else data
        distributed.broadcast(data, 0, group=self.group)
        if self.is_first:
            return value
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location=device, weights_only=True)

    @torch.no_grad()
    def are_equal(self, tensors: Sequence[Tensor]) -> bool:
        """Whether fp32 tensors are the same in all processes, by sums of their bits."""
        if self.size == 1:
            return True
        mine = torch.stack([tensor.view(torch.int32).sum(dtype=torch.int64) for tensor in tensors]).cpu()
        first = mine.clone()
        distributed.broadcast(first, 0, group=self.group)
        differs = torch.tensor([int(not torch.equal(mine, first))])
        distributed.all_reduce(differs, group=self.group)
        return not int(differs)

    def meet(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier(group=self.group)

    def open_lines(self, device: torch.device) -> None:
        """Wait for all, and build up what the first sum of gradients would otherwise wait for."""
        self.meet()
        if self.size > 1:
            distributed.all_reduce(torch.zeros(1, device=device))
        if self.size > 1 and device.type == "cuda":
            torch.cuda.synchronize(device)


class MeanGradients:
    """Gradients of all processes become their mean.

    Args:
        ranks: the processes.
        parameters: the same in the same order everywhere.
    """

    def __init__(self, ranks: Ranks, parameters: Sequence[nn.Parameter]) -> None:
        self.ranks, self.parameters = ranks, parameters
        self.buckets = _Bucket.of(parameters) if ranks.size > 1 else []

    def take(self, seconds: float) -> float:
        """Replace every gradient by its mean, summed in fp32; a missing one counts as zeros.

        Where no process has a gradient it stays None.

        Args:
            seconds: of sound that this process's gradients come from.

        Returns:
            Seconds of all processes.
        """
        if self.ranks.size == 1:
            return seconds
        # Which gradients there are follows from the phase. Should a rank differ all the same, sums must not get stuck.
        told = [seconds, *(float(parameter.grad is not None) for parameter in self.parameters)]
        sums = torch.tensor(told, dtype=torch.float64)
        distributed.all_reduce(sums, group=self.ranks.group)
        total, *counts = sums.tolist()
        given = {id(parameter) for parameter, count in zip(self.parameters, counts, strict=True) if count}
        for bucket in self.buckets:
            bucket.average(given, self.ranks.size)
        return float(total)


class _Bucket:
    """Parameters of one dtype: all gradients one after another in fp32, to be summed at once."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        sizes = [parameter.numel() for parameter in parameters]
        shapes = [parameter.shape for parameter in parameters]
        one = parameters[0]
        self.line = torch.zeros(sum(sizes), device=one.device)
        self.result = self.line if one.dtype == torch.float32 else torch.zeros_like(self.line, dtype=one.dtype)
        self.parts = [part.view(shape) for part, shape in zip(torch.split(self.line, sizes), shapes, strict=True)]
        self.means = [part.view(shape) for part, shape in zip(torch.split(self.result, sizes), shapes, strict=True)]

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter]) -> list[_Bucket]:
        """One for each dtype, in the order in which they come."""
        dtypes = list(dict.fromkeys(parameter.dtype for parameter in parameters))
        return [cls([one for one in parameters if one.dtype == dtype]) for dtype in dtypes]

    @torch.no_grad()
    def average(self, given: set[int], size: int) -> None:
        """Gradients of the given parameters, by id, become views of the mean; they last until the next call."""
        self.line.zero_()
        found = [
            (part, one.grad) for part, one in zip(self.parts, self.parameters, strict=True) if one.grad is not None
        ]
        if found:
            torch._foreach_copy_([part for part, _ in found], [gradient for _, gradient in found])
        distributed.all_reduce(self.line)
        self.line.div_(size)
        if self.result is not self.line:
            self.result.copy_(self.line)
        for one, mean in zip(self.parameters, self.means, strict=True):
            one.grad = mean if id(one) in given else None


@contextmanager
def ranked() -> Iterator[tuple[Ranks, torch.device]]:
    """Take part in what torchrun started, each process with a GPU of its own, or be alone.

    A process that fails among others says why and is gone at once: leaving in order would wait for the others, who
    wait for it. They notice, and torchrun ends what is left.

    Raises:
        OptionError: there are more processes than GPUs.
    """
    with joined() as processes:
        if processes.size == 1:
            yield Ranks(), processes.device
            return
        try:
            ranks = Ranks(processes.rank, processes.size)
            yield ranks, processes.device
            ranks.meet()
        except BaseException:
            print(f"process {processes.rank} of {processes.size} failed; all end:", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(1)
