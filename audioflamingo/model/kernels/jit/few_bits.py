"""Linear layers over up to sixteen rows whose weights have four or eight bits, on the matrix units.

Shapes: M rows (tokens), N outputs, K inputs; S slices of a step, one a warp; J fours of a slice (see `jit.places`); C
columns (8 or 16). Storage as in `jit.linear`. The operand of a place, (S, N, J), meets the inputs that its weights
stand for, (S, J, C). With one token, columns are places: all operands meet the same step of inputs, read once and in
the order they lie in, and of place p's sums column p is what is wanted.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,assignment,unused-ignore"
# ruff: noqa: C901, N803, N806, PLR0913, PLR0915
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from audioflamingo.model.kernels.jit.elementwise import gated
from audioflamingo.model.kernels.jit.places import places_of


@triton.jit
def _loaded_fours(w_ptr, rows, row_mask, fours, num_fours):
    """(S, N, J) of them, from places (S, J) within the rows (N,)."""
    place = w_ptr + rows.to(tl.int64)[None, :, None] * num_fours + fours[:, None, :]
    mask = row_mask[None, :, None] & (fours < num_fours)[:, None, :]
    return tl.load(place, mask=mask, other=0, eviction_policy="evict_first")


@triton.jit
def _loaded_scales(scale_ptr, rows, row_mask, groups, num_groups):
    """(S, N) of four-bit weights, from groups (S,)."""
    place = scale_ptr + rows[None, :] * num_groups + groups[:, None]
    return tl.load(place, mask=row_mask[None, :] & (groups < num_groups)[:, None], other=0.0)


@triton.jit
def _send_for_scales(scale_ptr, rows, row_mask, num_groups):
    """All of the rows' into the second-level cache: a step reads a few bytes of a line, long after one another."""
    groups = tl.arange(0, 4) * 64  # a line each
    place = scale_ptr + rows.to(tl.int64)[:, None] * num_groups + groups[None, :]
    place = tl.where(row_mask[:, None] & (groups < num_groups)[None, :], place, scale_ptr)
    code: tl.constexpr = "prefetch.global.L2 [$1]; mov.b32 $0, 0;"
    tl.inline_asm_elementwise(code, "=r,l", [place], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _loaded_inputs(x_ptr, fours, num_rows, num_inputs, COLUMNS: tl.constexpr, IS_ONE: tl.constexpr):
    """What fours (S, J) meet. One token: (S, J, C), a column a place; more: (S, J, C, 4)."""
    columns = tl.arange(0, COLUMNS)
    inside = fours < num_inputs // 4
    if IS_ONE:
        at = fours[:, :, None] * 4 + columns[None, None, :]
        x = tl.load(x_ptr + at, mask=inside[:, :, None] & (columns < 4)[None, None, :], other=0.0)
    else:
        at = fours[:, :, None, None] * 4 + tl.arange(0, 4)[None, None, None, :]
        place = x_ptr + columns[None, None, :, None] * num_inputs + at
        mask = inside[:, :, None, None] & (columns < num_rows)[None, None, :, None]
        x = tl.load(place, mask=mask, other=0.0)
    return x


@triton.jit
def _inputs_of_places(x):
    """(S, J, C, 4) as four operands (S, J, C)."""
    even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1], x.shape[2], 2, 2]))
    x0, x2 = tl.split(even)
    x1, x3 = tl.split(odd)
    return x0, x1, x2, x3


@triton.jit
def _plus_product(acc, w, x, start, scale, KIND: tl.constexpr, PRECISION: tl.constexpr):
    """`acc` (S, N, C) plus w (S, N, J) times x (S, J, C); four-bit weights: plus scales times that and `start`."""
    if KIND == "int4":
        acc += scale.to(tl.float32)[:, :, None] * tl.dot(w, x, start, input_precision=PRECISION)
    else:
        acc = tl.dot(w, x, acc, input_precision=PRECISION)
    return acc


@triton.jit
def _step(
    sums, fours, x, scale, KIND: tl.constexpr, IS_ONE: tl.constexpr, IS_NATIVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`sums`, four of one token and one of more, plus the products of a step."""
    places = places_of(fours, KIND, x.dtype, IS_NATIVE)
    start = tl.zeros([fours.shape[0], fours.shape[1], x.shape[2]], tl.float32)
    excess = tl.full([fours.shape[0], fours.shape[1], x.shape[1]], -136.0 if IS_NATIVE else -8.0, x.dtype)
    if IS_ONE:
        a0, a1, a2, a3 = sums
        if KIND == "int4":
            start = tl.dot(excess, x, start, input_precision=PRECISION)
        a0 = _plus_product(a0, places[0], x, start, scale, KIND, PRECISION)
        a1 = _plus_product(a1, places[1], x, start, scale, KIND, PRECISION)
        a2 = _plus_product(a2, places[2], x, start, scale, KIND, PRECISION)
        a3 = _plus_product(a3, places[3], x, start, scale, KIND, PRECISION)
        new = (a0, a1, a2, a3)
    else:
        inputs = _inputs_of_places(x)
        acc = start if KIND == "int4" else sums[0]
        for place in tl.static_range(4):
            acc = tl.dot(places[place], inputs[place], acc, input_precision=PRECISION)
            if KIND == "int4":
                acc = tl.dot(excess, inputs[place], acc, input_precision=PRECISION)
        if KIND == "int4":
            acc = sums[0] + acc * scale.to(tl.float32)[:, :, None]
        new = (acc,)
    return new


@triton.jit
def _outputs(
    sums, rate, rows, row_mask, scale_ptr, bias_ptr, COLUMNS: tl.constexpr, IS_ONE: tl.constexpr,
    HAS_SCALE: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """(N, C), or (N, 1) of one token."""
    if IS_ONE:
        column = tl.arange(0, COLUMNS)[None, None, :]
        chosen = tl.where(column == 0, sums[0], 0.0)
        for place in tl.static_range(1, 4):
            chosen += tl.where(column == place, sums[place], 0.0)
        y = tl.sum(tl.sum(chosen, axis=0), axis=1)[:, None]
    else:
        y = tl.sum(sums[0], axis=0)
    y *= rate
    if HAS_SCALE:
        y *= tl.load(scale_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)[:, None]
    if HAS_BIAS:
        y += tl.load(bias_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)[:, None]
    return y


@triton.jit
def few_bits_kernel(
    x_ptr, w_ptr, scale_ptr, bias_ptr, norm_ptr, residual_ptr, out_ptr, num_rows, num_outputs, num_inputs, eps,
    KIND: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    GATED: tl.constexpr, IS_ONE: tl.constexpr, COLUMNS: tl.constexpr, SLICES: tl.constexpr, BLOCK_N: tl.constexpr,
    FOURS: tl.constexpr, STAGES: tl.constexpr, EARLY: tl.constexpr, IS_NATIVE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Every program holds BLOCK_N outputs; its slices share K and are summed at the very end.

    A slice of four-bit weights is a group (FOURS = 32), whose scales are loaded a step early. A norm goes with one
    token alone: the inputs times its weight are rounded to their dtype, its rate is left to the end.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    up_rows = rows + num_outputs
    num_fours = num_inputs // 4
    num_groups = num_inputs // 128
    if KIND == "int4":
        num_fours = tl.multiple_of(num_fours, 32)
    slices = tl.arange(0, SLICES)
    fours = slices[:, None] * FOURS + tl.arange(0, FOURS)[None, :]
    scale = 1.0
    up_scale = 1.0
    if KIND == "int4":
        if IS_NATIVE:
            _send_for_scales(scale_ptr, rows, row_mask, num_groups)
            if GATED:
                _send_for_scales(scale_ptr, up_rows, row_mask, num_groups)
        scale = _loaded_scales(scale_ptr, rows, row_mask, slices, num_groups)
        up_scale = scale
        if GATED:
            up_scale = _loaded_scales(scale_ptr, up_rows, row_mask, slices, num_groups)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    zero = tl.zeros([SLICES, BLOCK_N, COLUMNS], tl.float32)
    sums = (zero, zero, zero, zero) if IS_ONE else (zero,)
    up_sums = sums
    squares = tl.zeros([SLICES, FOURS, COLUMNS], tl.float32)
    for start in tl.range(0, num_fours, SLICES * FOURS, num_stages=STAGES):
        at = start + fours
        w = _loaded_fours(w_ptr, rows, row_mask, at, num_fours)
        x = _loaded_inputs(x_ptr, at, num_rows, num_inputs, COLUMNS, IS_ONE)
        if HAS_NORM:
            gain = _loaded_inputs(norm_ptr, at, num_rows, num_inputs, COLUMNS, IS_ONE)
            wide = x.to(tl.float32)
            squares += wide * wide
            x = (wide * gain.to(tl.float32)).to(x.dtype)
        next_scale, next_up = scale, up_scale
        if KIND == "int4":
            groups = start // FOURS + SLICES + slices
            next_scale = _loaded_scales(scale_ptr, rows, row_mask, groups, num_groups)
            if GATED:
                next_up = _loaded_scales(scale_ptr, up_rows, row_mask, groups, num_groups)
        sums = _step(sums, w, x, scale, KIND, IS_ONE, IS_NATIVE, PRECISION)
        if GATED:
            u = _loaded_fours(w_ptr, up_rows, row_mask, at, num_fours)
            up_sums = _step(up_sums, u, x, up_scale, KIND, IS_ONE, IS_NATIVE, PRECISION)
        scale, up_scale = next_scale, next_up
    rate = 1.0
    if HAS_NORM:
        rate = tl.rsqrt(tl.sum(tl.reshape(squares, [SLICES * FOURS * COLUMNS]), axis=0) / num_inputs + eps)
    HAS_SCALE: tl.constexpr = KIND != "int4"
    dtype = out_ptr.dtype.element_ty
    y = _outputs(sums, rate, rows, row_mask, scale_ptr, bias_ptr, COLUMNS, IS_ONE, HAS_SCALE, HAS_BIAS)
    if GATED:
        up = _outputs(up_sums, rate, up_rows, row_mask, scale_ptr, bias_ptr, COLUMNS, IS_ONE, HAS_SCALE, HAS_BIAS)
        y = gated(y, up, dtype)
    tokens = tl.arange(0, y.shape[1])
    place = tokens[None, :] * num_outputs + rows[:, None]
    mask = row_mask[:, None] & (tokens < num_rows)[None, :]
    if HAS_RESIDUAL:
        y = y.to(dtype).to(tl.float32) + tl.load(residual_ptr + place, mask=mask, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, y.to(dtype), mask=mask)
