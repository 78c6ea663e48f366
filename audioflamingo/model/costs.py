"""What the model costs, by arithmetic on its configuration: parameters, bytes, operations. Benchmarks only time.

One multiply-add counts as two operations. Norms, activations, biases and softmax are left out of operations: together
they are below one percent. Shapes: S encoder frames, A audio tokens, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig

if TYPE_CHECKING:
    from torch import Tensor

CONV_KERNEL = 3
BYTES_BY_DTYPE = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5}


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters by part; `encoder` includes its fixed table of positions."""

    encoder: int
    projector: int
    decoder_body: int
    lm_head: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.encoder + self.projector + self.decoder_body + self.lm_head


def parameters(config: ModelConfig) -> Parameters:
    """Parameters of every part."""
    decoder = config.decoder
    return Parameters(
        encoder=_encoder_parameters(config.encoder),
        projector=(config.encoder.width + decoder.width + 2) * decoder.width,
        decoder_body=_decoder_parameters(decoder),
        lm_head=decoder.vocab_size * decoder.width,
    )


def weight_bytes(config: ModelConfig, dtype: str = "bfloat16") -> int:
    """Bytes of all weights in a dtype of `BYTES_BY_DTYPE`, scales of quantized ones not counted."""
    return round(parameters(config).total * BYTES_BY_DTYPE[dtype])


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of memory that tensors of one device lie in; what several of them share is counted once."""
    spans = sorted(
        (tensor.data_ptr(), tensor.data_ptr() + tensor.numel() * tensor.element_size()) for tensor in tensors
    )
    total = end = 0
    for first, last in spans:
        total += max(0, last - max(first, end))
        end = max(end, last)
    return total


def encoder_flops(config: EncoderConfig, num_encoder_frames: Iterable[int]) -> int:
    """Operations for windows of the given valid encoder frames S each (a full window has 1,500)."""
    width = config.width
    convolutions = 2 * config.num_mel_bins * width * CONV_KERNEL + width * width * CONV_KERNEL  # conv1 runs at 10 ms
    layer = 4 * width * width + 2 * width * config.ffn_width
    flops = 0
    for frames in num_encoder_frames:
        attention = 2 * frames * width  # for every frame, scores and sums over all frames
        flops += 2 * frames * (convolutions + config.num_layers * (layer + attention))
    return flops


def projector_flops(config: ModelConfig, num_audio_tokens: int) -> int:
    """Operations for A audio tokens."""
    return 2 * num_audio_tokens * (config.encoder.width + config.decoder.width) * config.decoder.width


def prefill_flops(config: DecoderConfig, num_tokens: int, *, num_cached_tokens: int = 0, num_logits: int = 1) -> int:
    """Operations for T new tokens after cached ones, with logits for the last few."""
    pairs = num_tokens * num_cached_tokens + num_tokens * (num_tokens + 1) // 2  # (query, key) that see each other
    attention = 4 * pairs * config.num_heads * config.head_dim * config.num_layers
    matrices = 2 * num_tokens * config.num_layers * _layer_matrix(config)
    return matrices + attention + 2 * num_logits * config.vocab_size * config.width


def kv_bytes_per_token(config: DecoderConfig, dtype: str = "bfloat16") -> int:
    """Bytes that one token keeps in the cache: keys and values of all layers."""
    return round(2 * config.num_layers * config.num_kv_heads * config.head_dim * BYTES_BY_DTYPE[dtype])


def decode_step_bytes(
    config: DecoderConfig, *, batch: int, num_context_tokens: int, dtype: str = "bfloat16", kv_dtype: str = "bfloat16"
) -> int:
    """Bytes read in one decode step of B sequences with the given context each: weights once, every sequence's cache.

    A row of the embedding table a sequence is all that is read of it.
    """
    body = config.num_layers * _layer_parameters(config) + config.width
    weights = (body + config.vocab_size * config.width + batch * config.width) * BYTES_BY_DTYPE[dtype]
    return round(weights) + batch * num_context_tokens * kv_bytes_per_token(config, kv_dtype)


def decode_bytes_per_token(
    config: DecoderConfig, *, batch: int, num_context_tokens: int, dtype: str = "bfloat16", kv_dtype: str = "bfloat16"
) -> float:
    """The same for each token that the step gives."""
    step = decode_step_bytes(config, batch=batch, num_context_tokens=num_context_tokens, dtype=dtype, kv_dtype=kv_dtype)
    return step / batch


def _encoder_parameters(config: EncoderConfig) -> int:
    width, ffn = config.width, config.ffn_width
    convolutions = (config.num_mel_bins + width) * width * CONV_KERNEL + 2 * width
    attention = 4 * width * width + 3 * width  # keys have no bias
    layer = attention + 2 * width * ffn + ffn + width + 4 * width
    return convolutions + config.max_positions * width + config.num_layers * layer + 2 * width


def _decoder_parameters(config: DecoderConfig) -> int:
    return config.vocab_size * config.width + config.num_layers * _layer_parameters(config) + config.width


def _layer_parameters(config: DecoderConfig) -> int:
    biases = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    return _layer_matrix(config) + biases + 2 * config.width


def _layer_matrix(config: DecoderConfig) -> int:
    attention = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim * config.width
    return attention + 3 * config.width * config.ffn_width
