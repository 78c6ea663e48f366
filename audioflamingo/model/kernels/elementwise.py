"""Rotary positions with the store into cache slots, and SwiGLU. Shapes: N tokens, H query and Hkv key heads, Dh width.

A fused projection row is (H + 2 Hkv) * Dh wide: queries, keys, values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels.availability import launches_early, runs_triton
from audioflamingo.model.kernels.norm import early_option

_SWIGLU_BLOCK = 1024
_GELU_BLOCK = 2048


@dataclass(frozen=True)
class Heads:
    """Heads of a fused projection: H, Hkv and Dh."""

    num_heads: int
    num_kv_heads: int
    head_dim: int

    @property
    def row_width(self) -> int:
        """Of a fused projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    def split(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Views (N, H, Dh), (N, Hkv, Dh), (N, Hkv, Dh) of a fused projection (N, row_width)."""
        rows = qkv.view(qkv.shape[0], -1, self.head_dim)
        query, key, value = torch.split(rows, [self.num_heads, self.num_kv_heads, self.num_kv_heads], dim=1)
        return query, key, value


def half_tables(num_positions: int, head_dim: int, theta: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (num_positions, Dh / 2) of all positions, in the dtype and on the device of `like`."""
    return tables_at(torch.arange(num_positions, device=like.device), head_dim, theta, like.dtype)


def tables_at(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines (N, Dh / 2) of (N,) positions, computed in fp32 as the reference does."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device).float() / head_dim
    angles = positions.float()[:, None] * (1.0 / theta**exponents)
    return angles.cos().to(dtype), angles.sin().to(dtype)


@dataclass(frozen=True)
class Slots:
    """Where new keys and values go: (N,) int64 slots of keys and values, (num_slots, Hkv, Dh), of equal strides."""

    numbers: Tensor
    keys: Tensor
    values: Tensor


def rotate_in_place(
    qkv: Tensor, tables: tuple[Tensor, Tensor], positions: Tensor, heads: Heads, slots: Slots | None = None
) -> None:
    """Turn the queries and keys of a fused projection by their positions, and store keys and values.

    Args:
        qkv: (N, row_width) contiguous; its queries and keys are overwritten.
        tables: of `half_tables`.
        positions: (N,) integers.
        heads: what a row holds.
        slots: where keys and values are stored too, or None.
    """
    assert qkv.is_contiguous()
    if not runs_triton(qkv):
        _rotate_twin(qkv, tables, positions, heads, slots)
        return
    from audioflamingo.model.kernels.jit.elementwise import rotary_store_kernel

    num_turned = heads.num_heads + heads.num_kv_heads
    keys, values, numbers = (slots.keys, slots.values, slots.numbers) if slots else (qkv, qkv, positions)
    rotary_store_kernel[(qkv.shape[0],)](
        qkv, tables[0], tables[1], positions, numbers, keys, values, keys.stride(0), keys.stride(1),
        NUM_HEADS=heads.num_heads, NUM_KV_HEADS=heads.num_kv_heads, HEAD_DIM=heads.head_dim,
        HEADS_BLOCK=1 << (num_turned - 1).bit_length(), STORE=slots is not None, num_warps=4,
    )  # fmt: skip


def _rotate_twin(
    qkv: Tensor, tables: tuple[Tensor, Tensor], positions: Tensor, heads: Heads, slots: Slots | None
) -> None:
    query, key, value = heads.split(qkv)
    cos, sin = (table[positions][:, None] for table in tables)
    for part in (query, key):
        first, second = part.chunk(2, dim=-1)
        part.copy_(torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1))
    if slots is not None:
        slots.keys[slots.numbers] = key
        slots.values[slots.numbers] = value


def swiglu(gate_up: Tensor, *, in_place: bool = False) -> Tensor:
    """(N, 2 F) gates, then ups, to (N, F): silu(gate) * up; in place of the gates where it may, rows then 2 F apart."""
    width = gate_up.shape[1] // 2
    if not runs_triton(gate_up):
        gate, up = gate_up.chunk(2, dim=-1)
        gated = functional.silu(gate) * up
        return gate_up[:, :width].copy_(gated) if in_place else gated
    from audioflamingo.model.kernels.jit.elementwise import swiglu_kernel

    gate_up = gate_up.contiguous()
    num_rows, early = gate_up.shape[0], launches_early(gate_up)
    out = gate_up[:, :width] if in_place else gate_up.new_empty((num_rows, width))
    swiglu_kernel[(num_rows, -(-width // _SWIGLU_BLOCK))](
        gate_up, out, width, out.stride(0), BLOCK=_SWIGLU_BLOCK, EARLY=early, num_warps=4, **early_option(early)
    )
    return out


def gelu_in_place(x: Tensor) -> Tensor:
    """The exact GELU of any contiguous tensor, which is overwritten and returned."""
    assert x.is_contiguous()
    if not runs_triton(x):
        return x.copy_(functional.gelu(x))
    from audioflamingo.model.kernels.jit.elementwise import gelu_kernel

    gelu_kernel[(-(-x.numel() // _GELU_BLOCK),)](x, x.numel(), BLOCK=_GELU_BLOCK, num_warps=8)
    return x
