"""Attention of packed sequences to themselves with its gradients. T elements of all, H heads, Dh head width.

Tiles of rows come from a table, (tiles, 3) int32 of first row, and begin and end of the sequence; rooms that are not
used have nothing between them. Everything lies side by side: queries (T, H, Dh), keys and values (T, H / SHARED, Dh),
logarithms of sums and products of outputs with their gradients (H, T), to the base of 2.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl

from audioflamingo.model.kernels.jit.packed_attention import seen
from audioflamingo.model.kernels.jit.paged_attention import LOG2_E


@triton.jit
def _rows_of(ptr, rows, end, stride, HEAD_DIM: tl.constexpr, IS_WHOLE: tl.constexpr):
    """(rows, Dh) of a sequence that has an end; zeros beyond it."""
    place = rows[:, None] * stride + tl.arange(0, HEAD_DIM)[None, :]
    if IS_WHOLE:
        return tl.load(ptr + place)
    return tl.load(ptr + place, mask=(rows < end)[:, None], other=0.0)


@triton.jit
def _tile_of(tiles_ptr, tile):
    """First row, and begin and end of its sequence."""
    return tl.load(tiles_ptr + 3 * tile), tl.load(tiles_ptr + 3 * tile + 1), tl.load(tiles_ptr + 3 * tile + 2)


@triton.jit
def forward_kernel(
    query_ptr, key_ptr, value_ptr, out_ptr, sums_ptr, tiles_ptr, num_rows, scale,
    NUM_HEADS: tl.constexpr, SHARED: tl.constexpr, HEAD_DIM: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
    CAUSAL: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One (tile of queries, head) a program; tiles that see most come first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    first, begin, end = _tile_of(tiles_ptr, tile)
    if first >= end:
        return
    rows = first + tl.arange(0, TILE)
    stride: tl.constexpr = NUM_HEADS * HEAD_DIM
    key_stride: tl.constexpr = (NUM_HEADS // SHARED) * HEAD_DIM
    query = _rows_of(query_ptr + head * HEAD_DIM, rows, end, stride, HEAD_DIM, False)
    key_ptr += (head // SHARED) * HEAD_DIM
    value_ptr += (head // SHARED) * HEAD_DIM
    highest = tl.full([TILE], float("-inf"), tl.float32)
    total = tl.zeros([TILE], tl.float32)
    acc = tl.zeros([TILE, HEAD_DIM], tl.float32)
    factor = scale * LOG2_E
    whole, last = begin + (end - begin) // BLOCK * BLOCK, end
    if CAUSAL:
        whole, last = first, tl.minimum(end, first + TILE)
    for start in tl.range(begin, whole, BLOCK, num_stages=STAGES):
        highest, total, acc = seen(
            query, key_ptr, value_ptr, key_stride, rows, start, end, highest, total, acc, factor,
            HEAD_DIM, BLOCK, True, CAUSAL, PRECISION,
        )  # fmt: skip
    for start in tl.range(whole, last, BLOCK, num_stages=1):
        highest, total, acc = seen(
            query, key_ptr, value_ptr, key_stride, rows, start, end, highest, total, acc, factor,
            HEAD_DIM, BLOCK, False, CAUSAL, PRECISION,
        )  # fmt: skip
    acc = acc / total[:, None]
    place = rows[:, None] * stride + head * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    tl.store(out_ptr + place, acc.to(out_ptr.dtype.element_ty), mask=(rows < end)[:, None])
    tl.store(sums_ptr + head * num_rows + rows, highest + tl.log2(total), mask=rows < end)


@triton.jit
def products_kernel(
    out_ptr, gradient_ptr, products_ptr, num_rows,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Of each output with its gradient, summed over the head's width; one (tile of rows, head) a program."""
    rows = tl.program_id(0) * TILE + tl.arange(0, TILE)
    head = tl.program_id(1)
    place = rows[:, None] * (NUM_HEADS * HEAD_DIM) + head * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    inside = (rows < num_rows)[:, None]
    out = tl.load(out_ptr + place, mask=inside, other=0.0).to(tl.float32)
    gradient = tl.load(gradient_ptr + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(products_ptr + head * num_rows + rows, tl.sum(out * gradient, axis=1), mask=rows < num_rows)


@triton.jit
def _seen_by(
    key, value, query_ptr, gradient_ptr, sums_ptr, products_ptr, stride, keys, start, end, key_acc, value_acc, factor,
    HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, IS_WHOLE: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradients of a tile of keys and values after one more block of queries; a whole one sees all of them."""
    at = start + tl.arange(0, BLOCK)
    query = _rows_of(query_ptr, at, end, stride, HEAD_DIM, IS_WHOLE)
    gradient = _rows_of(gradient_ptr, at, end, stride, HEAD_DIM, IS_WHOLE)
    if IS_WHOLE:
        sums = tl.load(sums_ptr + at)
        products = tl.load(products_ptr + at)
    else:
        sums = tl.load(sums_ptr + at, mask=at < end, other=float("inf"))
        products = tl.load(products_ptr + at, mask=at < end, other=0.0)
    scores = tl.dot(key, tl.trans(query), input_precision=PRECISION)
    weights = tl.exp2(scores * factor - sums[None, :])
    if CAUSAL and not IS_WHOLE:
        weights = tl.where(keys[:, None] <= at[None, :], weights, 0.0)
    value_acc = tl.dot(weights.to(gradient.dtype), gradient, value_acc, input_precision=PRECISION)
    steps = tl.dot(value, tl.trans(gradient), input_precision=PRECISION)
    steps = weights * (steps - products[None, :])
    key_acc = tl.dot(steps.to(query.dtype), query, key_acc, input_precision=PRECISION)
    return key_acc, value_acc


@triton.jit
def keys_kernel(
    query_ptr, key_ptr, value_ptr, gradient_ptr, sums_ptr, products_ptr, key_out_ptr, value_out_ptr, tiles_ptr,
    num_rows, scale,
    NUM_HEADS: tl.constexpr, SHARED: tl.constexpr, HEAD_DIM: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
    CAUSAL: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and values: one (tile of keys, head of keys) a program."""
    tile = tl.program_id(0)
    first, begin, end = _tile_of(tiles_ptr, tile)
    if first >= end:
        return
    keys = first + tl.arange(0, TILE)
    stride: tl.constexpr = NUM_HEADS * HEAD_DIM
    key_stride: tl.constexpr = (NUM_HEADS // SHARED) * HEAD_DIM
    shift = tl.program_id(1) * HEAD_DIM
    key = _rows_of(key_ptr + shift, keys, end, key_stride, HEAD_DIM, False)
    value = _rows_of(value_ptr + shift, keys, end, key_stride, HEAD_DIM, False)
    key_acc = tl.zeros([TILE, HEAD_DIM], tl.float32)
    value_acc = tl.zeros([TILE, HEAD_DIM], tl.float32)
    factor = scale * LOG2_E
    whole = begin
    if CAUSAL:
        whole = tl.minimum(first + TILE, end)
    last = whole + (end - whole) // BLOCK * BLOCK
    for share in range(SHARED):
        head = tl.program_id(1) * SHARED + share
        queries, gradients = query_ptr + head * HEAD_DIM, gradient_ptr + head * HEAD_DIM
        sums, products = sums_ptr + head * num_rows, products_ptr + head * num_rows
        if CAUSAL:
            for start in tl.range(first, whole, BLOCK, num_stages=1):
                key_acc, value_acc = _seen_by(
                    key, value, queries, gradients, sums, products, stride, keys, start, end, key_acc, value_acc,
                    factor, HEAD_DIM, BLOCK, False, True, PRECISION,
                )  # fmt: skip
        for start in tl.range(whole, last, BLOCK, num_stages=STAGES):
            key_acc, value_acc = _seen_by(
                key, value, queries, gradients, sums, products, stride, keys, start, end, key_acc, value_acc,
                factor, HEAD_DIM, BLOCK, True, CAUSAL, PRECISION,
            )  # fmt: skip
        for start in tl.range(last, end, BLOCK, num_stages=1):
            key_acc, value_acc = _seen_by(
                key, value, queries, gradients, sums, products, stride, keys, start, end, key_acc, value_acc,
                factor, HEAD_DIM, BLOCK, False, CAUSAL, PRECISION,
            )  # fmt: skip
    place = keys[:, None] * key_stride + shift + tl.arange(0, HEAD_DIM)[None, :]
    inside = (keys < end)[:, None]
    tl.store(key_out_ptr + place, (key_acc * scale).to(key_out_ptr.dtype.element_ty), mask=inside)
    tl.store(value_out_ptr + place, value_acc.to(value_out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _sees(
    query, gradient, sums, products, key_ptr, value_ptr, stride, rows, start, end, acc, factor,
    HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, IS_WHOLE: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient of a tile of queries after one more block of keys; all see a whole one."""
    at = start + tl.arange(0, BLOCK)
    key = _rows_of(key_ptr, at, end, stride, HEAD_DIM, IS_WHOLE)
    value = _rows_of(value_ptr, at, end, stride, HEAD_DIM, IS_WHOLE)
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    weights = tl.exp2(scores * factor - sums[:, None])
    if not IS_WHOLE:
        is_seen = (at < end)[None, :]
        if CAUSAL:
            is_seen = is_seen & (at[None, :] <= rows[:, None])
        weights = tl.where(is_seen, weights, 0.0)
    steps = tl.dot(gradient, tl.trans(value), input_precision=PRECISION)
    steps = weights * (steps - products[:, None])
    return tl.dot(steps.to(key.dtype), key, acc, input_precision=PRECISION)


@triton.jit
def queries_kernel(
    query_ptr, key_ptr, value_ptr, gradient_ptr, sums_ptr, products_ptr, query_out_ptr, tiles_ptr, num_rows, scale,
    NUM_HEADS: tl.constexpr, SHARED: tl.constexpr, HEAD_DIM: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr,
    CAUSAL: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of queries: one (tile of queries, head) a program; tiles that see most come first."""
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    first, begin, end = _tile_of(tiles_ptr, tile)
    if first >= end:
        return
    rows = first + tl.arange(0, TILE)
    stride: tl.constexpr = NUM_HEADS * HEAD_DIM
    key_stride: tl.constexpr = (NUM_HEADS // SHARED) * HEAD_DIM
    query = _rows_of(query_ptr + head * HEAD_DIM, rows, end, stride, HEAD_DIM, False)
    gradient = _rows_of(gradient_ptr + head * HEAD_DIM, rows, end, stride, HEAD_DIM, False)
    sums = tl.load(sums_ptr + head * num_rows + rows, mask=rows < end, other=float("inf"))
    products = tl.load(products_ptr + head * num_rows + rows, mask=rows < end, other=0.0)
    key_ptr += (head // SHARED) * HEAD_DIM
    value_ptr += (head // SHARED) * HEAD_DIM
    acc = tl.zeros([TILE, HEAD_DIM], tl.float32)
    factor = scale * LOG2_E
    whole, last = begin + (end - begin) // BLOCK * BLOCK, end
    if CAUSAL:
        whole, last = first, tl.minimum(end, first + TILE)
    for start in tl.range(begin, whole, BLOCK, num_stages=STAGES):
        acc = _sees(
            query, gradient, sums, products, key_ptr, value_ptr, key_stride, rows, start, end, acc, factor,
            HEAD_DIM, BLOCK, True, CAUSAL, PRECISION,
        )  # fmt: skip
    for start in tl.range(whole, last, BLOCK, num_stages=1):
        acc = _sees(
            query, gradient, sums, products, key_ptr, value_ptr, key_stride, rows, start, end, acc, factor,
            HEAD_DIM, BLOCK, False, CAUSAL, PRECISION,
        )  # fmt: skip
    place = rows[:, None] * stride + head * HEAD_DIM + tl.arange(0, HEAD_DIM)[None, :]
    tl.store(query_out_ptr + place, (acc * scale).to(query_out_ptr.dtype.element_ty), mask=(rows < end)[:, None])
