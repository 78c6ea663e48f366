"""The peer: transformers' own class, on tensors of ours or from a folder, doing the work of each row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from audioflamingo.audio import NUM_MEL_BINS, split_windows
from audioflamingo.bench.timing import synchronize
from audioflamingo.config import ModelConfig
from audioflamingo.errors import OptionError
from audioflamingo.model.weights.names import to_ours
from audioflamingo.types import SAMPLE_RATE_HZ, Prompt


def transformers_module() -> Any:
    """The package, whose classes are not typed.

    Raises:
        OptionError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise OptionError(
            "--beside transformers needs the package: pip install 'audioflamingo[transformers]'"
        ) from error
    return transformers


def assembled_reference(config: ModelConfig, state: dict[str, Tensor]) -> Any:
    """Transformers' class on the very tensors of a state of ours, without a copy."""
    package = transformers_module()
    device = next(iter(state.values())).device
    with torch.device("meta"):
        model = package.AudioFlamingo3ForConditionalGeneration(package.AudioFlamingo3Config(**config.to_dict())).eval()
    names = {name: to_ours(name, "transformers") or to_ours(name, "legacy") for name in model.state_dict()}
    model.load_state_dict({theirs: state[str(ours)] for theirs, ours in names.items()}, assign=True)
    text = model.model.language_model
    text.rotary_emb = type(text.rotary_emb)(config=text.config).to(device)  # its buffers are in no state dict
    shared = model.get_input_embeddings().weight.data_ptr() == state["decoder.embed_tokens.weight"].data_ptr()
    assert shared, "transformers copied the weights"
    assert not any(buffer.is_meta for buffer in model.buffers())
    model.requires_grad_(False)
    return model


@dataclass(frozen=True)
class Inputs:
    """A batch as transformers takes it: all prompts of one length, features on the device in its dtype."""

    ids: Tensor
    features: Tensor
    mask: Tensor

    def as_dict(self) -> dict[str, Tensor]:
        """Keyword arguments of the model."""
        return {
            "input_ids": self.ids,
            "attention_mask": torch.ones_like(self.ids),
            "input_features": self.features,
            "input_features_mask": self.mask,
        }


class Reference:
    """The peer's work. Features are made before the clock starts: its own extractor runs on the CPU (see `log_mel`)."""

    def __init__(self, model: Any) -> None:
        package = transformers_module()
        package.utils.logging.disable_progress_bar()
        self.model = model
        self.extractor = package.WhisperFeatureExtractor(feature_size=NUM_MEL_BINS)
        self._generation_config = package.GenerationConfig

    def log_mel(self, windows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """(W, 128, 3000) features and (W, 3000) mask, on the CPU."""
        out = self.extractor(
            list(windows), sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True
        )
        return out["input_features"], out["attention_mask"]

    def features(self, windows: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """The same on the device, in the weights' dtype."""
        mel, mask = self.log_mel(windows)
        return mel.to(self.model.device, self.model.dtype), mask.to(self.model.device)

    def inputs(self, prompts: Sequence[Prompt]) -> Inputs:
        """A batch of prompts of equal length."""
        windows = [window for prompt in prompts for audio in prompt.audios for window in split_windows(audio.samples)]
        ids = torch.tensor([prompt.ids for prompt in prompts], device=self.model.device)
        return Inputs(ids, *self.features(windows))

    @torch.inference_mode()
    def encode(self, features: Tensor, mask: Tensor) -> object:
        """Encoder and projector."""
        return self.model.get_audio_features(features, mask)

    @torch.inference_mode()
    def first_token(self, inputs: Inputs) -> int:
        """From features and ids to the first token's id on the host."""
        out = self.model(**inputs.as_dict(), use_cache=True, logits_to_keep=1)
        return int(out.logits[0, -1].argmax())

    def generate(self, inputs: Inputs, num_tokens: int) -> Tensor:
        """So many tokens for every prompt, greedy."""
        return self.generate_from(inputs.as_dict(), num_tokens)

    def step_s(self, inputs: Mapping[str, Tensor], num_steps: int) -> float:
        """Seconds of one decode step: from the first token's arrival on, over so many steps."""
        arrivals: list[float] = []

        def note(ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
            synchronize(ids.device)
            arrivals.append(time.perf_counter())
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

        self.generate_from(inputs, 1 + num_steps, stopping_criteria=[note])
        return (arrivals[-1] - arrivals[0]) / num_steps

    @torch.inference_mode()
    def generate_from(self, inputs: Mapping[str, Tensor], num_tokens: int, **options: Any) -> Tensor:
        """So many tokens from what its own processor gives; `options` are those of transformers' `generate`."""
        settings = self._generation_config(
            do_sample=False, max_new_tokens=num_tokens, min_new_tokens=num_tokens, pad_token_id=0, eos_token_id=None
        )
        out: Tensor = self.model.generate(**inputs, generation_config=settings, **options)
        assert out.shape[1] - inputs["input_ids"].shape[1] == num_tokens, "transformers ended early"
        return out

    def loader(self, folder: Any) -> Callable[[], object]:
        """Loads a folder as its users do."""
        package, device, dtype = transformers_module(), self.model.device, self.model.dtype

        def load() -> object:
            # A device map reads straight to the GPU; without it, weights pass through a whole copy on the CPU.
            where = {"device_map": {"": device}} if device.type != "cpu" else {}
            return package.AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=dtype, **where)

        return load
