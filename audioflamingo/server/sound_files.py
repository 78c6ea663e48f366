"""Speech as files, whole or while it is made: WAV, FLAC and bare PCM, always 16 bit, mono, 24 kHz. No framework."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import numpy as np

from audioflamingo.speech.stream import BYTES_PER_SAMPLE, SPEECH_RATE_HZ
from audioflamingo.speech.wav import wav_header

MEDIA_TYPES = {"wav": "audio/wav", "pcm": "audio/pcm", "flac": "audio/flac"}


def seconds_of(pcm: bytes) -> float:
    """Length of PCM."""
    return len(pcm) / (BYTES_PER_SAMPLE * SPEECH_RATE_HZ)


def wav_file(pcm: bytes) -> bytes:
    """A whole WAV file."""
    return wav_header(len(pcm)) + pcm


async def encoded(pcm: AsyncIterator[bytes], form: str) -> AsyncGenerator[bytes, None]:
    """PCM as it comes, in the form of a file that does not know its length yet."""
    if form == "flac":
        async for piece in _flac(pcm):
            yield piece
        return
    if form == "wav":
        yield wav_header()
    async for piece in pcm:
        yield piece


class _Sink:
    """A file that only grows: what libsndfile would go back for, a header that knows the length, was sent already."""

    def __init__(self) -> None:
        self._place = 0
        self._end = 0
        self._new = bytearray()

    def write(self, data: Any) -> int:
        piece = bytes(data)
        if self._place == self._end:
            self._new += piece
            self._end += len(piece)
        self._place = min(self._place + len(piece), self._end)
        return len(piece)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._end)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, _: int = -1) -> bytes:
        return b""

    def take(self) -> bytes:
        """What was written since the last call."""
        piece, self._new = bytes(self._new), bytearray()
        return piece


async def _flac(pcm: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    import soundfile

    sink = _Sink()
    with soundfile.SoundFile(sink, "w", SPEECH_RATE_HZ, 1, "PCM_16", format="FLAC") as file:
        async for piece in pcm:
            file.write(np.frombuffer(piece, "<i2"))
            file.flush()
            if found := sink.take():
                yield found
    yield sink.take()
