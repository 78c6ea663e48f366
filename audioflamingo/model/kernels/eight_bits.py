"""Keys and values in eight bits: int8 codes, and a scale for every head of every position.

What is read back is codes * scale, for keys also * reach. A key's channels differ in size by orders of magnitude (the
biases of Qwen2.5's key projections are the reason), and one scale for all would leave the small ones nothing; `reach`,
which comes from the weights alone, brings them to like size first. The two channels that a rotary position turns into
one another share it. Shapes: N rows, Hkv key heads, Dh head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.model.kernels.availability import runs_triton

MAX_CODE = 127
SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of a head of zeros
SMALLEST_REACH = 1e-2  # of a channel, against its head's median
SCALE_BYTES = 4


@dataclass(frozen=True, eq=False)
class EightBits:
    """What belongs to the codes of one layer.

    Attributes:
        key_scales: (num_slots, Hkv) float32.
        value_scales: likewise.
        reach: (Hkv, Dh) float32, by which keys were divided.
    """

    key_scales: Tensor
    value_scales: Tensor
    reach: Tensor


def rounded(x: Tensor, reach: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Codes (..., Hkv, Dh) int8 and scales (..., Hkv) float32 of floating values."""
    wide = x.float() if reach is None else x.float() / reach
    scale = (wide.abs().amax(-1) / MAX_CODE).clamp_min_(SMALLEST_SCALE)
    return (wide / scale[..., None]).add_(0.5).floor_().to(torch.int8), scale


def widened(codes: Tensor, scale: Tensor, dtype: torch.dtype, reach: Tensor | None = None) -> Tensor:
    """The values that codes stand for."""
    wide = codes.float() * scale[..., None]
    return (wide if reach is None else wide * reach).to(dtype)


def key_reach(weight: Tensor, bias: Tensor | None, norm: Tensor, head_dim: int) -> Tensor:
    """(Hkv, Dh) float32: how large each channel of a layer's keys is to be expected, against its head's median.

    Args:
        weight: (Hkv * Dh, D) of the key projection.
        bias: (Hkv * Dh,) or None.
        norm: (D,) weight of the norm before it, whose outputs are taken for independent and of size 1 but for this.
        head_dim: Dh.
    """
    square = (weight.float() * norm.float()).square_().sum(1)
    if bias is not None:
        square = square + bias.float().square()
    halves = square.view(-1, 2, head_dim // 2)
    reach = halves.sum(1, keepdim=True).expand_as(halves).reshape(-1, head_dim).sqrt()
    median = reach.median(1, keepdim=True).values.clamp_min(SMALLEST_SCALE)
    return (reach / median).clamp_min_(SMALLEST_REACH)


def read_at(
    slots: Tensor, keys: Tensor, values: Tensor, eight_bits: EightBits | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Keys and values (..., Hkv, Dh) of slots (...) in stores (num_slots, Hkv, Dh), widened where they are codes."""
    if eight_bits is None:
        return keys[slots], values[slots]
    return (
        widened(keys[slots], eight_bits.key_scales[slots], dtype, eight_bits.reach),
        widened(values[slots], eight_bits.value_scales[slots], dtype),
    )


def write_at(
    slots: Tensor, new: tuple[Tensor, Tensor], stores: tuple[Tensor, Tensor], eight_bits: EightBits
) -> tuple[Tensor, Tensor]:
    """Round new keys and values (N, Hkv, Dh) into stores (num_slots, Hkv, Dh); returns them as they will be read.

    Heads of a new row lie side by side, rows any stride apart; N is at least 1.
    """
    if runs_triton(new[0]):
        return _stored(slots, new, stores, eight_bits)
    scales, seen = (eight_bits.key_scales, eight_bits.value_scales), []
    for one, store, scale, reach in zip(new, stores, scales, (eight_bits.reach, None), strict=True):
        new_codes, new_scale = rounded(one, reach)
        store.index_copy_(0, slots, new_codes)
        scale.index_copy_(0, slots, new_scale)
        seen.append(widened(new_codes, new_scale, one.dtype, reach))
    return seen[0], seen[1]


def _stored(
    slots: Tensor, new: tuple[Tensor, Tensor], stores: tuple[Tensor, Tensor], eight_bits: EightBits
) -> tuple[Tensor, Tensor]:
    from audioflamingo.model.kernels.jit.eight_bits import store_kernel

    num_rows, num_heads, head_dim = new[0].shape
    assert all(one.stride()[1:] == (head_dim, 1) for one in new)
    seen_keys, seen_values = (one.new_empty(one.shape) for one in new)
    store_kernel[(num_rows, num_heads)](
        *new, slots, eight_bits.reach, *stores, eight_bits.key_scales, eight_bits.value_scales, seen_keys, seen_values,
        new[0].stride(0), new[1].stride(0), stores[0].stride(0), stores[0].stride(1),
        NUM_KV_HEADS=num_heads, HEAD_DIM=head_dim, MAX_CODE=MAX_CODE, SMALLEST=SMALLEST_SCALE, num_warps=1,
    )  # fmt: skip
    return seen_keys, seen_values


def pointers_of(eight_bits: EightBits | None, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A kernel's arguments for the scales of keys and values and the reach; what it will not read without any."""
    if eight_bits is None:
        return other, other, other
    return eight_bits.key_scales, eight_bits.value_scales, eight_bits.reach
