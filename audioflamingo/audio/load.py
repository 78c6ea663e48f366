"""Anything that holds sound becomes an `Audio`: paths, bytes, open files, arrays, tensors."""

from __future__ import annotations

import dataclasses
import io
import operator
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, SupportsIndex, cast
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.audio.arrays import open_array
from audioflamingo.audio.decode import open_file
from audioflamingo.audio.stream import Stream, check_header, check_values, collect
from audioflamingo.audio.windows import check_length
from audioflamingo.errors import AudioError, OptionError
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

MAX_DURATION_S = 4 * 3600.0
MAX_READ_BYTES = 1 << 30  # from an open file, which is read into memory; a path has no such limit

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | npt.NDArray[Any] | torch.Tensor | Audio
_DEFAULT_NAME = "audio"
_MAX_NAME_CHARACTERS = 100
_are_sound: WeakSet[Audio] = WeakSet()  # whose values were checked


def load(
    source: Source,
    *,
    sample_rate_hz: int | None = None,
    name: str | None = None,
    max_duration_s: float = MAX_DURATION_S,
) -> Audio:
    """Read a sound as float32, mono (the mean over channels), 16 kHz.

    Args:
        source: a path; the bytes of a file; a file opened in binary mode, read from where it stands; an array or tensor
            of shape (samples,), (channels, samples) or (samples, channels), where the channels' axis is the one with at
            most 64 entries; or an `Audio`, which is checked and returned as it is. Files may be WAV, AIFF, FLAC, OGG,
            Opus, MP3, AAC, M4A, MP4 or WebM; of several audio tracks the first is read.
        sample_rate_hz: rate of an array or tensor, needed there. Files state their own.
        name: what errors and reports call the sound; by default the file's name.
        max_duration_s: longer sounds are refused, by their header where it says so, else as soon as it is exceeded.

    Raises:
        AudioError: the sound cannot be read, is empty, too short for one audio token, too long, cut off or damaged, or
            holds values that are no sound.
        OptionError: `max_duration_s` is not positive.
    """
    if not max_duration_s > 0:
        raise OptionError(f"max_duration_s is {max_duration_s}; it must be positive.")
    name = _printable(name or _name_of(source))
    if isinstance(source, Audio):
        return _checked(source, name, sample_rate_hz, max_duration_s)
    with _open(source, name, sample_rate_hz) as stream:
        audio = Audio(collect(stream, max_duration_s), name)
    check_length(audio)
    return audio


def stated_duration_s(path: str | os.PathLike[str]) -> float | None:
    """How long a file says that it is, in seconds; None where its header does not say. Nothing is decoded.

    Raises:
        AudioError: it cannot be opened, or is no sound.
    """
    with _open(path, _printable(_name_of(path)), None) as stream:
        return None if stream.num_samples is None else stream.num_samples / stream.rate_hz


def _name_of(source: Source) -> str:
    if isinstance(source, Audio):
        if not isinstance(source.name, str):
            raise AudioError(
                f"an Audio has a name and no rate, but {source.name!r} came. It is at {SAMPLE_RATE_HZ} Hz; make one "
                "from samples of any rate with load_audio(samples, sample_rate_hz=...)."
            )
        return source.name
    path = source if isinstance(source, str | os.PathLike) else getattr(source, "name", None)
    return Path(os.fsdecode(path)).name or str(path) if isinstance(path, str | os.PathLike) else _DEFAULT_NAME


def _printable(name: str) -> str:
    """One short line, whatever a file is called."""
    line = "".join(character if character.isprintable() else "�" for character in name) or "''"
    return line if len(line) <= _MAX_NAME_CHARACTERS else line[:_MAX_NAME_CHARACTERS] + "..."


def _checked(audio: Audio, name: str, sample_rate_hz: int | None, max_duration_s: float) -> Audio:
    samples = audio.samples
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype != np.float32:
        raise AudioError(f"{name} is an Audio whose samples are not an (N,) float32 array. Make it with load.")
    if sample_rate_hz not in (None, SAMPLE_RATE_HZ):
        raise AudioError(
            f"{name} is an Audio and so at {SAMPLE_RATE_HZ} Hz, but sample_rate_hz={sample_rate_hz} came. Leave it out."
        )
    check_header(Stream(name, SAMPLE_RATE_HZ, 1, iter(()), num_samples=len(samples)), max_duration_s)
    if audio not in _are_sound:  # a long one takes a hundredth of a second, and a chat has its sounds in every turn
        check_values(samples, name)
        _are_sound.add(audio)
    check_length(audio)
    return audio if name == audio.name else dataclasses.replace(audio, name=name)


@contextmanager
def _open(source: Source, name: str, sample_rate_hz: int | None) -> Iterator[Stream]:
    if isinstance(source, np.ndarray | torch.Tensor):
        yield open_array(source, _rate_of_array(sample_rate_hz, name), name)
        return
    with _open_binary(source, name) as file, open_file(file, name) as stream:
        if sample_rate_hz not in (None, stream.rate_hz):
            raise AudioError(
                f"{name} states {stream.rate_hz} Hz, but sample_rate_hz={sample_rate_hz} came. "
                "Leave it out; files state their own rate."
            )
        yield stream


def _rate_of_array(sample_rate_hz: SupportsIndex | None, name: str) -> int:
    if sample_rate_hz is None:
        raise AudioError(f"{name} is an array, which does not state its rate. Pass sample_rate_hz.")
    try:
        return operator.index(sample_rate_hz)
    except TypeError as error:
        raise AudioError(f"sample_rate_hz is {sample_rate_hz!r}; it must be a whole number of Hz.") from error


@contextmanager
def _open_binary(source: Any, name: str) -> Iterator[BinaryIO]:
    if isinstance(source, str | os.PathLike):
        with _open_path(source) as file:
            yield file
    elif isinstance(source, bytes | bytearray | memoryview):
        yield io.BytesIO(source)
    elif hasattr(source, "read"):
        yield io.BytesIO(_read_all(source, name))
    else:
        raise AudioError(
            f"a sound of type {type(source).__name__} came; allowed are a path, bytes, a binary file, "
            "a numpy array, a torch tensor and an Audio."
        )


def _open_path(path: str | os.PathLike[str]) -> BinaryIO:
    shown = _printable(os.fsdecode(path))
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise AudioError(f"{shown} is a directory. Give the path of one audio file.")
        if not stat.S_ISREG(mode):  # opening a pipe may wait for ever, and reading a device may never end
            raise AudioError(f"{shown} is not a regular file. Open it yourself and pass the open file.")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise AudioError(f"{shown} does not exist. Check the path.") from error
    except PermissionError as error:
        raise AudioError(f"{shown} may not be read: permission denied. Change its permissions.") from error
    except OSError as error:
        raise AudioError(f"{shown} cannot be opened ({error.strerror}). Check the path.") from error
    except ValueError as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{shown} is not a path ({error}). Check the path.") from error


def _read_all(file: Any, name: str) -> bytes:
    """All that is left of an open file, which need not be seekable."""
    collected = bytearray()
    try:
        while piece := file.read(1 << 20):
            if not isinstance(piece, bytes | bytearray | memoryview):
                raise AudioError(f"{name} is open as text. Open it in binary mode, 'rb'.")
            collected += piece
            if len(collected) > MAX_READ_BYTES:
                raise AudioError(f"{name} gives more than {MAX_READ_BYTES} bytes. Pass its path instead.")
    except (OSError, ValueError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{name} cannot be read ({error}). Pass a file that is open in binary mode.") from error
    return cast(bytes, collected)
