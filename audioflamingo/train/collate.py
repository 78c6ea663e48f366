"""Examples to one pack: everything in it lies one after another, nothing is padded, and sequences never see each other.

Shapes: N tokens of all sequences, W windows, F mel frames, M learnt tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.audio import log_mel_batch, num_audio_tokens, split_windows
from audioflamingo.train.data.examples import Example
from audioflamingo.train.heard import Heard


@dataclass(frozen=True, eq=False)
class PackedBatch:
    """Sequences of different lengths on one device.

    Attributes:
        ids: (N,) int64.
        lengths: tokens of each sequence.
        places: (M,) int64 places in N whose hidden state predicts a learnt token: one before it.
        targets: (M,) int64 the learnt tokens.
        mel: (W, bins, F) windows of all sounds in the order of their placeholders, or None.
        num_mel_frames: valid mel frames of each window.
        window_numbers: of each window within its sound, from 0.
        features: (A, encoder's width) of all sounds in the order of their placeholders, where the encoder has heard
            them already; `mel` is None then, and `num_mel_frames` those of the windows that it heard for this pack.
    """

    ids: Tensor
    lengths: tuple[int, ...]
    places: Tensor
    targets: Tensor
    mel: Tensor | None
    num_mel_frames: list[int]
    window_numbers: tuple[int, ...] = ()
    features: Tensor | None = None

    @property
    def num_targets(self) -> int:
        """M."""
        return len(self.targets)


def collate(examples: Sequence[Example], device: torch.device | str = "cpu", heard: Heard | None = None) -> PackedBatch:
    """Pack examples, at least one; log-mels are computed on the device, or what `heard` has of the sounds is taken."""
    ids = torch.tensor([token for example in examples for token in example.ids])
    is_target = torch.tensor([flag for example in examples for flag in example.is_target])
    learnt = is_target.nonzero()[:, 0]
    numbered = [
        (number, window)
        for example in examples
        for span in example.spans
        for number, window in enumerate(split_windows(example.audios[span.audio_index].samples))
        if num_audio_tokens(len(window))
    ]
    windows = [window for _, window in numbered]
    window_numbers = tuple(number for number, _ in numbered)
    mel, features, num_mel_frames = None, None, list[int]()
    if windows and heard is not None:
        features, num_mel_frames = heard.features(windows, window_numbers)
    elif windows:
        mel, mel_frames = log_mel_batch(windows, device)
        num_mel_frames = list(mel_frames)
    return PackedBatch(
        ids=ids.to(device),
        lengths=tuple(len(example.ids) for example in examples),
        places=(learnt - 1).to(device),
        targets=ids[learnt].to(device),
        mel=mel,
        num_mel_frames=num_mel_frames,
        window_numbers=window_numbers,
        features=features,
    )
