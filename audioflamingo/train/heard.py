"""What a frozen encoder hears, kept from one epoch to the next: a sound that was heard once need not be heard again.

On a CPU the encoder takes about as long as half of a training step of adapters. Where it is not trained, what it gives
for a window of sound is the same in every epoch, so it is computed once. The windows go through the encoder one by one,
never together: a matrix product of other sizes may sum in another order, and a run that was stopped and has forgotten
what it heard must end with the same bits as one that has not. Shapes: A audio tokens, D encoder width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from audioflamingo.audio import log_mel_batch
from audioflamingo.engine.content import content_keys
from audioflamingo.model.flamingo import Flamingo

MAX_BYTES = 1 << 30  # eleven hours of the embedded model's features


class Heard:
    """The encoder's features by content of their windows.

    What came first stays, and nothing is thrown away for what comes when the memory is full: every epoch hears
    everything once, so that of a set that is too large the latest would always be gone when its turn comes.

    Args:
        model: its encoder is not trained.
        max_bytes: most bytes of features.
    """

    def __init__(self, model: Flamingo, max_bytes: int = MAX_BYTES) -> None:
        self.model, self.max_bytes = model, max_bytes
        self.num_bytes = 0
        self._features: dict[tuple[bytes, int], Tensor] = {}

    @torch.no_grad()
    def features(self, windows: Sequence[npt.NDArray[np.float32]], numbers: Sequence[int]) -> tuple[Tensor, list[int]]:
        """(sum of A, D) features of windows, at least one, in their order.

        Args:
            windows: of at most 30 s, at 16 kHz.
            numbers: of each within its sound; they matter to models with rotary time embedding.

        Returns:
            The features, and the mel frames of each window that had to be encoded for them.
        """
        has_time = self.model.config.time_rotary is not None
        keys = [(key, number if has_time else 0) for key, number in zip(content_keys(windows), numbers, strict=True)]
        found: list[Tensor] = []
        encoded: list[int] = []
        for key, window in zip(keys, windows, strict=True):
            features = self._features.get(key)
            if features is None:
                mel, num_mel_frames = log_mel_batch([window], self.model.device)
                features, _ = self.model.encode(mel, list(num_mel_frames), key[1:])
                encoded += num_mel_frames
                self._keep(key, features)
            found.append(features)
        return torch.cat(found), encoded

    def _keep(self, key: tuple[bytes, int], features: Tensor) -> None:
        size = features.numel() * features.element_size()
        if self.num_bytes + size <= self.max_bytes:
            self._features[key] = features
            self.num_bytes += size
