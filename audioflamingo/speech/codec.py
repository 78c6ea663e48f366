"""The codec: 24 kHz sound to FSQ codes at 25 Hz and back, causal and streaming.

Outline of the paper's (appendix I: causal ConvNeXt, inverse STFT head) with a finite scalar quantiser in the place of
its 72 residual levels: 8 groups of [8, 5, 5, 5] levels at 25 Hz are 2 kbit/s and need no upkeep of codebooks.

Shapes: B sequences, N samples, T codec frames (40 ms), U subframes (10 ms), K groups, L levels' dimensions (4 a group).
Codes are integers (B, K, T) below 1000. Encoding a frame uses the sound up to its end and no more; decoding one gives
40 ms of sound, `WaveDecoder.delay` samples (30 ms) late.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from audioflamingo.errors import OptionError
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.streaming import (
    CausalConv,
    ConvNeXtLayer,
    Downsample,
    InverseSTFT,
    StreamState,
    Upsample,
)

CODEC_FRAME_SAMPLES = 960  # 40 ms
SUBFRAMES = 4  # a codec frame
HOP_SAMPLES = CODEC_FRAME_SAMPLES // SUBFRAMES  # 10 ms
STFT_SAMPLES = 4 * HOP_SAMPLES
CODEC_FRAMES_PER_S = SPEECH_RATE_HZ // CODEC_FRAME_SAMPLES
NUM_BINS = STFT_SAMPLES // 2 + 1
LOG_MEAN, LOG_SCALE = -3.0, 2.5  # of log magnitudes of speech, roughly: what does not change would drown what does
FIRST_SPREAD = 1.0  # of what is quantised: a sigmoid of it is nearly even between 0 and 1
MAX_LOG_MAGNITUDE = 6.0  # a bin of a full-scale sine has about 240: beyond it only noise of training


@dataclass(frozen=True)
class CodecConfig:
    """Shapes of the codec.

    Attributes:
        levels: of each dimension of one group.
        num_groups: K.
        frame_width: channels at 25 Hz.
        subframe_width: channels at 100 Hz.
        frame_layers: ConvNeXt layers at 25 Hz, in encoder and decoder each.
        subframe_layers: the same at 100 Hz.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    num_groups: int = 8
    frame_width: int = 256
    subframe_width: int = 192
    frame_layers: int = 2
    subframe_layers: int = 4

    @property
    def code_width(self) -> int:
        """Dimensions of a codec frame's code, all groups together."""
        return len(self.levels) * self.num_groups

    @property
    def num_codes(self) -> int:
        """Values that a code can take."""
        return prod(self.levels)


class FSQ(nn.Module):
    """Finite scalar quantisation (Mentzer et al. 2023): every dimension is bounded and rounded to its levels."""

    levels: Tensor
    bases: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.num_groups = config.num_groups
        levels = torch.tensor(config.levels)
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("bases", torch.cumprod(torch.cat([torch.ones(1, dtype=torch.int64), levels]), 0)[:-1],
                             persistent=False)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(B, K L, T) of any size to the nearest levels in [-1, 1]; gradients pass the rounding."""
        bounded = torch.sigmoid(self._grouped(x)) * (self._top - 1e-3)
        rounded = bounded + (bounded.round() - bounded).detach()
        return (rounded / self._top * 2 - 1).flatten(1, 2)

    def to_codes(self, values: Tensor) -> Tensor:
        """Levels (B, K L, T) to codes (B, K, T) int64."""
        return (self.to_indices(values) * self.bases[:, None]).sum(2)

    def to_indices(self, values: Tensor) -> Tensor:
        """Levels (B, K L, T) to each dimension's index (B, K, L, T) int64."""
        return ((self._grouped(values) + 1) / 2 * self._top).round().long()

    def from_codes(self, codes: Tensor) -> Tensor:
        """Codes (B, K, T) to levels (B, K L, T) float32."""
        indices = codes[:, :, None] // self.bases[:, None] % self.levels[:, None]
        return self.from_indices(indices)

    def from_indices(self, indices: Tensor) -> Tensor:
        """Indices (B, K, L, T) to levels (B, K L, T) float32."""
        return (indices / self._top * 2 - 1).flatten(1, 2)

    def _grouped(self, values: Tensor) -> Tensor:
        """(B, K L, T) to (B, K, L, T)."""
        return values.view(values.shape[0], self.num_groups, -1, values.shape[2])

    @property
    def _top(self) -> Tensor:
        return (self.levels - 1)[:, None].float()


class WaveEncoder(nn.Module):
    """Sound to codec frames, from causal log-magnitude spectra."""

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        narrow, wide = config.subframe_width, config.frame_width
        self.register_buffer("window", torch.hann_window(STFT_SAMPLES), persistent=False)
        self.intake = CausalConv(NUM_BINS, narrow, 3)
        self.subframe_layers = nn.ModuleList(ConvNeXtLayer(narrow) for _ in range(config.subframe_layers))
        self.down = Downsample(narrow, wide, SUBFRAMES)
        self.frame_layers = nn.ModuleList(ConvNeXtLayer(wide) for _ in range(config.frame_layers))
        self.norm = nn.LayerNorm(wide, eps=1e-6)  # else values grow until the quantiser is deaf to its input
        self.out = nn.Linear(wide, config.code_width)
        nn.init.normal_(self.out.weight, std=FIRST_SPREAD / wide**0.5)  # all levels are in use from the first step

    def forward(self, samples: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, 960 T) samples to (B, K L, T) values before quantisation."""
        x = self.intake(self._spectra(samples, state), state)
        for layer in self.subframe_layers:
            x = layer(x, state)
        x = self.down(x)
        for layer in self.frame_layers:
            x = layer(x, state)
        out: Tensor = self.out(self.norm(x.transpose(1, 2))).transpose(1, 2)
        return out

    def _spectra(self, samples: Tensor, state: StreamState | None) -> Tensor:
        """(B, bins, U): each subframe's spectrum ends at its last sample."""
        before = samples.new_zeros(samples.shape[0], STFT_SAMPLES - HOP_SAMPLES)
        if state is not None:
            before = state.get(self, before)
        joined = torch.cat([before, samples], dim=1)
        if state is not None:
            state.put(self, joined[:, joined.shape[1] - before.shape[1] :])
        pieces = joined.unfold(1, STFT_SAMPLES, HOP_SAMPLES) * self.window
        spectra: Tensor = torch.fft.rfft(pieces)
        return ((spectra.abs() + 1e-3).log().transpose(1, 2) - LOG_MEAN) / LOG_SCALE


class WaveDecoder(nn.Module):
    """Codec frames, or any features at their rate, to sound.

    Args:
        config: shapes.
        in_width: channels of a codec frame; the code's own by default, 4 mel frames for a vocoder.
    """

    def __init__(self, config: CodecConfig, in_width: int | None = None) -> None:
        super().__init__()
        narrow, wide = config.subframe_width, config.frame_width
        self.intake = CausalConv(in_width or config.code_width, wide, 3)
        self.frame_layers = nn.ModuleList(ConvNeXtLayer(wide) for _ in range(config.frame_layers))
        self.up = Upsample(wide, narrow, SUBFRAMES)
        self.subframe_layers = nn.ModuleList(ConvNeXtLayer(narrow) for _ in range(config.subframe_layers))
        self.norm = nn.LayerNorm(narrow, eps=1e-6)
        self.head = nn.Linear(narrow, 3 * NUM_BINS)
        self.inverse_stft = InverseSTFT(STFT_SAMPLES, HOP_SAMPLES)

    @property
    def delay(self) -> int:
        """Samples by which the sound comes late."""
        return self.inverse_stft.delay

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, in_width, T) to (B, 960 T) samples, `delay` late."""
        x = self.intake(x, state)
        for layer in self.frame_layers:
            x = layer(x, state)
        x = self.up(x)
        for layer in self.subframe_layers:
            x = layer(x, state)
        out: Tensor = self.inverse_stft(self._spectrum(self.head(self.norm(x.transpose(1, 2)))), state)
        return out

    def whole(self, x: Tensor) -> Tensor:
        """(B, in_width, T) to (B, 960 T) samples on time: the frames are followed by zeros until all has come out."""
        num_samples = x.shape[2] * CODEC_FRAME_SAMPLES
        late: Tensor = self(torch.cat([x, x.new_zeros(*x.shape[:2], 1)], dim=2))
        return late[:, self.delay : self.delay + num_samples]

    def _spectrum(self, out: Tensor) -> Tensor:
        """(B, U, 3 bins) to complex (B, bins, U): a magnitude, and a phase as the direction of a vector."""
        log_magnitude, real, imaginary = out.float().transpose(1, 2).chunk(3, dim=1)
        magnitude = log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp()
        scale = magnitude * torch.rsqrt(real.square() + imaginary.square() + 1e-8)
        return torch.complex(real * scale, imaginary * scale)


class Codec(nn.Module):
    """Encoder, quantiser and decoder."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = WaveEncoder(config)
        self.quantiser = FSQ(config)
        self.decoder = WaveDecoder(config)

    def forward(self, samples: Tensor) -> Tensor:
        """(B, 960 T) samples to (B, 960 T) samples after coding, on time; differentiable."""
        return self.decoder.whole(self.quantiser(self.encoder(samples)))

    def encode(self, samples: Tensor, state: StreamState | None = None) -> Tensor:
        """Sound to codes.

        Args:
            samples: (B, 960 T) float32 at 24 kHz.
            state: continues a stream.

        Returns:
            (B, K, T) int64.

        Raises:
            OptionError: the samples do not make whole codec frames.
        """
        if samples.shape[1] % CODEC_FRAME_SAMPLES:
            raise OptionError(
                f"{samples.shape[1]} samples came; the codec takes multiples of {CODEC_FRAME_SAMPLES}. Pad them."
            )
        return self.quantiser.to_codes(self.quantiser(self.encoder(samples, state)))

    def decode(self, codes: Tensor, state: StreamState | None = None) -> Tensor:
        """Codes (B, K, T) to (B, 960 T) samples: on time without a state, `decoder.delay` samples late with one."""
        values = self.quantiser.from_codes(codes)
        late: Tensor = self.decoder.whole(values) if state is None else self.decoder(values, state)
        return late
