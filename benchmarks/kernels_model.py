"""The full-size model's three kinds of work with fused kernels: decode steps by graph, prefill, encoder."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from kernels_common import INIT_STD, Scale, median_us, profile, relative
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from audioflamingo.audio import log_mel_batch
from audioflamingo.engine.contexts import PagedDecodeContext
from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.kv_cache import BLOCK_TOKENS, DecodeBatch, PagedCache
from audioflamingo.model.attention import Packing, attention_kernel
from audioflamingo.model.decoder import CausalContext, fuse_projections
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels import gelu_in_place, kernel_switches, swiglu, tuning
from audioflamingo.model.skeleton import NoInitialisation

_model: list[Flamingo] = []


def model_of(scale: Scale) -> Flamingo:
    """Random weights, made on the device; norms are near 1."""
    if not _model:
        previous = torch.get_default_dtype()
        torch.set_default_dtype(scale.dtype)
        try:
            with NoInitialisation(), torch.device(scale.device):
                model = Flamingo(scale.config).eval()
        finally:
            torch.set_default_dtype(previous)
        for name, parameter in model.named_parameters():
            parameter.data.normal_(0, INIT_STD)
            if "norm" in name and name.endswith("weight"):
                parameter.data.add_(1)
        fuse_projections(model)
        _model.append(model)
    return _model[0]


def decode(scale: Scale) -> dict[str, Any]:
    """Milliseconds a step by batch and context, with and without early launches, and the error of the logits."""
    model = model_of(scale)
    found: dict[str, Any] = {}
    config = scale.config.decoder
    num_blocks = 1 + scale.max_cache_tokens // BLOCK_TOKENS
    cache_ = PagedCache(config, scale.dtype, torch.device(scale.device), num_blocks)
    for index in range(config.num_layers):
        cache_.pair(index).normal_()
    for context in scale.contexts:
        for batch in scale.batches:
            if batch * (context + 64) <= scale.max_cache_tokens:
                found[f"{batch} x {context}"] = _decode(model, cache_, batch, context, scale)
                print(
                    batch,
                    context,
                    {key: value for key, value in found[f"{batch} x {context}"].items() if key != "profile"},
                )
                scale.save(found)
    found["choices"] = tuning.choices()
    return found


def _decode(model: Flamingo, cache_: PagedCache, batch: int, context: int, scale: Scale) -> dict[str, Any]:
    blocks_each = -(-(context + 64) // BLOCK_TOKENS)
    order = (1 + torch.randperm(cache_.num_blocks - 1)[: batch * blocks_each]).view(batch, blocks_each).tolist()
    tokens = torch.randint(0, scale.config.decoder.vocab_size, (batch,)).tolist()
    inputs = DecodeBatch.of(tokens, order, [context] * batch, torch.device(scale.device))
    found: dict[str, Any] = {"floor_bytes": _step_bytes(model, batch, context)}
    plain = PagedDecodeContext(cache_, inputs)
    with kernel_switches(kernels=False):
        run = partial(_plain_step, model, inputs, plain)
        want = run().clone()
        if batch <= 8 and context < 1000:
            found["plain_ms"] = round(median_us(run, scale, 5) / 1e3, 3)
    for name, early in (("early", True), ("late", False)):
        if name == "late" and "early failed" not in found:
            continue
        with kernel_switches(early_launch=early):
            decoder = GraphDecoder(model, cache_)
            try:
                got = decoder.step(inputs, context).clone()
                found[f"{name} error"] = relative(got, want)
                found[f"{name} same tokens"] = float((decoder.greedy == want.argmax(-1)).float().mean())
                again = decoder.step(inputs, context).clone()
                found[f"{name} repeats"] = bool((again == got).all())
                steps = partial(_steps, decoder, scale.num_steps)
                found[f"{name} ms"] = round(median_us(steps, scale, 3) / scale.num_steps / 1e3, 4)
            except Exception as error:
                found[f"{name} failed"] = f"{type(error).__name__}: {str(error)[:1500]}"
                continue
        if name == "early" and (batch, context) in ((1, scale.contexts[0]), (64, scale.contexts[0])):
            decoder.step(inputs, context)
            found["profile"] = profile(decoder.step_on, scale)
        decoder.forget()
    return found


def _steps(decoder: GraphDecoder, num_steps: int) -> None:
    for _ in range(num_steps):
        decoder.step_on()


def _plain_step(model: Flamingo, inputs: DecodeBatch, context: PagedDecodeContext) -> Tensor:
    embeddings = model.decoder.embed_tokens(inputs.tokens)
    return model.logits(model.hidden_states(embeddings, inputs.positions, context))


def _step_bytes(model: Flamingo, batch: int, context: int) -> int:
    config = model.config.decoder
    weights = sum(p.numel() * p.element_size() for n, p in model.decoder.named_parameters() if "embed_tokens" not in n)
    return weights + batch * context * 4 * config.num_layers * config.num_kv_heads * config.head_dim


def prefill(scale: Scale) -> dict[str, Any]:
    """Milliseconds from embeddings to the last token's logits."""
    model, found = model_of(scale), {}
    for num_tokens in scale.prefills:
        x = scale.random(num_tokens, scale.config.decoder.width, std=INIT_STD)
        packing = Packing.of([num_tokens], x.device)
        work = partial(_prefill, model, x, packing)
        with kernel_switches(kernels=False), attention_kernel("sdpa"):
            want = work().clone()
            found[f"{num_tokens} plain ms"] = round(median_us(work, scale, 3) / 1e3, 2)
        for kernel in ("auto", *(["varlen", "cudnn"] if scale.is_gpu and num_tokens < 1000 else [])):
            with attention_kernel(kernel):  # type: ignore[arg-type]
                try:
                    found[f"{num_tokens} {kernel} error"] = relative(work(), want)
                    found[f"{num_tokens} {kernel} ms"] = round(median_us(work, scale, 5) / 1e3, 2)
                except Exception as error:
                    found[f"{num_tokens} {kernel} failed"] = f"{type(error).__name__}: {str(error)[:600]}"
        found[f"{num_tokens} profile"] = profile(work, scale)
        print({key: value for key, value in found.items() if "profile" not in key})
        scale.save(found)
    found["pieces_us"] = _decoder_pieces(scale, max(scale.prefills))
    return found


def _prefill(model: Flamingo, x: Tensor, packing: Packing) -> Tensor:
    return model.logits(model.hidden_states(x, packing.positions, CausalContext(packing))[-1:])


def _decoder_pieces(scale: Scale, num_tokens: int) -> dict[str, float]:
    config = scale.config.decoder
    x, wide = scale.random(num_tokens, config.width), scale.random(num_tokens, 2 * config.ffn_width)
    gate_up = scale.random(2 * config.ffn_width, config.width, std=INIT_STD)
    down = scale.random(config.width, config.ffn_width, std=INIT_STD)
    narrow = wide[:, : config.ffn_width].contiguous()
    return {
        "gate_up": median_us(lambda: functional.linear(x, gate_up), scale),
        "down": median_us(lambda: functional.linear(narrow, down), scale),
        "swiglu": median_us(lambda: swiglu(wide), scale),
    }


def encoder(scale: Scale) -> dict[str, Any]:
    """Milliseconds of the encoder with its convolutions, fused and plain, and of its pieces."""
    model, found = model_of(scale), {}
    cases = {
        "20 windows": (20, 3000), "8 windows": (8, 3000), "1 window": (1, 3000), "64 x 3 s": (64, 300),
        "64 x 10 s": (64, 1000),
    }  # fmt: skip
    if not scale.is_gpu:
        cases = {"2 windows": (2, 100), "3 x 1 s": (3, 100)}
    for name, (count, frames) in cases.items():
        mel = torch.randn(count, 128, min(frames + 2, 3000), device=scale.device)
        work = partial(model.encoder, mel, [frames] * count)
        with kernel_switches(kernels=False):
            want = work()[0].clone()
            found[f"{name} plain ms"] = round(median_us(work, scale, 5) / 1e3, 2)
        begin = time.perf_counter()
        found[f"{name} error"] = relative(work()[0], want)
        found[f"{name} first ms"] = round((time.perf_counter() - begin) * 1e3, 1)  # cuDNN's plans included
        found[f"{name} ms"] = round(median_us(work, scale, 5) / 1e3, 2)
        found[f"{name} profile"] = profile(work, scale)
        print({key: value for key, value in found.items() if "profile" not in key})
        scale.save(found)
    found["pieces_us"] = _encoder_pieces(scale) if scale.is_gpu else {}
    found["log-mel ms"] = _log_mel_ms(scale)
    return found


def _encoder_pieces(scale: Scale) -> dict[str, Any]:
    config, num = scale.config.encoder, 30_000
    x, hidden = scale.random(num, config.width), scale.random(num, config.ffn_width)
    weights = {
        "q": (config.width, config.width),
        "qkv": (3 * config.width, config.width),
        "fc1": (config.ffn_width, config.width),
    }
    found: dict[str, Any] = {}
    for name, shape in weights.items():
        weight, bias = scale.random(*shape, std=INIT_STD), scale.random(shape[0])
        found[name] = median_us(lambda: functional.linear(x, weight, bias), scale)  # noqa: B023
    weight = scale.random(config.width, config.ffn_width, std=INIT_STD)
    found["fc2"] = median_us(lambda: functional.linear(hidden, weight), scale)
    found["gelu"] = median_us(lambda: functional.gelu(hidden), scale)
    found["gelu in place"] = median_us(lambda: gelu_in_place(hidden), scale)
    found["add"] = median_us(lambda: x + x, scale)
    head = config.width // config.num_heads
    for windows, frames in ((20, 1500), (16, 1500), (64, 500), (64, 150)):
        batch = [scale.random(windows, frames, config.num_heads, head).transpose(1, 2) for _ in range(3)]
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            with sdpa_kernel(backend):
                taken_us = median_us(lambda: functional.scaled_dot_product_attention(*batch), scale)  # noqa: B023
            found[f"attention {windows} x {frames} {backend.name}"] = taken_us
    return found


def _log_mel_ms(scale: Scale) -> dict[str, float]:
    samples = [torch.randn(480_000) for _ in range(20 if scale.is_gpu else 1)]
    moved = [one.to(scale.device) for one in samples]
    return {
        "from the host": round(median_us(lambda: log_mel_batch(samples, scale.device), scale, 5) / 1e3, 3),
        "on the device": round(median_us(lambda: log_mel_batch(moved, scale.device), scale, 5) / 1e3, 3),
    }
