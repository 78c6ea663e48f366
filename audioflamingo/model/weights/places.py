"""A place in memory for every tensor of a checkpoint, in the form in which the model will use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights.transfer import Place

if TYPE_CHECKING:
    from audioflamingo.model.lora import Adapter, LowRank
    from audioflamingo.model.quantize.layout import Quantized
    from audioflamingo.model.quantize.schemes import Scheme


@dataclass(frozen=True)
class Order:
    """How a model is to lie in memory.

    Attributes:
        quantize: the scheme of the decoder's matrices, or None.
        device: where.
        dtype: of everything that is not quantised or kept as it is stored.
    """

    quantize: Scheme | None
    device: torch.device
    dtype: torch.dtype


def take_places(model: Flamingo, order: Order, stored: Mapping[str, torch.dtype]) -> dict[str, Place]:
    """Give a skeleton its memory, uninitialised, and say where each stored tensor goes.

    Args:
        model: a skeleton; it is changed.
        order: how it is to lie.
        stored: the checkpoint's dtypes by our names, of all tensors.
    """
    places: dict[str, Place] = {}
    kept: dict[str, torch.dtype] = {}
    if order.quantize is not None:
        from audioflamingo.model.quantize.layout import keep_stored, lay_out  # plain models start sooner without

        layers = lay_out(model, order.quantize, order.device, order.dtype)
        places = {name: _rows(layer) for name, layer in layers.items()}
        if order.device.type == "cpu":
            kept = {name: stored[name] for name in keep_stored(model, order.dtype)}
    tensors = {
        name: torch.empty(tensor.shape, dtype=kept.get(name, order.dtype), device=order.device)
        if tensor.is_meta
        else tensor  # a quantised layer's bias, which has its place beside its neighbours
        for name, tensor in model.state_dict().items()
        if name in stored
    }
    model.load_state_dict(tensors, strict=False, assign=True)
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    return places | {name: Place.of(tensor) for name, tensor in tensors.items()}


def adapted_places(model: Flamingo, adapter: Adapter) -> dict[str, Place]:
    """Places for the weights of a quantised model that an adapter changes, which add it to what they take in.

    Tables that the adapter replaces are written at once, and need no place.
    """
    for name, table in adapter.replaced.items():
        layer: Any = model.get_submodule(name)
        if hasattr(layer, "write_rows"):
            layer.write_rows(0, table)
        else:
            layer.weight.data.copy_(table)
    return {f"{name}.weight": _rows(_layer(model, name), pair) for name, pair in adapter.low_rank.items()}


def _layer(model: Flamingo, name: str) -> Quantized:
    layer: Any = model.get_submodule(name)
    assert hasattr(layer, "write_rows"), name
    found: Quantized = layer
    return found


def _rows(layer: Quantized, added: LowRank | None = None) -> Place:
    """A place that takes whole rows, adds what is to be added, and quantises them."""
    width = layer.in_features

    def write(first: int, values: Tensor) -> None:
        rows, start = values.view(-1, width), first // width
        if added is not None:
            up = added.up[start : start + len(rows)]
            rows = rows.float() + (up.float() @ added.down.float()) * added.scale
        layer.write_rows(start, rows)

    return Place(write, unit=width)
