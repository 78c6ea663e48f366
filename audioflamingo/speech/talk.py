"""A spoken conversation: the user's sound in, ours out, both at once.

`feed` takes what the microphone gave and returns what is to be played in the same time, so that a file and a live
device are served by the same code. Thinking and speaking run in a thread of their own; between it and the player stands
the bounded `Outbox`, whose generation every packet must match.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioflamingo.speech.detect import EnergyDetector, SpeechDetector
from audioflamingo.speech.microphone import Ahead, Microphone, Prefill
from audioflamingo.speech.speaker import PCM_PEAK, Speaker, SpeechStream
from audioflamingo.speech.stream import SPEECH_RATE_HZ, Outbox, Packet
from audioflamingo.speech.turns import Action, Turns
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

Samples = npt.NDArray[np.float32]
Answer = Callable[[Audio], Iterable[str]]
"""The user's turn to the text of the answer, piece by piece; closed early where the answer is cancelled."""


@dataclass(frozen=True)
class Exchange:
    """One turn of the user's and what became of the answer.

    Attributes:
        start_ms: of the turn, in the user's sound.
        end_ms: of the turn.
        text: the part of the answer that was heard.
        is_cut: whether the user interrupted it.
    """

    start_ms: int
    end_ms: int
    text: str
    is_cut: bool


class Talk:
    """One conversation.

    Args:
        answer: what answers a turn.
        speaker: who speaks the answer.
        detector: tells speech from noise.
        turns: whose turn it is.
        on_cut: told the part of an interrupted answer that was heard, so that the rest leaves the history.
        prefill: given a turn so far, in a thread of its own, when another 30 s of it are complete (False) and when it
            seems to be over (True), so that the answer finds it read.
        is_live: a live player does not wait for sound that is not ready; a file does.
    """

    def __init__(
        self,
        answer: Answer,
        speaker: Speaker,
        *,
        detector: SpeechDetector | None = None,
        turns: Turns | None = None,
        on_cut: Callable[[str], None] = lambda heard: None,
        prefill: Prefill | None = None,
        is_live: bool = False,
    ) -> None:
        self._answer, self._speaker, self._on_cut = answer, speaker, on_cut
        self._ahead = None if prefill is None else Ahead(prefill)
        self._turns = turns or Turns()
        self._microphone = Microphone(detector or EnergyDetector(), self._turns)
        self._timeout_s = 0.0 if is_live else None
        self._outbox = Outbox()
        self._speech: _Speech | None = None
        self._owed = 0.0  # samples to be played that a whole number could not hold
        self.exchanges: list[Exchange] = []

    @property
    def is_quiet(self) -> bool:
        """Whether nobody speaks and no answer is on its way."""
        return self._turns.state == "idle" and self._speech is None

    def feed(self, samples: Samples) -> Samples:
        """The user's next (N,) float32 samples at 16 kHz to ours of the same duration at 24 kHz."""
        for action in self._microphone.feed(samples):
            self._do(action)
        self._owed += len(samples) * SPEECH_RATE_HZ / SAMPLE_RATE_HZ
        num_due = int(self._owed)
        self._owed -= num_due
        return self._play(num_due)

    def close(self) -> None:
        """Stop whatever is said."""
        try:
            self._drop_answer(is_cut=True)
        finally:
            self._outbox.close()
            if self._ahead is not None:
                self._ahead.close()

    def _do(self, action: Action) -> None:
        if action.kind == "end_turn":
            deltas = self._answer(self._microphone.sound(action))
            self._speech = _Speech(self._speaker.stream(deltas, self._outbox.generation), deltas, self._outbox, action)
        elif action.kind == "cancel":
            self._drop_answer(is_cut=True)
        elif action.kind == "begin_turn":
            self._microphone.forget_before(action.start_ms)
        elif action.kind in ("window", "listen") and self._ahead is not None:
            self._ahead.read(self._microphone.sound(action), action.kind == "listen")

    def _play(self, num_due: int) -> Samples:
        out = np.zeros(num_due, np.float32)
        filled = 0
        while self._speech is not None and filled < num_due:
            if self._turns.state == "thinking" and self._speech.wait(self._timeout_s):
                self._turns.answer_begins()
            if not self._turns.may_play:
                break
            piece = self._speech.take(num_due - filled, self._timeout_s)
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            if self._speech.is_over:
                self._drop_answer(is_cut=False)
            elif len(piece) == 0:
                break  # live, and the sound is not ready
        return out

    def _drop_answer(self, *, is_cut: bool) -> None:
        speech, self._speech = self._speech, None
        if speech is None:
            return
        self._outbox.cancel()
        speech.join()
        heard = speech.stream.heard_text(speech.played_ms) if is_cut else speech.stream.text
        self.exchanges.append(Exchange(speech.turn.start_ms, speech.turn.end_ms, heard, is_cut))
        if is_cut:
            self._on_cut(heard)
        else:
            self._turns.answer_ends()


class _Speech:
    """An answer in the making: a thread fills the outbox, `take` empties it.

    Attributes:
        is_over: all of it was played.
    """

    def __init__(self, stream: SpeechStream, deltas: Iterable[str], outbox: Outbox, turn: Action) -> None:
        self.stream, self.turn, self.is_over = stream, turn, False
        self._deltas, self._outbox = deltas, outbox
        self._buffer = np.zeros(0, np.float32)
        self._num_played = 0
        self._failure: BaseException | None = None
        self._end = Packet(b"", 0.0, outbox.generation)
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    @property
    def played_ms(self) -> float:
        """How much of it was heard."""
        return 1000 * self._num_played / SPEECH_RATE_HZ

    def wait(self, timeout_s: float | None) -> bool:
        """Whether there is something to play, or nothing more to come."""
        if len(self._buffer) == 0 and not self.is_over:
            self._fetch(timeout_s)
        return len(self._buffer) > 0 or self.is_over

    def take(self, most: int, timeout_s: float | None) -> Samples:
        """Up to `most` samples."""
        self.wait(timeout_s)
        piece, self._buffer = self._buffer[:most], self._buffer[most:]
        self._num_played += len(piece)
        return piece

    def join(self) -> None:
        """Wait for the thread, which was told to stop by the outbox; raises what it raised."""
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _fetch(self, timeout_s: float | None) -> None:
        packet = self._outbox.get(timeout_s)
        if packet is not None and packet is self._end:
            self.is_over = True
        elif packet is not None:
            self._buffer = np.frombuffer(packet.pcm, "<i2").astype(np.float32) / np.float32(PCM_PEAK)

    def _make(self) -> None:
        try:
            for packet in self.stream:
                if not self._outbox.put(packet):
                    break
        except BaseException as error:  # told to whoever takes the sound, who else would wait for ever
            self._failure = error
        finally:
            close = getattr(self._deltas, "close", None)
            if close is not None:
                close()
            self._outbox.put(self._end)
