"""Linear layers over some rows with inputs as codes too, so that the matrix units take weights as they are stored.

To turn weights into bf16 costs more than to read them, however many rows share the work. Here weights go to the matrix
units as they are stored, and inputs come in two parts, so that a product is two of the units' products, which they have
the time for while weights are read. Against fp8 the parts are the nearest e4m3 and that of what is left; against whole
numbers, inputs are whole numbers of 16 bits in two signed digits, 256 high + low. All inputs of a row share one scale.
Either is finer than bf16 for what is above a few hundredths of a row's largest input, and off by less than a 65,000th
of that for the rest. Shapes: M rows, N outputs, K inputs.

Inputs lie as (2, M, K), first all of the first part; for four-bit weights, whose bytes hold inputs 2j and 2j + 1, as
(2, 2, M, K / 2): of either part first those at even places.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-redef,unused-ignore"
# ruff: noqa: N803, N806, PLR0913
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from audioflamingo.model.kernels.jit.linear import write_tile
from audioflamingo.model.kernels.jit.places import BYTE_HALVES, BYTE_HALVES_OPERANDS

GROUP = tl.constexpr(128)  # inputs that share a scale of a four-bit weight


@triton.jit
def _magnitude(x):
    """Bits of |x| in fp32, which order as it does; what is not a number is larger than any."""
    return x.to(tl.int32, bitcast=True) & 0x7FFFFFFF


@triton.jit
def _two_parts(x, scale, KIND: tl.constexpr):
    """Inputs in fp32 as codes: what they are nearest to in steps of the scale, and what is left."""
    if KIND == "fp8":
        steps = x / scale
        # Rounded to three bits behind the first, from 2^-6 on, by adding what has its last bit there: in Triton 3.6
        # (ptxas 12.8) a code that is turned back into the number that it stands for comes from a wrong register.
        power = tl.maximum((steps.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True), 0.015625)
        nearest = (steps + power * 1572864.0) - power * 1572864.0  # 1.5 * 2^20
        first = nearest.to(tl.float8e4nv)
        second = (steps - nearest).to(tl.float8e4nv)
    else:
        number = tl.floor(x / scale + 0.5).to(tl.int32)
        high = (number + 128) >> 8
        first = high.to(tl.int8)
        second = (number - 256 * high).to(tl.int8)
    return first, second


@triton.jit
def row_codes_kernel(
    x_ptr, codes_ptr, scale_ptr, num_rows, width, largest_code, smallest,
    KIND: tl.constexpr, BLOCK: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One row a program, held in registers: its largest magnitude, then its codes."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < width
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    x = tl.load(x_ptr + row * width + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.max(_magnitude(x), axis=0).to(tl.float32, bitcast=True) / largest_code
    scale = tl.where(scale < smallest, smallest, scale)
    tl.store(scale_ptr + row, scale)
    first, second = _two_parts(x, scale, KIND)
    place = row * width + at
    if KIND == "int4":
        place = ((at % 2) * num_rows + row) * (width // 2) + at // 2
    tl.store(codes_ptr + place, first, mask=inside)
    tl.store(codes_ptr + num_rows.to(tl.int64) * width + place, second, mask=inside)


@triton.jit
def _weights(w_ptr, rows, row_mask, start, end, stride, BLOCK: tl.constexpr):
    """(rows, BLOCK) stored bytes from one on."""
    at = start + tl.arange(0, BLOCK)
    place = w_ptr + rows.to(tl.int64)[:, None] * stride + at[None, :]
    return tl.load(place, mask=row_mask[:, None] & (at < end)[None, :], other=0.0, eviction_policy="evict_first")


@triton.jit
def _inputs(x_ptr, tokens, token_mask, start, end, stride, BLOCK: tl.constexpr):
    """(BLOCK, tokens) codes from one on."""
    at = start + tl.arange(0, BLOCK)
    place = x_ptr + tokens.to(tl.int64)[None, :] * stride + at[:, None]
    return tl.load(place, mask=(at < end)[:, None] & token_mask[None, :], other=0.0)


@triton.jit
def _halves(packed, IS_NATIVE: tl.constexpr):
    """16 (q - 8) for the codes in the low and in the high halves of bytes, as int8."""
    if IS_NATIVE:
        low, high = tl.inline_asm_elementwise(
            BYTE_HALVES, BYTE_HALVES_OPERANDS, [packed], dtype=(tl.int8, tl.int8), is_pure=True, pack=4
        )
    else:
        low = (((packed << 4) & 0xF0) ^ 0x80).to(tl.int8, bitcast=True)
        high = ((packed & 0xF0) ^ 0x80).to(tl.int8, bitcast=True)
    return low, high


@triton.jit
def _group_sums(
    x_ptr, w_ptr, rows, row_mask, tokens, token_mask, start, end, width, part_stride, IS_NATIVE: tl.constexpr
):  # fmt: skip
    """(rows, tokens) sums over one group of 16 (q - 8) times the inputs' numbers, in fp32."""
    BYTES: tl.constexpr = GROUP // 2
    place_stride = part_stride // 2
    even, odd = _halves(_weights(w_ptr, rows, row_mask, start, end, width, BYTES), IS_NATIVE)
    x = _inputs(x_ptr, tokens, token_mask, start, end, width, BYTES)
    sums = tl.dot(even, x, out_dtype=tl.int32)
    x = _inputs(x_ptr + place_stride, tokens, token_mask, start, end, width, BYTES)
    sums = 256 * tl.dot(odd, x, sums, out_dtype=tl.int32)
    x_ptr += part_stride
    x = _inputs(x_ptr, tokens, token_mask, start, end, width, BYTES)
    sums = tl.dot(even, x, sums, out_dtype=tl.int32)
    x = _inputs(x_ptr + place_stride, tokens, token_mask, start, end, width, BYTES)
    sums = tl.dot(odd, x, sums, out_dtype=tl.int32)
    return sums.to(tl.float32)  # below 2^30: 128 inputs of 128 * 32,600


@triton.jit
def _group_scale(scale_ptr, rows, row_mask, group, num_groups):
    return tl.load(scale_ptr + rows.to(tl.int64) * num_groups + group, mask=row_mask, other=0.0).to(tl.float32)


@triton.jit
def _four_bit_products(
    x_ptr, w_ptr, scale_ptr, rows, up_rows, row_mask, tokens, token_mask, begin, end, num_inputs, part_stride,
    GATED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, STAGES: tl.constexpr, IS_NATIVE: tl.constexpr,
):  # fmt: skip
    """(BLOCK_N, BLOCK_M) products in steps of the inputs' scale, and those of the ups."""
    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    acc_up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    width = tl.multiple_of(num_inputs // 2, 64)
    num_groups = num_inputs // GROUP
    for start in tl.range(begin // 2, end // 2, GROUP // 2, num_stages=STAGES):
        byte = tl.multiple_of(start, 64)
        group = start // (GROUP // 2)
        sums = _group_sums(
            x_ptr, w_ptr, rows, row_mask, tokens, token_mask, byte, end // 2, width, part_stride, IS_NATIVE
        )
        acc += sums * _group_scale(scale_ptr, rows, row_mask, group, num_groups)[:, None]
        if GATED:
            sums = _group_sums(
                x_ptr, w_ptr, up_rows, row_mask, tokens, token_mask, byte, end // 2, width, part_stride, IS_NATIVE
            )
            acc_up += sums * _group_scale(scale_ptr, up_rows, row_mask, group, num_groups)[:, None]
    return acc * 0.0625, acc_up * 0.0625


@triton.jit
def _eight_bit_products(
    x_ptr, w_ptr, rows, up_rows, row_mask, tokens, token_mask, begin, end, num_inputs, part_stride,
    GATED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The same in steps of both scales. Sums stay whole numbers, below 2^31: 32,768 inputs of 127 * 128 each."""
    high = tl.zeros([BLOCK_N, BLOCK_M], tl.int32)
    low = tl.zeros([BLOCK_N, BLOCK_M], tl.int32)
    high_up = tl.zeros([BLOCK_N, BLOCK_M], tl.int32)
    low_up = tl.zeros([BLOCK_N, BLOCK_M], tl.int32)
    for start in tl.range(begin, end, BLOCK_K, num_stages=STAGES):
        x_high = _inputs(x_ptr, tokens, token_mask, start, end, num_inputs, BLOCK_K)
        x_low = _inputs(x_ptr + part_stride, tokens, token_mask, start, end, num_inputs, BLOCK_K)
        w = _weights(w_ptr, rows, row_mask, start, end, num_inputs, BLOCK_K)
        high = tl.dot(w, x_high, high, out_dtype=tl.int32)
        low = tl.dot(w, x_low, low, out_dtype=tl.int32)
        if GATED:
            w = _weights(w_ptr, up_rows, row_mask, start, end, num_inputs, BLOCK_K)
            high_up = tl.dot(w, x_high, high_up, out_dtype=tl.int32)
            low_up = tl.dot(w, x_low, low_up, out_dtype=tl.int32)
    acc = 256.0 * high.to(tl.float32) + low.to(tl.float32)
    return acc, 256.0 * high_up.to(tl.float32) + low_up.to(tl.float32)


@triton.jit
def _fp8_products(
    x_ptr, w_ptr, rows, up_rows, row_mask, tokens, token_mask, begin, end, num_inputs, part_stride,
    GATED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The same. The units keep 14 bits of a sum of fp8 products: a step's sum is added in fp32."""
    acc = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    acc_up = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for start in tl.range(begin, end, BLOCK_K, num_stages=STAGES):
        x = _inputs(x_ptr, tokens, token_mask, start, end, num_inputs, BLOCK_K)
        rest = _inputs(x_ptr + part_stride, tokens, token_mask, start, end, num_inputs, BLOCK_K)
        w = _weights(w_ptr, rows, row_mask, start, end, num_inputs, BLOCK_K)
        acc += tl.dot(w, rest, tl.dot(w, x))
        if GATED:
            w = _weights(w_ptr, up_rows, row_mask, start, end, num_inputs, BLOCK_K)
            acc_up += tl.dot(w, rest, tl.dot(w, x))
    return acc, acc_up


@triton.jit
def codes_kernel(
    x_ptr, x_scale_ptr, w_ptr, scale_ptr, bias_ptr, residual_ptr, out_ptr,
    num_rows, num_outputs, num_inputs, inputs_per_split,
    KIND: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr, GATED: tl.constexpr,
    SPLITS: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, STAGES: tl.constexpr,
    IS_NATIVE: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """`few_rows_kernel` with inputs as codes: the tokens are the narrow side of a product with BLOCK_N outputs."""
    rows = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask = rows < num_outputs
    tokens = tl.arange(0, BLOCK_M)
    token_mask = tokens < num_rows
    begin = tl.program_id(1) * inputs_per_split
    end = tl.minimum(begin + inputs_per_split, num_inputs)
    part_stride = num_rows.to(tl.int64) * num_inputs
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    up_rows = rows + num_outputs
    if KIND == "int4":
        acc, acc_up = _four_bit_products(
            x_ptr, w_ptr, scale_ptr, rows, up_rows, row_mask, tokens, token_mask, begin, end, num_inputs, part_stride,
            GATED, BLOCK_M, BLOCK_N, STAGES, IS_NATIVE,
        )  # fmt: skip
    elif KIND == "int8":
        acc, acc_up = _eight_bit_products(
            x_ptr, w_ptr, rows, up_rows, row_mask, tokens, token_mask, begin, end, num_inputs, part_stride,
            GATED, BLOCK_M, BLOCK_N, BLOCK_K, STAGES,
        )  # fmt: skip
    else:
        acc, acc_up = _fp8_products(
            x_ptr, w_ptr, rows, up_rows, row_mask, tokens, token_mask, begin, end, num_inputs, part_stride,
            GATED, BLOCK_M, BLOCK_N, BLOCK_K, STAGES,
        )  # fmt: skip
    x_scale = tl.load(x_scale_ptr + tokens, mask=token_mask, other=0.0)[None, :]
    acc *= x_scale
    acc_up *= x_scale
    if KIND != "int4":
        acc *= tl.load(scale_ptr + rows, mask=row_mask, other=0.0)[:, None]
        if GATED:
            acc_up *= tl.load(scale_ptr + up_rows, mask=row_mask, other=0.0)[:, None]
    write_tile(
        acc, acc_up, bias_ptr, residual_ptr, out_ptr, rows, row_mask, tokens, token_mask, num_rows, num_outputs,
        HAS_BIAS, HAS_RESIDUAL, GATED, SPLITS,
    )  # fmt: skip
