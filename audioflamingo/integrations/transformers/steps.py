"""Decode steps of one `generate`, by the fastest of the engine's ways that the weights at hand allow.

Plain layers of a decoder run as they do in the engine: on a CPU in few calls (`LeanDecoder`), on a GPU by captured
graphs over a paged cache (`GraphDecoder`), which are kept for the next call. Anything else (an adapter's layers, a
chosen attention kernel) takes the plain step, against which the others are tested.

Both need the projections of a layer to lie one behind the other in memory. They are laid so when first used: every
parameter stays what it is, by name, shape and values, as a view of common memory.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from audioflamingo.engine.contiguous import DecodeContext, KVCache
from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.kv_cache import BLOCK_TOKENS, SCRATCH_BLOCK, DecodeBatch, PagedCache
from audioflamingo.engine.plain import decode_step
from audioflamingo.model.costs import prefill_flops
from audioflamingo.model.decoder import fuse_projections
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lean import LeanDecoder
from audioflamingo.model.threads import threads_for

STEPS_BEFORE_COPY = 64  # of a call on a CPU: what a copy of a small decoder's matrices costs, so many steps win by it
ROOM_TOKENS = 512  # of answers that a paged cache has room for at first; beyond it, it is doubled


class Steps(Protocol):
    """The rows that are still alive, one decode step after the other."""

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """(B, V) logits behind a new token of each row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all rows but these."""


def steps_for(flamingo: Flamingo, cache: KVCache, *, is_free: bool) -> Steps:
    """What continues the rows of a cache.

    Args:
        flamingo: the model.
        cache: the prompts' keys and values.
        is_free: whether any attention kernel may run.
    """
    if not is_free or not _is_plain(flamingo):
        return PlainSteps(flamingo, cache)
    # The views are made in the weights' own mode: those made in inference mode could not be trained.
    with torch.inference_mode(flamingo.decoder.norm.weight.is_inference()):
        fuse_projections(flamingo)
    if cache.device.type == "cuda":
        return GraphSteps(graphs_of(flamingo), cache)
    lean = LeanDecoder.of(flamingo.decoder, is_copied=False)
    if lean is not None:
        return LeanSteps(flamingo, lean, cache)
    return PlainSteps(flamingo, cache)


class PlainSteps:
    """By the model's modules."""

    def __init__(self, flamingo: Flamingo, cache: KVCache) -> None:
        self._flamingo, self._cache = flamingo, cache

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """See `Steps`."""
        return decode_step(self._flamingo, self._cache, tokens)

    def keep(self, rows: Sequence[int]) -> None:
        """See `Steps`."""
        self._cache.keep_rows(rows)


class LeanSteps:
    """By few calls, for a CPU.

    Nothing is kept for the next call, as weights may change between two in ways that nobody can see. So a long answer
    alone gets a copy of the matrices, and only once it has become one.
    """

    def __init__(self, flamingo: Flamingo, lean: LeanDecoder, cache: KVCache) -> None:
        self._decoder, self._config, self._lean, self._cache = flamingo.decoder, flamingo.config.decoder, lean, cache
        self._num_steps = 0

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """See `Steps`."""
        self._num_steps += 1
        if self._num_steps == STEPS_BEFORE_COPY:
            self._lean = LeanDecoder.of(self._decoder) or self._lean
        self._cache.grow()
        positions = [length - 1 for length in self._cache.lengths]
        flops = len(tokens) * prefill_flops(self._config, 1, num_cached_tokens=max(positions))
        with threads_for(flops, self._cache.device, is_step=True):
            return self._lean.logits(torch.tensor(tokens), positions, DecodeContext(self._cache))

    def keep(self, rows: Sequence[int]) -> None:
        """See `Steps`."""
        self._cache.keep_rows(rows)


@dataclass
class Graphs:
    """What was captured for a model, and the cache that it reads.

    Attributes:
        key: of the weights, the thread and the mode that it was captured for.
        cache: of all rows of the running call.
        decoder: the captured steps.
    """

    key: tuple[int, ...]
    cache: PagedCache
    decoder: GraphDecoder


_graphs: WeakKeyDictionary[Flamingo, Graphs] = WeakKeyDictionary()


def graphs_of(flamingo: Flamingo) -> Graphs:
    """Those of an earlier call, where the weights still lie where they did, or new ones."""
    # Tensors that are made in inference mode cannot be written to outside of it.
    mode = int(torch.is_inference_mode_enabled())
    key = (mode, threading.get_ident(), *(parameter.data_ptr() for parameter in flamingo.decoder.parameters()))
    found = _graphs.get(flamingo)
    if found is None or found.key != key:
        cache = PagedCache(flamingo.config.decoder, flamingo.dtype, flamingo.device, 2)
        found = _graphs[flamingo] = Graphs(key, cache, GraphDecoder(flamingo, cache))
    return found


class GraphSteps:
    """By captured graphs: the prompts' keys and values move to a paged cache."""

    def __init__(self, graphs: Graphs, prompts: KVCache) -> None:
        self._graphs = graphs
        self._lengths = list(prompts.lengths)
        self._waiting = itertools.count(SCRATCH_BLOCK + 1)
        self._tables: list[list[int]] = [[] for _ in self._lengths]
        self._make_room(ROOM_TOKENS)
        self._take(prompts)

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """See `Steps`."""
        self._lengths = [length + 1 for length in self._lengths]
        if any(length > len(table) * BLOCK_TOKENS for length, table in zip(self._lengths, self._tables, strict=True)):
            self._make_room(max(self._lengths))
        cache = self._graphs.cache
        batch = DecodeBatch.of(tokens, self._tables, self._lengths, cache.device)
        return self._graphs.decoder.step(batch, max(self._lengths))

    def keep(self, rows: Sequence[int]) -> None:
        """See `Steps`."""
        self._lengths = [self._lengths[row] for row in rows]
        self._tables = [self._tables[row] for row in rows]

    def _make_room(self, num_tokens: int) -> None:
        """Blocks for so many further tokens of every row; a larger cache lies elsewhere, and is captured anew."""
        for length, table in zip(self._lengths, self._tables, strict=True):
            missing = -(-(length + num_tokens) // BLOCK_TOKENS) - len(table)
            table += itertools.islice(self._waiting, max(0, missing))
        needed = 1 + max(block for table in self._tables for block in table)
        if needed > self._graphs.cache.num_blocks:
            self._graphs.cache.grow(needed)
            self._graphs.decoder.forget()

    def _take(self, prompts: KVCache) -> None:
        cache = self._graphs.cache
        within = torch.arange(BLOCK_TOKENS, device=cache.device)
        for row, (length, table) in enumerate(zip(self._lengths, self._tables, strict=True)):
            blocks = torch.tensor(table, device=cache.device)
            slots = (blocks[:, None] * BLOCK_TOKENS + within).flatten()[:length]
            for layer, (keys, values) in enumerate(zip(prompts.keys, prompts.values, strict=True)):
                found = (one[row, :, :length].transpose(0, 1) for one in (keys, values))
                cache.write(layer, slots, *found)


def _is_plain(flamingo: Flamingo) -> bool:
    """Whether the decoder is made of weights alone: no adapter's layers, no hooks, nothing that wants gradients now."""
    leaves = [module for module in flamingo.decoder.modules() if isinstance(module, nn.Linear)]
    expected = 7 * len(flamingo.decoder.layers) + 1
    return len(leaves) == expected and all(type(leaf) is nn.Linear and not _is_watched(leaf) for leaf in leaves)


def _is_watched(leaf: nn.Module) -> bool:
    return bool(leaf._forward_hooks or leaf._forward_pre_hooks or "forward" in vars(leaf))
