"""How much memory the KV cache takes; and memory that runs out becomes an error that says what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audioflamingo.config import DecoderConfig
from audioflamingo.engine.blocks import num_blocks_for
from audioflamingo.engine.eight_bit_cache import bytes_per_block
from audioflamingo.engine.scheduler import Limits
from audioflamingo.errors import FlamingoError

CPU_CACHE_BYTES = 256 << 20  # at first; only what is used is taken from the system
GPU_SHARE = 0.9  # of the memory that is free once the weights are there
GPU_RESERVE_BYTES = 2 << 30  # activations of a prefill and of the encoder

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


def cache_blocks(config: DecoderConfig, dtype: torch.dtype, device: torch.device, limits: Limits) -> tuple[int, int]:
    """Blocks that a cache begins with, and the most that it may have, the scratch block included.

    On a GPU the two are the same, because captured graphs hold its address.

    Raises:
        MemoryExhaustedError: a GPU has no room for a single block.
    """
    most = 1 + num_blocks_for(limits.max_cache_tokens)
    size = bytes_per_block(config, dtype, limits.kv_cache)
    if device.type == "cpu":
        return min(most, max(2, CPU_CACHE_BYTES // size)), most
    free, _ = torch.cuda.mem_get_info(device)
    fitting = int(free * GPU_SHARE - GPU_RESERVE_BYTES) // size
    if fitting < 2:
        raise MemoryExhaustedError(
            f"{device} has {free >> 20:,} MB free beside the weights, too little for a KV cache; load the model with "
            "quantize='int4', or on another device"
        )
    return min(most, fitting), min(most, fitting)
