"""Question: where does the time of many clips end to end go: which kernels, and when does the GPU wait for the host?

The rows "batch" of `flamingo bench`, profiled: the time on the wall, what the GPU did, its pauses, the host's work.

    python benchmarks/batch_profile.py [--model random-8b] [--clips 64x30x100 128x10x30] [--quantize fp8] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pauses import device, host

from audioflamingo.bench.material import Material
from audioflamingo.bench.session import DTYPES
from audioflamingo.bench.subject import Subject, make_subject
from audioflamingo.bench.timeline import answer_all

NUM_WARMUPS, NUM_REPEATS = 2, 3


def profiled(
    subject: Subject, material: Material, num_clips: int, duration_s: float, num_tokens: int, is_timed_only: bool
) -> Any:
    """One row."""

    def once() -> float:
        prompts = material.prompts([duration_s] * num_clips)
        began = time.perf_counter()
        answer_all(subject.engine, prompts, num_tokens)
        return time.perf_counter() - began

    for _ in range(NUM_WARMUPS):
        once()
    times = [once() for _ in range(NUM_REPEATS)]
    took = statistics.median(times)
    row: dict[str, Any] = {"s": round(took, 4), "s of audio per s": round(num_clips * duration_s / took, 1)}
    if subject.device.type == "cuda":
        row["peak GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
    if is_timed_only:
        return row
    prompts = [material.prompts([duration_s] * num_clips) for _ in range(2)]
    if subject.device.type == "cuda":
        row["device"] = device(lambda: answer_all(subject.engine, prompts[0], num_tokens), subject.device)
    print(json.dumps(row, indent=1), flush=True)
    row["host"] = host(lambda: answer_all(subject.engine, prompts[1], num_tokens), subject.device)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--model", default="random-8b" if is_gpu else "nano")
    parser.add_argument("--clips", nargs="+", default=["64x30x100", "128x10x30"] if is_gpu else ["4x5x8"])
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16" if is_gpu else "float32")
    parser.add_argument("--quantize", choices=["fp8", "int8", "int4"])
    parser.add_argument("--times", action="store_true", help="and nothing else")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    where = torch.device("cuda" if is_gpu else "cpu")
    subject = make_subject(options.model, where, DTYPES[options.dtype], quantize=options.quantize)
    material, found = Material(subject.config), {}
    for clips in options.clips:
        num_clips, duration_s, num_tokens = clips.split("x")
        sizes = int(num_clips), float(duration_s), int(num_tokens)
        found[clips] = profiled(subject, material, *sizes, options.times)
        print(json.dumps({clips: found[clips]}, indent=1), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
