"""What a session hears: 24 kHz from the client, and the turns in it, found by us or committed by the client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import soxr

from audioflamingo.server.realtime.bounds import Bounds
from audioflamingo.server.realtime.events import EventError
from audioflamingo.server.realtime.items import Pcm, as_float, sound_of
from audioflamingo.server.realtime.settings import Detection
from audioflamingo.speech.detect import EnergyDetector
from audioflamingo.speech.microphone import Microphone
from audioflamingo.speech.stream import BYTES_PER_SAMPLE, SPEECH_RATE_HZ
from audioflamingo.speech.turns import Action, TurnOptions, Turns
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

RESAMPLER = "MQ"  # 15 ms late; the next better one is 21 ms, which an interruption would wait for
SLICE_SAMPLES = SPEECH_RATE_HZ // 5  # taken at once, so that a large piece of sound holds up nobody


class Listening:
    """The input buffer of one session."""

    def __init__(self, detection: Detection | None, bounds: Bounds) -> None:
        self._bounds = bounds
        self._detector = EnergyDetector()
        self._turns = Turns()
        self._microphone = Microphone(self._detector, self._turns)
        self._resampler = _resampler()
        self._buffer = bytearray()  # of a turn that the client will commit
        self.detects = False
        self.choose(detection)

    def choose(self, detection: Detection | None) -> None:
        """Find turns so from now on; what was heard and not committed is dropped where the way changes."""
        if (detection is not None) != self.detects:
            self.clear()
        self.detects = detection is not None
        if detection is not None:
            self._detector.margin_db = detection.margin_db
            self._turns.options = replace(
                TurnOptions(),
                prefix_ms=detection.prefix_padding_ms,
                silence_ms=detection.silence_duration_ms,
                listen_ms=min(TurnOptions.listen_ms, detection.silence_duration_ms),
                max_turn_ms=round(1000 * self._bounds.max_buffer_s),
            )

    def slices(self, pcm: Pcm) -> Iterator[Pcm]:
        """A piece of sound in parts that are heard in a moment each."""
        for start in range(0, len(pcm), SLICE_SAMPLES):
            yield pcm[start : start + SLICE_SAMPLES]

    def hear(self, pcm: Pcm) -> Iterator[Action]:
        """Where turns are found here: what follows from a slice."""
        for action in self._microphone.feed(self._resampler.resample_chunk(as_float(pcm))):
            if action.kind == "begin_turn":
                self._microphone.forget_before(action.start_ms)
            elif action.kind == "end_turn":
                self._turns.answer_ends()  # here a client plays the answer: what follows is a turn of its own
            yield action

    def keep(self, pcm: Pcm) -> None:
        """Where the client commits: add to the buffer.

        Raises:
            EventError: it is full; nothing was added.
        """
        held_s = len(self._buffer) / (BYTES_PER_SAMPLE * SPEECH_RATE_HZ)
        if held_s + len(pcm) / SPEECH_RATE_HZ > self._bounds.max_buffer_s:
            raise EventError(
                f"the input audio buffer holds {held_s:.1f} s and at most {self._bounds.max_buffer_s:g} s; "
                "commit or clear it",
                "input_audio_buffer_full",
                "audio",
            )
        self._buffer += pcm.tobytes()

    def commit(self) -> Audio:
        """The whole buffer, which is empty then.

        Raises:
            EventError: there is not enough in it.
        """
        pcm = np.frombuffer(bytes(self._buffer), "<i2")
        sound = sound_of(pcm, self._bounds, "the input audio buffer")
        self.clear()
        return sound

    def end_turn(self) -> Action:
        """Where turns are found here: end the running one now.

        Raises:
            EventError: nobody speaks.
        """
        actions = self._turns.end_now()
        if not actions:
            raise EventError(
                "nobody speaks, so there is nothing to commit; turns end by themselves while turn_detection is on",
                "input_audio_buffer_commit_empty",
            )
        self._turns.answer_ends()
        return actions[0]

    def sound(self, action: Action) -> Audio:
        """The sound of a turn, or of what of it is there."""
        return self._microphone.sound(action)

    def clear(self) -> None:
        """Drop what was heard and not committed."""
        self._buffer = bytearray()
        self._turns.drop_turn()


def _resampler() -> soxr.ResampleStream:
    return soxr.ResampleStream(SPEECH_RATE_HZ, SAMPLE_RATE_HZ, 1, dtype="float32", quality=RESAMPLER)
