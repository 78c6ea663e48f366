"""Question: between asking and the first token, when does the GPU wait, and for what?

A sound and a question that are new go through the engine. Written down are the time on the wall, what the host does in
it, by function, and on a GPU how long it worked and every pause of it with the kernels before and behind.

    python benchmarks/first_token_profile.py [--model random-8b] [--seconds 30 600] [--out FILE]
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from audioflamingo.bench.material import Material
from audioflamingo.bench.session import DTYPES
from audioflamingo.bench.subject import Subject, make_subject
from audioflamingo.bench.timeline import first_token
from audioflamingo.bench.timing import synchronize

NUM_WARMUPS, NUM_REPEATS = 3, 7
NUM_FUNCTIONS, NUM_PAUSES = 15, 15
SHORTEST_PAUSE_US = 60


def asked_ms(subject: Subject, material: Material, duration_s: float) -> float:
    """Milliseconds to the first token of a new sound."""
    prompt = material.prompt(material.sound(duration_s))
    synchronize(subject.device)
    began = time.perf_counter()
    first_token(subject.engine, prompt)
    return 1e3 * (time.perf_counter() - began)


def host(subject: Subject, material: Material, duration_s: float) -> list[str]:
    """The functions in which the host itself spends most time, waiting for the device included."""
    prompt = material.prompt(material.sound(duration_s))
    synchronize(subject.device)
    profiler = cProfile.Profile()
    profiler.runcall(first_token, subject.engine, prompt)
    rows = sorted(pstats.Stats(profiler).stats.items(), key=lambda row: -row[1][2])  # type: ignore[attr-defined]
    return [
        f"{1e3 * own:8.2f} ms {calls:6d} x {Path(file).name}:{line} {name}"
        for (file, line, name), (calls, _, own, *_) in rows[:NUM_FUNCTIONS]
    ]


def device(subject: Subject, material: Material, duration_s: float) -> dict[str, Any]:
    """How long a GPU worked, and its longest pauses."""
    from torch.profiler import ProfilerActivity

    prompt = material.prompt(material.sound(duration_s))
    synchronize(subject.device)
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as found:
        first_token(subject.engine, prompt)
        synchronize(subject.device)
    kernels = sorted(
        (one.time_range.start, one.time_range.end, one.name)
        for one in found.events()
        if str(one.device_type) == "DeviceType.CUDA"
    )
    pauses, end, last, worked = [], kernels[0][0], "nothing", 0.0
    for begin, stop, name in kernels:
        if begin - end >= SHORTEST_PAUSE_US:
            pauses.append((begin - end, begin - kernels[0][0], f"{last[:60]} | {name[:60]}"))
        worked += max(0.0, stop - max(begin, end))
        if stop > end:
            end, last = stop, name
    return {
        "worked ms": round(worked / 1e3, 2),
        "first to last ms": round((end - kernels[0][0]) / 1e3, 2),
        "pauses": [f"{size:7.0f} us at {at / 1e3:7.2f} ms: {names}" for size, at, names in sorted(pauses)[::-1]][
            :NUM_PAUSES
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--model", default="random-8b" if is_gpu else "nano")
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 600.0] if is_gpu else [5.0, 30.0])
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16" if is_gpu else "float32")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    subject = make_subject(options.model, torch.device("cuda" if is_gpu else "cpu"), DTYPES[options.dtype])
    material, found = Material(subject.config), {}
    for duration_s in options.seconds:
        for _ in range(NUM_WARMUPS):
            asked_ms(subject, material, duration_s)
        times = [asked_ms(subject, material, duration_s) for _ in range(NUM_REPEATS)]
        row: dict[str, Any] = {"first token ms": round(statistics.median(times), 2)}
        row["host"] = host(subject, material, duration_s)
        if is_gpu:
            row["device"] = device(subject, material, duration_s)
        found[f"{duration_s:g} s"] = row
        print(json.dumps({f"{duration_s:g} s": row}, indent=1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
