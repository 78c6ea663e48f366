"""The weights that an adapter stands on, as transformers' model holds them; see `audioflamingo.think.base`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from audioflamingo.model.fingerprint import Fingerprint, taken
from audioflamingo.model.weights.names import to_ours
from audioflamingo.think.base import check_base, state_base
from audioflamingo.think.files import CONFIG_FILE, WEIGHTS_FILE, read_config

REMEDY = "load_adapter(..., any_base=True)"
_OF_ADAPTERS = (".lora_", ".modules_to_save.")
_WRAPPED = (".base_layer.", ".original_module.")


def weights_of(model: Any, replaced: Mapping[str, Tensor]) -> Fingerprint:
    """The fingerprint of the base, whatever adapters are in the model.

    Layers into which PEFT merged an adapter hold other values for as long; they do not count, and neither does what
    lies on the meta device or in another library's few bits.

    Args:
        model: transformers' model.
        replaced: the base's own tensors of those that an adapter replaced, by their names in the model.
    """
    hidden = {id(layer.base_layer.weight) for layer in model.modules() if _is_merged(layer)}
    tensors: dict[str, Tensor] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        if any(part in path for part in _OF_ADAPTERS):
            continue
        name = path
        for wrapper in _WRAPPED:
            name = name.replace(wrapper, ".")
        if (ours := to_ours(name, "transformers")) is not None:
            is_hidden = id(parameter) in hidden
            tensors[ours] = torch.empty(0) if is_hidden else replaced.get(name, parameter)
    return taken(tensors)


def check(model: Any, folder: Path, replaced: Mapping[str, Tensor]) -> None:
    """Refuse an adapter in a folder that was trained on other weights than the model's.

    Raises:
        CheckpointError: it was.
    """
    if (folder / CONFIG_FILE).is_file():
        name = str(vars(model).get("name_or_path") or "this model")
        check_base(folder, read_config(folder), weights_of(model, replaced), name, REMEDY)


def folder_of(name: str | os.PathLike[str], options: Mapping[str, Any]) -> Path | None:
    """Where an adapter's files are, downloaded if need be; None where transformers will say what is wrong."""
    if Path(name).is_dir():
        return Path(name)
    quiet = {f"_raise_exceptions_for_{what}": False for what in ("gated_repo", "missing_entries", "connection_errors")}
    try:
        files = [cached_file(str(name), file, **options, **quiet) for file in (CONFIG_FILE, WEIGHTS_FILE)]
    except (OSError, ValueError):
        return None
    return Path(str(files[1])).parent if all(files) else None


def state(model: Any, folder: str | os.PathLike[str], replaced: Mapping[str, Tensor]) -> None:
    """Write the base's fingerprint into an adapter that transformers has saved."""
    if (file := Path(folder) / WEIGHTS_FILE).is_file():
        state_base(file, weights_of(model, replaced))


def _is_merged(layer: Any) -> bool:
    return hasattr(layer, "base_layer") and bool(getattr(layer, "merged", False))
