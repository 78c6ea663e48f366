"""Choice among ways of doing the same work, by timing them once; the choice is kept for the life of the program.

Graphs must be captured after the choice: timing waits for the device.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch

T = TypeVar("T")
Plan = TypeVar("Plan")

NUM_TIMED = 7
_FLUSHED_BYTES = 256 << 20  # several times any second-level cache: a weight comes from memory, as in a real step
_NUM_FLUSHES = 4  # long enough that all launches of the work are queued before the last one ends

_logger = logging.getLogger(__name__)
_chosen: dict[Hashable, Any] = {}
_trials: dict[Hashable, list[tuple[float, Any]]] = {}


def best(key: Hashable, plans: Sequence[Plan], work: Callable[[Plan], object], device: torch.device) -> Plan:
    """The plan whose work is done soonest; the first one where there is nothing to choose or no GPU.

    A plan that fails (too much shared memory for this card, say) is left out.

    Raises:
        RuntimeError: every plan failed.
    """
    if key not in _chosen:
        if device.type != "cuda" or len(plans) == 1:
            return plans[0]
        times = [(time_us(lambda plan=plan: work(plan)), plan) for plan in plans]  # type: ignore[misc]
        working = [(time, plan) for time, plan in times if time is not None]
        if not working:
            raise RuntimeError(f"no plan for {key} ran on {device}")
        _trials[key] = sorted(working, key=lambda pair: pair[0])
        _chosen[key] = _trials[key][0][1]
        _logger.debug("%s: %s", key, _chosen[key])
    chosen: Plan = _chosen[key]
    return chosen


def is_settled(key: Hashable) -> bool:
    """Whether the choice was made before."""
    return key in _chosen


def trials() -> dict[Hashable, list[tuple[float, Any]]]:
    """Microseconds and plans of every choice so far, the fastest first."""
    return dict(_trials)


def choose(key: Hashable, plan: object) -> None:
    """Settle a choice by hand: what is fastest alone need not be so in a chain of kernels that overlap."""
    _chosen[key] = plan


def choices() -> dict[str, str]:
    """What was chosen so far, for reports."""
    return {str(key): str(plan) for key, plan in _chosen.items()}


def time_us(work: Callable[[], object], num_timed: int = NUM_TIMED) -> float | None:
    """Median time of the work on the GPU in microseconds, its inputs not in any cache; None if it cannot run."""
    try:
        work()
        torch.cuda.synchronize()
    except Exception as error:  # Triton's own errors have no common class
        _logger.debug("plan left out: %s", error)
        return None
    flushed = torch.empty(_FLUSHED_BYTES, dtype=torch.int8, device="cuda")
    times: list[float] = []
    for _ in range(num_timed):
        for _ in range(_NUM_FLUSHES):
            flushed.zero_()
        start, end = _event(), _event()
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    return statistics.median(times)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
