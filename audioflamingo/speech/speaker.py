"""Streamed text to streamed speech: PCM16 mono at 24 kHz in packets of 80, 160, then 320 ms.

>>> speaker = open_speaker()
>>> for packet in speaker.stream(delta.text for delta in model.stream(messages)):
...     play(packet.pcm)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from audioflamingo.errors import FlamingoError
from audioflamingo.speech.engines import DEFAULT_ENGINE, open_voice
from audioflamingo.speech.stream import (
    PACKET_SIZES_MS,
    SPEECH_RATE_HZ,
    Packet,
    Packets,
    SpokenLog,
)
from audioflamingo.speech.text_units import TextUnits, units_of
from audioflamingo.speech.voice import Samples, Voice

PCM_PEAK = 32_767


def open_speaker(engine: str = DEFAULT_ENGINE, *, voice: str | None = None, rate: float = 1.0) -> Speaker:
    """A speaker by the name of its engine; see `engines.open_voice`."""
    return Speaker(open_voice(engine, voice, rate))


class Speaker:
    """Reads text aloud with one voice."""

    def __init__(self, voice: Voice, packet_sizes_ms: tuple[int, ...] = PACKET_SIZES_MS) -> None:
        self.voice = voice
        self._packet_sizes_ms = packet_sizes_ms

    def stream(self, deltas: Iterable[str], generation: int = 0) -> SpeechStream:
        """Speak text as it comes.

        Args:
            deltas: pieces of the text, cut anywhere. They are asked for no faster than the packets are taken.
            generation: given to every packet; see `stream.Outbox`.
        """
        return SpeechStream(self.voice, deltas, Packets(self._packet_sizes_ms, generation))

    def say(self, text: str) -> Samples:
        """The whole text as (N,) float32 at 24 kHz.

        Raises:
            FlamingoError: there is nothing in it that can be spoken.
        """
        stream = self.stream([text])
        pcm = b"".join(packet.pcm for packet in stream)
        if not pcm:
            raise FlamingoError(f"nothing in this text can be spoken: {text[:60]!r}. {' '.join(stream.notes)}".strip())
        return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(PCM_PEAK)


class SpeechStream(Iterator[Packet]):
    """Packets of one answer.

    Attributes:
        text: the text that was taken so far.
        log: which part of it is heard when.
    """

    def __init__(self, voice: Voice, deltas: Iterable[str], packets: Packets) -> None:
        self.text = ""
        self.log = SpokenLog([])
        self._units = TextUnits()
        self._packets = packets
        self._num_samples = 0
        self._iterator = self._run(voice, deltas)

    def __next__(self) -> Packet:
        return next(self._iterator)

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the text was not spoken."""
        return self._units.notes

    def heard_text(self, played_ms: float) -> str:
        """The part of the text that was heard whole after so much of the sound was played."""
        return self.log.heard_text(self.text, played_ms)

    def _run(self, voice: Voice, deltas: Iterable[str]) -> Iterator[Packet]:
        utterance = voice.begin()
        for unit in units_of(self._noted(deltas), self._units):
            for sound in utterance.feed(unit):
                yield from self._sent(sound.samples, sound.source_end)
        for sound in utterance.flush():
            yield from self._sent(sound.samples, sound.source_end)
        yield from self._packets.flush()

    def _noted(self, deltas: Iterable[str]) -> Iterator[str]:
        for delta in deltas:
            self.text += delta
            yield delta

    def _sent(self, samples: Samples, source_end: int) -> list[Packet]:
        self._num_samples += len(samples)
        self.log.add(1000 * self._num_samples / SPEECH_RATE_HZ, source_end)
        return self._packets.feed(to_pcm(samples))


def to_pcm(samples: Samples) -> bytes:
    """(N,) float32 to 16-bit little-endian bytes; what is beyond full scale is clipped."""
    return (np.clip(samples, -1, 1) * PCM_PEAK).round().astype("<i2").tobytes()
