"""The server's voice: which names it answers to, and speech as bytes on the event loop, made in a thread."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from functools import lru_cache

from audioflamingo.server.errors import refused
from audioflamingo.speech.engines import DEFAULT_ENGINE, MAX_RATE, MIN_RATE, open_voice
from audioflamingo.speech.speaker import Speaker
from audioflamingo.speech.synthesis import OwnSpeaker
from audioflamingo.speech.voice import Voice

DEFAULT_NAME = "default"
MAX_PACKETS = 8  # that wait for the reader: 2.5 s of sound; then the voice waits, too
KEPT_VOICES = 8  # of engines whose every speed is a voice of its own


class Voices:
    """Voices of one engine, which is opened once."""

    def __init__(self, engine: str = DEFAULT_ENGINE, voice: str | None = None) -> None:
        """Open the default voice.

        Raises:
            OptionError: no such engine.
            VoiceMissingError: it, or the voice, is not installed.
        """
        self.engine = engine
        self._default = open_voice(engine, voice)
        self._name = voice
        self._opened = lru_cache(KEPT_VOICES)(lambda speed: open_voice(self.engine, self._name, speed))

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may name."""
        own = self._default.voice_names if isinstance(self._default, OwnSpeaker) else ()
        return (DEFAULT_NAME, *own)

    def speaker(self, name: str | None = None, speed: float = 1.0) -> Speaker:
        """A speaker; cheap for our own voices, whose parts are shared.

        Args:
            name: one of `names`; None is the default.
            speed: relative to the voice's own.

        Raises:
            ApiError: there is no such voice, or it cannot speak at this speed.
        """
        if name is not None and name not in self.names:
            raise refused(f"voice is {name!r}, allowed: {', '.join(self.names)}", "voice", "voice_not_found")
        if not MIN_RATE <= speed <= MAX_RATE:
            raise refused(f"speed is {speed}, allowed: {MIN_RATE} to {MAX_RATE}", "speed")
        return Speaker(self._voice(None if name == DEFAULT_NAME else name, speed))

    def _voice(self, name: str | None, speed: float) -> Voice:
        if isinstance(self._default, OwnSpeaker):
            return self._default.variant(name, speed)
        voice: Voice = self._default if speed == 1 else self._opened(speed)
        return voice


class Spoken(AsyncIterator[bytes]):
    """PCM16 mono at 24 kHz of a text that may still be coming; the voice is never far ahead of the reader.

    Attributes:
        notes: what of the text was not spoken; complete at the end.
    """

    def __init__(self, speaker: Speaker, executor: Executor) -> None:
        """Begin to speak, in a thread of the executor; call on the event loop."""
        self.notes: tuple[str, ...] = ()
        self._loop = asyncio.get_running_loop()
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._room = threading.Semaphore(MAX_PACKETS)
        self._packets: deque[bytes | Exception | None] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False
        self._future = executor.submit(self._speak, speaker)

    def feed(self, text: str) -> None:
        """Text that is to be spoken next; cut anywhere."""
        self._texts.put(text)

    def finish(self) -> None:
        """No more text comes."""
        self._texts.put(None)

    def fail(self, error: Exception) -> None:
        """End it from our side, with an error for the reader."""
        self.close()
        self._packets.append(error)
        self._arrived.set()

    def close(self) -> None:
        """Stop speaking, within a word; may be called at any time and again."""
        self._is_closed = True
        self._texts.put(None)
        self._room.release()
        self._future.cancel()

    async def __anext__(self) -> bytes:
        while not self._packets:
            self._arrived.clear()
            await self._arrived.wait()
        packet = self._packets.popleft()
        if isinstance(packet, bytes):
            self._room.release()
            return packet
        if packet is not None:
            raise packet
        raise StopAsyncIteration

    def _speak(self, speaker: Speaker) -> None:
        try:
            stream = speaker.stream(self._said())
            for packet in stream:
                self._room.acquire()
                if self._is_closed:
                    return
                self._send(packet.pcm)
            self.notes = stream.notes
            self._send(None)
        except Exception as error:
            self._send(error)

    def _said(self) -> Iterator[str]:
        while (text := self._texts.get()) is not None and not self._is_closed:
            yield text

    def _send(self, packet: bytes | Exception | None) -> None:
        def arrive() -> None:
            self._packets.append(packet)
            self._arrived.set()

        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(arrive)
