"""The files of an adapter's folder, and its tensors under the names that transformers' model has today."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.model.weights.names import SPELLINGS, from_ours, to_ours
from audioflamingo.model.weights.read import read_json

CONFIG_FILE = "adapter_config.json"
LORA_FILE = "adapter_model.safetensors"
EXTRA_NAME = "non_lora_trainables"
HUB_OPTIONS = ("revision", "token", "cache_dir", "local_files_only")
PEFT_PREFIX = "base_model.model."
# NVIDIA's own folders as modules of one model.
_AS_FOLDERS = {f"{folder}.": f"{folder}/" for folder in ("llm", "sound_tower", "sound_mm_projector")}


@dataclass(frozen=True)
class Adapter:
    """What a folder holds.

    Attributes:
        folder: where it was read.
        config: PEFT's LoraConfig.
        lora: `lora_A` (rank, in) and `lora_B` (out, rank) of each adapted module.
        extra: tensors that replace parameters of the base model.
        unmatched: what cannot be a tensor of this architecture, as complaints.
    """

    folder: Path
    config: Any
    lora: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    extra: dict[str, Tensor] = field(default_factory=dict)
    unmatched: list[str] = field(default_factory=list)


def has_extra_tensors(folder: str | os.PathLike[str]) -> bool:
    """Whether a local folder holds an adapter with tensors beside LoRA's."""
    return any((Path(folder) / f"{EXTRA_NAME}{suffix}").is_file() for suffix in (".safetensors", ".bin"))


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


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter's files; nothing in them is run.

    Raises:
        CheckpointError: one is missing or broken, or it is not LoRA.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise CheckpointError("adapters need the peft package: pip install peft") from error
    if (kind := read_json(folder / CONFIG_FILE).get("peft_type")) != "LORA":
        raise CheckpointError(
            f"{folder / CONFIG_FILE} has peft_type {kind!r}; only LORA can be loaded with its tensors"
        )
    adapter = Adapter(folder, LoraConfig.from_pretrained(str(folder)))
    for name, tensor in {**_read(folder / LORA_FILE), **_read_extra(folder)}.items():
        _sort_in(adapter, name, tensor)
    return adapter


def write_extra_tensors(folder: str | os.PathLike[str], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors that replace parameters, under the hub's names."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    named = {from_ours(to_ours(name, "transformers") or name, "legacy"): one for name, one in tensors.items()}
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in named.items()}
    save_file(contiguous, Path(folder) / f"{EXTRA_NAME}.safetensors", metadata={"format": "pt"})


def current_name(name: str) -> str | None:
    """Today's name in transformers' model of a tensor in any spelling, or None."""
    name = name.removeprefix(PEFT_PREFIX)
    for module, folder in _AS_FOLDERS.items():
        name = folder + name.removeprefix(module) if name.startswith(module) else name
    # An older spelling may be a prefix of a newer one, so today's is asked first.
    for spelling in sorted(SPELLINGS, key=lambda one: one != "transformers"):
        if (ours := to_ours(name, spelling)) is not None:
            return from_ours(ours, "transformers")
    return None


def _sort_in(adapter: Adapter, name: str, tensor: Tensor) -> None:
    path, is_lora, rest = name.partition(".lora_")
    current = current_name(f"{path}.weight" if is_lora else name.replace(".modules_to_save", ""))
    kind = f"lora_{rest.split('.')[0]}" if is_lora else ""
    if current is None or (is_lora and kind not in ("lora_A", "lora_B")):
        adapter.unmatched.append(f"{name} is no tensor of this architecture")
    elif is_lora:
        adapter.lora.setdefault(current.removesuffix(".weight"), {})[kind] = tensor
    else:
        adapter.extra[current] = tensor


def _read_extra(folder: Path) -> dict[str, Tensor]:
    if (folder / f"{EXTRA_NAME}.safetensors").is_file():
        return _read(folder / f"{EXTRA_NAME}.safetensors")
    path = folder / f"{EXTRA_NAME}.bin"
    if not path.is_file():
        return {}
    try:
        # Only tensors in plain containers are unpickled; anything that could run is refused.
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is not a file of tensors alone: {str(error).splitlines()[0][:120]}") from error
    if not isinstance(found, dict) or not all(isinstance(tensor, Tensor) for tensor in found.values()):
        raise CheckpointError(f"{path} does not hold a dict of tensors")
    return {str(name): tensor for name, tensor in found.items()}


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; an adapter's tensors are read from safetensors")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is not a readable safetensors file: {str(error)[:100]}") from error


def _download(name: str, subfolder: str | None, options: Mapping[str, Any]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [f"{subfolder}/*" if subfolder else "*"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, **options))
    except Exception as error:  # of several network libraries, by version; for a user all mean the same
        raise CheckpointError(
            f"{name} is not a folder here and could not be had from the hub ({type(error).__name__}); give a folder"
        ) from error
