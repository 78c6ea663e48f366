"""Processes that make scenes. One that is killed ends the work with an error, and none outlives the program.

A plain pool shares one pipe among its workers and holds the writing end itself: a worker killed in the middle of a
result leaves the program waiting for the rest. Here each worker has a pipe of its own, whose far end only it holds, so
that its death is seen whenever it comes; and each leaves when the program does.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from queue import Empty, SimpleQueue
from typing import Any, ParamSpec, TypeVar

from audioflamingo.errors import FlamingoError

P = ParamSpec("P")
R = TypeVar("R")


class LostWorkerError(FlamingoError):
    """A process that made scenes is gone."""


class Workers:
    """A number of processes, started when there is something to do.

    Args:
        num: processes.
    """

    def __init__(self, num: int) -> None:
        self._threads = ThreadPoolExecutor(num)
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        self._all: list[_Worker] = []
        self._lock = threading.Lock()
        self._is_lost = False

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have something made; see `result`.

        Raises:
            LostWorkerError: a worker is gone.
        """
        if self._is_lost:
            raise _lost()
        return self._threads.submit(self._ask, function, *args, **kwargs)

    def close(self) -> None:
        """End all of them, whatever they are at."""
        with self._lock:
            self._is_lost = True
            for worker in self._all:
                worker.kill()
        self._threads.shutdown(cancel_futures=True)

    def _ask(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        worker = self._worker()
        try:
            is_made, made = worker.ask((function, args, kwargs))
        except (EOFError, OSError) as error:
            self._is_lost = True
            raise _lost() from error
        finally:
            self._idle.put(worker)
        if not is_made:
            raise made
        return made  # type: ignore[no-any-return]

    def _worker(self) -> _Worker:
        """One that has nothing to do: there is one for every thread, hence always."""
        try:
            return self._idle.get_nowait()
        except Empty:
            with self._lock:
                if self._is_lost:
                    raise _lost() from None
                self._all.append(_Worker())
                return self._all[-1]


def result(future: Future[R]) -> R:
    """What was made.

    Raises:
        LostWorkerError: the worker that made it is gone.
    """
    return future.result()


class _Worker:
    """A process and our end of its pipe."""

    def __init__(self) -> None:
        # "spawn": the caller may have threads of torch, which a fork would break.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_work, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, task: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]) -> tuple[bool, Any]:
        """Whether it was made, and that or the error.

        Raises:
            EOFError, OSError: the process is gone.
        """
        self._pipe.send(task)
        answer: tuple[bool, Any] = self._pipe.recv()
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _lost() -> LostWorkerError:
    return LostWorkerError(
        "a worker that made scenes was killed, perhaps because memory ran out; start again with the same --out: what "
        "is finished stays. Fewer workers take less memory"
    )


def _work(pipe: Connection) -> None:
    """In a worker: an interrupt is the program's business, and its end is ours too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_the_program, daemon=True).start()
    while True:
        try:
            function, args, kwargs = pipe.recv()
        except EOFError:
            return
        try:
            answer = True, function(*args, **kwargs)
        except Exception as error:  # whatever it is, it is raised where the result is asked for
            answer = False, error
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return
        except Exception as error:  # a result that cannot be sent is an error like another
            pipe.send((False, RuntimeError(f"{type(answer[1]).__name__} cannot be sent back: {error}")))


def _leave_with_the_program() -> None:
    program = multiprocessing.parent_process()
    assert program is not None
    wait([program.sentinel])
    os._exit(1)
