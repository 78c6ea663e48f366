"""What the engine asks of the model: to read chunks of prompts, and to write the next token of every answer.

Shapes: B sequences, A audio tokens, N packed tokens, D decoder width, V vocabulary.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from collections.abc import Sequence as Rows
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from audioflamingo.engine.ahead import GraphWriter
from audioflamingo.engine.blocks import num_blocks_for
from audioflamingo.engine.contexts import ChunkContext, PagedDecodeContext, RunDecodeContext, slots_of
from audioflamingo.engine.eight_bit_cache import new_cache
from audioflamingo.engine.embeddings import WindowEmbeddings
from audioflamingo.engine.kv_cache import DecodeBatch, PagedCache
from audioflamingo.engine.memory import cache_blocks, memory_errors_told
from audioflamingo.engine.prompt_graphs import GraphPrefill
from audioflamingo.engine.scheduler import Chunk, Limits
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.costs import prefill_flops
from audioflamingo.model.decoder import fuse_projections
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lean import LeanDecoder
from audioflamingo.model.lora import SwitchedAdapter
from audioflamingo.model.placing import sent
from audioflamingo.model.quantize.lean import QuantizedLean
from audioflamingo.model.threads import threads_for
from audioflamingo.model.walk import modules_of


class Runner:
    """A model with its cache, and the embeddings of what it heard.

    Attributes:
        cache: keys and values; allocated here.
        most_blocks: to which the cache can grow.
        embeddings: windows of sound, kept by content.
        adapter: what `Sampling.use_adapter` switches on.
    """

    def __init__(self, model: Flamingo, limits: Limits) -> None:
        self._model = model
        self.adapter: SwitchedAdapter | None = None
        fuse_projections(model)
        config = model.config.decoder
        num_blocks, self.most_blocks = cache_blocks(config, model.dtype, model.device, limits)
        with memory_errors_told(f"for a KV cache of {num_blocks:,} blocks", model.device):
            self.cache = new_cache(model, num_blocks, limits.kv_cache)
        self.embeddings = WindowEmbeddings(
            model,
            windows_at_once=limits.encoder_windows,
            most_bytes=limits.embedding_bytes,
            is_aside=limits.encodes_aside,
        )
        self._lean = LeanDecoder.of(model.decoder) or QuantizedLean.of(model.decoder)
        self._graphs = graph_writer(model, self.cache)
        self._prefill = GraphPrefill(model, self.cache) if model.device.type == "cuda" else None
        self._fingerprint = weights_state(model)

    @property
    def is_current(self) -> bool:
        """Whether the weights are those that wrote what is in the cache, at the same place."""
        return self._fingerprint == weights_state(self._model)

    def grow(self, num_blocks: int) -> None:
        """Enlarge the cache.

        Raises:
            MemoryExhaustedError: there is no room for it; what is stored stays.
        """
        with memory_errors_told(f"for a KV cache of {num_blocks:,} blocks", self._model.device):
            self.cache.grow(num_blocks)

    def read(self, chunks: Rows[Chunk]) -> Tensor:
        """Run chunks of prompts; returns (B, V) logits after those that are their sequence's last."""
        sounds = self.embeddings.of(piece for chunk in chunks for piece in chunk.pieces)
        sequences = [chunk.sequence for chunk in chunks]
        with self._adapted(sequences, [chunk.num_tokens for chunk in chunks]):
            prefill = None if _any_adapted(chunks) else self._prefill
            hidden = read_chunks(self._model, self.cache, chunks, sounds, prefill, trims=not _any_adapted(chunks))
        ended = [chunk.sequence for chunk in chunks if chunk.is_last]
        if not ended:  # kernels are not launched on nothing
            return hidden.new_empty((0, self._model.config.decoder.vocab_size))
        with self._adapted(ended, [1] * len(ended)):
            return self._model.logits(hidden)

    def can_write_ahead(self, chunks: Rows[Chunk]) -> bool:
        """Whether `write_greedily` can do these."""
        return self._graphs is not None and not _any_adapted(chunks)

    def write_greedily(self, chunks: Rows[Chunk], *, goes_on: bool) -> list[int]:
        """The same as `write` and its largest logits; the next step is begun before these are known, if one follows."""
        assert self._graphs is not None
        with memory_errors_told(_writing(chunks), self._model.device):
            return self._graphs.tokens(chunks, goes_on=goes_on)

    def write(self, chunks: Rows[Chunk]) -> Tensor:
        """Run one decode step, a token of each answer; returns (B, V) logits."""
        sequences = [chunk.sequence for chunk in chunks]
        longest = max(chunk.end for chunk in chunks)
        flops = len(sequences) * prefill_flops(self._model.config.decoder, 1, num_cached_tokens=longest)
        with (
            memory_errors_told(_writing(chunks), self._model.device),
            threads_for(flops, self._model.device, is_step=True),
            self._adapted(sequences, [1] * len(sequences)),
        ):
            return self._write(chunks, sequences)

    def _write(self, chunks: Rows[Chunk], sequences: list[Sequence]) -> Tensor:
        is_adapted = _any_adapted(chunks)
        if self._graphs is not None and not is_adapted:
            return self._graphs.logits(chunks)
        if self._model.device.type == "cpu":
            return decode_in_place(self._model, None if is_adapted else self._lean, self.cache, sequences)
        batch = DecodeBatch.of(
            [one.last_token for one in sequences],
            [one.blocks for one in sequences],
            [one.num_tokens for one in sequences],
            self._model.device,
        )
        return decode_step(self._model, self.cache, batch)

    def _adapted(self, sequences: Rows[Sequence], lengths: list[int]) -> AbstractContextManager[None]:
        is_on = [sequence.sampling.use_adapter for sequence in sequences]
        if self.adapter is None:
            assert not any(is_on), "an adapter is switched on that was never read"
            return nullcontext()
        return self.adapter.on(lengths, is_on)


def graph_writer(model: Flamingo, cache: PagedCache) -> GraphWriter | None:
    """What writes by captured graphs, on a GPU."""
    return GraphWriter(model, cache) if cache.device.type == "cuda" else None


def _any_adapted(chunks: Rows[Chunk]) -> bool:
    return any(chunk.sequence.sampling.use_adapter for chunk in chunks)


def _writing(chunks: Rows[Chunk]) -> str:
    longest = max(chunk.end for chunk in chunks)
    return f"writing {len(chunks)} answers of up to {longest:,} tokens, prompts included"


def weights_state(model: Flamingo) -> int:
    """Changes where a weight is replaced, moved, or written to by anything that torch can see."""
    tensors = _tensors(model)
    try:
        versions = [one._version for one in tensors]
    except RuntimeError:  # made in inference mode, a tensor keeps no count of what is written to it
        versions = [0 if one.is_inference() else one._version for one in tensors]
    return hash((*map(Tensor.data_ptr, tensors), *versions))


def _tensors(model: nn.Module) -> list[Tensor]:
    """All parameters and buffers."""
    found: list[Tensor | None] = []
    for module in modules_of(model):
        found += module._parameters.values()
        if module._buffers:
            found += module._buffers.values()
    return [one for one in found if one is not None]


def read_chunks(
    model: Flamingo,
    cache: PagedCache,
    chunks: Rows[Chunk],
    sounds: Mapping[bytes, Tensor],
    prefill: GraphPrefill | None = None,
    *,
    trims: bool = True,
) -> Tensor:
    """Run chunks of prompts, writing their keys and values into the cache.

    Args:
        model: whose weights run.
        cache: in which every chunk's sequence holds the blocks up to its end.
        chunks: at least one, each of another sequence.
        sounds: (A, D) embeddings of the windows that stand in the chunks, by key.
        prefill: what reads a single short prompt, or the short end of one, by recorded launches, if anything does.
        trims: whether the last layer leaves out the rows that nobody looks at; an adapter that is on for some of the
            sequences has to see all.

    Returns:
        (B, D) hidden states at the end of those chunks that are their sequence's last, in order.
    """
    num_tokens = sum(chunk.num_tokens for chunk in chunks)
    work = f"reading {num_tokens:,} tokens of {len(chunks)} prompts"
    flops = sum(
        prefill_flops(model.config.decoder, chunk.num_tokens, num_cached_tokens=chunk.start) for chunk in chunks
    )
    with memory_errors_told(work, model.device), threads_for(flops, model.device):
        embeddings = _embed(model, chunks, sounds)
        if prefill is not None and _ends_one_prompt(chunks) and prefill.takes(embeddings, chunks[0].start):
            return _recorded(prefill, chunks[0], embeddings)
        context = ChunkContext(cache, chunks)
        if not trims:
            return model.hidden_states(embeddings, context.positions, context, is_spare=True)[context.last_rows]
        return model.hidden_states(embeddings, context.positions, context, context.last_rows, is_spare=True)


def _ends_one_prompt(chunks: Rows[Chunk]) -> bool:
    return len(chunks) == 1 and chunks[0].is_last


def _recorded(prefill: GraphPrefill, chunk: Chunk, embeddings: Tensor) -> Tensor:
    """(1, D) state at the end of a short prompt, or of the short end of one, by recorded launches."""
    sequence = chunk.sequence
    slots = sent(slots_of(sequence, chunk.start, chunk.end), embeddings.device)
    if chunk.start == 0:
        return prefill.hidden(embeddings, slots)
    held = sequence.blocks[: num_blocks_for(chunk.end)]
    table = sent(torch.tensor(held, dtype=torch.int32), embeddings.device)
    return prefill.continued(embeddings, slots, chunk.start, table)


def _embed(model: Flamingo, chunks: Rows[Chunk], sounds: Mapping[bytes, Tensor]) -> Tensor:
    """(N, D) embeddings of the chunks' tokens, those of sounds in their places."""
    ids = array("q")
    for chunk in chunks:
        ids.extend(chunk.sequence.ids(chunk.start, chunk.end))
    on_device = sent(torch.frombuffer(ids, dtype=torch.int64), model.device)
    embeddings: Tensor = model.decoder.embed_tokens(on_device)
    row = 0
    for chunk in chunks:
        for piece in chunk.pieces:
            start, end = max(piece.start, chunk.start), min(piece.end, chunk.end)
            heard = sounds[piece.key][start - piece.start : end - piece.start]
            embeddings[row + start - chunk.start : row + end - chunk.start] = heard.to(embeddings)
        row += chunk.num_tokens
    return embeddings


def decode_step(model: Flamingo, cache: PagedCache, batch: DecodeBatch) -> Tensor:
    """Append one token to every sequence of the batch, on any device; returns (B, V) logits of the next one."""
    context = PagedDecodeContext(cache, batch)
    embeddings = model.decoder.embed_tokens(batch.tokens)
    return model.logits(model.hidden_states(embeddings, batch.positions, context))


def decode_in_place(
    model: Flamingo, lean: LeanDecoder | QuantizedLean | None, cache: PagedCache, sequences: Rows[Sequence]
) -> Tensor:
    """The same on a CPU, whose cache is read where it lies.

    Args:
        model: whose weights run.
        lean: its layers in fewer calls, unless an adapter has its say in them.
        cache: in which every sequence holds the block of its last token, which is not in the cache yet.
        sequences: the batch.
    """
    context = RunDecodeContext(cache, sequences, is_compiled=isinstance(lean, QuantizedLean))
    tokens = torch.tensor([sequence.last_token for sequence in sequences])
    positions = [sequence.num_tokens - 1 for sequence in sequences]
    if lean is not None:
        return lean.logits(tokens, positions, context)
    embeddings = model.decoder.embed_tokens(tokens)
    return model.logits(model.hidden_states(embeddings, torch.tensor(positions), context))
