"""The decoder's layers for a few tokens on a CPU, in as few calls as possible: a small model's step is bound by calls.

The arithmetic is that of `model.decoder`, the slow twin that it is tested against, to the last digit or two of fp32. It
needs joint projections (`fuse_projections`), and nothing that hangs on the layers, such as an adapter, has a say here.
Shapes: B sequences with one new token each, D width, H query heads, Hkv key heads, Dh head width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.decoder import AttentionContext, Decoder, DecoderLayer, RMSNorm, rotary_tables

COPIED_PARAMETERS = 100_000_000  # a decoder of fewer has its matrices a second time, 100 MB at most


@dataclass(frozen=True)
class _Layer:
    """Weights of one layer, matrices as (inputs, outputs): copies of a small decoder's, views of a large one's."""

    input_norm: RMSNorm
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    post_norm: RMSNorm
    gate_up: Tensor
    down: Tensor

    @classmethod
    def of(cls, layer: nn.Module, *, is_copied: bool) -> _Layer | None:
        """Those of a layer, or None where one of its matrices is not plain."""
        assert isinstance(layer, DecoderLayer)
        qkv, gate_up = layer.self_attn.joint, layer.mlp.joint
        others = (layer.self_attn.o_proj, layer.mlp.down_proj)
        if qkv is None or qkv[1] is None or gate_up is None or any(type(one) is not nn.Linear for one in others):
            return None
        out, down = (_turned(one.weight, is_copied) for one in others)
        norms = layer.input_layernorm, layer.post_attention_layernorm
        wide = _turned(gate_up[0], is_copied)
        return cls(norms[0], _turned(qkv[0], is_copied), qkv[1], out, norms[1], wide, down)


def _turned(matrix: Tensor, is_copied: bool) -> Tensor:
    """(outputs, inputs) to (inputs, outputs), which the product of one row reads a quarter faster if it lies so."""
    turned = matrix.detach().t()
    return turned.contiguous() if is_copied else turned


class StepTables:
    """Cosines and signed sines of rotary positions, kept in fp32 from one decode step to the next."""

    def __init__(self, head_dim: int, theta: float) -> None:
        self._head_dim, self._theta = head_dim, theta
        self._cos, self._sin = self._up_to(1024)

    def at(self, positions: list[int]) -> tuple[Tensor, Tensor]:
        """Cosines and signed sines (B, 1, Dh) of the positions."""
        last = max(positions)
        if last >= len(self._cos):
            self._cos, self._sin = self._up_to(2 * last)
        if len(positions) == 1:
            return self._cos.narrow(0, last, 1), self._sin.narrow(0, last, 1)
        index = torch.tensor(positions)
        return self._cos.index_select(0, index), self._sin.index_select(0, index)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """As `decoder.rotate`, the sign of the swapped first half being in the sines."""
        swapped = torch.roll(x, self._head_dim // 2, -1)
        return torch.addcmul(x * cos, swapped, sin)

    def _up_to(self, num_positions: int) -> tuple[Tensor, Tensor]:
        cos, sin = rotary_tables(torch.arange(num_positions), self._head_dim, self._theta, torch.float32)
        first, second = sin.chunk(2, dim=-1)
        return cos, torch.cat([-first, second], dim=-1)


class LeanDecoder:
    """Runs decode steps with the weights of a decoder, which it shares."""

    def __init__(self, decoder: Decoder, layers: list[_Layer], head: Tensor) -> None:
        config = decoder.config
        self._decoder, self._layers = decoder, layers
        self._num_rotated = config.num_heads + config.num_kv_heads
        self._num_heads, self._head_dim = config.num_heads, config.head_dim
        self._head = head
        self._tables = StepTables(config.head_dim, config.rope_theta)

    @classmethod
    def of(cls, decoder: Decoder, *, is_copied: bool = True) -> LeanDecoder | None:
        """One for this decoder, or None where it would not be the same: other dtypes than fp32, other layers.

        With `is_copied` a small decoder's matrices are laid out anew, which takes as long as a few dozen steps win by
        it; whoever keeps the copy must not change the weights.
        """
        weight = decoder.norm.weight  # tables may be stored otherwise
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            return None
        if type(decoder.lm_head) is not nn.Linear:
            return None
        is_copied = is_copied and sum(one.numel() for one in decoder.parameters()) < COPIED_PARAMETERS
        layers = []
        for layer in decoder.layers:
            found = _Layer.of(layer, is_copied=is_copied)
            if found is None:
                return None
            layers.append(found)
        return cls(decoder, layers, _turned(decoder.lm_head.weight, is_copied))

    def logits(self, tokens: Tensor, positions: list[int], context: AttentionContext) -> Tensor:
        """(B, V) logits of the tokens that follow (B,) tokens, one a sequence, at the given positions."""
        x = functional.embedding(tokens, self._decoder.embed_tokens.weight)
        cos, sin = self._tables.at(positions)
        for index, layer in enumerate(self._layers):
            joint = _normed_product(x, layer.input_norm, layer.qkv, layer.qkv_bias)
            heads = joint.view(x.shape[0], -1, self._head_dim)
            rotated = self._tables.rotate(heads[:, : self._num_rotated], cos, sin)
            query, key = rotated[:, : self._num_heads], rotated[:, self._num_heads :]
            attended = context.attend(index, query, key, heads[:, self._num_rotated :])
            x = torch.addmm(x, attended.view(x.shape[0], -1), layer.out)
            gate, up = _normed_product(x, layer.post_norm, layer.gate_up, None).chunk(2, dim=-1)
            x = torch.addmm(x, functional.silu(gate).mul_(up), layer.down)
        return _normed_product(x, self._decoder.norm, self._head, None)


def _normed_product(x: Tensor, norm: RMSNorm, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """(B, outputs): the norm of (B, D), times (D, outputs), plus the bias."""
    if x.shape[0] > 1:
        normed, scale = functional.rms_norm(x, norm.weight.shape, norm.weight, norm.eps), 1.0
    else:  # one row's scale is one number, which the product takes along
        row = x[0]
        normed = x * norm.weight
        scale = (torch.dot(row, row).item() / len(row) + norm.eps) ** -0.5
    if bias is None:
        return torch.mm(normed, matrix) if scale == 1.0 else torch.mm(normed, matrix).mul_(scale)
    return torch.addmm(bias, normed, matrix, alpha=scale)
