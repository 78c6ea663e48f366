"""An answer as the event loop sees it: deltas that wait for a reader, however slow, in a place that cannot grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from audioflamingo.server.driver import Job
from audioflamingo.types import Delta, FinishReason, Usage


class Answer(AsyncIterator[Delta]):
    """Deltas of one prompt. What the reader has not taken yet is one delta, to which later ones are joined.

    Attributes:
        job: what the engine works on.
        usage: what it cost; None until the end.
        finish_reason: why it ended; None until it did.
        notes: what came to pass that its author should know of.
        first_s: from the beginning to the first delta; None until then.
    """

    def __init__(self, job: Job, cancel: Callable[[Answer], None]) -> None:
        self.job = job
        self.usage: Usage | None = None
        self.finish_reason: FinishReason | None = None
        self.notes = job.prepared.notes
        self.first_s: float | None = None
        self._cancel = cancel
        self._begun_s = time.perf_counter()
        self._has_text = self._has_thoughts = False
        self._num_early_tokens = 0
        self._waiting: Delta | None = None
        self._error: Exception | None = None
        self._arrived = asyncio.Event()

    @property
    def num_reused_tokens(self) -> int:
        """Tokens of the prompt that were found in the cache."""
        return self.job.sequence.num_reused if self.job.sequence is not None else 0

    @property
    def num_thought_tokens(self) -> int:
        """Tokens that came before the first character of the answer, where it had thoughts."""
        return self._num_early_tokens if self._has_thoughts else 0

    @property
    def is_over(self) -> bool:
        """Whether no more comes from the engine."""
        return self.finish_reason is not None or self._error is not None

    def put(self, delta: Delta | Exception) -> None:
        """Take what came from the engine."""
        if isinstance(delta, Exception):
            self._error = delta
        else:
            self._count(delta)
            self._waiting = delta if self._waiting is None else joined(self._waiting, delta)
        self._arrived.set()

    def fail(self, error: Exception) -> None:
        """End it from our side: what waits is still read, then comes the error."""
        self.cancel()
        if not self.is_over:
            self.put(error)

    def cancel(self) -> None:
        """Stop the engine's work on it."""
        self._cancel(self)

    async def __anext__(self) -> Delta:
        await self._arrived.wait()
        delta, self._waiting = self._waiting, None
        if delta is not None:
            if not self.is_over:
                self._arrived.clear()
            return delta
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def _count(self, delta: Delta) -> None:
        if self.first_s is None:
            self.first_s = time.perf_counter() - self._begun_s
        self._has_text = self._has_text or bool(delta.text)
        self._has_thoughts = self._has_thoughts or bool(delta.thoughts)
        if not self._has_text:
            self._num_early_tokens += len(delta.token_ids)
        if delta.finish_reason is not None:
            self.finish_reason, self.usage = delta.finish_reason, delta.usage
            self.notes += delta.notes


def joined(first: Delta, second: Delta) -> Delta:
    """Two deltas of one answer, one right behind the other, as one."""
    return replace(
        second,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        thoughts=first.thoughts + second.thoughts,
        notes=first.notes + second.notes,
    )
