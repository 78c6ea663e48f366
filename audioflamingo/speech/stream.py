"""From text as it comes to units that can be spoken, and from sound as it comes to packets: plain Python, no tensors.

A word is complete only when a boundary follows, so that the same units come out however the text was cut into deltas.
Every unit knows how much of the text it covers: what was not heard can be cut from the history (`heard_text`).
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audioflamingo.errors import OptionError
from audioflamingo.speech.spoken import Normaliser, money_unit_after_scale, needs_follower

SPEECH_RATE_HZ = 24_000
BYTES_PER_SAMPLE = 2
MAX_TOKEN_CHARS = 64  # a longer run of letters is cut, so that memory and delay are bounded
MAX_LEFT_OUT = 20  # characters that a note lists
PACKET_SIZES_MS = (80, 160, 320)  # small at first for a quick start, then larger for less overhead
PAUSES_MS = {",": 140, ";": 240, ":": 240, "-": 120, ")": 100, ".": 380, "!": 380, "?": 380, "\n": 320}
PARAGRAPH_PAUSE_MS = 560

_TOKEN = re.compile(rf"(\s*)(\S{{1,{MAX_TOKEN_CHARS + 1}}})(\s)?")
_CLOSERS = "\"'”’)]}*_`"
_SAME_PAUSE = {
    "…": ".",
    "—": "-",
    "–": "-",
    "。": ".",
    "，": ",",
    "！": "!",
    "？": "?",
    "、": ",",
    "；": ";",
    "：": ":",
}
_ABBREVIATION_END = re.compile(
    r"(?:[A-Za-z]\.){2,}|(?:dr|mr|mrs|ms|prof|st|jr|sr|vs|e\.g|i\.e|approx|dept|avg)\.", re.I
)


@dataclass(frozen=True)
class Unit:
    """A written token ready to be spoken.

    Attributes:
        words: lower-case words of letters and inner apostrophes; none where only a pause is heard.
        pause_ms: silence after them.
        mark: the punctuation that gave the pause, or "".
        source_end: characters of the text that are said once this unit is said.
    """

    words: tuple[str, ...]
    pause_ms: int
    mark: str
    source_end: int

    @property
    def ends_sentence(self) -> bool:
        """Whether an engine may speak all up to here without hearing what follows."""
        return self.mark in (".", "!", "?", "\n")


class TextUnits:
    """Text deltas to units."""

    def __init__(self) -> None:
        self._normaliser = Normaliser()
        self._pending = ""  # text of tokens that are not complete
        self._start = 0  # where in it the next token begins
        self._consumed = 0  # characters of the whole text before it
        self._held: tuple[str, int] | None = None  # a token that waits for the next one, and its end

    def feed(self, delta: str) -> list[Unit]:
        """Units that are complete now."""
        self._pending += delta
        units: list[Unit] = []
        while (token := self._next_token()) is not None:
            units += self._units(*token)
        self._pending, self._start = self._pending[self._start :], 0
        return units

    def flush(self) -> list[Unit]:
        """The rest: the text ends here, maybe in the middle of a word."""
        units: list[Unit] = []
        end = self._consumed + len(self._pending)
        rest, self._pending, self._consumed = self._pending, "", end
        if token := rest.strip():
            lead = rest[: rest.index(token[0])]
            units += self._units(token, lead, end - len(rest) + len(lead) + len(token))
        if self._held is not None:
            (token, held_end), self._held = self._held, None
            units.append(self._unit(token, self._normaliser.words(token), "", held_end))
        return units

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the text was not spoken."""
        if not self._normaliser.left_out:
            return ()
        distinct = list(dict.fromkeys(self._normaliser.left_out))
        shown = "".join(distinct[:MAX_LEFT_OUT]) + ("…" if len(distinct) > MAX_LEFT_OUT else "")
        return (
            f"{len(self._normaliser.left_out)} characters cannot be spoken by this voice and were left out: {shown}",
        )

    def _next_token(self) -> tuple[str, str, int] | None:
        """The next complete token, the blanks after it as far as they matter, and where in the text it ends."""
        match = _TOKEN.match(self._pending, self._start)
        if match is None:
            return None
        token, is_complete = match[2], match[3] is not None
        if not is_complete and len(token) < MAX_TOKEN_CHARS:
            return None
        token = token[:MAX_TOKEN_CHARS]
        end = match.start(2) + len(token)
        self._consumed += end - self._start
        self._start = end
        return token, match[1], self._consumed

    def _units(self, token: str, lead: str, end: int) -> list[Unit]:
        units = [self._line_break(lead, end - len(token))] if "\n" in lead else []
        suffix: tuple[str, ...] = ()
        if self._held is not None:
            (held, held_end), self._held = self._held, None
            units.insert(0, self._unit(held, self._normaliser.words(held, token), "", held_end))
            unit = money_unit_after_scale(held, token)
            suffix = (unit,) if unit else ()
        if needs_follower(token) and _mark(token) == "":
            self._held = (token, end)
            return units
        words = self._normaliser.words(token) + suffix
        return [*units, self._unit(token, words, _mark(token), end)]

    def _line_break(self, lead: str, end: int) -> Unit:
        return Unit((), PARAGRAPH_PAUSE_MS if lead.count("\n") > 1 else PAUSES_MS["\n"], "\n", end)

    def _unit(self, token: str, words: tuple[str, ...], mark: str, end: int) -> Unit:
        return Unit(words, PAUSES_MS.get(mark, 0), mark, end)


def _mark(token: str) -> str:
    """The mark at a token's end that is heard as a pause."""
    if _ABBREVIATION_END.fullmatch(token):
        return ""
    last = token.rstrip(_CLOSERS)[-1:]
    last = _SAME_PAUSE.get(last, last)
    if last in PAUSES_MS and not (last == "-" and len(token) > 1 and token[-2].isalnum()):
        return last
    return ")" if ")" in token[-2:] else ""


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


def units_of(deltas: Iterable[str], text_units: TextUnits) -> Iterator[Unit]:
    """All units of a stream of text, each as soon as it is complete."""
    for delta in deltas:
        yield from text_units.feed(delta)
    yield from text_units.flush()
