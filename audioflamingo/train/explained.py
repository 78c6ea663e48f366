"""Errors of torch and of the system, while a run goes on, in words that say what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from audioflamingo.train.data import TrainingDataError
from audioflamingo.train.deterministic import is_refused
from audioflamingo.train.stages import Stage

FULL_DISK, TOO_LARGE = (errno.ENOSPC, errno.EDQUOT), (errno.EFBIG,)
_SIGNS = {"space": errno.ENOSPC, "quota": errno.EDQUOT, "too large": errno.EFBIG}
_HOST_MEMORY = "can't allocate memory"  # torch has no class of its own for a CPU


class TrainingError(TrainingDataError):
    """A run cannot go on."""


@contextmanager
def explained_step(stage: Stage, step: int) -> Iterator[None]:
    """A step, counted from 0.

    Raises:
        TrainingError: memory ran out in it, or an operation of it cannot repeat although it has to.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise TrainingError(
                f"the device ran out of memory in step {step + 1}; lower --micro-s (now {stage.micro_s:g}), "
                "and start again with the same --out"
            ) from error
        if isinstance(error, RuntimeError) and is_refused(error):
            raise TrainingError(
                f"step {step + 1} has an operation that does not repeat bit for bit on this device; leave out --seed "
                f"({str(error)[:120]})"
            ) from error
        raise


@contextmanager
def explained_run(out: Path) -> Iterator[None]:
    """A whole run, what its steps say of themselves apart.

    Raises:
        TrainingError: memory ran out before the first step, or a file of the run cannot be written.
    """
    try:
        with explained_files(out, "the run goes on from its last checkpoint"):
            yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise TrainingError(
            "the device ran out of memory before the first step; free some, keep the base in few bits (--quantize "
            "int4, for lora and stage_3_5), divide it (--shard), or take a smaller base"
        ) from error


@contextmanager
def explained_files(out: Path, again: str) -> Iterator[None]:
    """Work that keeps what it does in a folder, and can be gone on with.

    Args:
        out: the folder.
        again: what becomes of the work when it is started again.

    Raises:
        TrainingError: a file cannot be read or written.
    """
    try:
        yield
    except ConnectionError:  # of a pipe or of another process: not of a file
        raise
    except (OSError, SafetensorError) as error:
        found = as_os_error(error)
        raise TrainingError(
            f"{found.filename or out} cannot be read or written ({found.strerror or found}); {remedy(found)}, and "
            f"start again with the same --out: {again}"
        ) from error


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _HOST_MEMORY in str(error)


def as_os_error(error: OSError | SafetensorError) -> OSError:
    """The system's reason, which safetensors hides in its text."""
    if isinstance(error, OSError):
        return error
    text = str(error).lower()
    code = next((code for sign, code in _SIGNS.items() if sign in text), errno.EIO)
    return OSError(code, str(error).removeprefix("Error while serializing: ")[:100])


def remedy(error: OSError) -> str:
    """What to do where something cannot be written."""
    if error.errno in FULL_DISK:
        return "free some space"
    return "raise the limit on the size of files (ulimit -f)" if error.errno in TOO_LARGE else "check the folder"
