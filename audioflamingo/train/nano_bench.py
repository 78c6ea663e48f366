"""Which way of taking a step is the fastest here, and whether all of them give the same: a minute on any GPU."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.initialise import initialise
from audioflamingo.train.nano_graphs import MOST_DIFFERENCE, Speed, StepRunner, difference
from audioflamingo.train.nano_items import Conversation
from audioflamingo.train.nano_mel import LineLogMel
from audioflamingo.train.nano_plan import Picked, Plan, Shape, make_plan
from audioflamingo.train.nano_recipe import NanoRecipe
from audioflamingo.train.nano_step import Heads
from audioflamingo.train.optim import MasterAdamW

FILE = "speed.json"
ORDER: tuple[Speed, ...] = ("eager", "graphs", "compiled_graphs", "compiled")
LONGEST_S = 110
NUM_TIMED = 20
WORD_TOKENS = 24
NUM_LISTED = 60


def start_look(speed: str, work: Path, device: torch.device) -> subprocess.Popen[bytes] | None:
    """For "auto" on a GPU that nobody has looked at yet: `bench` in a process of its own.

    What fails there may leave a GPU unusable for the process that tried; and meanwhile the caller can do other things.
    """
    if speed != "auto" or device.type != "cuda" or (work / FILE).exists():
        return None
    return subprocess.Popen([sys.executable, "-m", "audioflamingo.train.nano", "--bench", "--work", str(work)])


def chosen_speed(speed: str, work: Path, device: torch.device, look: subprocess.Popen[bytes] | None = None) -> Speed:
    """The speed that was asked for; "auto" waits for the look and takes what it found in WORK, else the plain way."""
    if speed != "auto":
        return cast("Speed", speed)
    if look is not None:
        try:
            look.wait(LONGEST_S)
        except subprocess.TimeoutExpired:
            look.kill()
            look.wait()
    file = work / FILE
    return cast("Speed", json.loads(file.read_text())["best"]) if file.exists() and device.type == "cuda" else "eager"


def random_plan(shape: Shape, vocab_size: int, placeholder: int, seed: int) -> Plan:
    """A full step of sounds of 1 to 12 s (one of them of ten minutes, where there is room) and random words."""
    rng = np.random.default_rng(seed)
    picked, left = list[Picked](), shape.num_frames
    if shape.longest_tokens > 15_200 and left > 30_000:
        picked.append(_random_picked(15_000, rng, vocab_size, placeholder))
        left -= 30_000
    while not picked or (left > 600 and len(picked) < shape.num_windows // 3):
        most = min(300, left // 2)
        picked.append(_random_picked(int(rng.integers(most // 12, most)), rng, vocab_size, placeholder))
        left -= 2 * int((picked[-1].ids == placeholder).sum())
    return make_plan(picked, shape, rng, vocab_size=vocab_size, placeholder=placeholder)


def _random_picked(num_tokens: int, rng: np.random.Generator, vocab_size: int, placeholder: int) -> Picked:
    words = rng.integers(0, min(vocab_size, placeholder), 2 * WORD_TOKENS)
    ids = np.concatenate([words[:WORD_TOKENS], np.full(num_tokens, placeholder), words[WORD_TOKENS:]])
    learnt = (np.arange(len(ids)) >= len(ids) - WORD_TOKENS // 2).astype(np.uint8)
    made = Conversation(ids.astype(np.uint16), learnt)
    lengths = [min(750, num_tokens - start) * 640 for start in range(0, num_tokens, 750)]
    windows = [(int(rng.integers(0, 1_000)), length) for length in lengths]
    labels = [np.array([[3, 0, min(10, length // 640)]], np.int32) for length in lengths]
    ctc = [rng.integers(1, 28, min(12, n // 1_280)).astype(np.uint8) if n <= 256_000 else None for n in lengths]
    return Picked(windows, labels, ctc, [0] * len(windows), made.ids, made.learnt)


def bench(recipe: NanoRecipe, device: torch.device, work: Path) -> dict[str, Any]:
    """Time every speed on plans of the recipe's own shapes; the best goes to WORK, where training finds it."""
    samples = (3_000 * torch.randn(600_000)).to(torch.int16).to(device)
    results: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    reference: list[torch.Tensor] = []
    for speed in ORDER if device.type == "cuda" else ORDER[:1]:
        try:
            results[speed], gradients = _timed(recipe, device, speed, samples)
        except Exception as error:
            results[speed] = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        else:
            reference = reference or gradients
            results[speed]["difference"] = difference(reference, gradients)
        print(json.dumps({speed: results[speed]}), flush=True)
        _keep(results, work)
    return results


def _keep(results: dict[str, Any], work: Path) -> None:
    """After every speed, so that a look that is cut short has found something."""
    usable = [s for s in ORDER if s in results and results[s].get("difference", 1.0) < MOST_DIFFERENCE]
    results["best"] = min(usable, key=lambda name: float(results[name]["ms_per_step"]), default="eager")
    work.mkdir(parents=True, exist_ok=True)
    (work / FILE).write_text(json.dumps(results, indent=1) + "\n")


def _timed(
    recipe: NanoRecipe, device: torch.device, speed: Speed, samples: torch.Tensor
) -> tuple[dict[str, Any], list[torch.Tensor]]:
    torch.compiler.reset()
    torch.manual_seed(0)
    model, heads = Flamingo(recipe.model), Heads(recipe.model.encoder.width, recipe.model.decoder.width)
    initialise(model, 0)
    model.to(device).train(), heads.to(device)
    optimiser = MasterAdamW({"encoder": [*model.parameters(), *heads.parameters()]})
    if device.type == "cuda":
        model.bfloat16(), heads.bfloat16()
    runner, log_mel = (
        StepRunner(model, heads, optimiser.parameters, speed),
        LineLogMel(device, compiled="compiled" in speed),
    )
    mode = recipe.phases[-1].mode
    vocab, placeholder = recipe.model.decoder.vocab_size, recipe.model.audio_token_id
    result: dict[str, Any] = {}
    gradients: list[torch.Tensor] = []
    for name, shape in {"short": recipe.short, "long": recipe.long}.items():
        plans = [random_plan(shape, vocab, placeholder, seed).to(device) for seed in range(4)]
        began = time.monotonic()

        def step(plan: Plan, rate: float = 0.0) -> None:
            runner(log_mel(samples, plan, recipe.augmentation).to(model.dtype), plan, mode)
            optimiser.step({"encoder": rate})

        if not gradients:
            runner(log_mel(samples, plans[0]).to(model.dtype), plans[0], mode)
            for parameter in optimiser.parameters:
                parameter.grad = None  # launched steps add to what is there
            runner(log_mel(samples, plans[1]).to(model.dtype), plans[1], mode)  # a second plan through the same graphs
            gradients = [p.grad.float().clone() for p in optimiser.parameters if p.grad is not None]
        for plan in plans:
            step(plan)
        _wait(device)
        result[f"{name}_ready_s"] = round(time.monotonic() - began, 1)
        began = time.monotonic()
        num = NUM_TIMED if device.type == "cuda" else 2
        for index in range(num):
            step(plans[index % len(plans)])
        _wait(device)
        result[f"{name}_ms"] = round(1_000 * (time.monotonic() - began) / num, 2)
    share = recipe.long_share
    result["ms_per_step"] = round((1 - share) * result["short_ms"] + share * result["long_ms"], 2)
    if device.type == "cuda":
        result["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
        torch.cuda.reset_peak_memory_stats()
    return result, gradients


@contextmanager
def listed_kernels(file: Path, device: torch.device) -> Iterator[None]:
    """What runs inside, by operator and by kernel, the dearest first, goes to a file."""
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    _wait(device)
    began = time.monotonic()
    with torch.profiler.profile(activities=kinds) as profile:
        yield
        _wait(device)
    order = f"self_{device.type}_time_total"
    table = profile.key_averages().table(sort_by=order, row_limit=NUM_LISTED, max_name_column_width=90)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{1_000 * (time.monotonic() - began):.1f} ms\n{table}\n")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
