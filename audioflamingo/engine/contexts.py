"""What new tokens attend to when keys and values lie in the paged cache: one token a sequence, or chunks of prompts.

Plain torch on any device; `engine.graphs` has the faster way of a GPU. Shapes: B sequences, N new tokens, H query
heads, Hkv key heads, G query heads that share one, T positions, Dh head width.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor

from audioflamingo.engine.blocks import num_blocks_for
from audioflamingo.engine.kv_cache import BLOCK_TOKENS, DecodeBatch, PagedCache, stretches_of
from audioflamingo.engine.scheduler import Chunk
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.attention import Packing, PaddedContext, attend, num_padded, scaled_dot_product
from audioflamingo.model.placing import sent
from audioflamingo.model.quantize.native import attention as compiled

SHORT_TOKENS = 1_024  # longer sequences are worth a call of their own
MAX_PADDING = 2  # times the shortest of a group that may be read of it
QUERIES_PER_MASK = 256  # of a chunk behind a long past: what bounds the memory of its mask


class PagedDecodeContext:
    """One new token a sequence: its key and value go to its slot, and it attends to its whole sequence."""

    def __init__(self, cache: PagedCache, batch: DecodeBatch) -> None:
        self._cache, self._batch = cache, batch
        offsets = torch.arange(BLOCK_TOKENS, device=cache.device)
        self._seen = (batch.block_tables.long()[:, :, None] * BLOCK_TOKENS + offsets).flatten(1)
        places = torch.arange(self._seen.shape[1], device=cache.device)
        self._mask = (places < batch.lengths[:, None])[:, None, None]

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`; N is B here."""
        self._cache.write(layer_index, self._batch.slots, key, value)
        keys, values = self._cache.at(layer_index, self._seen)
        # Queries that share a key head stand where a sequence's queries would: no key is ever repeated in memory.
        grouped = query.view(query.shape[0], keys.shape[2], -1, query.shape[2])
        seen = keys.transpose(1, 2), values.transpose(1, 2)
        return scaled_dot_product(grouped, *seen, mask=self._mask).flatten(1, 2)


class RunDecodeContext:
    """The same on a CPU: keys and values are read where they lie, as many sequences in one call as lie evenly apart.

    With `is_compiled`, for a step that runs compiled kernels anyway, one of these reads what lies alone.
    """

    def __init__(self, cache: PagedCache, sequences: Rows[Sequence], *, is_compiled: bool = False) -> None:
        self._cache = cache
        self._attend_one = compiled.attend if is_compiled and compiled.can_attend(cache.keys[0]) else scaled_dot_product
        self._runs = [sequence.runs(sequence.num_tokens) for sequence in sequences]
        self._slots = torch.tensor([sequence.slot(sequence.num_tokens - 1) for sequence in sequences])
        self._slot = sequences[0].slot(sequences[0].num_tokens - 1) if len(sequences) == 1 else None
        self._groups = [_Group.of(self._runs[rows], rows) for rows in _evenly_apart(self._runs, cache.num_slots)]

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`; N is B here."""
        if not self._cache.is_read_in_place:
            return self._attend_widened(layer_index, query, key, value)
        pair = self._cache.pair(layer_index)
        if self._slot is None:
            self._cache.write(layer_index, self._slots, key, value)
        else:
            pair.select(1, self._slot).copy_(torch.cat([key, value]))
        grouped = query.view(query.shape[0], pair.shape[2], -1, query.shape[2])
        parts = [group.attend(grouped[group.rows], pair, self._runs, self._attend_one) for group in self._groups]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).flatten(1, 2)

    def _attend_widened(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self._cache.write(layer_index, self._slots, key, value)
        grouped = query.view(query.shape[0], key.shape[1], -1, query.shape[2])
        seen = (self._cache.stretches(layer_index, runs) for runs in self._runs)
        return torch.cat([scaled_dot_product(row[None], *one) for row, one in zip(grouped, seen, strict=True)]).flatten(
            1, 2
        )


@dataclass(frozen=True)
class _Group:
    """Neighbouring rows of a batch that one call reads.

    Attributes:
        rows: which.
        stride: slots from the beginning of one to that of the next.
        longest: positions that are read of each.
        mask: (B, 1, 1, longest) bool, which of them count; None where all do.
    """

    rows: slice
    stride: int
    longest: int
    mask: Tensor | None

    @classmethod
    def of(cls, runs: list[list[tuple[int, int]]], rows: slice) -> _Group:
        """A group of sequences that each lie in one stretch, or a single one."""
        if len(runs) == 1:
            return cls(rows, 0, 0, None)
        lengths = torch.tensor([one[0][1] for one in runs])
        longest = int(lengths.max())
        mask = (torch.arange(longest) < lengths[:, None])[:, None, None]
        return cls(rows, runs[1][0][0] - runs[0][0][0], longest, mask)

    def attend(
        self,
        query: Tensor,
        pair: Tensor,
        runs: list[list[tuple[int, int]]],
        attend_one: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Tensor:
        """(B, Hkv, G, Dh) outputs for queries of the same shape; those of a single one come from `attend_one`."""
        own = runs[self.rows.start]
        if self.mask is None:
            return attend_one(query, *stretches_of(pair, own))
        halves, slots, heads, width = pair.stride()
        shape = (2, query.shape[0], pair.shape[2], self.longest, pair.shape[3])
        seen = pair.as_strided(shape, (halves, self.stride * slots, heads, slots, width), own[0][0] * slots)
        return scaled_dot_product(query, *seen.unbind(0), mask=self.mask)


def _evenly_apart(runs: list[list[tuple[int, int]]], num_slots: int) -> list[slice]:
    """Rows in groups of neighbours that lie evenly apart in memory, short ones of like length; others alone."""
    groups: list[slice] = []
    start = 0
    for end in range(1, len(runs) + 1):
        if end == len(runs) or not _belongs(runs, start, end, num_slots):
            groups.append(slice(start, end))
            start = end
    return groups


def _belongs(runs: list[list[tuple[int, int]]], start: int, row: int, num_slots: int) -> bool:
    """Whether a row can be read together with those from `start` up to it."""
    if len(runs[row]) > 1 or len(runs[start]) > 1:
        return False
    lengths = [one[0][1] for one in runs[start : row + 1]]
    stride = runs[row][0][0] - runs[row - 1][0][0]
    is_even = stride > 0 and (row - start < 2 or stride == runs[start + 1][0][0] - runs[start][0][0])
    is_alike = max(lengths) <= min(SHORT_TOKENS, MAX_PADDING * min(lengths))
    return is_even and is_alike and runs[row][0][0] + max(lengths) <= num_slots


@dataclass(frozen=True)
class _Span:
    """Neighbouring rows of a packed batch of chunks that one call reads.

    Attributes:
        rows: which.
        packing: of chunks that begin their sequences, which see nothing but themselves; None behind a past.
        runs: where the sequence lies that the rows are behind the past of, in stretches of slots.
    """

    rows: slice
    packing: Packing | None = None
    runs: tuple[tuple[int, int], ...] = ()


def _spans(chunks: Rows[Chunk], device: torch.device) -> list[_Span]:
    """Chunks that begin their sequences together as far as they are neighbours, others one by one."""
    spans: list[_Span] = []
    row = 0
    for is_fresh, group in groupby(chunks, key=lambda chunk: chunk.start == 0):
        some = list(group)
        if is_fresh:
            packing = Packing.of([chunk.num_tokens for chunk in some], device)
            spans.append(_Span(slice(row, row + packing.total), packing))
            row += packing.total
            continue
        for chunk in some:
            runs = tuple(chunk.sequence.runs(chunk.end))
            spans.append(_Span(slice(row, row + chunk.num_tokens), runs=runs))
            row += chunk.num_tokens
    return spans


class ChunkContext(PaddedContext):
    """Chunks of prompts, packed: each attends to what its sequence has in the cache, and to itself."""

    def __init__(self, cache: PagedCache, chunks: Rows[Chunk]) -> None:
        self._cache = cache
        self._packing = Packing.of([chunk.num_tokens for chunk in chunks], cache.device)
        self._are_fresh = all(chunk.start == 0 for chunk in chunks)
        self._spans = [] if self._are_fresh else _spans(chunks, cache.device)
        slots = torch.cat([slots_of(chunk.sequence, chunk.start, chunk.end) for chunk in chunks])
        self._slots = sent(slots, cache.device)

        positions = torch.cat([torch.arange(chunk.start, chunk.end) for chunk in chunks])
        self.positions = sent(positions, cache.device)
        """(N,) int64 position of each token in its sequence."""
        ends = accumulate(chunk.num_tokens for chunk in chunks)
        last_rows = [end - 1 for end, chunk in zip(ends, chunks, strict=True) if chunk.is_last]
        self.last_rows = sent(torch.tensor(last_rows, dtype=torch.int64), cache.device)
        """(B,) int64 rows of the last tokens of those sequences that are read to their end."""
        are_read_as_given = self._are_fresh and cache.is_read_in_place
        self.num_rows = num_padded(cache.keys[0], self._packing) if are_read_as_given else self._packing.total

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`."""
        num_new = self._packing.total
        stored = self._cache.write(layer_index, self._slots, key[:num_new], value[:num_new])
        if not self._cache.is_read_in_place:
            key, value = stored
        if self._are_fresh:
            return attend(query, key, value, self._packing, causal=True)
        return torch.cat([self._attend_span(layer_index, span, query, key, value) for span in self._spans])

    def _attend_span(self, layer_index: int, span: _Span, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows = span.rows
        if span.packing is not None:
            return attend(query[rows], key[rows], value[rows], span.packing, causal=True)
        return _behind_past(query[rows], *self._cache.stretches(layer_index, span.runs))


def slots_of(sequence: Sequence, start: int, end: int) -> Tensor:
    """(end - start,) int64 on the CPU: where keys and values of positions [start, end) lie."""
    first = start // BLOCK_TOKENS
    blocks = torch.tensor(sequence.blocks[first : num_blocks_for(end)])
    slots = (blocks[:, None] * BLOCK_TOKENS + torch.arange(BLOCK_TOKENS)).flatten()
    return slots[start - first * BLOCK_TOKENS : end - first * BLOCK_TOKENS]


def _behind_past(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(n, H, Dh) outputs of the last n of T positions for queries (n, H, Dh), keys and values (1, Hkv, T, Dh)."""
    num_new, num_seen = query.shape[0], keys.shape[2]
    heads_first = query.transpose(0, 1)[None]
    if num_new == num_seen:
        return scaled_dot_product(heads_first, keys, values, causal=True)[0].transpose(0, 1)
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16):
        from torch.nn.attention.bias import causal_lower_right  # brings torch's whole compiler along

        bias = causal_lower_right(num_new, num_seen)
        return scaled_dot_product(heads_first, keys, values, mask=bias)[0].transpose(0, 1)
    parts = []
    for start in range(0, num_new, QUERIES_PER_MASK):
        some = heads_first[:, :, start : start + QUERIES_PER_MASK]
        first = num_seen - num_new + start
        seen = first + some.shape[2]
        mask = torch.ones(some.shape[2], seen, dtype=torch.bool, device=query.device).tril(first)
        parts.append(scaled_dot_product(some, keys[:, :, :seen], values[:, :, :seen], mask=mask))
    return torch.cat(parts, dim=2)[0].transpose(0, 1)
