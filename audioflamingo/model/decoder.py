"""Qwen2.5, the decoder: pre-norm layers with grouped-query attention, rotary positions and SwiGLU.

Shapes: N tokens of all sequences packed one after another, D width, H query heads, Hkv key heads, Dh head width,
V vocabulary. How tokens attend (to themselves only, or to a cache) is the business of the `AttentionContext` that is
passed in: the layers below are the same for training, prefill and decoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.config import DecoderConfig
from audioflamingo.model.attention import Packing, attend
from audioflamingo.model.encoder import EncoderAttention
from audioflamingo.model.fused import run_decoder, takes_fused


class AttentionContext(Protocol):
    """What the new tokens attend to."""

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, H, Dh) outputs for queries (N, H, Dh) and new keys and values (N, Hkv, Dh), rotary already applied."""
        ...


@dataclass(frozen=True)
class CausalContext:
    """Whole sequences without a cache: every token sees its own sequence up to itself."""

    packing: Packing

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`."""
        return attend(query, key, value, self.packing, causal=True)


class RMSNorm(nn.Module):
    """Root-mean-square norm in fp32, rounded to the input's dtype before the weight, as the reference does."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) to (..., D)."""
        if x.dtype == torch.float32 or self.training:  # one kernel; other rounding than the reference's only if short
            return functional.rms_norm(x, self.weight.shape, self.weight, self.eps)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


def rotary_tables(positions: Tensor, head_dim: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (N, 1, Dh) in `dtype`, computed in fp32, for (N,) positions."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64, device=positions.device).float() / head_dim
    angles = positions.float()[:, None] * (1.0 / theta**exponents)
    angles = torch.cat([angles, angles], dim=-1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (N, H, Dh), halves paired as in Qwen2."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


class DecoderAttention(nn.Module):
    """Grouped-query attention; queries, keys and values have biases, the output has none."""

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        self.layer_index = layer_index
        self.num_heads, self.head_dim = config.num_heads, config.head_dim
        self.q_proj = nn.Linear(config.width, config.num_heads * config.head_dim)
        self.k_proj = nn.Linear(config.width, config.num_kv_heads * config.head_dim)
        self.v_proj = nn.Linear(config.width, config.num_kv_heads * config.head_dim)
        self.o_proj = nn.Linear(config.num_heads * config.head_dim, config.width, bias=False)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, context: AttentionContext, rows: Tensor | None = None
    ) -> Tensor:
        """(N, D) to (N, D), or of N only the (R,) rows that are wanted: (R, D)."""
        heads = (x.shape[0], -1, self.head_dim)
        # Queries and keys are rotated together: in a decode step each call costs more than its arithmetic.
        rotated = rotate(torch.cat([self.q_proj(x), self.k_proj(x)], dim=-1).view(heads), cos, sin)
        query, key = rotated[:, : self.num_heads], rotated[:, self.num_heads :]
        value = self.v_proj(x).view(heads)
        attended = context.attend(self.layer_index, query, key, value).flatten(1)
        out: Tensor = self.o_proj(attended if rows is None else attended[rows])
        return out

    @property
    def joint(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight ((H + 2 Hkv) Dh, D) and bias of queries, keys and values in one, see `fuse_projections`."""
        return _joint(self.q_proj, self.k_proj, self.v_proj)


class SwiGLU(nn.Module):
    """Gated feed-forward without biases."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.width, config.ffn_width, bias=False)
        self.up_proj = nn.Linear(config.width, config.ffn_width, bias=False)
        self.down_proj = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) to (N, D)."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out

    @property
    def joint(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight (2 * ffn width, D) of gate and up in one, see `fuse_projections`."""
        return _joint(self.gate_proj, self.up_proj)


class DecoderLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, config: DecoderConfig, layer_index: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.width, config.norm_eps)
        self.self_attn = DecoderAttention(config, layer_index)
        self.post_attention_layernorm = RMSNorm(config.width, config.norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, context: AttentionContext, rows: Tensor | None = None
    ) -> Tensor:
        """(N, D) to (N, D), or of N only the (R,) rows that are wanted: (R, D)."""
        attended = self.self_attn(self.input_layernorm(x), cos, sin, context, rows)
        x = (x if rows is None else x[rows]) + attended
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Decoder(nn.Module):
    """Embeddings of packed tokens to hidden states and logits."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.lm_head = nn.Linear(config.width, config.vocab_size, bias=False)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        context: AttentionContext,
        rows: Tensor | None = None,
        *,
        is_spare: bool = False,
    ) -> Tensor:
        """Hidden states after the last norm, of all tokens or of those that are wanted.

        Of a prompt only the end is: behind the last layer's attention the others have nothing more to say to it, and
        that layer's feed-forward, a thirtieth of the whole model's work, need not see them.

        Args:
            x: (N, D) embeddings.
            positions: (N,) int64, each token's position in its own sequence.
            context: what the tokens attend to.
            rows: (R,) int64, which states come out; None for all. No adapter that tells rows apart may be on then.
            is_spare: whether nobody looks at x again, so that its memory may be used.

        Returns:
            (N, D), or (R, D).
        """
        if takes_fused(x, self.layers):
            return run_decoder(self, x, positions, context, rows, is_spare=is_spare)
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            x = layer(x, cos, sin, context, rows if index == last else None)
        out: Tensor = self.norm(x)
        return out


@torch.no_grad()
def fuse_projections(model: nn.Module) -> None:
    """Lay the weights of q, k and v, and of gate and up, one behind the other, so that one product can take them all.

    Each parameter stays what it is, by name, shape and values, as a view of the common memory; `joint` of a module then
    gives the whole. Modules whose layers are not plain `nn.Linear` (adapters, quantised ones) are left alone.
    """
    for module in model.modules():
        if isinstance(module, DecoderAttention) and module.joint is None:
            _lay_together(module.q_proj, module.k_proj, module.v_proj)
        elif isinstance(module, SwiGLU) and module.joint is None:
            _lay_together(module.gate_proj, module.up_proj)
        elif isinstance(module, EncoderAttention):
            module.fuse()


def _lay_together(*layers: nn.Linear) -> None:
    if any(type(layer) is not nn.Linear or layer.weight.is_meta for layer in layers):
        return
    for parameters in ([layer.weight for layer in layers], [layer.bias for layer in layers]):
        if any(parameter is None for parameter in parameters):
            continue
        sizes = [len(parameter) for parameter in parameters]
        parts = torch.split(torch.cat([parameter.detach() for parameter in parameters]), sizes)
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.data = part


def _joint(*layers: nn.Linear) -> tuple[Tensor, Tensor | None] | None:
    """Weight and bias of linear layers as one, if they are plain and their parameters lie one behind the other."""
    if any(type(layer) is not nn.Linear for layer in layers):
        return None
    weight = _spanning([layer.weight.detach() for layer in layers])
    has_bias = layers[0].bias is not None
    bias = _spanning([layer.bias.detach() for layer in layers]) if has_bias else None
    return None if weight is None or (has_bias and bias is None) else (weight, bias)


def _spanning(parts: list[Tensor]) -> Tensor | None:
    """One tensor over neighbours in memory, along their first dimension, or None where they are no neighbours."""
    first, end = parts[0], parts[0].data_ptr()
    for part in parts:
        is_next = part.data_ptr() == end and part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if part.is_meta or not part.is_contiguous() or part.dtype != first.dtype or not is_next:
            return None
        end += part.numel() * part.element_size()
    return first.as_strided((sum(map(len, parts)), *first.shape[1:]), first.stride())
