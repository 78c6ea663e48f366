"""Steps on a GPU that give the same bits every time, so that a run that was killed resumes bit for bit there too.

On a CPU every step repeats by itself. On a GPU attention's backward pass adds up in no fixed order: cuDNN's kernel has
no other way in torch, FlashAttention and the memory-efficient kernel take a fixed order only where torch *must* use
deterministic algorithms. With `warn_only` torch leaves them as they are, so that mode repeats nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""Buffers of cuBLAS, without which torch refuses its products where they have to repeat."""
REFUSED = ("deterministic implementation", "CUBLAS_WORKSPACE_CONFIG")
"""In torch's words where an operation cannot repeat."""


@contextmanager
def deterministic_kernels(wanted: bool = True) -> Iterator[None]:
    """Within the block every operation gives the same bits for the same input, or raises a RuntimeError.

    Args:
        wanted: False changes nothing.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(*CUBLAS_WORKSPACE)
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filling: Any = torch.utils.deterministic  # a module with a property, which types do not know
    fills = filling.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    filling.fill_uninitialized_memory = False  # costs bandwidth; nothing reads what it has not set
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        filling.fill_uninitialized_memory = fills


def is_refused(error: RuntimeError) -> bool:
    """Whether torch says that an operation cannot repeat here."""
    return any(sign in str(error) for sign in REFUSED)
