"""Linear layers of the full-size decoder over few rows, in every plan: right, and how near to one read."""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import torch
from kernels_common import INIT_STD, Scale, relative
from torch import Tensor

from audioflamingo.config import DecoderConfig
from audioflamingo.model.kernels.linear import few_rows_twin, run_plan
from audioflamingo.model.kernels.plans import Plan, plans_for
from audioflamingo.model.kernels.tuning import time_us
from audioflamingo.model.kernels.weight import GROUP, Around, Weight
from audioflamingo.model.quantize.schemes import quantize_fp8, quantize_int4, quantize_int8

OPS = ("qkv", "out", "gate_up", "down", "head")
NUM_WORKERS = 14
NORM_EPS = 1e-6
EXTRA_ONE_ROW = (
    Plan("vector", 2, 512), Plan("vector", 4, 512), Plan("vector", 16, 256), Plan("vector", 1, 2048),
    Plan("vector", 2, 2048, warps=8), Plan("vector", 16, 512, warps=8), Plan("vector", 8, 512, warps=8),
    Plan("vector", 16, 256, stages=5), Plan("vector", 4, 1024, stages=3), Plan("narrow", 16, 128, 4, 8),
    Plan("narrow", 16, 512, 4, 4), Plan("narrow", 32, 128, 4, 6),
)  # fmt: skip
EXTRA_DIGITS = (
    Plan("digits", 16, 512, 4, 2), Plan("digits", 16, 512, 4, 5), Plan("digits", 16, 1024, 8, 3, registers=128),
    Plan("digits", 16, 1024, 8, 4), Plan("digits", 32, 1024, 8, 4), Plan("digits", 32, 1024, 8, 8),
    Plan("digits", 32, 2048, 16, 4, registers=128),
)  # fmt: skip
EXTRA_PLACES_ONE_ROW = (Plan("places", 32, 512, 4, 3), Plan("places", 32, 512, 4, 6), Plan("places", 64, 512, 4, 3))
EXTRA_PLACES_FEW_ROWS = (Plan("places", 32, 512, 4, 3), Plan("places", 64, 512, 4, 4))
EXTRA_CODES = (
    Plan("codes", 64, 128, 4, 2), Plan("codes", 128, 128, 8, 2), Plan("codes", 128, 128, 8, 4),
    Plan("codes", 64, 256, 4, 2), Plan("codes", 64, 256, 4, 3), Plan("codes", 128, 256, 8, 2),
    Plan("codes", 64, 128, 4, 5), Plan("codes", 64, 128, 4, 3, splits=2), Plan("codes", 64, 128, 4, 3, splits=4),
    Plan("codes", 64, 256, 4, 3, splits=4), Plan("codes", 128, 128, 8, 3, splits=4),
    Plan("codes", 64, 128, 4, 4, splits=8), Plan("codes", 128, 128, 8, 4, splits=8),
    Plan("codes", 64, 64, 4, 4, registers=168), Plan("codes", 64, 64, 4, 3, registers=168),
    Plan("codes", 64, 128, 4, 2, registers=168),
)  # fmt: skip
EXTRA_FEW_ROWS = (Plan("narrow", 16, 128, 4, 8), Plan("narrow", 32, 128, 4, 6), Plan("narrow", 64, 256, 8, 3))
EXTRA_MANY_ROWS = (Plan("narrow", 32, 128, 4, 5), Plan("narrow", 64, 64, 4, 6), Plan("narrow", 128, 64, 8, 4))


@dataclass(frozen=True)
class Job:
    """One layer, stored in one way, over so many rows."""

    kind: str
    op: str
    num_rows: int

    def sizes(self, config: DecoderConfig) -> tuple[int, int]:
        """N and K."""
        q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        return {
            "qkv": (q + 2 * kv, config.width),
            "out": (config.width, q),
            "gate_up": (2 * config.ffn_width, config.width),
            "down": (config.width, config.ffn_width),
            "head": (config.vocab_size, config.width),
        }[self.op]

    def plans(self, config: DecoderConfig) -> list[Plan]:
        """The product's and some more."""
        found = plans_for(self.kind, self.num_rows, *self.sizes(config), self.op == "gate_up")
        extra = EXTRA_ONE_ROW if self.num_rows == 1 else EXTRA_FEW_ROWS if self.num_rows <= 16 else EXTRA_MANY_ROWS
        if self.kind != "plain":
            extra = EXTRA_PLACES_ONE_ROW if self.num_rows == 1 else EXTRA_PLACES_FEW_ROWS
            extra = extra if any(plan.way == "places" for plan in found) else ()
            extra += EXTRA_CODES if self.num_rows > 16 else ()
            extra += EXTRA_DIGITS if any(plan.way == "digits" for plan in found) else ()
        found += [plan for plan in extra if plan not in found]
        if self.kind == "int4":
            found = [plan for plan in found if plan.way != "codes" or plan.block_k == GROUP]
        if not self.leaves_parts:
            found = [plan for plan in found if plan.splits == 1]
        return found

    @property
    def leaves_parts(self) -> bool:
        """As in the decoder: one row adds its residual itself."""
        return self.op in ("out", "down") and self.num_rows > 1


def plain_jobs(scale: Scale) -> list[Job]:
    return [Job("plain", op, rows) for rows in scale.batches for op in OPS]


def quantised_jobs(scale: Scale) -> list[Job]:
    kinds = ("int8", "int4", "fp8")
    return [Job(kind, op, rows) for rows in scale.batches[:2] for kind in kinds for op in OPS]


def compile_all(scale: Scale, jobs: list[Job] | None = None) -> dict[str, Any]:
    """Fill Triton's cache on disk from many processes at once, so that what measures need not wait for it."""
    jobs = plain_jobs(scale) + quantised_jobs(scale) if jobs is None else jobs
    if not scale.is_gpu:
        return {}
    failed: dict[str, str] = {}
    workers = min(NUM_WORKERS, os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        futures = {pool.submit(compile_job, job): job for job in jobs}
        for future in as_completed(futures, timeout=100):
            failed |= future.result()
    return failed


def compile_job(job: Job) -> dict[str, str]:
    """Run every plan once on whatever is in memory; returns what failed."""
    scale, failed = Scale(), {}
    with torch.inference_mode():
        x, weight, around = inputs(job, scale, is_filled=False)
        for plan in job.plans(scale.config.decoder):
            try:
                run_plan(x, weight, around, plan)
            except Exception as error:
                failed[f"{job} {plan}"] = f"{type(error).__name__}: {str(error)[:200]}"
        torch.cuda.synchronize()
        del x, weight, around
        torch.cuda.empty_cache()
    return failed


def all_plans(scale: Scale) -> dict[str, Any]:
    return measured(plain_jobs(scale), scale)


def quantised_plans(scale: Scale) -> dict[str, Any]:
    return measured(quantised_jobs(scale), scale)


def measured(jobs: list[Job], scale: Scale) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for job in jobs:
        start = time.perf_counter()
        name = f"{job.kind} {job.op} x{job.num_rows}"
        found[name] = measure(job, scale)
        found[name]["seconds"] = round(time.perf_counter() - start, 1)
        scale.save(found)
        best = found[name]["plans"][0] if found[name]["plans"] else None
        print(f"{name:22s} {found[name]['bytes'] / 1e6:7.1f} MB  best {best}", flush=True)
    return found


def measure(job: Job, scale: Scale) -> dict[str, Any]:
    """Error and time of each plan, the fastest first."""
    x, weight, around = inputs(job, scale)
    reference = twin_in_fp32(x, weight, around)
    rows: list[dict[str, Any]] = []
    for plan in job.plans(scale.config.decoder):
        row: dict[str, Any] = {"plan": short(plan)}
        try:
            out = run_plan(x, weight, around, plan)
            row["error"] = float(f"{relative(out.sum(0) if out.dim() == 3 else out, reference):.2e}")
            run = lambda plan=plan: run_plan(x, weight, around, plan)  # noqa: E731
            time_taken = time_us(run) if scale.is_gpu else 1.0
            row["us"] = round(time_taken or -1.0, 1)
            row["tb_s"] = round(weight.num_bytes / row["us"] / 1e6, 2)
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {str(error)[:200]}"
        rows.append(row)
    rows.sort(key=lambda row: row.get("us", 1e9))
    return {"bytes": weight.num_bytes, "plans": rows}


def short(plan: Plan) -> str:
    registers = f" r{plan.registers}" if plan.registers else ""
    return f"{plan.way} n{plan.block_n} k{plan.block_k} w{plan.warps} s{plan.stages} /{plan.splits}{registers}"


def inputs(job: Job, scale: Scale, is_filled: bool = True) -> tuple[Tensor, Weight, Around]:
    config = scale.config.decoder
    num_outputs, num_inputs = job.sizes(config)
    x = scale.random(job.num_rows, num_inputs)
    weight = stored(job, scale, num_outputs, num_inputs, is_filled)
    around = Around(
        norm=(1 + scale.random(num_inputs, std=0.1), NORM_EPS) if job.op in ("qkv", "gate_up", "head") else None,
        is_gated=job.op == "gate_up",
        residual=scale.random(job.num_rows, num_outputs)
        if job.op in ("out", "down") and not job.leaves_parts
        else None,
        leaves_parts=job.leaves_parts,
    )
    if job.num_rows > 1:
        around = replace(around, norm=None)
    return x, weight, around


def stored(job: Job, scale: Scale, num_outputs: int, num_inputs: int, is_filled: bool) -> Weight:
    bias = scale.random(num_outputs, std=INIT_STD) if job.op == "qkv" else None
    if not is_filled:
        return empty(job, scale, num_outputs, num_inputs, bias)
    weight = scale.random(num_outputs, num_inputs, std=INIT_STD)
    if job.kind == "plain":
        return Weight("plain", weight, None, bias)
    if job.kind == "int8":
        return Weight("int8", *quantize_int8(weight), bias)
    if job.kind == "fp8":
        return Weight("fp8", *quantize_fp8(weight), bias)
    return Weight("int4", *quantize_int4(weight), bias)


def empty(job: Job, scale: Scale, num_outputs: int, num_inputs: int, bias: Tensor | None) -> Weight:
    def make(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=scale.device)

    if job.kind == "plain":
        return Weight("plain", make(scale.dtype, num_outputs, num_inputs), None, bias)
    if job.kind == "int4":
        codes = make(torch.uint8, num_outputs, num_inputs // 2)
        return Weight("int4", codes, make(torch.bfloat16, num_outputs, num_inputs // 128), bias)
    dtype = torch.int8 if job.kind == "int8" else torch.float8_e4m3fn
    return Weight(job.kind, make(dtype, num_outputs, num_inputs), make(torch.float32, num_outputs), bias)  # type: ignore[arg-type]


def twin_in_fp32(x: Tensor, weight: Weight, around: Around) -> Tensor:
    wide = Weight(
        "plain", weight.plain(torch.float32).float(), None, None if weight.bias is None else weight.bias.float()
    )
    norm = None if around.norm is None else (around.norm[0].float(), around.norm[1])
    residual = None if around.residual is None else around.residual.float()
    return few_rows_twin(x.float(), wide, replace(around, norm=norm, residual=residual))
