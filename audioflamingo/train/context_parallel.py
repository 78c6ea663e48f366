"""One long sequence over several processes: each holds a part of the tokens through all layers.

All but attention works on single tokens, so that only keys and values have to travel: every layer gathers those of all
tokens (with few key heads they are small: 2 KB a token and layer in the released model), and each process answers its
own queries. A token sees what is before it, so late tokens cost more: each process takes one early and one late
stretch, which makes the work even. Shapes: N tokens of the whole pack, n of this process, P processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional

from audioflamingo.model.attention import Packing


@dataclass(frozen=True)
class Split:
    """Which tokens of a pack are whose.

    Attributes:
        num_tokens: N.
        rank: of this process.
        size: P.
        device: of the tokens.
    """

    num_tokens: int
    rank: int
    size: int
    device: torch.device

    @property
    def stretch(self) -> int:
        """Tokens of each of the 2 P stretches; the last ones may be shorter."""
        return -(-self.num_tokens // (2 * self.size))

    def stretches(self, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """First token and end of the early and of the late stretch of a process."""
        starts = (rank, 2 * self.size - 1 - rank)
        early, late = (
            (min(k * self.stretch, self.num_tokens), min((k + 1) * self.stretch, self.num_tokens)) for k in starts
        )
        return early, late

    def rows_of(self, rank: int) -> Tensor:
        """(n,) int64 places of a process's tokens in the pack, ascending."""
        return torch.cat([torch.arange(start, end) for start, end in self.stretches(rank)]).to(self.device)

    @cached_property
    def rows(self) -> Tensor:
        """(n,) int64 places of this process's tokens."""
        return self.rows_of(self.rank)

    @cached_property
    def gathered_at(self) -> Tensor:
        """(N,) int64 place of every token among the padded parts of all processes, one after another."""
        places = torch.empty(self.num_tokens, dtype=torch.int64)
        for rank in range(self.size):
            rows = self.rows_of(rank).cpu()
            places[rows] = rank * 2 * self.stretch + torch.arange(len(rows))
        return places.to(self.device)

    def local(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Of ascending places in the pack those that are here: a mask over them, and where they are among `rows`."""
        index = torch.full((self.num_tokens,), -1, device=self.device)
        index[self.rows] = torch.arange(len(self.rows), device=self.device)
        found = index[places]
        return found >= 0, found[found >= 0]


@dataclass(frozen=True)
class SplitContext:
    """Attention of this process's tokens to all tokens before them in their sequences."""

    packing: Packing
    split: Split

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(n, H, Dh) for queries (n, H, Dh) and keys and values (n, Hkv, Dh) of this process."""
        keys, values = _Gather.apply(torch.stack([key, value], 1), self.split).unbind(1)  # type: ignore[no-untyped-call,unused-ignore]
        parts, done = [], 0
        for start, end in self.split.stretches(self.split.rank):
            for first, low, high in self._pieces(start, end):
                mine = query[done + low - start : done + high - start]
                parts.append(_attend_tail(mine, keys[first:high], values[first:high]))
            done += end - start
        if not parts:  # a process without tokens still has to take part in what all do, on the way back too
            nothing: Tensor = query + 0.0 * (keys.sum() + values.sum())
            return nothing
        return torch.cat(parts)

    def _pieces(self, start: int, end: int) -> list[tuple[int, int, int]]:
        """First token of the sequence, first and end of this stretch within it, for all sequences that it touches."""
        bounds = [0]
        for length in self.packing.lengths:
            bounds.append(bounds[-1] + length)
        touched = [(first, max(first, start), min(stop, end)) for first, stop in pairwise(bounds)]
        return [(first, low, high) for first, low, high in touched if low < high]


class _Gather(torch.autograd.Function):
    """(n, ...) of this process to (N, ...) of all; gradients of all are summed where they belong."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, split: Split) -> Tensor:
        ctx.split = split
        padded = functional.pad(mine, (0, 0) * (mine.ndim - 1) + (0, 2 * split.stretch - len(mine)))
        parts = [torch.empty_like(padded) for _ in range(split.size)]
        distributed.all_gather(parts, padded.contiguous())
        return torch.cat(parts)[split.gathered_at]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.contiguous()  # not reduce_scatter: gloo has none, and this is small
        distributed.all_reduce(whole)
        return whole[ctx.split.rows], None


def _attend_tail(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """(t, H, Dh) of the last t queries of a sequence to its S keys, (S, Hkv, Dh)."""
    from torch.nn.attention.bias import causal_lower_right  # here, because it brings torch's whole compiler with it

    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    queries, keys, values = (one.transpose(0, 1)[None] for one in (query, key, value))
    bias: Any = causal_lower_right(len(query), len(key))
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=bias)[0].transpose(0, 1)
