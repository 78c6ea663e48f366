"""Products with int8 and int4 weights, and quantising to int4, in C: needs AVX2 and a C compiler.

torch's own kernels take 1.5 times as long for int8 and 3 times as long for int4 (benchmarks/cpu_products.py).
Rows of x are rounded to 16 bits with a scale for every 128 inputs, which costs an error near 2e-5.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from audioflamingo.model.quantize import schemes
from audioflamingo.model.quantize.native.build import Unbuilt, compile_kernels, has_avx512
from audioflamingo.model.quantize.schemes import GROUP, Scheme

if TYPE_CHECKING:
    from audioflamingo.model.quantize.linear import QuantizedLinear

MAX_ROWS = 256  # of x at once, so that their 16-bit form stays in the processor's cache
_GROUP_BYTES = 2 * GROUP + 64  # see `Group` in linear.h
_ALIGNMENT = 64
_SCHEMES = ("int8", "int4")
_log = logging.getLogger(__name__)


class _Product(ctypes.Structure):
    """See `Product` in linear.h."""

    _fields_ = (
        ("codes", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("added", ctypes.c_void_p),
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
    library.af_prepare.argtypes = (
        *(pointer, integer, integer),
        *(pointer, ctypes.c_float, ctypes.c_int),
        *(pointer, pointer, ctypes.c_int),
    )
    library.af_linear.argtypes = (ctypes.POINTER(_Product), pointer, pointer, ctypes.c_int, ctypes.c_int, pointer)
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
def ways() -> dict[str, int]:
    """Addresses of the ways of multiplying that this processor has, the fastest first."""
    kernels = library()
    assert isinstance(kernels, ctypes.CDLL)
    names = ("avx512", "avx2") if has_avx512() else ("avx2",)
    found = {name: ctypes.cast(getattr(kernels, f"af_outputs_{name}"), ctypes.c_void_p).value for name in names}
    return {name: address for name, address in found.items() if address is not None}


@cache
def usual_way() -> int:
    """The address of the fastest."""
    return next(iter(ways().values()))


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


def has_product(layer: QuantizedLinear) -> bool:
    """Whether `product` can multiply with this weight."""
    return layer.scheme in _SCHEMES and not isinstance(library(), Unbuilt)


def takes(layer: QuantizedLinear, x: Tensor) -> bool:
    """Whether `product` can multiply these."""
    is_differentiated = torch.is_grad_enabled() and x.requires_grad
    return has_product(layer) and not is_differentiated


@dataclass(frozen=True)
class Prepared:
    """Rows of x (M, K) as 16-bit numbers with a scale for 128 inputs, as the products of one kind of weight take them.

    Attributes:
        memory: holds the rows.
        place: their address.
        scales: (M, G) float32.
        is_int4: whether for int4 weights; int8 ones otherwise.
    """

    memory: Tensor
    place: int
    scales: Tensor
    is_int4: bool


def prepare(x: Tensor, scheme: Scheme, norm: Tensor | None = None, eps: float = 0.0) -> Prepared:
    """Rows for products with weights of a scheme.

    Args:
        x: (M, K) float32, contiguous.
        scheme: "int4" or "int8".
        norm: (K,) float32 weights of a root-mean-square norm that the rows go through first, or None.
        eps: of the norm.
    """
    kernels, num_threads = library(), torch.get_num_threads()
    assert isinstance(kernels, ctypes.CDLL)
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    num_rows, num_inputs = x.shape
    num_groups = -(-num_inputs // GROUP)
    memory = torch.empty(num_rows * num_groups * _GROUP_BYTES + _ALIGNMENT, dtype=torch.uint8)
    place = -(-memory.data_ptr() // _ALIGNMENT) * _ALIGNMENT
    rows = Prepared(memory, place, torch.empty((num_rows, num_groups), dtype=torch.float32), scheme == "int4")
    kernels.af_prepare(
        x.data_ptr(), num_rows, num_inputs, None if norm is None else norm.data_ptr(), eps, rows.is_int4, place,
        rows.scales.data_ptr(), num_threads,
    )  # fmt: skip
    return rows


def multiply(
    layer: QuantizedLinear,
    rows: Prepared,
    out: Tensor,
    *,
    bias: Tensor | None = None,
    added: Tensor | None = None,
    way: str | None = None,
) -> Tensor:
    """Write the product of prepared rows with a layer's weight into `out` (M, N) float32, and return it.

    Args:
        layer: int8 or int4, as the rows were prepared for.
        rows: M rows.
        out: contiguous.
        bias: (N,) float32, or None.
        added: (M, N) float32 that is added, such as `out` itself, or None.
        way: one of `ways`; None for the fastest.
    """
    kernels = library()
    assert isinstance(kernels, ctypes.CDLL)
    assert rows.is_int4 == (layer.scheme == "int4")
    assert layer.codes.is_contiguous()
    assert layer.scale.is_contiguous()
    tensors = (layer.codes, layer.scale, bias, added, out)
    assert out.is_contiguous()
    pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
    order = _Product(*pointers, len(out), layer.in_features, layer.out_features)
    address = usual_way() if way is None else ways()[way]
    num_threads = torch.get_num_threads()
    kernels.af_linear(ctypes.byref(order), rows.place, rows.scales.data_ptr(), rows.is_int4, num_threads, address)
    return out


def product(layer: QuantizedLinear, x: Tensor, way: str | None = None) -> Tensor:
    """(M, K) to (M, N) in the dtype of x; computed in whole numbers and fp32, by one of `ways`."""
    wide = x.to(torch.float32).contiguous()
    out = torch.empty((len(x), layer.out_features), dtype=torch.float32)
    bias = None if layer.bias is None else layer.bias.to(torch.float32)
    for first in range(0, len(x), MAX_ROWS):
        some = slice(first, first + MAX_ROWS)
        multiply(layer, prepare(wide[some], layer.scheme), out[some], bias=bias, way=way)
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
