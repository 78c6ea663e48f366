"""Attention of one new position in C: a decode step's, where a model is read from memory anew for every token.

The slow twin is `model.attention.scaled_dot_product`. Shapes: Hkv key heads, G queries that share one, T positions, Dh
head width.
"""

from __future__ import annotations

import ctypes
from functools import cache

import torch
from torch import Tensor

from audioflamingo.model.quantize.native import library

_WIDTHS = 32  # whose multiples a head may be wide
_EIGHT = 8


class _Attention(ctypes.Structure):
    """See `Attention` in attention.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("query", "keys", "values", "weights", "out")),
        *((name, ctypes.c_int64) for name in ("num_heads", "group", "length", "width")),
        *((name, ctypes.c_int64) for name in ("head_stride", "position_stride")),
    )


@cache
def _kernels() -> ctypes.CDLL:
    kernels = library()
    assert isinstance(kernels, ctypes.CDLL)
    kernels.af_attend.argtypes = (ctypes.POINTER(_Attention), ctypes.c_int)
    kernels.af_attend.restype = None
    return kernels


def can_attend(keys: Tensor) -> bool:
    """Whether `attend` can read keys (.., Dh), if the kernels were built; queries and values have to be like these."""
    return keys.device.type == "cpu" and keys.dtype == torch.float32 and keys.shape[-1] % _WIDTHS == 0


def attend(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """What each query sees of all positions.

    Args:
        query: (1, Hkv, G, Dh) float32 on the CPU.
        keys: (1, Hkv, T, Dh), where they lie; numbers of a position one behind the other.
        values: likewise, as far apart as the keys.

    Returns:
        (1, Hkv, G, Dh).
    """
    _, num_heads, group, width = query.shape
    length = keys.shape[2]
    assert query.shape[0] == 1
    assert can_attend(keys)
    assert query.dtype == values.dtype == torch.float32
    assert keys.shape == values.shape == (1, num_heads, length, width)
    assert keys.stride()[1:] == values.stride()[1:]
    assert keys.stride(3) == 1
    asked, out = query.contiguous(), torch.empty((1, num_heads, group, width))
    weights = torch.empty((num_heads * group, -(-length // _EIGHT) * _EIGHT))
    order = _Attention(
        *(tensor.data_ptr() for tensor in (asked, keys, values, weights, out)),
        *(num_heads, group, length, width, keys.stride(1), keys.stride(2)),
    )
    _kernels().af_attend(ctypes.byref(order), min(torch.get_num_threads(), num_heads))
    return out
