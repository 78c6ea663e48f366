"""The gated unit over many rows: its product and silu(gate) * up in one kernel on a Hopper, elsewhere in two.

Between the two lie sums of twice the unit's width, which are written to memory and read again. M rows, N outputs, K
inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels.availability import is_hopper, is_interpreted, num_multiprocessors, runs_triton
from audioflamingo.model.kernels.elementwise import swiglu

_DTYPES = (torch.bfloat16, torch.float16)
_ALIGNMENT_BYTES = 16  # of what the card's tensor memory accelerator reads
LEAST_ROWS = 3584  # from which one kernel is no slower than two at full size (benchmarks/gated_products.py)


@dataclass(frozen=True)
class GatedPlan:
    """One way.

    Attributes:
        rows: of a tile.
        outputs: of a tile.
        inputs: of a step.
        warps: of a program.
        stages: steps under way at once.
        group: rows of tiles that are done together.
    """

    rows: int = 128
    outputs: int = 128
    inputs: int = 64
    warps: int = 8
    stages: int = 3
    group: int = 8


HOPPER = GatedPlan()


def gated_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, in_place: bool = False) -> Tensor:
    """silu(gate) * up of two linear layers.

    Args:
        x: (M, K).
        weight: (2 N, K), all gates, then all ups.
        bias: (2 N,), or None.
        in_place: whether rows of the result may lie 2 N apart, see `swiglu`.

    Returns:
        (M, N), same dtype.
    """
    if bias is None and takes_gated(x, weight):
        return gated_product(x, weight)
    return swiglu(functional.linear(x, weight, bias), in_place=in_place)


def takes_gated(x: Tensor, weight: Tensor) -> bool:
    """Whether x (M, K) goes this way. What is compiled keeps to torch's kernels, which the compiler knows."""
    if torch.compiler.is_compiling() or not runs_triton(x) or not (is_hopper(x) or is_interpreted()):
        return False
    if x.dtype not in _DTYPES or weight.dtype != x.dtype or len(x) < LEAST_ROWS:
        return False
    return _is_aligned(weight.shape[0] // 2, x) and all(map(_is_readable, (x, weight)))


def _is_readable(rows: Tensor) -> bool:
    if rows.ndim != 2 or rows.stride(1) != 1 or rows.data_ptr() % _ALIGNMENT_BYTES != 0:
        return False
    return _is_aligned(rows.stride(0), rows)


def _is_aligned(width: int, like: Tensor) -> bool:
    """Whether rows of so many elements begin where the card can read and write."""
    return width * like.element_size() % _ALIGNMENT_BYTES == 0


def gated_product(x: Tensor, weight: Tensor, plan: GatedPlan = HOPPER) -> Tensor:
    """`gated_linear` by the kernel; `takes_gated` says what it can read."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    from audioflamingo.model.kernels.jit.gated import gated_kernel

    (num_rows, num_inputs), num_outputs = x.shape, weight.shape[0] // 2
    out = x.new_empty((num_rows, num_outputs))
    num_tiles = -(-num_rows // plan.rows) * -(-num_outputs // plan.outputs)
    programs = min(num_tiles, num_multiprocessors(x.device))
    gated_kernel[(programs,)](
        TensorDescriptor.from_tensor(x, [plan.rows, plan.inputs]),
        TensorDescriptor.from_tensor(weight, [plan.outputs, plan.inputs]),
        TensorDescriptor.from_tensor(out, [plan.rows, plan.outputs]), num_rows, num_outputs, num_inputs,
        BLOCK_M=plan.rows, BLOCK_N=plan.outputs, BLOCK_K=plan.inputs, GROUP=plan.group, PROGRAMS=programs,
        STAGES=plan.stages, num_warps=plan.warps,
    )  # fmt: skip
    return out
