"""Whatever a caller gives as a sound becomes an `Audio`, or a clear error."""

from __future__ import annotations

import math
import os
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from audioflamingo.audio import load
from audioflamingo.audio.stream import MAX_AMPLITUDE
from audioflamingo.errors import AudioError
from audioflamingo.types import Audio

URL_TIMEOUT_S = 30.0
MAX_URL_BYTES = 256 << 20

MAPPING_KEYS = ("array", "bytes", "path")


def is_one_sound(value: Any) -> bool:
    """Whether a value is a single sound and not a list of sounds."""
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, int | float) for item in value[:2])
    return value is not None


def as_audio(source: Any, sample_rate_hz: int, name: str) -> Audio:
    """Read a sound.

    Args:
        source: (N,) floating array or tensor, a list of floats, a path, an http(s) address, the bytes of a file, an
            `Audio`, or a mapping as Hugging Face datasets have it, of `array` and `sampling_rate` or, undecoded, of
            `bytes` or `path`.
        sample_rate_hz: rate of arrays that do not state one; files state their own.
        name: what errors call it.

    Raises:
        AudioError: it is no sound, or an array of more than one dimension, of integers, or of a size that floating
            point samples do not have.
    """
    if isinstance(source, Mapping):
        source, sample_rate_hz = _unwrapped(source, sample_rate_hz, name)
    if isinstance(source, list | tuple):
        source = _from_numbers(source, name)
    if isinstance(source, np.ndarray | torch.Tensor):
        _check_array(source, name)
        return load(source, sample_rate_hz=sample_rate_hz, name=name)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return load(_download(source), name=source.rpartition("/")[2] or name)
    named = name if isinstance(source, bytes | bytearray | memoryview) else None
    return load(os.fspath(source) if isinstance(source, str | os.PathLike) else source, name=named)


def _unwrapped(source: Mapping[str, Any], sample_rate_hz: int, name: str) -> tuple[Any, int]:
    found = next((source[key] for key in MAPPING_KEYS if source.get(key) is not None), None)
    if found is None:
        raise AudioError(
            f"{name} is a mapping with the keys {', '.join(map(str, source))}; expected array and sampling_rate, or "
            "bytes, or path. Give one of them."
        )
    rate = source.get("sampling_rate")
    return found, sample_rate_hz if rate is None else rate


def _from_numbers(numbers: Sequence[Any], name: str) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(numbers)
    except ValueError as error:  # numpy refuses lists of unequal lists
        raise AudioError(
            f"{name} is a list of lists; one mono sound is a flat list. Give its samples alone."
        ) from error
    return array.astype(np.float32) if array.dtype.kind == "f" else array


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
    values = array.detach() if isinstance(array, torch.Tensor) else array
    peak = float(abs(values).max()) if len(values) else 0.0
    if peak > MAX_AMPLITUDE and math.isfinite(peak):
        raise AudioError(
            f"{name} is an array of {array.dtype} that reaches {peak:g}; floating point within [-1, 1] is expected. "
            "Divide 16-bit samples by 32768."
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
