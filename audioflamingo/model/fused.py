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

from audioflamingo.model.attention import PaddedContext, attend
from audioflamingo.model.kernels import (
    Heads,
    add_layer_norm,
    add_rms_norm,
    gated_linear,
    gelu_in_place,
    rms_norm,
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
# Whose gates and ups are in memory at once: 0.27 GB of the full size. In tiles of 128 x 256 the product back to the
# width is 392 of them then, three times the 132 multiprocessors of an H200; of 4,096 rows, the fourth time half would
# idle.
FEED_ROWS = 3584
Product = Callable[[Tensor], Tensor]
Unit = Callable[[Tensor, bool], Tensor]  # silu(gate) * up; whether rows may come apart, see `swiglu`
Products = list[tuple[Product, Unit]]  # of each layer: queries, keys and values; the feed-forward's unit

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
        qkv, unit = _joint_product(attention), _unit(mlp)
        if qkv is None or unit is None or any(map(_is_watched, modules)):
            return None
        found.append((qkv, unit))
    return found


def _joint_product(module: DecoderAttention | SwiGLU) -> Product | None:
    """Queries, keys and values, or gates and ups, by one product; None where the layers do not lie side by side."""
    if module.joint is not None:
        weight, bias = module.joint
        return lambda x: functional.linear(x, weight, bias)
    from audioflamingo.model.quantize.linear import QuantizedLinear

    children = dict(module.named_children())
    return QuantizedLinear.joined([children[name] for name in JOINT_NAMES if name in children])


def _unit(mlp: SwiGLU) -> Unit | None:
    if mlp.joint is not None:
        weight, bias = mlp.joint
        return lambda x, may_part: gated_linear(x, weight, bias, in_place=may_part)
    product = _joint_product(mlp)
    return None if product is None else lambda x, may_part: swiglu(product(x), in_place=may_part)


def run_decoder(
    decoder: Decoder,
    x: Tensor,
    positions: Tensor,
    context: AttentionContext,
    wanted: Tensor | None = None,
    *,
    is_spare: bool = False,
) -> Tensor:
    """Hidden states after the last norm, of the (R,) rows that are wanted; see `Decoder.forward`.

    What a long prompt's step is done with is let go at once: an (N, D) of ten minutes are 108 MB.
    """
    config, products = decoder.config, _products(decoder.layers)
    assert products is not None
    heads = Heads(config.num_heads, config.num_kv_heads, config.head_dim)
    tables = tables_at(positions, config.head_dim, config.rope_theta, x.dtype)
    places = torch.arange(len(x), device=x.device)
    padding = context.num_rows - len(x) if isinstance(context, PaddedContext) else 0
    in_place = is_spare and x.is_contiguous()
    delta: Tensor | None = None
    for index, layer in enumerate(cast("Iterable[DecoderLayer]", decoder.layers)):
        qkv_product, unit = products[index]
        norm = layer.input_layernorm
        x, normed = add_rms_norm(x, delta, norm.weight, norm.eps, in_place=in_place, padding=padding)
        delta = None
        qkv = qkv_product(normed)
        del normed
        rotate_in_place(qkv[: len(x)], tables, places, heads)
        attended = context.attend(index, *heads.split(qkv)).flatten(1)
        del qkv
        if wanted is not None and index == len(products) - 1:
            if len(wanted) == 0:  # kernels are not launched on nothing
                return x[:0]
            x, attended = (rows.index_select(0, wanted) for rows in (x, attended))
        added = layer.self_attn.o_proj(attended)
        del attended
        if len(x) > FEED_ROWS:
            x = x.add_(added) if in_place else x + added
            del added
            _feed_in_pieces(layer, unit, x)
        else:
            norm = layer.post_attention_layernorm
            x, normed = add_rms_norm(x, added, norm.weight, norm.eps, in_place=in_place)
            delta = layer.mlp.down_proj(unit(normed, False))
        in_place = True  # from here on x is a sum of our own
    return add_rms_norm(x, delta, decoder.norm.weight, decoder.norm.eps, in_place=in_place)[1]


def _feed_in_pieces(layer: DecoderLayer, unit: Unit, x: Tensor) -> None:
    """Add what a layer's feed-forward makes of a long prompt's stream (N, D) to it, FEED_ROWS rows at a time."""
    norm, down = layer.post_attention_layernorm, layer.mlp.down_proj
    takes_apart = type(down) is nn.Linear  # rows of its inputs that do not touch; others would copy them
    for part in torch.split(x, FEED_ROWS):
        gated = unit(rms_norm(part, norm.weight, norm.eps), takes_apart)
        part.add_(down(gated))
        del gated


def takes_fused_encoder(x: Tensor, layers: nn.ModuleList) -> bool:
    """Whether the encoder's layers may run fused on x; fp16 has a guard of its own between the layers.

    Layers in shards are put together by a hook on the layer, which fused layers would never call.
    """
    if x.dtype == torch.float16 or torch.is_grad_enabled() or not runs_triton(x):
        return False
    return not any(map(_is_watched, layers))


def run_encoder(encoder: Encoder, x: Tensor, packing: Packing) -> Tensor:
    """All layers over packed frames (N, D), which are overwritten. Of ten minutes they are 77 MB."""
    delta: Tensor | None = None
    for layer in cast("Iterable[EncoderLayer]", encoder.layers):
        norm = layer.self_attn_layer_norm
        x, normed = add_layer_norm(x, delta, norm.weight, norm.bias, norm.eps, in_place=True)
        delta = None
        delta = _encoder_attention(layer.self_attn, normed, packing)
        norm = layer.final_layer_norm
        x, normed = add_layer_norm(x, delta, norm.weight, norm.bias, norm.eps, in_place=True)
        delta = None
        wide = gelu_in_place(layer.fc1(normed))
        del normed
        delta = layer.fc2(wide)
        del wide
    return x if delta is None else x + delta


def _encoder_attention(attention: EncoderAttention, x: Tensor, packing: Packing) -> Tensor:
    joint = attention.joint
    if joint is None:
        return attention(x, packing)  # type: ignore[no-any-return]
    qkv = functional.linear(x, *joint).view(len(x), 3, attention.num_heads, -1)
    attended = attend(qkv[:, 0], qkv[:, 1], qkv[:, 2], packing, causal=False)
    del qkv
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
    # Zeros first: to pad x and then put its slices together would hold ten minutes' 154 MB twice.
    neighbours = x.new_zeros((x.shape[0], num_outputs, 3, x.shape[2]))
    for shift in range(3):
        first = 1 if shift == 0 else 0  # whose input of this shift is no zero
        seen = x[:, stride * first + shift - 1 :: stride][:, : num_outputs - first]
        neighbours[:, first : first + seen.shape[1], shift] = seen
    weight = layer.weight.transpose(1, 2).flatten(1)
    return gelu_in_place(functional.linear(neighbours.flatten(2), weight, layer.bias))
