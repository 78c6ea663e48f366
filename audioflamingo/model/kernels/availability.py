"""Whether and how Triton kernels can run here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

FIRST_HOPPER = (9, 0)
HOPPER_MAJOR = 9


@dataclass
class _Switches:
    kernels: bool = True
    early_launch: bool = True


_switches = _Switches()


@cache
def has_triton() -> bool:
    """Whether the triton package can be imported."""
    return importlib.util.find_spec("triton") is not None


def is_interpreted() -> bool:
    """Whether Triton's interpreter stands in for a GPU (TRITON_INTERPRET=1), which the tests use."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def runs_triton(tensor: Tensor) -> bool:
    """Whether work on this tensor goes to a Triton kernel rather than to its twin in torch."""
    if not has_triton() or not _switches.kernels or (torch.is_grad_enabled() and tensor.requires_grad):
        return False
    return tensor.is_cuda or is_interpreted()


def launches_early(tensor: Tensor) -> bool:
    """Whether a kernel may start while the one before it ends (programmatic dependent launch: Hopper and later)."""
    return _switches.early_launch and tensor.is_cuda and _capability(tensor.device) >= FIRST_HOPPER


def is_hopper(tensor: Tensor) -> bool:
    """Whether it lies on a GPU of the generation that plans were baked for."""
    return tensor.is_cuda and _capability(tensor.device)[0] == HOPPER_MAJOR


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@cache
def num_multiprocessors(device: torch.device) -> int:
    """Of the GPU; a small number elsewhere, so that tests on a CPU split work too."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


@contextmanager
def kernel_switches(*, kernels: bool = True, early_launch: bool = True) -> Iterator[None]:
    """Within the block, Triton's kernels or their early launch are off: for tests and comparisons."""
    previous = (_switches.kernels, _switches.early_launch)
    _switches.kernels, _switches.early_launch = kernels, early_launch
    try:
        yield
    finally:
        _switches.kernels, _switches.early_launch = previous
