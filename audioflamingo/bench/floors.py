"""The least time that a piece of work can take: operations over the matrix rate, bytes over the bandwidth.

A stage is one pass over weights: it cannot end before its arithmetic and its reading are both done, and they may
overlap; stages follow one another. Activations are left out, so that a floor is never too high.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from audioflamingo.bench.card import Rates
from audioflamingo.config import ModelConfig
from audioflamingo.engine.scheduler import CacheKind
from audioflamingo.model import costs
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels.eight_bits import SCALE_BYTES

Precision = Literal["weights", "fp8"]


@dataclass(frozen=True)
class Stage:
    """Operations and bytes of one pass."""

    flops: int
    num_bytes: int
    precision: Precision = "weights"

    def seconds(self, rates: Rates) -> float:
        """The longer of arithmetic and reading."""
        rate = rates.fp8_flops_per_s if self.precision == "fp8" else None
        return max(self.flops / (rate or rates.flops_per_s), self.num_bytes / rates.read_bytes_per_s)


@dataclass(frozen=True)
class Work:
    """Stages in their order."""

    stages: tuple[Stage, ...]

    @property
    def flops(self) -> int:
        """Operations of all stages."""
        return sum(stage.flops for stage in self.stages)

    @property
    def num_bytes(self) -> int:
        """Bytes of all stages."""
        return sum(stage.num_bytes for stage in self.stages)

    def floor_s(self, rates: Rates) -> float:
        """Seconds below which no implementation gets on this machine."""
        return sum(stage.seconds(rates) for stage in self.stages)

    def mfu(self, taken_s: float, rates: Rates) -> float:
        """Share of the matrix rate that was used."""
        return self.flops / (taken_s * rates.flops_per_s)

    def mbu(self, taken_s: float, rates: Rates) -> float:
        """Share of the bandwidth that was used."""
        return self.num_bytes / (taken_s * rates.read_bytes_per_s)


@dataclass(frozen=True)
class ModelCost:
    """What one model's passes cost, with the bytes that its weights really take.

    Attributes:
        config: its sizes.
        listening_bytes: of encoder and projector.
        decoder_bytes: of the decoder without its table of token embeddings, of which a pass reads a few rows.
        total_bytes: of all weights.
        value_bytes: of one number in a row of embeddings, and in the KV cache where that is plain.
        precision: what the decoder's matrix products of a prefill run in.
        kv_cache: how keys and values are kept.
    """

    config: ModelConfig
    listening_bytes: int
    decoder_bytes: int
    total_bytes: int
    value_bytes: int
    precision: Precision = "weights"
    kv_cache: CacheKind = "plain"

    @classmethod
    def of(cls, model: Flamingo, precision: Precision = "weights") -> ModelCost:
        """The costs of a model in memory, quantized or not."""
        table = {id(tensor) for tensor in _tensors(model.decoder.embed_tokens)}
        decoder = [tensor for tensor in _tensors(model.decoder) if id(tensor) not in table]
        return cls(
            config=model.config,
            listening_bytes=costs.held_bytes([*_tensors(model.encoder), *_tensors(model.projector)]),
            decoder_bytes=costs.held_bytes(decoder),
            total_bytes=costs.held_bytes(_tensors(model)),
            value_bytes=model.dtype.itemsize,
            precision=precision,
        )

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of one position in all layers."""
        decoder = self.config.decoder
        per_head = decoder.head_dim * self.value_bytes if self.kv_cache == "plain" else decoder.head_dim + SCALE_BYTES
        return 2 * decoder.num_layers * decoder.num_kv_heads * per_head

    def listen(self, num_encoder_frames: Sequence[int], num_audio_tokens: int) -> Stage:
        """Encoder and projector over windows of so many valid encoder frames each."""
        flops = costs.encoder_flops(self.config.encoder, num_encoder_frames)
        return Stage(flops + costs.projector_flops(self.config, num_audio_tokens), self.listening_bytes)

    def prefill(self, num_tokens: Iterable[int], num_cached_tokens: int = 0) -> Stage:
        """Prompts of so many new tokens each, run together, each behind its own cached tokens."""
        lengths = list(num_tokens)
        decoder = self.config.decoder
        flops = sum(costs.prefill_flops(decoder, num, num_cached_tokens=num_cached_tokens) for num in lengths)
        cached = (sum(lengths) + len(lengths) * num_cached_tokens) * self.cache_bytes_per_token
        return Stage(flops, self.decoder_bytes + self._rows(sum(lengths)) + cached, self.precision)

    def decode(self, batch: int, num_context_tokens: int) -> Stage:
        """One step of so many sequences, each behind so many tokens."""
        flops = batch * costs.prefill_flops(self.config.decoder, 1, num_cached_tokens=num_context_tokens)
        cached = batch * num_context_tokens * self.cache_bytes_per_token
        return Stage(flops, self.decoder_bytes + self._rows(batch) + cached)

    def _rows(self, num_tokens: int) -> int:
        return num_tokens * self.config.decoder.width * self.value_bytes


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]
