"""What stands before the first token, by recorded launches: one window of sound, one short prompt, both together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from kernels_common import INIT_STD, Scale, profile, relative
from kernels_model import model_of
from torch import Tensor

from audioflamingo.engine.kv_cache import BLOCK_TOKENS, PagedCache
from audioflamingo.engine.prompt_graphs import GraphEncoder, GraphPrefill
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.model.flamingo import Flamingo

PROMPT_TOKENS = (780, 790)  # of one padded length
NUM_REPEATS = 7


def graphs(scale: Scale) -> dict[str, Any]:
    """Milliseconds on the wall, from the call to the result, and errors against single launches."""
    model, found = model_of(scale), {}
    frames = 3000 if scale.is_gpu else 100
    encoder = GraphEncoder(model)
    for count in (1, 2):
        mel = torch.randn(count, 128, min(frames + 2, 3000), device=scale.device)
        work = partial(encoder.embed_audio, mel, [frames] * count)
        single = partial(model.embed_audio, mel, [frames] * count)
        want = single()[0].clone()
        found[f"{count} windows errors"] = [relative(work()[0], want) for _ in range(3)]
        found[f"{count} windows ms"] = wall_ms(lambda: work()[0], scale)  # noqa: B023
        found[f"{count} windows by single launches ms"] = wall_ms(lambda: single()[0], scale)  # noqa: B023
        found[f"{count} windows profile"] = profile(work, scale)
    mel = torch.randn(1, 128, min(frames + 2, 3000), device=scale.device)
    prompts = PROMPT_TOKENS if scale.is_gpu else (20, 25)
    cache = PagedCache(scale.config.decoder, scale.dtype, torch.device(scale.device), 2 + max(prompts) // BLOCK_TOKENS)
    prefill = GraphPrefill(model, cache)
    for num_tokens in prompts:
        x = scale.random(num_tokens, scale.config.decoder.width, std=INIT_STD)
        slots = torch.arange(BLOCK_TOKENS, BLOCK_TOKENS + num_tokens, device=scale.device)
        want = by_single_launches(model, x)
        errors = [relative(model.logits(prefill.hidden(x, slots)), want) for _ in range(3)]
        found[f"{num_tokens} tokens errors"] = errors
        found[f"{num_tokens} tokens ms"] = wall_ms(lambda: model.logits(prefill.hidden(x, slots)), scale)  # noqa: B023
        single_launches = partial(by_single_launches, model, x)
        found[f"{num_tokens} tokens by single launches ms"] = wall_ms(single_launches, scale)

    def question() -> Tensor:
        encoder.embed_audio(mel, [frames])
        return model.logits(prefill.hidden(x, slots))

    found["window and prompt ms"] = wall_ms(question, scale)
    print({key: value for key, value in found.items() if "profile" not in key})
    return found


def by_single_launches(model: Flamingo, x: Tensor) -> Tensor:
    packing = Packing.of([len(x)], x.device)
    return model.logits(model.hidden_states(x, packing.positions, CausalContext(packing))[-1:])


def wall_ms(work: Callable[[], Tensor], scale: Scale) -> float:
    """Median from the call to the result's first number on the CPU."""
    times = []
    for _ in range(NUM_REPEATS if scale.is_gpu else 1):
        begin = time.perf_counter()
        work().flatten()[:1].cpu()
        times.append(time.perf_counter() - begin)
    return round(statistics.median(times) * 1e3, 2)
