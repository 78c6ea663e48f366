"""Question: what does keeping to a schema cost? Tokens a second under one, beside free answers of equal length.

The embedded model answers about the same sound with the same number of tokens, in turns: under a JSON schema whose
string never ends, and free, where only the end is held back (else answers would end after five words). One answer at a
time, and eight at once. Prints a table and one line of JSON, which is also written to --out ($OUT, or results).

    python benchmarks/structured_cost.py [--device cpu] [--tokens 160] [--repeats 7] [--threads 1]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import audioflamingo
from audioflamingo.prompt import build
from audioflamingo.types import Audio, Message, Sampling

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "maxLength": 100_000}},
    "required": ["label"],
    "additionalProperties": False,
}
BATCHES = (1, 8)


class NoEnd:
    """A rule that lets everything pass but the end."""

    def __init__(self, eos_ids: tuple[int, ...]) -> None:
        self._eos_ids = list(eos_ids)

    def restrict(self, scores: Tensor) -> Tensor:
        """See `TokenRule`."""
        scores = scores.clone()
        scores[self._eos_ids] = -torch.inf
        return scores

    def accept(self, token: int) -> None:
        """See `TokenRule`."""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tokens", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    model = audioflamingo.load_model("nano", device=chosen.device)
    found: dict[str, Any] = {
        "benchmark": "structured_cost",
        "date": datetime.date.today().isoformat(),
        "device": torch.cuda.get_device_name() if model.model.device.type == "cuda" else platform.machine(),
        "threads": chosen.threads,
        "load_before": os.getloadavg()[0],
        "tokens": chosen.tokens,
        "repeats": chosen.repeats,
        "batches": {str(size): measure(model, size, chosen.tokens, chosen.repeats) for size in BATCHES},
    }
    for size, row in found["batches"].items():
        print(f"batch {size:>2}  free {row['free']:8.1f}  schema {row['schema']:8.1f} tokens/s  cost {row['cost']:.1%}")
    path = chosen.out or Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    path = path if path.suffix else path / f"structured_cost_{chosen.device}_{found['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


def measure(model: audioflamingo.AudioFlamingo, size: int, num_tokens: int, repeats: int) -> dict[str, float]:
    """Medians of tokens a second, and of the share that a schema adds to the time of its neighbour in turn."""
    rules = {
        "free": lambda: NoEnd(model.tokenizer.eos_ids),
        "schema": model.structured.rule(json.dumps(SCHEMA)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rules}
    for repeat in range(repeats + 1):
        for name, rule in rules.items():
            spent = timed(model, size, Sampling(max_new_tokens=num_tokens, rule=rule))
            if repeat:  # the first of each is not measured
                seconds[name].append(spent)
    ratios = [with_schema / free for with_schema, free in zip(seconds["schema"], seconds["free"], strict=True)]
    rates = {name: round(size * num_tokens / statistics.median(values), 1) for name, values in seconds.items()}
    return {**rates, "cost": round(statistics.median(ratios) - 1, 4)}


def timed(model: audioflamingo.AudioFlamingo, size: int, sampling: Sampling) -> float:
    """Seconds of one batch of answers, prompt included: of this process on a CPU, else by the clock."""
    samples = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    message = Message("user", (Audio(samples), "What do you hear?"))
    prompts = [build([message], model.tokenizer, model.template)] * size
    # On a CPU that others use, too, the time of this process says more than the clock on the wall.
    clock = time.process_time if model.model.device.type == "cpu" else time.perf_counter
    start = clock()
    counts = [0] * size
    for delta in model.engine.generate(prompts, [replace(sampling) for _ in prompts]):
        counts[delta.index] += len(delta.token_ids)
    assert counts == [sampling.max_new_tokens] * size, counts
    return clock() - start


if __name__ == "__main__":
    main()
