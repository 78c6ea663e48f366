"""Decode steps of a quantised decoder on a CPU, with little between the products.

A norm is worked out where the rows are prepared for the product behind it, one product takes queries, keys and values
or gates and ups, and what is added to a state is added where a product is written. The arithmetic is that of
`model.decoder`, the slow twin that it is tested against. Nothing that hangs on the layers, such as an adapter, has a
say here. Shapes: B sequences with one new token each, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.decoder import AttentionContext, Decoder, DecoderLayer, RMSNorm
from audioflamingo.model.lean import StepTables
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.linear import QuantizedLinear


@dataclass(frozen=True)
class _Layer:
    """The matrices of one layer, and the norms before the first and the third."""

    input_norm: RMSNorm
    qkv: QuantizedLinear
    out: QuantizedLinear
    post_norm: RMSNorm
    gate_up: QuantizedLinear
    down: QuantizedLinear

    @classmethod
    def of(cls, layer: nn.Module) -> _Layer | None:
        """Those of a layer, or None where one of its matrices has no compiled product."""
        assert isinstance(layer, DecoderLayer)
        attention, mlp = layer.self_attn, layer.mlp
        qkv = QuantizedLinear.joined([attention.q_proj, attention.k_proj, attention.v_proj])
        gate_up = QuantizedLinear.joined([mlp.gate_proj, mlp.up_proj])
        out, down = (QuantizedLinear.joined([one]) for one in (attention.o_proj, mlp.down_proj))
        if qkv is None or gate_up is None or out is None or down is None:
            return None
        found = cls(layer.input_layernorm, qkv, out, layer.post_attention_layernorm, gate_up, down)
        return found if all(map(native.has_product, (qkv, out, gate_up, down))) else None


class QuantizedLean:
    """Runs decode steps with the weights of a quantised decoder, which it shares."""

    def __init__(self, decoder: Decoder, layers: list[_Layer], head: QuantizedLinear) -> None:
        config = decoder.config
        self._decoder, self._layers, self._head = decoder, layers, head
        self._num_heads, self._head_dim = config.num_heads, config.head_dim
        self._num_rotated = config.num_heads + config.num_kv_heads
        self._tables = StepTables(config.head_dim, config.rope_theta)

    @classmethod
    def of(cls, decoder: Decoder) -> QuantizedLean | None:
        """One for this decoder, or None: on another device, in another dtype, or with a layer without a kernel."""
        norm = decoder.norm.weight
        head = QuantizedLinear.joined([decoder.lm_head])
        if norm.device.type != "cpu" or norm.dtype != torch.float32 or head is None or not native.has_product(head):
            return None
        layers = []
        for layer in decoder.layers:
            found = _Layer.of(layer)
            if found is None:
                return None
            layers.append(found)
        return cls(decoder, layers, head)

    def logits(self, tokens: Tensor, positions: list[int], context: AttentionContext) -> Tensor:
        """(B, V) logits of the tokens that follow (B,) tokens, one a sequence, at the given positions."""
        x = self._decoder.embed_tokens(tokens).contiguous()
        cos, sin = self._tables.at(positions)
        for index, layer in enumerate(self._layers):
            joint = _product(layer.qkv, x, layer.input_norm)
            heads = joint.view(x.shape[0], -1, self._head_dim)
            rotated = self._tables.rotate(heads[:, : self._num_rotated], cos, sin)
            query, key = rotated[:, : self._num_heads], rotated[:, self._num_heads :]
            attended = context.attend(index, query, key, heads[:, self._num_rotated :])
            _add_product(layer.out, attended.reshape(x.shape[0], -1), x)
            gate, up = _product(layer.gate_up, x, layer.post_norm).chunk(2, dim=-1)
            _add_product(layer.down, functional.silu(gate).mul_(up), x)
        return _product(self._head, x, self._decoder.norm)


def _product(layer: QuantizedLinear, x: Tensor, norm: RMSNorm) -> Tensor:
    """(B, N): the norm of (B, K), times the layer's weight, plus its bias."""
    rows = native.prepare(x, layer.scheme, norm.weight, norm.eps)
    return native.multiply(layer, rows, x.new_empty((x.shape[0], layer.out_features)), bias=layer.bias)


def _add_product(layer: QuantizedLinear, x: Tensor, out: Tensor) -> None:
    """Add the product of (B, K) to (B, N)."""
    native.multiply(layer, native.prepare(x, layer.scheme), out, bias=layer.bias, added=out)
