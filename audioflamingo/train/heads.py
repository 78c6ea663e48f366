"""Heads that shape the encoder when it starts from nothing, and are dropped afterwards.

The paper trains AF-Whisper by captions alone, from Whisper's weights; from nothing, characters by CTC and dense labels
of events teach an encoder to listen long before any decoder could (docs/nano.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.train.clips import CTC_ALPHABET, EVENT_NAMES
from audioflamingo.train.pool import Batch

CTC_LOSS_FRAMES = 4  # 80 ms, about one spoken letter


class ListeningHeads(nn.Module):
    """CTC at 50 Hz before the pool, events at 25 Hz after it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ctc_norm = nn.LayerNorm(width)
        self.ctc = nn.Linear(width, len(CTC_ALPHABET) + 1)
        self.events = nn.Linear(width, len(EVENT_NAMES))

    def ctc_loss(self, frames: Tensor, batch: Batch) -> Tensor:
        """Negative log-likelihood of `CTC_LOSS_FRAMES` frames. frames: (B, S, D), every frame valid.

        Counted by frames, not by characters: a batch where hardly anyone speaks would otherwise outweigh all others.
        """
        log_probs: Tensor = self.ctc(self.ctc_norm(frames)).float().log_softmax(-1)
        num_clips, num_frames = log_probs.shape[:2]
        total = functional.ctc_loss(
            log_probs.transpose(0, 1),
            batch.ctc,
            torch.full((num_clips,), num_frames, dtype=torch.int64),
            batch.ctc_lengths,
            reduction="sum",
            zero_infinity=True,
        )
        return total * (CTC_LOSS_FRAMES / (num_clips * num_frames))

    def event_loss(self, features: Tensor, batch: Batch) -> Tensor:
        """Mean binary cross-entropy, summed over names. features: (B, A, D)."""
        logits = self.events(features).float()
        return functional.binary_cross_entropy_with_logits(logits, batch.events, reduction="none").sum(-1).mean()

    def ctc_greedy(self, frames: Tensor) -> list[str]:
        """Most likely labels with repeats and blanks removed, as text. frames: (B, S, D)."""
        best = self.ctc(self.ctc_norm(frames)).argmax(-1).tolist()
        texts = []
        for row in best:
            kept = [label for before, label in zip([0, *row], row, strict=False) if label and label != before]
            texts.append("".join(CTC_ALPHABET[label - 1] for label in kept))
        return texts
