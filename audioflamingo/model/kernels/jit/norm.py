"""Norms over rows, with what is added to the residual stream before them. Shapes: N rows, D width, S partial sums."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def add_rms_norm_kernel(
    x_ptr, delta_ptr, weight_ptr, sum_ptr, out_ptr, num_rows, width, eps,
    NUM_PARTS: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One row a program: x + the sum of NUM_PARTS fp32 or equal-dtype parts (0 is none), and its norm."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    weight = tl.load(weight_ptr + cols, mask=inside, other=0.0)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    x = tl.load(x_ptr + row * width + cols, mask=inside, other=0.0)
    dtype = x.dtype
    if NUM_PARTS > 0:
        delta = tl.load(delta_ptr + row * width + cols, mask=inside, other=0.0).to(tl.float32)
        for part in tl.static_range(1, NUM_PARTS):
            offset = (part * num_rows + row) * width
            delta += tl.load(delta_ptr + offset + cols, mask=inside, other=0.0).to(tl.float32)
        x = (x.to(tl.float32) + delta.to(dtype).to(tl.float32)).to(dtype)
        tl.store(sum_ptr + row * width + cols, x, mask=inside)
    wide = x.to(tl.float32)
    rate = tl.rsqrt(tl.sum(wide * wide, axis=0) / width + eps)
    normed = (wide * rate).to(dtype).to(tl.float32)
    tl.store(out_ptr + row * width + cols, (normed * weight.to(tl.float32)).to(dtype), mask=inside)


@triton.jit
def add_layer_norm_kernel(
    x_ptr, delta_ptr, weight_ptr, bias_ptr, sum_ptr, out_ptr, width, eps,
    HAS_DELTA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row a program: x + delta, and its layer norm, all of it in fp32 from the rounded sum."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    inside = cols < width
    x = tl.load(x_ptr + row * width + cols, mask=inside, other=0.0)
    dtype = x.dtype
    if HAS_DELTA:
        delta = tl.load(delta_ptr + row * width + cols, mask=inside, other=0.0)
        x = (x.to(tl.float32) + delta.to(tl.float32)).to(dtype)
        tl.store(sum_ptr + row * width + cols, x, mask=inside)
    wide = x.to(tl.float32)
    centred = tl.where(inside, wide - tl.sum(wide, axis=0) / width, 0.0)
    rate = tl.rsqrt(tl.sum(centred * centred, axis=0) / width + eps)
    weight = tl.load(weight_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row * width + cols, (centred * rate * weight + bias).to(dtype), mask=inside)
