"""Decode steps with the decoder stored in each way, right and how fast; plans tried within whole steps; fp8 prefill.

What is fastest alone need not be so in a step, where a kernel loads its weight while the one before it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from kernels_common import INIT_STD, Scale, median_us, profile, relative
from kernels_model import model_of
from torch import Tensor, nn

from audioflamingo.engine.contexts import PagedDecodeContext
from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.kv_cache import BLOCK_TOKENS, DecodeBatch, PagedCache
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels import kernel_switches, paged_attention, plans, tuning
from audioflamingo.model.quantize.linear import QuantizedLinear
from audioflamingo.model.quantize.schemes import Scheme

JOINT = (("self_attn", "q_proj", "k_proj", "v_proj"), ("self_attn", "o_proj"), ("mlp", "gate_proj", "up_proj"))
LAYERS = (*JOINT, ("mlp", "down_proj"))
NEAR_BEST = 1.25  # slower ones are not tried in a step
MOST_TRIED = 3
BATCHES = (1, 8)


def steps(scale: Scale) -> dict[str, Any]:
    """By storage: milliseconds a step by batch, error of its logits, the best plans found within steps."""
    for known in (plans.HOPPER, paged_attention.HOPPER):
        known.clear()  # what was found before: here everything is tried anew
    model, found = model_of(scale), {}
    config, context = scale.config.decoder, scale.contexts[0]
    num_blocks = 1 + max(BATCHES) * -(-(context + 64) // BLOCK_TOKENS)
    cache = PagedCache(config, scale.dtype, torch.device(scale.device), num_blocks)
    for index in range(config.num_layers):
        cache.pair(index).normal_()
    x = scale.random(scale.prefills[-1], config.width, std=INIT_STD)
    found["bf16"] = steps_of(model, cache, context, scale, (1,))
    before = last_logits(model, x)
    for scheme in ("fp8", "int8", "int4"):
        with quantized(model, scheme):  # type: ignore[arg-type]
            found[scheme] = steps_of(model, cache, context, scale, BATCHES)
            if scheme != "int4":
                work = partial(last_logits, model, x)
                found[scheme]["prefill error"] = relative(work(), before)
                found[scheme]["prefill ms"] = round(median_us(work, scale, 3) / 1e3, 2)
                found[scheme]["prefill profile"] = profile(work, scale)
        print(scheme, {key: value for key, value in found[scheme].items() if "profile" not in key}, flush=True)
        scale.save(found)
    return found


def last_logits(model: Flamingo, x: Tensor) -> Tensor:
    packing = Packing.of([len(x)], x.device)
    return model.logits(model.hidden_states(x, packing.positions, CausalContext(packing))[-1:])


def steps_of(
    model: Flamingo, cache: PagedCache, context: int, scale: Scale, batches: tuple[int, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for batch in batches:
        inputs = batch_of(cache, batch, context, scale)
        with kernel_switches(kernels=False):
            plain = PagedDecodeContext(cache, inputs)
            embeddings = model.decoder.embed_tokens(inputs.tokens)
            want = model.logits(model.hidden_states(embeddings, inputs.positions, plain)).clone()
        decoder = GraphDecoder(model, cache)
        got = decoder.step(inputs, context).clone()
        found[f"{batch} error"] = relative(got, want)
        found[f"{batch} ms"] = step_ms(decoder, scale)
        if batch == 1:
            found["profile"] = profile(decoder.step_on, scale)
            decoder.forget()
            found["in steps"] = best_within_steps(model, cache, inputs, context, scale)
    found["choices"] = tuning.choices()
    return found


def best_within_steps(
    model: Flamingo, cache: PagedCache, inputs: DecodeBatch, context: int, scale: Scale
) -> dict[str, Any]:
    """Milliseconds a step with each near-best plan of each choice, one choice after another."""
    found: dict[str, Any] = {}
    for key, trials in tuning.trials().items():
        if not is_of_step(key, kinds_of(model), scale.config.decoder.vocab_size):
            continue
        near = [plan for time, plan in trials if time <= NEAR_BEST * trials[0][0]][:MOST_TRIED]
        times = []
        for plan in near:
            tuning.choose(key, plan)
            decoder = GraphDecoder(model, cache)
            decoder.step(inputs, context)
            times.append((step_ms(decoder, scale), str(plan)))
            decoder.forget()
        best = min(range(len(near)), key=lambda place: times[place][0])
        tuning.choose(key, near[best])
        found[str(key)] = sorted(times)
    return found


def is_of_step(key: Any, kinds: set[str], vocab_size: int) -> bool:
    """Whether a choice is one of a step of one row over layers of these kinds; the head's is its own affair."""
    if key[0] == "attend":
        return bool(key[3] == 1)
    return key[3] in kinds and key[4] == 1 and key[5] != vocab_size


def kinds_of(model: Flamingo) -> set[str]:
    return {getattr(module, "scheme", "plain") for module in model.decoder.modules() if hasattr(module, "in_features")}


def step_ms(decoder: GraphDecoder, scale: Scale) -> float:
    def run() -> None:
        for _ in range(scale.num_steps):
            decoder.step_on()

    return round(median_us(run, scale, 2) / scale.num_steps / 1e3, 4)


def batch_of(cache: PagedCache, batch: int, context: int, scale: Scale) -> DecodeBatch:
    blocks_each = -(-(context + 64) // BLOCK_TOKENS)
    order = (1 + torch.randperm(cache.num_blocks - 1)[: batch * blocks_each]).view(batch, blocks_each).tolist()
    tokens = torch.randint(0, scale.config.decoder.vocab_size, (batch,)).tolist()
    return DecodeBatch.of(tokens, order, [context] * batch, torch.device(scale.device))


@contextmanager
def quantized(model: Flamingo, scheme: Scheme) -> Iterator[None]:
    """Within the block the decoder's layers are stored in this scheme and its head in int8, as `load_model` does it."""
    kept: list[tuple[nn.Module, str, nn.Module]] = []
    for layer in model.decoder.layers:
        for part, *names in LAYERS:
            kept += replaced(getattr(layer, part), names, scheme)
    kept.append((model.decoder, "lm_head", model.decoder.lm_head))
    model.decoder.lm_head = QuantizedLinear.of("int8", model.decoder.lm_head.weight)  # type: ignore[assignment]
    try:
        yield
    finally:
        for parent, name, layer in kept:
            setattr(parent, name, layer)


def replaced(parent: nn.Module, names: list[str], scheme: Scheme) -> list[tuple[nn.Module, str, nn.Module]]:
    plain = [getattr(parent, name) for name in names]
    bias_dtype = None if plain[0].bias is None else plain[0].weight.dtype
    sizes = [one.out_features for one in plain]
    new = QuantizedLinear.neighbours(scheme, sizes, plain[0].in_features, plain[0].weight.device, bias_dtype)
    for name, old, one in zip(names, plain, new, strict=True):
        one.write_rows(0, old.weight.detach())
        if one.bias is not None:
            one.bias.copy_(old.bias.detach())
        setattr(parent, name, one)
    return [(parent, name, old) for name, old in zip(names, plain, strict=True)]
