"""The files of an adapter's folder, opened with bounds: JSON and safetensors, and pickled tensors without their code.

`non_lora_trainables.bin` is a pickle. It is read with torch's `weights_only` reader, which builds tensors and nothing
else, and only if it is a plain archive of bounded size.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.model.weights.read import read_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
TABLE_FILES = ("non_lora_trainables.safetensors", "non_lora_trainables.bin")
SLACK_BYTES = 16 << 20  # headers, names, alignment
MAX_TENSORS = 20_000


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`.

    Raises:
        CheckpointError: absent, too large, or no JSON object.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise CheckpointError(f"{folder} has no {CONFIG_FILE}; an adapter's folder holds it and {WEIGHTS_FILE}")
    return read_json(folder / CONFIG_FILE)


def read_tensors(folder: Path, max_bytes: int) -> dict[str, Tensor]:
    """All tensors of an adapter by their keys, on the CPU.

    Args:
        folder: what holds the files.
        max_bytes: most bytes that each file may hold; beyond it, it cannot belong to this model.

    Raises:
        CheckpointError: a file is missing, too large, or corrupt, or two of them hold the same key.
    """
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise CheckpointError(f"{folder} has no {WEIGHTS_FILE}; half an adapter is not used, download it again")
    found = _read(weights, max_bytes)
    tables = [folder / name for name in TABLE_FILES if (folder / name).is_file()]
    if len(tables) > 1:
        raise CheckpointError(f"{folder} holds both {' and '.join(TABLE_FILES)}; leave only one there")
    for path in tables:
        extra = _read(path, max_bytes)
        twice = sorted(found.keys() & extra.keys())
        if twice:
            raise CheckpointError(f"{path.name} and {WEIGHTS_FILE} both hold {', '.join(twice[:3])}")
        found |= extra
    return found


def _read(path: Path, max_bytes: int) -> dict[str, Tensor]:
    size = path.stat().st_size
    if size > max_bytes + SLACK_BYTES:
        raise CheckpointError(
            f"{path} has {size:,} bytes; an adapter of this model has at most {max_bytes + SLACK_BYTES:,}. "
            "It belongs to another base model"
        )
    tensors: dict[str, Tensor]
    if path.suffix == ".safetensors":
        try:
            tensors = load_file(path)
        except (SafetensorError, OSError) as error:
            why = f"{str(error)[:100]}; fetch it again"
            raise CheckpointError(f"{path} is not a readable safetensors file: {why}") from error
    else:
        tensors = _read_pickled(path, max_bytes)
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{path} holds {len(tensors):,} tensors; at most {MAX_TENSORS:,} are read")
    return tensors


def _read_pickled(path: Path, max_bytes: int) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(path) as archive:  # what it unpacks to, not only what it takes on the disk
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max_bytes + SLACK_BYTES:
            raise CheckpointError(f"{path} unpacks to {unpacked:,} bytes; at most {max_bytes + SLACK_BYTES:,} are read")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (zipfile.BadZipFile, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path} is not an archive of plain tensors ({' '.join(str(error).split())[:100]}); nothing else is "
            "opened. Where you trust it, write its tensors with safetensors as non_lora_trainables.safetensors"
        ) from error
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    ):
        raise CheckpointError(f"{path} holds something else than tensors by name")
    return found
