"""Rotary positions, the store into cache slots, and the gated unit. Shapes: N tokens, H heads, Dh head width."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, N806, PLR0913, D103
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def _rotated(first, second, cos, sin):
    """Both halves turned; every product is rounded to the dtype before the sum, as the reference's are."""
    dtype = first.dtype
    a, b = first.to(tl.float32), second.to(tl.float32)
    cos, sin = cos.to(tl.float32), sin.to(tl.float32)
    turned_first = (a * cos).to(dtype).to(tl.float32) - (b * sin).to(dtype).to(tl.float32)
    turned_second = (b * cos).to(dtype).to(tl.float32) + (a * sin).to(dtype).to(tl.float32)
    return turned_first.to(dtype), turned_second.to(dtype)


@triton.jit
def rotary_store_kernel(
    qkv_ptr, cos_ptr, sin_ptr, positions_ptr, slots_ptr, keys_ptr, values_ptr, slot_stride, head_stride,
    NUM_HEADS: tl.constexpr, NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, HEADS_BLOCK: tl.constexpr,
    STORE: tl.constexpr,
):  # fmt: skip
    """One token a program: queries and keys are turned in place; with STORE keys and values also go to their slot.

    A thread reads both halves of what it writes, so that nobody reads a half that another thread has turned already.
    """
    token = tl.program_id(0).to(tl.int64)
    HALF: tl.constexpr = HEAD_DIM // 2
    NUM_TURNED: tl.constexpr = NUM_HEADS + NUM_KV_HEADS
    heads = tl.arange(0, HEADS_BLOCK)[:, None]
    half = tl.arange(0, HALF)[None, :]
    turned = heads < NUM_TURNED
    place = qkv_ptr + token * (NUM_TURNED + NUM_KV_HEADS) * HEAD_DIM + heads * HEAD_DIM + half
    position = tl.load(positions_ptr + token).to(tl.int64)
    cos = tl.load(cos_ptr + position * HALF + half)
    sin = tl.load(sin_ptr + position * HALF + half)
    first = tl.load(place, mask=turned, other=0.0)
    second = tl.load(place + HALF, mask=turned, other=0.0)
    first, second = _rotated(first, second, cos, sin)
    tl.store(place, first, mask=turned)
    tl.store(place + HALF, second, mask=turned)
    if STORE:
        slot = tl.load(slots_ptr + token).to(tl.int64) * slot_stride
        is_key = turned & (heads >= NUM_HEADS)
        key_place = keys_ptr + slot + (heads - NUM_HEADS) * head_stride + half
        tl.store(key_place, first, mask=is_key)
        tl.store(key_place + HALF, second, mask=is_key)
        is_value = heads < NUM_KV_HEADS
        value = place + NUM_TURNED * HEAD_DIM
        value_place = values_ptr + slot + heads * head_stride + half
        tl.store(value_place, tl.load(value, mask=is_value, other=0.0), mask=is_value)
        tl.store(value_place + HALF, tl.load(value + HALF, mask=is_value, other=0.0), mask=is_value)


@triton.jit
def gated(gate, up, dtype: tl.constexpr):
    """SiLU of the gate times up, from fp32 values that are rounded to the dtype where the reference's are."""
    gate = gate.to(dtype).to(tl.float32)
    active = (gate / (1.0 + tl.exp(-gate))).to(dtype).to(tl.float32)
    return (active * up.to(dtype).to(tl.float32)).to(dtype)


@triton.jit
def swiglu_kernel(gate_up_ptr, out_ptr, width, out_stride, BLOCK: tl.constexpr, EARLY: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    place = gate_up_ptr + row * 2 * width + cols
    gate = tl.load(place, mask=inside, other=0.0)
    up = tl.load(place + width, mask=inside, other=0.0)
    tl.store(out_ptr + row * out_stride + cols, gated(gate, up, out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def gelu_kernel(x_ptr, num_elements, BLOCK: tl.constexpr):
    """Every x becomes x * Phi(x). Phi is Abramowitz and Stegun's 7.1.26, exact to 1.5e-7, in its tail to more."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < num_elements
    raw = tl.load(x_ptr + at, mask=inside, other=0.0)
    x = raw.to(tl.float32)
    t = 1.0 / (1.0 + 0.23164189 * tl.abs(x))  # 0.3275911 / sqrt(2)
    poly = t * (0.127414796 + t * (-0.142248368 + t * (0.7107068705 + t * (-0.7265760135 + t * 0.5307027145))))
    tail = poly * tl.exp2(x * x * -0.7213475204444817)
    y = x * tl.where(x < 0.0, tail, 1.0 - tail)
    tl.store(x_ptr + at, y.to(raw.dtype), mask=inside)
