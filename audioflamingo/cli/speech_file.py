"""Speech as a file, in the form that its name asks for."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from audioflamingo.errors import OptionError

WAV = ".wav"
FORMS = {
    ".flac": ("FLAC", "PCM_16"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    ".ogg": ("OGG", "VORBIS"),
    ".oga": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".aiff": ("AIFF", "PCM_16"),
    ".aif": ("AIFF", "PCM_16"),
}
"""libsndfile's format and subtype for each suffix that is not our own WAV."""
SUFFIXES = ", ".join((WAV, ".flac", ".mp3", ".ogg", ".opus", ".aiff"))
BLOCK_BYTES = 1 << 16  # libsndfile's Vorbis takes its stack from what is written at once, and crashes with minutes


def check_form(path: Path) -> None:
    """Refuse a name whose suffix is no form that can be written; a name without one, such as /dev/null, means WAV.

    Raises:
        OptionError: it is not.
    """
    import soundfile

    suffix = path.suffix.lower()
    if suffix in ("", WAV):
        return
    if suffix not in FORMS:
        raise OptionError(f"{path} ends in {path.suffix}, which cannot be written; allowed: {SUFFIXES}")
    if not soundfile.check_format(*FORMS[suffix]):  # as libsndfile before 1.1 for MP3
        raise OptionError(
            f"{path} ends in {path.suffix}, which the libsndfile of this system ({soundfile.__libsndfile_version__}) "
            f"cannot write; give a name that ends in {WAV}"
        )


def write_speech(path: Path, pieces: Iterable[bytes]) -> None:
    """A file of 16-bit mono PCM at the speaker's rate, written as it comes; complete once this returns.

    Args:
        path: its suffix says the form, see `check_form`.
        pieces: bytes of whole samples.

    Raises:
        OptionError: the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            if path.suffix.lower() in FORMS:
                _encode(file, pieces, *FORMS[path.suffix.lower()])
            else:
                _write_wav(file, pieces)
    except OSError as error:
        raise OptionError(f"{path} cannot be written: {error.strerror}") from error


def _write_wav(file: BinaryIO, pieces: Iterable[bytes]) -> None:
    from audioflamingo.speech.wav import wav_header

    size = 0
    file.write(wav_header(0))
    try:
        for piece in pieces:
            size += file.write(piece)
    finally:  # what was said until an interruption can be heard
        file.seek(0)
        file.write(wav_header(size))


def _encode(file: BinaryIO, pieces: Iterable[bytes], form: str, subtype: str) -> None:
    import numpy as np
    import soundfile

    from audioflamingo.speech.stream import SPEECH_RATE_HZ

    target, encoder = _Target(file), None
    try:
        with _interrupted_after():
            encoder = soundfile.SoundFile(target, "w", SPEECH_RATE_HZ, 1, subtype, format=form)
        for block in _blocks(pieces):
            with _interrupted_after():
                encoder.write(np.frombuffer(block, "<i2"))
            target.check()
    finally:
        if encoder is not None:
            with _interrupted_after():
                encoder.close()
    target.check()


@contextmanager
def _interrupted_after() -> Iterator[None]:
    """Let Ctrl-C wait for the end of a call of libsndfile, which calls back into Python and would lose it there."""
    if threading.current_thread() is not threading.main_thread():  # signals are not ours
        yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        signal.raise_signal(signal.SIGINT)


def _blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        for start in range(0, len(piece), BLOCK_BYTES):
            yield piece[start : start + BLOCK_BYTES]


class _Target:
    """A file for libsndfile, which cannot carry an exception through: the first one is kept until it is asked for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise what went wrong since the beginning, be it only the last of the file's buffer."""
        if self._error is None:
            self._file.flush()
            return
        raise self._error

    def write(self, data: bytes) -> int:
        self._kept(lambda: self._file.write(data))
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._kept(lambda: self._file.seek(offset, whence))

    def tell(self) -> int:
        return self._kept(self._file.tell)

    def _kept(self, act: Callable[[], int]) -> int:
        if self._error is None:
            try:
                return act()
            except OSError as error:
                self._error = error
        return 0

    def read(self, _: int = -1) -> bytes:
        return b""
