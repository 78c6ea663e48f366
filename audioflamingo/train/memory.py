"""How much memory a run takes, by arithmetic, and how many layers can keep their activations within what there is.

Shapes: N tokens of a pack in one process, D decoder width, F feed-forward width, H query heads, Hkv key heads, Dh head
width. Figures are estimates: allocators round, kernels need room of their own; `RESERVE` stands for these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.costs import parameters
from audioflamingo.model.quantize.schemes import GROUP
from audioflamingo.train.costs import layer_matrix
from audioflamingo.train.loss import CHUNK_TOKENS
from audioflamingo.train.stages import AUDIO_TOKENS_PER_S, Stage

RESERVE = 0.1  # of the device
STATE_BYTES = 12  # gradient and two moments in fp32, for each trained number
MASTER_BYTES = 4
ENCODER_FRAMES_PER_TOKEN = 2
LOGIT_BYTES = 12  # in bf16 and fp32, and their gradients


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: of the model, frozen or not.
        training: masters, gradients and moments of what is trained.
        layer: that a decoder layer keeps from the forward to the backward pass.
        layer_input: that it keeps where it is computed again.
        working: that the layer at work needs for a moment, and the encoder and the logits.
        num_layers: of the decoder.
        num_kept: layers that keep all they need.
        num_tokens: of a pack.
    """

    weights: int
    training: int
    layer: int
    layer_input: int
    working: int
    num_layers: int
    num_kept: int
    num_tokens: int

    @property
    def activations(self) -> int:
        """All that is kept, and the layer at work."""
        again = self.num_layers - self.num_kept
        return self.num_kept * self.layer + again * self.layer_input + (self.layer if again else 0) + self.working

    @property
    def total(self) -> int:
        """Bytes at the fullest moment."""
        return self.weights + self.training + self.activations

    def described(self, device_bytes: int | None) -> str:
        """One line for whoever starts a run."""
        of = f" of {as_size(device_bytes)}" if device_bytes else ""
        advice = "; it may not fit: lower --micro-s" if device_bytes and self.total > device_bytes else ""
        return (
            f"memory: about {as_size(self.total)}{of} (weights {as_size(self.weights)}, "
            f"training {as_size(self.training)}, activations {as_size(self.activations)} for packs of "
            f"{self.num_tokens:,} tokens; {self.num_kept} of {self.num_layers} layers keep theirs){advice}"
        )


def as_size(num_bytes: int) -> str:
    """Bytes as a person reads them."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def estimate(
    config: ModelConfig,
    stage: Stage,
    num_trained: int,
    *,
    num_tokens: int | None = None,
    num_shards: int = 1,
    num_kept: int | None = None,
    device_bytes: int | None = None,
) -> Memory:
    """Memory of a run.

    Args:
        config: of the base.
        stage: how it is trained.
        num_trained: numbers that change.
        num_tokens: of the largest pack in one process; None takes what the stage allows.
        num_shards: processes that the model lies in.
        num_kept: layers that keep their activations; None: as many as fit, or as the stage says.
        device_bytes: memory of the device, where it is known.
    """
    wide = 2 if stage.precision == "bfloat16" else 4
    tokens = round(stage.micro_s * AUDIO_TOKENS_PER_S) if num_tokens is None else num_tokens
    is_own_master = stage.lora is not None or stage.precision == "float32" or num_shards > 1
    training = num_trained * (STATE_BYTES + (MASTER_BYTES if stage.lora is not None or not is_own_master else 0))
    decoder = config.decoder
    working = _working(config, stage, tokens, wide)
    layer_input = tokens * decoder.width * wide
    found = Memory(
        weights=_weights(config, stage, 4 if num_shards > 1 else wide) // num_shards,
        training=training // num_shards,
        layer=layer_bytes(decoder, tokens, wide, is_lean=is_lean(stage)),
        layer_input=layer_input,
        working=working,
        num_layers=decoder.num_layers,
        num_kept=0,
        num_tokens=tokens,
    )
    kept = num_kept if num_kept is not None else _num_kept(found, stage, device_bytes)
    return Memory(**{**found.__dict__, "num_kept": kept})


def num_trained(config: ModelConfig, stage: Stage) -> int:
    """Numbers that a stage changes, a caption decoder's apart."""
    count, decoder = parameters(config), config.decoder
    parts = {"encoder": count.encoder, "projector": count.projector, "decoder": count.decoder_body + count.lm_head}
    found = sum(parts.get(part, 0) for part in stage.trains)
    if stage.lora is None:
        return found
    heads, shared = decoder.num_heads * decoder.head_dim, decoder.num_kv_heads * decoder.head_dim
    sides = {
        "q_proj": decoder.width + heads, "k_proj": decoder.width + shared, "v_proj": decoder.width + shared,
        "o_proj": heads + decoder.width, "gate_proj": decoder.width + decoder.ffn_width,
        "up_proj": decoder.width + decoder.ffn_width, "down_proj": decoder.ffn_width + decoder.width,
    }  # fmt: skip
    return found + decoder.num_layers * stage.lora.rank * sum(sides[name] for name in stage.lora.targets)


def is_lean(stage: Stage) -> bool:
    """Whether the decoder is frozen, so that its layers keep only what gradients of inputs need."""
    return "decoder" not in stage.trains


def layer_bytes(config: DecoderConfig, num_tokens: int, wide: int, *, is_lean: bool) -> int:
    """What one decoder layer keeps: in the lean form gate and up, else also the two products of SwiGLU."""
    heads = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim  # queries, output, keys, values
    return num_tokens * wide * (4 * config.width + heads + (2 if is_lean else 4) * config.ffn_width)


def device_memory(device: torch.device) -> int | None:
    """Bytes of a device that this process may still take, with what it has taken; None where that is not known."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def _num_kept(memory: Memory, stage: Stage, device_bytes: int | None) -> int:
    if not stage.recomputes:
        return memory.num_layers
    if device_bytes is None:
        return 0
    left = device_bytes * (1 - RESERVE) - memory.total
    return max(0, min(memory.num_layers, int(left // max(memory.layer - memory.layer_input, 1))))


def _weights(config: ModelConfig, stage: Stage, wide: int) -> int:
    count, decoder = parameters(config), config.decoder
    matrices = decoder.num_layers * layer_matrix(decoder)
    bytes_each: dict[Literal["int8", "int4"] | None, float] = {None: wide, "int8": 1.0, "int4": 0.5 + 2 / GROUP}
    return round((count.total - matrices) * wide + matrices * bytes_each[stage.quantize])


def _working(config: ModelConfig, stage: Stage, num_tokens: int, wide: int) -> int:
    """The larger of: gradients within one layer and a chunk of logits; the encoder."""
    decoder, encoder = config.decoder, config.encoder
    in_layer = num_tokens * wide * (2 * decoder.ffn_width + 4 * decoder.width)
    widened = layer_matrix(decoder) * wide if stage.quantize else 0
    logits = min(CHUNK_TOKENS, num_tokens) * decoder.vocab_size * LOGIT_BYTES
    return max(in_layer + widened, logits, _encoder_working(encoder, stage, num_tokens, wide))


def _encoder_working(config: EncoderConfig, stage: Stage, num_tokens: int, wide: int) -> int:
    frames = num_tokens * ENCODER_FRAMES_PER_TOKEN
    layer = frames * wide * (6 * config.width + 2 * config.ffn_width)
    if "encoder" not in stage.trains:
        return layer
    return layer + frames * wide * config.width * config.num_layers if stage.recomputes else layer * config.num_layers
