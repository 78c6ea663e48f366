"""A few threads for work in which Python lets go of its lock: hashes and copies of whole windows.

torch's own threads end a copy together, so that on a machine whose cores are wanted by others one of them may hold up
the rest for a whole time slice, ten milliseconds for each window of two megabytes. Of these, each ends for itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

MAX_THREADS = 16
FEW_ARRAYS = 2  # are copied sooner than threads wake up

Array = npt.NDArray[Any]


@cache
def num_cores() -> int:
    """Of this machine, as far as this process may use them."""
    is_told = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if is_told else os.cpu_count() or 1


@cache
def threads() -> ThreadPoolExecutor:
    """The threads; made when they are wanted first."""
    return ThreadPoolExecutor(min(num_cores(), MAX_THREADS), "windows")


def copied(sources: Sequence[Array], targets: Sequence[Array]) -> Iterator[None]:
    """Copy arrays over others of their shapes, side by side; goes on to the next item once the next one is there."""
    if len(sources) <= FEW_ARRAYS or num_cores() == 1:
        return map(np.copyto, targets, sources)
    return threads().map(np.copyto, targets, sources)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=threads.cache_clear)  # a child has none of its parent's threads
