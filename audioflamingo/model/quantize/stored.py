"""Layers that keep the checkpoint's 16 bits, or fewer, in memory and compute in another dtype.

A CPU without bf16 arithmetic multiplies fp32 seven times as fast as bf16. Widening a matrix for one product is little
beside a prefill, and holding all matrices widened would double the memory. Shapes: N outputs, K inputs, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.quantize.schemes import quantize_int8


class StoredLinear(nn.Module):
    """A linear layer whose weight keeps its own dtype and is widened to that of x for each product."""

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.weight = plain.weight
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) to (..., N) in the dtype of x."""
        return functional.linear(x, self.weight.to(x.dtype), self.bias)


class StoredEmbedding(nn.Module):
    """An embedding table that keeps its own dtype; only the rows that are looked up are widened, to `out_dtype`."""

    def __init__(self, plain: nn.Embedding, out_dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = plain.weight
        self.out_dtype = out_dtype

    @property
    def shape(self) -> tuple[int, int]:
        """V, D."""
        return self.weight.shape[0], self.weight.shape[1]

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., D) in `out_dtype`."""
        return functional.embedding(ids, self.weight).to(self.out_dtype)


class QuantizedEmbedding(nn.Module):
    """An embedding table in int8 with a scale for each row.

    Attributes:
        codes: (V, D) int8.
        scale: (V,) float32.
        out_dtype: of what `forward` gives.
    """

    codes: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, int], out_dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.shape = shape
        self.in_features = shape[1]
        self.out_dtype = out_dtype
        self.register_buffer("codes", torch.empty(shape, dtype=torch.int8, device=device))
        self.register_buffer("scale", torch.empty(shape[0], dtype=torch.float32, device=device))

    def write_rows(self, first: int, weight: Tensor) -> None:
        """Quantise floating rows (rows, D) into those from `first` on."""
        codes, scale = quantize_int8(weight)
        self.codes[first : first + len(weight)] = codes
        self.scale[first : first + len(weight)] = scale

    def forward(self, ids: Tensor) -> Tensor:
        """(...) ids to (..., D) in `out_dtype`."""
        return (self.codes[ids].float() * self.scale[ids][..., None]).to(self.out_dtype)
