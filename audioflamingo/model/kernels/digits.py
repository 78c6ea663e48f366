"""Linear layers over one row with inputs in whole numbers, for weights of four and eight bits; see `jit.digits`."""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels.availability import is_interpreted, launches_early
from audioflamingo.model.kernels.norm import early_option
from audioflamingo.model.kernels.plans import Plan
from audioflamingo.model.kernels.weight import PLAIN, Around, Kind, Weight

_MOST_ERROR = 0.01  # of a trial; what is rounded to bf16 is off by up to 0.004

_logger = logging.getLogger(__name__)


def takes_digits(x: Tensor) -> bool:
    """Whether these inputs can go this way."""
    return len(x) == 1 and x.dtype == torch.bfloat16 and x.is_cuda and not is_interpreted() and digits_run(x.device)


@cache
def digits_run(device: torch.device) -> bool:
    """Whether it works on this GPU, tried once: it is written in Gluon, which Triton calls experimental."""
    try:
        errors = [_error(kind, device) for kind in ("int8", "int4")]
    except Exception as error:  # Triton's own errors have no common class
        _logger.warning("weights of 8 and 4 bits are read in a slower way: %s", str(error).splitlines()[:1])
        return False
    if max(errors) > _MOST_ERROR:
        _logger.warning("weights of 8 and 4 bits are read in a slower way: errors of a trial are %s", errors)
    return max(errors) <= _MOST_ERROR


@torch.no_grad()
def _error(kind: Kind, device: torch.device) -> float:
    """Of one small product, relative to the largest output."""
    codes = (torch.arange(64 * 384, device=device) * 37 % 251).view(64, 384)
    scale = torch.full((64,), 0.01, device=device)
    weight = Weight(kind, (codes - 125).to(torch.int8), scale)
    if kind == "int4":
        weight = Weight(kind, codes[:, :192].to(torch.uint8), scale[:, None].expand(-1, 3).contiguous())
    x = torch.sin(torch.arange(384, device=device))[None].to(torch.bfloat16)
    out = digits(x, weight, PLAIN, Plan("digits", 16, 512, 4, 1)).float()
    judge = functional.linear(x.float(), weight.plain(torch.float32))
    return float((out - judge).abs().max() / judge.abs().max())


def digits(x: Tensor, weight: Weight, around: Around, plan: Plan) -> Tensor:
    """`linear.few_rows` of one row in bf16.

    Args:
        x: (1, K), K a multiple of 128; what is not finite makes outputs that are not.
        weight: (N, K) in int8 or int4.
        around: norm before it; gate or residual behind it.
        plan: one whose way is "digits".

    Returns:
        (1, N), or (1, N / 2) if gated.
    """
    from audioflamingo.model.kernels.jit.digits import digits_kernel

    num_outputs = weight.num_outputs // (2 if around.is_gated else 1)
    out, early = x.new_empty((1, num_outputs)), launches_early(x)
    norm, eps = around.norm or (x, 0.0)
    options = {"maxnreg": plan.registers} if plan.registers else {}
    digits_kernel[(-(-num_outputs // plan.block_n),)](
        x, weight.data.view(torch.int8), weight.scale, x if weight.bias is None else weight.bias, norm,
        x if around.residual is None else around.residual, out,
        num_outputs, eps,
        FOUR_BIT=weight.kind == "int4", HAS_BIAS=weight.bias is not None, HAS_NORM=around.norm is not None,
        HAS_RESIDUAL=around.residual is not None, GATED=around.is_gated, NUM_INPUTS=weight.num_inputs,
        BLOCK_N=plan.block_n, SLICES=plan.warps, DEPTH=plan.stages, EARLY=early, num_warps=plan.warps,
        **options, **early_option(early),
    )  # fmt: skip
    return out
