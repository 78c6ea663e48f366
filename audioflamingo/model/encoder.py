"""AF-Whisper, the audio encoder (paper, section 3.1): Whisper large-v3's encoder, pooled by two before its last norm.

Shapes: W windows, F mel frames (10 ms), S encoder frames (20 ms), A audio tokens (40 ms), D width, N packed frames.

A window costs its own length, never 30 s, and the result is exact: keys beyond the valid length are masked for every
query in the reference, so only the valid encoder frames are run here; the convolutions look one mel frame past the
valid ones, hence the two extra mel frames that `audio.log_mel` gives.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.config import EncoderConfig
from audioflamingo.model.attention import Packing, attend
from audioflamingo.model.fused import embed_frames_fused, run_encoder, takes_fused_encoder
from audioflamingo.model.kernels.joint import spanning


class EncoderAttention(nn.Module):
    """Bidirectional self-attention; queries and values have a bias, keys have none."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width, bias=False)
        self.v_proj = nn.Linear(config.width, config.width)
        self.out_proj = nn.Linear(config.width, config.width)
        self._joint_bias: Tensor | None = None

    @property
    def joint(self) -> tuple[Tensor, Tensor] | None:
        """Weight (3 D, D) and bias (3 D,), zeros for the keys, of queries, keys and values in one, after `fuse`."""
        layers, bias = (self.q_proj, self.k_proj, self.v_proj), self._joint_bias
        if bias is None or any(type(layer) is not nn.Linear or layer._forward_hooks for layer in layers):
            return None
        own = (bias[: len(bias) // 3], bias[-len(bias) // 3 :])
        are_own = [mine.data_ptr() == layer.bias.data_ptr() for mine, layer in zip(own, layers[::2], strict=True)]
        weight = spanning([layer.weight.detach() for layer in layers])
        return (weight, bias) if weight is not None and all(are_own) else None

    @torch.no_grad()
    def fuse(self) -> None:
        """Lay the parameters of the three one behind the other, so that one product can take them all."""
        layers = (self.q_proj, self.k_proj, self.v_proj)
        if self.joint is not None or any(type(layer) is not nn.Linear or layer.weight.is_meta for layer in layers):
            return
        weights = torch.cat([layer.weight.detach() for layer in layers]).chunk(3)
        for layer, weight in zip(layers, weights, strict=True):
            layer.weight.data = weight
        query_bias, value_bias = self.q_proj.bias.detach(), self.v_proj.bias.detach()
        self._joint_bias = torch.cat([query_bias, torch.zeros_like(query_bias), value_bias])
        self.q_proj.bias.data, _, self.v_proj.bias.data = self._joint_bias.chunk(3)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """(N, D) to (N, D)."""
        heads = (self.num_heads, -1)
        query, key = self.q_proj(x).unflatten(-1, heads), self.k_proj(x).unflatten(-1, heads)
        value = self.v_proj(x).unflatten(-1, heads)
        out: Tensor = self.out_proj(attend(query, key, value, packing, causal=False).flatten(1))
        return out


class EncoderLayer(nn.Module):
    """A pre-norm transformer layer with an exact GELU."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.self_attn = EncoderAttention(config)
        self.final_layer_norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.fc1 = nn.Linear(config.width, config.ffn_width)
        self.fc2 = nn.Linear(config.ffn_width, config.width)

    def forward(self, x: Tensor, packing: Packing) -> Tensor:
        """(N, D) to (N, D)."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), packing)
        x = x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))
        if x.dtype == torch.float16:  # the reference's guard against overflow, in this dtype only
            bound = torch.finfo(torch.float16).max - 1000
            x = x.clamp(-bound, bound)
        return x


class Encoder(nn.Module):
    """Log-mel windows to features at 25 Hz."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv1d(config.num_mel_bins, config.width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(config.width, config.width, kernel_size=3, stride=2, padding=1)
        # A table that the checkpoint stores and that is never trained (facts: sinusoids, kept as data).
        self.embed_positions = nn.Embedding(config.max_positions, config.width)
        self.embed_positions.weight.requires_grad_(False)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))
        self.layer_norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, mel: Tensor, num_mel_frames: list[int]) -> tuple[Tensor, list[int]]:
        """Encode windows of any lengths.

        Args:
            mel: (W, num_mel_bins, F) log-mel, any float dtype and device; row w needs min(num_mel_frames[w] + 2, 3000)
                real frames, what follows is never read.
            num_mel_frames: valid frames of each window, ceil(samples / 160).

        Returns:
            (sum of A, D) features, windows one after another, and A of each window.
        """
        frames, lengths = self.embed_frames(mel, num_mel_frames)
        packing = Packing.of(lengths, frames.device)
        if takes_fused_encoder(frames, self.layers):
            return self.pool(run_encoder(self, frames, packing), lengths)
        for layer in self.layers:
            frames = layer(frames, packing)
        return self.pool(frames, lengths)

    def embed_frames(self, mel: Tensor, num_mel_frames: list[int]) -> tuple[Tensor, list[int]]:
        """Convolutions and positions: (W, bins, F) to packed (N, D), and the encoder frames of each window."""
        weight = self.conv1.weight
        mel = mel[:, :, : max(num_mel_frames) + 2]  # what the convolutions see of the longest window
        mel = mel.to(device=weight.device, dtype=weight.dtype)
        lengths = [(frames - 1) // 2 + 1 for frames in num_mel_frames]
        if takes_fused_encoder(mel, self.layers):
            x = embed_frames_fused(self, mel, max(lengths))
        else:
            x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x[:, : max(lengths)] + self.embed_positions.weight[: max(lengths)]
        if len(set(lengths)) == 1:
            return x.flatten(0, 1), lengths
        return torch.cat([row[:length] for row, length in zip(x, lengths, strict=True)]), lengths

    def pool(self, frames: Tensor, lengths: list[int]) -> tuple[Tensor, list[int]]:
        """Mean of neighbouring frames, then the last norm: (N, D) to (sum of A, D), and A of each window."""
        pooled_lengths = [length // 2 for length in lengths]
        if any(length % 2 for length in lengths):  # an odd last frame has no partner and is dropped
            parts = zip(torch.split(frames, lengths), pooled_lengths, strict=True)
            frames = torch.cat([part[: 2 * length] for part, length in parts])
        pooled = frames.view(len(frames) // 2, 2, frames.shape[1]).mean(1)
        features: Tensor = self.layer_norm(pooled)
        return features, pooled_lengths


def sinusoids(num_positions: int, width: int) -> Tensor:
    """(num_positions, width) float32 table of Whisper's encoder: sines, then cosines, of log-spaced frequencies."""
    assert width % 2 == 0
    step = torch.log(torch.tensor(10_000.0, dtype=torch.float64)) / (width // 2 - 1)
    rates = torch.exp(-step * torch.arange(width // 2, dtype=torch.float64))
    angles = torch.arange(num_positions, dtype=torch.float64)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
