"""Question: between asking and the first token, when does the GPU wait, and for what?

A sound and a question that are new go through the engine, and then a second question on the longest sound. Written down
are the time on the wall, what the host does in it, by function, and on a GPU how long it worked and every pause of it
with the kernels before and behind; and alone, the parts of the host's work that are no launches.

    python benchmarks/first_token_profile.py [--model random-8b] [--seconds 30 600] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pauses import device, host

from audioflamingo.bench.material import Material
from audioflamingo.bench.session import DTYPES
from audioflamingo.bench.subject import Subject, make_subject
from audioflamingo.bench.timeline import answer_all, first_token
from audioflamingo.bench.timing import synchronize
from audioflamingo.config import ModelConfig
from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.content import content_keys, glance
from audioflamingo.engine.prefix import BlockNames
from audioflamingo.engine.runner import weights_state
from audioflamingo.engine.sequence import Sequence
from audioflamingo.engine.sounds import pieces_of
from audioflamingo.model.fused import takes_fused
from audioflamingo.types import Prompt, Sampling

NUM_WARMUPS, NUM_REPEATS = 3, 7
NUM_PART_REPEATS, NUM_ANSWER_TOKENS = 15, 8


def asked_ms(subject: Subject, prompt: Prompt) -> float:
    """Milliseconds to the first token."""
    synchronize(subject.device)
    began = time.perf_counter()
    first_token(subject.engine, prompt)
    return 1e3 * (time.perf_counter() - began)


@torch.inference_mode()
def parts_us(subject: Subject, material: Material, prompt: Prompt) -> dict[str, float]:
    """Microseconds of the host's own work for a prompt, and what it is with nothing and with all remembered."""
    config, model = subject.config, subject.engine.model
    sequence = _sequence(prompt, config)
    windows = [piece.samples for piece in sequence.pieces]
    names, count = BlockNames(), (prompt.num_tokens - 1) // BLOCK_TOKENS
    names.of(sequence, count)
    layers, like = model.decoder.layers, torch.empty(0, dtype=model.dtype, device=model.device)

    def again() -> Sequence:
        other = _sequence(material.follow_up(prompt, ()), config)
        [piece.key for piece in other.pieces]
        return other

    works: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
        "looking whether the weights are the same": (lambda: None, lambda _: weights_state(model)),
        "looking whether the layers may run fused": (lambda: None, lambda _: takes_fused(like, layers)),
        "finding the windows": (lambda: None, lambda _: _sequence(prompt, config)),
        "a glance at each window": (lambda: None, lambda _: [glance(window) for window in windows]),
        "hashing the sound": (lambda: None, lambda _: content_keys(windows)),
        "naming the blocks, all anew": (again, lambda one: BlockNames().of(one, count)),
        "naming the blocks, as before": (again, lambda one: names.of(one, count)),
    }
    return {name: _median_us(prepare, work) for name, (prepare, work) in works.items()}


def _first_token(subject: Subject, prompt: Prompt) -> Callable[[], object]:
    return lambda: first_token(subject.engine, prompt)


def _sequence(prompt: Prompt, config: ModelConfig) -> Sequence:
    pieces = pieces_of(prompt, config.audio_token_id, are_numbered=config.time_rotary is not None)
    return Sequence(0, prompt, Sampling(), config.decoder.max_positions, pieces)


def _median_us(prepare: Callable[[], Any], work: Callable[[Any], object]) -> float:
    times = []
    for _ in range(NUM_PART_REPEATS):
        given = prepare()
        began = time.perf_counter()
        work(given)
        times.append(1e6 * (time.perf_counter() - began))
    return round(statistics.median(times))


def profiled(subject: Subject, ask: Callable[[], Prompt]) -> dict[str, Any]:
    """One row: `ask` makes a prompt that is new in what the row is about."""
    for _ in range(NUM_WARMUPS):
        asked_ms(subject, ask())
    times = [asked_ms(subject, ask()) for _ in range(NUM_REPEATS)]
    row: dict[str, Any] = {"first token ms": round(statistics.median(times), 2), "least ms": round(min(times), 2)}
    row["host"] = host(_first_token(subject, ask()), subject.device)
    if subject.device.type == "cuda":
        row["device"] = device(_first_token(subject, ask()), subject.device)
    return row


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
        row = profiled(subject, lambda duration_s=duration_s: material.prompt(material.sound(duration_s)))
        row["parts us"] = parts_us(subject, material, material.prompt(material.sound(duration_s)))
        found[f"{duration_s:g} s"] = row
        print(json.dumps({f"{duration_s:g} s": row}, indent=1), flush=True)
    first = material.prompt(material.sound(max(options.seconds)))
    (answer,) = answer_all(subject.engine, [first], NUM_ANSWER_TOKENS).token_ids
    found["second question"] = profiled(subject, lambda: material.follow_up(first, answer))
    print(json.dumps({"second question": found["second question"]}, indent=1), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
