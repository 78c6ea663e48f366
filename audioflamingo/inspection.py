"""What a checkpoint is, without loading its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from audioflamingo.config import WINDOW_S, ModelConfig
from audioflamingo.engine.options import Options, checkpoint_options
from audioflamingo.model.skeleton import num_parameters, skeleton
from audioflamingo.model.weights import load_config, resolve
from audioflamingo.model.weights.read import DTYPES, inventory, is_nvidia, match
from audioflamingo.think import adapter_folder


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
    }


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
