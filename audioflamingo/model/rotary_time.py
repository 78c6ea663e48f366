"""Rotary time embedding of Music Flamingo and Audio Flamingo Next: features learn when they were heard.

It is applied behind the encoder's last norm, to the first channels; the rest pass through. Two axes, each with its own
channels: the number of the window within its sound, and the place within the window. Both are then turned by the time
in seconds. Two variants are published: transformers' (base 1200, no 2 pi on the window axis) and NVIDIA's module, which
vLLM follows (base 1200 / 2 pi, 2 pi / 1200 on both axes). NVIDIA's counts windows over a whole batch; here they are
counted within each sound in both variants, so that an answer does not depend on what else is asked: for one sound the
two are the same. Shapes: W windows, A audio tokens, R channels of one axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from audioflamingo.config import AUDIO_TOKENS_PER_WINDOW, TimeRotaryConfig

AUDIO_TOKEN_S = 0.04


def rotate_in_time(
    features: Tensor, num_audio_tokens: Sequence[int], window_numbers: Sequence[int], config: TimeRotaryConfig
) -> Tensor:
    """Turn packed features by their times.

    Args:
        features: (sum of A, D), windows one after another.
        num_audio_tokens: A of each window.
        window_numbers: the number of each window within its sound, from 0.
        config: base, share of the channels, variant.

    Returns:
        (sum of A, D), same dtype; computed in fp64 where the device has it.
    """
    places = torch.cat([torch.arange(count) for count in num_audio_tokens]).float()
    numbers = torch.repeat_interleave(torch.tensor(window_numbers), torch.tensor(num_audio_tokens)).float()
    angles = time_angles(numbers, places, int(features.shape[1] * config.share), config).to(features.device)
    wide = features.to(torch.float32 if features.device.type == "mps" else torch.float64)
    turned, rest = wide[:, : angles.shape[1]], wide[:, angles.shape[1] :]
    first, second = turned[:, 0::2], turned[:, 1::2]
    partner = torch.stack((-second, first), dim=-1).flatten(1)
    turned = turned * angles.cos().to(wide.dtype) + partner * angles.sin().to(wide.dtype)
    return torch.cat((turned, rest), dim=1).to(features.dtype)


def time_angles(numbers: Tensor, places: Tensor, axis_width: int, config: TimeRotaryConfig) -> Tensor:
    """(A, 2 R) float32 angles for (A,) window numbers and places within the window, in audio tokens."""
    exponents = torch.arange(0, axis_width, 2, dtype=torch.int64).float() / axis_width
    rates = (1.0 / config.theta**exponents).repeat_interleave(2)
    turn = 2 * math.pi
    window_scale = turn if config.variant == "nvidia" else 1.0
    window_angles = (numbers / config.max_positions * window_scale)[:, None] * rates
    place_angles = (places / config.max_positions * turn)[:, None] * rates
    times_s = numbers * AUDIO_TOKENS_PER_WINDOW * AUDIO_TOKEN_S + places * AUDIO_TOKEN_S
    return torch.cat((window_angles, place_angles), dim=1) * (-times_s * turn)[:, None]
