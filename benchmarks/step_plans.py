"""Question: in which plans are whole decode steps the fastest, products and attention together?

A kernel leaves the next one a multiprocessor whose memory it has divided, and asks for its weight while the one before
it ends: what is fastest alone need not be so in a step. First attention's plans, at a short and at a long context and
with the decoder stored in each way; then, with the best of them, the candidates of each product by turns.

Run: python benchmarks/step_plans.py [--sequences 1] [--kinds plain int8 int4 fp8] [--products plain ...]
[--as-is int8 ...] [--seconds 100] [--out FILE] ; --tiny for a CPU
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels_common import Scale
from kernels_linear import OPS, Job, short
from kernels_model import model_of
from kernels_steps import batch_of, quantized, step_ms

from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.kv_cache import BLOCK_TOKENS, PagedCache
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.kernels import paged_attention, plans
from audioflamingo.model.kernels.paged_attention import AttentionPlan
from audioflamingo.model.kernels.plans import Plan

KINDS = ("plain", "int8", "int4", "fp8")
ATTENTION = (
    AttentionPlan(64, 3, 4), AttentionPlan(64, 1, 4), AttentionPlan(32, 1, 4), AttentionPlan(128, 1, 8),
    AttentionPlan(64, 1, 4, splits=16), AttentionPlan(64, 1, 8),
)  # fmt: skip
ATTENTION_OF_MANY = (
    AttentionPlan(64, 1, 8), AttentionPlan(32, 1, 4, splits=2, registers=128),
    AttentionPlan(32, 1, 4, splits=4, registers=128), AttentionPlan(64, 1, 4, splits=2, registers=160),
    AttentionPlan(32, 3, 4, splits=2, registers=160), AttentionPlan(64, 1, 4, registers=160),
    AttentionPlan(32, 1, 8, registers=96), AttentionPlan(64, 1, 8, splits=2, registers=96),
    AttentionPlan(64, 5, 4), AttentionPlan(64, 1, 4), AttentionPlan(64, 3, 4), AttentionPlan(32, 5, 4),
)  # fmt: skip


class Bench:
    """The model, a cache, and what was found."""

    def __init__(self, scale: Scale, options: argparse.Namespace) -> None:
        self.scale, self.options, self.start = scale, options, time.monotonic()
        self.model: Flamingo = model_of(scale)
        config = scale.config.decoder
        self.sequences: int = options.sequences
        self.contexts = scale.contexts if self.sequences == 1 else scale.contexts[:1]
        num_blocks = 2 + self.sequences * -(-(max(self.contexts) + 64) // BLOCK_TOKENS)
        self.cache = PagedCache(config, scale.dtype, torch.device(scale.device), num_blocks)
        for index in range(config.num_layers):
            self.cache.pair(index).normal_()
        name = torch.cuda.get_device_name() if scale.is_gpu else "cpu"
        self.found: dict[str, Any] = {"card": name, "torch": torch.__version__, "ms": {}}

    @property
    def is_over(self) -> bool:
        """Whether nothing more is begun."""
        return time.monotonic() - self.start > float(self.options.seconds)

    def ms(self, context: int) -> float:
        """Of one step with the plans that are known now."""
        decoder = GraphDecoder(self.model, self.cache)
        decoder.step(batch_of(self.cache, self.sequences, context, self.scale), context)
        time_taken = step_ms(decoder, self.scale)
        decoder.forget()
        return time_taken

    def attention(self, kind: str) -> None:
        """Every plan at every context; the best at the first one stays."""
        times: dict[AttentionPlan, float] = {}
        for context in self.contexts:
            for plan in ATTENTION if self.sequences == 1 else ATTENTION_OF_MANY:
                if self.is_over:
                    return
                paged_attention.HOPPER[self.sequences] = plan
                took = self.ms(context)
                times.setdefault(plan, took)
                sizes = f"{plan.block} {plan.stages} {plan.warps} {plan.splits} r{plan.registers}"
                self.note(f"{kind} at {context}, attention {sizes}", took)
        paged_attention.HOPPER[self.sequences] = min(times, key=lambda plan: times[plan])

    def products(self, kind: str) -> None:
        """One product's candidates after the other; the best stays."""
        config, context = self.scale.config.decoder, self.contexts[0]
        best = self.ms(context)
        self.note(f"{kind} before", best)
        for op in OPS:
            job = Job(kind, op, self.sequences)
            key = (kind, self.sequences, *job.sizes(config))
            keep = plans.HOPPER.get(key)
            for plan in plans.plans_for(*key, op == "gate_up"):
                if self.is_over or op == "head":
                    break
                took = self.ms_with(key, plan, context)
                self.note(f"{kind} {op} {short(plan)}", took)
                if took < best:
                    best, keep = took, plan
            if keep is not None:
                plans.HOPPER[key] = keep
        self.note(f"{kind} after", self.ms(context))

    def ms_with(self, key: tuple[str, int, int, int], plan: Plan, context: int) -> float:
        """Of one step with this plan for this product."""
        plans.HOPPER[key] = plan
        return self.ms(context)

    def note(self, what: str, took: float) -> None:
        """Keep and print a time."""
        self.found["ms"][what] = took
        self.options.out.parent.mkdir(parents=True, exist_ok=True)
        self.options.out.write_text(json.dumps(self.found, indent=1) + "\n")
        print(f"{time.monotonic() - self.start:6.1f} s  {what}: {took}", flush=True)


@contextmanager
def stored_as(bench: Bench, kind: str) -> Iterator[None]:
    with nullcontext() if kind == "plain" else quantized(bench.model, kind):  # type: ignore[arg-type]
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sequences", type=int, default=1, choices=[1, 2, 4, 8, 16, 32, 64], help="of a step")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS, help="of which attention is tried")
    parser.add_argument("--products", nargs="*", default=[], choices=KINDS, help="of which products are tried")
    parser.add_argument("--seconds", type=float, default=100, help="nothing is begun after so long")
    parser.add_argument("--as-is", nargs="*", default=[], choices=KINDS, help="of which a step is timed, nothing tried")
    folder = Path(os.environ.get("OUT", "/tmp"))
    parser.add_argument("--out", type=Path, default=folder / "step_plans.json", help="JSON file to write")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a CPU")
    options = parser.parse_args()
    with torch.inference_mode():
        bench = Bench(Scale.tiny() if options.tiny else Scale(num_repeats=7), options)
        for kind in options.kinds:
            with stored_as(bench, kind):
                bench.attention(kind)
        for kind in options.as_is:
            with stored_as(bench, kind):
                bench.note(f"{kind} as it is", bench.ms(bench.contexts[0]))
        for kind in options.products:
            with stored_as(bench, kind):
                bench.products(kind)


if __name__ == "__main__":
    main()
