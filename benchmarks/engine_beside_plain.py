"""The engine beside the plain engine on the embedded model: same weights, same prompts, one process, taking turns.

Prompts are random tokens, new ones every round, so that nothing is found in the cache. CPU time is shown beside the
clock's: on a busy machine it is the fairer of the two. Prints a table and one last JSON line.

    python benchmarks/engine_beside_plain.py [--rounds 5] [--model nano] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from audioflamingo.api import load_model
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.plain import PlainEngine
from audioflamingo.types import Prompt, Sampling

CASES = ((1, 150, 60), (1, 4_000, 30), (8, 150, 40), (8, 4_000, 10), (64, 150, 20))  # batch, prompt tokens, new tokens
MAX_ID = 1_900  # below the special tokens of the embedded model


def run(engine: Engine | PlainEngine, prompts: list[Prompt], num_new: int) -> dict[str, float]:
    """Seconds of clock and CPU to the last first token, and for each decode step after it."""
    began, began_cpu = time.perf_counter(), time.process_time()
    started: set[int] = set()
    first = first_cpu = 0.0
    for delta in engine.generate(prompts, [Sampling(max_new_tokens=num_new)] * len(prompts)):
        if delta.index not in started:
            started.add(delta.index)
            first, first_cpu = time.perf_counter() - began, time.process_time() - began_cpu
    steps = num_new - 1
    return {
        "prefill_s": first,
        "prefill_cpu_s": first_cpu,
        "step_s": (time.perf_counter() - began - first) / steps,
        "step_cpu_s": (time.process_time() - began_cpu - first_cpu) / steps,
    }


def compared(make_prompts: Callable[[], list[Prompt]], engines: tuple[Any, Any], num_new: int, rounds: int) -> Any:
    """Medians of both engines, and by how much the first is the faster."""
    taken: tuple[list[dict[str, float]], list[dict[str, float]]] = ([], [])
    for _ in range(rounds + 1):
        prompts = make_prompts()
        for engine, results in zip(engines, taken, strict=True):
            results.append(run(engine, prompts, num_new))
    ours, plain = ({name: statistics.median(one[name] for one in many[1:]) for name in many[0]} for many in taken)
    return {
        "ours": {name: round(value, 5) for name, value in ours.items()},
        "plain": {name: round(value, 5) for name, value in plain.items()},
        "times_faster": {name: round(plain[name] / ours[name], 2) for name in ours},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    vars(model.tokenizer)["eos_ids"] = ()
    engines = Engine(model.model, model.tokenizer), PlainEngine(model.model, model.tokenizer)
    rng = random.Random(0)
    results = {}
    for batch, num_tokens, num_new in CASES:

        def make_prompts(batch: int = batch, num_tokens: int = num_tokens) -> list[Prompt]:
            sizes = [num_tokens + rng.randrange(-num_tokens // 10, num_tokens // 10) for _ in range(batch)]
            return [Prompt(tuple(rng.randrange(5, MAX_ID) for _ in range(size))) for size in sizes]

        name = f"batch {batch}, {num_tokens} tokens"
        results[name] = compared(make_prompts, engines, num_new, options.rounds)
        print(f"{name:<24} {results[name]['times_faster']}", flush=True)
    line = json.dumps({"benchmark": "engine_beside_plain", "threads": torch.get_num_threads(), "results": results})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
