"""How much memory a run takes, by arithmetic, and how many layers can keep their activations within what there is.

Two moments can be the fullest: where the backward pass begins, all activations are there, but of gradients only those
of earlier packs; where it has ended, or in the update, it is the other way round. Layers that keep their activations
are the first to be freed, so in between memory falls and then rises, if at all.

Shapes: N tokens of a pack in one process, D decoder width, F feed-forward width, H query heads, Hkv key heads, Dh head
width, P processes that share a sequence. Figures are estimates: allocators round, kernels need room of their own;
`RESERVE` stands for these. `tests/unit/train/test_memory_measured.py` holds them against GPUs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Literal

import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.errors import OptionError
from audioflamingo.model.costs import parameters
from audioflamingo.model.quantize.schemes import GROUP
from audioflamingo.train.costs import layer_matrix
from audioflamingo.train.loss import CHUNK_TOKENS
from audioflamingo.train.stages import AUDIO_TOKENS_PER_S, Stage

RESERVE = 0.1  # of the device
FP32 = 4  # bytes of a master, of a gradient, of one of two moments, of what an update takes for a moment
ENCODER_FRAMES_PER_TOKEN = 2
LOGIT_BYTES = 12  # in bf16 and fp32, and their gradients


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Attributes:
        weights: of the model, frozen or not.
        training: masters that are not the model's own weights, and two moments of what is trained.
        gradients: of what is trained, once all are there.
        early_gradients: those of them that are there while activations are at their most.
        update: that an update takes besides.
        gathered: of parts of a sharded model that are put together for the work.
        ending: that the end of the backward pass takes besides: the encoder, then what is in no layer.
        layer: that a decoder layer keeps from the forward to the backward pass.
        layer_input: that it keeps where it is computed again.
        listening: that a trained encoder keeps.
        working: that the layer at work needs for a moment, or the logits.
        num_layers: of the decoder.
        num_kept: layers that keep all they need.
        num_tokens: of a pack.
    """

    weights: int
    training: int
    gradients: int
    early_gradients: int
    update: int
    gathered: int
    ending: int
    layer: int
    layer_input: int
    listening: int
    working: int
    num_layers: int
    num_kept: int
    num_tokens: int

    @property
    def activations(self) -> int:
        """All that is kept, and the layer at work."""
        again = self.num_layers - self.num_kept
        kept = self.num_kept * self.layer + again * self.layer_input + (self.layer if again else 0)
        return kept + self.listening + self.working

    @property
    def beginning(self) -> int:
        """Bytes where the backward pass begins."""
        return self.weights + self.training + self.early_gradients + self.gathered + self.activations

    @property
    def total(self) -> int:
        """Bytes at the fullest moment."""
        ending = max(self.update, self.gathered + self.ending)
        return max(self.beginning, self.weights + self.training + self.gradients + ending)

    def described(self, device_bytes: int | None) -> str:
        """One line for whoever starts a run."""
        of = f" of {as_size(device_bytes)}" if device_bytes else ""
        advice = "; it may not fit: lower --micro-s" if device_bytes and self.total > device_bytes else ""
        return (
            f"memory: about {as_size(self.total)}{of} (weights {as_size(self.weights)}, "
            f"training {as_size(self.training)}, activations {as_size(self.activations)} for packs of "
            f"{self.num_tokens:,} tokens, gradients after them {as_size(self.gradients)}; "
            f"{self.num_kept} of {self.num_layers} layers keep theirs){advice}"
        )


def as_size(num_bytes: int) -> str:
    """Bytes as a person reads them."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def estimate(  # noqa: PLR0913 - keyword-only parts of one run
    config: ModelConfig,
    stage: Stage,
    num_trained: int,
    *,
    num_tokens: int | None = None,
    num_shards: int = 1,
    num_splits: int = 1,
    accumulates: bool = True,
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
        num_splits: processes that every sequence lies in.
        accumulates: whether a step has several packs in one process.
        num_kept: layers that keep their activations; None: as many as fit, or as the stage says.
        device_bytes: memory of the device, where it is known.
    """
    wide = 2 if stage.precision == "bfloat16" else 4
    tokens = round(stage.micro_s * AUDIO_TOKENS_PER_S) if num_tokens is None else num_tokens
    decoder, states = config.decoder, _States.of(config, stage, num_trained, wide, num_shards)
    rank = 0 if stage.lora is None else stage.lora.rank * len(stage.lora.targets)
    frames = tokens * num_splits * ENCODER_FRAMES_PER_TOKEN  # every process hears all windows
    listening, at_work = _listening(config.encoder, stage, frames, wide)
    found = Memory(
        weights=states.weights,
        training=states.training,
        gradients=states.gradients,
        early_gradients=states.sums if accumulates else 0,
        update=states.update,
        gathered=_gathered(config, wide) if num_shards > 1 else 0,
        ending=max(listening + at_work, _reduced(config, stage, wide) if num_shards > 1 else 0),
        layer=layer_bytes(decoder, tokens, wide, is_lean=is_lean(stage), rank=rank, num_splits=num_splits),
        layer_input=tokens * decoder.width * wide,
        listening=listening,
        working=_working(config, stage, tokens, wide, num_splits),
        num_layers=decoder.num_layers,
        num_kept=0,
        num_tokens=tokens,
    )
    return replace(found, num_kept=_num_kept(found, stage, device_bytes) if num_kept is None else num_kept)


@dataclass(frozen=True)
class _States:
    """Bytes of what grows with the model, not with the packs, on one device.

    Attributes:
        weights: see `Memory`.
        training: see `Memory`.
        gradients: see `Memory`.
        sums: of these in fp32, over packs.
        update: see `Memory`.
    """

    weights: int
    training: int
    gradients: int
    sums: int
    update: int

    @classmethod
    def of(cls, config: ModelConfig, stage: Stage, num_trained: int, wide: int, num_shards: int) -> _States:
        """Shards of what is trained are fp32 and their own masters; of what is frozen they are as it is computed in."""
        in_base = _trained_in_base(config, stage)
        has_masters = num_shards == 1 and wide < FP32  # the base's; adapters are fp32 anyway
        weights = _weights(config, stage, wide) + (0 if num_shards == 1 else in_base * (FP32 - wide))
        masters = FP32 * (num_trained - in_base) + (FP32 * in_base if has_masters else 0)
        short = wide * in_base if has_masters else 0  # until they are added to the sums
        pieces = 1 if stage.only_adapters else num_shards
        return cls(
            weights=weights // num_shards,
            training=(masters + 2 * FP32 * num_trained) // pieces,
            gradients=(FP32 * num_trained + short) // pieces,
            sums=FP32 * num_trained // pieces,
            update=FP32 * num_trained // pieces,
        )


def num_trained(config: ModelConfig, stage: Stage) -> int:
    """Numbers that a stage changes, a caption decoder's apart."""
    found, decoder = _trained_in_base(config, stage), config.decoder
    if stage.lora is None:
        return found
    heads, shared = decoder.num_heads * decoder.head_dim, decoder.num_kv_heads * decoder.head_dim
    sides = {
        "q_proj": decoder.width + heads, "k_proj": decoder.width + shared, "v_proj": decoder.width + shared,
        "o_proj": heads + decoder.width, "gate_proj": decoder.width + decoder.ffn_width,
        "up_proj": decoder.width + decoder.ffn_width, "down_proj": decoder.ffn_width + decoder.width,
    }  # fmt: skip
    return found + decoder.num_layers * stage.lora.rank * sum(sides[name] for name in stage.lora.targets)


def _trained_in_base(config: ModelConfig, stage: Stage) -> int:
    count = parameters(config)
    parts = {"encoder": count.encoder, "projector": count.projector, "decoder": count.decoder_body + count.lm_head}
    return sum(parts.get(part, 0) for part in stage.trains)


def is_lean(stage: Stage) -> bool:
    """Whether the decoder is frozen, so that its layers keep only what gradients of inputs need."""
    return "decoder" not in stage.trains


def layer_bytes(
    config: DecoderConfig, num_tokens: int, wide: int, *, is_lean: bool, rank: int = 0, num_splits: int = 1
) -> int:
    """What one decoder layer keeps: in the lean form gate and up, else also the two products of SwiGLU.

    Args:
        config: of the decoder.
        num_tokens: N.
        wide: bytes of a number.
        is_lean: see `is_lean`.
        rank: of all adapters of a layer together, whose narrow states are kept.
        num_splits: P; where it is over 1, keys and values that this process's two stretches look back on are kept
            for every query head, and the output of attention once more.
    """
    heads = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim  # queries, output, keys, values
    numbers = num_tokens * (4 * config.width + heads + (2 if is_lean else 4) * config.ffn_width + rank)
    if num_splits > 1:
        queries = config.num_heads * config.head_dim
        numbers += num_tokens * queries + 2 * queries * _looked_back(num_tokens, num_splits)
    return numbers * wide


def _looked_back(num_tokens: int, num_splits: int) -> int:
    """Keys of a process's two stretches of N / 2 tokens, at most: an early and a late one see P and a half times N."""
    return num_tokens * (2 * num_splits + 1) // 2


def device_memory(device: torch.device) -> int | None:
    """Bytes of a device that this process may still take, with what it has taken; None where that is not known."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device)


def check_machine(memory: Memory, device: torch.device) -> None:
    """Refuse a run on a CPU that the machine cannot hold: the system would end it without a word.

    A GPU says so itself, step by step, and may have room that the arithmetic does not see.

    Raises:
        OptionError: with both sizes and what to lower.
    """
    there = machine_memory() if device.type == "cpu" else None
    if there is not None and memory.total > there:
        raise OptionError(
            f"the run takes about {as_size(memory.total)} of memory and this machine has {as_size(there)}; lower "
            "--micro-s or --rank, keep the base in few bits (--quantize int4, for lora and stage_3_5), or take a "
            "smaller base"
        )


def machine_memory() -> int | None:
    """Bytes of the whole machine; None where the system does not tell."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def _num_kept(memory: Memory, stage: Stage, device_bytes: int | None) -> int:
    if not stage.recomputes:
        return memory.num_layers
    if device_bytes is None:
        return 0
    left = device_bytes * (1 - RESERVE) - memory.beginning
    return max(0, min(memory.num_layers, int(left // max(memory.layer - memory.layer_input, 1))))


def _weights(config: ModelConfig, stage: Stage, wide: int) -> int:
    count, decoder = parameters(config), config.decoder
    matrices = decoder.num_layers * layer_matrix(decoder)
    bytes_each: dict[Literal["int8", "int4"] | None, float] = {None: wide, "int8": 1.0, "int4": 0.5 + 2 / GROUP}
    return round((count.total - matrices) * wide + matrices * bytes_each[stage.quantize])


def _working(config: ModelConfig, stage: Stage, num_tokens: int, wide: int, num_splits: int) -> int:
    """The larger of: gradients within one layer; a chunk of logits, with the gradient of what makes them."""
    decoder = config.decoder
    in_layer = num_tokens * wide * (2 * decoder.ffn_width + 4 * decoder.width)
    if num_splits > 1:
        in_layer += 2 * decoder.num_heads * decoder.head_dim * _looked_back(num_tokens, num_splits) * wide
    widened = layer_matrix(decoder) * wide if stage.quantize else 0
    logits = min(CHUNK_TOKENS, num_tokens) * decoder.vocab_size * LOGIT_BYTES
    head = 0 if is_lean(stage) else parameters(config).lm_head * wide
    return max(in_layer + widened, logits) + head


def _listening(config: EncoderConfig, stage: Stage, frames: int, wide: int) -> tuple[int, int]:
    """What the encoder keeps where it is trained, and what its layer at work needs."""
    layer = frames * wide * (6 * config.width + 2 * config.ffn_width)
    if "encoder" not in stage.trains:
        return 0, layer
    kept = frames * wide * config.width if stage.recomputes else layer
    return kept * config.num_layers, layer


def _outside_layers(config: ModelConfig) -> tuple[int, int, int]:
    """Numbers of one decoder layer, of the table of embeddings, and of all that is in neither kind of layer."""
    count, encoder, decoder = parameters(config), config.encoder, config.decoder
    table = decoder.vocab_size * decoder.width
    layer = (count.decoder_body - table - decoder.width) // decoder.num_layers
    in_encoder = encoder.num_layers * encoder.width * (4 * encoder.width + 2 * encoder.ffn_width)
    return layer, table, count.total - table - decoder.num_layers * layer - in_encoder


def _gathered(config: ModelConfig, wide: int) -> int:
    """The layer at work and the next one; what is in no layer stays for the whole step, the table apart."""
    layer, _, rest = _outside_layers(config)
    return (2 * layer + rest) * wide


def _reduced(config: ModelConfig, stage: Stage, wide: int) -> int:
    """Whole gradients of what is in no layer, and the larger one's copy in fp32, before they are divided."""
    if is_lean(stage):
        return 0
    _, table, rest = _outside_layers(config)
    return (table + rest) * wide + max(table, rest) * FP32
