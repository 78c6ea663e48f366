"""What the host does in a piece of work, and when the GPU waits in it."""

from __future__ import annotations

import cProfile
import pstats
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType

from audioflamingo.bench.timing import synchronize

NUM_FUNCTIONS, NUM_PAUSES, NUM_KERNELS = 15, 15, 40
SHORTEST_PAUSE_US = 60


def host(work: Callable[[], object], on: torch.device) -> list[str]:
    """The functions in which the host itself spends most time, waiting for the device included."""
    synchronize(on)
    profiler = cProfile.Profile()
    profiler.runcall(work)
    rows = sorted(pstats.Stats(profiler).stats.items(), key=lambda row: -row[1][2])  # type: ignore[attr-defined]
    return [
        f"{1e3 * own:8.2f} ms {calls:6d} x {Path(file).name}:{line} {name}"
        for (file, line, name), (calls, _, own, *_) in rows[:NUM_FUNCTIONS]
    ]


def device(work: Callable[[], object], on: torch.device) -> dict[str, Any]:
    """How long a GPU worked and in which kernels, and its longest pauses."""
    from torch.profiler import ProfilerActivity

    synchronize(on)
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        synchronize(on)
    assert found.profiler is not None
    kernels = sorted(  # of the raw trace: to make objects of all events takes longer than the work
        (one.start_ns() / 1e3, one.end_ns() / 1e3, one.name())
        for one in found.profiler.kineto_results.events()
        if one.device_type() == DeviceType.CUDA
    )
    pauses, end, last, worked = [], kernels[0][0], "nothing", 0.0
    by_name: dict[str, list[float]] = defaultdict(list)
    short = 0.0
    for begin, stop, name in kernels:
        by_name[name].append(stop - begin)
        if begin - end >= SHORTEST_PAUSE_US:
            pauses.append((begin - end, begin - kernels[0][0], f"{last[:60]} | {name[:60]}"))
        else:
            short += max(0.0, begin - end)
        worked += max(0.0, stop - max(begin, end))
        if stop > end:
            end, last = stop, name
    longest = sorted(by_name.items(), key=lambda row: -sum(row[1]))[:NUM_KERNELS]
    return {
        "worked ms": round(worked / 1e3, 2),
        "first to last ms": round((end - kernels[0][0]) / 1e3, 2),
        "long pauses ms": round(sum(size for size, *_ in pauses) / 1e3, 2),
        "short pauses ms": round(short / 1e3, 2),
        "kernels": [f"{sum(times) / 1e3:8.2f} ms {len(times):6d} x {name[:90]}" for name, times in longest],
        "pauses": [f"{size:7.0f} us at {at / 1e3:7.2f} ms: {names}" for size, at, names in sorted(pauses)[::-1]][
            :NUM_PAUSES
        ],
    }
