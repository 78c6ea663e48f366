"""The engine under random load: arrivals, lengths, sounds, cancels. Memory stays flat, and every answer its solo one.

Each request is one of a set of conversations whose answers the plain engine gave beforehand, each by itself. Prints a
sample of memory now and then, and one last JSON line; exits with 1 where an answer differs, something leaks, or nothing
was preempted, cancelled or reused (then the load was none).

    python benchmarks/soak.py --minutes 3 [--model nano] [--device cpu] [--dtype float32] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audioflamingo.api import AudioFlamingo, load_model
from audioflamingo.engine import sampling as sampling_module
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.plain import PlainEngine
from audioflamingo.engine.scheduler import Limits
from audioflamingo.engine.sequence import Sequence
from audioflamingo.prompt import build
from audioflamingo.types import Audio, Delta, Message, Prompt, Sampling

DURATIONS_S = (0.3, 2, 5, 12, 31, 70)
QUESTIONS = (
    "What do you hear?",
    "Transcribe the speech.",
    "How many events are there, and in which order do they come?",
)
NEW_TOKENS = (1, 8, 30, 120, 240)
MEAN_GAP_S = 0.05  # between arrivals, unless said otherwise
CANCEL_SHARE = 0.2
MAX_WAITING = 24
SAMPLE_EVERY_S = 10.0
WARM_SHARE = 0.4  # of the time, after which memory must not grow any more
MAX_GROWTH = 0.03
LEAST_EDGE = 5e-6  # of probability; between two batches in fp32 sums of probabilities differ by a millionth or two


@dataclass(frozen=True, eq=False)
class Case:
    """A request and its solo answer."""

    prompt: Prompt
    sampling: Sampling
    tokens: tuple[int, ...]
    text: str


@dataclass
class Load:
    """What runs and what came of it."""

    engine: Engine
    rng: random.Random
    cases: list[Case]
    running: dict[int, tuple[Sequence, Case, list[Delta]]] = field(default_factory=dict)
    num_answers: int = 0
    num_cancelled: int = 0
    num_tokens: int = 0
    wrong: list[str] = field(default_factory=list)

    def arrive(self) -> None:
        """A new request, if not too many wait; with some of them, somebody else hangs up.

        So cancels are a share of the requests, not of the time: a slow machine would else hardly ever answer.
        """
        if len(self.running) >= MAX_WAITING:
            return
        case = self.rng.choice(self.cases)
        sequence = self.engine.add(case.prompt, case.sampling)
        self.running[sequence.index] = (sequence, case, [])
        if self.rng.random() < CANCEL_SHARE:
            self.cancel_one()

    def cancel_one(self) -> None:
        """Somebody hangs up."""
        if self.running:
            index = self.rng.choice(list(self.running))
            self.engine.cancel(self.running.pop(index)[0])
            self.num_cancelled += 1

    def step(self) -> None:
        """One step of the engine; answers that are complete are compared."""
        for delta in self.engine.step():
            if delta.index not in self.running:
                self.wrong.append(f"a delta of {delta.index}, which had been cancelled")
                continue
            _, case, deltas = self.running[delta.index]
            deltas.append(delta)
            self.num_tokens += len(delta.token_ids)
            if delta.finish_reason is not None:
                del self.running[delta.index]
                self._compare(case, deltas)

    def _compare(self, case: Case, deltas: list[Delta]) -> None:
        self.num_answers += 1
        tokens = tuple(token for delta in deltas for token in delta.token_ids)
        if (tokens, "".join(delta.text for delta in deltas)) != (case.tokens, case.text):
            self.wrong.append(f"{case.sampling}: {tokens[:12]}... for {case.tokens[:12]}...; {deltas[-1].error}")


def conversations(model: AudioFlamingo) -> Iterator[Prompt]:
    """Every sound with every question, and questions without a sound."""
    rng = np.random.default_rng(0)
    for duration_s in DURATIONS_S:
        samples = (
            0.1
            * rng.standard_normal(round(duration_s * 16_000))
            * np.abs(np.sin(np.arange(round(duration_s * 16_000)) / 5_000))
        )
        sound = Audio(samples.astype(np.float32), f"{duration_s} s")
        for question in QUESTIONS:
            yield build([Message("user", (sound, question))], model.tokenizer, model.template)
    for question in QUESTIONS:
        yield build([Message("user", (question,))], model.tokenizer, model.template)


class _Edges:
    """Within the block, how near chance came to the edge between two tokens."""

    def __init__(self) -> None:
        self.least = 1.0
        self._own = sampling_module.draw

    def __enter__(self) -> _Edges:
        sampling_module.draw = self._draw
        return self

    def __exit__(self, *_: object) -> None:
        sampling_module.draw = self._own

    def _draw(self, probabilities: Tensor, uniform: float) -> int:
        sums = probabilities.double().cumsum(-1)
        kept = sums[probabilities > 0]
        self.least = min(self.least, float((kept - sums[-1] * uniform).abs().min()))
        return self._own(probabilities, uniform)


def make_cases(model: AudioFlamingo, rng: random.Random) -> list[Case]:
    """Requests with the plain engine's answers, greedy and, in fp32, drawn."""
    judge = PlainEngine(model.model, model.tokenizer)
    cases = []
    for prompt in conversations(model):
        greedy = Sampling(max_new_tokens=rng.choice(NEW_TOKENS))
        cases.append(_answered(judge, prompt, greedy))
        if model.model.dtype == torch.float32:
            cases.append(_drawn(judge, prompt, greedy, rng))
    return cases


def _drawn(judge: PlainEngine, prompt: Prompt, greedy: Sampling, rng: random.Random) -> Case:
    """A request with a seed by which chance falls on no edge.

    Nearer to one than sums of fp32 in another order are to each other, no engine decides the same in all batches.
    """
    while True:
        sampling = replace(greedy, temperature=1.0, top_p=0.9, repetition_penalty=1.1, seed=rng.randrange(1_000_000))
        with _Edges() as edges:
            case = _answered(judge, prompt, sampling)
        if edges.least >= LEAST_EDGE:
            return case
        print(f"another seed: with {sampling.seed} a draw falls {edges.least:.1e} from an edge", flush=True)


def _answered(judge: PlainEngine, prompt: Prompt, sampling: Sampling) -> Case:
    deltas = list(judge.generate([prompt], [sampling]))
    tokens = tuple(token for delta in deltas for token in delta.token_ids)
    return Case(prompt, sampling, tokens, "".join(delta.text for delta in deltas))


def memory_bytes(device: torch.device) -> int:
    """What the process, or its share of the GPU, holds now."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def soak(load: Load, seconds: float, mean_gap_s: float) -> list[tuple[float, int]]:
    """Run for so long, then let everything end; returns (seconds, bytes) samples."""
    began, next_arrival, next_sample = time.monotonic(), 0.0, SAMPLE_EVERY_S
    samples: list[tuple[float, int]] = []
    while (now := time.monotonic() - began) < seconds or load.engine.has_work:
        if now < seconds and (now >= next_arrival or not load.engine.has_work):
            load.arrive()
            next_arrival = now + load.rng.expovariate(1 / mean_gap_s)
        load.step()
        if now >= next_sample:
            samples.append((round(now, 1), memory_bytes(load.engine.model.device)))
            next_sample = now + SAMPLE_EVERY_S
            print(f"{now:6.0f} s  {samples[-1][1] >> 20:,} MB  {load.num_answers:,} answers", flush=True)
    return samples


def growth_of(sizes: list[int]) -> float:
    """From the median of the first quarter to that of the last: single samples of a process wander by a tenth."""
    quarter = max(1, len(sizes) // 4)
    first, last = (statistics.median(some) for some in (sizes[:quarter] or [0], sizes[-quarter:] or [0]))
    return last / max(1, first) - 1


def report(load: Load, samples: list[tuple[float, int]], options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the JSON holds, `is_sound` above all."""
    counts, growth = (
        load.engine.counts,
        growth_of([size for at, size in samples if at >= WARM_SHARE * 60 * options.minutes]),
    )
    was_loaded = counts.num_preempted and counts.num_reused_tokens and load.num_cancelled
    is_sound = (
        not load.wrong and counts.num_held_blocks == 0 and not load.running and growth <= MAX_GROWTH and was_loaded
    )
    return {
        "benchmark": "soak",
        "model": options.model,
        "device": str(load.engine.model.device),
        "dtype": str(load.engine.model.dtype),
        "minutes": options.minutes,
        "mean_gap_s": options.gap_s,
        "answers": load.num_answers,
        "cancelled": load.num_cancelled,
        "tokens": load.num_tokens,
        "wrong": load.wrong[:5],
        "num_wrong": len(load.wrong),
        "memory_growth_when_warm": round(growth, 4),
        "memory_mb": [(at, size >> 20) for at, size in samples],
        "counts": counts.__dict__,
        "is_sound": bool(is_sound),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--cache-tokens", type=int, default=2_048, help="small enough that answers have to make room")
    parser.add_argument("--gap-s", type=float, default=MEAN_GAP_S, help="mean time between arrivals")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model = load_model(options.model, device=options.device, dtype=options.dtype)
    vars(model.tokenizer)["eos_ids"] = ()  # answers as long as they are asked for: a longer load, and more to compare
    rng = random.Random(options.seed)
    cases = make_cases(model, rng)
    limits = Limits(
        max_sequences=16, max_cache_tokens=options.cache_tokens, prefill_tokens=2_048, embedding_bytes=8 << 20
    )
    load = Load(Engine(model.model, model.tokenizer, limits), rng, cases)
    samples = soak(load, 60 * options.minutes, options.gap_s)
    line = json.dumps(report(load, samples, options))
    if options.out:
        options.out.write_text(line + "\n")
    print(line)
    sys.exit(0 if json.loads(line)["is_sound"] else 1)


if __name__ == "__main__":
    main()
