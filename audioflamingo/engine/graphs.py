"""Decode steps whose every launch is recorded once and replayed: static buffers, CUDA graphs by size of batch.

A step reads its tokens, lengths and block tables from buffers of this module and ends by writing the most likely
tokens and the new lengths there, so that the next step can be launched before anyone has looked at this one. The same
code runs without a graph on a CPU, where the kernels' twins in torch do the work: the tests compare the two.

Shapes: B sequences, a bucket's size of which is captured; V vocabulary; D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from audioflamingo.engine.kv_cache import BLOCK_TOKENS, DecodeBatch, PagedCache
from audioflamingo.model.decoder import DecoderLayer
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels import (
    Around,
    Heads,
    Pages,
    Weight,
    add_rms_norm,
    advance_greedily,
    attend_paged,
    few_rows,
    half_tables,
)
from audioflamingo.model.kernels.joint import joint_weights, weight_of

BATCH_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
CONTEXT_BUCKETS = (512, 2048, 8192, 32_768)
NUM_WARMUPS = 2  # the first one chooses kernels by timing them, the second runs as the graph will


@dataclass(frozen=True, eq=False)
class _Buffers:
    """What one bucket's steps read and write, at fixed addresses."""

    tokens: Tensor
    lengths: Tensor
    block_tables: Tensor


@dataclass(frozen=True, eq=False)
class _Layer:
    """One layer's weights as the kernels take them."""

    input_norm: tuple[Tensor, float]
    qkv: Weight
    out: Weight
    feed_norm: tuple[Tensor, float]
    gate_up: Weight
    down: Weight


class GraphDecoder:
    """Decode steps of one model over one cache.

    Adapters are not seen: steps in which one is on go through the model's modules. Every call must come from the
    thread that captured, and the cache may move only when `forget` is called.
    """

    def __init__(self, model: Flamingo, cache: PagedCache) -> None:
        config = model.config.decoder
        self._model, self._cache = model, cache
        self._heads = Heads(config.num_heads, config.num_kv_heads, config.head_dim)
        self._table_width = -(-config.max_positions // BLOCK_TOKENS)
        self._rotary = half_tables(config.max_positions, config.head_dim, config.rope_theta, _like(model))
        self._layers = [_layer(layer) for layer in cast("Iterable[DecoderLayer]", model.decoder.layers)]
        self._head = weight_of(model.decoder.lm_head)
        self._buffers: dict[int, _Buffers] = {}
        self._graphs: dict[tuple[int, int], Callable[[], Tensor]] = {}
        self._pool: Any = None
        self._address = cache.keys[0].data_ptr()
        self._running: tuple[int, int, int] | None = None

    def step(self, batch: DecodeBatch, longest: int | None = None) -> Tensor:
        """Append the batch's tokens to its sequences.

        Args:
            batch: tokens, block tables with room for the new positions, and lengths; slots follow from them.
            longest: the largest length, where the caller knows it: asking the device would wait for it.

        Returns:
            (B, V) logits of the next tokens, valid until the next step of as many sequences.
        """
        longest = int(batch.lengths.max()) if longest is None else longest
        num_rows = len(batch.tokens)
        buffers = self._filled(batch)
        return self._run(num_rows, len(buffers.tokens), longest)

    def step_on(self, block_tables: Tensor | None = None) -> Tensor:
        """Append the tokens that the last step found most likely, without having to know them.

        Args:
            block_tables: (B, blocks) int32, given anew where a sequence has got another block.
        """
        assert self._running is not None, "step_on continues a step"
        num_rows, size, longest = self._running
        buffers = self._buffers[size]
        if block_tables is not None:
            buffers.block_tables[:num_rows, : block_tables.shape[1]].copy_(block_tables, non_blocking=True)
        return self._run(num_rows, size, longest + 1)

    @property
    def greedy(self) -> Tensor:
        """(B,) int64 most likely tokens after the last step; they change with the next one."""
        assert self._running is not None, "no step has run"
        num_rows, size, _ = self._running
        return self._buffers[size].tokens[:num_rows]

    def forget(self) -> None:
        """Drop everything captured: the cache has moved, or memory is needed."""
        self._graphs.clear()
        self._buffers.clear()
        self._running = self._pool = None
        self._address = self._cache.keys[0].data_ptr()

    def _filled(self, batch: DecodeBatch) -> _Buffers:
        if self._address != self._cache.keys[0].data_ptr():
            self.forget()
        num_rows = len(batch.tokens)
        size = bucket(num_rows, BATCH_BUCKETS)
        buffers = self._buffers.get(size) or self._new_buffers(size)
        buffers.tokens[:num_rows].copy_(batch.tokens, non_blocking=True)
        buffers.lengths[:num_rows].copy_(batch.lengths, non_blocking=True)
        buffers.block_tables[:num_rows, : batch.block_tables.shape[1]].copy_(batch.block_tables, non_blocking=True)
        # Rows of padding hold block 0 alone, which no sequence does, however far they are carried along.
        buffers.lengths[num_rows:].fill_(1)
        buffers.block_tables[num_rows:].zero_()
        return buffers

    def _new_buffers(self, size: int) -> _Buffers:
        like = _like(self._model)
        buffers = _Buffers(
            tokens=torch.zeros(size, dtype=torch.int64, device=like.device),
            lengths=torch.ones(size, dtype=torch.int32, device=like.device),
            block_tables=torch.zeros((size, self._table_width), dtype=torch.int32, device=like.device),
        )
        self._buffers[size] = buffers
        return buffers

    def _run(self, num_rows: int, size: int, longest: int) -> Tensor:
        context = bucket(longest, CONTEXT_BUCKETS)
        run = self._graphs.get((size, context))
        if run is None:
            run = self._captured(size, context)
            self._graphs[size, context] = run
        self._running = (num_rows, size, longest)
        return run()[:num_rows]

    def _captured(self, size: int, context: int) -> Callable[[], Tensor]:
        buffers = self._buffers[size]
        work = partial(self._step, buffers, context)
        if not buffers.tokens.is_cuda:
            return work
        # Warming up runs real steps: what they advance is put back, and what they store the real step stores again.
        kept = buffers.tokens.clone(), buffers.lengths.clone()
        for _ in range(NUM_WARMUPS):
            work()
            buffers.tokens.copy_(kept[0])
            buffers.lengths.copy_(kept[1])
        torch.cuda.synchronize(buffers.tokens.device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = work()
        self._pool = graph.pool()
        return partial(_replayed, graph, logits)

    def _step(self, buffers: _Buffers, longest: int) -> Tensor:
        pages = Pages(BLOCK_TOKENS, buffers.block_tables, buffers.lengths, longest)
        x = self._model.decoder.embed_tokens(buffers.tokens)
        logits = self._one_row(x, pages) if len(x) == 1 else self._rows(x, pages)
        advance_greedily(logits, buffers.tokens, buffers.lengths, BLOCK_TOKENS * self._table_width)
        return logits

    def _one_row(self, x: Tensor, pages: Pages) -> Tensor:
        """Norms, gate and additions are done within the matrix-vector products."""
        for index, layer in enumerate(self._layers):
            qkv = few_rows(x, layer.qkv, Around(norm=layer.input_norm))
            x = few_rows(self._attend(index, qkv, pages), layer.out, Around(residual=x))
            gated = few_rows(x, layer.gate_up, Around(norm=layer.feed_norm, is_gated=True))
            x = few_rows(gated, layer.down, Around(residual=x))
        norm = self._model.decoder.norm
        return few_rows(x, self._head, Around(norm=(norm.weight, norm.eps)))

    def _rows(self, x: Tensor, pages: Pages) -> Tensor:
        """Additions are done with the norm that follows, which also completes products whose inputs were split."""
        delta: Tensor | None = None
        parts, gate = Around(leaves_parts=True), Around(is_gated=True)
        for index, layer in enumerate(self._layers):
            x, normed = add_rms_norm(x, delta, *layer.input_norm)
            attended = self._attend(index, few_rows(normed, layer.qkv), pages)
            x, normed = add_rms_norm(x, few_rows(attended, layer.out, parts), *layer.feed_norm)
            delta = few_rows(few_rows(normed, layer.gate_up, gate), layer.down, parts)
        norm = self._model.decoder.norm
        return few_rows(add_rms_norm(x, delta, norm.weight, norm.eps)[1], self._head)

    def _attend(self, index: int, qkv: Tensor, pages: Pages) -> Tensor:
        stores = self._cache.keys[index], self._cache.values[index]
        eight_bits = self._cache.eight_bits(index)
        return attend_paged(qkv, self._rotary, *stores, self._heads, pages, eight_bits=eight_bits)


def _replayed(graph: torch.cuda.CUDAGraph, logits: Tensor) -> Tensor:
    graph.replay()
    return logits


def bucket(number: int, sizes: tuple[int, ...]) -> int:
    """The smallest size that holds the number; beyond the largest, its next multiple."""
    for size in sizes:
        if number <= size:
            return size
    return -(-number // sizes[-1]) * sizes[-1]


def _like(model: Flamingo) -> Tensor:
    """An empty tensor with the activations' dtype on the model's device."""
    return torch.empty(0, dtype=model.decoder.norm.weight.dtype, device=model.device)


def _layer(layer: DecoderLayer) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    first, second = layer.input_layernorm, layer.post_attention_layernorm
    return _Layer(
        input_norm=(first.weight, first.eps),
        qkv=joint_weights(attention.q_proj, attention.k_proj, attention.v_proj),
        out=weight_of(attention.o_proj),
        feed_norm=(second.weight, second.eps),
        gate_up=joint_weights(mlp.gate_proj, mlp.up_proj),
        down=weight_of(mlp.down_proj),
    )
