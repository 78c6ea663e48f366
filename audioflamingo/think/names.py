"""From the keys in an adapter's files, in every known spelling, to the names of our modules.

PEFT writes ``base_model.model.`` before a name; the name behind it is the hub's legacy one, that of transformers 5, or
NVIDIA's own (``llm.model.``), and NVIDIA's files may have one more ``model.`` in front. A key counts only if exactly
one of its readings is a tensor of the model, so that a wrong guess can never be used.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import Literal

from audioflamingo.model.weights.names import NVIDIA_FOLDERS, SPELLINGS, to_ours

Role = Literal["down", "up", "table"]

_LORA = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])(?:\.default)?\.weight")
_WRAPPED = re.compile(r"\.(?:modules_to_save(?:\.default)?|base_layer)(?=\.)")
_PEFT_PREFIXES = ("base_model.model.", "base_model.")


@dataclass(frozen=True)
class Target:
    """What a key stands for.

    Attributes:
        module: the name of one of our modules.
        role: "down" and "up" are the two halves of a low-rank pair; "table" is a whole tensor.
        tensor: the name of the tensor that is changed or replaced.
    """

    module: str
    role: Role
    tensor: str


def target_of(key: str, tensor_names: Container[str]) -> Target | None:
    """What a key of an adapter's file stands for, or None where it is nothing of this model."""
    lora = _LORA.fullmatch(key)
    name = f"{lora['module']}.weight" if lora else _WRAPPED.sub("", key)
    found = {reading for reading in _readings(name) if reading in tensor_names}
    if len(found) != 1:
        return None
    tensor = found.pop()
    role: Role = "table" if lora is None else "down" if lora["half"] == "A" else "up"
    return Target(tensor.rpartition(".")[0], role, tensor)


def _readings(name: str) -> Iterator[str]:
    for bare in _without_prefixes(name):
        yield bare
        for folder in NVIDIA_FOLDERS:
            if bare.startswith(f"{folder}."):
                bare = f"{folder}/" + bare.removeprefix(f"{folder}.")
        for spelling in SPELLINGS:
            ours = to_ours(bare, spelling)
            if ours is not None:
                yield ours


def _without_prefixes(name: str) -> Iterator[str]:
    for prefix in _PEFT_PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            break
    yield name
    if name.startswith("model."):
        yield name.removeprefix("model.")
