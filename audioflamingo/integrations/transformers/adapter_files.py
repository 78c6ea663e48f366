"""An adapter's folder, read as `audioflamingo.think` reads it, under the names that transformers' model has today."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.model.weights.names import from_ours, to_ours
from audioflamingo.think.adapter import config_complaints, incomplete, refuse, unsaved
from audioflamingo.think.files import CONFIG_FILE, TABLE_FILES, read_config, read_tensors
from audioflamingo.think.names import target_of

HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")
BYTES_PER_VALUE = 4  # at most: adapters are written in fp32 or less
_KINDS = {"down": "lora_A", "up": "lora_B"}


@dataclass(frozen=True)
class Adapter:
    """What a folder holds, all of it checked against the model.

    Attributes:
        folder: where it was read.
        config: PEFT's LoraConfig.
        lora: `lora_A` (rank, in) and `lora_B` (out, rank) of each adapted module.
        extra: tensors that replace parameters of the base model.
    """

    folder: Path
    config: Any
    lora: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)


def has_extra_tensors(folder: str | os.PathLike[str]) -> bool:
    """Whether a local folder holds an adapter with tensors beside LoRA's."""
    return any((Path(folder) / name).is_file() for name in TABLE_FILES)


def find_folder(name: str | os.PathLike[str], subfolder: str | None, options: Mapping[str, Any]) -> Path:
    """An adapter's folder, downloaded first where the name is a hub id.

    Raises:
        CheckpointError: there is none.
    """
    unknown = [option for option in options if option not in HUB_OPTIONS]
    if unknown:
        raise CheckpointError(f"load_adapter with a subfolder does not take {', '.join(unknown)}; leave it out")
    root = Path(name)
    if not root.is_dir():
        root = _download(str(name), subfolder, options)
    folder = root / subfolder if subfolder else root
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} holds no {CONFIG_FILE}; give the folder of an adapter")
    return folder


def read_adapter(folder: Path, model: Any) -> Adapter:
    """Read an adapter's files for a model; nothing in them is run.

    Args:
        folder: what holds them.
        model: transformers' model, with or without LoRA layers in it.

    Raises:
        CheckpointError: a file is missing, too large or broken, or anything in them does not fit; all complaints at
            once.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise CheckpointError("adapters need the peft package: pip install peft") from error
    config = read_config(folder)
    refuse(folder, list(config_complaints(config)))
    names, base = _base_of(model)
    found, tables, complaints = _sorted_in(read_tensors(folder, _num_bytes(base)), base)
    modules = {names[f"{module}.weight"].removesuffix(".weight"): pair for module, pair in found.items()}
    layers = dict(model.named_modules())
    for module, pair in modules.items():
        complaints += _pair_complaints(module, pair, layers.get(module), config["r"])
    for name, tensor in tables.items():
        if tensor.shape != base[name].shape:
            complaints.append(f"{names[name]} is {tuple(tensor.shape)}, in the model {tuple(base[name].shape)}")
    complaints += unsaved(config, (name.removesuffix(".weight") for name in tables))
    refuse(folder, complaints or list(incomplete(found, config, base)))
    return Adapter(
        folder,
        LoraConfig.from_pretrained(str(folder)),
        modules,
        {names[name]: tensor for name, tensor in tables.items()},
    )


def write_extra_tensors(folder: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors that replace parameters, under the hub's names."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    named = {from_ours(to_ours(name, "transformers") or name, "legacy"): one for name, one in tensors.items()}
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in named.items()}
    save_file(contiguous, Path(folder) / TABLE_FILES[0], metadata={"format": "pt"})


def _base_of(model: Any) -> tuple[dict[str, str], dict[str, Tensor]]:
    """The model's own names by ours, and its parameters by ours; what adapters brought is left out."""
    names: dict[str, str] = {}
    base: dict[str, Tensor] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        name = path.replace(".base_layer.", ".")
        ours = to_ours(name, "transformers")
        if ours is not None and ".lora_" not in name:
            names[ours], base[ours] = name, parameter
    return names, base


def _num_bytes(base: Mapping[str, Tensor]) -> int:
    return BYTES_PER_VALUE * sum(tensor.numel() for tensor in base.values())


def _sorted_in(
    tensors: Mapping[str, Tensor], base: Mapping[str, Tensor]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor], list[str]]:
    """Halves of pairs by module, whole tensors by name, and what is neither, as complaints."""
    pairs: dict[str, dict[str, Tensor]] = {}
    tables: dict[str, Tensor] = {}
    complaints: list[str] = []
    for key, tensor in tensors.items():
        target = target_of(key, base)
        if target is None:
            complaints.append(f"no such tensor in the model: {key[:200]}")
            continue
        place, name = (tables, target.tensor) if target.role == "table" else (
            pairs.setdefault(target.module, {}), _KINDS[target.role])  # fmt: skip
        if name in place:
            complaints.append(f"stored more than once: {key[:200]}")
        place[name] = tensor
    return pairs, tables, complaints


def _pair_complaints(path: str, pair: Mapping[str, Tensor], module: Any, rank: int) -> list[str]:
    if not hasattr(module, "in_features"):
        return [f"{path} is not a linear layer of the model"]
    expected = {"lora_A": (rank, module.in_features), "lora_B": (module.out_features, rank)}
    found = {kind: tuple(tensor.shape) for kind, tensor in sorted(pair.items())}
    return [] if found == expected else [f"{path} has {found}, expected {expected}"]


def _download(name: str, subfolder: str | None, options: Mapping[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [f"{subfolder}/*" if subfolder else "*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except Exception as error:  # of several network libraries, by version; for a user all mean the same
        raise CheckpointError(
            f"{name} is not a folder here and could not be had from the hub ({type(error).__name__}); give a folder"
        ) from error
