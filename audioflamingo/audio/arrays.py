"""Arrays and tensors as streams: which axis holds channels, which types are sound, how integers are scaled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.audio.stream import BLOCK_VALUES, MAX_CHANNELS, Floats, Stream
from audioflamingo.errors import AudioError

_INTEGERS = ("int8", "int16", "int32", "uint8")


def open_array(source: npt.NDArray[Any] | torch.Tensor, rate_hz: int, name: str) -> Stream:
    """A stream over an array or tensor of one or two dimensions.

    Of two axes, the one with at most 64 entries holds the channels if the other has more; otherwise the shape is
    ambiguous. Floating point is taken as it is; int8, int16 and int32 are scaled to [-1, 1), uint8 is centred at 128.

    Raises:
        AudioError: the shape is ambiguous or not one of a sound, or the type is none of those.
    """
    array = _to_numpy(source, name)
    if array.dtype.kind != "f" and array.dtype.name not in _INTEGERS:
        raise AudioError(
            f"{name} is an array of type {array.dtype}; allowed are floating point in [-1, 1] and "
            f"{', '.join(_INTEGERS)}. Convert it first."
        )
    frames = _samples_by_channels(array, name)
    return Stream(name, rate_hz, frames.shape[1], _blocks(frames), num_samples=len(frames))


def to_float(values: npt.NDArray[Any]) -> Floats:
    """Floating point as float32, integers scaled to [-1, 1), unsigned ones centred first."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what overflows is infinite and refused as such
            return values.astype(np.float32, copy=False)
    half = 2.0 ** (8 * values.dtype.itemsize - 1)
    offset = half if values.dtype.kind == "u" else 0.0
    return ((values.astype(np.float64) - offset) / half).astype(np.float32)


def _to_numpy(source: npt.NDArray[Any] | torch.Tensor, name: str) -> npt.NDArray[Any]:
    if isinstance(source, np.ndarray):
        return source
    tensor = source.detach()
    try:
        return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).cpu().numpy()
    except (RuntimeError, TypeError, ValueError) as error:  # sparse, quantised, on the meta device, ...
        raise AudioError(
            f"{name} is a tensor that cannot be read ({' '.join(str(error).split())[:100]}). Give a plain dense one."
        ) from error


def _samples_by_channels(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if array.ndim not in (1, 2):
        raise AudioError(
            f"{name} is an array of {array.ndim} dimensions; allowed are (samples,), (channels, samples) and "
            "(samples, channels). Give one sound at a time."
        )
    if array.size == 0:
        raise AudioError(f"{name} is an array of shape {array.shape}: it has no samples. Give a longer sound.")
    if array.ndim == 1:
        return array[:, None]
    few = [length <= MAX_CHANNELS for length in array.shape]
    if few[0] == few[1]:
        raise AudioError(
            f"{name} is an array of shape {array.shape}: which axis holds channels is unclear, as "
            f"exactly one must have at most {MAX_CHANNELS} entries. Give one channel, of shape (samples,)."
        )
    return array.T if few[0] else array


def _blocks(frames: npt.NDArray[Any]) -> Iterator[Floats]:
    step = max(1, BLOCK_VALUES // frames.shape[1])
    for start in range(0, len(frames), step):
        yield to_float(frames[start : start + step])
