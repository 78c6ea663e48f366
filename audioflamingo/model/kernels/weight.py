"""A linear layer's weight as kernels take it, and what is done around its product. M rows, N outputs, K inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

GROUP = 128  # inputs that share a scale in int4
Kind = Literal["plain", "int8", "int4", "fp8"]


@dataclass(frozen=True, eq=False)
class Weight:
    """A linear layer's weight as it is stored; see `jit.linear` for the kinds.

    Attributes:
        kind: of storage.
        data: (N, K); int4: (N, K / 2) uint8.
        scale: (N,), or (N, K / 128) for int4; None for a plain one.
        bias: (N,) or None.
    """

    kind: Kind
    data: Tensor
    scale: Tensor | None = None
    bias: Tensor | None = None

    @property
    def num_outputs(self) -> int:
        """N."""
        return self.data.shape[0]

    @property
    def num_inputs(self) -> int:
        """K."""
        return self.data.shape[1] * (2 if self.kind == "int4" else 1)

    @property
    def num_bytes(self) -> int:
        """What reading it takes."""
        return sum(x.numel() * x.element_size() for x in (self.data, self.scale) if x is not None)

    def plain(self, dtype: torch.dtype) -> Tensor:
        """(N, K) in `dtype`: the whole weight in memory, for work on many rows and for the twin."""
        if self.kind == "plain" or self.scale is None:
            return self.data
        if self.kind != "int4":
            return self.data.to(dtype) * self.scale.to(dtype)[:, None]
        steps = torch.stack((self.data & 15, self.data >> 4), dim=2).to(dtype) - 8
        return (steps.view(len(steps), -1, GROUP) * self.scale.to(dtype)[:, :, None]).flatten(1)


@dataclass(frozen=True, eq=False)
class Around:
    """What is done before and after the product, within the same kernel where that is faster.

    Attributes:
        norm: weight (K,) and eps of an RMS norm of the inputs.
        is_gated: the outputs are gates, then ups, and what comes out is silu(gate) * up, (M, N / 2).
        residual: (M, N) to which the output is added.
        leaves_parts: fp32 partial sums (S, M, N) may come out, for `add_rms_norm` to complete. Excludes the others.
    """

    norm: tuple[Tensor, float] | None = None
    is_gated: bool = False
    residual: Tensor | None = None
    leaves_parts: bool = False


PLAIN = Around()
