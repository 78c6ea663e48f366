"""What a frozen decoder's layers do besides products: rotation, SwiGLU and its gradient, plain or compiled.

The compiled forms read and write every number once. They need Triton or a C++ compiler, and cost some seconds at the
first step; the plain forms are their twins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.decoder import rotate


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up."""
    return functional.silu(gate).mul_(up)


def gated_gradients(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gate and of up, given that of their gated product."""
    return torch.ops.aten.silu_backward(gradient * up, gate), gradient * functional.silu(gate)


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    return functional.silu(gate) * up


@dataclass
class Pointwise:
    """The forms that are in use, by all layers of the program.

    Attributes:
        rotate: see `model.decoder.rotate`.
        gated: see above.
        gated_gradients: see above.
    """

    rotate: Callable[[Tensor, Tensor, Tensor], Tensor] = rotate
    gated: Callable[[Tensor, Tensor], Tensor] = gated
    gated_gradients: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] = gated_gradients

    def compile(self) -> None:
        """From now on, compiled."""
        compiled: Any = [torch.compile(one, dynamic=True) for one in (rotate, _gated, gated_gradients)]
        self.rotate, self.gated, self.gated_gradients = compiled

    def plain(self) -> None:
        """From now on, not."""
        self.rotate, self.gated, self.gated_gradients = rotate, gated, gated_gradients


pointwise = Pointwise()
