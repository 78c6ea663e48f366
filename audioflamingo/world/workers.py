"""Processes that make scenes. One that is killed ends the work with an error, and none outlives the program.

A plain pool waits forever for what a killed worker was making, and its workers wait forever for a program that was
killed. Here each worker holds one end of a pipe and leaves when the other end closes, however that comes about.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

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
        # "spawn": the caller may have threads of torch, which a fork would break.
        context = multiprocessing.get_context("spawn")
        ends, self._alive = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(num, context, initializer=_begin, initargs=(ends,))

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Have something made; see `result`.

        Raises:
            LostWorkerError: a worker is gone.
        """
        try:
            return self._pool.submit(function, *args, **kwargs)
        except BrokenProcessPool as error:
            raise _lost() from error

    def close(self) -> None:
        """End all of them, whatever they are at."""
        self._alive.close()
        self._pool.shutdown(cancel_futures=True)


def result(future: Future[R]) -> R:
    """What was made.

    Raises:
        LostWorkerError: the worker that made it is gone.
    """
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise _lost() from error


def _lost() -> LostWorkerError:
    return LostWorkerError(
        "a worker that made scenes was killed, perhaps because memory ran out; start again with the same --out: what "
        "is finished stays. Fewer workers take less memory"
    )


def _begin(ends: Connection) -> None:
    """In a worker: an interrupt is the program's business, and its end is ours too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(ends,), daemon=True).start()


def _leave_with(ends: Connection) -> None:
    ends.poll(None)  # nothing ever comes but the end
    os._exit(1)
