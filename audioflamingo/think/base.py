"""What an adapter says of itself in its safetensors header: the base that it was trained on, and how its thoughts end.

The header's metadata is a place that PEFT keeps and does not look at; of a key that it does not know in its
configuration it warns. Adapters without it, NVIDIA's and older ones, are loaded as they always were.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from audioflamingo.errors import CheckpointError
from audioflamingo.model.fingerprint import Fingerprint
from audioflamingo.think.files import WEIGHTS_FILE

BASE_KEY = "base_weights"
STYLE_KEY = "think_style"
NAME_KEY = "base_model_name_or_path"
MAX_SHOWN = 2
LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


def state_base(file: Path, weights: Fingerprint) -> None:
    """Write the base's fingerprint into an adapter's safetensors file; one of which no value is known is not written.

    Args:
        file: with the adapter's tensors.
        weights: of the base.
    """
    if not weights.is_empty:
        state(file, {BASE_KEY: weights.dumps()})


def state(file: Path, entries: Mapping[str, str]) -> None:
    """Write entries into the header of a safetensors file, beside those that it has; the tensors stay as they are.

    Not left to the library that writes such files: it puts two entries in an order that differs from run to run.

    Args:
        file: with an adapter's tensors.
        entries: text by name.
    """
    partial = file.with_name(f"{file.name}.stated")
    with open(file, "rb") as old, open(partial, "wb") as new:
        (num_bytes,) = struct.unpack("<Q", old.read(LENGTH_BYTES))
        header = json.loads(old.read(num_bytes))
        header["__metadata__"] = header.get("__metadata__", {}) | dict(entries)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
        new.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(old, new)
    os.replace(partial, file)


def stated_style(folder: str | os.PathLike[str]) -> str | None:
    """How the thoughts of an adapter end, "tags" or "free", or None where its header does not say.

    Raises:
        CheckpointError: the header cannot be read.
    """
    return _stated(Path(folder) / WEIGHTS_FILE, STYLE_KEY)


def stated_base(folder: str | os.PathLike[str]) -> Fingerprint | None:
    """The fingerprint of the base that an adapter was trained on, or None where it does not say.

    Raises:
        CheckpointError: what it says cannot be read.
    """
    file = Path(folder) / WEIGHTS_FILE
    text = _stated(file, BASE_KEY)
    try:
        return None if text is None else Fingerprint.loads(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(file, BASE_KEY, error) from error


def _stated(file: Path, key: str) -> str | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            text: str | None = (opened.metadata() or {}).get(key)
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(file, key, error) from error
    return text


def _unreadable(file: Path, key: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{file}: {key} in its header cannot be read: {str(error)[:100]}")


def check_base(
    folder: str | os.PathLike[str], config: Mapping[str, Any], weights: Fingerprint, name: str, remedy: str
) -> None:
    """That a model has the weights that an adapter was trained on, where the adapter says which.

    Args:
        folder: of the adapter.
        config: its configuration.
        weights: of the model.
        name: of the model.
        remedy: how to use it on other weights all the same.

    Raises:
        CheckpointError: it has others.
    """
    stated = stated_base(folder)
    others = [] if stated is None else weights.differing(stated)
    if not others:
        return
    trained_on = str(config.get(NAME_KEY) or "another model")[:200]
    shown = ", ".join(others[:MAX_SHOWN]) + (" ..." if len(others) > MAX_SHOWN else "")
    same_name = ", of the same name but not the same training" if trained_on == name else ""
    raise CheckpointError(
        f"the adapter in {folder} was trained on {trained_on!r}, whose weights are not those of {name!r}{same_name}: "
        f"{len(others)} of {len(weights.names)} tensors differ ({shown}), and its answers would be wrong. Load the "
        f"model that it was trained on, or train it anew on this one (flamingo train lora); {remedy} uses it as it is"
    )
