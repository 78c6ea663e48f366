"""espeak-ng from one and the same state for every utterance, with the times of its words.

The library keeps state between utterances (flutter, noise, the last phoneme), so that the same text sounds a little
different each time. A small child of ours opens it once and forks for every utterance: each copy starts from the state
just after opening. The child holds no threads, so forking it is safe whatever its parent runs.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from audioflamingo.world.voices import EngineMissingError, Speaker, _EspeakNG

LIST_END, WORD_EVENT, CLAUSE_END = 0, 1, 5
Told = tuple[int, int, int]
"""Kind of an event, place in the text (characters from 0), sample."""

_LENGTHS = struct.Struct("<II")


class _Event(ctypes.Structure):
    """`espeak_EVENT` of espeak-ng 1.51 (speak_lib.h); positions in the text count characters from 1."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class _Telling(_EspeakNG):
    """The engine of `voices`, which also takes down the events."""

    def __init__(self) -> None:
        self.events: list[Told] = []
        super().__init__()

    def _collect(self, wave: Any, num_samples: int, events: Any) -> int:
        event = ctypes.cast(events, ctypes.POINTER(_Event))
        index = 0
        while event[index].type != LIST_END:
            self.events.append((event[index].type, event[index].text_position - 1, event[index].sample))
            index += 1
        return super()._collect(wave, num_samples, events)


@dataclass(frozen=True, eq=False)
class Utterance:
    """What the engine gave: (N,) float32 raw samples, their rate, and its events in order."""

    samples: npt.NDArray[np.float32]
    rate_hz: int
    events: tuple[Told, ...]


def speak_fresh(text: str, speaker: Speaker) -> Utterance:
    """The text spoken by espeak-ng from its first state: the same samples every time.

    Raises:
        EngineMissingError: espeak-ng or the voice is not installed.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        server.stdin.write(json.dumps({"text": text, "speaker": asdict(speaker)}).encode() + b"\n")
        server.stdin.flush()
        num_header, num_audio = _LENGTHS.unpack(_exactly(server.stdout, _LENGTHS.size))
        header = json.loads(_exactly(server.stdout, num_header))
        audio = _exactly(server.stdout, num_audio)
    except (OSError, EOFError) as error:
        _server.cache_clear()
        raise EngineMissingError("espeak-ng stopped; is it installed (Debian: apt-get install espeak-ng)?") from error
    if "error" in header:
        raise EngineMissingError(header["error"])
    events = tuple((kind, place, sample) for kind, place, sample in header["events"])
    return Utterance(np.frombuffer(audio, np.float32), header["rate_hz"], events)


def speak_here(text: str, speaker: Speaker) -> Utterance:
    """The text spoken in this process: quicker, but the engine's state is that which its last utterance left.

    Raises:
        EngineMissingError: espeak-ng or the voice is not installed.
    """
    engine = _own_engine()
    engine.events = []
    samples, rate_hz = engine.speak(text, speaker)
    return Utterance(samples, rate_hz, tuple(engine.events))


@cache
def _own_engine() -> _Telling:
    return _Telling()


def _exactly(stream: IO[bytes], num_bytes: int) -> bytes:
    data = stream.read(num_bytes)
    if len(data) < num_bytes:
        raise EOFError
    return data


@cache
def _server() -> subprocess.Popen[bytes]:
    """One child a process; it leaves when its input closes, which happens at the latest when we end."""
    command = [sys.executable, "-m", "audioflamingo.world.espeak_server"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, close_fds=True)


def _answer(engine: _Telling, request: bytes) -> bytes:
    asked = json.loads(request)
    try:
        samples, rate_hz = engine.speak(asked["text"], Speaker(**asked["speaker"]))
    except EngineMissingError as error:
        return _packed({"error": str(error)}, b"")
    return _packed({"rate_hz": rate_hz, "events": engine.events}, samples.tobytes())


def _packed(header: dict[str, Any], audio: bytes) -> bytes:
    encoded = json.dumps(header).encode()
    return _LENGTHS.pack(len(encoded), len(audio)) + encoded + audio


def _write_all(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


def serve() -> None:
    """Answer requests from standard input until it ends; a copy that dies is told as an error."""
    try:
        engine = _Telling()
    except EngineMissingError as error:
        for _ in sys.stdin.buffer:
            _write_all(_packed({"error": str(error)}, b""))
        return
    for request in sys.stdin.buffer:
        child = os.fork()
        if child == 0:
            try:
                _write_all(_answer(engine, request))
            except BrokenPipeError:
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            _write_all(_packed({"error": f"espeak-ng broke down over {request[:80]!r}"}, b""))


if __name__ == "__main__":
    try:
        serve()
    except BrokenPipeError:
        os._exit(1)  # who asked is gone; there is nobody to tell
