"""AF-Whisper alone: features at 25 Hz for probing and retrieval, from any checkpoint that contains it."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.integrations.transformers.configuration import MODEL_TYPE, AudioFlamingo3Config
from audioflamingo.integrations.transformers.encoding import encode, padded
from audioflamingo.integrations.transformers.features import features_of
from audioflamingo.integrations.transformers.loading import forget_names, load_all, located
from audioflamingo.integrations.transformers.reasons import against_model
from audioflamingo.integrations.transformers.reference import (
    BaseModelOutputWithPooling,
    PreTrainedConfig,
    ReferenceEncoder,
)
from audioflamingo.integrations.transformers.sources import as_audio
from audioflamingo.integrations.transformers.twin import EncoderTwin
from audioflamingo.types import SAMPLE_RATE_HZ

ENCODER_TYPE = "audioflamingo3_encoder"
OF_WHOLE_MODEL = {r"^model\.audio_tower\.": "", r"^audio_tower\.": ""}
HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only", "subfolder")


class AudioFlamingo3Encoder(ReferenceEncoder):  # type: ignore[misc]
    """The encoder of Audio Flamingo 3 as a model of its own."""

    _keys_to_ignore_on_load_unexpected = (r"language_model\.", r"multi_modal_projector\.", r"lm_head\.")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._twin: EncoderTwin | None = None

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load the encoder out of a whole checkpoint, or one that was saved alone.

        Raises:
            CheckpointError: the checkpoint is of another architecture.
        """
        name = located(name)
        hub = {key: kwargs[key] for key in HUB_OPTIONS if key in kwargs}
        values = PreTrainedConfig.get_config_dict(name, **hub)[0]
        kind = values.get("model_type")
        if kind not in (MODEL_TYPE, ENCODER_TYPE):
            raise CheckpointError(f"{name} is a checkpoint of {kind}, expected {MODEL_TYPE} or {ENCODER_TYPE}")
        if kind == MODEL_TYPE:
            kwargs.setdefault("config", AudioFlamingo3Config.from_dict(values).audio_config)
            kwargs["key_mapping"] = OF_WHOLE_MODEL
        found = load_all(super().from_pretrained, name, args, kwargs)
        forget_names(found[0] if isinstance(found, tuple) else found)
        return found

    def forward(self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any) -> Any:
        """Encode windows.

        Args:
            input_features: (W, bins, F) log-mels of any float dtype, on any device.
            input_features_mask: (W, F), 1 at valid mel frames; None takes all as valid.
            kwargs: as transformers has them; asking for hidden states or attentions runs its own code.

        Returns:
            `last_hidden_state` (W, F // 4, width) at 25 Hz, zero past each window's end, and `pooler_output`
            (W, width), the mean over each window's own.
        """
        weight = self.conv1.weight
        features = input_features.to(device=weight.device, dtype=weight.dtype)
        if input_features_mask is None:
            input_features_mask = torch.ones_like(features[:, 0], dtype=torch.int32)
        mask = input_features_mask.to(weight.device)
        wanted = any(kwargs.get(name) for name in ("output_hidden_states", "output_attentions"))
        if wanted or (self.training and self.gradient_checkpointing) or against_model(self) is not None:
            return super().forward(features, mask, **kwargs)
        self._twin = self._twin or EncoderTwin(self.config)
        encoded, counts = encode(self._twin.link(self), features, mask, at_once=self.training)
        hidden = padded(encoded, counts, features.shape[-1])
        mean = hidden.sum(1) / torch.tensor(counts, device=hidden.device).clamp(min=1)[:, None]
        output = BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=mean.to(hidden.dtype))
        return output if kwargs.get("return_dict", True) else output.to_tuple()

    @torch.no_grad()
    def embed(self, audio: Any, sampling_rate: int = SAMPLE_RATE_HZ) -> Tensor:
        """Features (A, width) of one sound of any length, 25 a second.

        Args:
            audio: a (N,) floating array or tensor, a path, the bytes of a file, or an `Audio`.
            sampling_rate: rate of an array in Hz.

        Raises:
            AudioError: it is no sound.
        """
        features, mask = features_of([as_audio(audio, sampling_rate, "audio")], self.device)
        hidden = self(features, mask).last_hidden_state
        counts = ((mask.sum(-1) - 1) // 2 + 1) // 2
        return torch.cat([row[:count] for row, count in zip(hidden, counts.tolist(), strict=True)])
