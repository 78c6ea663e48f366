"""Which layers of a model are stored how, decided before any weight is read, and put in place of a skeleton's own.

The decoder's matrices take the scheme that was asked for; its head is int8 in every scheme (int4 would cost accuracy
exactly where tokens are told apart, fp8 is coarser at the same size). Under int4, where memory is the point, the
embedding table is int8 as well. Encoder and projector keep the checkpoint's 16 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.linear import QuantizedLinear
from audioflamingo.model.quantize.schemes import GROUP, Scheme
from audioflamingo.model.quantize.stored import QuantizedEmbedding, StoredEmbedding, StoredLinear

Quantized = QuantizedLinear | QuantizedEmbedding
HEAD_SCHEME: Scheme = "int8"
JOINT = (
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    ("self_attn.o_proj",),
    ("mlp.gate_proj", "mlp.up_proj"),
    ("mlp.down_proj",),
)
"""Matrices of a decoder layer; those that take the same inputs stand together."""


def lay_out(model: Flamingo, scheme: Scheme, device: torch.device, dtype: torch.dtype) -> dict[str, Quantized]:
    """Replace layers of a skeleton by quantised ones, whose memory is taken now and filled by `write_rows`.

    Args:
        model: a skeleton.
        scheme: of the decoder's layers.
        device: where the memory is taken.
        dtype: of activations and biases.

    Returns:
        The new layers by the names of the weights that they take in, such as ``decoder.layers.0.mlp.up_proj.weight``.
    """
    placed: dict[str, Quantized] = {}
    for number in range(len(model.decoder.layers)):
        for names in JOINT:
            joint = [f"decoder.layers.{number}.{name}" for name in names]
            placed |= _quantized(model, joint, scheme, device, dtype)
    placed |= _quantized(model, ["decoder.lm_head"], HEAD_SCHEME, device, dtype)
    table = model.decoder.embed_tokens
    if scheme == "int4":
        shape = (table.num_embeddings, table.embedding_dim)
        placed["decoder.embed_tokens.weight"] = QuantizedEmbedding(shape, dtype, device)
    for name, layer in placed.items():
        _put(model, name.removesuffix(".weight"), layer)
    if device.type == "cpu":
        native.warn_if_missing()
    return placed


def keep_stored(model: Flamingo, dtype: torch.dtype) -> list[str]:
    """Let what stays in 16 bits keep the checkpoint's dtype and be widened in use, as fits a CPU.

    Args:
        model: a skeleton.
        dtype: of activations.

    Returns:
        The names of the tensors that are to keep their dtype.
    """
    kept = []
    for root in ("encoder", "projector"):
        for name, linear in list(model.get_submodule(root).named_modules(prefix=root)):
            if type(linear) is nn.Linear:
                _put(model, name, StoredLinear(linear))
                kept.append(f"{name}.weight")
    table = model.decoder.embed_tokens
    if type(table) is nn.Embedding:
        _put(model, "decoder.embed_tokens", StoredEmbedding(table, dtype))
        kept.append("decoder.embed_tokens.weight")
    return kept


def scheme_of(scheme: Scheme, num_inputs: int) -> Scheme:
    """Int4 shares a scale among 128 inputs; a layer whose inputs are not a multiple of that becomes int8."""
    return "int8" if scheme == "int4" and num_inputs % GROUP else scheme


def base_tensors(model: Flamingo) -> dict[str, Tensor]:
    """A model's tensors by the names of a plain one, for adapters to be checked against.

    What the decoder stores in another form is stood in for by tensors of the right shape, dtype and device that take no
    memory, and hold no values.
    """
    found = dict(model.state_dict())
    for name, module in model.decoder.named_modules(prefix="decoder"):
        if isinstance(module, QuantizedLinear | QuantizedEmbedding | StoredEmbedding):
            for own, _ in module.named_buffers():
                found.pop(f"{name}.{own}") if own != "bias" else None
            found[f"{name}.weight"] = torch.empty((), dtype=model.dtype, device=model.device).expand(module.shape)
    return found


def _quantized(
    model: Flamingo, names: Sequence[str], scheme: Scheme, device: torch.device, dtype: torch.dtype
) -> dict[str, Quantized]:
    linears = [model.get_submodule(name) for name in names]
    assert all(isinstance(linear, nn.Linear) for linear in linears)
    width = int(linears[0].in_features)  # type: ignore[arg-type]  # a module's attributes are of no known type
    outputs = [int(linear.out_features) for linear in linears]  # type: ignore[arg-type]
    bias_dtype = None if linears[0].bias is None else dtype
    layers = QuantizedLinear.neighbours(scheme_of(scheme, width), outputs, width, device, bias_dtype)
    return {f"{name}.weight": layer for name, layer in zip(names, layers, strict=True)}


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)
