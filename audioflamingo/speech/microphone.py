"""The user's side of a conversation: sound in, actions out, with the sound of the running turn kept; and reading ahead.

`talk` plays its answers itself, a server sends them away: both listen through this.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from audioflamingo.speech.detect import SpeechDetector
from audioflamingo.speech.turns import Action, Turns
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

Samples = npt.NDArray[np.float32]

Prefill = Callable[[Audio, bool], None]
"""A turn so far, and whether it seems to be over; whatever it raises is left to the answer to raise again."""

TURN_NAME = "your question"
IDLE_MEMORY_MS = 1_000  # kept of silence beside what a turn may reach back for: detectors decide late
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000


class Microphone:
    """What is heard of the user, and whose turn it is.

    Args:
        detector: tells speech from noise.
        turns: whose turn it is; its clock is the sound that came.
    """

    def __init__(self, detector: SpeechDetector, turns: Turns) -> None:
        self.detector, self.turns = detector, turns
        self._pieces: list[Samples] = []
        self._start = 0  # sample at which the first piece begins
        self._end = 0

    @property
    def time_ms(self) -> int:
        """How much sound came so far."""
        return self._end // SAMPLES_PER_MS

    def feed(self, samples: Samples) -> Iterator[Action]:
        """The next (N,) float32 samples at 16 kHz to actions, each given as it is due: one can change the next."""
        self._pieces.append(samples)
        self._end += len(samples)
        for verdict in self.detector.feed(samples):
            yield from self.turns.step(verdict, self.detector.step_ms, self.detector.hangover_ms)
        if self.turns.state == "idle":
            options = self.turns.options
            self._keep_last(options.prefix_ms + options.onset_ms + IDLE_MEMORY_MS)

    def sound(self, action: Action) -> Audio:
        """What was said in the time that an action is about; see `Action`."""
        joined = np.concatenate(self._pieces)
        self._pieces = [joined]
        start, end = (time_ms * SAMPLES_PER_MS - self._start for time_ms in (action.start_ms, action.end_ms))
        return Audio(joined[start:end].copy(), TURN_NAME)

    def forget_before(self, time_ms: int) -> None:
        """Nothing before this will be asked for."""
        start = max(time_ms * SAMPLES_PER_MS, self._start)
        joined = np.concatenate(self._pieces)
        self._pieces, self._start = [joined[start - self._start :].copy()], start

    def _keep_last(self, duration_ms: int) -> None:
        """Forget older sound, once there is as much of it again: nobody joins pieces at every step."""
        if self._end - self._start > 2 * duration_ms * SAMPLES_PER_MS:
            self.forget_before(self.time_ms - duration_ms)


class Ahead:
    """Reads turns before they are over, in one thread; a turn that has grown meanwhile takes the place of the last."""

    def __init__(self, prefill: Prefill) -> None:
        self._prefill = prefill
        self._next: queue.Queue[tuple[Audio, bool] | None] = queue.Queue(1)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def read(self, turn: Audio, is_over: bool) -> None:
        """Read this next; see `Prefill`."""
        self._put((turn, is_over))

    def stop(self) -> None:
        """Read nothing more; what is being read now ends by itself."""
        self._put(None)

    def close(self) -> None:
        """Stop, and wait for what is being read."""
        self.stop()
        self._thread.join()

    def _put(self, work: tuple[Audio, bool] | None) -> None:
        with contextlib.suppress(queue.Empty):
            self._next.get_nowait()
        self._next.put(work)

    def _run(self) -> None:
        while (work := self._next.get()) is not None:
            with contextlib.suppress(Exception):
                self._prefill(*work)
