"""The plain engine: one batch after another, prompts in one piece, a contiguous cache, nothing shared or kept.

It is the slow twin of `engine.Engine`, and its judge: tests and benchmarks compare answers with this one's. Shapes:
B sequences, A audio tokens, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from collections.abc import Sequence as Rows
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from audioflamingo.engine.answer import Answer
from audioflamingo.engine.contiguous import DecodeContext, KVCache, PrefillContext
from audioflamingo.engine.embeddings import encode_windows
from audioflamingo.engine.memory import memory_errors_told
from audioflamingo.engine.sampling import Sampler, check_sampling, choose_tokens
from audioflamingo.engine.scheduler import Limits
from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.sounds import audible_windows
from audioflamingo.errors import FlamingoError
from audioflamingo.model.attention import Packing
from audioflamingo.model.costs import prefill_flops
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lora import SwitchedAdapter
from audioflamingo.model.threads import threads_for
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.types import Audio, Delta, Prompt, Sampling


class PlainEngine:
    """Generates with one model on one device."""

    def __init__(self, model: Flamingo, tokenizer: Tokenizer, limits: Limits | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits or Limits()
        self.adapter: SwitchedAdapter | None = None
        """What `Sampling.use_adapter` switches on; None while the model has none."""

    def generate(self, prompts: Rows[Prompt], samplings: Rows[Sampling]) -> Generator[Delta, None, None]:
        """Answer prompts, `Limits.max_sequences` at a time; see `Engine.generate`."""
        max_positions = self.model.config.decoder.max_positions
        sequences = [
            Sequence(index, prompt, check_sampling(sampling), max_positions)
            for index, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
        ]
        return self._deltas(sequences)

    def _deltas(self, sequences: list[Sequence]) -> Generator[Delta, None, None]:
        for first in range(0, len(sequences), self.limits.max_sequences):
            batch = _Batch(self, sequences[first : first + self.limits.max_sequences])
            while batch.running:
                yield from batch.step()


class _Batch:
    """Sequences that begin together; those that have ended leave the rest."""

    def __init__(self, engine: PlainEngine, sequences: list[Sequence]) -> None:
        self.running = sequences
        self._engine, self._model = engine, engine.model
        self._cache = KVCache(self._model.config.decoder, self._model.dtype, self._model.device)
        vocab_size = self._model.config.decoder.vocab_size
        self._samplers = {
            one.index: Sampler(one.sampling, one.prompt.ids, vocab_size, self._model.device) for one in sequences
        }
        self._answers = {one.index: Answer(engine.tokenizer, one) for one in sequences}

    @torch.inference_mode()  # here and not around the generator, whose caller it would leak to
    def step(self) -> list[Delta]:
        """The prefill, then one decode step after the other; returns what came."""
        logits = self._decode() if self._cache.num_rows else self._prefill()
        tokens = choose_tokens(logits, [self._samplers[one.index] for one in self.running])
        deltas = []
        for one, token in zip(self.running, tokens, strict=True):
            if isinstance(token, FlamingoError):
                raise token
            deltas.append(self._answers[one.index].accept(token))
        kept = [row for row, one in enumerate(self.running) if not one.is_finished]
        self._cache.keep_rows(kept)
        self.running = [self.running[row] for row in kept]
        return deltas

    def _prefill(self) -> Tensor:
        prompts = [one.prompt for one in self.running]
        embedder = AudioEmbedder(self._model, self._engine.limits.encoder_windows)
        embedder.add(audio for prompt in prompts for audio in prompt.audios)
        with self._adapted([prompt.num_tokens for prompt in prompts]):
            return prefill(self._model, self._cache, prompts, embedder)

    def _decode(self) -> Tensor:
        with self._adapted([1] * len(self.running)):
            return decode_step(self._model, self._cache, [one.last_token for one in self.running])

    def _adapted(self, lengths: list[int]) -> AbstractContextManager[None]:
        is_on = [one.sampling.use_adapter for one in self.running]
        if self._engine.adapter is None:
            assert not any(is_on), "an adapter is switched on that was never read"
            return nullcontext()
        return self._engine.adapter.on(lengths, is_on)


class AudioEmbedder:
    """Decoder embeddings of whole sounds, computed once for equal sounds."""

    def __init__(self, model: Flamingo, windows_at_once: int) -> None:
        self._model = model
        self._windows_at_once = windows_at_once
        self._of_sound: dict[str, Tensor] = {}
        self._nothing = torch.empty((0, model.config.decoder.width), dtype=model.dtype, device=model.device)

    def add(self, audios: Iterable[Audio]) -> None:
        """Embed the sounds that were not embedded before, windows of several sounds together."""
        new = list({audio.key: audio for audio in audios if audio.key not in self._of_sound}.values())
        if not new:
            return
        windows = [audible_windows(audio.samples) for audio in new]
        flat = [window for many in windows for window in many]
        numbers = [number for many in windows for number in range(len(many))]
        rows = iter(encode_windows(self._model, flat, self._windows_at_once, project=True, numbers=numbers))
        for audio, many in zip(new, windows, strict=True):
            parts = [next(rows) for _ in many]
            self._of_sound[audio.key] = torch.cat(parts) if parts else self._nothing

    def of_prompt(self, prompt: Prompt) -> list[Tensor]:
        """Embeddings (A, D) for each span of the prompt, in order."""
        return [self._of_sound[prompt.audios[span.audio_index].key] for span in prompt.spans]


def prefill(model: Flamingo, cache: KVCache, prompts: Rows[Prompt], embedder: AudioEmbedder) -> Tensor:
    """Run whole prompts into new rows of the cache; returns (B, V) logits of each one's next token."""
    num_tokens = sum(prompt.num_tokens for prompt in prompts)
    work = f"reading {num_tokens:,} tokens of {len(prompts)} prompts"
    flops = sum(prefill_flops(model.config.decoder, prompt.num_tokens) for prompt in prompts)
    with memory_errors_told(work, model.device), threads_for(flops, model.device):
        packing = Packing.of([prompt.num_tokens for prompt in prompts], model.device)
        context = PrefillContext(cache, cache.add_rows(packing.lengths), packing)
        ids = torch.tensor([token for prompt in prompts for token in prompt.ids])
        audio = [embedding for prompt in prompts for embedding in embedder.of_prompt(prompt)]
        embeddings = model.merge(ids, torch.cat(audio) if audio else None)
        hidden = model.hidden_states(embeddings, packing.positions, context)
        return model.logits(hidden[packing.offsets[1:] - 1])


def decode_step(model: Flamingo, cache: KVCache, tokens: Rows[int]) -> Tensor:
    """Append one token to every row of the cache; returns (B, V) logits of the next one."""
    longest = max(cache.lengths)
    work = f"writing {len(tokens)} answers of up to {longest + 1:,} tokens, prompts included"
    flops = len(tokens) * prefill_flops(model.config.decoder, 1, num_cached_tokens=longest)
    with memory_errors_told(work, model.device), threads_for(flops, model.device, is_step=True):
        cache.grow()
        context = DecodeContext(cache)
        embeddings = model.decoder.embed_tokens(torch.tensor(tokens, device=model.device))
        return model.logits(model.hidden_states(embeddings, context.positions, context))
