"""Keys and values rounded to eight bits on their way into the cache. Shapes: N rows, Hkv key heads, Dh head width."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, PLR0913
from __future__ import annotations

import triton
import triton.language as tl

from audioflamingo.model.kernels.jit.paged_attention import rounded


@triton.jit
def store_kernel(
    new_keys_ptr, new_values_ptr, slots_ptr, reach_ptr, keys_ptr, values_ptr, key_scales_ptr, value_scales_ptr,
    seen_keys_ptr, seen_values_ptr, key_row_stride, value_row_stride, slot_stride, head_stride,
    NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, MAX_CODE: tl.constexpr, SMALLEST: tl.constexpr,
):  # fmt: skip
    """One (row, key head) a program: codes and scales go to the row's slot, and what they stand for comes out."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    dims = tl.arange(0, HEAD_DIM)
    slot = tl.load(slots_ptr + row)
    reach = tl.load(reach_ptr + head * HEAD_DIM + dims)
    key = tl.load(new_keys_ptr + row * key_row_stride + head * HEAD_DIM + dims)
    value = tl.load(new_values_ptr + row * value_row_stride + head * HEAD_DIM + dims)
    key_code, key_scale = rounded(key.to(tl.float32) / reach, MAX_CODE, SMALLEST)
    value_code, value_scale = rounded(value.to(tl.float32), MAX_CODE, SMALLEST)
    place = slot * slot_stride + head * head_stride + dims
    tl.store(keys_ptr + place, key_code.to(tl.int8))
    tl.store(values_ptr + place, value_code.to(tl.int8))
    tl.store(key_scales_ptr + slot * NUM_KV_HEADS + head, key_scale)
    tl.store(value_scales_ptr + slot * NUM_KV_HEADS + head, value_scale)
    own = (row * NUM_KV_HEADS + head) * HEAD_DIM + dims
    tl.store(seen_keys_ptr + own, (key_code * key_scale * reach).to(key.dtype))
    tl.store(seen_values_ptr + own, (value_code * value_scale).to(value.dtype))
