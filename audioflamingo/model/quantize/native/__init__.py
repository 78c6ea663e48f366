"""Products with int8 and int4 weights, and quantising to int4, in C: needs AVX2 and a C compiler.

torch's own kernels take 1.5 times as long for int8 and 3 times as long for int4 (benchmarks/cpu_products.py).
Rows of x are rounded to 16 bits with a scale for every 128 inputs, which costs an error near 2e-5.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audioflamingo.model.quantize import schemes
from audioflamingo.model.quantize.native.build import Unbuilt, compile_kernels
from audioflamingo.model.quantize.schemes import GROUP

if TYPE_CHECKING:
    from audioflamingo.model.quantize.linear import QuantizedLinear

MAX_ROWS = 256  # of x at once, so that their 16-bit form stays in the processor's cache
_GROUP_BYTES = 2 * GROUP + 32  # see `Group` in linear.c
_ALIGNMENT = 32
_SCHEMES = ("int8", "int4")
_log = logging.getLogger(__name__)


class _Product(ctypes.Structure):
    """See `Product` in linear.c."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        ("num_rows", ctypes.c_int64),
        ("num_inputs", ctypes.c_int64),
        ("num_outputs", ctypes.c_int64),
    )


@cache
def library() -> ctypes.CDLL | Unbuilt:
    """The compiled kernels, or why there are none. Compiled at the first call on a machine, which takes a second."""
    found = compile_kernels()
    if isinstance(found, Unbuilt):
        return found
    library = ctypes.CDLL(str(found))
    integer, pointer = ctypes.c_int64, ctypes.c_void_p
    library.af_prepare.argtypes = (pointer, integer, integer, ctypes.c_int, pointer, pointer, ctypes.c_int)
    library.af_linear.argtypes = (ctypes.POINTER(_Product), pointer, pointer, ctypes.c_int, ctypes.c_int)
    library.af_quantize_int4.argtypes = (
        *(pointer, integer, integer),
        pointer,
        ctypes.c_int,
        pointer,
        pointer,
        ctypes.c_int,
    )
    library.af_expect_streaming.argtypes = (ctypes.c_size_t, integer)
    library.af_expect_streaming.restype = None
    library.af_prepare.restype = library.af_linear.restype = library.af_quantize_int4.restype = None
    return library


@cache
def warn_if_missing() -> None:
    """Say once where products will be slow, and why."""
    found = library()
    if isinstance(found, Unbuilt):
        _log.warning("quantised layers run several times slower without their compiled kernels: %s", found.reason)


def expect_streaming(codes: Tensor) -> None:
    """Lay codes that are about to be written on huge pages, where the system has some."""
    if codes.device.type != "cpu":
        return
    kernels = library()
    if not isinstance(kernels, Unbuilt):
        kernels.af_expect_streaming(codes.data_ptr(), codes.nbytes)


def takes(layer: QuantizedLinear, x: Tensor) -> bool:
    """Whether `product` can multiply these."""
    is_differentiated = torch.is_grad_enabled() and x.requires_grad
    return layer.scheme in _SCHEMES and not is_differentiated and not isinstance(library(), Unbuilt)


def product(layer: QuantizedLinear, x: Tensor) -> Tensor:
    """(M, K) to (M, N) in the dtype of x; computed in whole numbers and fp32."""
    wide = x.to(torch.float32).contiguous()
    out = torch.empty((len(x), layer.out_features), dtype=torch.float32)
    bias = None if layer.bias is None else layer.bias.to(torch.float32)
    for first in range(0, len(x), MAX_ROWS):
        _product(layer, wide[first : first + MAX_ROWS], bias, out[first : first + MAX_ROWS])
    return out.to(x.dtype)


def quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`schemes.quantize_int4` of weights on the CPU, 7 times as fast; its twin where there are no kernels."""
    kernels = library()
    if isinstance(kernels, Unbuilt):
        return schemes.quantize_int4(weight)
    wide = weight.to(torch.float32).contiguous()
    num_rows, num_inputs = wide.shape
    assert num_inputs % GROUP == 0, num_inputs
    codes = torch.empty((num_rows, num_inputs // 2), dtype=torch.uint8)
    scale = torch.empty((num_rows, num_inputs // GROUP), dtype=torch.bfloat16)
    shares = torch.tensor([-share / schemes.INT4_ZERO for share in schemes.INT4_RANGES], dtype=torch.float32)
    kernels.af_quantize_int4(
        wide.data_ptr(), num_rows, num_inputs, shares.data_ptr(), len(shares), codes.data_ptr(), scale.data_ptr(),
        torch.get_num_threads(),
    )  # fmt: skip
    return codes, scale


def _product(layer: QuantizedLinear, x: Tensor, bias: Tensor | None, out: Tensor) -> None:
    kernels, is_int4, num_threads = library(), int(layer.scheme == "int4"), torch.get_num_threads()
    assert isinstance(kernels, ctypes.CDLL)
    assert layer.codes.is_contiguous()
    assert layer.scale.is_contiguous()
    num_groups = len(x) * -(-layer.in_features // GROUP)
    groups = torch.empty(num_groups * _GROUP_BYTES + _ALIGNMENT, dtype=torch.uint8)
    place = -(-groups.data_ptr() // _ALIGNMENT) * _ALIGNMENT
    x_scale = torch.empty(num_groups, dtype=torch.float32)
    kernels.af_prepare(x.data_ptr(), len(x), layer.in_features, is_int4, place, x_scale.data_ptr(), num_threads)
    pointers = (layer.codes.data_ptr(), layer.scale.data_ptr(), None if bias is None else bias.data_ptr())
    order = _Product(*pointers, out.data_ptr(), len(x), layer.in_features, layer.out_features)
    kernels.af_linear(ctypes.byref(order), place, x_scale.data_ptr(), is_int4, num_threads)
