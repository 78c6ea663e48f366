"""Attention of sequences to themselves that lie one after another. N elements of all, H heads, Dh head width."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl

from audioflamingo.model.kernels.jit.paged_attention import LOG2_E


@triton.jit
def seen(
    query, key_ptr, value_ptr, key_stride, rows, start, length, highest, total, acc, factor,
    HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr, IS_WHOLE: tl.constexpr, CAUSAL: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """The running maximum, sum of exponentials and weighted sum after one more tile of keys; all see a whole one."""
    at = start + tl.arange(0, BLOCK)
    dims = tl.arange(0, HEAD_DIM)
    place = at[:, None] * key_stride + dims[None, :]
    if IS_WHOLE:
        key = tl.load(key_ptr + place)
        value = tl.load(value_ptr + place)
    else:
        key = tl.load(key_ptr + place, mask=(at < length)[:, None], other=0.0)
        value = tl.load(value_ptr + place, mask=(at < length)[:, None], other=0.0)
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION)
    if not IS_WHOLE:
        is_seen = (at < length)[None, :]
        if CAUSAL:
            is_seen = is_seen & (at[None, :] <= rows[:, None])
        scores = tl.where(is_seen, scores, float("-inf"))
    higher = tl.maximum(highest, tl.max(scores, axis=1) * factor)
    weights = tl.exp2(scores * factor - higher[:, None])
    decay = tl.exp2(highest - higher)
    total = total * decay + tl.sum(weights, axis=1)
    acc = acc * decay[:, None]
    acc = tl.dot(weights.to(value.dtype), value, acc, input_precision=PRECISION)
    return higher, total, acc


@triton.jit(do_not_specialize=["uniform_length"])  # on a program for a length of 1 ptxas 12.8 breaks down
def packed_kernel(
    query_ptr, key_ptr, value_ptr, out_ptr, offsets_ptr, uniform_length, query_stride, key_stride, scale,
    NUM_HEADS: tl.constexpr, SHARED: tl.constexpr, HEAD_DIM: tl.constexpr, QUERIES: tl.constexpr, BLOCK: tl.constexpr,
    CAUSAL: tl.constexpr, IS_UNIFORM: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One (tile of queries, head, sequence) a program; where causal, tiles that see most come first.

    Rows of queries, and of keys and values, lie so many elements apart, heads side by side. Sequences begin at
    `offsets`, (B + 1,) int32, or are all of one length.
    """
    tile = tl.program_id(0)
    if CAUSAL:
        tile = tl.num_programs(0) - 1 - tile
    head = tl.program_id(1)
    sequence = tl.program_id(2)
    if IS_UNIFORM:
        length = uniform_length
        begin = sequence.to(tl.int64) * length
    else:
        begin = tl.load(offsets_ptr + sequence).to(tl.int64)
        length = tl.load(offsets_ptr + sequence + 1) - begin.to(tl.int32)
    first = tile * QUERIES
    if first >= length:
        return
    rows = first + tl.arange(0, QUERIES)
    dims = tl.arange(0, HEAD_DIM)
    inside = (rows < length)[:, None]
    place = (begin + rows)[:, None] * query_stride + head * HEAD_DIM + dims[None, :]
    query = tl.load(query_ptr + place, mask=inside, other=0.0)
    shift = begin * key_stride + (head // SHARED) * HEAD_DIM
    key_ptr += shift
    value_ptr += shift
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, HEAD_DIM], tl.float32)
    factor = scale * LOG2_E
    whole, end = (length // BLOCK) * BLOCK, length
    if CAUSAL:
        whole = tl.minimum(whole, (first // BLOCK) * BLOCK)
        end = tl.minimum(length, first + QUERIES)
    for start in tl.range(0, whole, BLOCK, num_stages=STAGES):
        highest, total, acc = seen(
            query, key_ptr, value_ptr, key_stride, rows, start, length, highest, total, acc, factor,
            HEAD_DIM, BLOCK, True, CAUSAL, PRECISION,
        )  # fmt: skip
    for start in tl.range(whole, end, BLOCK, num_stages=1):
        highest, total, acc = seen(
            query, key_ptr, value_ptr, key_stride, rows, start, length, highest, total, acc, factor,
            HEAD_DIM, BLOCK, False, CAUSAL, PRECISION,
        )  # fmt: skip
    acc = acc / total[:, None]
    place = (begin + rows)[:, None] * (NUM_HEADS * HEAD_DIM) + head * HEAD_DIM + dims[None, :]
    tl.store(out_ptr + place, acc.to(out_ptr.dtype.element_ty), mask=inside)
