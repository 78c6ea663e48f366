"""Streaming state in an explicit object that is entered with `with`, and the causal layers that use it.

Shapes: B sequences, D channels, T codec frames or subframes. Without a state a layer sees a whole sequence with zeros
before it; with one, each call continues where the last one of the same state ended. Both give the same output.
"""

from __future__ import annotations

from types import TracebackType

import torch
from torch import Tensor, nn
from torch.nn import functional


class StreamState:
    """What the layers of one stream remember: one tensor a layer, by the layer's identity.

    >>> with StreamState() as state:
    ...     first = codec.decode(codes[..., :5], state)
    ...     second = codec.decode(codes[..., 5:], state)
    """

    def __init__(self) -> None:
        self._tensors: dict[object, Tensor] = {}
        self._is_open = False

    def __enter__(self) -> StreamState:
        self._is_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._tensors.clear()

    def get(self, key: object, default: Tensor) -> Tensor:
        """What was remembered under this key, or the default at the start of the stream."""
        assert self._is_open, "enter the state with `with` first"
        return self._tensors.get(key, default)

    def put(self, key: object, value: Tensor) -> None:
        """Remember for the next call."""
        assert self._is_open, "enter the state with `with` first"
        self._tensors[key] = value


class CausalConv(nn.Module):
    """A convolution over time that sees only what came before.

    Args:
        kernel_size: taps.
        groups: as in `nn.Conv1d`.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, groups=groups)
        self.reach = kernel_size - 1

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, D, T) to (B, D', T)."""
        before = x.new_zeros(x.shape[0], x.shape[1], self.reach)
        if state is not None:
            before = state.get(self, before)
        joined = torch.cat([before, x], dim=-1)
        if state is not None:
            state.put(self, joined[..., joined.shape[-1] - self.reach :])
        out: Tensor = self.conv(joined)
        return out


class ConvNeXtLayer(nn.Module):
    """Causal ConvNeXt: depthwise convolution, norm, wide pointwise layers, a residual with a learnt scale.

    Source: Liu et al. 2022, in one dimension as in Vocos (paper, appendix I).
    """

    def __init__(self, width: int, *, kernel_size: int = 7, expansion: int = 3, scale: float = 0.25) -> None:
        super().__init__()
        self.depthwise = CausalConv(width, width, kernel_size, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, expansion * width)
        self.narrow = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        """(B, D, T) to (B, D, T)."""
        inner = self.norm(self.depthwise(x, state).transpose(1, 2))
        inner = self.narrow(functional.gelu(self.widen(inner)))
        out: Tensor = x + (self.scale * inner).transpose(1, 2)
        return out


class Upsample(nn.Module):
    """Each element of time becomes `factor` ones; no overlap, so no memory."""

    def __init__(self, in_width: int, out_width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.spread = nn.Linear(in_width, out_width * factor)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) to (B, D', factor T)."""
        spread: Tensor = self.spread(x.transpose(1, 2))
        return spread.reshape(x.shape[0], x.shape[2] * self.factor, -1).transpose(1, 2)


class Downsample(nn.Module):
    """`factor` elements of time become one. The number of elements must be a multiple of the factor."""

    def __init__(self, in_width: int, out_width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.gather = nn.Linear(in_width * factor, out_width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, factor T) to (B, D', T)."""
        out: Tensor = self.gather(x.transpose(1, 2).reshape(x.shape[0], x.shape[2] // self.factor, -1))
        return out.transpose(1, 2)


class InverseSTFT(nn.Module):
    """Overlap-add of inverse Fourier transforms, hop by hop.

    A subframe's window ends one hop after its own time, so that the sound of a subframe comes out whole
    `size - hop` samples later: `delay` samples at the start belong to nothing and are cut off by the caller.

    Args:
        size: samples of a window; a multiple of `hop`.
        hop: samples between windows.
    """

    window: Tensor
    envelope: Tensor

    def __init__(self, size: int, hop: int) -> None:
        super().__init__()
        assert size % hop == 0
        self.size, self.hop, self.delay = size, hop, size - hop
        window = torch.hann_window(size)
        self.register_buffer("window", window, persistent=False)
        # In the middle of a stream the squared windows add up to the same at every place of a hop.
        self.register_buffer("envelope", window.square().view(-1, hop).sum(0), persistent=False)

    def forward(self, spectrum: Tensor, state: StreamState | None = None) -> Tensor:
        """Complex (B, size / 2 + 1, T) to (B, hop T) samples, `delay` samples late."""
        pieces = torch.fft.irfft(spectrum.transpose(1, 2), n=self.size) * self.window
        return overlapped(pieces, self.envelope, self, state)


def overlapped(pieces: Tensor, envelope: Tensor, key: object, state: StreamState | None = None) -> Tensor:
    """Windows one hop apart, added up and made even.

    Args:
        pieces: (B, T, size) windowed samples.
        envelope: (hop,) what the squared windows add up to at every place of a hop.
        key: whose memory in the state.
        state: continues a stream.

    Returns:
        (B, hop T) samples, `size - hop` late.
    """
    batch, num_pieces, size = pieces.shape
    hop = len(envelope)
    total = size + hop * (num_pieces - 1)
    summed = functional.fold(pieces.transpose(1, 2), (1, total), (1, size), stride=(1, hop)).view(batch, total)
    if state is not None:
        before = state.get(key, summed.new_zeros(batch, size - hop))
        summed = torch.cat([summed[:, : size - hop] + before, summed[:, size - hop :]], dim=1)
        state.put(key, summed[:, hop * num_pieces :])
    return (summed[:, : hop * num_pieces].view(batch, num_pieces, hop) / envelope).flatten(1)
