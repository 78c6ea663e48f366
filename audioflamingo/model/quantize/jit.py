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
