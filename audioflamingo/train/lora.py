"""Low-rank adapters on the decoder's linear layers, and their file in the form of the PEFT library.

A layer's output becomes W x + (alpha / r) B A dropout(x), with W frozen; A starts random, B at zero, so that training
starts from the base model itself (Hu et al., LoRA). Adapters are kept in fp32 and computed in the dtype of x, whatever
the base is: bf16, fp32, or whole numbers of 8 or 4 bits (QLoRA, Dettmers et al.), which are widened for one product at
a time. `LoraLinear` is the plain form; `train.lean` computes the same with less memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.model.fingerprint import Fingerprint
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights.names import from_ours
from audioflamingo.think.base import STYLE_KEY, state, state_base

DECODER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PEFT_PREFIX = "base_model.model."
MATRICES = ("lora_a", "lora_b")
PEFT_TARGETS = r".*language_model.*\.(" + "|".join(DECODER_LINEARS) + ")"
"""The encoder's attention uses some of the same names, hence a pattern that begins at the language model."""


@dataclass(frozen=True)
class LoraConfig:
    """Size of the adapters; the defaults are the released stage 3.5's.

    Attributes:
        rank: r, the width between A and B.
        alpha: their product is scaled by alpha / r.
        dropout: of the input of A, while training.
        targets: last names of the decoder's linear layers that get one.
    """

    rank: int = 64
    alpha: float = 16.0
    dropout: float = 0.05
    targets: tuple[str, ...] = DECODER_LINEARS

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            OptionError: a value is out of its range.
        """
        if self.rank < 1 or not 0 <= self.dropout < 1 or not self.alpha > 0:
            raise OptionError(f"{self} is not usable: rank from 1, alpha above 0, dropout from 0 to below 1")


class LoraLinear(nn.Module):
    """A frozen linear layer and its adapter.

    Args:
        base: anything with `in_features` and `out_features` that gives (..., out) for (..., in).
        config: of the adapter.
        generator: of its first values.
        device: of the adapter.
    """

    def __init__(
        self, base: nn.Module, config: LoraConfig, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.base = base
        width, out_width = int(base.in_features), int(base.out_features)  # type: ignore[arg-type]
        bound = 1 / math.sqrt(width)  # as PEFT: uniform with a variance of 1 / (3 in)
        start = (2 * torch.rand(config.rank, width, generator=generator) - 1) * bound
        self.lora_a = nn.Parameter(start.to(device))
        self.lora_b = nn.Parameter(torch.zeros(out_width, config.rank, device=device))
        self.scale = config.alpha / config.rank
        self.dropout = config.dropout

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out), in the dtype of x."""
        out: Tensor = self.base(x)
        narrow = functional.linear(functional.dropout(x, self.dropout, self.training), self.lora_a.to(x.dtype))
        return out + functional.linear(narrow, self.lora_b.to(x.dtype)) * self.scale


def add_lora(model: Flamingo, config: LoraConfig, *, seed: int = 0) -> list[str]:
    """Freeze the model and put adapters on its decoder's linear layers; returns the names of those layers."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    names = [
        name
        for name, module in model.decoder.layers.named_modules()
        if hasattr(module, "in_features") and name.rpartition(".")[2] in config.targets
    ]
    for name in names:
        parent, _, last = name.rpartition(".")
        owner = model.decoder.layers.get_submodule(parent)
        setattr(owner, last, LoraLinear(getattr(owner, last), config, generator, model.device))
    return [f"decoder.layers.{name}" for name in names]


def adapter_tensors(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Adapters among named parameters of ours, by PEFT's names on transformers' class, in fp32 on the CPU."""
    return {
        _peft_name(name): tensor.detach().float().cpu().contiguous()
        for name, tensor in parameters.items()
        if name.rpartition(".")[2] in MATRICES
    }


def _peft_name(name: str) -> str:
    layer, _, matrix = name.rpartition(".")
    return f"{PEFT_PREFIX}{from_ours(layer, 'transformers')}.lora_{matrix[-1].upper()}.weight"


@torch.no_grad()
def take_adapter(parameters: Mapping[str, Tensor], folder: Path) -> None:
    """Go on from an adapter that `save_adapter` wrote: its matrices become those of the model.

    Raises:
        CheckpointError: it has other layers or another rank.
    """
    stored = load_file(folder / "adapter_model.safetensors")
    own = {_peft_name(name): tensor for name, tensor in parameters.items() if name.rpartition(".")[2] in MATRICES}
    apart = sorted(
        name for name in own.keys() | stored.keys()
        if name not in own or name not in stored or own[name].shape != stored[name].shape
    )  # fmt: skip
    if apart:
        raise CheckpointError(f"the adapter in {folder} does not fit: {len(apart)} matrices differ, first {apart[0]}")
    for name, tensor in own.items():
        tensor.copy_(stored[name])


def save_adapter(
    parameters: Mapping[str, Tensor],
    config: LoraConfig,
    folder: Path,
    base: str,
    weights: Fingerprint | None = None,
    *,
    think_style: str | None = None,
) -> None:
    """Write adapter_model.safetensors and adapter_config.json; the configuration, without which nobody loads, last.

    Args:
        parameters: named parameters of the model, adapters among them.
        config: of the adapters.
        folder: where to.
        base: what the adapters belong to, for the reader's information.
        weights: of the base, so that the adapters are not used with others; see `model.fingerprint`.
        think_style: how the thoughts of a thinking adapter end, "tags" or "free"; in the header too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = PEFT_TARGETS.replace("|".join(DECODER_LINEARS), "|".join(config.targets))
    described = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "target_modules": targets,
        "use_dora": False,
        "use_rslora": False,
    }
    partial = folder / "adapter_model.safetensors.partial"
    save_file(adapter_tensors(parameters), partial, metadata={"format": "pt"})
    if weights is not None:
        state_base(partial, weights)
    if think_style:
        state(partial, {STYLE_KEY: think_style})
    os.replace(partial, folder / "adapter_model.safetensors")
    partial = folder / "adapter_config.json.partial"
    partial.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / "adapter_config.json")
