"""The paged KV cache: blocks of positions that any sequence may hold, and what one decode step says of them.

Shapes: B sequences, L layers, Hkv key heads, Dh head width. A slot is one position's place in the cache:
block * BLOCK_TOKENS + offset. Which sequence holds which block is the business of `engine.blocks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audioflamingo.config import DecoderConfig
from audioflamingo.engine.blocks import BLOCK_TOKENS, SCRATCH_BLOCK
from audioflamingo.model.kernels import EightBits
from audioflamingo.model.placing import sent

__all__ = ["BLOCK_TOKENS", "SCRATCH_BLOCK", "DecodeBatch", "PagedCache"]


Stretches = Sequence[tuple[int, int]]  # first slot and number of slots of each


class PagedCache:
    """Keys and values of all blocks, as they are.

    Attributes:
        keys: for each layer (num_blocks * BLOCK_TOKENS, Hkv, Dh), one row a slot.
        values: likewise.
    """

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, device: torch.device, num_blocks: int) -> None:
        self._sizes = (config.num_kv_heads, config.head_dim)
        # Zeros, not empty memory: a masked NaN would poison a weighted sum.
        self._like = torch.zeros(0, dtype=dtype, device=device)
        self._pairs = [self._new(num_blocks) for _ in range(config.num_layers)]
        self._name_halves()

    @property
    def num_blocks(self) -> int:
        """Blocks, the scratch block included."""
        return self.num_slots // BLOCK_TOKENS

    @property
    def num_slots(self) -> int:
        """Positions that it has room for, the scratch block's included."""
        return self.keys[-1].shape[0]  # the layer that grows last

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.keys[0].device

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return sum(pair.numel() * pair.element_size() for pair in self._pairs)

    @property
    def is_read_in_place(self) -> bool:
        """Whether what is stored needs no widening, so that `pair` can be attended to where it lies."""
        return True

    def pair(self, layer_index: int) -> Tensor:
        """(2, slots, Hkv, Dh): a layer's keys and values in one tensor, as they are stored."""
        return self._pairs[layer_index]

    def eight_bits(self, layer_index: int) -> EightBits | None:
        """What a layer's codes are to be multiplied by, where they are codes."""
        return None

    def grow(self, num_blocks: int) -> None:
        """Make room for more blocks; what is stored stays, at another address.

        Where there is no memory for all layers, some have grown, and the next time they are passed over.
        """
        try:
            for index, pair in enumerate(self._pairs):
                if pair.shape[1] < num_blocks * BLOCK_TOKENS:
                    larger = self._new(num_blocks)
                    larger[:, : pair.shape[1]] = pair
                    self._pairs[index] = larger
        finally:
            self._name_halves()

    def erase(self, blocks: Sequence[int]) -> None:
        """Zeros where something was stored that is not finite."""
        slots = torch.tensor(blocks, device=self.device)[:, None] * BLOCK_TOKENS
        slots = (slots + torch.arange(BLOCK_TOKENS, device=self.device)).flatten()
        for one in self._stores():
            one.index_fill_(1, slots, 0)

    def write(self, layer_index: int, slots: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Store (N, Hkv, Dh) keys and values at (N,) slots; returns them as they will be read."""
        self.keys[layer_index].index_copy_(0, slots, keys)
        self.values[layer_index].index_copy_(0, slots, values)
        return keys, values

    def at(self, layer_index: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (..., Hkv, Dh) of slots (...)."""
        return self.keys[layer_index][slots], self.values[layer_index][slots]

    def stretches(self, layer_index: int, runs: Stretches) -> tuple[Tensor, Tensor]:
        """Keys and values, each (1, Hkv, T, Dh), of stretches of slots in order; a view where there is only one."""
        return stretches_of(self._pairs[layer_index], runs)

    def _new(self, num_blocks: int) -> Tensor:
        """(2, slots, Hkv, Dh) of zeros. On a CPU the heads lie apart, which is how they are read there, one by one."""
        num_slots, (num_heads, head_dim) = num_blocks * BLOCK_TOKENS, self._sizes
        if self._like.is_cuda:
            return self._like.new_zeros((2, num_slots, num_heads, head_dim))
        num_bytes = 2 * num_heads * num_slots * head_dim * self._like.element_size()
        untouched = torch.from_numpy(
            np.zeros(num_bytes, np.uint8)
        )  # the system gives memory page by page, when written
        return untouched.view(self._like.dtype).view(2, num_heads, num_slots, head_dim).transpose(1, 2)

    def _stores(self) -> Iterable[Tensor]:
        """Every tensor of it; slots are their second dimension."""
        return self._pairs

    def _name_halves(self) -> None:
        self.keys = [pair[0] for pair in self._pairs]
        self.values = [pair[1] for pair in self._pairs]


def stretches_of(pair: Tensor, runs: Stretches) -> tuple[Tensor, Tensor]:
    """See `PagedCache.stretches`; of (2, slots, Hkv, Dh)."""
    if len(runs) == 1:
        seen = pair.narrow(1, *runs[0])
    else:
        seen = torch.cat([pair.narrow(1, first, size) for first, size in runs], dim=1)
    keys, values = seen.transpose(1, 2).unsqueeze(1).unbind(0)
    return keys, values


@dataclass(frozen=True)
class DecodeBatch:
    """One new token for each of B sequences, as the device sees it.

    Attributes:
        tokens: (B,) int64 ids.
        positions: (B,) int64, 0-based position of each new token.
        block_tables: (B, most blocks) int32 numbers of each sequence's blocks, in order, padded with the scratch block.
        lengths: (B,) int32 positions that a sequence attends to, the new one included.
        slots: (B,) int64, where each new token's key and value go.
    """

    tokens: Tensor
    positions: Tensor
    block_tables: Tensor
    lengths: Tensor
    slots: Tensor

    @classmethod
    def of(cls, tokens: Sequence[int], tables: Sequence[Sequence[int]], lengths: Sequence[int], device: torch.device
           ) -> DecodeBatch:  # fmt: skip
        """A batch from plain lists: tokens, block numbers of each sequence, and its positions with the new one."""
        widest = max(len(table) for table in tables)
        padded = [[*table, *[SCRATCH_BLOCK] * (widest - len(table))] for table in tables]
        positions = [length - 1 for length in lengths]
        slots = [
            table[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
            for table, position in zip(tables, positions, strict=True)
        ]
        numbers = sent(torch.tensor([tokens, positions, slots, lengths]), device)
        return cls(
            tokens=numbers[0],
            positions=numbers[1],
            block_tables=sent(torch.tensor(padded, dtype=torch.int32), device),
            lengths=numbers[3].int(),
            slots=numbers[2],
        )

    @property
    def num_rows(self) -> int:
        """B."""
        return self.tokens.shape[0]
