"""One new token of each sequence: rotary positions, the store of its key and value, and attention to its paged cache.

Shapes: B sequences, H query heads, Hkv key heads, G = H / Hkv that share one, Dh head width, S splits over the keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels import tuning
from audioflamingo.model.kernels.availability import is_hopper, launches_early, num_multiprocessors, runs_triton
from audioflamingo.model.kernels.eight_bits import MAX_CODE, SMALLEST_SCALE, EightBits, pointers_of, read_at, write_at
from audioflamingo.model.kernels.elementwise import Heads, Slots, rotate_in_place
from audioflamingo.model.kernels.norm import early_option

_MAX_SPLITS = 64
_PROGRAMS_A_MULTIPROCESSOR = 2
_SPLITS_AT_ONCE = 16  # that the joining program holds
_LEAST_COUNTERS = 4096

_counters: dict[torch.device, list[Tensor]] = {}


@dataclass(frozen=True)
class AttentionPlan:
    """One way.

    Attributes:
        block: keys of a step.
        stages: steps under way at once; the table of pages takes one, so that nothing is loaded ahead below three.
        warps: of a program.
        splits: over the keys; 0 is what fills the card.
        registers: of a thread at most; 0 for what the compiler likes.
    """

    block: int
    stages: int
    warps: int
    splits: int = 0
    registers: int = 0


PLANS = (
    AttentionPlan(64, 1, 4),
    AttentionPlan(64, 3, 4),
    AttentionPlan(32, 3, 4),
    AttentionPlan(64, 5, 4),
    AttentionPlan(64, 1, 8),
)

# The fastest on an H200 for the 8 B model's heads, by sequences; how long they are made no difference. A multiprocessor
# keeps the division of its memory into shared one and first-level cache from one kernel to the next, and what is asked
# for but has not come waits in that cache: for one sequence, whose products ask for much at once, little shared memory
# is worth more than steps loaded ahead.
_FOR_MANY = AttentionPlan(64, 1, 8)
HOPPER = {1: AttentionPlan(64, 1, 4), 8: AttentionPlan(64, 5, 4), 64: _FOR_MANY}
_HOPPER_HEADS = Heads(28, 4, 128)


def known_plan(num_sequences: int) -> AttentionPlan | None:
    """That for the least number of sequences that is at least this, or for most: no batch waits for a trial.

    None where nothing is known.
    """
    enough = [most for most in HOPPER if most >= num_sequences] or [max(HOPPER, default=0)]
    return HOPPER.get(min(enough))


@dataclass(frozen=True, eq=False)
class Pages:
    """Where each sequence's keys and values lie.

    Attributes:
        page_size: positions of a page.
        tables: (B, most pages) int32 numbers of each sequence's pages, in order.
        lengths: (B,) int32 positions that a sequence attends to, the new one included; each at least 1.
        longest: a bound for all lengths that the same launch may ever see; decides the number of splits.
    """

    page_size: int
    tables: Tensor
    lengths: Tensor
    longest: int

    def slots(self) -> Tensor:
        """(B,) int64 slots of the new tokens."""
        positions = self.lengths.long() - 1
        pages = self.tables.gather(1, (positions // self.page_size)[:, None])[:, 0].long()
        return pages * self.page_size + positions % self.page_size


def attend_paged(
    qkv: Tensor,
    tables: tuple[Tensor, Tensor],
    keys: Tensor,
    values: Tensor,
    heads: Heads,
    pages: Pages,
    *,
    eight_bits: EightBits | None = None,
) -> Tensor:
    """Attention of one new token a sequence, whose key and value are stored on the way.

    Args:
        qkv: (B, (H + 2 Hkv) * Dh) contiguous fused projections, not yet turned; they may be overwritten.
        tables: cosines and sines by position, of `half_tables`.
        keys: (num_slots, Hkv, Dh), written at the new tokens' slots; of any strides but the last, which is 1.
        values: like keys, with the same strides.
        heads: H, Hkv, Dh.
        pages: where each sequence lies.
        eight_bits: what keys and values are multiplied by where they are int8 codes.

    Returns:
        (B, H * Dh) in qkv's dtype.
    """
    assert keys.stride() == values.stride()
    assert keys.stride(2) == 1
    if not runs_triton(qkv):
        return _attend_twin(qkv, tables, (keys, values), heads, pages, eight_bits)
    sizes = _power_of_two(qkv.shape[0]), _power_of_two(pages.longest)
    key = ("attend", qkv.device, qkv.dtype, keys.dtype, sizes, heads)
    known = _known(qkv, heads)
    plan = tuning.best(
        key,
        PLANS if known is None else (known,),
        lambda plan: run_plan(qkv, tables, (keys, values), heads, pages, plan=plan, eight_bits=eight_bits),
        qkv.device,
    )
    return run_plan(qkv, tables, (keys, values), heads, pages, plan=plan, eight_bits=eight_bits)


def _known(qkv: Tensor, heads: Heads) -> AttentionPlan | None:
    if not is_hopper(qkv) or qkv.dtype != torch.bfloat16 or heads != _HOPPER_HEADS:
        return None
    return known_plan(qkv.shape[0])


def run_plan(
    qkv: Tensor,
    tables: tuple[Tensor, Tensor],
    stores: tuple[Tensor, Tensor],
    heads: Heads,
    pages: Pages,
    *,
    plan: AttentionPlan,
    eight_bits: EightBits | None = None,
) -> Tensor:
    """`attend_paged` in one particular way; `stores` are the keys and values."""
    from audioflamingo.model.kernels.jit.paged_attention import split_kernel

    batch, shared, (keys, values) = qkv.shape[0], heads.num_heads // heads.num_kv_heads, stores
    units = num_multiprocessors(qkv.device)
    splits = plan.splits or num_splits(batch * heads.num_kv_heads, pages.longest, units, plan.block)
    out = qkv.new_empty((batch, heads.num_heads * heads.head_dim))
    parts = logs = out
    if splits > 1:
        logs = qkv.new_empty((batch, heads.num_kv_heads, splits, shared), dtype=torch.float32)
        parts = qkv.new_empty((*logs.shape, heads.head_dim), dtype=torch.float32)
    early = launches_early(qkv)
    options = {"maxnreg": plan.registers} if plan.registers and qkv.is_cuda else {}
    split_kernel[(batch, heads.num_kv_heads, splits)](
        qkv, tables[0], tables[1], keys, values, *pointers_of(eight_bits, qkv),
        pages.tables, pages.lengths, parts, logs,
        _arrivals(batch * heads.num_kv_heads, qkv.device), out,
        pages.tables.stride(0), keys.stride(0), keys.stride(1), heads.head_dim**-0.5, splits,
        NUM_KV_HEADS=heads.num_kv_heads, SHARED=shared, SHARED_BLOCK=max(16, _power_of_two(shared)),
        JOIN_BLOCK=_power_of_two(shared), HEAD_DIM=heads.head_dim, PAGE=pages.page_size, BLOCK=plan.block,
        IS_SPLIT=splits > 1, CHUNK=min(_SPLITS_AT_ONCE, splits), STAGES=plan.stages, HAS_SCALES=eight_bits is not None,
        MAX_CODE=MAX_CODE, SMALLEST=SMALLEST_SCALE,
        PRECISION="ieee" if qkv.dtype == torch.float32 else "tf32",
        EARLY=early, num_warps=plan.warps, **options, **early_option(early),
    )  # fmt: skip
    return out


def _arrivals(number: int, device: torch.device) -> Tensor:
    """Counters that are zero between launches, (at least number,) int32; never freed, as graphs hold their address."""
    existing = _counters.setdefault(device, [])
    if not existing or len(existing[-1]) < number:
        size = max(_LEAST_COUNTERS, _power_of_two(number))
        existing.append(torch.zeros(size, dtype=torch.int32, device=device))
    return existing[-1]


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def num_splits(num_rows: int, longest: int, num_units: int, block: int = 64) -> int:
    """Splits over the keys, a power of two, so that `num_rows` pieces of work fill `num_units` multiprocessors."""
    wanted = num_units * _PROGRAMS_A_MULTIPROCESSOR / num_rows
    most = min(_MAX_SPLITS, longest // block)
    splits = 1
    while 2 * splits <= most and 1.5 * splits < wanted:
        splits *= 2
    return splits


def _attend_twin(
    qkv: Tensor,
    tables: tuple[Tensor, Tensor],
    stores: tuple[Tensor, Tensor],
    heads: Heads,
    pages: Pages,
    eight_bits: EightBits | None,
) -> Tensor:
    positions = pages.lengths.long() - 1
    rotate_in_place(qkv, tables, positions, heads, None if eight_bits else Slots(pages.slots(), *stores))
    if eight_bits:
        _, new_keys, new_values = heads.split(qkv)
        write_at(pages.slots(), (new_keys, new_values), stores, eight_bits)
    query = heads.split(qkv)[0].reshape(len(qkv), heads.num_kv_heads, -1, heads.head_dim)
    offsets = torch.arange(pages.page_size, device=qkv.device)
    slots = (pages.tables.long()[:, :, None] * pages.page_size + offsets).flatten(1)
    mask = torch.arange(slots.shape[1], device=qkv.device) < pages.lengths[:, None]
    key, value = (one.transpose(1, 2) for one in read_at(slots, *stores, eight_bits, qkv.dtype))
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
    return out.flatten(1)
