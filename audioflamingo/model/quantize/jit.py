"""Triton kernels of this room; imported only where they run. Shapes: M rows, K inputs."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,import-untyped,unused-ignore"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def fp8_rows_kernel(x_ptr, codes_ptr, scale_ptr, width, largest_code, smallest, BLOCK: tl.constexpr):
    """One row a program: its largest magnitude, then its codes; the second reading comes from the cache."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, BLOCK)
    largest = tl.zeros([BLOCK], dtype=tl.float32)
    for first in range(0, width, BLOCK):
        inside = first + cols < width
        x = tl.load(x_ptr + row * width + first + cols, mask=inside, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(x))
    scale = tl.maximum(tl.max(largest, axis=0) / largest_code, smallest)
    tl.store(scale_ptr + row, scale)
    for first in range(0, width, BLOCK):
        inside = first + cols < width
        x = tl.load(x_ptr + row * width + first + cols, mask=inside, other=0.0).to(tl.float32)
        tl.store(codes_ptr + row * width + first + cols, (x / scale).to(tl.float8e4nv), mask=inside)


@triton.jit
def widen_kernel(codes_ptr, scale_ptr, out_ptr, width, group, zero, PACKED: tl.constexpr, BLOCK: tl.constexpr):
    """A stretch of one row a program. Scales are rounded to the output's dtype first, as torch's operators do."""
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = cols < width
    if PACKED:  # two codes a byte, the even input in the low half
        both = tl.load(codes_ptr + row * (width // 2) + cols // 2, mask=inside, other=0).to(tl.int32)
        code = ((both >> ((cols % 2) * 4)) & 15).to(tl.float32) - zero
    else:
        code = tl.load(codes_ptr + row * width + cols, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(scale_ptr + row * (width // group) + cols // group, mask=inside, other=0.0)
    scale = scale.to(out_ptr.dtype.element_ty).to(tl.float32)
    tl.store(out_ptr + row * width + cols, (code * scale).to(out_ptr.dtype.element_ty), mask=inside)
