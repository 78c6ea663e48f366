"""From sound as it comes to packets in a bounded queue, and what text was heard with them. Plain Python, no tensors."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

from audioflamingo.errors import OptionError

SPEECH_RATE_HZ = 24_000
BYTES_PER_SAMPLE = 2
PACKET_SIZES_MS = (80, 160, 320)  # small at first for a quick start, then larger for less overhead


@dataclass(frozen=True)
class Packet:
    """A piece of sound on its way to the listener.

    Attributes:
        pcm: 16-bit little-endian mono at 24 kHz.
        start_ms: where it begins in the answer's sound.
        generation: of the answer that it belongs to; a packet of an older one is not played.
    """

    pcm: bytes
    start_ms: float
    generation: int = 0

    @property
    def duration_ms(self) -> float:
        """Its length."""
        return duration_ms(len(self.pcm))


def duration_ms(num_bytes: int) -> float:
    """Length of so many bytes of PCM."""
    return 1000 * num_bytes / (BYTES_PER_SAMPLE * SPEECH_RATE_HZ)


class Packets:
    """PCM of any length in, packets of the wanted sizes out; nothing is lost and nothing waits longer than one packet.

    Raises:
        OptionError: no size, or one that is no positive whole number of milliseconds.
    """

    def __init__(self, sizes_ms: tuple[int, ...] = PACKET_SIZES_MS, generation: int = 0) -> None:
        if not sizes_ms or any(size <= 0 for size in sizes_ms):
            raise OptionError(f"packet sizes are {sizes_ms}; allowed: one or more positive whole numbers of ms")
        self._sizes = [size * SPEECH_RATE_HZ // 1000 * BYTES_PER_SAMPLE for size in sizes_ms]
        self._generation = generation
        self._pending = bytearray()
        self._num_sent = 0
        self._num_bytes_sent = 0

    def feed(self, pcm: bytes) -> list[Packet]:
        """Packets that are full now."""
        self._pending += pcm
        packets = []
        while len(self._pending) >= (size := self._sizes[min(self._num_sent, len(self._sizes) - 1)]):
            packets.append(self._take(size))
        return packets

    def flush(self) -> list[Packet]:
        """The last, shorter one, if anything is left."""
        return [self._take(len(self._pending))] if self._pending else []

    def _take(self, size: int) -> Packet:
        packet = Packet(bytes(self._pending[:size]), duration_ms(self._num_bytes_sent), self._generation)
        del self._pending[:size]
        self._num_sent += 1
        self._num_bytes_sent += size
        return packet


@dataclass
class SpokenLog:
    """Which part of the text is heard at which time of the answer's sound.

    Attributes:
        marks: (end of the unit in the sound in ms, end in the text), both never falling.
    """

    marks: list[tuple[float, int]]

    def add(self, end_ms: float, source_end: int) -> None:
        """A unit's sound ends here."""
        assert not self.marks or (end_ms >= self.marks[-1][0] and source_end >= self.marks[-1][1])
        self.marks.append((end_ms, source_end))

    def heard_text(self, text: str, played_ms: float) -> str:
        """The part of the answer that the listener heard whole; half a word does not count."""
        ends = [source_end for end_ms, source_end in self.marks if end_ms <= played_ms]
        return text[: ends[-1]] if ends else ""


class Outbox:
    """A bounded queue of packets between who makes sound and who plays it, with a generation that every step checks.

    A full queue makes the maker wait (nothing is dropped); `cancel` empties it, lets the maker go, and makes every
    packet of the old generation stale. Thread-safe.
    """

    def __init__(self, max_packets: int = 32) -> None:
        if max_packets < 1:
            raise OptionError(f"max_packets is {max_packets}; it must be at least 1")
        self._max_packets = max_packets
        self._packets: deque[Packet] = deque()
        self._condition = threading.Condition()
        self._generation = 0
        self._is_closed = False

    @property
    def generation(self) -> int:
        """Of the answer that is to be heard."""
        with self._condition:
            return self._generation

    def put(self, packet: Packet, timeout_s: float | None = None) -> bool:
        """Queue a packet once there is room.

        Returns:
            False where it is of an old generation, the outbox is closed, or no room came in time: stop making sound.
        """
        with self._condition:
            fits = self._condition.wait_for(lambda: self._is_stale(packet) or self._has_room(), timeout_s)
            if not fits or self._is_stale(packet):
                return False
            self._packets.append(packet)
            self._condition.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Packet | None:
        """The next packet; None where none came in time, or the outbox is closed and empty."""
        with self._condition:
            self._condition.wait_for(lambda: bool(self._packets) or self._is_closed, timeout_s)
            packet = self._packets.popleft() if self._packets else None
            self._condition.notify_all()
            return packet

    def cancel(self) -> int:
        """Drop what was not played and begin a new generation; returns its number."""
        with self._condition:
            self._generation += 1
            self._packets.clear()
            self._condition.notify_all()
            return self._generation

    def close(self) -> None:
        """No more packets are taken; those queued can still be got."""
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _has_room(self) -> bool:
        return len(self._packets) < self._max_packets

    def _is_stale(self, packet: Packet) -> bool:
        return self._is_closed or packet.generation != self._generation
