"""Question: how long does attention take with its gradients in a step of the embedded model's training, by plan?

Ours by kernel in some twenty plans, and torch's FlashAttention over the same packed sequences, which starts a program
for every tile that the longest sequence could have, in every sequence. Needs a Hopper.

    python benchmarks/trained_attention.py [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from audioflamingo.config import ENCODER_FRAMES_PER_WINDOW
from audioflamingo.model.kernels.jit.trained_attention import forward_kernel, keys_kernel, queries_kernel
from audioflamingo.model.kernels.trained_attention import TrainingPlan, settings_of, tiles_of
from audioflamingo.train.nano_bench import random_plan
from audioflamingo.train.nano_layers import Sequences, attend, flash_flavour
from audioflamingo.train.nano_recipe import all_tasks

NUM_TIMED, NUM_HEADS, HEAD_DIM = 6, 4, 64
PLANS = {
    (128, "forward"): [(64, 8, 3), (64, 4, 3), (128, 8, 2), (64, 8, 2)],
    (128, "keys"): [(64, 8, 2), (32, 8, 2), (64, 4, 2), (32, 4, 2), (64, 8, 3)],
    (128, "queries"): [(64, 8, 2), (64, 8, 3), (64, 4, 2), (32, 8, 3), (32, 4, 3)],
    (64, "forward"): [(64, 4, 3), (64, 4, 2)],
    (64, "keys"): [(64, 4, 2), (64, 4, 3), (32, 4, 2)],
    (64, "queries"): [(64, 4, 3), (64, 4, 2), (32, 4, 3)],
}


def milliseconds(work: Callable[[], object]) -> float:
    work()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(NUM_TIMED):
        work()
    end.record()
    torch.cuda.synchronize()
    return round(begin.elapsed_time(end) / NUM_TIMED, 4)


def cases(device: torch.device) -> dict[str, tuple[Tensor, int, int, int, bool]]:
    """Offsets, longest sequence, rows, heads of keys and whether causal, of a step's encoder and decoder."""
    recipe, found = all_tasks(), {}
    for name, shape in {"short": recipe.short, "long": recipe.long}.items():
        plan = random_plan(shape, recipe.model.decoder.vocab_size, recipe.model.audio_token_id, 1).to(device)
        windows = (plan.encoder_offsets, ENCODER_FRAMES_PER_WINDOW, shape.num_frames, 4, False)
        found |= {
            f"windows, {name}": windows,
            f"tokens, {name}": (plan.decoder_offsets, shape.longest_tokens, shape.num_tokens, 2, True),
        }
    return found


def measured(offsets: Tensor, longest: int, num_rows: int, num_kv_heads: int, causal: bool) -> dict[str, Any]:
    device = offsets.device
    like = partial(torch.randn, device=device, dtype=torch.bfloat16)
    query, key, value = (like(num_rows, heads, HEAD_DIM) for heads in (NUM_HEADS, num_kv_heads, num_kv_heads))
    gradient, lengths = torch.randn_like(query), offsets.diff().double()
    given = [x.clone().requires_grad_() for x in (query, key, value)]
    flash = Sequences(offsets, longest, (), flash_flavour(device))

    def theirs() -> object:
        return torch.autograd.grad(attend(*given, flash, causal=causal), given, gradient)

    out, gradients = torch.empty_like(query), [torch.empty_like(x) for x in (query, key, value)]
    sums, products = torch.zeros(2, NUM_HEADS, num_rows, device=device)
    plans: dict[str, dict[str, float]] = {}
    for (tile, which), settings in PLANS.items():
        tiles = tiles_of(offsets, num_rows, tile)
        for block, warps, stages in settings:
            chosen = settings_of(query, key, TrainingPlan(block, warps, stages), causal=causal, tile=tile)
            backward = (query, key, value, gradient, sums, products)
            work: Callable[[], object] = {
                "forward": partial(
                    forward_kernel[len(tiles), NUM_HEADS], query, key, value, out, sums, tiles, num_rows, **chosen
                ),
                "keys": partial(
                    keys_kernel[len(tiles), num_kv_heads], *backward, *gradients[1:], tiles, num_rows, **chosen
                ),
                "queries": partial(
                    queries_kernel[len(tiles), NUM_HEADS], *backward, gradients[0], tiles, num_rows, **chosen
                ),
            }[which]
            plans.setdefault(which, {})[f"tile {tile}, block {block}, warps {warps}, stages {stages}"] = milliseconds(
                work
            )
    best = {which: min(found.values()) for which, found in plans.items()}
    gflop = 4e-9 * NUM_HEADS * HEAD_DIM * float((lengths * lengths).sum()) / (2 if causal else 1)
    return {
        "gflop_forward": round(gflop, 1),
        "flash_forward_and_backward_ms": milliseconds(theirs), "ours_ms": round(sum(best.values()), 4), "plans": plans,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda")
    results: dict[str, Any] = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name, case in cases(device).items():
        results[name] = measured(*case)
        print(name, json.dumps(results[name]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
