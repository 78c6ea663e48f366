"""One update of the trained parameters: gradients summed in fp32 over packs and processes, clipped, AdamW, cosine.

Parameters in a shorter dtype have an fp32 master that the update happens on; fp32 ones are their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audioflamingo.train.explained import TrainingError
from audioflamingo.train.stages import Stage

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def rate_at(stage: Stage, step: int, num_steps: int) -> float:
    """Learning rate of a step, counted from 0: a linear rise, then half a cosine to zero."""
    warmup = math.ceil(stage.warmup * num_steps)
    if step < warmup:
        return stage.rate * (step + 1) / warmup
    done = (step - warmup) / max(num_steps - warmup, 1)
    return stage.rate * 0.5 * (1 + math.cos(math.pi * done))


class Updates:
    """AdamW over named parameters.

    Args:
        parameters: what is trained, by name.
        stage: rates and the rest.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], stage: Stage) -> None:
        self.stage = stage
        self.parameters = dict(parameters)
        self.masters: dict[str, Tensor] = {
            name: parameter if parameter.dtype == torch.float32 else parameter.detach().float().clone()
            for name, parameter in self.parameters.items()
        }
        self.sums: dict[str, Tensor] = {}
        settings = [
            {"params": [m for m in self.masters.values() if (m.ndim > 1) == decays], "weight_decay": decay}
            for decays, decay in ((True, stage.weight_decay), (False, 0.0))
        ]
        self.adam = torch.optim.AdamW([s for s in settings if s["params"]], lr=0.0, betas=stage.betas, foreach=True)
        for master in self.masters.values():
            # AdamW makes these at its first step; made here, a checkpoint always finds its places.
            self.adam.state[master] = {
                "step": torch.zeros((), dtype=torch.float32),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }

    def collect(self) -> None:
        """After a backward pass: gradients of short dtypes move to fp32 sums, where small ones are not lost."""
        for name, parameter in self.parameters.items():
            if parameter.grad is not None and parameter is not self.masters[name]:
                found = self.sums.setdefault(name, torch.zeros_like(self.masters[name]))
                found.add_(parameter.grad)
                parameter.grad = None

    def gradients(self) -> dict[str, Tensor]:
        """The fp32 gradient of every parameter, zero where none came, so that all processes agree on the list."""
        found = {}
        for name, master in self.masters.items():
            gradient = self.sums.get(name) if master is not self.parameters[name] else master.grad
            found[name] = torch.zeros_like(master) if gradient is None else gradient
        return found

    def step(self, gradients: Mapping[str, Tensor], rate: float) -> float:
        """Clip, update and forget the gradients; returns their norm before clipping.

        Raises:
            TrainingError: it is not finite; nothing was updated.
        """
        for name, master in self.masters.items():
            master.grad = gradients[name]
        norm = torch.nn.utils.clip_grad_norm_(list(self.masters.values()), self.stage.clip)
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        if not torch.isfinite(whole):  # clipping would make every parameter NaN, and the next checkpoint with them
            raise TrainingError("the gradients are not finite; lower --rate and start again")
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.step()
        self.write_back()
        for name, master in self.masters.items():
            master.grad = self.parameters[name].grad = None
        self.sums.clear()
        return float(whole)

    @torch.no_grad()
    def write_back(self) -> None:
        """Round the masters into the model."""
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                parameter.copy_(self.masters[name])

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs, by flat names; the very tensors, so that loading can fill them in place."""
        found = {f"master/{name}": master.detach() for name, master in self.masters.items()}
        for name, master in self.masters.items():
            found |= {f"{moment}/{name}": self.adam.state[master][moment] for moment in MOMENTS}
        return found
