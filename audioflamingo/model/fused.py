"""The decoder's and the encoder's layers with fused kernels, for inference on a GPU; elsewhere the modules run.

The arithmetic and its rounding are those of `model.decoder` and `model.encoder`, the slow twins. Nothing that hangs on
a layer, such as an adapter that is on, has a say here: `takes_fused` looks. Shapes: N packed tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.attention import attend
from audioflamingo.model.kernels import (
    Heads,
    add_layer_norm,
    add_rms_norm,
    gelu_in_place,
    rotate_in_place,
    swiglu,
    tables_at,
)
from audioflamingo.model.kernels.availability import runs_triton

if TYPE_CHECKING:
    from audioflamingo.model.attention import Packing
    from audioflamingo.model.decoder import AttentionContext, Decoder, DecoderAttention, DecoderLayer, SwiGLU
    from audioflamingo.model.encoder import Encoder, EncoderAttention, EncoderLayer

JOINT_NAMES = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
FEED_ROWS = 8192  # whose gates and ups are in memory at once: 0.9 GB of the full size
Product = Callable[[Tensor], Tensor]
Products = list[tuple[Product, Product]]  # of each layer: queries, keys and values; gates and ups

_known: WeakKeyDictionary[nn.ModuleList, tuple[object, Products | None]] = WeakKeyDictionary()


def takes_fused(x: Tensor, layers: nn.ModuleList) -> bool:
    """Whether these layers may run fused on x: kernels run, nobody trains, no hook has a say, projections are joint."""
    if torch.is_grad_enabled() or not runs_triton(x):
        return False
    return _products(layers) is not None


def _products(layers: nn.ModuleList) -> Products | None:
    """The joint products of all layers, or None where one has none; found anew only where a layer has changed.

    Finding them takes milliseconds, and a first token waits for them; to see that nothing has changed does not.
    """
    state = _state(layers)
    known = _known.get(layers)
    if known is None or known[0] != state:
        known = _known[layers] = (state, _found_products(layers))
    return known[1]


def _state(layers: nn.ModuleList) -> list[object]:
    """Changes with every module that is put in a layer's place, hook that is hung on one, and tensor that moves."""
    found: list[object] = []
    for layer in layers._modules.values():
        assert layer is not None
        for part in (layer._modules["self_attn"], layer._modules["mlp"]):
            for module in cast("nn.Module", part)._modules.values():
                found += _state_of(cast("nn.Module", module))
    return found


def _state_of(module: nn.Module) -> tuple[Any, ...]:
    tensors = (*module._parameters.values(), *module._buffers.values())
    places = (None if one is None else one.data_ptr() for one in tensors)
    return (id(module), type(module), _is_watched(module), *places)


def _is_watched(module: nn.Module) -> bool:
    """Whether a hook has a say in it; those of an adapter that is off have none."""
    hooks = (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    return not all(getattr(hook, "is_off", False) for hook in hooks)


def _found_products(layers: Iterable[nn.Module]) -> Products | None:
    found: Products = []
    for layer in cast("Iterable[DecoderLayer]", layers):
        attention, mlp = layer.self_attn, layer.mlp
        modules = (*attention.children(), *mlp.children())
        qkv, gate_up = _joint_product(attention), _joint_product(mlp)
        if qkv is None or gate_up is None or any(map(_is_watched, modules)):
            return None
        found.append((qkv, gate_up))
    return found


def _joint_product(module: DecoderAttention | SwiGLU) -> Product | None:
    """Queries, keys and values, or gates and ups, by one product; None where the layers do not lie side by side."""
    if module.joint is not None:
        weight, bias = module.joint
        return lambda x: functional.linear(x, weight, bias)
    from audioflamingo.model.quantize.linear import QuantizedLinear

    children = dict(module.named_children())
    return QuantizedLinear.joined([children[name] for name in JOINT_NAMES if name in children])


def run_decoder(
    decoder: Decoder, x: Tensor, positions: Tensor, context: AttentionContext, wanted: Tensor | None = None
) -> Tensor:
    """Hidden states after the last norm, of the (R,) rows that are wanted; see `Decoder.forward`."""
    config, products = decoder.config, _products(decoder.layers)
    assert products is not None
    heads = Heads(config.num_heads, config.num_kv_heads, config.head_dim)
    tables = tables_at(positions, config.head_dim, config.rope_theta, x.dtype)
    places = torch.arange(len(x), device=x.device)
    delta: Tensor | None = None
    for index, layer in enumerate(cast("Iterable[DecoderLayer]", decoder.layers)):
        x, normed = add_rms_norm(x, delta, layer.input_layernorm.weight, layer.input_layernorm.eps)
        qkv_product, gate_up_product = products[index]
        qkv = qkv_product(normed)
        rotate_in_place(qkv, tables, places, heads)
        attended = context.attend(index, *heads.split(qkv)).flatten(1)
        if wanted is not None and index == len(products) - 1:
            if len(wanted) == 0:  # kernels are not launched on nothing
                return x[:0]
            x, attended = (rows.index_select(0, wanted) for rows in (x, attended))
        norm = layer.post_attention_layernorm
        delta = layer.self_attn.o_proj(attended)
        del qkv, attended  # of ten minutes they are 250 MB, beside the most that the whole prompt takes
        x, normed = add_rms_norm(x, delta, norm.weight, norm.eps)
        delta = _fed_forward(layer.mlp, gate_up_product, normed)
    return add_rms_norm(x, delta, decoder.norm.weight, decoder.norm.eps)[1]


def _fed_forward(mlp: SwiGLU, gate_up_product: Product, x: Tensor) -> Tensor:
    """(N, D) to (N, D); x may be overwritten. Gates and ups of all of a long prompt at once would take gigabytes."""
    if len(x) <= FEED_ROWS:
        return mlp.down_proj(swiglu(gate_up_product(x)))  # type: ignore[no-any-return]
    for part in torch.split(x, FEED_ROWS):
        part.copy_(mlp.down_proj(swiglu(gate_up_product(part))))
    return x


def takes_fused_encoder(x: Tensor, layers: nn.ModuleList) -> bool:
    """Whether the encoder's layers may run fused on x; fp16 has a guard of its own between the layers.

    Layers in shards are put together by a hook on the layer, which fused layers would never call.
    """
    if x.dtype == torch.float16 or torch.is_grad_enabled() or not runs_triton(x):
        return False
    return not any(map(_is_watched, layers))


def run_encoder(encoder: Encoder, x: Tensor, packing: Packing) -> Tensor:
    """All layers over packed frames (N, D)."""
    delta: Tensor | None = None
    for layer in cast("Iterable[EncoderLayer]", encoder.layers):
        norm = layer.self_attn_layer_norm
        x, normed = add_layer_norm(x, delta, norm.weight, norm.bias, norm.eps)
        delta = _encoder_attention(layer.self_attn, normed, packing)
        norm = layer.final_layer_norm
        x, normed = add_layer_norm(x, delta, norm.weight, norm.bias, norm.eps)
        delta = layer.fc2(gelu_in_place(layer.fc1(normed)))
    return x if delta is None else x + delta


def _encoder_attention(attention: EncoderAttention, x: Tensor, packing: Packing) -> Tensor:
    joint = attention.joint
    if joint is None:
        return attention(x, packing)  # type: ignore[no-any-return]
    qkv = functional.linear(x, *joint).view(len(x), 3, attention.num_heads, -1)
    attended = attend(qkv[:, 0], qkv[:, 1], qkv[:, 2], packing, causal=False)
    return attention.out_proj(attended.flatten(1))  # type: ignore[no-any-return]


def embed_frames_fused(encoder: Encoder, mel: Tensor, num_frames: int) -> Tensor:
    """The encoder's two convolutions as matrix products, which cuDNN has no plan half as fast for.

    Args:
        encoder: whose `conv1` and `conv2` run.
        mel: (W, bins, F) in the weights' dtype.
        num_frames: S, frames wanted of each window, at most (F - 1) // 2 + 1.

    Returns:
        (W, S, D), without positions.
    """
    num_seen = min(2 * num_frames, mel.shape[2])  # an output sees three inputs, the last of them 2 S - 1
    x = _convolved(encoder.conv1, mel.transpose(1, 2), num_seen, stride=1)
    return _convolved(encoder.conv2, x, num_frames, stride=2)


def _convolved(layer: nn.Conv1d, x: Tensor, num_outputs: int, stride: int) -> Tensor:
    """GELU of a convolution of width 3 over (W, F, C), with a zero on either side: (W, num_outputs, D)."""
    padded = functional.pad(x, (0, 0, 1, 2))  # one more than needed keeps the three slices below equally long
    span = stride * (num_outputs - 1) + 1
    neighbours = torch.cat([padded[:, shift : shift + span : stride] for shift in range(3)], dim=2)
    weight = layer.weight.transpose(1, 2).flatten(1)
    return gelu_in_place(functional.linear(neighbours, weight, layer.bias))
