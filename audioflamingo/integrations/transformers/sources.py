"""Whatever a caller gives as a sound becomes an `Audio`, or a clear error."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from audioflamingo.audio import load
from audioflamingo.errors import AudioError
from audioflamingo.types import Audio

URL_TIMEOUT_S = 30.0
MAX_URL_BYTES = 256 << 20


def is_one_sound(value: Any) -> bool:
    """Whether a value is a single sound and not a list of sounds."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, int | float) for item in value[:2])
    return value is not None


def as_audio(source: Any, sample_rate_hz: int, name: str) -> Audio:
    """Read a sound.

    Args:
        source: (N,) floating array or tensor, a list of floats, a path, an http(s) address, the bytes of a file, an
            `Audio`, or a mapping with `array` and `sampling_rate` as Hugging Face datasets have it.
        sample_rate_hz: rate of arrays that do not state one; files state their own.
        name: what errors call it.

    Raises:
        AudioError: it is no sound, or an array of more than one dimension or of integers.
    """
    if isinstance(source, Mapping) and "array" in source:
        source, sample_rate_hz = source["array"], source.get("sampling_rate", sample_rate_hz)
    if isinstance(source, list | tuple):
        source = np.asarray(source, dtype=np.float32)
    if isinstance(source, np.ndarray | torch.Tensor):
        _check_array(source, name)
        return load(source, sample_rate_hz=sample_rate_hz, name=name)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return load(_download(source), name=source.rpartition("/")[2] or name)
    named = name if isinstance(source, bytes | bytearray | memoryview) else None
    return load(os.fspath(source) if isinstance(source, str | os.PathLike) else source, name=named)


def _check_array(array: Any, name: str) -> None:
    if array.ndim != 1:
        raise AudioError(
            f"{name} is an array of shape {tuple(array.shape)}; one mono sound of shape (samples,) is expected. Give a "
            "list of sounds for several, and the mean over channels for stereo."
        )
    is_float = array.is_floating_point() if isinstance(array, torch.Tensor) else array.dtype.kind == "f"
    if not is_float:
        raise AudioError(
            f"{name} is an array of {array.dtype}; floating point within [-1, 1] is expected. Divide 16-bit samples "
            "by 32768."
        )


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=URL_TIMEOUT_S) as answer:
            content: bytes = answer.read(MAX_URL_BYTES + 1)
    except (OSError, ValueError) as error:
        raise AudioError(f"{address} cannot be downloaded ({error}). Check the address, or give a file.") from error
    if len(content) > MAX_URL_BYTES:
        raise AudioError(f"{address} has more than {MAX_URL_BYTES:,} bytes. Download it and give the path.")
    return content
