"""The processes of a run: who takes part, sums over all of them, and a model in shards.

Started by torchrun, which sets RANK, WORLD_SIZE and LOCAL_RANK; without these, one process is all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed, nn

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.lora import MATRICES
from audioflamingo.train.stages import Precision

# Torch has a class of its own for some of these only; gloo's are plain RuntimeErrors.
_SIGNS_OF_LOSS = ("gloo", "NCCL", "onnection closed by peer", "onnection reset by peer", "Broken pipe")


class LostProcessError(FlamingoError):
    """A process of the run is gone."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees it.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: where it computes.
        shards: whether the model lies in pieces over all of them, or whole in each.
        splits: whether every sequence lies in pieces over all of them, or each process has sequences of its own.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    shards: bool = False
    splits: bool = False

    @property
    def feeding(self) -> tuple[int, int]:
        """Number of this process among those that share out the packs, and how many: where they split, all hear all."""
        return (0, 1) if self.splits else (self.rank, self.size)

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                distributed.all_reduce(tensor)

    def least(self, number: int | None) -> int | None:
        """The smallest of a whole number over all processes, so that all decide alike; where it is None, it stays so.

        All processes must ask, and all with a number or all without.
        """
        if self.size == 1 or number is None:
            return number
        found = torch.tensor(number, dtype=torch.int64, device=self.device)
        distributed.all_reduce(found, distributed.ReduceOp.MIN)
        return int(found)

    def gathered(self, text: str) -> list[str]:
        """One text of each process, in all of them; all must call."""
        if self.size == 1:
            return [text]
        own = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        lengths[self.rank] = len(own)
        self.sum([lengths])
        rows = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8, device=self.device)
        rows[self.rank, : len(own)] = own.to(self.device)
        self.sum([rows])
        return [bytes(row[:num].tolist()).decode() for row, num in zip(rows.cpu(), lengths.tolist(), strict=True)]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            distributed.barrier()


@contextmanager
def joined(
    device: str | None = None, *, shards: bool = False, splits: bool = False, timeout_s: float | None = None
) -> Iterator[Processes]:
    """Take part in the run that torchrun started, or be alone.

    Args:
        device: "cpu", "cuda" or "cuda:1"; None takes a GPU if there is one, each process its own.
        shards: divide the model among the processes (FSDP).
        splits: divide every sequence among the processes (context parallelism).
        timeout_s: how long one process waits for another before the run is given up; None leaves it to torch.

    Raises:
        OptionError: the device is not available.
        LostProcessError: another process died while this one waited for it.
    """
    rank, size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    chosen = _device(device)
    if size == 1 and not shards:
        yield Processes(chosen)
        return
    if "MASTER_ADDR" not in os.environ:
        raise OptionError(
            "shards need the processes that torchrun starts: torchrun --nproc-per-node N -m audioflamingo"
        )
    is_gpu = chosen.type == "cuda"
    distributed.init_process_group(
        "nccl" if is_gpu else "gloo",
        timeout=None if timeout_s is None else timedelta(seconds=timeout_s),
        # Told which GPU is its own, NCCL connects at once and never has to guess from the process's number.
        device_id=chosen if is_gpu else None,
    )
    try:
        yield Processes(chosen, rank, size, shards, splits and size > 1)
    except RuntimeError as error:
        if not _is_lost(error):
            raise
        raise LostProcessError(
            f"process {rank} of {size} lost another one; start again with the same --out: the run goes on from its "
            "last checkpoint"
        ) from error
    finally:
        distributed.destroy_process_group()


def shard(loss: nn.Module, model: Flamingo, precision: Precision, processes: Processes) -> None:
    """Divide a model among the processes, layer by layer; in bf16 it is gathered and computed as such.

    What is trained must be in fp32: its shards are their own masters, and the library averages its gradients. What is
    frozen is divided in bf16 where that is computed in. Adapters stay whole and the same in every process if nothing
    else is trained: they are small, and their gradients are summed as those of copies are.

    Args:
        loss: the module that is called, with the model in it; changed in place.
        model: whose layers are divided one by one.
        precision: what is computed in.
        processes: all of them must call.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(processes.device.type, (processes.size,))
    policy: Any = MixedPrecisionPolicy()
    if precision == "bfloat16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
        _shorten_frozen(loss)
    undivided, embedding = _undivided(loss), model.decoder.embed_tokens
    # Apart from the rest, which stays gathered for the whole step: a table is only looked up, once.
    for module in (*model.encoder.layers, embedding, *model.decoder.layers, loss):
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=undivided)
    assert isinstance(embedding, FSDPModule)
    embedding.set_unshard_in_backward(False)  # its gradient needs the ids alone


def _undivided(loss: nn.Module) -> set[nn.Parameter]:
    """Adapters, if nothing else is trained: optimisers and norms take only one kind, shards or whole tensors."""
    trained = {name: parameter for name, parameter in loss.named_parameters() if parameter.requires_grad}
    is_adapters = all(name.rpartition(".")[2] in MATRICES for name in trained)
    return set(trained.values()) if is_adapters else set()


def _shorten_frozen(loss: nn.Module) -> None:
    """To bf16, one after another, so that never more than one parameter lies here twice."""
    for parameter in loss.parameters():
        if not parameter.requires_grad and parameter.dtype == torch.float32:
            parameter.data = parameter.data.to(torch.bfloat16)


def is_divided(tensor: Tensor) -> bool:
    """Whether a tensor lies in shards."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may lie in shards, put together; all processes must ask for it."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def _is_lost(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or any(sign in str(error) for sign in _SIGNS_OF_LOSS)


def _device(device: str | None) -> torch.device:
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device is None or device == "cuda":
        device = f"cuda:{local}" if torch.cuda.is_available() or device == "cuda" else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device!r} is not available here; leave it out to take what there is") from error
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    return chosen
