"""The loaded model and its voice as an event loop uses them: async streams, made in threads, in bounded numbers.

One thread steps the engine for all answers (`driver`), a few read sounds and build prompts, a few speak. Everything
here is called on the event loop, unless it says otherwise.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from audioflamingo.api import AudioFlamingo
from audioflamingo.config import WINDOW_S
from audioflamingo.conversation.prepared import Prepared
from audioflamingo.errors import OptionError
from audioflamingo.longform import Lengths
from audioflamingo.server.answer import Answer
from audioflamingo.server.driver import Batch, Driver, Job
from audioflamingo.server.errors import refused, stopping
from audioflamingo.server.limits import ServerLimits
from audioflamingo.server.metrics import Labels, Metrics
from audioflamingo.server.places import Places
from audioflamingo.server.voices import Spoken, Voices
from audioflamingo.speech.speaker import Speaker
from audioflamingo.types import Message

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
READERS = 2  # threads that decode sounds and build prompts: more would only take the cores from the engine


class Worker:
    """One model for all clients.

    Attributes:
        model: what answers; its engine may be used from any thread beside this worker.
        voices: what speaks; None where the server has no voice.
        limits: of the server.
        metrics: what happened so far.
        places: who runs and who waits.
    """

    def __init__(self, model: AudioFlamingo, voices: Voices | None = None, limits: ServerLimits | None = None) -> None:
        self.model = model
        self.voices = voices
        self.limits = limits or ServerLimits()
        self.metrics = Metrics()
        self.places = Places(self.limits)
        self._answers: dict[Job, Answer] = {}
        self._spoken: set[Spoken] = set()
        self._created = int(time.time())
        self._loop: asyncio.AbstractEventLoop | None = None
        self._driver: Driver | None = None
        self._readers = ThreadPoolExecutor(READERS, "reader")
        self._talkers = ThreadPoolExecutor(self.limits.max_talkers, "talker")
        self._writers = ThreadPoolExecutor(self.limits.max_talkers, "writer")

    @property
    def name(self) -> str:
        """What clients call the model."""
        return self.model.name

    @property
    def lengths(self) -> Lengths:
        """How the model wants a sound cut for its transcript."""
        return self.model.lengths

    @property
    def card(self) -> dict[str, Any]:
        """What is told of the model."""
        defaults = self.model.defaults
        return {
            "id": self.name,
            "object": "model",
            "created": self._created,
            "owned_by": "audioflamingo",
            "max_model_len": self.model.model.config.decoder.max_positions,
            "max_completion_tokens": defaults.max_new_tokens,
            "max_audio_s": defaults.max_windows * WINDOW_S,
            "thinks": self.model.thinking.is_possible,
            "voices": list(self.voices.names) if self.voices is not None else [],
        }

    @property
    def speaker(self) -> Speaker:
        """The default voice.

        Raises:
            ApiError: the server has none.
        """
        return self.voice_of()

    @property
    def is_stopping(self) -> bool:
        """Whether no more requests are taken."""
        return self.places.is_closed

    async def start(self) -> None:
        """Bind to the running event loop and start the engine's thread."""
        self._loop = asyncio.get_running_loop()
        self._driver = Driver(self.model.engine, self._deliver_soon)

    def stop(self) -> None:
        """Take no more requests, and end all answers with an error; their clients are told within a step."""
        self.places.is_closed = True
        for answer in list(self._answers.values()):
            answer.fail(stopping())
        for spoken in self._spoken:
            spoken.fail(stopping())

    async def close(self) -> None:
        """End the threads."""
        self.stop()
        if self._driver is not None:
            await asyncio.to_thread(self._driver.close)
        for threads in (self._readers, self._talkers, self._writers):
            threads.shutdown(wait=False, cancel_futures=True)

    async def read(self, work: Callable[[], _T]) -> _T:
        """Do a piece of work that takes long and touches no answer, such as decoding a sound, in one of few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def write(self, work: Callable[[], _T]) -> _T:
        """Do work that waits for many answers, a transcript, in another of few threads."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, work)

    async def prepare(self, conversation: Sequence[Message], **options: Any) -> Prepared:
        """A conversation made ready for the engine.

        Raises:
            FlamingoError: a sound, the conversation or an option is not usable.
        """
        prepared = await self.read(lambda: self.model.prepare(conversation, **options))
        if prepared.beams is not None:  # of the model's defaults, as no request may ask for them
            raise OptionError("a server writes answers token by token; give the model num_beams 1 in its defaults")
        return prepared

    @asynccontextmanager
    async def answer(self, prepared: Prepared) -> AsyncIterator[Answer]:
        """The answer to a conversation as it comes; leaving the block stops work on it."""
        assert self._driver is not None, "start the worker first"
        if self.is_stopping:
            raise stopping()
        job = Job(prepared)
        answer = self._answers[job] = Answer(job, self._cancel)
        self._driver.begin(job)
        late = TimeoutError(f"an answer took longer than {self.limits.max_request_s:g} s")
        timer = asyncio.get_running_loop().call_later(self.limits.max_request_s, answer.fail, late)
        try:
            yield answer
        finally:
            timer.cancel()
            answer.cancel()
            self._forget(answer)

    @asynccontextmanager
    async def spoken(self, speaker: Speaker) -> AsyncIterator[Spoken]:
        """Speech of a text that is fed to it; leaving the block stops it."""
        spoken = Spoken(speaker, self._talkers)
        self._spoken.add(spoken)
        try:
            yield spoken
        finally:
            self._spoken.discard(spoken)
            spoken.close()

    def voice_of(self, name: str | None = None, speed: float = 1.0) -> Speaker:
        """A speaker; see `Voices.speaker`.

        Raises:
            ApiError: the server has no voice, or not this one.
        """
        if self.voices is None:
            raise refused("this server has no voice; start it without --no-voice", code="no_voice")
        return self.voices.speaker(name, speed)

    def gauges(self) -> dict[tuple[str, Labels], float]:
        """What is held now, for `Metrics.text`."""
        counts = self.model.engine.counts
        return {
            ("requests_running", ()): self.places.num_running,
            ("requests_waiting", ()): self.places.num_waiting,
            ("sequences", ()): len(self._answers),
            ("cache_blocks", (("state", "held"),)): counts.num_held_blocks,
            ("cache_blocks", (("state", "kept"),)): counts.num_kept_blocks,
            ("preempted_total", ()): counts.num_preempted,
        }

    def _deliver_soon(self, batch: Batch) -> None:
        """Called in the engine's thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, batch)

    def _deliver(self, batch: Batch) -> None:
        for job, delta in batch:
            answer = self._answers.get(job)
            if answer is not None and not answer.is_over:
                answer.put(delta)

    def _cancel(self, answer: Answer) -> None:
        if self._driver is not None:
            self._driver.cancel(answer.job)

    def _forget(self, answer: Answer) -> None:
        """Count what an answer cost, also one that nobody waited for to the end."""
        self._answers.pop(answer.job, None)
        sequence = answer.job.sequence
        if sequence is None:
            return
        usage = answer.usage or sequence.usage
        self.metrics.add("tokens_total", usage.prompt_tokens, kind="prompt")
        self.metrics.add("tokens_total", answer.num_reused_tokens, kind="cached")
        self.metrics.add("tokens_total", usage.completion_tokens, kind="answer")
        self.metrics.add("audio_seconds_total", usage.audio_s, direction="in")
        if answer.first_s is not None:
            self.metrics.add("first_token_seconds_sum", answer.first_s)
            self.metrics.add("first_token_seconds_count")
