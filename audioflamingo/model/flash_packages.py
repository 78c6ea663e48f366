"""FlashAttention's own packages: versions 2, 3 and 4 are modules of their own, called alike but for what they return.

None is needed: torch brings version 2, and `model.kernels.packed_attention` is ours. One that is made for the card's
own matrix units (3 for a Hopper, 4 for a Hopper and what came after it) can be the faster one for long prompts.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioflamingo.errors import OptionError

FUNCTION = "flash_attn_varlen_func"


@dataclass(frozen=True)
class FlashPackage:
    """One version of FlashAttention.

    Attributes:
        name: what it is installed as.
        module: where its function is.
        first: the lowest compute capability that it runs on.
        last: the highest one.
        is_ready: whether its kernels come compiled; those of version 4 are compiled on first use, for ten seconds.
    """

    name: str
    module: str
    first: tuple[int, int]
    last: tuple[int, int]
    is_ready: bool = True


# The newest first. Version 3 was written for a Hopper alone; version 4 takes its place there, compiled on first use.
PACKAGES = (
    FlashPackage("flash-attn-3", "flash_attn_interface", (9, 0), (9, 0)),
    FlashPackage("flash-attn-4", "flash_attn.cute", (9, 0), (12, 1), is_ready=False),
    FlashPackage("flash-attn", "flash_attn", (8, 0), (12, 1)),
)


def installed() -> tuple[FlashPackage, ...]:
    """Those that can be found, without importing any."""
    return tuple(package for package in PACKAGES if _is_found(package.module))


def package_for(device: torch.device) -> FlashPackage | None:
    """The first one that is installed and made for this card."""
    if device.type != "cuda":
        return None
    capability = torch.cuda.get_device_capability(device)
    return next((one for one in installed() if one.first <= capability <= one.last), None)


def attend_flash(
    package: FlashPackage, query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, *, causal: bool
) -> Tensor:
    """Attention of every sequence to itself.

    Args:
        package: one that is installed and runs on the tensors' card.
        query: (N, H, Dh), fp16 or bf16.
        key: (N, Hkv, Dh).
        value: like key.
        offsets: (B + 1,) int32 where the sequences begin, from 0.
        longest: the largest length.
        causal: whether an element sees only itself and what is before it.

    Returns:
        (N, H, Dh), same dtype.

    Raises:
        OptionError: it cannot be imported, or has no such function.
    """
    out = _function(package.module)(
        query, key, value, cu_seqlens_q=offsets, cu_seqlens_k=offsets, max_seqlen_q=longest, max_seqlen_k=longest,
        causal=causal,
    )  # fmt: skip
    out = out[0] if isinstance(out, tuple) else out  # 4, and some of 3, add the sums' logarithms
    assert isinstance(out, Tensor)
    return out


@cache
def _is_found(module: str) -> bool:
    """Whether its code is there; a folder without code of its own (what version 4 leaves of `flash_attn`) is none.

    Nothing is imported for it: what was built for another torch fails when it is, and is nobody's concern unasked.
    """
    top, *inner = module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return False
    if not inner:
        return spec.origin is not None
    return any(Path(folder, *inner, "__init__.py").is_file() for folder in spec.submodule_search_locations or ())


@cache
def _function(module: str) -> Callable[..., Any]:
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), FUNCTION)
    except (ImportError, OSError, AttributeError) as error:
        raise OptionError(f"{module} is installed, but cannot be used: {error}") from error
    return function
