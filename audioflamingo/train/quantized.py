"""A frozen base in whole numbers of 8 or 4 bits under adapters in full precision (QLoRA, Dettmers et al. 2023).

Only the matrices of the decoder's layers are stored so; tables, norms, encoder and projector stay as they are. A matrix
is widened for one product and forgotten, in the forward and again in the backward pass.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.errors import OptionError
from audioflamingo.model.decoder import Decoder
from audioflamingo.model.quantize.schemes import GROUP, quantize_int4, quantize_int8
from audioflamingo.model.quantize.widen import widened

BaseScheme = Literal["int8", "int4"]
BASE_SCHEMES: tuple[BaseScheme, ...] = get_args(BaseScheme)


class FrozenLinear(nn.Module):
    """A linear layer that is stored in few bits and never trained.

    Attributes:
        codes: see `model.quantize.schemes`.
        scale: see there.
        bias: (out,) in the dtype that is computed in, or None.
    """

    codes: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, plain: nn.Linear, scheme: BaseScheme) -> None:
        super().__init__()
        self.in_features, self.out_features, self.scheme = plain.in_features, plain.out_features, scheme
        self.dtype = plain.weight.dtype
        codes, scale = (quantize_int8 if scheme == "int8" else quantize_int4)(plain.weight.detach())
        self.register_buffer("codes", codes)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if plain.bias is None else plain.bias.detach())

    def dequantize(self) -> Tensor:
        """(out, in) weight in the dtype that is computed in."""
        return widened(self.scheme, self.codes, self.scale, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out); differentiable by x."""
        return functional.linear(x, self.dequantize(), self.bias)


@torch.no_grad()
def quantize_base(decoder: Decoder, scheme: BaseScheme) -> None:
    """Store the matrices of a decoder's layers in few bits, one after another, each freed before the next.

    Raises:
        OptionError: there is no such scheme, or a width does not fit it.
    """
    if scheme not in BASE_SCHEMES:
        raise OptionError(f"{scheme!r} is no way to store a frozen base; allowed: {', '.join(BASE_SCHEMES)}")
    for layer in decoder.layers:
        linears = [(name, module) for name, module in layer.named_modules() if isinstance(module, nn.Linear)]
        for name, linear in linears:
            if scheme == "int4" and linear.in_features % GROUP:
                raise OptionError(
                    f"int4 keeps a scale for every {GROUP} inputs, but {name} has {linear.in_features}; use int8"
                )
            parent, _, last = name.rpartition(".")
            setattr(layer.get_submodule(parent), last, FrozenLinear(linear, scheme))
