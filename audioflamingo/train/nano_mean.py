"""The mean of two endings of the embedded model, of which one grew out of the other.

    python -m audioflamingo.train.nano_mean OLDER NEWER --out OUT --encoder 0.5 --decoder 0.75 --late 0.5 --late-from 5

Each folder is an ending as a piece with falling rates leaves it: a checkpoint, `heads.safetensors`, and in `think/` its
thinking adapter. What an ending got wrong by its own noise is less in the mean ("Averaging weights leads to wider
optima", Izmailov and others 2018; "Robust fine-tuning of zero-shot models", Wortsman and others 2022). The newer one
lends configuration, tokenizer, what only it has (rows that became more), and its adapter: an adapter works on weights
near those that it was trained on, so train it again on the mean. Of three endings take a mean of a mean.
"""

from __future__ import annotations

import argparse
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from audioflamingo.errors import OptionError
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.model.weights import load_flamingo
from audioflamingo.think.base import state_base
from audioflamingo.think.files import WEIGHTS_FILE as ADAPTER

WEIGHTS, HEADS, THINK = "model.safetensors", "heads.safetensors", "think"
DECODER_PARTS = ("language_model.", "clock.")
"""How names begin in the checkpoint and in the heads; all else is the encoder's, or of its heads."""


_LAYER = re.compile(r"language_model\..*layers\.(\d+)\.")


@dataclass(frozen=True)
class Shares:
    """Of the newer one.

    Attributes:
        encoder: in what hears.
        decoder: in what answers.
        late: in its layers from `late_from` on, and in what is in none; None takes `decoder`.
        late_from: number of a layer of the decoder.
    """

    encoder: float = 0.5
    decoder: float = 0.5
    late: float | None = None
    late_from: int = 0

    def __post_init__(self) -> None:
        for share in (self.encoder, self.decoder, self.decoder if self.late is None else self.late):
            if not 0.0 <= share <= 1.0:
                raise OptionError(f"{share} is no share; give 0 (the older one's) to 1 (the newer one's).")

    def of(self, name: str) -> float:
        """For a tensor of this name."""
        if not name.startswith(DECODER_PARTS):
            return self.encoder
        layer = _LAYER.match(name)
        is_early = layer is not None and int(layer[1]) < self.late_from
        return self.decoder if self.late is None or is_early else self.late


def mean_tensors(older: dict[str, Tensor], newer: dict[str, Tensor], shares: Shares) -> dict[str, Tensor]:
    """Means in fp32, by the newer one's names, shapes and dtypes; rows that the older one lacks are the newer one's.

    Args:
        older: tensors by name.
        newer: likewise, the same names.
        shares: of the newer one.

    Raises:
        OptionError: tensors that do not belong together.
    """
    if older.keys() != newer.keys():
        odd = ", ".join(sorted(older.keys() ^ newer.keys())[:3])
        raise OptionError(f"one of them alone has {odd}; give two endings of one model.")
    return {name: _mean(name, older[name], newer[name], shares.of(name)) for name in newer}


def _mean(name: str, older: Tensor, newer: Tensor, share: float) -> Tensor:
    if older.ndim != newer.ndim or older.shape[1:] != newer.shape[1:] or older.shape > newer.shape:
        raise OptionError(
            f"{name} is {tuple(older.shape)} here and {tuple(newer.shape)} there; give two endings of one model."
        )
    mean = newer.to(torch.float32, copy=True)
    rows = mean[: len(older)] if mean.ndim else mean
    rows.lerp_(older.float(), 1.0 - share)
    return mean.to(newer.dtype)


def average(older: Path, newer: Path, out: Path, shares: Shares) -> None:
    """Write OUT/checkpoint, with the newer adapter in `think` if there is one, and OUT/heads.safetensors.

    Raises:
        OptionError: the two do not belong together.
    """
    checkpoint = out / "checkpoint"
    weights = mean_tensors(load_file(older / WEIGHTS), load_file(newer / WEIGHTS), shares)
    heads = mean_tensors(load_file(older / HEADS), load_file(newer / HEADS), shares)
    shutil.copytree(newer, checkpoint, dirs_exist_ok=True, ignore=shutil.ignore_patterns(HEADS, WEIGHTS))
    save_file(weights, checkpoint / WEIGHTS, metadata={"format": "pt"})
    save_file(heads, out / HEADS)
    if (checkpoint / THINK / ADAPTER).exists():
        state_base(checkpoint / THINK / ADAPTER, fingerprint(load_flamingo(checkpoint, dtype=torch.float32)))


def main() -> None:
    """Parse arguments and average."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("older", type=Path)
    parser.add_argument("newer", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=float, default=0.5, help="share of the newer one in what hears")
    parser.add_argument("--decoder", type=float, default=0.5, help="share of the newer one in what answers")
    parser.add_argument("--late", type=float, help="and in its later layers and what is in none (default: --decoder)")
    parser.add_argument("--late-from", type=int, default=0, help="the first of these layers (0)")
    options = parser.parse_args()
    shares = Shares(options.encoder, options.decoder, options.late, options.late_from)
    average(options.older, options.newer, options.out, shares)
    print(f"The mean is in {options.out}.")


if __name__ == "__main__":
    main()
