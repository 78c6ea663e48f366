"""How strongly each loss of the embedded model's training pulls at its encoder, and how much of that is luck.

    python benchmarks/nano_losses.py --model nano --heads audioflamingo/assets/nano_training/heads.safetensors \
        --shards runs/losses --num-steps 24 --out losses.json

Renders sound to SHARDS first where there is none (two minutes on a core). For every loss, at its weight: the norm of a
step's gradient over the encoder's matrices, and what of it all steps share, estimated from the norm of their mean
without what the mean of so many steps has by luck. A loss whose luck is larger than what another one has to say is
what the encoder follows. Steps are small ones, as on a CPU (`shrunk`), so luck is larger than in a GPU's step: by the
square root of the ratio of their seconds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audioflamingo.model.weights import resolve
from audioflamingo.train.nano_draw import read_shard
from audioflamingo.train.nano_items import PlainTokenizer, save_items
from audioflamingo.train.nano_pool import Draws, Ring
from audioflamingo.train.nano_recipe import RECIPES, NanoRecipe, shrunk
from audioflamingo.train.nano_render import draw_item
from audioflamingo.train.nano_schedule import TOKENIZER
from audioflamingo.train.nano_step import Inputs, Weights, ctc_loss, forward, sequences_of
from audioflamingo.train.nano_trainer import NanoTrainer, Start

NUM_SHARDS, ITEMS_PER_SHARD = 6, 64
LONGEST_S = 60.0
CPU = torch.device("cpu")


@dataclass
class Pull:
    """Of one loss: the sum of its gradients, of their squares, and of its values, over steps."""

    total: list[Tensor]
    squares: float = 0.0
    values: list[float] = field(default_factory=list)

    def add(self, gradients: Sequence[Tensor | None], value: float) -> None:
        """A step's."""
        self.values.append(value)
        for mine, gradient in zip(self.total, gradients, strict=True):
            if gradient is not None:
                mine += gradient
                self.squares += float(gradient.square().sum())

    def figures(self) -> dict[str, float]:
        """Mean value, norm of a step's gradient, and norm of what all steps share."""
        num = len(self.values)
        of_sum, of_steps = float(sum(x.square().sum() for x in self.total)), self.squares / num
        shared = max((of_sum / num - of_steps) / (num - 1), 0.0)
        return {
            "value": round(float(np.mean(self.values)), 4), "norm": round(of_steps**0.5, 4),
            "shared": round(shared**0.5, 4),
        }  # fmt: skip


def rendered(folder: Path) -> list[Path]:
    """Shards of everything that training hears; made where there are none."""
    if not list(folder.glob("shard-*.npz")):
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = PlainTokenizer(TOKENIZER)
        for number in range(NUM_SHARDS):
            seeds = [(1, number, index) for index in range(ITEMS_PER_SHARD)]
            items = [draw_item(seed, tokenizer, longest_s=LONGEST_S) for seed in seeds]
            save_items(items, folder / f"shard-{number:06d}.npz")
    return sorted(folder.glob("shard-*.npz"))


def pooled(shards: Sequence[Path]) -> tuple[Ring, Tensor]:
    """Who lies where, and the samples (S,) int16."""
    ring = Ring(2 * sum(shard.stat().st_size for shard in shards))
    samples = torch.zeros(ring.num_samples, dtype=torch.int16)
    for shard in shards:
        arrays, _ = read_shard(shard)
        start = ring.place(arrays).start
        heard = np.load(shard, allow_pickle=False)["samples"]
        samples[start : start + len(heard)] = torch.from_numpy(heard)
    return ring, samples


def measured(recipe: NanoRecipe, start: Start, shards: Sequence[Path], num_steps: int) -> dict[str, Any]:
    """Every loss's figures, at the recipe's last weights, over steps of its short shape."""
    torch.manual_seed(0)
    trainer = NanoTrainer(recipe, start, CPU, "eager")
    matrices = [p for p in trainer.model.encoder.layers.parameters() if p.ndim == 2]
    weights = recipe.phases[-1].mode.weights
    ring, samples = pooled(shards)
    draws = Draws(
        short=recipe.short, long=recipe.long, long_share=0.0, vocab_size=recipe.model.decoder.vocab_size,
        placeholder=recipe.model.audio_token_id, token_noise=recipe.token_noise, one_clip=recipe.one_clip,
    )  # fmt: skip
    rng, pulls, seconds = np.random.default_rng(0), dict[str, Pull](), 0.0
    for _ in range(num_steps):
        plan = ring.draw(rng, draws)
        seconds += plan.seconds
        inputs = Inputs.of(trainer.mel(samples, plan), plan)
        parts = forward(trainer.model, trainer.heads, inputs, sequences_of(plan, trainer.model), Weights())
        losses = {
            "answer": weights.answer * parts.answer, "ctc": weights.ctc * ctc_loss(parts.ctc_logits, plan),
            "frames": weights.frames * parts.frames, "clock": weights.clock * parts.clock,
        }  # fmt: skip
        for name, loss in losses.items():
            pull = pulls.setdefault(name, Pull([torch.zeros_like(matrix) for matrix in matrices]))
            gradients = torch.autograd.grad(loss, matrices, retain_graph=True, allow_unused=True)
            pull.add(gradients, float(loss.detach()) / (getattr(weights, name) or 1.0))
    return {
        "weights": {name: getattr(weights, name) for name in pulls}, "steps": num_steps,
        "seconds_a_step": round(seconds / num_steps, 1), **{name: pull.figures() for name, pull in pulls.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--recipe", choices=list(RECIPES), default="all_tasks")
    parser.add_argument("--shards", type=Path, default=Path("runs/losses"))
    parser.add_argument("--num-steps", type=int, default=24)
    parser.add_argument("--step-s", type=float, default=120.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe = shrunk(RECIPES[options.recipe](), RECIPES[options.recipe]().model, options.step_s)
    start = Start(TOKENIZER, resolve(options.model), options.heads)
    found = measured(replace(recipe, ramp_s=0.0), start, rendered(options.shards), options.num_steps)
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
