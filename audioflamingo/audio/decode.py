"""Files as streams: libsndfile for what it counts exactly, FFmpeg for all else, nothing trusted of either.

libsndfile reads WAV, AIFF, FLAC and Ogg to the sample. An MP3 without a Xing header it takes for shorter than it is:
MP3 goes to FFmpeg, with AAC, MP4, WebM and the codecs that libsndfile lacks. FFmpeg is told which demuxer to use
and gets an open file, never a path: playlists and other formats that name further files or hosts are out of reach.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from audioflamingo.audio.arrays import to_float
from audioflamingo.audio.containers import Container, check_complete, identify, knows_duration
from audioflamingo.audio.stream import BLOCK_VALUES, Floats, Stream
from audioflamingo.errors import AudioError

if TYPE_CHECKING:
    import av

_SOUNDFILE_CONTAINERS = ("WAV", "AIFF", "FLAC", "OGG")
_INEXACT_SUBTYPES = ("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III")  # counted by bit rate
_UNKNOWN_COUNT = 1 << 62  # libsndfile's answer for a FLAC stream that does not say
_DEMUXERS: dict[Container, str] = {
    "WAV": "wav",
    "AIFF": "aiff",
    "FLAC": "flac",
    "OGG": "ogg",
    "MP3": "mp3",
    "AAC": "aac",
    "MP4": "mov",
    "Matroska": "matroska",
}
_MAX_GAP_S = 0.1
_MAX_MISSING_S = 0.1  # encoders' delay and padding, some of it counted, some not
_MAX_MISSING_PART = 0.005  # clocks of recorders drift from the rate that they state


@contextmanager
def open_file(file: BinaryIO, name: str) -> Iterator[Stream]:
    """A stream over an open, seekable file of any supported format, closed with the context; the file itself is not.

    Raises:
        AudioError: the file is empty, of no known format, cut off, or damaged; also while its blocks are read.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise AudioError(f"{name} is empty (0 bytes). Copy or export it again.")
    try:
        container = identify(file, name)
        check_complete(file, container, size, name)
    except OSError as error:
        raise AudioError(f"{name} cannot be read ({error.strerror}). Copy it to another disk.") from error
    with ExitStack() as stack:
        stream = _open_soundfile(file, container, name, stack) if container in _SOUNDFILE_CONTAINERS else None
        yield stream or _open_av(file, container, name, stack)


@contextmanager
def _decoder_errors(container: Container, name: str) -> Iterator[None]:
    """Untrusted bytes make decoders complain with exceptions of every type; all become one."""
    try:
        yield
    except AudioError:
        raise
    except Exception as error:
        text = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error)
        reason = " ".join(text.removeprefix("Error : ").split()).rstrip(".")
        raise AudioError(
            f"{name} cannot be decoded as {container} ({reason}): it is damaged, or its codec is not supported. "
            "Copy it again, or convert it to FLAC with ffmpeg."
        ) from error


class _Within:
    """A file as libsndfile reads it. Where a damaged one sends it before the beginning, it stays where it is.

    libsndfile asks through a function in C, out of which no exception can come: it would be printed and lost.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return self.tell()

    def tell(self) -> int:
        return self._file.tell()

    def read(self, num_bytes: int) -> bytes:
        return self._file.read(num_bytes)


def _open_soundfile(file: BinaryIO, container: Container, name: str, stack: ExitStack) -> Stream | None:
    """A stream through libsndfile, or None if this codec is not for it."""
    import soundfile

    file.seek(0)
    try:
        sound = stack.enter_context(soundfile.SoundFile(_Within(file)))
    except (RuntimeError, TypeError, ValueError):  # FFmpeg knows more codecs, and has the last word on damage
        return None
    if sound.subtype in _INEXACT_SUBTYPES or sound.frames >= _UNKNOWN_COUNT:
        return None
    blocks = _soundfile_blocks(sound, container, name)
    return Stream(name, sound.samplerate, sound.channels, blocks, num_samples=sound.frames)


def _soundfile_blocks(sound: Any, container: Container, name: str) -> Iterator[Floats]:
    step = max(1, BLOCK_VALUES // sound.channels)
    while True:
        with _decoder_errors(container, name):
            block: Floats = sound.read(step, dtype="float32", always_2d=True)
        if not len(block):
            return
        yield block


def _av_metadata() -> dict[str, Any]:
    """Tags that are not UTF-8 must not stop a sound: since PyAV 19 they never do, before it has to be asked for."""
    import av

    return {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}


def _open_av(file: BinaryIO, container: Container, name: str, stack: ExitStack) -> Stream:
    """A stream through FFmpeg, over the first audio track."""
    import av

    knows = knows_duration(file, container)
    demuxer, options = _DEMUXERS[container], {"protocol_whitelist": ""}
    file.seek(0)
    with _decoder_errors(container, name):
        source = stack.enter_context(av.open(file, "r", format=demuxer, options=options, **_av_metadata()))
        if not source.streams.audio:
            raise AudioError(f"{name} has no audio track. Give a file with sound.")
        frames = _av_frames(source, name)
        first = next(frames, None)
        duration_s = _av_duration_s(source) if knows else None
    if first is None:
        raise AudioError(f"{name} has no samples. Record or export it again.")
    rate_hz, num_channels = _kind(first)  # the header's rate is half of it for high-efficiency AAC
    return Stream(
        name,
        rate_hz,
        num_channels,
        _av_blocks(chain((first,), frames), container, name),
        num_samples=None if duration_s is None else round(duration_s * rate_hz),
        max_missing=0 if duration_s is None else round((_MAX_MISSING_S + _MAX_MISSING_PART * duration_s) * rate_hz),
    )


def _av_duration_s(source: av.container.InputContainer) -> float | None:
    import av

    track = source.streams.audio[0]
    if track.duration and track.time_base:
        return float(track.duration * track.time_base)
    only_audio = all(stream.type == "audio" for stream in source.streams)
    return source.duration / av.time_base if source.duration and only_audio else None


def _av_frames(source: av.container.InputContainer, name: str) -> Iterator[av.AudioFrame]:
    """Decoded frames of the first audio track, which must follow each other in time."""
    due_s = None
    for frame in source.decode(source.streams.audio[0]):
        if frame.time is not None:
            if due_s is not None and frame.time - due_s > _MAX_GAP_S:
                raise AudioError(
                    f"{name} has a gap of {frame.time - due_s:.2f} s at {due_s:.2f} s: it is damaged or was paused. "
                    "Fill the gap with silence: ffmpeg -i FILE -af aresample=async=1 filled.flac"
                )
            due_s = frame.time + frame.samples / frame.sample_rate
        yield frame


def _av_blocks(frames: Iterator[av.AudioFrame], container: Container, name: str) -> Iterator[Floats]:
    """Frames gathered into blocks, as one frame is too little to be worth a call of the resampler."""
    gathered: list[Floats] = []
    num_values, first_kind = 0, None
    while True:
        with _decoder_errors(container, name):
            frame = next(frames, None)
            if frame is None:
                break
            first_kind = first_kind or _kind(frame)
            if _kind(frame) != first_kind:
                raise AudioError(f"{name} changes its sampling rate or channels midway. Convert it to one rate first.")
            gathered.append(_frame_values(frame))
        num_values += gathered[-1].size
        if num_values >= BLOCK_VALUES:
            yield np.concatenate(gathered)
            gathered, num_values = [], 0
    if gathered:
        yield np.concatenate(gathered)


def _kind(frame: av.AudioFrame) -> tuple[int, int]:
    return frame.sample_rate, frame.layout.nb_channels


def _frame_values(frame: av.AudioFrame) -> Floats:
    """(n, C) float32."""
    values = to_float(frame.to_ndarray())
    return values.T if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels)
