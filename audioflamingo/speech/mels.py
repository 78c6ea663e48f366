"""The mel frames that the speech model says and the vocoder hears: 80 bands up to 12 kHz, every 10 ms.

Shapes: B sequences, T codec frames, U = 4 T subframes, b = 80 bands.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from audioflamingo.speech.codec import SUBFRAMES
from audioflamingo.speech.model import NUM_MEL_BANDS
from audioflamingo.speech.stream import SPEECH_RATE_HZ

MEL_FFT = 1_024
LOG_FLOOR = 1e-4
MEL_MEAN, MEL_SCALE = -4.0, 2.5  # of log mels of speech, roughly: the speech model regresses numbers of size one
SILENT_FEATURE = (math.log(LOG_FLOOR) - MEL_MEAN) / MEL_SCALE


@cache
def mel_matrix(num_fft: int, num_bands: int) -> Tensor:
    """(bins, b) triangles over the mel scale, up to half the rate."""
    top_hz = SPEECH_RATE_HZ / 2
    mels = torch.linspace(0, 2595 * torch.log10(torch.tensor(1 + top_hz / 700)).item(), num_bands + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)
    bins = torch.linspace(0, top_hz, num_fft // 2 + 1)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.minimum(rise, fall).clamp(min=0)


def frames_of_mels(mels: Tensor) -> Tensor:
    """(B, 80, 4 T) mel frames as (B, 320, T): those of a codec frame one after another."""
    batch, bands, _ = mels.shape
    return mels.reshape(batch, bands, -1, SUBFRAMES).permute(0, 3, 1, 2).reshape(batch, SUBFRAMES * bands, -1)


def mels_of_frames(frames: Tensor) -> Tensor:
    """(B, 320, T) to (B, 80, 4 T), the other way."""
    batch, _, num_frames = frames.shape
    split = frames.reshape(batch, SUBFRAMES, NUM_MEL_BANDS, num_frames)
    return split.permute(0, 2, 3, 1).reshape(batch, NUM_MEL_BANDS, SUBFRAMES * num_frames)


def energies(features: Tensor) -> Tensor:
    """Scaled log mels of any shape as magnitudes, never below the floor."""
    return (features * MEL_SCALE + MEL_MEAN).exp().clamp(min=LOG_FLOOR)
