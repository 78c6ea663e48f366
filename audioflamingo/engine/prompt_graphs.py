"""What stands between a question and its first token, recorded once and replayed: full windows, and short prompts.

All are bound by launches, not by arithmetic: a window of 30 s is 6 ms of work in 24 ms of launches. A shape runs by
single launches when it comes first and is recorded when it comes again. Without CUDA the same code runs unrecorded.

Shapes: W windows, F mel frames, A audio tokens, N tokens of a prompt, P its length padded, D decoder width.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audioflamingo.engine.kv_cache import BLOCK_TOKENS, PagedCache
from audioflamingo.model.attention import Packing, attend
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.fused import takes_fused, takes_fused_encoder
from audioflamingo.model.kernels import SharedPages, attend_chunk
from audioflamingo.model.walk import modules_of

WINDOW_MEL_FRAMES = 3000
MOST_WINDOWS = 2  # from three on the GPU is busier than the CPU
PROMPT_STEP = 32
MOST_PROMPT_TOKENS = 1024
CONTINUED_BUCKETS = (16, 32, 64, 128, 256)


class Recorder:
    """Work without arguments that is recorded when it is run under the same key for the second time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        # Of its own: what is recorded on torch's one stream for it shares a scratch buffer of the matrix products, and
        # the encoder may be replayed beside a prompt.
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._graphs: dict[Hashable, Callable[[], Tensor]] = {}
        self._seen: set[Hashable] = set()
        self._pool: Any = None

    def run(self, key: Hashable, work: Callable[[], Tensor]) -> Tensor:
        """What the work returns; it is overwritten when any recorded work runs next."""
        run = self._graphs.get(key)
        if run is None and key in self._seen and self._device.type == "cuda":
            run = self._graphs[key] = self._recorded(work)
        self._seen.add(key)
        return work() if run is None else run()

    def forget(self) -> None:
        """Drop all that was recorded."""
        self._graphs.clear()
        self._seen.clear()
        self._pool = None

    def _recorded(self, work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            out = work()
        self._pool = graph.pool()
        return partial(_replayed, graph, out)


def _replayed(graph: torch.cuda.CUDAGraph, out: Tensor) -> Tensor:
    graph.replay()
    return out


class GraphEncoder:
    """`Flamingo.embed_audio`, by recorded launches where one or two full windows come."""

    def __init__(self, model: Flamingo) -> None:
        self._model = model
        self._recorder = Recorder(model.device)
        self._mel: Tensor | None = None

    def embed_audio(
        self, mel: Tensor, num_mel_frames: list[int], window_numbers: Sequence[int] | None = None
    ) -> tuple[Tensor, list[int]]:
        """See `Flamingo.embed_audio`."""
        if not self.takes(mel, num_mel_frames):
            return self._model.embed_audio(mel, num_mel_frames, window_numbers)
        count = len(num_mel_frames)
        if self._mel is None:
            shape = (MOST_WINDOWS, mel.shape[1], WINDOW_MEL_FRAMES)
            self._mel = torch.zeros(shape, dtype=self._model.dtype, device=self._model.device)
        self._mel[:count].copy_(mel[:, :, :WINDOW_MEL_FRAMES], non_blocking=True)
        embeddings = self._recorder.run(count, partial(self._embed, self._mel[:count]))
        return embeddings.clone(), [embeddings.shape[0] // count] * count

    def takes(self, mel: Tensor, num_mel_frames: list[int]) -> bool:
        """Whether these windows are full and few, and nothing but plain layers has a say."""
        are_full = set(num_mel_frames) == {WINDOW_MEL_FRAMES} and mel.shape[2] >= WINDOW_MEL_FRAMES
        if not are_full or len(num_mel_frames) > MOST_WINDOWS or self._model.config.time_rotary is not None:
            return False
        like = torch.empty(0, dtype=self._model.dtype, device=self._model.device)
        encoder, projector = self._model.encoder, self._model.projector
        return takes_fused_encoder(like, encoder.layers) and _are_plain(encoder) and _are_plain(projector)

    def _embed(self, mel: Tensor) -> Tensor:
        return self._model.embed_audio(mel, [WINDOW_MEL_FRAMES] * len(mel))[0]


def _are_plain(module: nn.Module) -> bool:
    """Whether no hook hangs anywhere and no layer was replaced by one of another package or an adapter."""
    modules = modules_of(module)
    return not any(one._forward_hooks or one._forward_pre_hooks for one in modules) and all(
        map(_is_known, {type(one) for one in modules})
    )


def _is_known(kind: type) -> bool:
    return kind.__module__.startswith(_KNOWN_MODULES)


_KNOWN_MODULES = ("torch.nn.modules", "audioflamingo.model.encoder", "audioflamingo.model.projector")


class GraphPrefill:
    """A short prompt of which nothing is in the cache yet, or the short end of one of which all else is there.

    It is padded at its end to one of few lengths. A padded token stands behind all real ones or where none looks, so
    none of them sees it; its key and value go to the scratch block.
    """

    def __init__(self, model: Flamingo, cache: PagedCache) -> None:
        self._model, self._cache = model, cache
        self._recorder = Recorder(model.device)
        self._address = cache.keys[0].data_ptr()
        like = model.decoder.norm.weight
        self._x = torch.zeros((MOST_PROMPT_TOKENS, len(like)), dtype=like.dtype, device=like.device)
        self._new_positions = torch.arange(MOST_PROMPT_TOKENS, device=like.device)
        self._scratch = self._new_positions % BLOCK_TOKENS  # of block 0
        self._slots = self._scratch.clone()
        self._last = torch.zeros(1, dtype=torch.int64, device=like.device)
        self._positions = torch.zeros(CONTINUED_BUCKETS[-1], dtype=torch.int64, device=like.device)
        table_width = -(-model.config.decoder.max_positions // BLOCK_TOKENS)
        self._table = torch.zeros(table_width, dtype=torch.int32, device=like.device)

    def takes(self, embeddings: Tensor, start: int = 0) -> bool:
        """Whether (N, D) embeddings from position `start` on are few, and nothing but plain layers has a say."""
        most = CONTINUED_BUCKETS[-1] if start else MOST_PROMPT_TOKENS
        return len(embeddings) <= most and takes_fused(embeddings, self._model.decoder.layers)

    def hidden(self, embeddings: Tensor, slots: Tensor) -> Tensor:
        """Read a prompt whose first token stands at position 0.

        Args:
            embeddings: (N, D).
            slots: (N,) int64, where its keys and values go.

        Returns:
            (1, D) state of the last token after the last norm.
        """
        padded = -(-len(embeddings) // PROMPT_STEP) * PROMPT_STEP
        self._fill(embeddings, slots, padded)
        return self._recorder.run(("whole", padded), partial(self._read, padded)).clone()

    def continued(self, embeddings: Tensor, slots: Tensor, start: int, table: Tensor) -> Tensor:
        """Read the end of a prompt whose first `start` positions are in the cache.

        Args:
            embeddings: (N, D), N at most the largest of `CONTINUED_BUCKETS`.
            slots: (N,) int64, where its keys and values go.
            start: position of its first token.
            table: (blocks,) int32 numbers of its sequence's blocks, in order.

        Returns:
            (1, D) state of the last token after the last norm.
        """
        num_tokens = len(embeddings)
        padded = next(size for size in CONTINUED_BUCKETS if num_tokens <= size)
        self._fill(embeddings, slots, padded)
        torch.add(self._new_positions[:num_tokens], start, out=self._positions[:num_tokens])
        self._positions[num_tokens:].zero_()
        self._table[: len(table)].copy_(table)
        return self._recorder.run(("continued", padded), partial(self._read_on, padded)).clone()

    def _fill(self, embeddings: Tensor, slots: Tensor, padded: int) -> None:
        if self._address != self._cache.keys[0].data_ptr():
            self._recorder.forget()
            self._address = self._cache.keys[0].data_ptr()
        num_tokens = len(embeddings)
        self._x[:num_tokens].copy_(embeddings)
        self._slots[:num_tokens].copy_(slots)
        self._slots[num_tokens:padded].copy_(self._scratch[num_tokens:padded])
        self._last.fill_(num_tokens - 1)

    def _read(self, padded: int) -> Tensor:
        context = _FreshPrompt(self._cache, self._slots[:padded])
        return self._model.hidden_states(self._x[:padded], self._new_positions[:padded], context, self._last)

    def _read_on(self, padded: int) -> Tensor:
        positions = self._positions[:padded]
        context = _BehindPast(self._cache, self._slots[:padded], self._table, positions + 1)
        return self._model.hidden_states(self._x[:padded], positions, context, self._last)


class _FreshPrompt:
    """Tokens that attend to themselves alone, and are stored."""

    def __init__(self, cache: PagedCache, slots: Tensor) -> None:
        self._cache, self._slots = cache, slots
        self._packing = Packing.of([len(slots)], slots.device)

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`."""
        key, value = self._cache.write(layer_index, self._slots, key, value)
        return attend(query, key, value, self._packing, causal=True)


class _BehindPast:
    """Tokens of one sequence that are stored first, and then attend to it as the cache has it, each up to itself."""

    def __init__(self, cache: PagedCache, slots: Tensor, table: Tensor, lengths: Tensor) -> None:
        self._cache, self._slots = cache, slots
        self._pages = SharedPages(BLOCK_TOKENS, table, lengths)

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`."""
        self._cache.write(layer_index, self._slots, key, value)
        keys, values = self._cache.keys[layer_index], self._cache.values[layer_index]
        return attend_chunk(query, keys, values, self._pages, eight_bits=self._cache.eight_bits(layer_index))
