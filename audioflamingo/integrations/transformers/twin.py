"""Our own model over the very modules of a transformers model: no copies, and always the same weights.

Both sides name their layers alike below `audio_tower`, `multi_modal_projector` and `language_model`, so every leaf
(a linear, an embedding, a convolution, a norm) is put into our containers as it is. Whatever happens to a leaf is seen
on both sides: training, a move to another device, a LoRA layer in its place, a resized embedding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from audioflamingo.config import EncoderConfig, ModelConfig
from audioflamingo.errors import CheckpointError
from audioflamingo.model.decoder import RMSNorm
from audioflamingo.model.encoder import Encoder
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import NoInitialisation, skeleton

REFERENCE_NORM = "Qwen2RMSNorm"


class Linked:
    """A container of ours whose leaves are those of a module of transformers, from the first call of `to` on.

    Not a module itself, or its owner would count every weight twice.
    """

    def __init__(self, container: nn.Module) -> None:
        self._container = container.eval()
        self._leaves = [(path, one) for path, one in container.named_modules() if not list(one.children())]

    def to(self, theirs: nn.Module, **extra: nn.Module) -> None:
        """Take the leaves of a module, and of `extra` those that it lacks, by name."""
        for path, ours in self._leaves:
            leaf = extra[path] if path in extra else theirs.get_submodule(path)
            if isinstance(ours, RMSNorm) and type(leaf).__name__ == REFERENCE_NORM:
                ours.weight = leaf.weight  # type: ignore[assignment]  # ours is one kernel where theirs are five
                continue
            parent, _, name = path.rpartition(".")
            self._container.get_submodule(parent)._modules[name] = leaf


class Twin:
    """Our model beside a transformers one.

    Attributes:
        flamingo: our model.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.flamingo: Flamingo = skeleton(config).eval()
        self._encoder = Linked(self.flamingo.encoder)
        self._projector = Linked(self.flamingo.projector)
        self._decoder = Linked(self.flamingo.decoder)

    def link_audio(self, model: Any) -> Flamingo:
        """Take the leaves of encoder and projector from transformers' inner model."""
        self._encoder.to(model.audio_tower)
        self._projector.to(model.multi_modal_projector)
        return self.flamingo

    def link(self, model: Any) -> Flamingo:
        """Take all leaves from transformers' model with a language-model head."""
        self._decoder.to(model.model.language_model, lm_head=model.lm_head)
        return self.link_audio(model.model)


class EncoderTwin:
    """Our encoder beside a transformers one."""

    def __init__(self, config: Any) -> None:
        with NoInitialisation(), torch.device("meta"):
            self._encoder = Encoder(
                EncoderConfig(
                    width=config.hidden_size,
                    num_layers=config.num_hidden_layers,
                    num_heads=config.num_attention_heads,
                    ffn_width=config.intermediate_size,
                    num_mel_bins=config.num_mel_bins,
                    max_positions=config.max_source_positions,
                )
            )
        self._linked = Linked(self._encoder)

    def link(self, model: nn.Module) -> Encoder:
        """Take all leaves from transformers' encoder."""
        self._linked.to(model)
        return self._encoder


def twin_of(config: Any) -> Twin | str:
    """A twin for a transformers configuration, or why there is none."""
    try:
        return Twin(ModelConfig.from_dict(config.to_dict()))
    except CheckpointError as error:
        return str(error)
