"""transformers' own class for Audio Flamingo 3, running on our model.

It is a subclass, so that names of tensors, configuration, PEFT targets, Trainer and files are transformers' by
construction. What changes: encoder and projector run on our code, where a sound costs its own length; `generate` runs
on our engine; inputs are brought to the weights' dtype and device; what does not fit is an error with a remedy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from audioflamingo.errors import CheckpointError, OptionError, PromptError
from audioflamingo.integrations.transformers import loader
from audioflamingo.integrations.transformers.adapters import ThinkAdapters
from audioflamingo.integrations.transformers.agreement import (
    check_counts,
    check_encoded,
    check_features,
    check_ids,
    check_rows,
    windows_of_rows,
)
from audioflamingo.integrations.transformers.configuration import MODEL_TYPE, AudioFlamingo3Config
from audioflamingo.integrations.transformers.decoding import Choices, Rows, decode
from audioflamingo.integrations.transformers.encoding import encode, padded
from audioflamingo.integrations.transformers.features import audio_tokens_of_windows
from audioflamingo.integrations.transformers.loading import forget_names, load_all, located
from audioflamingo.integrations.transformers.reasons import KERNELS, against_call, against_model, cache_of, tell
from audioflamingo.integrations.transformers.reference import (
    BaseModelOutputWithPooling,
    PreTrainedConfig,
    ReferenceForConditionalGeneration,
    ReferenceModel,
)
from audioflamingo.integrations.transformers.twin import Twin, twin_of
from audioflamingo.model.attention import has_flash_attn
from audioflamingo.model.flamingo import Flamingo

PROMPT_NAMES = {"input_ids", "inputs", "inputs_embeds"}


class AudioFlamingo3Model(ReferenceModel):  # type: ignore[misc]
    """Encoder, projector and decoder without the language-model head.

    Attributes:
        is_drafting: whether it drafts for another model now, for which transformers gives it ids and no sounds.
    """

    is_drafting = False
    _keys_to_ignore_on_load_unexpected = (r"lm_head\.",)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint without its head; see `AudioFlamingo3ForConditionalGeneration.from_pretrained`."""
        check_attention(kwargs.get("attn_implementation"))
        name = located(name)
        _check_architecture(name, kwargs)
        # Transformers maps the hub's names of the decoder for the model with a head alone.
        kwargs.setdefault("key_mapping", {r"^language_model\.model\.(model\.)?": "language_model."})
        found = load_all(super().from_pretrained, name, args, kwargs)
        forget_names(found[0] if isinstance(found, tuple) else found)
        return found

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._twin: Twin | str | None = None

    @property
    def twin(self) -> Twin | str:
        """Our model over this one's modules, made when first used; or why there is none."""
        if self._twin is None:
            self._twin = twin_of(self.config)
        return self._twin

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """See transformers.

        Raises:
            PromptError: placeholders and sounds do not agree.
        """
        if input_features is None and input_ids is not None and not (self.is_drafting or torch.compiler.is_compiling()):
            # Behind a filled cache the ids are the model's own, not a prompt.
            cache = cache_of(kwargs)
            if cache is None or not cache.get_seq_length():
                check_counts(input_ids, self.config.audio_token_id, 0)
        return super().forward(
            input_ids=input_ids, input_features=input_features, input_features_mask=input_features_mask, **kwargs
        )

    def get_audio_features(
        self, input_features: Tensor, input_features_mask: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Encode windows.

        Args:
            input_features: (W, bins, F) log-mels of any float dtype, on any device.
            input_features_mask: (W, F), 1 at valid mel frames; None takes all as valid.
            kwargs: as transformers has them; asking for hidden states or attentions runs its own encoder.

        Returns:
            `last_hidden_state` (W, F // 4, encoder width), zero past each window's end, and `pooler_output` (sum of A,
            decoder width), the embeddings of all audio tokens.
        """
        weight = self.audio_tower.conv1.weight
        check_features(input_features, weight.shape[1])
        features = input_features.to(device=weight.device, dtype=weight.dtype)
        if input_features_mask is None:
            input_features_mask = torch.ones_like(features[:, 0], dtype=torch.int32)
        mask = input_features_mask.to(weight.device)
        if isinstance(self.twin, str) or self._needs_reference_encoder(kwargs):
            return super().get_audio_features(features, mask, **kwargs)
        flamingo = self.twin.link_audio(self)
        encoded, counts = encode(flamingo.encoder, features, mask, at_once=self.training)
        output = BaseModelOutputWithPooling(
            last_hidden_state=padded(encoded, counts, features.shape[-1]), pooler_output=flamingo.projector(encoded)
        )
        return output if kwargs.get("return_dict", True) else output.to_tuple()

    def get_placeholder_mask(self, input_ids: Tensor, inputs_embeds: Tensor, audio_features: Tensor) -> Any:
        """The mask of placeholders, after a check of ours.

        Raises:
            PromptError: there are more or fewer placeholders than audio tokens.
        """
        if input_ids is not None and not torch.compiler.is_compiling():
            check_counts(input_ids, self.config.audio_token_id, audio_features.shape[0])
        return super().get_placeholder_mask(
            input_ids, inputs_embeds=inputs_embeds, audio_features=audio_features.to(inputs_embeds.device)
        )

    def _needs_reference_encoder(self, kwargs: Mapping[str, Any]) -> bool:
        config, tower = self.config.audio_config, self.audio_tower
        if any(
            kwargs.get(name) or getattr(config, name, False) for name in ("output_attentions", "output_hidden_states")
        ):
            return True
        if self.training and (tower.gradient_checkpointing or config.dropout or config.layerdrop):
            return True
        return against_model(self) is not None


class AudioFlamingo3ForConditionalGeneration(ThinkAdapters, ReferenceForConditionalGeneration):  # type: ignore[misc]
    """Audio Flamingo 3 in transformers, on our engine.

    Attributes:
        generated_on: after a `generate`, "engine", or why it ran on transformers' own loop.
    """

    config_class = AudioFlamingo3Config
    generated_on: str | None = None

    def __init__(self, config: Any) -> None:
        super(ReferenceForConditionalGeneration, self).__init__(config)
        self.model = AudioFlamingo3Model(config)
        self.lm_head = torch.nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, think: bool = False, **kwargs: Any) -> Any:
        """Load a checkpoint; see transformers for the keywords, `torch_dtype` is taken as `dtype`.

        Args:
            name: a folder or a hub id, written by transformers, by this package or by NVIDIA's converter; or "nano".
            args: as transformers has them.
            think: whether to load the adapter in the checkpoint's `think` folder, too.
            kwargs: as transformers has them.

        Raises:
            CheckpointError: it is of another architecture, tensors are missing, or the adapter does not fit.
            OptionError: `attn_implementation` is not available here.
        """
        if (dtype := kwargs.pop("torch_dtype", None)) is not None:
            kwargs.setdefault("dtype", dtype)
        check_attention(kwargs.get("attn_implementation"))
        name = located(name)
        _check_architecture(name, kwargs)
        found = load_all(super().from_pretrained, name, args, kwargs)
        if think:
            model = found[0] if isinstance(found, tuple) else found
            hub = {key: kwargs[key] for key in ("revision", "token", "cache_dir", "local_files_only") if key in kwargs}
            model.load_adapter(name, subfolder="think", **hub)
        return found

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Write what transformers and this package load, and the loader for `trust_remote_code=True`."""
        loader.write(save_directory)
        with loader.announced(self.config):
            super().save_pretrained(save_directory, *args, **kwargs)
        self.complete_adapter(save_directory)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoModel") -> None:
        """Nothing: our checkpoints carry a loader that imports this package, not copies of its source."""

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """See transformers. `generated_on` tells afterwards where it ran.

        Raises:
            PromptError: ids, masks and sounds do not belong together.
        """
        if kwargs.get("input_features") is not None and not (args or PROMPT_NAMES & kwargs.keys()):
            raise PromptError(
                "generate got input_features and no input_ids; make both with the processor: processor(text=..., "
                "audio=...), or processor.apply_transcription_request(audio)"
            )
        if (cache := cache_of(kwargs)) is not None:
            cache.given_by_caller = True
        self.generated_on = "transformers: the options ask for another decoding method than greedy or sampling"
        found = super().generate(*args, **kwargs)
        if self.generated_on != "engine":
            tell(self.generated_on.removeprefix("transformers: "))
        return found

    def _sample(
        self,
        input_ids: Tensor,
        logits_processor: Any,
        stopping_criteria: Any,
        generation_config: Any,
        synced_gpus: bool = False,
        streamer: Any = None,
        **model_kwargs: Any,
    ) -> Any:
        """The hook for greedy search and sampling, after all options are resolved."""
        twin = self.model.twin
        reason = (
            (twin if isinstance(twin, str) else None)
            or against_model(self)
            or against_call(generation_config, model_kwargs, synced_gpus=synced_gpus)
        )
        if reason is not None or isinstance(twin, str):
            self.generated_on = f"transformers: {reason}"
            self.model.is_drafting = bool(getattr(generation_config, "is_assistant", False))
            try:
                return super()._sample(
                    input_ids,
                    logits_processor,
                    stopping_criteria,
                    generation_config,
                    synced_gpus,
                    streamer,
                    **model_kwargs,
                )
            finally:
                self.model.is_drafting = False
        self.generated_on = "engine"
        choices = Choices(
            logits_processor=logits_processor,
            stopping_criteria=stopping_criteria,
            config=generation_config,
            streamer=streamer,
        )
        flamingo = twin.link(self)
        rows = self._rows(flamingo, input_ids, model_kwargs)
        return decode(flamingo, input_ids, rows, choices, KERNELS[self.config._attn_implementation])

    def _rows(self, flamingo: Flamingo, input_ids: Tensor, model_kwargs: Mapping[str, Any]) -> Rows:
        """The prompts of a batch as packed embeddings, padding left out."""
        embeddings, mask = model_kwargs.get("inputs_embeds"), model_kwargs.get("attention_mask")
        shown = input_ids if embeddings is None else embeddings[..., 0]
        mask = torch.ones_like(shown, dtype=torch.bool) if mask is None else mask.bool()
        lengths = check_rows(mask)
        if embeddings is not None:
            return Rows(embeddings[mask].to(flamingo.device), lengths)
        features, audio = model_kwargs.get("input_features"), None
        if features is not None:
            audio = self.get_audio_features(features, model_kwargs.get("input_features_mask")).pooler_output
            check_encoded(audio)
        check_ids(input_ids, flamingo.decoder.embed_tokens.weight.shape[0])
        check_counts(input_ids[mask], self.config.audio_token_id, 0 if audio is None else audio.shape[0])
        return Rows(flamingo.merge(input_ids[mask], audio), lengths)

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, is_encoder_decoder: bool = False, input_ids: Tensor | None = None, **kwargs: Any
    ) -> Any:
        """Repeat rows for beams and several answers, each with all of its windows.

        transformers repeats every window by itself, which gives the first window of a long sound to the first copy of
        its row and the second to the second.
        """
        features, mask = kwargs.pop("input_features", None), kwargs.pop("input_features_mask", None)
        if features is not None and mask is None:
            mask = torch.ones_like(features[:, 0], dtype=torch.int32)
        expanded_ids, expanded = super()._expand_inputs_for_generation(
            expand_size=expand_size, is_encoder_decoder=is_encoder_decoder, input_ids=input_ids, **kwargs
        )
        if features is None:
            return expanded_ids, expanded
        if expand_size > 1 and input_ids is not None and input_ids.shape[1]:
            placeholders = (input_ids == self.config.audio_token_id).sum(-1).tolist()
            groups = windows_of_rows(placeholders, audio_tokens_of_windows(mask))
            order = torch.tensor([window for group in groups for window in group * expand_size], device=features.device)
            features, mask = features[order], mask[order.to(mask.device)]
        return expanded_ids, {**expanded, "input_features": features, "input_features_mask": mask}


def check_attention(implementation: Any) -> None:
    """Check that an `attn_implementation` can run here.

    Raises:
        OptionError: it cannot, with what can.
    """
    if implementation != "flash_attention_2":
        return
    missing = []
    if not has_flash_attn():
        missing.append("the flash-attn package (pip install flash-attn)")
    if not torch.cuda.is_available():
        missing.append("an NVIDIA GPU")
    if missing:
        raise OptionError(
            f"attn_implementation='flash_attention_2' needs {' and '.join(missing)}; 'sdpa' and 'eager' run here"
        )


def _check_architecture(name: str | os.PathLike[str], kwargs: Mapping[str, Any]) -> None:
    config = kwargs.get("config")
    hub_names = ("revision", "token", "cache_dir", "local_files_only", "subfolder", "proxies", "force_download")
    if isinstance(config, PreTrainedConfig):
        found = config.model_type
    else:
        hub = {key: kwargs[key] for key in hub_names if key in kwargs}
        found = PreTrainedConfig.get_config_dict(config or name, **hub)[0].get("model_type")
    if found != MODEL_TYPE:
        raise CheckpointError(
            f"{name} is a checkpoint of {found or 'no model type'}, expected {MODEL_TYPE}; load it with its own class"
        )
