"""What stands before the first token, by recorded launches: a window of sound, a short prompt, a second question."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from kernels_common import INIT_STD, Scale, median_us, profile, relative
from kernels_model import model_of
from torch import Tensor

from audioflamingo.engine.blocks import num_blocks_for
from audioflamingo.engine.kv_cache import BLOCK_TOKENS, PagedCache
from audioflamingo.engine.prompt_graphs import GraphEncoder, GraphPrefill
from audioflamingo.engine.runner import read_chunks
from audioflamingo.engine.scheduler import Chunk
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels import SharedPages, attend_chunk
from audioflamingo.model.kernels.chunk_attention import ChunkPlan
from audioflamingo.types import Prompt, Sampling

PROMPT_TOKENS = (780, 790)  # of one padded length
QUESTION_TOKENS = (12, 40, 64, 200)  # behind a past that is in the cache
CHUNK_PLANS = (
    ChunkPlan(), ChunkPlan(stages=4), ChunkPlan(block=32), ChunkPlan(block=128), ChunkPlan(128, 64, 3, 8),
    ChunkPlan(128, 128, 3, 8),
)  # fmt: skip
NUM_RACES = 20
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


def second_question(scale: Scale) -> dict[str, Any]:
    """Milliseconds and errors of reading a short question behind a long past, by recorded and by single launches."""
    model, config, past = model_of(scale), scale.config.decoder, scale.contexts[-1]
    questions = QUESTION_TOKENS if scale.is_gpu else (5, 40)
    num_blocks = 1 + num_blocks_for(past + max(questions))
    cache = PagedCache(config, scale.dtype, torch.device(scale.device), num_blocks)
    for index in range(config.num_layers):
        cache.pair(index).normal_()
    prefill, found = GraphPrefill(model, cache), {}
    for num_tokens in questions:
        for name, blocks in (("", list(range(1, num_blocks))), (" shuffled", _shuffled(num_blocks))):
            chunk = _question(past, num_tokens, blocks, config.vocab_size)
            found[f"{num_tokens} behind {past}{name}"] = _asked(model, cache, prefill, chunk, scale)
        scale.save(found)
    found["attention alone us"] = _chunk_attention_us(cache, past, 64 if scale.is_gpu else 8, scale)
    print({key: value for key, value in found.items() if "profile" not in key})
    return found


def _shuffled(num_blocks: int) -> list[int]:
    return [1 + number for number in torch.randperm(num_blocks - 1).tolist()]


def _question(past: int, num_tokens: int, blocks: list[int], vocab_size: int) -> Chunk:
    end = past + num_tokens
    ids = tuple(torch.randint(0, vocab_size, (end,)).tolist())
    sequence = Sequence(0, Prompt(ids), Sampling(), end + 1)
    sequence.blocks = blocks[: num_blocks_for(end)]
    return Chunk(sequence, past, end)


def _asked(model: Flamingo, cache: PagedCache, prefill: GraphPrefill, chunk: Chunk, scale: Scale) -> dict[str, Any]:
    """Single launches first; the slots are then made loud before every recorded run, so that a race would show."""

    def logits(by: GraphPrefill | None) -> Tensor:
        return model.logits(read_chunks(model, cache, [chunk], {}, by))

    want = logits(None).clone()
    slots = [chunk.sequence.slot(position) for position in range(chunk.start, chunk.end)]
    errors, same = [], []
    for _ in range(NUM_RACES):
        for index in range(scale.config.decoder.num_layers):
            cache.pair(index)[:, slots] = 100
        got = logits(prefill)
        errors.append(relative(got, want))
        same.append(bool(got.argmax() == want.argmax()))
    return {
        "largest error": max(errors), "smallest error": min(errors), "same tokens": sum(same) / len(same),
        "ms": wall_ms(lambda: logits(prefill), scale), "by single launches ms": wall_ms(lambda: logits(None), scale),
        "profile": profile(lambda: logits(prefill), scale),
    }  # fmt: skip


def _chunk_attention_us(cache: PagedCache, past: int, num_tokens: int, scale: Scale) -> dict[str, float]:
    config = scale.config.decoder
    query = scale.random(num_tokens, config.num_heads, config.head_dim)
    table = torch.arange(1, cache.num_blocks, dtype=torch.int32, device=scale.device)
    pages = SharedPages(BLOCK_TOKENS, table, torch.arange(past + 1, past + num_tokens + 1, device=scale.device))
    return {
        str(plan): median_us(partial(attend_chunk, query, cache.keys[0], cache.values[0], pages, plan), scale)
        for plan in CHUNK_PLANS
    }


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
