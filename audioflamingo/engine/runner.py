"""What the engine asks of the model: embed sounds, prefill prompts, and decode one step. Nothing else touches weights.

Shapes: B sequences, W windows, A audio tokens, N packed tokens, D decoder width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audioflamingo.audio import log_mel_batch, num_audio_tokens, split_windows
from audioflamingo.config import HOP_SAMPLES
from audioflamingo.engine.kv_cache import DecodeContext, KVCache, PrefillContext
from audioflamingo.engine.memory import memory_errors_told
from audioflamingo.model.attention import Packing
from audioflamingo.model.costs import encoder_flops, prefill_flops
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.threads import threads_for
from audioflamingo.types import Audio, Prompt

Samples = npt.NDArray[np.float32]


class AudioEmbedder:
    """Decoder embeddings of sounds, computed once for equal sounds."""

    def __init__(self, model: Flamingo, windows_at_once: int) -> None:
        self._model = model
        self._windows_at_once = windows_at_once
        self._cache: dict[str, Tensor] = {}
        self._nothing = torch.empty((0, model.config.decoder.width), dtype=model.dtype, device=model.device)

    def add(self, audios: Iterable[Audio]) -> None:
        """Embed the sounds that were not embedded before, windows of several sounds together."""
        new = list({audio.key: audio for audio in audios if audio.key not in self._cache}.values())
        if not new:
            return
        windows = [audible_windows(audio.samples) for audio in new]
        flat = [window for many in windows for window in many]
        numbers = [number for many in windows for number in range(len(many))]
        rows = iter(encode_windows(self._model, flat, self._windows_at_once, project=True, numbers=numbers))
        for audio, many in zip(new, windows, strict=True):
            parts = [next(rows) for _ in many]
            self._cache[audio.key] = torch.cat(parts) if parts else self._nothing

    def keep(self, keys: set[str]) -> None:
        """Forget all sounds but these."""
        self._cache = {key: value for key, value in self._cache.items() if key in keys}

    def of_prompt(self, prompt: Prompt) -> list[Tensor]:
        """Embeddings (A, D) for each span of the prompt, in order."""
        return [self._cache[prompt.audios[span.audio_index].key] for span in prompt.spans]


def audible_windows(samples: Samples) -> list[Samples]:
    """The 30 s windows of (N,) samples, without a last one that is too short for an audio token."""
    return [window for window in split_windows(samples) if num_audio_tokens(len(window))]


def encode_windows(
    model: Flamingo,
    windows: Sequence[Samples],
    windows_at_once: int,
    *,
    project: bool,
    numbers: Sequence[int] | None = None,
) -> list[Tensor]:
    """Features (A, width) of each window, of the encoder's width, or of the decoder's where projected.

    `numbers` are those of the windows within their sounds; None means that all are of one sound.
    """
    run = model.embed_audio if project else model.encode
    numbers = range(len(windows)) if numbers is None else numbers
    features: list[Tensor] = []
    for start in range(0, len(windows), windows_at_once):
        some = windows[start : start + windows_at_once]
        num_encoder_frames = (-(-len(window) // (2 * HOP_SAMPLES)) for window in some)
        with (
            memory_errors_told(f"listening to {len(some)} windows of sound", model.device),
            threads_for(encoder_flops(model.config.encoder, num_encoder_frames), model.device),
        ):
            mel, num_mel_frames = log_mel_batch(some, model.device)
            packed, num_audio_tokens = run(mel, list(num_mel_frames), numbers[start : start + windows_at_once])
        features.extend(torch.split(packed, num_audio_tokens))
    return features


def prefill(model: Flamingo, cache: KVCache, prompts: Sequence[Prompt], embedder: AudioEmbedder) -> Tensor:
    """Run whole prompts into new rows of the cache; returns (B, V) logits of each one's next token."""
    num_tokens = sum(prompt.num_tokens for prompt in prompts)
    work = f"reading {num_tokens:,} tokens of {len(prompts)} prompts"
    flops = sum(prefill_flops(model.config.decoder, prompt.num_tokens) for prompt in prompts)
    with memory_errors_told(work, model.device), threads_for(flops, model.device):
        return _prefill(model, cache, prompts, embedder)


def _prefill(model: Flamingo, cache: KVCache, prompts: Sequence[Prompt], embedder: AudioEmbedder) -> Tensor:
    packing = Packing.of([prompt.num_tokens for prompt in prompts], model.device)
    context = PrefillContext(cache, cache.add_rows(packing.lengths), packing)
    ids = torch.tensor([token for prompt in prompts for token in prompt.ids])
    audio = [embedding for prompt in prompts for embedding in embedder.of_prompt(prompt)]
    embeddings = model.merge(ids, torch.cat(audio) if audio else None)
    hidden = model.hidden_states(embeddings, packing.positions, context)
    return model.logits(hidden[packing.offsets[1:] - 1])


def decode_step(model: Flamingo, cache: KVCache, tokens: Sequence[int]) -> Tensor:
    """Append one token to every row of the cache; returns (B, V) logits of the next one."""
    longest = max(cache.lengths)
    work = f"writing {len(tokens)} answers of up to {longest + 1:,} tokens, prompts included"
    flops = len(tokens) * prefill_flops(model.config.decoder, 1, num_cached_tokens=longest)
    with memory_errors_told(work, model.device), threads_for(flops, model.device, is_step=True):
        cache.grow()
        context = DecodeContext(cache)
        embeddings = model.decoder.embed_tokens(torch.tensor(tokens, device=model.device))
        return model.logits(model.hidden_states(embeddings, context.positions, context))
