"""Question: how long do answers wait when somebody else asks, and does a second queue for the encoder help?

Questions about new sounds come one after another while those before are answered; the engine encodes beside the answers
or in line, by turns. Written down are tokens a second, the longest and the median wait for a next token, the time to
first tokens, and how many answers agree between the two.

    python benchmarks/arrivals.py [--model random-8b] [--sound-s 30] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from audioflamingo.bench.material import Material
from audioflamingo.bench.session import DTYPES
from audioflamingo.bench.subject import MAX_CACHE_TOKENS, Subject, endless_tokenizer, make_subject
from audioflamingo.bench.timing import synchronize
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.scheduler import Limits
from audioflamingo.types import Prompt, Sampling

NUM_REQUESTS, NUM_TOKENS, GAP_S = 24, 60, 0.06
NUM_REPEATS = 3


def new_engine(subject: Subject, *, is_aside: bool) -> Engine:
    limits = replace(Limits.usual(subject.device.type), max_cache_tokens=MAX_CACHE_TOKENS // 2, encodes_aside=is_aside)
    return Engine(subject.model, endless_tokenizer(), limits)


def serve(engine: Engine, prompts: list[Prompt]) -> dict[str, Any]:
    """All of them, one every `GAP_S` seconds."""
    sampling = Sampling(max_new_tokens=NUM_TOKENS)
    asked: dict[int, float] = {}
    came: dict[int, list[float]] = {}
    tokens: dict[int, list[int]] = {}
    synchronize(engine.model.device)
    began = time.perf_counter()
    while len(asked) < len(prompts) or engine.has_work:
        now = time.perf_counter()
        if len(asked) < len(prompts) and (now - began >= GAP_S * len(asked) or not engine.has_work):
            asked[engine.add(prompts[len(asked)], sampling).index] = now
        for delta in engine.step():
            came.setdefault(delta.index, []).append(time.perf_counter())
            tokens.setdefault(delta.index, []).extend(delta.token_ids)
    total_s = time.perf_counter() - began
    waits = [1e3 * (late - early) for times in came.values() for early, late in itertools.pairwise(times)]
    return {
        "tokens a second": round(len(prompts) * NUM_TOKENS / total_s, 1),
        "median wait ms": round(statistics.median(waits), 2),
        "longest wait ms": round(max(waits), 2),
        "median first token ms": round(statistics.median(1e3 * (came[one][0] - asked[one]) for one in asked), 2),
        "answers": [tokens[one] for one in sorted(asked)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--model", default="random-8b" if is_gpu else "random-tiny")
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bfloat16" if is_gpu else "float32")
    parser.add_argument("--sound-s", type=float, default=30.0 if is_gpu else 2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    subject = make_subject(options.model, torch.device("cuda" if is_gpu else "cpu"), DTYPES[options.dtype])
    material = Material(subject.config)
    engines = {name: new_engine(subject, is_aside=name == "aside") for name in ("in line", "aside")}
    for engine in engines.values():
        serve(engine, material.prompts([options.sound_s] * NUM_REQUESTS))
    found: dict[str, Any] = {name: [] for name in engines}
    equal = []
    for _ in range(NUM_REPEATS):
        prompts = material.prompts([options.sound_s] * NUM_REQUESTS)
        rows = {name: serve(engine, prompts) for name, engine in engines.items()}
        answers = [row.pop("answers") for row in rows.values()]
        equal.append(sum(one == other for one, other in zip(*answers, strict=True)) / NUM_REQUESTS)
        for name, row in rows.items():
            found[name].append(row)
            print(name, row, flush=True)
    report = {
        "benchmark": "arrivals",
        "model": options.model,
        "sound_s": options.sound_s,
        **found,
        "equal answers": equal,
    }
    if options.out:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
