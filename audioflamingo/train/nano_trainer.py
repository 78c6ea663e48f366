"""Model, heads, optimiser, average and clock of the embedded model's training: one step, and states to go on from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.train.lora import add_lora, save_adapter, take_adapter
from audioflamingo.train.nano_graphs import Speed, StepRunner
from audioflamingo.train.nano_mel import LineLogMel
from audioflamingo.train.nano_plan import Plan
from audioflamingo.train.nano_ranks import MeanGradients, Ranks
from audioflamingo.train.nano_recipe import NanoRecipe
from audioflamingo.train.nano_state import (
    load_pieces,
    read_progress,
    save_pieces,
    save_trained,
    start,
    write_progress,
)
from audioflamingo.train.optim import MasterAdamW, MasterMuon

BASE_NAME = "nano"


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        tokenizer: tokenizer.json to train with; its folder holds the template too.
        init: checkpoint of the same shapes, or None for nothing.
        heads: heads.safetensors that belong to it, or None.
        adapter: folder of an adapter to go on from, for a recipe that trains one; None begins with nothing.
    """

    tokenizer: Path
    init: Path | None = None
    heads: Path | None = None
    adapter: Path | None = None


class NanoTrainer:
    """Everything that changes during training; it is the same in all processes, which each take their own plans."""

    def __init__(
        self, recipe: NanoRecipe, begin: Start, device: torch.device, speed: Speed, ranks: Ranks | None = None
    ) -> None:
        self.recipe, self.begin, self.device = recipe, begin, device
        self.ranks = ranks or Ranks()
        self.model, self.heads = start(recipe.model, begin.init, begin.heads, begin.tokenizer, recipe.seed)
        self.base_weights = fingerprint(self.model)
        if recipe.adapter is not None:
            self.heads.requires_grad_(False)
            add_lora(self.model, recipe.adapter, seed=recipe.seed)
            if begin.adapter is not None:
                take_adapter(dict(self.model.named_parameters()), begin.adapter)
        self.model.to(device), self.heads.to(device)
        self.optimiser = self._optimiser()
        if device.type == "cuda":
            self._to_bf16()
        self.names = self._names()
        self.average = [master.clone() for master in self.optimiser.masters]
        self.mean = MeanGradients(self.ranks, self.optimiser.parameters)
        self.runner = StepRunner(self.model, self.heads, self.optimiser.parameters, speed)
        self.log_mel = LineLogMel(device, compiled="compiled" in speed)
        self.spent_s, self.num_steps, self.heard_s, self.fresh_steps = 0.0, 0, 0.0, 0
        self.model.train()
        if not self.ranks.is_first:
            torch.manual_seed(self.ranks.seed(recipe.seed))  # of the augmentation; the first one goes on from the start

    def _optimiser(self) -> MasterAdamW:
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "decoder": []}
        if self.recipe.adapter is not None:
            groups["decoder"] = [p for p in self.model.parameters() if p.requires_grad]
            return MasterAdamW({"decoder": groups["decoder"]})
        groups["encoder"] = [*self.model.encoder.parameters(), *self.heads.parameters()]
        groups["decoder"] = [*self.model.projector.parameters(), *self.model.decoder.parameters()]
        layers = [*self.model.encoder.layers.parameters(), *self.model.decoder.layers.parameters()]
        return MasterMuon(groups, [p for p in layers if p.ndim == 2])

    def _to_bf16(self) -> None:
        """Weights that the masters stand behind; adapters stay fp32."""
        for module in (self.model, self.heads):
            for name, parameter in module.named_parameters():
                if ".lora_" not in name:
                    parameter.data = parameter.data.bfloat16()

    def _names(self) -> list[str]:
        """Of the optimiser's parameters, in its order."""
        known = {id(p): f"model.{n}" for n, p in self.model.named_parameters()}
        known |= {id(p): f"heads.{n}" for n, p in self.heads.named_parameters()}
        return [known[id(parameter)] for parameter in self.optimiser.parameters]

    def rates(self, decay: float = 1.0) -> dict[str, float]:
        """Learning rates of the next step; `decay` is the share that the end of a piece leaves."""
        phase = self.recipe.phase(self.spent_s)
        rise = min((self.fresh_steps + 1) / self.recipe.warm_up_steps, 1.0)
        return {
            "encoder": self.recipe.encoder_rate * rise * decay,
            "decoder": self.recipe.decoder_rate * rise * decay * phase.decoder_rate,
        }

    def step(self, samples: Tensor, plan: Plan, decay: float = 1.0) -> dict[str, Tensor]:
        """One step, with the mean of all processes' gradients; losses are this one's and stay on the device."""
        mel = self.mel(samples, plan)
        parts = self.runner(mel, plan, self.recipe.phase(self.spent_s).mode)
        seconds = self.mean.take(plan.seconds)
        parts["norm"] = self.optimiser.step(self.rates(decay))
        # Young averages forget faster, so that the first weights do not weigh on them.
        weight = 1.0 - min(self.recipe.ema, (1 + self.num_steps) / (10 + self.num_steps))
        torch._foreach_lerp_(self.average, self.optimiser.masters, weight)
        self.num_steps, self.fresh_steps = self.num_steps + 1, self.fresh_steps + 1
        self.heard_s += seconds
        return parts

    def mel(self, samples: Tensor, plan: Plan) -> Tensor:
        """The step's log-mel, augmented as strongly as its time says, in the weights' dtype."""
        ramp = self.recipe.ramp_s
        share = min(self.spent_s / ramp, 1.0) if ramp else 1.0
        mel = self.log_mel(samples, plan, self.recipe.augmentation.scaled(share))
        return mel.to(self.model.encoder.conv1.weight.dtype)

    # States

    def state(self) -> dict[str, Any]:
        """All that another piece on this machine needs, exactly."""
        return {
            "optimiser": self.optimiser.state_dict(), "average": self.average, "counts": self.counts(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        self.optimiser.load_state_dict(state["optimiser"])
        for mine, saved in zip(self.average, state["average"], strict=True):
            mine.copy_(saved)
        self._take_counts(state["counts"])
        self.fresh_steps = int(state["counts"]["fresh_steps"])

    @torch.no_grad()
    def take_from_first(self) -> None:
        """Become what the first process's trainer is, to the last bit."""
        if self.ranks.size == 1:
            return
        weights = [parameter.data for module in (self.model, self.heads) for parameter in module.parameters()]
        found = self.ranks.from_first({"state": self.state(), "weights": weights}, self.device)
        if not self.ranks.is_first:
            torch._foreach_copy_(weights, found["weights"])
            self.restore(found["state"])

    def counts(self) -> dict[str, float]:
        """Where the run is."""
        return {
            "spent_s": self.spent_s, "num_steps": self.num_steps, "heard_s": self.heard_s,
            "fresh_steps": self.fresh_steps,
        }  # fmt: skip

    def _take_counts(self, counts: dict[str, float]) -> None:
        self.spent_s, self.num_steps = float(counts["spent_s"]), int(counts["num_steps"])
        self.heard_s = float(counts["heard_s"])

    def save_small(self, folder: Path, *, averaged: bool = False) -> None:
        """Weights of model and heads in bf16, the last or the averaged ones, in files that fit through narrow ways."""
        tensors = self.average if averaged else self.optimiser.masters
        save_pieces("weights", dict(zip(self.names, tensors, strict=True)), folder)
        write_progress(folder, self.counts())

    @torch.no_grad()
    def restore_small(self, folder: Path) -> None:
        """Go on from `save_small`: the optimiser's moments, which remember some 50 steps, start anew."""
        weights = load_pieces("weights", folder)
        for name, master, mean in zip(self.names, self.optimiser.masters, self.average, strict=True):
            num_rows = len(weights[name])  # an older state may know fewer frame names; new ones come last
            master[:num_rows].copy_(weights[name])
            mean[:num_rows].copy_(weights[name])
        torch._foreach_copy_([p.data for p in self.optimiser.parameters], self.optimiser.masters)
        self._take_counts(read_progress(folder))

    def with_average(self) -> _Averaged:
        """A context in which the model has the averaged weights."""
        return _Averaged(self)

    def export(self, folder: Path) -> None:
        """The checkpoint and the heads, or the adapter, from the weights as they are in the model now."""
        if self.recipe.adapter is not None:
            parameters = dict(self.model.named_parameters())
            think = folder / "think"
            save_adapter(parameters, self.recipe.adapter, think, BASE_NAME, self.base_weights, think_style="tags")
            return
        save_trained(self.model, self.heads, self.begin.tokenizer, folder)


class _Averaged:
    def __init__(self, trainer: NanoTrainer) -> None:
        self.trainer = trainer

    def __enter__(self) -> None:
        self._write(self.trainer.average)

    def __exit__(self, *_: object) -> None:
        self._write(self.trainer.optimiser.masters)

    @torch.no_grad()
    def _write(self, tensors: list[Tensor]) -> None:
        torch._foreach_copy_([p.data for p in self.trainer.optimiser.parameters], tensors)


def decay_share(left_s: float, decay_s: float, last: float) -> float:
    """Of the rate, when a piece ends in `left_s` and decays over its last `decay_s`: 1 down to `last`, as a cosine."""
    if decay_s <= 0 or left_s >= decay_s:
        return 1.0
    done = min(max(1.0 - left_s / decay_s, 0.0), 1.0)
    return last + (1.0 - last) * 0.5 * (1.0 + math.cos(math.pi * done))
