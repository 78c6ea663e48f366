"""Attention of one new token a sequence to its paged cache, split over the keys; who is last joins the splits.

Shapes: B sequences, Hkv key heads, G query heads that share one, S splits, Dh head width.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, N806, PLR0913, PLR0915
from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _turned(place, partner, cos, sin, sign, mask):
    """Elements turned by their position; products are rounded before the sum, as the reference's are."""
    own = tl.load(place, mask=mask, other=0.0)
    other = tl.load(partner, mask=mask, other=0.0)
    dtype = own.dtype
    first = (own.to(tl.float32) * cos).to(dtype).to(tl.float32)
    second = (sign * other.to(tl.float32) * sin).to(dtype).to(tl.float32)
    return (first + second).to(dtype)


@triton.jit
def page_tile(
    keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, table, start, seen, first, slot_stride, head_stride, head,
    HEAD_DIM: tl.constexpr, NUM_KV_HEADS: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr,
    HAS_SCALES: tl.constexpr,
):  # fmt: skip
    """Stored keys and values of positions from `start` up to `seen`; zeros beyond, and before `first`.

    (BLOCK, Dh) of either, and (BLOCK,) of the scales that they stand for multiples of, ones without.
    """
    positions = start + tl.arange(0, BLOCK)
    inside = (positions < seen) & (positions >= first)
    block = tl.load(table + positions // PAGE, mask=inside, other=0).to(tl.int64)
    slot = block * PAGE + positions % PAGE
    place = (slot * slot_stride + head * head_stride)[:, None] + tl.arange(0, HEAD_DIM)[None, :]
    key = tl.load(keys_ptr + place, mask=inside[:, None], other=0)
    value = tl.load(values_ptr + place, mask=inside[:, None], other=0)
    key_scale = tl.full([BLOCK], 1.0, tl.float32)
    value_scale = key_scale
    if HAS_SCALES:
        key_scale = tl.load(key_scales_ptr + slot * NUM_KV_HEADS + head, mask=inside, other=0.0)
        value_scale = tl.load(value_scales_ptr + slot * NUM_KV_HEADS + head, mask=inside, other=0.0)
    return key, value, key_scale, value_scale


@triton.jit
def rounded(x, MAX_CODE: tl.constexpr, SMALLEST: tl.constexpr):
    """Whole numbers up to MAX_CODE, in fp32, and the scale of which x is a multiple of them."""
    scale = tl.maximum(tl.max(tl.abs(x), axis=0) / MAX_CODE, SMALLEST)
    return tl.floor(x / scale + 0.5), scale


@triton.jit
def _attended(
    query, key, value, key_scale, value_scale, new_key, new_value, new_key_scale, new_value_scale,
    start, last, end, highest, total, acc, factor,
    BLOCK: tl.constexpr, HAS_SCALES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The running maximum, sum of exponentials and weighted sum after one more tile of keys."""
    positions = start + tl.arange(0, BLOCK)
    is_new = positions == last
    key = tl.where(is_new[:, None], new_key[None, :], key.to(query.dtype))
    value = tl.where(is_new[:, None], new_value[None, :], value.to(query.dtype))
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * factor
    if HAS_SCALES:
        scores = scores * tl.where(is_new, new_key_scale, key_scale)[None, :]
    scores = tl.where((positions < end)[None, :], scores, float("-inf"))
    higher = tl.maximum(highest, tl.max(scores, axis=1))
    weights = tl.exp2(scores - higher[:, None])
    decay = tl.exp2(highest - higher)
    total = total * decay + tl.sum(weights, axis=1)
    if HAS_SCALES:
        weights = weights * tl.where(is_new, new_value_scale, value_scale)[None, :]
    acc = acc * decay[:, None] + tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
    return higher, total, acc


@triton.jit
def join_splits(
    parts_ptr, logs_ptr, out_ptr, first, num_used, row,
    SHARED: tl.constexpr, SHARED_BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """The splits' means, weighted by their sums of exponentials, for the query heads of one key head."""
    shared = tl.arange(0, SHARED_BLOCK)
    dims = tl.arange(0, HEAD_DIM)
    is_query = shared < SHARED
    highest = tl.full([SHARED_BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([SHARED_BLOCK], tl.float32)
    acc = tl.zeros([SHARED_BLOCK, HEAD_DIM], tl.float32)
    for start in tl.range(0, num_used, CHUNK):
        splits = start + tl.arange(0, CHUNK)
        mask = (splits < num_used)[:, None] & is_query[None, :]
        place = (first + splits)[:, None] * SHARED + shared[None, :]
        # Other multiprocessors wrote these: the first-level cache must not answer.
        logs = tl.load(logs_ptr + place, mask=mask, other=float("-inf"), cache_modifier=".cg")
        place = place[:, :, None] * HEAD_DIM + dims[None, None, :]
        parts = tl.load(parts_ptr + place, mask=mask[:, :, None], other=0.0, cache_modifier=".cg")
        higher = tl.maximum(highest, tl.max(logs, axis=0))
        safe = tl.where(is_query, higher, 0.0)
        weights = tl.exp2(logs - safe[None, :])
        decay = tl.exp2(highest - safe)
        total = total * decay + tl.sum(weights, axis=0)
        acc = acc * decay[:, None] + tl.sum(parts * weights[:, :, None], axis=0)
        highest = higher
    out = acc / tl.where(is_query, total, 1.0)[:, None]
    place = (row + shared)[:, None] * HEAD_DIM + dims[None, :]
    tl.store(out_ptr + place, out.to(out_ptr.dtype.element_ty), mask=is_query[:, None])


@triton.jit
def split_kernel(
    qkv_ptr, cos_ptr, sin_ptr, keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, reach_ptr,
    tables_ptr, lengths_ptr, parts_ptr, logs_ptr, arrived_ptr, out_ptr,
    table_width, slot_stride, head_stride, scale, num_splits,
    NUM_KV_HEADS: tl.constexpr, SHARED: tl.constexpr, SHARED_BLOCK: tl.constexpr, JOIN_BLOCK: tl.constexpr,
    HEAD_DIM: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr, IS_SPLIT: tl.constexpr, CHUNK: tl.constexpr,
    STAGES: tl.constexpr, HAS_SCALES: tl.constexpr, MAX_CODE: tl.constexpr, SMALLEST: tl.constexpr,
    PRECISION: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """One (sequence, key head, split) a program.

    Queries and the new key are turned here; the program that sees the last position stores the new key and value. With
    scales both are rounded first, and queries take along what keys were divided by.
    A split leaves fp32 means (B, Hkv, S, G, Dh) and the logarithms, to base 2, of its sums of exponentials
    (B, Hkv, S, G); the last of a key head's to arrive, counted in (B, Hkv) zeros that are zeros again afterwards, joins
    them. What was stored by earlier steps, and where, is read before the kernel ahead is done.
    """
    sequence = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    split = tl.program_id(2)
    HALF: tl.constexpr = HEAD_DIM // 2
    NUM_HEADS: tl.constexpr = NUM_KV_HEADS * SHARED
    length = tl.load(lengths_ptr + sequence)
    per_split = tl.cdiv(tl.cdiv(length, num_splits), BLOCK) * BLOCK
    begin = split * per_split
    if begin >= length:
        return
    last = length - 1
    end = tl.minimum(begin + per_split, length)
    seen = tl.minimum(end, last)
    table = tables_ptr + sequence * table_width
    key, value, key_scale, value_scale = page_tile(
        keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, table, begin, seen, begin, slot_stride, head_stride,
        head, HEAD_DIM, NUM_KV_HEADS, PAGE, BLOCK, HAS_SCALES,
    )  # fmt: skip
    dims = tl.arange(0, HEAD_DIM)
    partner = (dims + HALF) % HEAD_DIM
    sign = tl.where(dims < HALF, -1.0, 1.0)
    shared = tl.arange(0, SHARED_BLOCK)
    is_query = shared < SHARED
    cos = tl.load(cos_ptr + last.to(tl.int64) * HALF + dims % HALF).to(tl.float32)
    sin = tl.load(sin_ptr + last.to(tl.int64) * HALF + dims % HALF).to(tl.float32)
    if EARLY:
        gdc_wait()
        gdc_launch_dependents()
    row = qkv_ptr + sequence * (NUM_HEADS + 2 * NUM_KV_HEADS) * HEAD_DIM
    query_row = row + (head * SHARED + shared)[:, None] * HEAD_DIM
    query = _turned(
        query_row + dims[None, :], query_row + partner[None, :], cos[None, :], sin[None, :], sign[None, :],
        is_query[:, None],
    )  # fmt: skip
    key_row = row + (NUM_HEADS + head) * HEAD_DIM
    new_key = _turned(key_row + dims, key_row + partner, cos, sin, sign, dims < HEAD_DIM)
    new_value = tl.load(row + (NUM_HEADS + NUM_KV_HEADS + head) * HEAD_DIM + dims)
    new_key_scale = 1.0
    new_value_scale = 1.0
    if HAS_SCALES:
        reach = tl.load(reach_ptr + head * HEAD_DIM + dims)
        query = (query.to(tl.float32) * reach[None, :]).to(query.dtype)
        wide_key, new_key_scale = rounded(new_key.to(tl.float32) / reach, MAX_CODE, SMALLEST)
        wide_value, new_value_scale = rounded(new_value.to(tl.float32), MAX_CODE, SMALLEST)
        new_key, new_value = wide_key.to(query.dtype), wide_value.to(query.dtype)
    if (begin <= last) & (last < end):
        slot = tl.load(table + last // PAGE).to(tl.int64) * PAGE + last % PAGE
        place = slot * slot_stride + head * head_stride + dims
        if HAS_SCALES:
            tl.store(keys_ptr + place, new_key.to(tl.int8))
            tl.store(values_ptr + place, new_value.to(tl.int8))
            tl.store(key_scales_ptr + slot * NUM_KV_HEADS + head, new_key_scale)
            tl.store(value_scales_ptr + slot * NUM_KV_HEADS + head, new_value_scale)
        else:
            tl.store(keys_ptr + place, new_key)
            tl.store(values_ptr + place, new_value)

    highest = tl.full([SHARED_BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([SHARED_BLOCK], tl.float32)
    acc = tl.zeros([SHARED_BLOCK, HEAD_DIM], tl.float32)
    factor = scale * LOG2_E
    highest, total, acc = _attended(
        query, key, value, key_scale, value_scale, new_key, new_value, new_key_scale, new_value_scale,
        begin, last, end, highest, total, acc, factor, BLOCK, HAS_SCALES, PRECISION,
    )  # fmt: skip
    for start in tl.range(begin + BLOCK, end, BLOCK, num_stages=STAGES):
        key, value, key_scale, value_scale = page_tile(
            keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, table, start, seen, begin, slot_stride, head_stride,
            head, HEAD_DIM, NUM_KV_HEADS, PAGE, BLOCK, HAS_SCALES,
        )  # fmt: skip
        highest, total, acc = _attended(
            query, key, value, key_scale, value_scale, new_key, new_value, new_key_scale, new_value_scale,
            start, last, end, highest, total, acc, factor, BLOCK, HAS_SCALES, PRECISION,
        )  # fmt: skip
    acc = acc / total[:, None]
    place = (sequence * NUM_HEADS + head * SHARED + shared)[:, None] * HEAD_DIM + dims[None, :]
    num_used = tl.cdiv(length, per_split)
    if not IS_SPLIT:  # noqa: SIM114 (decided when compiled, unlike the next)
        tl.store(out_ptr + place, acc.to(out_ptr.dtype.element_ty), mask=is_query[:, None])
    elif num_used == 1:
        tl.store(out_ptr + place, acc.to(out_ptr.dtype.element_ty), mask=is_query[:, None])
    else:
        group = sequence * NUM_KV_HEADS + head
        own = (group * num_splits + split) * SHARED + shared
        tl.store(logs_ptr + own, highest + tl.log2(total), mask=is_query)
        tl.store(parts_ptr + own[:, None] * HEAD_DIM + dims[None, :], acc, mask=is_query[:, None])
        tl.debug_barrier()  # all of this program's stores come before its arrival
        arrived = tl.atomic_add(arrived_ptr + group, 1, sem="acq_rel")
        if arrived == num_used - 1:
            join_splits(
                parts_ptr, logs_ptr, out_ptr, group * num_splits, num_used, sequence * NUM_HEADS + head * SHARED,
                SHARED, JOIN_BLOCK, HEAD_DIM, CHUNK,
            )  # fmt: skip
            tl.store(arrived_ptr + group, 0)
