"""The KV cache in eight bits, and which kind of cache a model gets.

Shapes: N new tokens, Hkv key heads, Dh head width, T positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from audioflamingo.config import DecoderConfig
from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.kv_cache import PagedCache, Stretches
from audioflamingo.engine.scheduler import CacheKind
from audioflamingo.model.decoder import DecoderLayer
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels import EightBits
from audioflamingo.model.kernels.eight_bits import SCALE_BYTES, key_reach, read_at, write_at
from audioflamingo.model.kernels.joint import weight_of


class EightBitCache(PagedCache):
    """The same in int8: half of the memory of 16 bits; see `model.kernels.eight_bits`.

    Whoever attends sees what was stored, its own key and value too, so that an answer does not depend on where its
    prompt was cut into chunks or how much of it was found in the cache.
    """

    def __init__(
        self, config: DecoderConfig, dtype: torch.dtype, device: torch.device, num_blocks: int, reach: Sequence[Tensor]
    ) -> None:
        """Take the memory.

        Args:
            config: sizes.
            dtype: of what is given and read.
            device: where.
            num_blocks: blocks, the scratch block included.
            reach: (Hkv, Dh) for each layer, of `key_reach`.
        """
        self._dtype, self._reach = dtype, [one.to(device) for one in reach]
        super().__init__(config, torch.int8, device, num_blocks)
        self._scales = [self._new_scales(num_blocks) for _ in range(config.num_layers)]

    @property
    def num_bytes(self) -> int:
        """Memory that it takes."""
        return super().num_bytes + sum(one.numel() * one.element_size() for one in self._scales)

    @property
    def is_read_in_place(self) -> bool:
        """See `PagedCache`."""
        return False

    def eight_bits(self, layer_index: int) -> EightBits:
        """See `PagedCache`."""
        keys, values = self._scales[layer_index].unbind(0)
        return EightBits(keys, values, self._reach[layer_index])

    def grow(self, num_blocks: int) -> None:
        """See `PagedCache`."""
        for index, scales in enumerate(self._scales):  # first, so that codes never lack theirs
            if scales.shape[1] < num_blocks * BLOCK_TOKENS:
                larger = self._new_scales(num_blocks)
                larger[:, : scales.shape[1]] = scales
                self._scales[index] = larger
        super().grow(num_blocks)

    def write(self, layer_index: int, slots: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See `PagedCache`."""
        stores = self.keys[layer_index], self.values[layer_index]
        return write_at(slots, (keys, values), stores, self.eight_bits(layer_index))

    def at(self, layer_index: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """See `PagedCache`."""
        stores = self.keys[layer_index], self.values[layer_index]
        return read_at(slots, *stores, self.eight_bits(layer_index), self._dtype)

    def stretches(self, layer_index: int, runs: Stretches) -> tuple[Tensor, Tensor]:
        """See `PagedCache`; never a view."""
        slots = torch.cat([torch.arange(first, first + size, device=self.device) for first, size in runs])
        keys, values = (one.transpose(0, 1)[None] for one in self.at(layer_index, slots))
        return keys, values

    def _stores(self) -> Iterable[Tensor]:
        """See `PagedCache`."""
        return (*self._pairs, *self._scales)

    def _new_scales(self, num_blocks: int) -> Tensor:
        """(2, slots, Hkv): of keys and of values."""
        return torch.zeros((2, num_blocks * BLOCK_TOKENS, self._sizes[0]), dtype=torch.float32, device=self.device)


def new_cache(model: Flamingo, num_blocks: int, kind: CacheKind) -> PagedCache:
    """A cache for a model's decoder, of the kind that `Limits.kv_cache` names."""
    config = model.config.decoder
    if kind == "plain":
        return PagedCache(config, model.dtype, model.device, num_blocks)
    return EightBitCache(
        config, model.dtype, model.device, num_blocks, [_reach(layer) for layer in model.decoder.layers]
    )


def _reach(layer: nn.Module) -> Tensor:
    own = cast("DecoderLayer", layer)
    attention, norm = own.self_attn, own.input_layernorm
    projection = attention.k_proj
    weight = weight_of(projection).plain(torch.float32)
    with torch.no_grad():
        return key_reach(weight, projection.bias, norm.weight, attention.head_dim)


def bytes_per_block(config: DecoderConfig, dtype: torch.dtype, kind: CacheKind = "plain") -> int:
    """Memory of one block, all layers, keys and values."""
    per_head = config.head_dim * dtype.itemsize if kind == "plain" else config.head_dim + SCALE_BYTES
    return 2 * config.num_layers * config.num_kv_heads * per_head * BLOCK_TOKENS
