"""The plain KV cache: contiguous, one row a sequence, every row with a length of its own.

It serves the plain engine and transformers' decoding loop, and judges the paged cache. Shapes: B rows, L layers,
Hkv key heads, G query heads that share one, T capacity in positions, Dh head width. Rows start at position 0 and are
padded on the right; what lies beyond a row's length is masked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.config import DecoderConfig
from audioflamingo.model.attention import Packing, attend, scaled_dot_product

CAPACITY_STEP = 256  # the cache grows in steps, so that a short answer does not pay for the longest one allowed


class KVCache:
    """Keys and values of the running sequences."""

    def __init__(self, config: DecoderConfig, dtype: torch.dtype, device: torch.device) -> None:
        shape = (0, config.num_kv_heads, 0, config.head_dim)
        self.keys = [torch.empty(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self.values = [torch.empty(shape, dtype=dtype, device=device) for _ in range(config.num_layers)]
        self.lengths: list[int] = []

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.lengths)

    @property
    def capacity(self) -> int:
        """T, positions that a row has room for."""
        return self.keys[0].shape[2]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.keys[0].device

    def add_rows(self, lengths: Sequence[int]) -> int:
        """Make room for new rows that will hold `lengths` positions each; returns the first one's index."""
        first_row = self.num_rows
        self.lengths.extend(lengths)
        self._resize(self.num_rows, max(self.lengths) + 1)
        return first_row

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, which keep their order."""
        if list(rows) == list(range(self.num_rows)):
            return
        index = torch.tensor(rows, dtype=torch.int64, device=self.device)
        self.keys = [layer[index] for layer in self.keys]
        self.values = [layer[index] for layer in self.values]
        self.lengths = [self.lengths[row] for row in rows]

    def exchange(self, rows: Sequence[int], start: int) -> None:
        """Let each row hold, from position `start` on, what one of all rows, which are equally long, has there."""
        if list(rows) == list(range(self.num_rows)):
            return
        index = torch.tensor(rows, dtype=torch.int64, device=self.device)
        for layer in (*self.keys, *self.values):
            own = layer[:, :, start : self.lengths[0]]
            own.copy_(own[index])

    def grow(self) -> None:
        """Lengthen every row by the position that the coming decode step writes."""
        self.lengths = [length + 1 for length in self.lengths]
        self._resize(self.num_rows, max(self.lengths))

    def _resize(self, num_rows: int, num_positions: int) -> None:
        capacity = max(self.capacity, -(-num_positions // CAPACITY_STEP) * CAPACITY_STEP)
        if (num_rows, capacity) != (self.keys[0].shape[0], self.capacity):
            self.keys = [_enlarged(layer, num_rows, capacity) for layer in self.keys]
            self.values = [_enlarged(layer, num_rows, capacity) for layer in self.values]


def _enlarged(layer: Tensor, num_rows: int, capacity: int) -> Tensor:
    # Zeros, not empty memory: a masked NaN would still poison the weighted sum.
    larger = layer.new_zeros((num_rows, layer.shape[1], capacity, layer.shape[3]))
    larger[: layer.shape[0], :, : layer.shape[2]] = layer
    return larger


@dataclass(frozen=True)
class PrefillContext:
    """Whole prompts, packed: they attend to themselves, and their keys and values are written to new rows."""

    cache: KVCache
    first_row: int
    packing: Packing

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`."""
        self._write(self.cache.keys[layer_index], key)
        self._write(self.cache.values[layer_index], value)
        return attend(query, key, value, self.packing, causal=True)

    def _write(self, layer: Tensor, new: Tensor) -> None:
        for row, part in enumerate(torch.split(new, list(self.packing.lengths)), start=self.first_row):
            layer[row, :, : part.shape[0]] = part.transpose(0, 1)


class DecodeContext:
    """One new token a row: its key and value go to the row's last position, and it attends to the whole row."""

    def __init__(self, cache: KVCache) -> None:
        self._cache = cache
        self._longest = max(cache.lengths)
        self._is_uniform = min(cache.lengths) == self._longest
        self._mask: Tensor | None = None
        self.positions = torch.tensor([length - 1 for length in cache.lengths], device=cache.device)
        """(B,) int64 position of each new token."""
        if not self._is_uniform:
            self._rows = torch.arange(cache.num_rows, device=cache.device)
            visible = torch.arange(self._longest, device=cache.device) <= self.positions[:, None]
            self._mask = visible[:, None, None]

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`; N is B here."""
        keys, values = self._cache.keys[layer_index], self._cache.values[layer_index]
        self._write(keys, key)
        self._write(values, value)
        # Queries that share a key head stand where a sequence's queries would: no key is ever repeated in memory.
        grouped = query.view(query.shape[0], keys.shape[1], -1, query.shape[2])
        seen = keys.narrow(2, 0, self._longest), values.narrow(2, 0, self._longest)
        return scaled_dot_product(grouped, *seen, mask=self._mask).flatten(1, 2)

    def _write(self, layer: Tensor, new: Tensor) -> None:
        if self._is_uniform:
            layer.select(2, self._longest - 1).copy_(new)
        else:
            layer[self._rows, :, self.positions] = new
