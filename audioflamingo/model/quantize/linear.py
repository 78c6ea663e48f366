"""Linear layers whose weights are stored in fewer bits, and their products by the fastest way at hand.

The slow twin of every product is `plain`: widen the whole weight, multiply. Shapes: N outputs, K inputs, M rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.kernels.joint import spanning
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.products import multiply
from audioflamingo.model.quantize.schemes import (
    FP8,
    GROUP,
    Scheme,
    quantize_fp8,
    quantize_int4,
    quantize_int8,
)
from audioflamingo.model.quantize.widen import widened_twin

_CODES = {"int8": torch.int8, "int4": torch.uint8, "fp8": FP8}
_QUANTIZE = {"int8": quantize_int8, "int4": quantize_int4, "fp8": quantize_fp8}


class QuantizedLinear(nn.Module):
    """A linear layer that is stored in few bits; forward only.

    Attributes:
        codes: (N, K) int8 or e4m3, or (N, K / 2) uint8; see `schemes`.
        scale: (N,) float32, or (N, K / 128) bfloat16.
        bias: (N,) in the dtype of the activations, or None.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, scheme: Scheme, codes: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.scheme: Scheme = scheme
        self.out_features = codes.shape[0]
        self.in_features = codes.shape[1] * (2 if scheme == "int4" else 1)
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    @property
    def shape(self) -> tuple[int, int]:
        """N, K."""
        return self.out_features, self.in_features

    @classmethod
    def neighbours(
        cls,
        scheme: Scheme,
        outputs: Sequence[int],
        num_inputs: int,
        device: torch.device,
        bias_dtype: torch.dtype | None = None,
    ) -> list[QuantizedLinear]:
        """Layers with the same inputs, such as q, k and v, to be filled by `write_rows`.

        Their tensors lie one behind the other, so that one product can take them all.

        Args:
            scheme: of all.
            outputs: N of each.
            num_inputs: K.
            device: where the memory is taken.
            bias_dtype: of the biases, or None for layers without.
        """
        total = sum(outputs)
        width, groups = (num_inputs // 2, (num_inputs // GROUP,)) if scheme == "int4" else (num_inputs, ())
        codes = torch.empty((total, width), dtype=_CODES[scheme], device=device)
        native.expect_streaming(codes)
        scale_dtype = torch.bfloat16 if scheme == "int4" else torch.float32
        scale = torch.empty((total, *groups), dtype=scale_dtype, device=device)
        bias = None if bias_dtype is None else torch.empty(total, dtype=bias_dtype, device=device)
        layers, end = [], 0
        for size in outputs:
            rows, end = slice(end, end + size), end + size
            layers.append(cls(scheme, codes[rows], scale[rows], None if bias is None else bias[rows]))
        return layers

    @classmethod
    def joined(cls, layers: Sequence[nn.Module]) -> QuantizedLinear | None:
        """Layers of `neighbours` as one, a view of their memory; None where they are none."""
        quantized = [layer for layer in layers if type(layer) is QuantizedLinear]
        if len(quantized) != len(layers) or len({layer.scheme for layer in quantized}) != 1:
            return None
        codes, scale = (spanning([getattr(layer, name) for layer in quantized]) for name in ("codes", "scale"))
        biases = [layer.bias for layer in quantized if layer.bias is not None]
        bias = spanning(biases) if len(biases) == len(layers) else None
        if codes is None or scale is None or (biases and bias is None):
            return None
        return cls(quantized[0].scheme, codes, scale, bias)

    @classmethod
    def of(cls, scheme: Scheme, weight: Tensor, bias: Tensor | None = None) -> QuantizedLinear:
        """A layer of floating weights (N, K)."""
        return cls(scheme, *_QUANTIZE[scheme](weight.detach()), None if bias is None else bias.detach())

    def write_rows(self, first: int, weight: Tensor) -> None:
        """Quantise floating weights (rows, K) into the rows from `first` on."""
        compiled = self.scheme == "int4" and weight.device.type == "cpu"
        codes, scale = (native.quantize_int4 if compiled else _QUANTIZE[self.scheme])(weight)
        rows = slice(first, first + len(weight))
        self.codes[rows].copy_(codes)
        self.scale[rows].copy_(scale)

    def dequantize(self, dtype: torch.dtype) -> Tensor:
        """(N, K) weights that the codes stand for."""
        return widened_twin(self.scheme, self.codes, self.scale, dtype)

    def plain(self, x: Tensor) -> Tensor:
        """The product with the whole weight widened: the slow twin of `forward`."""
        return functional.linear(x, self.dequantize(x.dtype), self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., K) to (..., N)."""
        out = multiply(self, x.reshape(-1, self.in_features))
        return out.view(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.in_features}, {self.out_features}, {self.scheme}, bias={self.bias is not None}"
