"""Linear layers over few rows: a decode step, where reading the weight is all that takes time.

Shapes: M rows (sequences), N outputs, K inputs, S splits of K. Work on one row is a matrix-vector product; on up to
MAX_ROWS rows a matrix product whose narrow side is M; beyond that, and wherever it is faster, torch's own (cuBLAS).
The torch twin of every way is `few_rows_twin`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels import tuning
from audioflamingo.model.kernels.availability import is_hopper, is_interpreted, launches_early, runs_triton
from audioflamingo.model.kernels.codes import codes_product, takes_codes
from audioflamingo.model.kernels.digits import digits, takes_digits
from audioflamingo.model.kernels.elementwise import swiglu
from audioflamingo.model.kernels.norm import early_option, rms_norm
from audioflamingo.model.kernels.plans import MAX_ROWS, Plan, known_plan, plans_for
from audioflamingo.model.kernels.weight import GROUP, PLAIN, Around, Weight


def few_rows(x: Tensor, weight: Weight, around: Around = PLAIN) -> Tensor:
    """A linear layer over few rows.

    Args:
        x: (M, K).
        weight: (N, K) as stored.
        around: norm before it; gate or residual behind it.

    Returns:
        (M, N), (M, N / 2) if gated, or fp32 parts (S, M, N) if `leaves_parts` and that is the faster way.
    """
    if not runs_triton(x) or (weight.kind == "plain" and x.shape[0] > MAX_ROWS):
        return few_rows_twin(x, weight, around)
    if x.shape[0] > MAX_ROWS:
        return _by_parts(x, weight, around)
    x = x.contiguous()
    plans = plans_for(weight.kind, x.shape[0], weight.num_outputs, weight.num_inputs, around.is_gated)
    if around.residual is not None or around.is_gated or weight.bias is not None:
        plans = [plan for plan in plans if plan.splits == 1]
    if any(plan.way == "digits" for plan in plans) and not takes_digits(x):
        plans = [plan for plan in plans if plan.way != "digits"]
    if any(plan.way == "codes" for plan in plans) and not takes_codes(x, weight.kind):
        plans = [plan for plan in plans if plan.way != "codes"]
    if x.dtype == torch.float32:  # the matrix units take no fp32: the way "places" would run on the plain ones
        plans = [plan for plan in plans if plan.way != "places"]
    key = _key(x, weight, around)
    known = _known(x, weight)
    plans = [known] if known in plans else plans
    plan = tuning.best(key, plans, lambda plan: run_plan(x, weight, around, plan), x.device)
    return run_plan(x, weight, around, plan)


def _by_parts(x: Tensor, weight: Weight, around: Around) -> Tensor:
    """More rows than a kernel takes: to read codes once more is less than to write the weight that they stand for."""
    rows = torch.split(x, MAX_ROWS)
    residuals = [None] * len(rows) if around.residual is None else torch.split(around.residual, MAX_ROWS)
    each = (replace(around, residual=residual, leaves_parts=False) for residual in residuals)
    return torch.cat([few_rows(some, weight, one) for some, one in zip(rows, each, strict=True)])


def _known(x: Tensor, weight: Weight) -> Plan | None:
    if not is_hopper(x) or x.dtype != torch.bfloat16:
        return None
    return known_plan(weight.kind, x.shape[0], weight.num_outputs, weight.num_inputs)


def _key(x: Tensor, weight: Weight, around: Around) -> Hashable:
    rows = 1 if x.shape[0] == 1 else 1 << (x.shape[0] - 1).bit_length()
    extras = (around.norm is not None, around.is_gated, around.residual is not None, around.leaves_parts)
    return ("few_rows", x.device, x.dtype, weight.kind, rows, weight.num_outputs, weight.num_inputs, extras)


def few_rows_twin(x: Tensor, weight: Weight, around: Around = PLAIN) -> Tensor:
    """`few_rows` in torch."""
    if around.norm is not None:
        x = rms_norm(x, *around.norm)
    y = functional.linear(x, weight.plain(x.dtype), weight.bias)
    if around.is_gated:
        y = swiglu(y)
    return y if around.residual is None else around.residual + y


def run_plan(x: Tensor, weight: Weight, around: Around, plan: Plan) -> Tensor:
    """`few_rows` in one particular way."""
    if plan.way == "torch":
        return few_rows_twin(x, weight, around)
    if plan.way == "digits":
        return digits(x, weight, around, plan)
    if plan.way in ("vector", "words"):
        return _vector(x, weight, around, plan)
    if around.norm is not None and not (plan.way == "places" and len(x) == 1):
        x, around = rms_norm(x, *around.norm), replace(around, norm=None)
    if plan.way == "places":
        return _places(x, weight, around, plan)
    parts = (codes_product if plan.way == "codes" else _narrow)(x, weight, around, plan)
    if plan.splits == 1 or around.leaves_parts:
        return parts
    return parts.sum(0).to(x.dtype)


def _vector(x: Tensor, weight: Weight, around: Around, plan: Plan) -> Tensor:
    from audioflamingo.model.kernels.jit.linear import matvec_kernel, matvec_words_kernel

    num_outputs = weight.num_outputs // (2 if around.is_gated else 1)
    out, early = x.new_empty((1, num_outputs)), launches_early(x)
    norm, eps = around.norm or (x, 0.0)
    options: dict[str, Any] = {
        "HAS_BIAS": weight.bias is not None,
        "HAS_NORM": around.norm is not None,
        "HAS_RESIDUAL": around.residual is not None,
        "GATED": around.is_gated,
        "BLOCK_N": plan.block_n,
        "EARLY": early,
        "num_warps": plan.warps,
        **early_option(early),
    }
    kernel, data = matvec_kernel, weight.data
    if plan.way == "words":
        kernel, data = matvec_words_kernel, data.view(torch.int32)
        options |= {"GROUPS": plan.block_k // GROUP, "BITS": 4 if weight.kind == "int4" else 8}
        options |= {"IS_NATIVE": not is_interpreted()}
    else:
        options |= {"BLOCK_K": plan.block_k, "STAGES": plan.stages, "HAS_SCALE": weight.scale is not None}
        options |= {"IS_ONE_TILE": plan.block_k >= weight.num_inputs}
    kernel[(-(-num_outputs // plan.block_n),)](
        x, data, _or(weight.scale, x), _or(weight.bias, x), norm, _or(around.residual, x), out,
        num_outputs, weight.num_inputs, eps, **options,
    )  # fmt: skip
    return out


def _places(x: Tensor, weight: Weight, around: Around, plan: Plan) -> Tensor:
    from audioflamingo.model.kernels.jit.few_bits import few_bits_kernel

    num_rows = x.shape[0]
    num_outputs = weight.num_outputs // (2 if around.is_gated else 1)
    out, early = x.new_empty((num_rows, num_outputs)), launches_early(x)
    norm, eps = around.norm or (x, 0.0)
    fours = weight.data.view(torch.int16 if weight.kind == "int4" else torch.int32)
    few_bits_kernel[(-(-num_outputs // plan.block_n),)](
        x, fours, _or(weight.scale, x), _or(weight.bias, x), norm, _or(around.residual, x), out,
        num_rows, num_outputs, weight.num_inputs, eps,
        KIND=weight.kind, HAS_BIAS=weight.bias is not None, HAS_NORM=around.norm is not None,
        HAS_RESIDUAL=around.residual is not None, GATED=around.is_gated, IS_ONE=num_rows == 1,
        COLUMNS=max(8, 1 << (num_rows - 1).bit_length()), SLICES=plan.warps, BLOCK_N=plan.block_n,
        FOURS=plan.block_k // (4 * plan.warps), STAGES=plan.stages, EARLY=early,
        IS_NATIVE=x.dtype == torch.bfloat16 and not is_interpreted(),
        PRECISION="ieee" if x.dtype == torch.float32 else "tf32", num_warps=plan.warps, **early_option(early),
    )  # fmt: skip
    return out


def _narrow(x: Tensor, weight: Weight, around: Around, plan: Plan) -> Tensor:
    from audioflamingo.model.kernels.jit.linear import few_rows_kernel

    num_rows = x.shape[0]
    num_outputs = weight.num_outputs // (2 if around.is_gated else 1)
    shape, early = (num_rows, num_outputs), launches_early(x)
    out = x.new_empty(shape)
    if plan.splits > 1:
        out = x.new_empty((plan.splits, *shape), dtype=torch.float32)
    steps = -(-weight.num_inputs // plan.block_k)
    per_split = -(-steps // plan.splits) * plan.block_k
    few_rows_kernel[(-(-num_outputs // plan.block_n), plan.splits)](
        x, weight.data, _or(weight.scale, x), _or(weight.bias, x), _or(around.residual, x), out,
        num_rows, num_outputs, weight.num_inputs, per_split,
        HAS_SCALE=weight.scale is not None and weight.kind != "int4", HAS_BIAS=weight.bias is not None,
        HAS_RESIDUAL=around.residual is not None, GATED=around.is_gated, FOUR_BIT=weight.kind == "int4",
        SPLITS=plan.splits, BLOCK_M=max(16, 1 << (num_rows - 1).bit_length()), BLOCK_N=plan.block_n,
        BLOCK_K=plan.block_k, STAGES=plan.stages, PRECISION="ieee" if x.dtype == torch.float32 else "tf32",
        EARLY=early, num_warps=plan.warps, **early_option(early),
    )  # fmt: skip
    return out


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    """A kernel's argument that it will not read."""
    return other if tensor is None else tensor
