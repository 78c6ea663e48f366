"""What a checkpoint is, without loading its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from audioflamingo.config import AUDIO_TOKENS_PER_WINDOW, WINDOW_S, ModelConfig
from audioflamingo.engine.options import Options, checkpoint_options
from audioflamingo.engine.scheduler import Limits
from audioflamingo.model.quantize import SCHEMES
from audioflamingo.model.skeleton import num_parameters, skeleton
from audioflamingo.model.weights import load_config, resolve
from audioflamingo.model.weights.read import DTYPES, inventory, is_nvidia, match
from audioflamingo.think import adapter_folder

MEMORY_PROMPT_S = 30  # of sound in the prompt whose memory is told
MEMORY_TEXT_TOKENS = 1_000  # of question and answer beside it
AUDIO_TOKENS_PER_S = AUDIO_TOKENS_PER_WINDOW // WINDOW_S


def inspect_model(name: str | Path) -> dict[str, Any]:
    """What `AudioFlamingo.info` tells, read from the checkpoint's headers: its tensors are checked but not loaded.

    Raises:
        CheckpointError: there is no such model, or it is broken.
    """
    folder = resolve(name)
    config = load_config(folder)
    shapes = {key: tuple(tensor.shape) for key, tensor in skeleton(config).state_dict().items()}
    stored = match(folder, inventory(folder), shapes).values()
    defaults = checkpoint_options(text_folder(folder), config.decoder.max_positions)
    dtypes = sorted({str(DTYPES[tensor.dtype]).removeprefix("torch.") for tensor in stored})
    return {
        "name": str(name),
        "folder": str(folder),
        "dtype": ", ".join(dtypes),
        "thinks": adapter_folder(folder) is not None,
        **describe(config, defaults),
        "memory": memory(config, DTYPES[max(stored, key=lambda tensor: tensor.source.num_values).dtype]),
    }


def memory(config: ModelConfig, dtype: torch.dtype) -> dict[str, Any]:
    """Bytes that the model takes once it is loaded, before they are spent.

    Args:
        config: its shape.
        dtype: of the checkpoint.

    Returns:
        For a GPU and a CPU and each way of storing it: `weights`, `kv_per_1000_tokens`,
        `kv_int8_per_1000_tokens`, and `peak`, which is weights, cache and intermediate results for a prompt of
        `prompt_s` of sound.
    """
    from audioflamingo.model.quantize.footprint import footprint  # plain models start sooner without

    found: dict[str, Any] = {"prompt_s": MEMORY_PROMPT_S}
    for device, scheme in ((device, scheme) for device in ("gpu", "cpu") for scheme in (None, *SCHEMES)):
        plain = torch.float32 if device == "cpu" and scheme is None else dtype
        bytes_ = footprint(
            config,
            scheme,
            num_tokens=MEMORY_PROMPT_S * AUDIO_TOKENS_PER_S + MEMORY_TEXT_TOKENS,
            chunk_tokens=Limits().prefill_tokens,
            dtype=plain,
            on_cpu=device == "cpu",
        )
        found.setdefault(device, {})[scheme or str(plain).removeprefix("torch.")] = asdict(bytes_)
    return found


def describe(config: ModelConfig, defaults: Options) -> dict[str, Any]:
    """Size, limits and default options of a model of this shape, as plain values."""
    return {
        "num_parameters": num_parameters(config),
        "max_positions": config.decoder.max_positions,
        "max_audio_s": defaults.max_windows * WINDOW_S,
        "shape": config.summary(),
        "options": asdict(defaults),
    }


def text_folder(folder: Path) -> Path:
    """Where the tokenizer, the template and the defaults of a checkpoint are."""
    return folder / "llm" if is_nvidia(folder) else folder
