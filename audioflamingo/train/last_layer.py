"""The last layer where only a few tokens are learnt: most of its work is for states that nobody looks at.

Of ten minutes of sound and an answer of a hundred words the loss reads a hundred states in fifteen thousand. The last
layer's keys and values are needed of all tokens; its queries, its output and its feed-forward only where a token is
learnt. The result is that of the whole layer at these places, up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from audioflamingo.model.attention import Packing, scaled_dot_product
from audioflamingo.model.decoder import AttentionContext, CausalContext, DecoderAttention, rotate
from audioflamingo.train.attention import TrainingContext
from audioflamingo.train.lean import LeanAttention, project

LARGEST_SHARE = 0.5  # of the tokens; above it the plain layer is as fast


@dataclass(frozen=True)
class PlacesContext(TrainingContext):
    """Whole sequences, of which only the states at some places are wanted.

    Attributes:
        places: (M,) int64, ascending.
    """

    places: Tensor


def only_where_learnt(layer: nn.Module) -> None:
    """From now on this layer, the last one, gives (M, D) states where its context says which are wanted."""
    layer.forward = partial(_forward, layer, layer.forward)


def context_of(packing: Packing, places: Tensor) -> CausalContext:
    """What the decoder attends to when states at `places` are wanted; (N, D) states come where they are many."""
    few = len(places) <= LARGEST_SHARE * packing.total
    return PlacesContext(packing, places) if few and len(places) else TrainingContext(packing)


def _forward(
    layer: Any,
    plain: Callable[..., Tensor],
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    context: AttentionContext,
    rows: Tensor | None = None,
) -> Tensor:
    if not isinstance(context, PlacesContext):
        return plain(x, cos, sin, context, rows)
    places = context.places
    attention = layer.self_attn
    normed = layer.input_layernorm(x)
    (query,) = _linears(attention, normed[places], "q_proj")
    key, value = _linears(attention, normed, "k_proj", "v_proj")
    query, key, value = (one.view(len(one), -1, attention.head_dim) for one in (query, key, value))
    query, key = rotate(query, cos[places], sin[places]), rotate(key, cos, sin)
    heard = attend_at(query, key, value, context.packing, places)
    (mixed,) = _linears(attention, heard.flatten(1), "o_proj")
    x = x[places] + mixed
    out: Tensor = x + layer.mlp(layer.post_attention_layernorm(x))
    return out


def _linears(attention: DecoderAttention | LeanAttention, x: Tensor, *names: str) -> tuple[Tensor, ...]:
    linears = [getattr(attention, name) for name in names]
    return project(x, *linears) if isinstance(attention, LeanAttention) else tuple(one(x) for one in linears)


def attend_at(query: Tensor, key: Tensor, value: Tensor, packing: Packing, places: Tensor) -> Tensor:
    """Causal attention of a few queries, (M, H, Dh) at `places`, to keys and values (N, Hkv, Dh): (M, H, Dh)."""
    sequence = torch.repeat_interleave(torch.tensor(packing.lengths)).to(places.device)
    everywhere = torch.arange(packing.total, device=places.device)
    sees = (sequence[places][:, None] == sequence) & (everywhere <= places[:, None])
    groups = query.shape[1] // key.shape[1]  # no kernel takes both a mask and shared heads without large tables
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    batch = (one.transpose(0, 1)[None] for one in (query, key, value))
    return scaled_dot_product(*batch, mask=sees)[0].transpose(0, 1)
