"""Windows through our encoder: each costs its own length, and a few run at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from audioflamingo.audio.windows import CONV_REACH_FRAMES
from audioflamingo.engine.scheduler import Limits
from audioflamingo.errors import PromptError
from audioflamingo.model.encoder import Encoder

POOLING = 4  # mel frames of one audio token


def encode(encoder: Encoder, features: Tensor, mask: Tensor, *, at_once: bool) -> tuple[Tensor, list[int]]:
    """Encode windows.

    Args:
        encoder: ours.
        features: (W, bins, F) log-mels.
        mask: (W, F), 1 at valid mel frames.
        at_once: whether all windows run together, as training needs it to be fast.

    Returns:
        (sum of A, width) features, and A of each window.

    Raises:
        PromptError: a window has no valid frame.
    """
    frames = [int(count) for count in mask.sum(-1).tolist()]
    if not all(frames):
        raise PromptError("a window of input_features has no valid mel frame; leave it out")
    step = len(frames) if at_once else Limits().encoder_windows
    parts, counts = [], []
    for start in range(0, len(frames), step):
        valid = frames[start : start + step]
        needed = min(max(valid) + CONV_REACH_FRAMES, features.shape[-1])
        encoded, num_tokens = encoder(features[start : start + step, :, :needed], valid)
        parts.append(encoded)
        counts += num_tokens
    return torch.cat(parts), counts


def padded(encoded: Tensor, counts: list[int], num_mel_frames: int) -> Tensor:
    """(W, F // 4, width) features with zeros past each window's end, as transformers lays them out."""
    longest = encoded.new_zeros(num_mel_frames // POOLING, encoded.shape[-1])
    return pad_sequence([*torch.split(encoded, counts), longest], batch_first=True)[:-1]
