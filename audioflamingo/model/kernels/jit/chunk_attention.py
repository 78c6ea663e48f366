"""Attention of a chunk of one sequence's new tokens to its paged cache, which holds their own keys and values already.

Shapes: N tokens, Hkv key heads, G query heads that share one, S splits over the keys, Dh head width.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl

from audioflamingo.model.kernels.jit.paged_attention import LOG2_E, join_splits, page_tile


@triton.jit
def chunk_kernel(
    query_ptr, keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, reach_ptr,
    table_ptr, lengths_ptr, parts_ptr, logs_ptr,
    num_tokens, row_stride, slot_stride, head_stride, scale, num_splits,
    NUM_KV_HEADS: tl.constexpr, SHARED: tl.constexpr, TOKENS: tl.constexpr, QUERIES: tl.constexpr,
    HEAD_DIM: tl.constexpr, PAGE: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, HAS_SCALES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """One (group of TOKENS tokens, key head, split) a program: a tile of keys is read once for the whole group.

    A split leaves fp32 means (N, Hkv, S, G, Dh) and the logarithms, to base 2, of its sums of exponentials
    (N, Hkv, S, G): minus infinity for tokens that see nothing of it.
    """
    head = tl.program_id(1)
    split = tl.program_id(2)
    place = tl.arange(0, QUERIES)
    token = tl.program_id(0) * TOKENS + place // SHARED
    shared = place % SHARED
    is_query = (place < TOKENS * SHARED) & (token < num_tokens)
    dims = tl.arange(0, HEAD_DIM)
    lengths = tl.load(lengths_ptr + token, mask=is_query, other=0)
    longest = tl.max(lengths, axis=0)
    per_split = tl.cdiv(tl.cdiv(longest, num_splits), BLOCK) * BLOCK
    begin = split * per_split
    end = tl.minimum(begin + per_split, longest)
    query_place = (token * row_stride + (head * SHARED + shared) * HEAD_DIM)[:, None] + dims[None, :]
    query = tl.load(query_ptr + query_place, mask=is_query[:, None], other=0.0)
    if HAS_SCALES:  # what keys were divided by
        query = (query.to(tl.float32) * tl.load(reach_ptr + head * HEAD_DIM + dims)[None, :]).to(query.dtype)

    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, HEAD_DIM], tl.float32)
    for start in tl.range(begin, end, BLOCK, num_stages=STAGES):
        key, value, key_scale, value_scale = page_tile(
            keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr, table_ptr, start, end, begin, slot_stride,
            head_stride, head, HEAD_DIM, NUM_KV_HEADS, PAGE, BLOCK, HAS_SCALES,
        )  # fmt: skip
        key, value = key.to(query.dtype), value.to(query.dtype)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * (scale * LOG2_E)
        if HAS_SCALES:
            scores = scores * key_scale[None, :]
        is_seen = (start + tl.arange(0, BLOCK))[None, :] < lengths[:, None]
        scores = tl.where(is_seen, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        weights = tl.exp2(scores - safe[:, None])
        decay = tl.exp2(highest - safe)
        total = total * decay + tl.sum(weights, axis=1)
        if HAS_SCALES:
            weights = weights * value_scale[None, :]
        acc = acc * decay[:, None] + tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
        highest = higher

    sees = total > 0.0
    logs = tl.where(sees, highest + tl.log2(tl.where(sees, total, 1.0)), float("-inf"))
    means = acc / tl.where(sees, total, 1.0)[:, None]
    own = ((token * NUM_KV_HEADS + head) * num_splits + split) * SHARED + shared
    tl.store(logs_ptr + own, logs, mask=is_query)
    tl.store(parts_ptr + own[:, None] * HEAD_DIM + dims[None, :], means, mask=is_query[:, None])


@triton.jit
def join_kernel(
    parts_ptr, logs_ptr, out_ptr, num_splits,
    NUM_KV_HEADS: tl.constexpr, SHARED: tl.constexpr, SHARED_BLOCK: tl.constexpr, HEAD_DIM: tl.constexpr,
    CHUNK: tl.constexpr,
):  # fmt: skip
    """One (token, key head) a program joins the splits. The first split holds position 0, which every token sees."""
    group = tl.program_id(0) * NUM_KV_HEADS + tl.program_id(1)
    join_splits(
        parts_ptr, logs_ptr, out_ptr, group * num_splits, num_splits, group * SHARED,
        SHARED, SHARED_BLOCK, HEAD_DIM, CHUNK,
    )  # fmt: skip
