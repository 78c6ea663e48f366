"""The engine: prompts in, streamed deltas out. Each step schedules, runs the model, postprocesses and collects.

Every sequence's tokens are those that it would get alone; what runs beside it changes nothing but the time.
"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Sequence as Rows
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from audioflamingo.engine.kv_cache import KVCache
from audioflamingo.engine.runner import AudioEmbedder, decode_step, prefill
from audioflamingo.engine.sampling import Sampler, check_sampling, choose_tokens
from audioflamingo.engine.scheduler import Limits, Scheduler
from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.text import StopStrings
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lora import SwitchedAdapter
from audioflamingo.tokenizer import Incremental, Tokenizer
from audioflamingo.types import Delta, FinishReason, Prompt, Sampling


class Engine:
    """Generates with one model on one device."""

    def __init__(self, model: Flamingo, tokenizer: Tokenizer, limits: Limits | None = None) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits or Limits()
        self.adapter: SwitchedAdapter | None = None
        """What `Sampling.use_adapter` switches on; None while the model has none."""

    def generate(self, prompts: Rows[Prompt], samplings: Rows[Sampling]) -> Generator[Delta, None, None]:
        """Answer prompts as one batch.

        Args:
            prompts: each at least one token, within the decoder's positions; `audioflamingo.prompt.build` makes them.
            samplings: one a prompt.

        Returns:
            Deltas as they come, those of different prompts mixed, those of one in order; `Delta.index` tells them
            apart. Closing the generator stops all work and frees the cache.

        Raises:
            OptionError: a sampling option is out of its range; before any work.
        """
        max_positions = self.model.config.decoder.max_positions
        sequences = [
            Sequence(index, prompt, check_sampling(sampling), max_positions)
            for index, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
        ]
        return self._deltas(sequences)

    def _deltas(self, sequences: list[Sequence]) -> Generator[Delta, None, None]:
        run = _Run(self, sequences)
        while run.scheduler.has_work:
            yield from run.step()


class _Run:
    """One call of `generate`: its schedule, cache, sounds, and each sequence's random stream and text."""

    def __init__(self, engine: Engine, sequences: list[Sequence]) -> None:
        model = engine.model
        self.model = model
        self.adapter = engine.adapter
        self.eos_ids = engine.tokenizer.eos_ids
        self.scheduler = Scheduler(sequences, engine.limits)
        self.cache = KVCache(model.config.decoder, model.dtype, model.device)
        self.embedder = AudioEmbedder(model, engine.limits.encoder_windows)
        vocab_size = model.config.decoder.vocab_size
        self.samplers = [Sampler(one.sampling, one.prompt.ids, vocab_size, model.device) for one in sequences]
        self.answers = [_Answer(Incremental(engine.tokenizer), StopStrings(one.sampling.stop)) for one in sequences]

    @torch.inference_mode()  # here and not around the generator, whose caller it would leak to
    def step(self) -> list[Delta]:
        """One prefill of newly admitted sequences or one decode step of all running ones; returns what came."""
        admitted = self.scheduler.admit()
        logits = self._prefill(admitted) if admitted else self._decode()
        sequences = admitted or self.scheduler.running
        tokens = choose_tokens(logits, [self.samplers[one.index] for one in sequences])
        deltas = [self._accept(sequence, token) for sequence, token in zip(sequences, tokens, strict=True)]
        if any(sequence.is_finished for sequence in sequences):
            self.cache.keep_rows(self.scheduler.retire())
        return deltas

    def _prefill(self, admitted: list[Sequence]) -> Tensor:
        prompts = [sequence.prompt for sequence in admitted]
        self.embedder.add(audio for prompt in prompts for audio in prompt.audios)
        with self._adapted(admitted, [prompt.num_tokens for prompt in prompts]):
            logits = prefill(self.model, self.cache, prompts, self.embedder)
        self.embedder.keep(set().union(*(sequence.audio_keys for sequence in self.scheduler.waiting)))
        return logits

    def _decode(self) -> Tensor:
        running = self.scheduler.running
        with self._adapted(running, [1] * len(running)):
            return decode_step(self.model, self.cache, [sequence.last_token for sequence in running])

    def _adapted(self, sequences: list[Sequence], lengths: list[int]) -> AbstractContextManager[None]:
        is_on = [sequence.sampling.use_adapter for sequence in sequences]
        if self.adapter is None:
            assert not any(is_on), "an adapter is switched on that was never read"
            return nullcontext()
        return self.adapter.on(lengths, is_on)

    def _accept(self, sequence: Sequence, token: int) -> Delta:
        """Append a token to its sequence, decide whether that ends it, and take its text."""
        sequence.generated.append(token)
        answer = self.answers[sequence.index]
        is_end = token in self.eos_ids
        text = "" if is_end else answer.feed(token)
        sequence.finish_reason = self._finish_reason(sequence, is_end)
        if sequence.is_finished:
            text += answer.flush()
            if answer.stops.is_hit:  # the flush itself may have completed one
                sequence.finish_reason = "stop_string"
        return sequence.delta(text, num_new_tokens=1)

    def _finish_reason(self, sequence: Sequence, is_end: bool) -> FinishReason | None:
        if self.answers[sequence.index].stops.is_hit:
            return "stop_string"
        if is_end:
            return "stop"
        is_full = sequence.num_tokens >= sequence.max_tokens
        return "length" if is_full else None


class _Answer:
    """Text of one answer: tokens to whole characters, and those past the stop strings."""

    def __init__(self, incremental: Incremental, stops: StopStrings) -> None:
        self.stops = stops
        self._incremental = incremental

    def feed(self, token: int) -> str:
        return self.stops.feed(self._incremental.push((token,)))

    def flush(self) -> str:
        return self.stops.feed(self._incremental.flush()) + self.stops.flush()
