"""The one thread that steps the engine, and the prompts that it steps. No framework here, and no event loop."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from audioflamingo.conversation.prepared import Prepared
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.sequence import Sequence
from audioflamingo.errors import FlamingoError
from audioflamingo.types import Delta

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Job:
    """One prompt on its way through the engine.

    Attributes:
        prepared: the prompt, and what becomes of its deltas.
        inbox: where the engine leaves them.
        sequence: its place in the engine; None until the driver gave it one.
        is_cancelled: nobody waits for it any more.
        is_over: its last delta was delivered, or its error.
    """

    prepared: Prepared
    inbox: deque[Delta] = field(default_factory=deque)
    sequence: Sequence | None = None
    is_cancelled: bool = False
    is_over: bool = False
    shown: Iterator[Delta] = field(init=False)

    def __post_init__(self) -> None:
        """Put the prompt's own way of showing deltas behind the inbox."""
        assert len(self.prepared.prompts) == 1, "a request of several prompts has several jobs"
        self.shown = self.prepared.shown(self._arrived())

    def _arrived(self) -> Generator[Delta, None, None]:
        while True:
            delta = self.inbox.popleft()  # asked for only where there is one
            if delta.error is not None:
                raise delta.error
            yield delta


Batch = list[tuple[Job, Delta | Exception]]


class Driver:
    """Steps an engine for as long as any job is in it; others may use the same engine beside it."""

    def __init__(self, engine: Engine, deliver: Callable[[Batch], None]) -> None:
        """Start the thread.

        Args:
            engine: whose steps are made.
            deliver: called in the thread, once a step, with what came for all jobs.
        """
        self._engine, self._deliver = engine, deliver
        self._condition = threading.Condition()
        self._new: list[Job] = []
        self._jobs: list[Job] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_jobs(self) -> int:
        """Jobs that are in the engine or on their way to it."""
        return len(self._new) + len(self._jobs)

    def begin(self, job: Job) -> None:
        """Let a job into the engine before its next step."""
        with self._condition:
            self._new.append(job)
            self._condition.notify()

    def cancel(self, job: Job) -> None:
        """Stop work on a job and free its share of the cache, now or at the end of the running step."""
        if not job.is_over:
            job.is_cancelled = True
            if job.sequence is not None:
                self._engine.cancel(job.sequence)

    def close(self, timeout_s: float = 5.0) -> None:
        """Cancel all jobs and end the thread, with the running step."""
        with self._condition:
            self._is_closed = True
            self._condition.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._new or self._jobs or self._is_closed)
                new, self._new = self._new, []
                self._jobs += new
            if self._is_closed:
                for job in self._jobs:
                    self.cancel(job)
                return
            batch: Batch = []
            for job in new:
                self._add(job, batch)
            self._step(batch)
            for job in self._jobs:
                self._collect(job, batch)
            self._jobs = [job for job in self._jobs if not (job.is_over or job.is_cancelled)]
            if batch:
                self._deliver(batch)

    def _add(self, job: Job, batch: Batch) -> None:
        if job.is_cancelled:
            return
        prepared = job.prepared
        try:
            job.sequence = self._engine.add(prepared.prompts[0], prepared.samplings[0], index=0, inbox=job.inbox)
        except FlamingoError as error:
            self._fail(job, error, batch)
        except Exception as error:  # a bug, which must not end all others' answers
            _log.exception("a prompt could not be added")
            self._fail(job, error, batch)
        if job.is_cancelled:  # meanwhile, by the event loop
            self.cancel(job)

    def _step(self, batch: Batch) -> None:
        try:
            self._engine.step()
        except Exception as error:  # a bug or a broken device: those whose step it was are told, the server stays
            _log.exception("a step of the engine failed")
            for job in self._jobs:
                self._fail(job, error, batch)

    def _collect(self, job: Job, batch: Batch) -> None:
        """What came for a job since the last step, shown."""
        while job.inbox and not (job.is_over or job.is_cancelled):
            try:
                delta = next(job.shown)
            except FlamingoError as error:
                self._fail(job, error, batch)
                return
            except Exception as error:
                _log.exception("an answer could not be shown")
                self._fail(job, error, batch)
                return
            job.is_over = delta.finish_reason is not None
            batch.append((job, delta))

    def _fail(self, job: Job, error: Exception, batch: Batch) -> None:
        if job.is_over or job.is_cancelled:
            return
        self.cancel(job)
        job.is_over, job.is_cancelled = True, False
        batch.append((job, error))
