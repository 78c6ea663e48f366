"""Attention within a window of the past, for sequences side by side, whole or as a stream.

The layers are the decoder's own (`audioflamingo.model.decoder`); this is the context that they attend in.
Shapes: B sequences, T new elements, M all elements in sight, H heads, Dh head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.config import DecoderConfig
from audioflamingo.model.decoder import DecoderLayer, RMSNorm, rotary_tables
from audioflamingo.speech.streaming import StreamState

EMPTY = torch.empty(0)


@dataclass(frozen=True)
class WindowContext:
    """What T new elements of each sequence attend to.

    Attributes:
        batch: B.
        mask: (B or 1, 1, T, M) whether an element sees another; None where all see all.
        state: keys and values of earlier calls, and where this call's go.
        window: how many elements are kept.
        owner: whose keys in the state.
    """

    batch: int
    mask: Tensor | None
    state: StreamState | None = None
    window: int = 0
    owner: object = None

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`; N is B T."""
        query, key, value = (x.view(self.batch, -1, *x.shape[1:]).transpose(1, 2) for x in (query, key, value))
        if self.state is not None:
            key, value = self._with_past(layer_index, key, value)
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=self.mask)
        return out.transpose(1, 2).flatten(0, 1)

    def _with_past(self, layer_index: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        assert self.state is not None
        both = torch.stack([key, value])
        past = self.state.get((self.owner, layer_index), both[..., :0, :])
        both = torch.cat([past, both], dim=-2)
        self.state.put((self.owner, layer_index), both[..., max(0, both.shape[-2] - self.window) :, :])
        return both[0], both[1]


class WindowTransformer(nn.Module):
    """Pre-norm layers whose elements see the last `window` elements, and, of those to come, their own block's.

    Args:
        config: shapes; every head has its own keys.
        window: elements in sight, the own one included.
    """

    def __init__(self, config: DecoderConfig, window: int) -> None:
        super().__init__()
        self.config, self.window = config, window
        self.layers = nn.ModuleList(DecoderLayer(config, index) for index in range(config.num_layers))
        self.norm = RMSNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, blocks: Tensor | None = None, state: StreamState | None = None) -> Tensor:
        """Hidden states after the last norm.

        Args:
            x: (B, T, D).
            blocks: (B, T) int64, never falling: elements of one block see each other whole. None: strictly causal.
            state: continues a stream (of one sequence). A call must then hold whole blocks.

        Returns:
            (B, T, D).
        """
        batch, num_new = x.shape[:2]
        start = 0 if state is None else int(state.get((self, "start"), EMPTY.new_zeros(1)))
        positions = torch.arange(start, start + num_new, device=x.device)
        if state is not None:
            state.put((self, "start"), torch.tensor([float(start + num_new)]))
            past = min(start, self.window)
            mask = self._stream_mask(positions, past, whole=blocks is not None)
        else:
            mask = self._mask(positions, blocks)
        context = WindowContext(batch, mask, state, self.window, self)
        cos, sin = rotary_tables(positions.repeat(batch), self.config.head_dim, self.config.rope_theta, x.dtype)
        packed = x.flatten(0, 1)
        for layer in self.layers:
            packed = layer(packed, cos, sin, context)
        out: Tensor = self.norm(packed)
        return out.view(batch, num_new, -1)

    def _mask(self, positions: Tensor, blocks: Tensor | None) -> Tensor:
        distance = positions[:, None] - positions
        if blocks is None:
            return ((distance >= 0) & (distance < self.window))[None, None]
        is_past = blocks[:, :, None] >= blocks[:, None, :]
        return (is_past & (distance < self.window))[:, None]

    def _stream_mask(self, positions: Tensor, past: int, *, whole: bool) -> Tensor | None:
        keys = torch.arange(int(positions[0]) - past, int(positions[-1]) + 1, device=positions.device)
        distance = positions[:, None] - keys
        visible = distance < self.window
        if not whole:
            visible &= distance >= 0
        return None if bool(visible.all()) else visible[None, None]
