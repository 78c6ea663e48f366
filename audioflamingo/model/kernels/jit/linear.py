"""Linear layers over few rows, bound by reading their weight once. Shapes: M rows, N outputs, K inputs.

Weights are row-major, (N, K), in four kinds: plain (the activations' dtype), int8 and fp8 (a scale a row), and int4
(two to a byte, (N, K / 2): input 2j in the low half of byte j and 2j + 1 in the high one, both stored plus 8; a scale
for every 128 inputs of a row). They are brought to the arithmetic's dtype in registers.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-redef,unused-ignore"
# ruff: noqa: C901, N803, PLR0913, PLR0915
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from audioflamingo.model.kernels.jit.elementwise import gated


@triton.jit
def _input(x_ptr, cols, inside, gain, squares, HAS_NORM: tl.constexpr):
    """Inputs in fp32, times the norm's weight, and the squares summed so far; the norm's rate is left to the end."""
    x = tl.load(x_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    if HAS_NORM:
        squares += x * x
        x *= gain
    return x, squares


@triton.jit
def _gain(norm_ptr, cols, inside, HAS_NORM: tl.constexpr):
    gain = 1.0
    if HAS_NORM:
        gain = tl.load(norm_ptr + cols, mask=inside, other=0.0).to(tl.float32)
    return gain


@triton.jit
def _normed(y, squares, num_inputs, eps, HAS_NORM: tl.constexpr):
    if HAS_NORM:
        y *= tl.rsqrt(tl.sum(squares, axis=0) / num_inputs + eps)
    return y


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
    GATED: tl.constexpr, IS_ONE_TILE: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
    STAGES: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One row of inputs: every program holds BLOCK_N outputs; the products are summed over K at the very end.

    The first tile of the weight, all of it where there is but one, is asked for before the kernel ahead is done: a
    weight never changes. With no stages every tile is asked for one step early.
    """
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    cols = tl.arange(0, BLOCK_K)
    w = _tile(w_ptr, rows, cols, num_inputs, row_mask, cols < num_inputs)
    u = w
    if GATED:
        u = _tile(w_ptr, rows + num_outputs, cols, num_inputs, row_mask, cols < num_inputs)
    gain = _gain(norm_ptr, cols, cols < num_inputs, HAS_NORM)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    squares = tl.zeros([BLOCK_K], tl.float32)
    x, squares = _input(x_ptr, cols, cols < num_inputs, gain, squares, HAS_NORM)
    if IS_ONE_TILE:
        acc = w.to(tl.float32) * x[None, :]
        acc_up = u.to(tl.float32) * x[None, :]
    elif STAGES == 0:
        acc = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
        acc_up = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
        for start in tl.range(BLOCK_K, num_inputs + BLOCK_K, BLOCK_K):
            at = start + cols
            inside = at < num_inputs
            next_w = _tile(w_ptr, rows, at, num_inputs, row_mask, inside)
            next_u = next_w
            if GATED:
                next_u = _tile(w_ptr, rows + num_outputs, at, num_inputs, row_mask, inside)
            acc += w.to(tl.float32) * x[None, :]
            if GATED:
                acc_up += u.to(tl.float32) * x[None, :]
            x, squares = _input(x_ptr, at, inside, _gain(norm_ptr, at, inside, HAS_NORM), squares, HAS_NORM)
            w, u = next_w, next_u
    else:
        acc = w.to(tl.float32) * x[None, :]
        acc_up = u.to(tl.float32) * x[None, :]
        for start in tl.range(BLOCK_K, num_inputs, BLOCK_K, num_stages=STAGES):
            at = start + cols
            inside = at < num_inputs
            w = _tile(w_ptr, rows, at, num_inputs, row_mask, inside)
            if GATED:
                u = _tile(w_ptr, rows + num_outputs, at, num_inputs, row_mask, inside)
            x, squares = _input(x_ptr, at, inside, _gain(norm_ptr, at, inside, HAS_NORM), squares, HAS_NORM)
            acc += w.to(tl.float32) * x[None, :]
            if GATED:
                acc_up += u.to(tl.float32) * x[None, :]
    y = _normed(tl.sum(acc, axis=1), squares, num_inputs, eps, HAS_NORM)
    y = _finish(y, rows, row_mask, scale_ptr, bias_ptr, HAS_SCALE, HAS_BIAS)
    dtype = out_ptr.dtype.element_ty
    if GATED:
        up = _normed(tl.sum(acc_up, axis=1), squares, num_inputs, eps, HAS_NORM)
        y = gated(y, _finish(up, rows + num_outputs, row_mask, scale_ptr, bias_ptr, HAS_SCALE, HAS_BIAS), dtype)
    if HAS_RESIDUAL:
        residual = tl.load(residual_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)
        y = y.to(dtype).to(tl.float32) + residual
    tl.store(out_ptr + rows, y.to(dtype), mask=row_mask)


@triton.jit
def _words(w_ptr, rows, row_mask, group, num_groups, GROUPS: tl.constexpr, BITS: tl.constexpr):
    """(rows, words) of GROUPS groups of 128 weights, from a group on; a word holds 32 / BITS weights."""
    at = group * 4 * BITS + tl.arange(0, GROUPS * 4 * BITS)
    num_words = num_groups * 4 * BITS
    place = w_ptr + rows.to(tl.int64)[:, None] * num_words + at[None, :]
    return tl.load(place, mask=row_mask[:, None] & (at < num_words)[None, :], other=0, eviction_policy="evict_first")


@triton.jit
def _even(words, IS_NATIVE: tl.constexpr):
    """1 + q / 128 for the four-bit q in bits 16 to 19: they are put into the mantissa of 1, with no conversion."""
    if IS_NATIVE:
        code: tl.constexpr = "lop3.b32 $0, $1, 0x000F0000, 0x3F800000, 0xEA;"
        bits = tl.inline_asm_elementwise(code, "=r,r", [words], dtype=tl.int32, is_pure=True, pack=1)
    else:
        bits = (words & 0x000F0000) | 0x3F800000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _odd(words, IS_NATIVE: tl.constexpr):
    """1 + q / 2048 for the four-bit q in bits 12 to 15."""
    if IS_NATIVE:
        code: tl.constexpr = "lop3.b32 $0, $1, 0x0000F000, 0x3F800000, 0xEA;"
        bits = tl.inline_asm_elementwise(code, "=r,r", [words], dtype=tl.int32, is_pure=True, pack=1)
    else:
        bits = (words & 0x0000F000) | 0x3F800000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _byte(words, NUMBER: tl.constexpr, IS_NATIVE: tl.constexpr):
    """1 + u / 32,768 for byte u of the words, put into the mantissa of 1 likewise."""
    if IS_NATIVE:
        if NUMBER == 0:
            code: tl.constexpr = "prmt.b32 $0, $1, 0x3F800000, 0x7604;"
        elif NUMBER == 1:
            code: tl.constexpr = "prmt.b32 $0, $1, 0x3F800000, 0x7614;"
        elif NUMBER == 2:
            code: tl.constexpr = "prmt.b32 $0, $1, 0x3F800000, 0x7624;"
        else:
            code: tl.constexpr = "prmt.b32 $0, $1, 0x3F800000, 0x7634;"
        bits = tl.inline_asm_elementwise(code, "=r,r", [words], dtype=tl.int32, is_pure=True, pack=1)
    else:
        bits = (((words >> (8 * NUMBER)) & 0xFF) << 8) | 0x3F800000
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _quarters(x):
    """Columns of (words, 4)."""
    first, second = tl.split(tl.reshape(x, [x.shape[0], 2, 2]))
    a, c = tl.split(first)
    b, d = tl.split(second)
    return a, b, c, d


@triton.jit
def _four_bit_products(words, x, WORDS: tl.constexpr, IS_NATIVE: tl.constexpr):
    """(rows, words) sums of (q - 8) * x.

    The ones that stand before the mantissas, and the zero point, are taken off when a word's eight terms are summed.
    Until then sums are as large as if weights were 2048: of their 24 bits 13 are left behind the weights' point, more
    than bf16 has.
    """
    evens, odds = tl.split(tl.reshape(x, [WORDS, 4, 2]))
    x0, x2, x4, x6 = _quarters(evens)
    x1, x3, x5, x7 = _quarters(odds)
    even = _even(words << 16, IS_NATIVE) * x0[None, :]
    even += _even(words << 8, IS_NATIVE) * x2[None, :]
    even += _even(words, IS_NATIVE) * x4[None, :]
    even += _even(words >> 8, IS_NATIVE) * x6[None, :]
    odd = _odd(words << 8, IS_NATIVE) * x1[None, :]
    odd += _odd(words, IS_NATIVE) * x3[None, :]
    odd += _odd(words >> 8, IS_NATIVE) * x5[None, :]
    odd += _odd(words >> 16, IS_NATIVE) * x7[None, :]
    taken = (128.0 + 8.0) * (x0 + x2 + x4 + x6) + (2048.0 + 8.0) * (x1 + x3 + x5 + x7)
    return 128.0 * even + (2048.0 * odd - taken[None, :])


@triton.jit
def _eight_bit_products(words, x, WORDS: tl.constexpr, IS_NATIVE: tl.constexpr):
    """(rows, words) sums of q * x, likewise; as if weights were 32,768: 9 bits of 24 are left behind the point."""
    x0, x1, x2, x3 = _quarters(tl.reshape(x, [WORDS, 4]))
    words = words ^ -2139062144  # the sign bit of each byte: u = q + 128
    sums = _byte(words, 0, IS_NATIVE) * x0[None, :]
    sums += _byte(words, 1, IS_NATIVE) * x1[None, :]
    sums += _byte(words, 2, IS_NATIVE) * x2[None, :]
    sums += _byte(words, 3, IS_NATIVE) * x3[None, :]
    taken = (32768.0 + 128.0) * (x0 + x1 + x2 + x3)
    return 32768.0 * sums - taken[None, :]


@triton.jit
def _group_products(words, x, scale, GROUPS: tl.constexpr, BITS: tl.constexpr, IS_NATIVE: tl.constexpr):
    """(rows, GROUPS) sums over each group of 128 inputs; x is (128 * GROUPS,) in fp32."""
    WORDS: tl.constexpr = GROUPS * 4 * BITS  # noqa: N806
    if BITS == 4:
        by_word = _four_bit_products(words, x, WORDS, IS_NATIVE)
    else:
        by_word = _eight_bit_products(words, x, WORDS, IS_NATIVE)
    by_group = tl.sum(tl.reshape(by_word, [words.shape[0], GROUPS, 4 * BITS]), axis=2)
    return by_group * scale


@triton.jit
def _group_scales(scale_ptr, rows, row_mask, group, num_groups, GROUPS: tl.constexpr, BITS: tl.constexpr):
    """(rows, GROUPS) scales of four-bit weights; the others have theirs applied at the end."""
    scale = 1.0
    if BITS == 4:
        at = group + tl.arange(0, GROUPS)
        place = scale_ptr + rows[:, None] * num_groups + at[None, :]
        mask = row_mask[:, None] & (at < num_groups)[None, :]
        scale = tl.load(place, mask=mask, other=0.0).to(tl.float32)
    return scale


@triton.jit
def matvec_words_kernel(
    x_ptr, w_ptr, scale_ptr, bias_ptr, norm_ptr, residual_ptr, out_ptr, num_outputs, num_inputs, eps,
    HAS_BIAS: tl.constexpr, HAS_NORM: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
    BITS: tl.constexpr, BLOCK_N: tl.constexpr, GROUPS: tl.constexpr, EARLY: tl.constexpr, IS_NATIVE: tl.constexpr,
):  # fmt: skip
    """`matvec_kernel` for weights of four or eight bits, read as words; every tile is asked for one step early."""
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    up_rows = rows + num_outputs
    num_groups = num_inputs // 128
    cols = tl.arange(0, GROUPS * 128)
    w = _words(w_ptr, rows, row_mask, 0, num_groups, GROUPS, BITS)
    u = w
    if GATED:
        u = _words(w_ptr, up_rows, row_mask, 0, num_groups, GROUPS, BITS)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    squares = tl.zeros([GROUPS * 128], tl.float32)
    acc = tl.zeros([BLOCK_N, GROUPS], tl.float32)
    acc_up = tl.zeros([BLOCK_N, GROUPS], tl.float32)
    for group in tl.range(0, num_groups, GROUPS):
        at = group * 128 + cols
        inside = at < num_inputs
        next_w = _words(w_ptr, rows, row_mask, group + GROUPS, num_groups, GROUPS, BITS)
        next_u = next_w
        if GATED:
            next_u = _words(w_ptr, up_rows, row_mask, group + GROUPS, num_groups, GROUPS, BITS)
        scale = _group_scales(scale_ptr, rows, row_mask, group, num_groups, GROUPS, BITS)
        x, squares = _input(x_ptr, at, inside, _gain(norm_ptr, at, inside, HAS_NORM), squares, HAS_NORM)
        acc += _group_products(w, x, scale, GROUPS, BITS, IS_NATIVE)
        if GATED:
            scale = _group_scales(scale_ptr, up_rows, row_mask, group, num_groups, GROUPS, BITS)
            acc_up += _group_products(u, x, scale, GROUPS, BITS, IS_NATIVE)
        w, u = next_w, next_u
    y = _normed(tl.sum(acc, axis=1), squares, num_inputs, eps, HAS_NORM)
    y = _finish(y, rows, row_mask, scale_ptr, bias_ptr, BITS == 8, HAS_BIAS)
    dtype = out_ptr.dtype.element_ty
    if GATED:
        up = _normed(tl.sum(acc_up, axis=1), squares, num_inputs, eps, HAS_NORM)
        y = gated(y, _finish(up, up_rows, row_mask, scale_ptr, bias_ptr, BITS == 8, HAS_BIAS), dtype)
    if HAS_RESIDUAL:
        residual = tl.load(residual_ptr + rows, mask=row_mask, other=0.0).to(tl.float32)
        y = y.to(dtype).to(tl.float32) + residual
    tl.store(out_ptr + rows, y.to(dtype), mask=row_mask)


@triton.jit
def _unpacked(w_ptr, scale_ptr, rows, row_mask, start, end, num_inputs, dtype: tl.constexpr, BLOCK_K: tl.constexpr):
    """(rows, BLOCK_K) four-bit weights from an input on, as numbers."""
    # Both are multiples of a group; said, lest bytes be loaded one by one.
    byte = tl.multiple_of(start // 2, 64) + tl.arange(0, BLOCK_K // 2)
    place = w_ptr + rows.to(tl.int64)[:, None] * tl.multiple_of(num_inputs // 2, 64) + byte[None, :]
    mask = row_mask[:, None] & (byte < tl.multiple_of(end // 2, 64))[None, :]
    packed = tl.load(place, mask=mask, other=0, eviction_policy="evict_first")
    steps = tl.interleave(packed & 0xF, packed >> 4)
    if dtype == tl.bfloat16:  # put into the mantissa of 128, where a step is 1
        w = (steps.to(tl.int16) | 0x4300).to(tl.bfloat16, bitcast=True) - 136.0
    else:
        w = (steps.to(tl.float32) - 8.0).to(dtype)
    groups: tl.constexpr = BLOCK_K // 128
    group = start // 128 + tl.arange(0, groups)
    place = scale_ptr + rows[:, None] * (num_inputs // 128) + group[None, :]
    scale = tl.load(place, mask=row_mask[:, None] & (group * 128 < end)[None, :], other=0.0).to(dtype)
    return tl.reshape(tl.reshape(w, [w.shape[0], groups, 128]) * scale[:, :, None], [w.shape[0], BLOCK_K]).to(dtype)


@triton.jit
def _dot_step(
    acc, x_ptr, w_ptr, scale_ptr, rows, row_mask, tokens, token_mask, start, end, num_inputs,
    FOUR_BIT: tl.constexpr, BLOCK_K: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """`acc` (BLOCK_N, tokens) plus the products of BLOCK_K inputs."""
    dtype: tl.constexpr = x_ptr.dtype.element_ty
    at = start + tl.arange(0, BLOCK_K)
    inside = at < end
    if FOUR_BIT:
        w = _unpacked(w_ptr, scale_ptr, rows, row_mask, start, end, num_inputs, dtype, BLOCK_K)
    else:
        w = _tile(w_ptr, rows, at, num_inputs, row_mask, inside).to(dtype)
    place = x_ptr + tokens[None, :] * num_inputs + at[:, None]
    x = tl.load(place, mask=inside[:, None] & token_mask[None, :], other=0.0)
    return tl.dot(w, x, acc, input_precision=PRECISION)


@triton.jit
def write_tile(
    acc, acc_up, bias_ptr, residual_ptr, out_ptr, rows, row_mask, tokens, token_mask, num_rows, num_outputs,
    HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr, SPLITS: tl.constexpr,
):  # fmt: skip
    """Store products (outputs, tokens) of a program, with bias, gate and residual; a split's own sums come bare."""
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
    write_tile(
        acc, acc_up, bias_ptr, residual_ptr, out_ptr, rows, row_mask, tokens, token_mask, num_rows, num_outputs,
        HAS_BIAS, HAS_RESIDUAL, GATED, SPLITS,
    )  # fmt: skip
