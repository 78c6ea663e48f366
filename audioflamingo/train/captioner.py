"""AF-Whisper's own objective: a decoder that listens to the encoder by cross-attention and writes a caption.

It only serves to shape the encoder and is dropped afterwards (paper, section 3.1: 24 layers, 8 heads, width 1024).
Shapes: A audio tokens and T caption tokens of one example, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.encoder import sinusoids
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.collate import PackedBatch

INITIAL_STD = 0.02


@dataclass(frozen=True)
class CaptionerConfig:
    """Size of the caption decoder; the defaults are the paper's.

    Attributes:
        width: D.
        num_layers: transformer layers.
        num_heads: of self- and cross-attention.
        max_tokens: longest caption.
    """

    width: int = 1024
    num_layers: int = 24
    num_heads: int = 8
    max_tokens: int = 1024


class Attention(nn.Module):
    """Multi-head attention of one sequence to itself or to another."""

    def __init__(self, width: int, source_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source_width, width, bias=False)
        self.value = nn.Linear(source_width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, *, causal: bool) -> Tensor:
        """(T, D) and (S, source width) to (T, D)."""
        rows = (self.query(x), self.key(source), self.value(source))
        query, key, value = (row.view(len(row), self.num_heads, -1).transpose(0, 1)[None] for row in rows)
        heard = functional.scaled_dot_product_attention(query, key, value, is_causal=causal)
        out: Tensor = self.out(heard[0].transpose(0, 1).flatten(1))
        return out


class CaptionLayer(nn.Module):
    """Pre-norm: self-attention, cross-attention to the sound, feed-forward."""

    def __init__(self, config: CaptionerConfig, source_width: int) -> None:
        super().__init__()
        self.self_norm, self.cross_norm, self.ffn_norm = (nn.LayerNorm(config.width) for _ in range(3))
        self.self_attn = Attention(config.width, config.width, config.num_heads)
        self.cross_attn = Attention(config.width, source_width, config.num_heads)
        self.fc1 = nn.Linear(config.width, 4 * config.width)
        self.fc2 = nn.Linear(4 * config.width, config.width)

    def forward(self, x: Tensor, heard: Tensor) -> Tensor:
        """(T, D) to (T, D)."""
        normed = self.self_norm(x)
        x = x + self.self_attn(normed, normed, causal=True)
        x = x + self.cross_attn(self.cross_norm(x), heard, causal=False)
        out: Tensor = x + self.fc2(functional.gelu(self.fc1(self.ffn_norm(x))))
        return out


class Captioner(nn.Module):
    """Next-token prediction of captions from what the encoder hears."""

    def __init__(self, config: CaptionerConfig, source_width: int, vocab_size: int, seed: int = 0) -> None:
        super().__init__()
        self.max_tokens = config.max_tokens
        self.embed = nn.Embedding(vocab_size, config.width)
        self.positions: Tensor
        self.register_buffer("positions", sinusoids(config.max_tokens, config.width), persistent=False)
        self.layers = nn.ModuleList(CaptionLayer(config, source_width) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                if parameter.ndim > 1:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * INITIAL_STD)

    def forward(self, heard: Tensor, caption: Tensor) -> Tensor:
        """() summed loss of one caption (T,), whose first token stands for its beginning, given (A, width) features."""
        fed, wanted = caption[:-1], caption[1:]
        x = self.embed(fed) + self.positions[: len(fed)].to(self.embed.weight)
        for layer in self.layers:
            x = layer(x, heard)
        logits = functional.linear(self.norm(x), self.embed.weight)
        return functional.cross_entropy(logits.float(), wanted, reduction="sum")


class CaptionLoss(nn.Module):
    """The encoder with a caption decoder, in the place of `AnswerLoss`.

    Rows are the same as for the other stages: the last answer's tokens are the caption; its sounds are one stretch.
    """

    def __init__(self, model: Flamingo, captioner: Captioner) -> None:
        super().__init__()
        self.model = model
        self.captioner = captioner

    def forward(self, pack: PackedBatch) -> Tensor:
        """() fp32 loss, summed over the pack's learnt tokens."""
        total = torch.zeros((), device=pack.ids.device)
        if pack.mel is None:
            return total + 0.0 * self.captioner.embed.weight.float().sum()
        features, _ = self.model.encoder(pack.mel, pack.num_mel_frames)
        is_audio = pack.ids == self.model.config.audio_token_id
        first, first_feature = 0, 0
        for length in pack.lengths:
            inside = (pack.places >= first) & (pack.places < first + length)
            num_features = int(is_audio[first : first + length].sum())
            if num_features and bool(inside.any()):
                heard = features[first_feature : first_feature + num_features]
                targets = pack.targets[inside]
                start = pack.ids[pack.places[inside][:1]]  # what stands before an answer opens the caption
                total = total + self.captioner(heard, torch.cat([start, targets]))
            first, first_feature = first + length, first_feature + num_features
        return total
