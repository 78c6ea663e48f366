"""A chunk of one sequence's new tokens behind a long past: attention to its paged cache, where that lies.

Every length and place is read on the device, so that one recorded launch serves any past. Shapes: N tokens, H query
heads, Hkv key heads, G = H / Hkv that share one, Dh head width, S splits over the keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels.availability import num_multiprocessors, runs_triton
from audioflamingo.model.kernels.eight_bits import EightBits, pointers_of, read_at

_LEAST_QUERIES = 16  # that a matrix unit takes
_MAX_SPLITS = 64
_SPLITS_AT_ONCE = 16  # that a joining program holds
_PROGRAMS_A_MULTIPROCESSOR = 4


@dataclass(frozen=True)
class ChunkPlan:
    """One way.

    Attributes:
        queries: rows of a program's products; tokens times the query heads that share a key head fit into them.
        block: keys of a step.
        stages: steps under way at once, the table of pages taking one.
        warps: of a program.
    """

    queries: int = 64
    block: int = 64
    stages: int = 3
    warps: int = 4


PLAN = ChunkPlan()


@dataclass(frozen=True, eq=False)
class SharedPages:
    """Where one sequence's keys and values lie, and what each of its new tokens sees.

    Attributes:
        page_size: positions of a page.
        table: (pages,) int32 numbers of the sequence's pages, in order.
        lengths: (N,) integers, positions that each token attends to, its own included; each at least 1.
    """

    page_size: int
    table: Tensor
    lengths: Tensor


def attend_chunk(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    pages: SharedPages,
    plan: ChunkPlan = PLAN,
    *,
    eight_bits: EightBits | None = None,
) -> Tensor:
    """Attention of N tokens of one sequence, whose keys and values are stored already.

    Args:
        query: (N, H, Dh), turned; heads side by side, rows any stride apart.
        keys: (num_slots, Hkv, Dh) of any strides but the last, which is 1.
        values: like keys, with the same strides.
        pages: where the sequence lies, and how far each token sees.
        plan: sizes of the kernel's programs.
        eight_bits: what keys and values are multiplied by where they are int8 codes.

    Returns:
        (N, H, Dh).
    """
    assert keys.stride() == values.stride()
    assert keys.stride(2) == 1
    if not runs_triton(query):
        return _twin(query, keys, values, pages, eight_bits)
    from audioflamingo.model.kernels.jit.chunk_attention import chunk_kernel, join_kernel

    assert query.stride()[1:] == (query.shape[2], 1)
    (num_tokens, num_heads, head_dim), num_kv_heads = query.shape, keys.shape[1]
    shared = num_heads // num_kv_heads
    queries = max(plan.queries, _LEAST_QUERIES, _power_of_two(shared))
    tokens = queries // shared
    groups = -(-num_tokens // tokens)
    splits = _num_splits(groups * num_kv_heads, num_multiprocessors(query.device))
    logs = query.new_empty((num_tokens, num_kv_heads, splits, shared), dtype=torch.float32)
    parts = query.new_empty((*logs.shape, head_dim), dtype=torch.float32)
    out = query.new_empty(query.shape)
    chunk_kernel[(groups, num_kv_heads, splits)](
        query, keys, values, *pointers_of(eight_bits, query), pages.table, pages.lengths, parts, logs,
        num_tokens, query.stride(0), keys.stride(0), keys.stride(1), head_dim**-0.5, splits,
        NUM_KV_HEADS=num_kv_heads, SHARED=shared, TOKENS=tokens, QUERIES=queries, HEAD_DIM=head_dim,
        PAGE=pages.page_size, BLOCK=plan.block, STAGES=plan.stages, HAS_SCALES=eight_bits is not None,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32", num_warps=plan.warps,
    )  # fmt: skip
    join_kernel[(num_tokens, num_kv_heads)](
        parts, logs, out, splits, NUM_KV_HEADS=num_kv_heads, SHARED=shared, SHARED_BLOCK=_power_of_two(shared),
        HEAD_DIM=head_dim, CHUNK=_SPLITS_AT_ONCE, num_warps=4,
    )  # fmt: skip
    return out


def _num_splits(num_programs: int, num_units: int) -> int:
    """A power of two, so that they fill the card; how long the past is does not matter, as it is not known here."""
    wanted = -(-num_units * _PROGRAMS_A_MULTIPROCESSOR // num_programs)
    return min(_MAX_SPLITS, _power_of_two(wanted))


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def _twin(
    query: Tensor, keys: Tensor, values: Tensor, pages: SharedPages, eight_bits: EightBits | None = None
) -> Tensor:
    places = torch.arange(len(pages.table) * pages.page_size, device=query.device)
    slots = pages.table.long()[places // pages.page_size] * pages.page_size + places % pages.page_size
    mask = places < pages.lengths[:, None]
    grouped = query.view(len(query), keys.shape[1], -1, query.shape[2]).permute(1, 2, 0, 3)
    key, value = (
        one.transpose(0, 1)[:, None].expand(-1, grouped.shape[1], -1, -1)
        for one in read_at(slots, keys, values, eight_bits, query.dtype)
    )
    out = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=mask)
    return out.permute(2, 0, 1, 3).reshape(query.shape)
