"""Question: how fast is the gated unit of long prompts in one kernel, beside torch's product and a kernel behind it?

Full-size weights, random; all ways by turns, as a card that draws all its power slows down whoever comes later.

    python benchmarks/gated_products.py [--rows 3584 1580 790] [--rounds 5] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from audioflamingo.config import DecoderConfig
from audioflamingo.model.kernels.elementwise import swiglu
from audioflamingo.model.kernels.gated import GatedPlan, gated_product

ROUND_MS = 12.0
PLANS = (
    GatedPlan(),
    GatedPlan(group=16),
    GatedPlan(group=4),
    GatedPlan(stages=4),
    GatedPlan(outputs=64, stages=4, warps=4),
)


def took_us(work: Callable[[], object], num_calls: int) -> float:
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    events[0].record()
    for _ in range(num_calls):
        work()
    events[1].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]) / num_calls * 1e3


def measured(num_rows: int, num_rounds: int) -> dict[str, Any]:
    """All ways over so many rows."""
    sizes = DecoderConfig()
    torch.manual_seed(0)
    like: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(num_rows, sizes.width, **like)
    weight = torch.randn(2 * sizes.ffn_width, sizes.width, **like) * sizes.width**-0.5
    ways: dict[str, Callable[[], torch.Tensor]] = {"product": lambda: functional.linear(x, weight)}
    ways["product, then unit"] = lambda: swiglu(functional.linear(x, weight), in_place=True)
    ways |= {name_of(plan): partial(gated_product, x, weight, plan) for plan in PLANS}
    want = ways["product, then unit"]().float()
    errors = {name: _error(way(), want) for name, way in ways.items() if name != "product"}
    num_calls = max(2, int(ROUND_MS * 1e3 / took_us(ways["product"], 3)))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(num_rounds):
        for name, way in ways.items():
            times[name].append(took_us(way, num_calls))
    flops = 2 * num_rows * weight.numel()
    rows = {name: _row(own, flops, errors.get(name)) for name, own in times.items()}
    return {"rows": num_rows, "outputs": sizes.ffn_width, "inputs": sizes.width, "ways": rows}


def _error(got: torch.Tensor, want: torch.Tensor) -> float:
    return round(((got.float() - want).norm() / want.norm()).item(), 6)


def _row(times_us: list[float], flops: int, error: float | None) -> dict[str, Any]:
    took = statistics.median(times_us)
    row = {"us": round(took, 1), "least": round(min(times_us), 1), "TFLOP/s": round(flops / took / 1e6, 1)}
    return row if error is None else {**row, "error": error}


def name_of(plan: GatedPlan) -> str:
    usual = asdict(GatedPlan())
    own = {key: value for key, value in asdict(plan).items() if value != usual[key]}
    return "one kernel" + "".join(f", {key} {value}" for key, value in own.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[3584, 1580, 790])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; the kernel is for one of the Hopper generation")
    found: dict[str, Any] = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "products": []}
    for num_rows in options.rows:
        found["products"].append(measured(num_rows, options.rounds))
        print(json.dumps(found["products"][-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
