"""A sound on its way in, block by block, and what becomes of it: mono, 16 kHz, float32, checked and bounded.

Decoders and arrays give a `Stream`; `collect` is the one place where channels are mixed, rates are changed and limits
are kept. Memory is bounded by the result: a block comes, is mixed and resampled, and goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import AudioError
from audioflamingo.types import SAMPLE_RATE_HZ

MIN_RATE_HZ = 1_000
MAX_RATE_HZ = 768_000
MAX_CHANNELS = 64
MAX_AMPLITUDE = 64.0  # more than clipping or a bad export makes of [-1, 1], less than 16-bit values as floats
BLOCK_VALUES = 1 << 16  # of all channels together; resampled from 1 kHz they make 4 MB
_TOO_LONG = "Cut it, or raise max_duration_s."

Floats = npt.NDArray[np.float32]
Resampler = Callable[[Floats, bool], Floats]


@dataclass(frozen=True)
class Stream:
    """Decoded sound before it is mixed and resampled.

    Attributes:
        name: what errors call it.
        rate_hz: sampling rate of the blocks.
        num_channels: channels of the blocks.
        num_samples: samples per channel by the header; None where it does not say or cannot know.
        max_missing: how many fewer samples than that may come, because codecs pad and trim.
        blocks: (n, num_channels) float32 arrays, integers already scaled to [-1, 1).
    """

    name: str
    rate_hz: int
    num_channels: int
    blocks: Iterator[Floats]
    num_samples: int | None = None
    max_missing: int = 0


def collect(stream: Stream, max_duration_s: float) -> Floats:
    """Read a stream to its end.

    Returns:
        (N,) float32: the mean over channels at 16 kHz.

    Raises:
        AudioError: the header is absurd, the sound is longer than `max_duration_s`, has no samples, ends before its
            header says, or holds values that are no sound.
    """
    check_header(stream, max_duration_s)
    resample = _resampler(stream.rate_hz)
    collected = bytearray()  # grows in place, where a list of arrays would need twice the memory at the end
    num_read = 0
    for block in stream.blocks:
        num_read += len(block)
        if num_read > max_duration_s * stream.rate_hz:
            raise AudioError(f"{stream.name} lasts longer than the {max_duration_s:g} s that are read. {_TOO_LONG}")
        collected += resample(_mono(block, stream.name), False).data
    _check_count(stream, num_read)
    collected += resample(np.zeros(0, np.float32), True).data
    return np.frombuffer(collected, np.float32)


def check_header(stream: Stream, max_duration_s: float) -> None:
    """Refuse a sound by what it states of itself, before a block is read.

    Raises:
        AudioError: its rate or channels are absurd, or it is longer than `max_duration_s`.
    """
    if not MIN_RATE_HZ <= stream.rate_hz <= MAX_RATE_HZ:
        raise AudioError(
            f"{stream.name} has a sampling rate of {stream.rate_hz} Hz; allowed are {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz. "
            "Give the rate at which it was recorded."
        )
    if not 1 <= stream.num_channels <= MAX_CHANNELS:
        raise AudioError(
            f"{stream.name} has {stream.num_channels} channels; allowed are 1 to {MAX_CHANNELS}. Mix it down first."
        )
    if stream.num_samples is not None and stream.num_samples > max_duration_s * stream.rate_hz:
        duration_s = stream.num_samples / stream.rate_hz
        raise AudioError(f"{stream.name} lasts {duration_s:.1f} s; at most {max_duration_s:g} s are read. {_TOO_LONG}")


def _check_count(stream: Stream, num_read: int) -> None:
    if num_read == 0:
        raise AudioError(f"{stream.name} has no samples. Record or export it again.")
    if stream.num_samples is not None and num_read < stream.num_samples - stream.max_missing:
        raise AudioError(
            f"{stream.name} is cut off or damaged: its header announces {stream.num_samples / stream.rate_hz:.3f} s, "
            f"{num_read / stream.rate_hz:.3f} s could be decoded. Copy or export it again."
        )


def _mono(block: Floats, name: str) -> Floats:
    """(n,) mean over channels of a (n, C) block, which must be a sound."""
    num_channels = block.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite and refused as such
        # A product, because mean() along so short an axis is many times slower.
        mono = np.ascontiguousarray(block[:, 0]) if num_channels == 1 else block @ _weights(num_channels)
    check_values(mono, name)
    return mono


def _weights(num_channels: int) -> Floats:
    return np.full(num_channels, 1.0 / num_channels, np.float32)


def check_values(samples: Floats, name: str) -> None:
    """Refuse (n,) samples that are no sound.

    Raises:
        AudioError: one is NaN, infinite, or far larger than 1: the model would hear another sound.
    """
    highest, lowest = np.max(samples, initial=0.0), np.min(samples, initial=0.0)
    if not (np.isfinite(highest) and np.isfinite(lowest)):
        raise AudioError(f"{name} holds samples that are not finite (NaN or Inf). Export it again.")
    peak = max(highest, -lowest)
    if peak > MAX_AMPLITUDE:
        raise AudioError(
            f"{name} holds samples of magnitude {peak:.3g}; at most 1 is meant. Scale it to [-1, 1]; divide 16-bit "
            "values by 32768."
        )


def _resampler(rate_hz: int) -> Resampler:
    if rate_hz == SAMPLE_RATE_HZ:
        return lambda block, last: block
    import soxr

    stream = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")

    def resample(block: Floats, last: bool) -> Floats:
        resampled: Floats = stream.resample_chunk(block, last=last)
        return resampled

    return resample
