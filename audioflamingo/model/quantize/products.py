"""Which kernel multiplies rows with a quantised weight: by device, scheme and number of rows.

Shapes: M rows, N outputs, K inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels.availability import runs_triton
from audioflamingo.model.kernels.linear import few_rows
from audioflamingo.model.kernels.plans import MAX_ROWS
from audioflamingo.model.kernels.weight import Weight
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.schemes import FP8, FP8_MAX
from audioflamingo.model.quantize.widen import widened

if TYPE_CHECKING:
    from audioflamingo.model.quantize.linear import QuantizedLinear

CPU_SCRATCH_BYTES = 16 << 20  # of widened weights at once, which are multiplied while still in the cache
GPU_SCRATCH_BYTES = 288 << 20  # one matrix of a layer, but not the head of the full size, which would be 1.1 GB
SMALLEST_SCALE = torch.finfo(torch.float32).tiny  # of a row of zeros
ROW_BLOCK = 4096  # values of a row that a program holds at once
FP8_MULTIPLE = 16  # `_scaled_mm` takes matrices of such sizes


def multiply(layer: QuantizedLinear, x: Tensor) -> Tensor:
    """(M, K) to (M, N), in the dtype of x."""
    if x.device.type == "cpu" and not runs_triton(x):
        return _on_cpu(layer, x)
    if len(x) <= MAX_ROWS:
        return few_rows(x, Weight(layer.scheme, layer.codes, layer.scale, layer.bias))
    if layer.scheme == "fp8" and _takes_fp8(layer, x):
        return fp8_product(layer, x)
    return blockwise(layer, x, GPU_SCRATCH_BYTES)


def fp8_product(layer: QuantizedLinear, x: Tensor) -> Tensor:
    """(M, K) times an fp8 weight, with x in fp8 too, a scale for each of its rows; needs Ada, Hopper or later."""
    codes, scale = fp8_rows(x)
    out: Tensor = torch._scaled_mm(
        codes, layer.codes.t(), scale_a=scale, scale_b=layer.scale[None], out_dtype=torch.bfloat16, use_fast_accum=True
    )
    return (out if layer.bias is None else out.add_(layer.bias)).to(x.dtype)


def fp8_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Activations (M, K) as e4m3 codes (M, K) and scales (M, 1) float32."""
    if not runs_triton(x):
        return fp8_rows_twin(x)
    from audioflamingo.model.quantize.jit import fp8_rows_kernel

    x = x.contiguous()
    codes = torch.empty(x.shape, dtype=FP8, device=x.device)
    scale = torch.empty((len(x), 1), dtype=torch.float32, device=x.device)
    fp8_rows_kernel[(len(x),)](x, codes, scale, x.shape[1], FP8_MAX, SMALLEST_SCALE, BLOCK=ROW_BLOCK, num_warps=8)
    return codes, scale


def fp8_rows_twin(x: Tensor) -> tuple[Tensor, Tensor]:
    """`fp8_rows` in torch."""
    wide = x.float()
    scale = (wide.abs().amax(1, keepdim=True) / FP8_MAX).clamp_min_(SMALLEST_SCALE)
    return (wide / scale).to(FP8), scale


def blockwise(layer: QuantizedLinear, x: Tensor, scratch_bytes: int) -> Tensor:
    """The product with so many bytes of the weight widened at a time."""
    rows = max(1, scratch_bytes // (layer.in_features * x.element_size()))
    if rows >= layer.out_features:
        return functional.linear(x, widened(layer.scheme, layer.codes, layer.scale, x.dtype), layer.bias)
    out = x.new_empty((len(x), layer.out_features))
    for first in range(0, layer.out_features, rows):
        part = slice(first, first + rows)
        weight = widened(layer.scheme, layer.codes[part], layer.scale[part], x.dtype)
        out[:, part] = functional.linear(x, weight, None if layer.bias is None else layer.bias[part])
    return out


def _on_cpu(layer: QuantizedLinear, x: Tensor) -> Tensor:
    if native.takes(layer, x):
        return native.product(layer, x)
    return blockwise(layer, x, CPU_SCRATCH_BYTES)


def _takes_fp8(layer: QuantizedLinear, x: Tensor) -> bool:
    is_divisible = layer.in_features % FP8_MULTIPLE == 0 and layer.out_features % FP8_MULTIPLE == 0
    return is_divisible and x.is_cuda and torch.cuda.get_device_capability(x.device) >= (8, 9)
