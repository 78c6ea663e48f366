"""Writing checkpoints in the form that transformers 5 and this package both load, all of it or nothing."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights.names import from_ours
from audioflamingo.model.weights.read import DTYPES

MAX_SHARD_BYTES = 5_000_000_000


def save_flamingo(
    model: Flamingo,
    folder: str | Path,
    *,
    dtype: torch.dtype | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    overwrite: bool = False,
) -> None:
    """Write config.json and safetensors under the hub's names; the folder appears complete or not at all.

    Args:
        model: what to write, on any device; one shard at a time is held in host memory.
        folder: a new or an empty folder.
        dtype: a floating dtype to cast to; None keeps the model's own.
        max_shard_bytes: size above which weights are split into several files with an index.
        overwrite: replace the weights and config.json of an existing folder; its other files (a tokenizer) are kept.

    Raises:
        CheckpointError: the folder has content and `overwrite` is not set, or the model has tensors of no checkpoint
            (adapters to be merged first, quantized weights).
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and (overwrite or not any(folder.iterdir()))):
        raise CheckpointError(f"{folder} exists already; choose another folder or pass overwrite=True")
    dtype = dtype or model.dtype
    tensors = _checked(model, dtype)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    partial.mkdir(parents=True)
    try:
        _write(model, tensors, partial, dtype, max_shard_bytes)
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def plan_shards(sizes: dict[str, int], max_shard_bytes: int) -> list[list[str]]:
    """Names in their order, cut into runs of at most the given bytes; a larger tensor gets a file of its own."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name, size in sizes.items():
        if shards[-1] and filled + size > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += size
    return shards


def _checked(model: Flamingo, dtype: torch.dtype) -> dict[str, Tensor]:
    tensors = model.state_dict()
    expected = {name: tensor.shape for name, tensor in skeleton(model.config).state_dict().items()}
    wrong = sorted(name for name in tensors.keys() | expected.keys() if _shape(tensors, name) != expected.get(name))
    wrong += sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point() or tensor.is_meta)
    if wrong:
        raise CheckpointError(
            f"the model cannot be written: {len(wrong)} tensors are not those of its configuration, first "
            f"{', '.join(wrong[:3])}; merge adapters and save before quantizing"
        )
    if dtype not in DTYPES.values():
        raise CheckpointError(f"dtype is {dtype}; expected one of {', '.join(map(str, DTYPES.values()))}")
    return tensors


def _shape(tensors: dict[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _write(model: Flamingo, tensors: dict[str, Tensor], folder: Path, dtype: torch.dtype, max_shard_bytes: int) -> None:
    config = model.config.to_dict() | {"dtype": str(dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    sizes = {name: tensor.numel() * dtype.itemsize for name, tensor in tensors.items()}
    shards = plan_shards(sizes, max_shard_bytes)
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        shard = {from_ours(name, "legacy"): tensors[name].to("cpu", dtype).contiguous() for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
        # safetensors writes for the owner alone; what others may read is the umask's to say, as for any other file.
        (folder / file).chmod((folder / "config.json").stat().st_mode)
        weight_map |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _replace(partial: Path, folder: Path) -> None:
    """Put the finished folder in place; what else an earlier one held comes along."""
    if not folder.exists():
        partial.rename(folder)
        return
    for path in folder.iterdir():
        if path.name == "config.json" or path.name.endswith((".safetensors", ".safetensors.index.json")):
            continue
        if path.is_dir():
            shutil.copytree(path, partial / path.name, symlinks=True)
        else:
            shutil.copy2(path, partial / path.name, follow_symlinks=False)
    aside = partial.with_suffix(".old")
    folder.rename(aside)
    try:
        partial.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
    shutil.rmtree(aside)
