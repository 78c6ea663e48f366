"""What a voice is trained by: mel features, spectral losses, and critics that tell real sound from ours.

Shapes: B clips, N samples, M mel frames (10 ms), b bands. All losses are scalars in fp32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from audioflamingo.speech.codec import HOP_SAMPLES
from audioflamingo.speech.mels import LOG_FLOOR, MEL_FFT, MEL_MEAN, MEL_SCALE, mel_matrix
from audioflamingo.speech.model import NUM_MEL_BANDS

MEL_RESOLUTIONS = ((512, 40), (1_024, 80), (2_048, 80))
STFT_RESOLUTIONS = ((512, 120), (1_024, 240), (2_048, 480))
PERIODS = (2, 3, 5, 7, 11)


def magnitudes(samples: Tensor, num_fft: int, hop: int) -> Tensor:
    """(B, N) to (B, bins, frames)."""
    window = torch.hann_window(num_fft, device=samples.device)
    spectra = torch.stft(samples, num_fft, hop, window=window, return_complex=True)
    out: Tensor = spectra.abs().clamp(min=1e-7)
    return out


def log_mels(samples: Tensor) -> Tensor:
    """(B, N) to scaled log mels (B, 80, M), M = N / 240; frame m is about the samples around its own 10 ms."""
    side = (MEL_FFT - HOP_SAMPLES) // 2
    padded = functional.pad(samples, (side, side))
    pieces = padded.unfold(1, MEL_FFT, HOP_SAMPLES) * torch.hann_window(MEL_FFT, device=samples.device)
    mel = torch.fft.rfft(pieces).abs() @ mel_matrix(MEL_FFT, NUM_MEL_BANDS).to(samples.device)
    out: Tensor = ((mel + LOG_FLOOR).log() - MEL_MEAN).transpose(1, 2) / MEL_SCALE
    return out


def mel_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """L1 between log mels at several resolutions."""
    total = ours.new_zeros(())
    for num_fft, num_bands in MEL_RESOLUTIONS:
        matrix = mel_matrix(num_fft, num_bands).to(ours.device)
        mels = [
            ((magnitudes(x, num_fft, num_fft // 4).transpose(1, 2) @ matrix) + LOG_FLOOR).log() for x in (ours, theirs)
        ]
        total = total + functional.l1_loss(mels[0], mels[1])
    return total / len(MEL_RESOLUTIONS)


def stft_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Spectral convergence and L1 of log magnitudes, at several resolutions."""
    total = ours.new_zeros(())
    for num_fft, hop in STFT_RESOLUTIONS:
        one, other = magnitudes(ours, num_fft, hop), magnitudes(theirs, num_fft, hop)
        total = total + torch.linalg.norm(other - one) / torch.linalg.norm(other).clamp(min=1e-3)
        total = total + functional.l1_loss((one + LOG_FLOOR).log(), (other + LOG_FLOOR).log())
    return total / len(STFT_RESOLUTIONS)


class PeriodCritic(nn.Module):
    """Looks at every p-th sample (HiFi-GAN's multi-period discriminator at half its width)."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (width // 2, 2 * width, 8 * width, 16 * width)
        steps = zip((1, *widths[:-1]), widths, strict=True)
        self.convs = nn.ModuleList(weight_norm(nn.Conv2d(a, b, (5, 1), (3, 1), (2, 0))) for a, b in steps)
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, samples: Tensor) -> list[Tensor]:
        """(B, N) to what each layer sees; the last is the verdict."""
        padded = functional.pad(samples, (0, -samples.shape[1] % self.period))
        return _layers(padded.view(len(samples), 1, -1, self.period), self.convs, self.out)


class ResolutionCritic(nn.Module):
    """Looks at the spectrogram at one resolution."""

    def __init__(self, num_fft: int, hop: int, width: int) -> None:
        super().__init__()
        self.num_fft, self.hop = num_fft, hop
        shapes = ((1, (3, 9), (1, 1)), (width, (3, 9), (1, 2)), (width, (3, 9), (1, 2)), (width, (3, 3), (1, 1)))
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(inside, width, kernel, stride, (kernel[0] // 2, kernel[1] // 2)))
            for inside, kernel, stride in shapes
        )
        self.out = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, samples: Tensor) -> list[Tensor]:
        """(B, N) to what each layer sees; the last is the verdict."""
        spectrum = (magnitudes(samples, self.num_fft, self.hop) + LOG_FLOOR).log().transpose(1, 2)
        return _layers(spectrum[:, None], self.convs, self.out)


def _layers(x: Tensor, convs: nn.ModuleList, out: Callable[[Tensor], Tensor]) -> list[Tensor]:
    seen = []
    for conv in convs:
        x = functional.leaky_relu(conv(x), 0.1)
        seen.append(x)
    return [*seen, out(x)]


class Critics(nn.Module):
    """All of them; `width` is that of the critics of resolutions, 32 being half of the published ones."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        resolutions = [ResolutionCritic(num_fft, hop, width) for num_fft, hop in STFT_RESOLUTIONS]
        self.members = nn.ModuleList([*(PeriodCritic(period, width) for period in PERIODS), *resolutions])
        for weight in self.parameters():
            if weight.dim() == 4:  # what tensor cores want: else every layer is turned around twice
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def forward(self, samples: Tensor) -> list[list[Tensor]]:
        """(B, N) to each critic's layers; in bf16 on a GPU, where they are most of a step."""
        with torch.autocast("cuda", torch.bfloat16, enabled=samples.is_cuda):
            return [member(samples) for member in self.members]


def critic_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Hinge: real above 1, ours below -1."""
    pairs = [(r[-1].float(), f[-1].float()) for r, f in zip(real, fake, strict=True)]
    return torch.stack([(1 - r).relu().mean() + (1 + f).relu().mean() for r, f in pairs]).mean()


def fooling_loss(real: list[list[Tensor]], fake: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """How far the critics are from taking ours for real, and how far their layers see a difference."""
    verdicts = torch.stack([-one[-1].float().mean() for one in fake]).mean()
    matches = [
        functional.l1_loss(f, r.detach()).float() / r.detach().abs().mean().float().clamp(min=1e-3)
        for ours, theirs in zip(fake, real, strict=True)
        for f, r in zip(ours[:-1], theirs[:-1], strict=True)
    ]
    return verdicts, torch.stack(matches).mean()
