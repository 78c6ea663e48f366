"""Operations that a training step needs, by arithmetic, and the rate that a device reaches in a plain matrix product.

Their quotient with the time of a step is its MFU (model FLOPs utilisation, PaLM, Chowdhery et al.): computing
activations a second time, dropout masks or widening weights do not count as work. See `model.costs` for what is left
out. Shapes: N tokens of a pack, M learnt tokens, R rank.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from audioflamingo.config import DecoderConfig, ModelConfig
from audioflamingo.model.costs import encoder_flops, projector_flops
from audioflamingo.train.collate import PackedBatch
from audioflamingo.train.last_layer import LARGEST_SHARE
from audioflamingo.train.stages import Stage

PROBE_S = 0.05
PROBE_SIDE = {"cuda": 8_192, "cpu": 512}


@dataclass(frozen=True)
class StepCost:
    """What packs cost in a stage.

    Attributes:
        config: of the model.
        stage: what is trained.
        num_adapter: numbers in all adapters together.
        flops_per_s: what the device reaches at best; see `matmul_rate`.
    """

    config: ModelConfig
    stage: Stage
    num_adapter: int = 0
    flops_per_s: float | None = None
    _matrix: int = field(init=False)

    def __post_init__(self) -> None:
        """Count the matrices of a layer once."""
        object.__setattr__(self, "_matrix", layer_matrix(self.config.decoder))

    def of(self, pack: PackedBatch) -> int:
        """Operations of a pack, forward and backward."""
        return self._listening(pack) + self._decoding(pack)

    def mfu(self, flops: int, seconds: float) -> float | None:
        """Share of the device's rate, or None where that is not known."""
        return None if self.flops_per_s is None else flops / seconds / self.flops_per_s

    def _listening(self, pack: PackedBatch) -> int:
        if pack.mel is None and pack.features is None:
            return 0
        trains = self.stage.trains
        frames = [(mel_frames - 1) // 2 + 1 for mel_frames in pack.num_mel_frames]
        encoder = encoder_flops(self.config.encoder, frames) * (3 if "encoder" in trains else 1)
        passes = 1 + ("projector" in trains) + ("encoder" in trains)
        num_audio_tokens = sum(count // 2 for count in frames) if pack.features is None else len(pack.features)
        return encoder + projector_flops(self.config, num_audio_tokens) * passes

    def _decoding(self, pack: PackedBatch) -> int:
        decoder, trains = self.config.decoder, self.stage.trains
        if "captioner" in trains:
            return 0  # the caption decoder is a rounding error beside the encoder
        passes = 2 + ("decoder" in trains)  # forward, gradients of inputs, gradients of weights
        num_tokens, num_layers = sum(pack.lengths), decoder.num_layers
        skips = 0 < pack.num_targets <= LARGEST_SHARE * num_tokens
        in_last = pack.num_targets if skips else num_tokens
        shared = 2 * decoder.num_kv_heads * decoder.head_dim * decoder.width  # keys and values, of all tokens
        rows = num_tokens * (num_layers - 1) * self._matrix + num_tokens * shared + in_last * (self._matrix - shared)
        pairs = sum(length * (length + 1) // 2 for length in pack.lengths)
        layers = num_layers - 1 + in_last / num_tokens
        attention = int(4 * pairs * decoder.num_heads * decoder.head_dim * layers)
        head = 2 * pack.num_targets * decoder.vocab_size * decoder.width * passes
        return 2 * rows * passes + 3 * attention + head + 6 * num_tokens * self.num_adapter


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product, the best of a few, measured in a twentieth of a second."""
    side = PROBE_SIDE.get(device.type, PROBE_SIDE["cpu"])
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + PROBE_S
    for number in range(1_000):
        _wait(device)
        start = time.perf_counter()
        left @ right
        _wait(device)
        best = min(best, time.perf_counter() - start) if number else best  # the first one sets things up
        if number > 2 and time.perf_counter() > end:
            break
    return float(2 * side**3 / best)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def layer_matrix(config: DecoderConfig) -> int:
    """Numbers in the matrices of one decoder layer."""
    attention = 2 * (config.num_heads + config.num_kv_heads) * config.head_dim * config.width
    return attention + 3 * config.width * config.ffn_width
