"""Memory that runs out becomes an error for users that says what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audioflamingo.errors import FlamingoError

# How torch's allocator for the CPU words it, on Linux and macOS, and on Windows; it has no class of its own for it.
_CPU_MESSAGES = ("can't allocate memory", "not enough memory")


class MemoryExhaustedError(FlamingoError):
    """The device's memory does not hold what was asked for."""


@contextmanager
def memory_errors_told(work: str, device: torch.device) -> Iterator[None]:
    """Within the block, an allocation that fails is told as what it means for a user.

    Args:
        work: what needed the memory, for example "reading a prompt of 15,040 tokens".
        device: where.

    Raises:
        MemoryExhaustedError: an allocation failed; nothing of the work is kept.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_exhaustion(error):
            raise
        raise MemoryExhaustedError(
            f"{device} ran out of memory {work}; give fewer or shorter sounds or conversations at once, lower "
            "max_new_tokens, or load the model with dtype='bfloat16' or on another device"
        ) from error


def _is_exhaustion(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(message in str(error) for message in _CPU_MESSAGES)
