"""Stored weights at their full width again, for products of many rows: on a GPU in one pass over the codes.

Shapes: N outputs, K inputs. A weight is read in its few bits and written once; the same in torch's operators reads and
writes what lies between them up to five times.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audioflamingo.model.kernels.availability import runs_triton
from audioflamingo.model.quantize.schemes import GROUP, INT4_ZERO, Scheme, dequantize_int4, dequantize_rows

BLOCK = 2048  # weights of a row that a program writes


def widened(scheme: Scheme, codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """(N, K) weights in `dtype`; see `schemes` for codes and scales. Equal to `widened_twin` to the last bit."""
    if not runs_triton(codes) or dtype not in (torch.bfloat16, torch.float32):
        return widened_twin(scheme, codes, scale, dtype)
    from audioflamingo.model.quantize.jit import widen_kernel

    codes, scale = codes.contiguous(), scale.contiguous()
    num_outputs, num_inputs = codes.shape[0], codes.shape[1] * (2 if scheme == "int4" else 1)
    out = torch.empty((num_outputs, num_inputs), dtype=dtype, device=codes.device)
    grid = (num_outputs, -(-num_inputs // BLOCK))
    group = GROUP if scheme == "int4" else num_inputs
    widen_kernel[grid](codes, scale, out, num_inputs, group, INT4_ZERO, scheme == "int4", BLOCK)
    return out


def widened_twin(scheme: Scheme, codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    """`widened` in torch."""
    widen = dequantize_int4 if scheme == "int4" else dequantize_rows
    return widen(codes, scale, dtype)
