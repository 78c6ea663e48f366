"""Three ways of storing a matrix in fewer bits, each with its inverse, which says what the stored numbers mean.

All are symmetric and for weights alone. Shapes: N outputs, K inputs, G = K / 128 groups of inputs.

* int8: codes (N, K) int8 from -127 to 127, scale (N,) float32.
* int4: two codes a byte, (N, K / 2) uint8, the even input in the low half; a code c stands for (c - 8) * scale, scale
  (N, G) bfloat16 of either sign, so that the largest weight of a group can use the sixteenth step.
* fp8: codes (N, K) e4m3 (Micikevicius et al. 2022), scale (N,) float32.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Scheme = Literal["int8", "int4", "fp8"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
GROUP = 128  # inputs that share a scale in int4
INT8_MAX = 127
INT4_ZERO = 8
INT4_MAX = 7
FP8_MAX = 448.0
FP8 = torch.float8_e4m3fn
# Where the largest weight of a group comes to lie, as a share of code 0's value. Below 1 it is clipped, all others lie
# finer; 1.14 is 8 / 7, the range that clips on neither side. Five have an error within 0.6 % of that of eight.
INT4_RANGES = (0.78, 0.87, 0.96, 1.05, 1.14)


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of (N, K) floating weights; an all-zero row gets scale 1."""
    wide = weight.float()
    scale = _nonzero(wide.abs().amax(1) / INT8_MAX)
    return (wide / scale[:, None]).round_().to(torch.int8), scale


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of (N, K) floating weights, K a multiple of 128; of several ranges the one with least error."""
    groups = weight.float().view(weight.shape[0], -1, GROUP)
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    scale = torch.full_like(largest, torch.nan)  # stays where a weight is not finite
    least = torch.full_like(largest, torch.inf)
    for share in INT4_RANGES:
        candidate = _nonzero((largest * (-share / INT4_ZERO)).bfloat16()).float()
        error = _int4_steps(groups, candidate).mul_(candidate).sub_(groups).square_().sum(2, keepdim=True)
        is_better = error < least
        scale = torch.where(is_better, candidate, scale)
        least = torch.where(is_better, error, least)
    codes = _int4_steps(groups, scale).add_(INT4_ZERO).to(torch.uint8).view(weight.shape)
    return codes[:, 0::2] | codes[:, 1::2] << 4, scale[:, :, 0].bfloat16()


def quantize_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of (N, K) floating weights."""
    wide = weight.float()
    scale = _nonzero(wide.abs().amax(1) / FP8_MAX)
    return (wide / scale[:, None]).to(FP8), scale


def dequantize_rows(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, K) weights of int8 or fp8 codes."""
    wide = codes.to(torch.float32 if dtype == torch.float32 else dtype)
    return wide.mul_(scale.to(dtype)[:, None])


def dequantize_int4(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, K) weights of packed int4 codes."""
    steps = torch.stack((codes & 15, codes >> 4), dim=2).to(dtype).sub_(INT4_ZERO)
    return steps.view(codes.shape[0], -1, GROUP).mul_(scale.to(dtype)[:, :, None]).view(codes.shape[0], -1)


def _int4_steps(groups: Tensor, scale: Tensor) -> Tensor:
    return (groups / scale).round_().clamp_(-INT4_ZERO, INT4_MAX)


def _nonzero(scale: Tensor) -> Tensor:
    return scale.masked_fill_(scale == 0, 1.0)
