"""Linear layers over few rows, bound by reading their weight once. Shapes: M rows, N outputs, K inputs.

Weights are row-major, (N, K), in four kinds: plain (the activations' dtype), int8 and fp8 (a scale a row), and int4
(two to a byte, (N, K / 2): input 2j in the low half of byte j and 2j + 1 in the high one, both stored plus 8; a scale
for every 128 inputs of a row). They are brought to the arithmetic's dtype in registers.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from audioflamingo.model.kernels.jit.elementwise import gated

HALF_GROUP = tl.constexpr(64)  # bytes of a group of 128 four-bit weights
FOUR_BIT_ZERO = tl.constexpr(8.0)


@triton.jit
def _input(x_ptr, norm_ptr, cols, inside, rate, HAS_NORM: tl.constexpr):
    """Inputs in fp32; normed inputs are rounded as the reference's norm rounds them."""
    x = tl.load(x_ptr + cols, mask=inside, other=0.0)
    wide = x.to(tl.float32)
    if HAS_NORM:
        normed = (wide * rate).to(x.dtype).to(tl.float32)
        weight = tl.load(norm_ptr + cols, mask=inside, other=0.0).to(tl.float32)
        wide = (normed * weight).to(x.dtype).to(tl.float32)
    return wide


@triton.jit
def _rate(x_ptr, num_inputs, eps, K_BLOCK: tl.constexpr):
    """Reciprocal root of the mean square of the whole input."""
    cols = tl.arange(0, K_BLOCK)
    x = tl.load(x_ptr + cols, mask=cols < num_inputs, other=0.0).to(tl.float32)
    return tl.rsqrt(tl.sum(x * x, axis=0) / num_inputs + eps)


@triton.jit
def _tile(w_ptr, rows, cols, num_inputs, row_mask, col_mask):
    place = w_ptr + rows.to(tl.int64)[:, None] * num_inputs + cols[None, :]
    return tl.load(place, mask=row_mask[:, None] & col_mask[None, :], other=0.0, eviction_policy="evict_first")


@triton.jit
def _finish(y, rows, row_mask, scale_ptr, bias_ptr, HAS_SCALE: tl.constexpr, HAS_BIAS: tl.constexpr):
    if HAS_SCALE:
        y *= tl.load(scale_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)
    if HAS_BIAS:
        y += tl.load(bias_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)
    return y


@triton.jit
def matvec_kernel(
    x_ptr, w_ptr, scale_ptr, bias_ptr, norm_ptr, residual_ptr, out_ptr, num_outputs, num_inputs, eps,
    HAS_SCALE: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    GATED: tl.constexpr, K_BLOCK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    EARLY: tl.constexpr,
):  # fmt: skip
    """One row of inputs: every program holds BLOCK_N outputs; the products are summed over K at the very end.

    The first tile of the weight is asked for before the kernel ahead is done: a weight never changes.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    cols = tl.arange(0, BLOCK_K)
    w = _tile(w_ptr, rows, cols, num_inputs, row_mask, cols < num_inputs)
    if GATED:
        u = _tile(w_ptr, rows + num_outputs, cols, num_inputs, row_mask, cols < num_inputs)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    rate = 0.0
    if HAS_NORM:
        rate = _rate(x_ptr, num_inputs, eps, K_BLOCK)
    x = _input(x_ptr, norm_ptr, cols, cols < num_inputs, rate, HAS_NORM)
    acc = w.to(tl.float32) * x[None, :]
    if GATED:
        acc_up = u.to(tl.float32) * x[None, :]
    for start in tl.range(BLOCK_K, num_inputs, BLOCK_K, num_stages=STAGES):
        at = start + cols
        inside = at < num_inputs
        w = _tile(w_ptr, rows, at, num_inputs, row_mask, inside)
        if GATED:
            u = _tile(w_ptr, rows + num_outputs, at, num_inputs, row_mask, inside)
        x = _input(x_ptr, norm_ptr, at, inside, rate, HAS_NORM)
        acc += w.to(tl.float32) * x[None, :]
        if GATED:
            acc_up += u.to(tl.float32) * x[None, :]
    y = _finish(tl.sum(acc, axis=1), rows, row_mask, scale_ptr, bias_ptr, HAS_SCALE, HAS_BIAS)
    dtype = out_ptr.dtype.element_ty
    if GATED:
        up = _finish(tl.sum(acc_up, axis=1), rows + num_outputs, row_mask, scale_ptr, bias_ptr, HAS_SCALE, HAS_BIAS)
        y = gated(y, up, dtype)
    if HAS_RESIDUAL:
        residual = tl.load(residual_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)
        y = y.to(dtype).to(tl.float32) + residual
    tl.store(out_ptr + rows, y.to(dtype), mask=row_mask)


@triton.jit
def _four_bit_products(w_ptr, scale_ptr, rows, row_mask, x_low, x_high, start, num_inputs, GROUPS: tl.constexpr):
    """(rows, GROUPS, 64) products of 128 * GROUPS inputs from `start`, each times its group's scale."""
    groups = tl.arange(0, GROUPS)
    byte = start // 2 + groups[:, None] * HALF_GROUP + tl.arange(0, HALF_GROUP)[None, :]
    num_bytes = num_inputs // 2
    mask = row_mask[:, None, None] & (byte < num_bytes)[None]
    place = w_ptr + rows.to(tl.int64)[:, None, None] * num_bytes + byte[None]
    packed = tl.load(place, mask=mask, other=0, eviction_policy="evict_first")
    low = (packed & 0xF).to(tl.float32) - FOUR_BIT_ZERO
    high = (packed >> 4).to(tl.float32) - FOUR_BIT_ZERO
    group = start // (2 * HALF_GROUP) + groups
    num_groups = num_inputs // (2 * HALF_GROUP)
    scale_mask = row_mask[:, None] & (group < num_groups)[None, :]
    scale = tl.load(scale_ptr + rows[:, None] * num_groups + group[None, :], mask=scale_mask, other=0.0)
    return (low * x_low[None] + high * x_high[None]) * scale.to(tl.float32)[:, :, None]


@triton.jit
def matvec_int4_kernel(
    x_ptr, w_ptr, scale_ptr, bias_ptr, norm_ptr, residual_ptr, out_ptr, num_outputs, num_inputs, eps,
    HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
    K_BLOCK: tl.constexpr, BLOCK_N: tl.constexpr, GROUPS: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """`matvec_kernel` for four-bit weights."""
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    rate = 0.0
    if HAS_NORM:
        rate = _rate(x_ptr, num_inputs, eps, K_BLOCK)
    pair = 2 * (tl.arange(0, GROUPS)[:, None] * HALF_GROUP + tl.arange(0, HALF_GROUP)[None, :])
    acc = tl.zeros([BLOCK_N, GROUPS, HALF_GROUP], tl.float32)
    acc_up = tl.zeros([BLOCK_N, GROUPS, HALF_GROUP], tl.float32)
    for start in tl.range(0, num_inputs, 2 * GROUPS * HALF_GROUP, num_stages=STAGES):
        at = start + pair
        x_low = _input(x_ptr, norm_ptr, at, at < num_inputs, rate, HAS_NORM)
        x_high = _input(x_ptr, norm_ptr, at + 1, at < num_inputs, rate, HAS_NORM)
        acc += _four_bit_products(w_ptr, scale_ptr, rows, row_mask, x_low, x_high, start, num_inputs, GROUPS)
        if GATED:
            up_rows = rows + num_outputs
            acc_up += _four_bit_products(w_ptr, scale_ptr, up_rows, row_mask, x_low, x_high, start, num_inputs, GROUPS)
    y = tl.sum(tl.sum(acc, axis=2), axis=1)
    y = _finish(y, rows, row_mask, scale_ptr, bias_ptr, False, HAS_BIAS)
    dtype = out_ptr.dtype.element_ty
    if GATED:
        up = tl.sum(tl.sum(acc_up, axis=2), axis=1)
        y = gated(y, _finish(up, rows + num_outputs, row_mask, scale_ptr, bias_ptr, False, HAS_BIAS), dtype)
    if HAS_RESIDUAL:
        residual = tl.load(residual_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)
        y = y.to(dtype).to(tl.float32) + residual
    tl.store(out_ptr + rows, y.to(dtype), mask=row_mask)


@triton.jit
def _dot_step(
    acc, x_ptr, w_ptr, scale_ptr, rows, row_mask, tokens, token_mask, start, end, num_inputs,
    FOUR_BIT: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`acc` (BLOCK_N, tokens) plus the products of BLOCK_K inputs; a group of 128 where the weight has four bits."""
    dtype = x_ptr.dtype.element_ty
    if FOUR_BIT:
        byte = start // 2 + tl.arange(0, HALF_GROUP)
        place = w_ptr + rows.to(tl.int64)[:, None] * (num_inputs // 2) + byte[None, :]
        packed = tl.load(place, mask=row_mask[:, None], other=0, eviction_policy="evict_first")
        at = start + 2 * tl.arange(0, HALF_GROUP)
        place = x_ptr + tokens[None, :] * num_inputs + at[:, None]
        x_low = tl.load(place, mask=token_mask[None, :], other=0.0)
        x_high = tl.load(place + 1, mask=token_mask[None, :], other=0.0)
        low = ((packed & 0xF).to(tl.float32) - FOUR_BIT_ZERO).to(dtype)
        high = ((packed >> 4).to(tl.float32) - FOUR_BIT_ZERO).to(dtype)
        part = tl.dot(low, x_low, input_precision=PRECISION)
        part = tl.dot(high, x_high, part, input_precision=PRECISION)
        num_groups = num_inputs // (2 * HALF_GROUP)
        group = start // (2 * HALF_GROUP)
        scale = tl.load(scale_ptr + rows * num_groups + group, mask=row_mask, other=0.0)
        return acc + part * scale.to(tl.float32)[:, None]
    at = start + tl.arange(0, BLOCK_K)
    inside = at < end
    w = _tile(w_ptr, rows, at, num_inputs, row_mask, inside).to(dtype)
    place = x_ptr + tokens[None, :] * num_inputs + at[:, None]
    x = tl.load(place, mask=inside[:, None] & token_mask[None, :], other=0.0)
    return tl.dot(w, x, acc, input_precision=PRECISION)


@triton.jit
def few_rows_kernel(
    x_ptr, w_ptr, scale_ptr, bias_ptr, residual_ptr, out_ptr, num_rows, num_outputs, num_inputs, inputs_per_split,
    HAS_SCALE: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
    FOUR_BIT: tl.constexpr, SPLITS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Up to BLOCK_M rows of inputs, the tokens, as the narrow side of a matrix product with BLOCK_N outputs.

    With SPLITS > 1 the second axis of programs shares K, and fp32 partial sums (SPLITS, M, N) are written, without
    bias, scale and residual done to them except the scale.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    tokens = tl.arange(0, BLOCK_M)
    token_mask = tokens < num_rows
    begin = tl.program_id(1) * inputs_per_split
    end = tl.minimum(begin + inputs_per_split, num_inputs)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    acc_up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for start in tl.range(begin, end, BLOCK_K, num_stages=STAGES):
        acc = _dot_step(
            acc, x_ptr, w_ptr, scale_ptr, rows, row_mask, tokens, token_mask, start, end, num_inputs,
            FOUR_BIT, BLOCK_K, PRECISION,
        )  # fmt: skip
        if GATED:
            acc_up = _dot_step(
                acc_up, x_ptr, w_ptr, scale_ptr, rows + num_outputs, row_mask, tokens, token_mask, start, end,
                num_inputs, FOUR_BIT, BLOCK_K, PRECISION,
            )  # fmt: skip
    if HAS_SCALE:
        acc *= tl.load(scale_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)[:, None]
        if GATED:
            acc_up *= tl.load(scale_ptr + rows + num_outputs, mask=row_mask, other=0.0).to(tl.float32)[:, None]
    if HAS_BIAS:
        acc += tl.load(bias_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)[:, None]
    dtype = out_ptr.dtype.element_ty
    if GATED:
        acc = gated(acc, acc_up, dtype)
    place = tokens[None, :] * num_outputs + rows[:, None]
    mask = row_mask[:, None] & token_mask[None, :]
    if HAS_RESIDUAL:
        acc = acc.to(dtype).to(tl.float32) + tl.load(residual_ptr + place, mask=mask, other=0.0).to(tl.float32)
    if SPLITS > 1:
        place += tl.program_id(1) * num_rows * num_outputs
    tl.store(out_ptr + place, acc.to(dtype), mask=mask)
