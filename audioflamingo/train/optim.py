"""AdamW and Muon on fp32 master weights of a model that computes in a shorter dtype."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
        groups: Mapping[str, Iterable[nn.Parameter]],
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
        with torch.no_grad():
            self._update(rates)
            torch._foreach_copy_([p.data for p in self.parameters], self.masters)
        return norm

    def _update(self, rates: dict[str, float]) -> None:
        for group in self.adam.param_groups:
            group["lr"] = rates[group["name"]]
        self.adam.step()

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


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


class MasterMuon(MasterAdamW):
    """As `MasterAdamW`, but chosen matrices follow their momentum made orthogonal (Muon, Jordan et al. 2024).

    All directions of such an update are equally long, so that what is rarely asked is learnt beside what is asked
    often. Its size is that of AdamW's updates (0.2 a weight on average, Liu et al. 2025), so rates are shared.

    Args:
        groups: see `MasterAdamW`.
        orthogonal: the matrices, (m, n) each; embeddings and output layers do not belong here.
        momentum: share of the last direction that is kept.
        settings: see `MasterAdamW`.
    """

    def __init__(
        self,
        groups: Mapping[str, Iterable[nn.Parameter]],
        orthogonal: Iterable[nn.Parameter],
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
        **settings: Any,
    ) -> None:
        named = {name: list(parameters) for name, parameters in groups.items()}
        super().__init__(named, weight_decay=weight_decay, **settings)
        self.momentum, self.weight_decay = momentum, weight_decay
        wanted = {id(parameter) for parameter in orthogonal}
        owner = {id(parameter): name for name, parameters in named.items() for parameter in parameters}
        chosen = [i for i, parameter in enumerate(self.parameters) if id(parameter) in wanted]
        self.momenta = {i: torch.zeros_like(self.masters[i]) for i in chosen}
        stacks: dict[tuple[str, torch.Size], list[int]] = {}
        for i in chosen:
            stacks.setdefault((owner[id(self.parameters[i])], self.masters[i].shape), []).append(i)
        self.stacks = [(name, indices) for (name, _), indices in stacks.items()]

    def _update(self, rates: dict[str, float]) -> None:
        """AdamW sees only the others' gradients."""
        for name, indices in self.stacks:
            given = [i for i in indices if self.masters[i].grad is not None]
            if not given or not rates[name]:
                continue
            masters, momenta = [self.masters[i] for i in given], [self.momenta[i] for i in given]
            gradients = [_grad(master) for master in masters]
            torch._foreach_lerp_(momenta, gradients, 1.0 - self.momentum)
            ahead = torch._foreach_lerp(gradients, momenta, self.momentum)
            step = orthogonalised(torch.stack(ahead))
            size = 0.2 * max(masters[0].shape) ** 0.5 * rates[name]
            torch._foreach_mul_(masters, 1.0 - rates[name] * self.weight_decay)
            torch._foreach_add_(masters, list(step.unbind()), alpha=-size)
        for i in self.momenta:
            self.masters[i].grad = None
        super()._update(rates)

    def state_dict(self) -> dict[str, Any]:
        """The momenta too."""
        return {**super().state_dict(), "momenta": self.momenta}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
        super().load_state_dict(state)
        for index, momentum in self.momenta.items():
            momentum.copy_(state["momenta"][index])


@torch.no_grad()
def orthogonalised(matrices: Tensor) -> Tensor:
    """(k, m, n) fp32 matrices with singular values near 1 and the singular vectors of the (k, m, n) given ones.

    Five steps of a Newton-Schulz iteration whose polynomial is steep at 0 and ends between 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)
