"""Checkpoints of a run: they appear under their name only when they are whole, and the newest few are kept.

What lies whole in every process is written as safetensors; what is in shards by torch.distributed.checkpoint, each
process its own pieces, to be read by any number of processes. The index of the latter is a pickle: open only folders
that your own runs wrote. Adapters are whole even where their base is in shards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.train.distributed import Processes, is_divided
from audioflamingo.train.explained import as_os_error, remedy

STATE_FILE = "state.json"
TENSORS_FILE = "tensors.safetensors"
SHARDS_FOLDER = "shards"
_NAME = re.compile(r"step-(\d{8})")


def save(
    folder: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any], processes: Processes, *, keep: int
) -> Path:
    """Write a checkpoint and remove the oldest beyond `keep`.

    Args:
        folder: of all checkpoints of a run.
        tensors: what to keep, on any device.
        state: what to keep besides, as JSON; its "step" names the checkpoint.
        processes: of the run; all of them must call.
        keep: how many to keep, at least 1.

    Raises:
        CheckpointError: it cannot be written; earlier ones are untouched.
    """
    path = folder / f"step-{state['step']:08}"
    partial = path.with_suffix(".partial")
    try:
        if processes.is_first:
            _remove_partials(folder)
            partial.mkdir(parents=True)
        processes.wait()
        _write(partial, tensors, processes)
        processes.wait()
        if processes.is_first:
            _finish(partial, path, state)
            for old in complete(folder)[:-keep]:
                _remove(old)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise CheckpointError(
            f"the checkpoint {path} cannot be written ({error.strerror}); {remedy(error)} and start again with the "
            "same --out: the run goes on from the checkpoint before"
        ) from error
    processes.wait()
    return path


def complete(folder: Path) -> list[Path]:
    """Checkpoints of a run, the newest last."""
    return sorted(path for path in folder.glob("step-*") if _NAME.fullmatch(path.name))


def read_state(path: Path) -> dict[str, Any]:
    """What was saved besides tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
        if not isinstance(state, dict) or not isinstance(state.get("step"), int):
            raise ValueError("it has no step")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint {path} is damaged ({str(error)[:80]}); remove it") from error
    return state


def restore(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill the given tensors, in place, with what a checkpoint holds under their names.

    Raises:
        CheckpointError: names or shapes differ, or a file is damaged; nothing is to be used then.
    """
    if _in_shards(tensors):
        from torch.distributed.checkpoint.state_dict_loader import load as load_shards

        load_shards(dict(tensors), checkpoint_id=path / SHARDS_FOLDER)
        return
    try:
        with safe_open(path / TENSORS_FILE, framework="pt") as file:
            if set(file.keys()) != set(tensors):
                raise CheckpointError(f"the checkpoint {path} holds other tensors than this run trains")
            for name, tensor in tensors.items():
                tensor.copy_(file.get_tensor(name))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used ({str(error)[:100]}); remove it") from error


def _write(partial: Path, tensors: Mapping[str, Tensor], processes: Processes) -> None:
    if _in_shards(tensors):
        from torch.distributed.checkpoint.state_dict_saver import save as save_shards

        save_shards(dict(tensors), checkpoint_id=partial / SHARDS_FOLDER)
    elif processes.is_first:
        try:
            save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, partial / TENSORS_FILE)
        except SafetensorError as error:
            raise as_os_error(error) from error


def _in_shards(tensors: Mapping[str, Tensor]) -> bool:
    return any(is_divided(tensor) for tensor in tensors.values())


def _finish(partial: Path, path: Path, state: Mapping[str, Any]) -> None:
    """To the disk, then under the final name: a power cut leaves the whole or nothing."""
    (partial / STATE_FILE).write_text(json.dumps(dict(state)) + "\n", encoding="utf-8")
    for file in (*partial.rglob("*"), partial):
        _sync(file)
    if path.exists():
        _remove(path)
    partial.rename(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    """Renamed first: a removal that is interrupted must not leave half a checkpoint under its name."""
    doomed = path.with_suffix(".partial")
    path.rename(doomed)
    shutil.rmtree(doomed)


def _remove_partials(folder: Path) -> None:
    for path in folder.glob("step-*.partial"):
        shutil.rmtree(path)
