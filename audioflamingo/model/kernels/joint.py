"""Weights of modules as the kernels take them, and neighbours in memory seen as one. N outputs, K inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audioflamingo.model.kernels.weight import Weight


def weight_of(layer: nn.Module) -> Weight:
    """The weight of an `nn.Linear`, or of a quantised layer with `scheme`, `codes`, `scale` and `bias`."""
    if isinstance(layer, nn.Linear):
        bias = None if layer.bias is None else layer.bias.detach()
        return Weight("plain", layer.weight.detach(), None, bias)
    scheme, codes, scale, bias = (getattr(layer, name) for name in ("scheme", "codes", "scale", "bias"))
    return Weight(scheme, codes, scale, bias)


def joint_weights(*layers: nn.Module) -> Weight:
    """Layers with the same inputs as one: a view where their tensors lie one behind the other, else a copy of them."""
    weights = [weight_of(layer) for layer in layers]
    kinds = {weight.kind for weight in weights}
    assert len(kinds) == 1, f"layers stored in different ways cannot be joined: {kinds}"
    return Weight(
        weights[0].kind,
        _joint([weight.data for weight in weights]),
        _optional([weight.scale for weight in weights]),
        _optional([weight.bias for weight in weights]),
    )


def _optional(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    assert len(present) in (0, len(parts))
    return _joint(present) if present else None


def _joint(parts: list[Tensor]) -> Tensor:
    seen = spanning(parts)
    if seen is not None:
        return seen
    if parts[0].element_size() == 1:  # some dtypes of eight bits have no `cat` of their own
        return torch.cat([part.view(torch.uint8) for part in parts]).view(parts[0].dtype)
    return torch.cat(parts)


def spanning(parts: Sequence[Tensor]) -> Tensor | None:
    """One tensor over neighbours in memory, along their first dimension, or None where they are no neighbours."""
    first, end = parts[0], parts[0].data_ptr()
    for part in parts:
        is_next = part.data_ptr() == end and part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if part.is_meta or not part.is_contiguous() or part.dtype != first.dtype or not is_next:
            return None
        end += part.numel() * part.element_size()
    return first.detach().as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())
