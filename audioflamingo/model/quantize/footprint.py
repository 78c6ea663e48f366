"""What a model takes of memory, told before it is spent. Shapes: T tokens of a prompt, C of a chunk of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from audioflamingo.config import ModelConfig
from audioflamingo.model.costs import kv_bytes_per_token
from audioflamingo.model.kernels.eight_bits import SCALE_BYTES
from audioflamingo.model.quantize.layout import keep_stored, lay_out
from audioflamingo.model.quantize.schemes import Scheme
from audioflamingo.model.skeleton import skeleton


@dataclass(frozen=True)
class Footprint:
    """Bytes of a loaded model.

    Attributes:
        weights: everything that is loaded.
        kv_per_1000_tokens: of the KV cache, for a thousand tokens of one sequence.
        kv_int8_per_1000_tokens: the same with `kv_cache="int8"`.
        peak: weights, KV cache and intermediate results while a prompt is read.
    """

    weights: int
    kv_per_1000_tokens: int
    kv_int8_per_1000_tokens: int
    peak: int


def footprint(
    config: ModelConfig, scheme: Scheme | None, *, num_tokens: int, chunk_tokens: int, dtype: torch.dtype, on_cpu: bool
) -> Footprint:
    """Bytes of a model of this shape, one prompt of T tokens and its cache.

    Args:
        config: its shape.
        scheme: how its decoder is stored, or None for `dtype`.
        num_tokens: T.
        chunk_tokens: C, tokens that a prefill reads at once.
        dtype: of activations and cache, and of what is not quantised; on a CPU a quantised model computes in fp32 and
            keeps the rest in `dtype`.
        on_cpu: whether it lies there.
    """
    activations = torch.float32 if on_cpu and scheme else dtype
    weights = weight_bytes(config, scheme, dtype=dtype, on_cpu=on_cpu)
    per_token = kv_bytes_per_token(config.decoder, str(activations).removeprefix("torch."))
    chunk = min(num_tokens, chunk_tokens)
    width, ffn = config.decoder.width, config.decoder.ffn_width
    values = chunk * (4 * ffn + 4 * width)  # gate, up, silu and their product; the stream, its norm and what is added
    if scheme is not None and not on_cpu:
        values += 2 * ffn * width  # a matrix widened for the product, and what it is made from
    peak = weights + num_tokens * per_token + values * activations.itemsize
    in_int8 = 2 * config.decoder.num_layers * config.decoder.num_kv_heads * (config.decoder.head_dim + SCALE_BYTES)
    return Footprint(weights, 1_000 * per_token, 1_000 * in_int8, peak)


def weight_bytes(config: ModelConfig, scheme: Scheme | None, *, dtype: torch.dtype, on_cpu: bool) -> int:
    """Bytes of all weights with their scales, counted on the very modules that a load would fill."""
    model = skeleton(config)
    kept: set[str] = set()
    if scheme is not None:
        lay_out(model, scheme, torch.device("meta"), dtype)
        kept = set(keep_stored(model, torch.float32)) if on_cpu else set()
    plain = torch.float32 if on_cpu and scheme else dtype
    total = 0
    for name, tensor in model.state_dict().items():
        is_quantised = name.endswith((".codes", ".scale"))
        total += tensor.numel() * (tensor.dtype if is_quantised else dtype if name in kept else plain).itemsize
    return total
