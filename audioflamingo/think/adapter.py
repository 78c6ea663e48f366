"""Reading the thinking adapter of a checkpoint, checked whole: what fits is used, anything else is one error.

The folder is called `think` on the hub and `stage35` in NVIDIA's repository. It holds a PEFT LoRA over the decoder and,
apart from it, tensors that were trained whole (the token embeddings, perhaps the head).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audioflamingo.errors import CheckpointError
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.lora import EMBEDDING, HEAD, Adapter, LowRank
from audioflamingo.think.base import STYLE_KEY, check_base, stated_style
from audioflamingo.think.files import read_config, read_tensors
from audioflamingo.think.names import Target, target_of

FOLDERS = ("think", "stage35")
REMEDY = "in Python, load_model(..., any_base=True)"
MAX_RANK = 4_096
MAX_SHOWN = 20
REPLACEABLE = (EMBEDDING, HEAD)
_OFF: tuple[Any, ...] = (None, False, "none", [], {}, 0)
# Settings of PEFT that change what the tensors mean and that no known adapter of this model uses.
_UNSUPPORTED = ("use_dora", "bias", "rank_pattern", "alpha_pattern", "layers_to_transform", "fan_in_fan_out",
                "layer_replication", "lora_bias", "trainable_token_indices")  # fmt: skip


def adapter_folder(checkpoint: str | Path) -> Path | None:
    """The folder of the thinking adapter within that of a checkpoint, or None where it has none."""
    for name in FOLDERS:
        folder = Path(checkpoint) / name
        if folder.is_dir():
            return folder
    return None


def read_adapter(folder: str | Path, model: Flamingo, *, name: str = "this model", any_base: bool = False) -> Adapter:
    """Read an adapter for a model, in the model's dtype and on its device.

    Args:
        folder: adapter_config.json, adapter_model.safetensors, and non_lora_trainables.bin or .safetensors if any.
        model: the base that it is to be used with.
        name: of the model, for errors.
        any_base: use it even where it says that it was trained on other weights than the model's.

    Raises:
        CheckpointError: anything is missing, left over, misshapen, or of another base; all complaints at once.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; an adapter is a folder with adapter_config.json")
    config = read_config(folder)
    from audioflamingo.model.quantize.layout import base_tensors  # plain models start sooner without

    base = base_tensors(model)
    complaints = list(config_complaints(config))
    refuse(folder, complaints)
    tensors = read_tensors(folder, sum(tensor.numel() for tensor in base.values()) * 4)
    adapter, complaints = _assembled(tensors, config, base)
    refuse(folder, complaints)
    if not any_base:
        check_base(folder, config, fingerprint(model), name, REMEDY)
    style = config.get(STYLE_KEY) or stated_style(folder)  # the older place, and the one that PEFT does not look at
    return Adapter(adapter.low_rank, adapter.replaced, style if style in ("tags", "free") else None)


def config_complaints(config: Mapping[str, Any]) -> Iterator[str]:
    """What in an adapter's configuration is wrong, or means something that is not supported."""
    if config.get("peft_type", "LORA") != "LORA":
        yield f"peft_type is {config['peft_type']!r}, expected 'LORA'"
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
        yield f"r is {rank!r}, expected a whole number from 1 to {MAX_RANK}"
    if not isinstance(alpha, int | float) or isinstance(alpha, bool) or not math.isfinite(alpha):
        yield f"lora_alpha is {alpha!r}, expected a number"
    for name in _UNSUPPORTED:
        if config.get(name) not in _OFF:
            yield f"{name} is {str(config[name])[:60]!r}, which is not supported"


def _assembled(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], base: Mapping[str, Tensor]
) -> tuple[Adapter, list[str]]:
    """The adapter, and all that is wrong with it."""
    complaints: list[str] = []
    targets: dict[Target, Tensor] = {}
    for key, tensor in tensors.items():
        target = target_of(key, base)
        if target is None:
            complaints.append(f"no such tensor in the base: {key[:200]}")
        elif target in targets:
            complaints.append(f"stored more than once: {key[:200]}")
        elif not tensor.is_floating_point():
            complaints.append(f"{key[:200]} is {tensor.dtype}, expected a floating dtype")
        else:
            targets[target] = tensor
    replaced = _replaced(targets, base, complaints)
    complaints += unsaved(config, (target.module for target in targets if target.role == "table"))
    low_rank = _low_rank(targets, config, base, complaints)
    wrong = {complaint.split()[0] for complaint in complaints}
    complaints += [complaint for complaint in incomplete(low_rank, config, base) if complaint.split()[0] not in wrong]
    if not low_rank and not complaints:
        complaints.append("it holds no low-rank pair at all")
    return Adapter(low_rank, replaced), complaints


def _replaced(targets: Mapping[Target, Tensor], base: Mapping[str, Tensor], complaints: list[str]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for target, tensor in targets.items():
        if target.role != "table":
            continue
        own = base[target.tensor]
        if tensor.shape != own.shape:
            complaints.append(f"{target.tensor} is {tuple(tensor.shape)}, the base has {tuple(own.shape)}")
        elif target.module in REPLACEABLE:
            found[target.module] = tensor.to(own)
        elif not torch.equal(tensor.to(own), own):
            complaints.append(f"{target.tensor} differs from the base; only embeddings and head can be switched")
    return found


def _low_rank(
    targets: Mapping[Target, Tensor], config: Mapping[str, Any], base: Mapping[str, Tensor], complaints: list[str]
) -> dict[str, LowRank]:
    halves: dict[str, dict[str, Tensor]] = {}
    for target, tensor in targets.items():
        if target.role != "table":
            halves.setdefault(target.module, {})[target.role] = tensor
    rank = int(config["r"])
    scale = config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank)
    found: dict[str, LowRank] = {}
    for module, pair in halves.items():
        weight = base[f"{module}.weight"]
        wrong = list(_pair_complaints(module, pair, weight, rank))
        complaints += wrong
        if not wrong and module.startswith("decoder."):
            found[module] = LowRank(pair["down"].to(weight), pair["up"].to(weight), scale)
    return found


def _pair_complaints(module: str, pair: Mapping[str, Tensor], weight: Tensor, rank: int) -> Iterator[str]:
    if len(pair) < 2:
        yield f"{module} has only its {'A' if 'down' in pair else 'B'}; the other half is missing"
        return
    down, up = tuple(pair["down"].shape), tuple(pair["up"].shape)
    if weight.ndim != 2 or module == EMBEDDING:
        yield f"{module} is no linear layer"
    elif down != (rank, weight.shape[1]):
        yield f"{module} has A of {down}, expected {(rank, weight.shape[1])} (rank, inputs)"
    elif up != (weight.shape[0], rank):
        yield f"{module} has B of {up}, expected {(weight.shape[0], rank)} (outputs, rank)"
    elif not module.startswith("decoder.") and pair["up"].any():
        yield f"{module} is trained, but sounds are embedded once for all requests; only the decoder can be switched"


def incomplete(modules: Collection[str], config: Mapping[str, Any], base: Mapping[str, Tensor]) -> Iterator[str]:
    """Layers that lack what others have or what the configuration names: a file that was cut short.

    Args:
        modules: our names of the layers that have a pair.
        config: the adapter's configuration.
        base: the model's tensors by our names.
    """
    adaptable = [
        name.removesuffix(".weight") for name in base if name.startswith("decoder.layers.") and base[name].ndim == 2
    ]
    present = {name.rpartition(".")[2] for name in modules if name.startswith("decoder.")}
    wanted = _named_kinds(config.get("target_modules"), {name.rpartition(".")[2] for name in adaptable})
    for module in adaptable:
        kind = module.rpartition(".")[2]
        if kind in present | wanted and module not in modules:
            why = "others of its kind have" if kind in present else "though it is to have one"
            yield f"{module} has no pair, {why}"


def _named_kinds(named: Any, kinds: Collection[str]) -> set[str]:
    """The kinds of layers that a configuration's `target_modules` names, in either of PEFT's forms.

    A pattern comes with the file and is never run as one, which could take forever: its words are looked at.
    """
    if isinstance(named, list):
        return {name.rpartition(".")[2] for name in named if isinstance(name, str)}
    if not isinstance(named, str) or "(?" in named:  # it may say what is left out
        return set()
    return set(kinds) if named == "all-linear" else set(re.findall(r"[A-Za-z_]+", named)) & set(kinds)


def unsaved(config: Mapping[str, Any], modules: Iterable[str]) -> Iterator[str]:
    """Complaints of modules that were trained whole by the configuration's word, and of which no tensor is there.

    Args:
        config: the adapter's configuration.
        modules: names of those of which there is one.
    """
    present = {module.rpartition(".")[2] for module in modules}
    named = config.get("modules_to_save")
    for name in named if isinstance(named, list) else ():
        if isinstance(name, str) and name.rpartition(".")[2] not in present:
            yield f"modules_to_save names {name[:100]}, of which no tensor is there"


def refuse(folder: Path, complaints: list[str]) -> None:
    """Raise if there is anything to complain of.

    Raises:
        CheckpointError: all complaints in one line.
    """
    if complaints:
        more = f"; and {len(complaints) - MAX_SHOWN} more" if len(complaints) > MAX_SHOWN else ""
        num = f"{len(complaints)} complaint{'s' * (len(complaints) > 1)}"
        raise CheckpointError(
            f"the adapter in {folder} does not fit this model ({num}): "
            f"{'; '.join(complaints[:MAX_SHOWN])}{more}. Use the adapter of the same release as the base"
        )
