"""Norms fused with the addition to the residual stream before them. Shapes: N rows, D width, S partial sums."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.kernels.availability import launches_early, runs_triton

_WIDE_ROW = 2048  # from here on eight warps share a row


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(N, D) to (N, D): in fp32, rounded to the input's dtype before the weight, as the reference does."""
    return add_rms_norm(x, None, weight, eps)[1]


def add_rms_norm(
    x: Tensor,
    delta: Tensor | None,
    weight: Tensor,
    eps: float,
    *,
    in_place: bool = False,
    padding: int = 0,
) -> tuple[Tensor, Tensor]:
    """The residual stream after an addition, and its norm.

    Args:
        x: (N, D) the stream.
        delta: (N, D) what is added; or (S, N, D) fp32 partial sums of it, rounded to x's dtype when complete; or None.
        weight: (D,).
        eps: of the norm.
        in_place: whether the sum goes where x is, which has to be contiguous then.
        padding: rows of zeros that the norm is to end with.

    Returns:
        The sum (x itself without a delta), (N, D), and its norm, (N + padding, D), both in x's dtype.
    """
    if not runs_triton(x):
        total, normed = _add_rms_norm_twin(x, delta, weight, eps)
        normed = functional.pad(normed, (0, 0, 0, padding)) if padding else normed
        return (x.copy_(total) if in_place else total), normed
    from audioflamingo.model.kernels.jit.norm import add_rms_norm_kernel

    assert x.is_contiguous() or not in_place
    x = x.contiguous()
    num_rows, width = x.shape
    num_parts = 0 if delta is None else (delta.shape[0] if delta.dim() == 3 else 1)
    total, out = (x if delta is None or in_place else torch.empty_like(x)), x.new_empty((num_rows + padding, width))
    if padding:
        out[num_rows:].zero_()
    early = launches_early(x)
    add_rms_norm_kernel[(num_rows,)](
        x, x if delta is None else delta.contiguous(), weight, total, out, num_rows, width, eps,
        NUM_PARTS=num_parts, BLOCK=_power_of_two(width), EARLY=early, num_warps=_warps(width), **early_option(early),
    )  # fmt: skip
    return total, out


def _add_rms_norm_twin(x: Tensor, delta: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    if delta is not None:
        x = x + (delta.sum(0) if delta.dim() == 3 else delta).to(x.dtype)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return x, weight * wide.to(x.dtype)


def add_layer_norm(
    x: Tensor, delta: Tensor | None, weight: Tensor, bias: Tensor, eps: float, *, in_place: bool = False
) -> tuple[Tensor, Tensor]:
    """The residual stream after an addition, and its layer norm; see `add_rms_norm`, but without partial sums."""
    if not runs_triton(x):
        if delta is not None:
            x = x.add_(delta) if in_place else x + delta
        return x, functional.layer_norm(x, weight.shape, weight, bias, eps)
    from audioflamingo.model.kernels.jit.norm import add_layer_norm_kernel

    assert x.is_contiguous() or not in_place
    x = x.contiguous()
    num_rows, width = x.shape
    total, out = (x if delta is None or in_place else torch.empty_like(x)), torch.empty_like(x)
    add_layer_norm_kernel[(num_rows,)](
        x, x if delta is None else delta.contiguous(), weight, bias, total, out, width, eps,
        HAS_DELTA=delta is not None, BLOCK=_power_of_two(width), num_warps=_warps(width),
    )  # fmt: skip
    return total, out


def early_option(early: bool) -> dict[str, bool]:
    """Triton's launch option for an early start, left out where it would not be understood."""
    return {"launch_pdl": True} if early else {}


def _power_of_two(width: int) -> int:
    return 1 << (width - 1).bit_length()


def _warps(width: int) -> int:
    return 8 if width > _WIDE_ROW else 4
