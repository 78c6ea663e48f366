"""Linear layers over some rows with inputs as codes, for weights that are stored as codes; see `jit.codes`."""

from __future__ import annotations

import torch
from torch import Tensor

from audioflamingo.model.kernels.availability import is_interpreted, launches_early
from audioflamingo.model.kernels.norm import early_option
from audioflamingo.model.kernels.plans import Plan
from audioflamingo.model.kernels.weight import GROUP, Around, Kind, Weight

MAX_ROWS = 64  # whose sums fit into a program's registers
LARGEST = {"fp8": 448.0, "int8": 32600.0, "int4": 32600.0}  # 127.3 * 256: the high digit stays below 128
_SMALLEST = torch.finfo(torch.float32).tiny  # a scale, of a row of zeros
_WIDEST = 32_768  # inputs that one program holds
_FIRST_WITH_FP8 = (8, 9)
_FIRST_WITH_INT8 = (8, 0)


def takes_codes(x: Tensor, kind: Kind) -> bool:
    """Whether inputs (M, K) go this way to a weight of this kind: they lose nothing that bf16 has."""
    num_rows, width = x.shape
    if x.dtype != torch.bfloat16 or not x.is_cuda or is_interpreted():
        return False
    first = _FIRST_WITH_FP8 if kind == "fp8" else _FIRST_WITH_INT8
    has_units = torch.cuda.get_device_capability(x.device) >= first
    return has_units and kind != "plain" and width % GROUP == 0 and width <= _WIDEST and num_rows <= MAX_ROWS


def row_codes(x: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
    """Inputs (M, K) as codes in two parts, (2, M, K), and a scale for each row, (M,) float32.

    The first part stands for itself times the scale in fp8, for 256 times that in whole numbers; the second for itself.
    For four-bit weights the inputs at even places come first, then those at odd ones: (2, 2, M, K / 2).
    """
    from audioflamingo.model.kernels.jit.codes import row_codes_kernel

    (num_rows, width), early = x.shape, launches_early(x)
    shape = (2, 2, num_rows, width // 2) if kind == "int4" else (2, num_rows, width)
    codes = torch.empty(shape, dtype=torch.float8_e4m3fn if kind == "fp8" else torch.int8, device=x.device)
    scale = torch.empty(num_rows, dtype=torch.float32, device=x.device)
    block = 1 << (width - 1).bit_length()
    row_codes_kernel[(num_rows,)](
        x.contiguous(), codes, scale, num_rows, width, LARGEST[kind], _SMALLEST, KIND=kind, BLOCK=block, EARLY=early,
        num_warps=max(4, min(16, block // 512)), **early_option(early),
    )  # fmt: skip
    return codes, scale


def codes_product(x: Tensor, weight: Weight, around: Around, plan: Plan) -> Tensor:
    """`linear.few_rows` with inputs as codes.

    Args:
        x: (M, K), already normed; what is not finite makes outputs that are not.
        weight: (N, K) of any kind but "plain".
        around: gate or residual behind it.
        plan: one whose way is "codes".

    Returns:
        (M, N), or (M, N / 2) if gated, in x's dtype; with splits fp32 parts (S, M, N).
    """
    from audioflamingo.model.kernels.jit.codes import codes_kernel

    codes, scale = row_codes(x, weight.kind)
    num_rows, early = len(x), launches_early(x)
    num_outputs = weight.num_outputs // (2 if around.is_gated else 1)
    out = x.new_empty((num_rows, num_outputs))
    if plan.splits > 1:
        out = x.new_empty((plan.splits, num_rows, num_outputs), dtype=torch.float32)
    block_k = GROUP if weight.kind == "int4" else plan.block_k
    options = {"maxnreg": plan.registers} if plan.registers and x.is_cuda else {}
    steps = -(-weight.num_inputs // block_k)
    per_split = -(-steps // plan.splits) * block_k
    codes_kernel[(-(-num_outputs // plan.block_n), plan.splits)](
        codes, scale, weight.data, weight.scale, x if weight.bias is None else weight.bias,
        x if around.residual is None else around.residual, out,
        num_rows, num_outputs, weight.num_inputs, per_split,
        KIND=weight.kind, HAS_BIAS=weight.bias is not None, HAS_RESIDUAL=around.residual is not None,
        GATED=around.is_gated, SPLITS=plan.splits, BLOCK_M=max(16, 1 << (num_rows - 1).bit_length()),
        BLOCK_N=plan.block_n, BLOCK_K=block_k, STAGES=plan.stages, IS_NATIVE=not is_interpreted(), EARLY=early,
        num_warps=plan.warps, **options, **early_option(early),
    )  # fmt: skip
    return out
