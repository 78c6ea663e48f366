"""Attention of sequences to themselves that lie one after another, on a Hopper's matrix units.

torch's own kernel for such sequences is FlashAttention 2, which was written for the units of the generation before.
Shapes: B sequences, N elements of all, H query heads, Hkv key heads, Dh head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.model.kernels.availability import is_hopper, runs_triton

_WIDTHS = (64, 128)
_DTYPES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class PackedPlan:
    """One way.

    Attributes:
        queries: of a program.
        block: keys of a step.
        warps: of a program.
        stages: steps under way at once.
    """

    queries: int
    block: int
    warps: int
    stages: int


# The fastest on an H200 by head width, and what was tried beside them.
HOPPER = {64: PackedPlan(128, 64, 8, 3), 128: PackedPlan(64, 64, 4, 3)}
PLANS = {
    64: (HOPPER[64], PackedPlan(128, 64, 4, 3), PackedPlan(128, 64, 8, 4), PackedPlan(256, 64, 8, 3)),
    128: (HOPPER[128], PackedPlan(64, 64, 4, 2), PackedPlan(128, 64, 8, 3), PackedPlan(64, 128, 4, 2)),
}


def takes_packed(query: Tensor) -> bool:
    """Whether queries (N, H, Dh) go this way. What is compiled keeps to torch's kernels, which the compiler knows."""
    if torch.compiler.is_compiling() or not runs_triton(query) or not is_hopper(query):
        return False
    return query.dtype in _DTYPES and query.shape[2] in _WIDTHS


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: tuple[int, ...],
    offsets: Tensor | None,
    *,
    causal: bool,
    plan: PackedPlan | None = None,
) -> Tensor:
    """Attention of every sequence to itself.

    Args:
        query: (N, H, Dh), heads side by side, rows any stride apart.
        key: (N, Hkv, Dh), likewise.
        value: like key, with the same strides.
        lengths: of the sequences.
        offsets: (B + 1,) int32 where they begin, from 0; may be None where all are of one length.
        causal: whether an element sees only itself and what is before it.
        plan: sizes of the kernel's programs; by default what is known to be fast.

    Returns:
        (N, H, Dh), same dtype.
    """
    from audioflamingo.model.kernels.jit.packed_attention import packed_kernel

    query, key, value = _side_by_side(query), _side_by_side(key), _side_by_side(value)
    if key.stride() != value.stride():
        key, value = key.contiguous(), value.contiguous()
    _, num_heads, head_dim = query.shape
    is_uniform = len(set(lengths)) == 1
    assert is_uniform or offsets is not None
    plan = plan or HOPPER[head_dim]
    out = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    packed_kernel[(-(-max(lengths) // plan.queries), num_heads, len(lengths))](
        query, key, value, out, query if offsets is None else offsets, lengths[0],
        query.stride(0), key.stride(0), head_dim**-0.5,
        NUM_HEADS=num_heads, SHARED=num_heads // key.shape[1], HEAD_DIM=head_dim, QUERIES=plan.queries,
        BLOCK=plan.block, CAUSAL=causal, IS_UNIFORM=is_uniform, STAGES=plan.stages,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32", num_warps=plan.warps,
    )  # fmt: skip
    return out


def _side_by_side(x: Tensor) -> Tensor:
    return x if x.stride()[1:] == (x.shape[2], 1) else x.contiguous()
