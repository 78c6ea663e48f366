"""What the vocoder says is held to what it was told to say: every band gets the level of its mel frame.

A vocoder trained for minutes gets harmonics right and levels only nearly, which a recogniser hears. Here its sound is
analysed again, window by window, and every mel band is scaled towards the level that the speech model asked for.
Nothing is learnt; it streams like the rest.

Shapes: B sequences, U subframes of 240 samples, b mel bands, f bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audioflamingo.speech.codec import HOP_SAMPLES, STFT_SAMPLES
from audioflamingo.speech.mels import LOG_FLOOR, MEL_FFT, SILENT_FEATURE, energies, mel_matrix
from audioflamingo.speech.model import NUM_MEL_BANDS
from audioflamingo.speech.streaming import StreamState, overlapped

SOFTEST, LOUDEST = 0.2, 4.0  # a band is scaled by no less and no more
WINDOW_GAIN = MEL_FFT / STFT_SAMPLES  # of the features' window over the one here, by their sums
NUM_BEFORE = 5  # mel frames: the middle of a window that is just whole lies between the fifth and the fourth before


class Polish(nn.Module):
    """Levels of mel bands, corrected as the sound comes."""

    window: Tensor
    matrix: Tensor
    spread: Tensor
    envelope: Tensor

    def __init__(self) -> None:
        super().__init__()
        window, matrix = torch.hann_window(STFT_SAMPLES), mel_matrix(MEL_FFT, NUM_MEL_BANDS)
        totals = matrix.sum(1, keepdim=True)
        spread = torch.where(totals > 0, matrix / totals.clamp(min=1e-8), torch.zeros(()))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("spread", spread.T.contiguous(), persistent=False)
        self.register_buffer("envelope", window.square().view(-1, HOP_SAMPLES).sum(0), persistent=False)

    @property
    def delay(self) -> int:
        """Samples by which it makes the sound late."""
        return STFT_SAMPLES - HOP_SAMPLES

    def forward(self, samples: Tensor, mels: Tensor, state: StreamState) -> Tensor:
        """Correct the next samples of a stream.

        Args:
            samples: (B, 240 U) of a decoder, late by as much as this is.
            mels: (B, b, U) the features that they were made of.
            state: continues the stream.

        Returns:
            (B, 240 U) samples, `delay` later than those that came.
        """
        before = state.get((self, "samples"), samples.new_zeros(len(samples), self.delay))
        joined = torch.cat([before, samples], dim=1)
        state.put((self, "samples"), joined[:, joined.shape[1] - self.delay :])
        pieces = joined.unfold(1, STFT_SAMPLES, HOP_SAMPLES) * self.window
        spectra = torch.fft.rfft(pieces, n=MEL_FFT)
        gains = self._gains(spectra.abs(), mels, state)
        polished = torch.fft.irfft(spectra * gains, n=MEL_FFT)[..., :STFT_SAMPLES] * self.window
        return overlapped(polished, self.envelope, self, state)

    def _gains(self, magnitudes: Tensor, mels: Tensor, state: StreamState) -> Tensor:
        """(B, U, f) of windows of which each ends with its subframe's samples."""
        silent = mels.new_full((*mels.shape[:2], NUM_BEFORE), SILENT_FEATURE)
        known = torch.cat([state.get((self, "mels"), silent), mels], dim=2)
        state.put((self, "mels"), known[..., known.shape[2] - NUM_BEFORE :])
        wanted = energies(known)
        num_new = mels.shape[2]
        middle = (wanted[..., :num_new] + wanted[..., 1 : num_new + 1]) / 2
        own = WINDOW_GAIN * (magnitudes @ self.matrix) + LOG_FLOOR
        gains: Tensor = (middle.transpose(1, 2) / own).clamp(SOFTEST, LOUDEST) @ self.spread
        return gains
