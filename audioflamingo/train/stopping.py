"""A polite request to end: SIGTERM, which machines send before they take themselves back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def told_to_stop() -> Iterator[Callable[[], bool]]:
    """While this is entered SIGTERM ends nothing; what is yielded says whether it came.

    Only a program's main thread can ask for signals; in another one SIGTERM keeps its usual effect.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
