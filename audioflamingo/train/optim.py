"""AdamW on fp32 master weights of a model that computes in a shorter dtype."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


class MasterAdamW:
    """AdamW whose state and weights are fp32 while the model's own parameters may be bf16.

    Args:
        groups: name of each group to its parameters; matrices decay, vectors do not.
        weight_decay: of the matrices.
        betas: of AdamW.
        clip: largest norm of all gradients together.
    """

    def __init__(
        self,
        groups: dict[str, Iterable[nn.Parameter]],
        *,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.98),
        clip: float = 1.0,
    ) -> None:
        self.clip = clip
        self.parameters: list[nn.Parameter] = []
        self.masters: list[Tensor] = []
        settings: list[dict[str, Any]] = []
        for name, parameters in groups.items():
            kept = [p for p in parameters if p.requires_grad]
            for decays in (True, False):
                chosen = [p for p in kept if (p.ndim > 1) == decays]
                masters = [p.detach().float().clone() for p in chosen]
                self.parameters += chosen
                self.masters += masters
                settings.append({"params": masters, "name": name, "weight_decay": weight_decay if decays else 0.0})
        self.gradients = [torch.empty_like(master) for master in self.masters]
        on_gpu = self.parameters[0].is_cuda
        self.adam = torch.optim.AdamW(settings, lr=0.0, betas=betas, eps=1e-8, fused=on_gpu)

    def step(self, rates: dict[str, float]) -> Tensor:
        """Clip, update, write back, and forget the gradients; a group whose rate is 0 stays as it is.

        Returns:
            () fp32 norm of the gradients before clipping.
        """
        given = [i for i, parameter in enumerate(self.parameters) if parameter.grad is not None]
        torch._foreach_copy_([self.gradients[i] for i in given], [_grad(self.parameters[i]) for i in given])
        for master in self.masters:
            master.grad = None
        for i in given:
            self.masters[i].grad, self.parameters[i].grad = self.gradients[i], None
        norm = torch.nn.utils.clip_grad_norm_([self.masters[i] for i in given], self.clip)
        for group in self.adam.param_groups:
            group["lr"] = rates[group["name"]]
        self.adam.step()
        with torch.no_grad():
            torch._foreach_copy_([p.data for p in self.parameters], self.masters)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Masters and AdamW's own state."""
        return {"masters": self.masters, "adam": self.adam.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave, and write the masters into the model."""
        for master, saved in zip(self.masters, state["masters"], strict=True):
            master.copy_(saved)
        self.adam.load_state_dict(state["adam"])
        torch._foreach_copy_([p.data for p in self.parameters], self.masters)


def _grad(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad
