"""Attention of packed sequences to themselves, with its gradients, for a Hopper and sequences of very unequal lengths.

torch's FlashAttention over packed sequences starts a program for every tile that the longest sequence could have, in
every sequence: beside one sound of ten minutes hundreds of thousands of programs of a step find nothing to do. Here
tiles come from a table that is made of the offsets on the device, so that one CUDA graph serves all steps.
Shapes: T elements of all, H query heads, Hkv key heads, Dh head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TILE = 64
TRAINED_WIDTHS = (64,)  # what was measured
_PRODUCT_ROWS = 128
_MOST_ELEMENTS = 1 << 31  # places are numbers of 32 bits


@dataclass(frozen=True)
class TrainingPlan:
    """Sizes of one kernel's programs, whose tiles are of `TILE` rows.

    Attributes:
        block: rows of a step over the other side.
        warps: of a program.
        stages: steps under way at once.
    """

    block: int
    warps: int
    stages: int


# The fastest of some twenty on an H200, tiles of 128 rows among them (`benchmarks/trained_attention.py`).
FORWARD = KEYS = QUERIES = TrainingPlan(64, 4, 3)


@torch.no_grad()
def tiles_of(offsets: Tensor, num_rows: int, tile: int = TILE) -> Tensor:
    """The tiles of all sequences, without waiting for the device.

    Args:
        offsets: (S + 1,) int32 where each sequence begins, from 0 to `num_rows`; sequences may be empty.
        num_rows: of all sequences.
        tile: rows of one; others than `TILE` are for benchmarks.

    Returns:
        (num_rows / tile + S, 3) int32 of first row, and begin and end of its sequence; zeros where there is none.
    """
    starts, ends = offsets[:-1], offsets[1:]
    until = ((ends - starts + tile - 1) // tile).cumsum(0)
    number = torch.arange(-(-num_rows // tile) + len(starts), device=offsets.device)
    owner = torch.searchsorted(until, number, right=True)
    is_there = owner < len(starts)
    owner = owner.clamp(max=len(starts) - 1)
    before = torch.where(owner > 0, until[(owner - 1).clamp(min=0)], 0)
    first = starts[owner] + tile * (number - before)
    found = torch.stack([first, starts[owner], ends[owner]], 1)
    return torch.where(is_there[:, None], found, 0).int()


def attend_trained(query: Tensor, key: Tensor, value: Tensor, tiles: Tensor, *, causal: bool) -> Tensor:
    """Attention of every sequence to itself; gradients flow to all three.

    Args:
        query: (T, H, Dh).
        key: (T, Hkv, Dh).
        value: (T, Hkv, Dh).
        tiles: see `tiles_of`; together they hold every row.
        causal: whether an element sees only itself and what is before it.

    Returns:
        (T, H, Dh), same dtype.
    """
    assert query.numel() < _MOST_ELEMENTS, f"{query.numel()} elements of queries"
    out: Tensor = _forward(query, key, value, tiles, causal)[0]
    return out


@torch.library.custom_op("audioflamingo::trained_attention", mutates_args=())
def _forward(query: Tensor, key: Tensor, value: Tensor, tiles: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    from audioflamingo.model.kernels.jit.trained_attention import forward_kernel

    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    num_rows, num_heads, _ = query.shape
    out, sums = torch.empty_like(query), query.new_empty(num_heads, num_rows, dtype=torch.float32)
    forward_kernel[len(tiles), num_heads](
        query, key, value, out, sums, tiles, num_rows, **settings_of(query, key, FORWARD, causal=causal)
    )
    return out, sums


@_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, tiles: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(query, memory_format=torch.contiguous_format)
    return out, query.new_empty(query.shape[1], query.shape[0], dtype=torch.float32)


@torch.library.custom_op("audioflamingo::trained_attention_gradients", mutates_args=())
def _backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, sums: Tensor, tiles: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    from audioflamingo.model.kernels.jit.trained_attention import keys_kernel, products_kernel, queries_kernel

    query, key, value, gradient = query.contiguous(), key.contiguous(), value.contiguous(), gradient.contiguous()
    num_rows, num_heads, head_dim = query.shape
    products = torch.empty_like(sums)
    products_kernel[-(-num_rows // _PRODUCT_ROWS), num_heads](
        out, gradient, products, num_rows, NUM_HEADS=num_heads, HEAD_DIM=head_dim, TILE=_PRODUCT_ROWS
    )
    found = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    given = (query, key, value, gradient, sums, products)
    keys_kernel[len(tiles), key.shape[1]](
        *given, found[1], found[2], tiles, num_rows, **settings_of(query, key, KEYS, causal=causal)
    )
    queries_kernel[len(tiles), num_heads](
        *given, found[0], tiles, num_rows, **settings_of(query, key, QUERIES, causal=causal)
    )  # fmt: skip
    return found


@_backward.register_fake
def _(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, sums: Tensor, tiles: Tensor, causal: bool
) -> tuple[Tensor, Tensor, Tensor]:
    whole = torch.contiguous_format
    of_query, of_key, of_value = (torch.empty_like(one, memory_format=whole) for one in (query, key, value))
    return of_query, of_key, of_value


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, tiles, ctx.causal = inputs
    ctx.save_for_backward(query, key, value, *output, tiles)


def _gradients(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Any, ...]:
    query, key, value, out, sums, tiles = ctx.saved_tensors
    return *_backward(gradient, query, key, value, out, sums, tiles, ctx.causal), None, None


_forward.register_autograd(_gradients, setup_context=_keep)


def settings_of(
    query: Tensor, key: Tensor, plan: TrainingPlan, *, causal: bool, tile: int = TILE
) -> dict[str, Any]:  # fmt: skip
    """What all of the kernels want to know, but for tensors and the number of rows."""
    num_heads, head_dim = query.shape[1:]
    return {
        "scale": head_dim**-0.5, "NUM_HEADS": num_heads, "SHARED": num_heads // key.shape[1], "HEAD_DIM": head_dim,
        "TILE": tile, "BLOCK": plan.block, "CAUSAL": causal, "STAGES": plan.stages,
        "PRECISION": "ieee" if query.dtype == torch.float32 else "tf32", "num_warps": plan.warps,
    }  # fmt: skip
