"""Sounds to the tensors that transformers' model takes: log-mel windows of the full 30 s, and their masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.audio import log_mel_batch, split_windows
from audioflamingo.config import MEL_FRAMES_PER_WINDOW
from audioflamingo.types import Audio

# In units of the output, (log10 power + 4) / 4: silence, and the span that a window may have.
_SILENCE = -1.5
_SPAN = 2.0


def features_of(audios: Sequence[Audio], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Features of sounds, windows one after another.

    Args:
        audios: at least one.
        device: where to compute and where the results lie.

    Returns:
        (W, 128, 3000) float32 log-mels, and (W, 3000) int32 masks of their valid frames.
    """
    windows = [window for audio in audios for window in split_windows(audio.samples)]
    mel, num_mel_frames = log_mel_batch(windows, device)
    floor = (mel.amax(dim=(1, 2)) - _SPAN).clamp(min=_SILENCE)
    missing = MEL_FRAMES_PER_WINDOW - mel.shape[-1]
    padded = functional.pad(mel, (0, missing))
    padded[:, :, mel.shape[-1] :] = floor[:, None, None]
    frames = torch.arange(MEL_FRAMES_PER_WINDOW, device=mel.device)
    mask = frames < torch.tensor(num_mel_frames, device=mel.device)[:, None]
    return padded, mask.to(torch.int32)


def audio_tokens_of_windows(mask: Tensor) -> list[int]:
    """Audio tokens of each window from (W, F) masks of mel frames."""
    return [((int(frames) - 1) // 2 + 1) // 2 if frames else 0 for frames in mask.sum(-1).tolist()]
