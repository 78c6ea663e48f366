"""The base that an adapter was trained on: its fingerprint in the adapter's safetensors header, written and compared.

The header's metadata is a place that PEFT keeps and does not look at. Adapters without it, NVIDIA's and older ones, are
loaded as they always were.
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
NAME_KEY = "base_model_name_or_path"
MAX_SHOWN = 2
LENGTH_BYTES = 8  # a safetensors file begins with the length of its JSON header


def state_base(file: Path, weights: Fingerprint) -> None:
    """Write the base's fingerprint into an adapter's safetensors file; the tensors stay as they are.

    Not left to the library that writes such files: it puts two entries in an order that differs from run to run.

    Args:
        file: with the adapter's tensors.
        weights: of the base; one of which no value is known is not written.
    """
    if weights.is_empty:
        return
    partial = file.with_name(f"{file.name}.stated")
    with open(file, "rb") as old, open(partial, "wb") as new:
        (num_bytes,) = struct.unpack("<Q", old.read(LENGTH_BYTES))
        header = json.loads(old.read(num_bytes))
        header["__metadata__"] = header.get("__metadata__", {}) | {BASE_KEY: weights.dumps()}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
        new.write(struct.pack("<Q", len(text)) + text)
        shutil.copyfileobj(old, new)
    os.replace(partial, file)


def stated_base(folder: str | os.PathLike[str]) -> Fingerprint | None:
    """The fingerprint of the base that an adapter was trained on, or None where it does not say.

    Raises:
        CheckpointError: what it says cannot be read.
    """
    file = Path(folder) / WEIGHTS_FILE
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            text = (opened.metadata() or {}).get(BASE_KEY)
        return None if text is None else Fingerprint.loads(text)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: {BASE_KEY} in its header cannot be read: {str(error)[:100]}") from error


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
