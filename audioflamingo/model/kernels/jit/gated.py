"""The gated unit over many rows in one kernel. Shapes: M rows, N outputs, K inputs.

Tiles come by the tensor memory accelerator of Hopper cards, which also fills with zeros what lies outside.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl

from audioflamingo.model.kernels.jit.elementwise import gated


@triton.jit
def gated_kernel(
    x_tiles, w_tiles, out_tiles, num_rows, num_outputs, num_inputs,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GROUP: tl.constexpr, PROGRAMS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """SiLU of a gate times up. Weights (2 N, K) hold all gates, then all ups; a program goes on to further tiles.

    GROUP rows of tiles are done together, so that what they read stays in the second-level cache.
    """
    tiles_m, tiles_n = tl.cdiv(num_rows, BLOCK_M), tl.cdiv(num_outputs, BLOCK_N)
    in_group = GROUP * tiles_n
    for tile in tl.range(tl.program_id(0), tiles_m * tiles_n, PROGRAMS):
        first = (tile // in_group) * GROUP
        size = tl.minimum(tiles_m - first, GROUP)
        row = (first + (tile % in_group) % size) * BLOCK_M
        col = ((tile % in_group) // size) * BLOCK_N
        gate = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        up = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
        for start in tl.range(0, num_inputs, BLOCK_K, num_stages=STAGES):
            x = x_tiles.load([row, start])
            gate = tl.dot(x, w_tiles.load([col, start]).T, gate)
            up = tl.dot(x, w_tiles.load([num_outputs + col, start]).T, up)
        out_tiles.store([row, col], gated(gate, up, out_tiles.dtype))
