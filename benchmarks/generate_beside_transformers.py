"""Time of `generate`: ours under transformers' interface beside transformers' own class, the same weights and inputs.

Both take turns in one run; medians. Greedy, an equal number of new tokens, and the tokens are compared. Random weights
have near ties, so that where tokens differ, the reference's own margin there is reported beside its spread between two
attention kernels, which is what rounding alone does.

    python benchmarks/generate_beside_transformers.py [--model nano] [--threads 2] [--repeats 5]
    python benchmarks/generate_beside_transformers.py --size 8b --device cuda      # random weights, no checkpoint
    python benchmarks/generate_beside_transformers.py --size tiny                  # the same in seconds on a CPU

Writes JSON to --out, by default in $OUT or in benchmarks/results, after every case; the last line printed is the same.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from full_size import TINY, Report, Scale, hf, log_mel
from torch import Tensor

import audioflamingo.integrations.transformers as integration
from audioflamingo.audio import num_audio_tokens
from audioflamingo.bench.random_weights import random_state
from audioflamingo.bench.timing import release_memory
from audioflamingo.config import ModelConfig
from audioflamingo.model.weights.names import to_ours
from audioflamingo.types import SAMPLE_RATE_HZ

NUM_QUESTION_TOKENS = 24
PAD, FIRST_TEXT_ID = 0, 10
SIZES: dict[str, ModelConfig] = {"8b": Scale().config, "tiny": TINY.config}
EIGHT_SHORT_S = tuple(float(seconds) for seconds in range(1, 9))


@dataclass(frozen=True)
class Case:
    """A batch of sounds, one question each, and how many tokens follow."""

    name: str
    durations_s: tuple[float, ...]
    num_new_tokens: int


CPU_CASES = (
    Case("one sound of 1 s", (1.0,), 40),
    Case("one sound of 30 s", (30.0,), 40),
    Case("eight sounds of 1 to 8 s", EIGHT_SHORT_S, 40),
)
GPU_CASES = (
    Case("one sound of 30 s, 100 tokens", (30.0,), 100),
    Case("eight sounds of 30 s, 100 tokens", (30.0,) * 8, 100),
    Case("eight sounds of 1 to 8 s, 100 tokens", EIGHT_SHORT_S, 100),
)


@dataclass(frozen=True)
class Pair:
    """Both models on equal weights."""

    ours: Any
    theirs: Any

    @property
    def audio_token_id(self) -> int:
        """Placeholder of an audio token."""
        return int(self.ours.config.audio_token_id)


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    chosen = parse_options()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    start = time.perf_counter()
    report = Report(chosen.out or default_path(chosen, device), card(chosen, device))
    with torch.no_grad():
        pair = random_pair(SIZES[chosen.size], device) if chosen.size else loaded_pair(chosen.model, device)
        report.save("setup_s", round(time.perf_counter() - start, 1))
        cases: dict[str, Any] = {}
        for case in CPU_CASES if device.type == "cpu" else GPU_CASES:
            found = report.attempt(case.name, partial(measure, pair, case, chosen.repeats))
            if found is not None:
                cases[case.name] = found
                print(f"{case.name:38} ours {found['ours_s']:8.3f} s   transformers {found['transformers_s']:8.3f} s")
            report.save("cases", cases)
    if device.type == "cuda":
        report.save("peak_memory_gb", round(torch.cuda.max_memory_allocated() / 1e9, 2))
    report.save("total_s", round(time.perf_counter() - start, 1))
    print(json.dumps(report.found))


def parse_options() -> argparse.Namespace:
    """The words of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano", help="a checkpoint, where no --size is given")
    parser.add_argument("--size", choices=SIZES, help="random weights of this size instead of a checkpoint")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def card(chosen: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "benchmark": "generate_beside_transformers",
        "date": datetime.date.today().isoformat(),
        "model": f"random weights, {chosen.size}" if chosen.size else chosen.model,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": chosen.threads,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "dtype": str(dtype_for(device)).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": hf.__version__,
        "repeats": chosen.repeats,
    }


def default_path(chosen: argparse.Namespace, device: torch.device) -> Path:
    """In $OUT where it is set, else among the results."""
    folder = Path(os.environ.get("OUT") or Path(__file__).parent / "results")
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    named = re.sub(r"[^a-z0-9]+", "_", f"{chosen.size or chosen.model} {hardware}".lower()).strip("_")
    return folder / f"generate_beside_transformers_{named}_{datetime.date.today().isoformat()}.json"


def dtype_for(device: torch.device) -> torch.dtype:
    """fp32 on a CPU, where small models are the faster for it; else bf16."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def loaded_pair(name: str, device: torch.device) -> Pair:
    """A checkpoint, loaded by both."""
    folder, dtype = integration.resolve(name), dtype_for(device)
    ours = integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    theirs = hf.AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    return Pair(ours.to(device).eval(), theirs.to(device).eval())


def random_pair(config: ModelConfig, device: torch.device) -> Pair:
    """One set of random weights, made on the device, under both."""
    state = random_state(config, device, dtype_for(device))
    models = []
    for kind, settings in (
        (integration.AudioFlamingo3ForConditionalGeneration, integration.AudioFlamingo3Config),
        (hf.AudioFlamingo3ForConditionalGeneration, hf.AudioFlamingo3Config),
    ):
        with torch.device("meta"):
            model = kind(settings(**config.to_dict())).eval()
        names = {name: to_ours(name, "transformers") for name in model.state_dict()}
        model.load_state_dict({theirs: state[str(name)] for theirs, name in names.items()}, assign=True)
        text = model.model.language_model
        text.rotary_emb = type(text.rotary_emb)(config=text.config).to(device)  # its buffers are not in a state dict
        models.append(model)
    release_memory()
    return Pair(*models)


def make_inputs(pair: Pair, case: Case) -> dict[str, Tensor]:
    """A batch padded on the left: sounds first, then random text; features from transformers' own extractor."""
    generator = torch.Generator().manual_seed(0)
    rows, features, masks = [], [], []
    last_text_id = min(pair.audio_token_id, pair.ours.config.text_config.vocab_size)
    for seed, duration_s in enumerate(case.durations_s):
        mel, mask = log_mel(duration_s, seed)
        features.append(mel)
        masks.append(mask)
        count = num_audio_tokens(round(duration_s * SAMPLE_RATE_HZ))
        text = torch.randint(FIRST_TEXT_ID, last_text_id, (NUM_QUESTION_TOKENS,), generator=generator)
        rows.append(torch.cat([torch.full((count,), pair.audio_token_id), text]))
    longest = max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0), value=PAD) for row in rows])
    attended = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in rows])
    device, dtype = pair.theirs.device, pair.theirs.dtype
    return {
        "input_ids": ids.to(device),
        "attention_mask": attended.to(device),
        "input_features": torch.cat(features).to(device, dtype),
        "input_features_mask": torch.cat(masks).to(device),
    }


def measure(pair: Pair, case: Case, repeats: int) -> dict[str, Any]:
    """Medians of both models, taken in turns after one unmeasured call each, and whether their tokens are equal."""
    inputs = make_inputs(pair, case)
    settings = hf.GenerationConfig(
        do_sample=False, max_new_tokens=case.num_new_tokens, min_new_tokens=case.num_new_tokens, pad_token_id=PAD,
        suppress_tokens=[pair.audio_token_id],
    )  # fmt: skip
    models = {"ours": pair.ours, "transformers": pair.theirs}
    times: dict[str, list[float]] = {name: [] for name in models}
    tokens: dict[str, Tensor] = {}
    for repeat in range(repeats + 1):
        for name, model in models.items():
            run = partial(model.generate, **inputs, generation_config=settings)
            seconds, tokens[name] = timed(run, pair.theirs.device)
            if repeat:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    new = len(case.durations_s) * case.num_new_tokens
    return {
        "ours_s": round(medians["ours"], 4),
        "transformers_s": round(medians["transformers"], 4),
        "speedup": round(medians["transformers"] / medians["ours"], 2),
        "ours_tokens_per_s": round(new / medians["ours"], 1),
        "ran_on": pair.ours.generated_on,
        "equal_tokens": torch.equal(tokens["ours"], tokens["transformers"]),
        "differences": differences(pair, inputs, tokens["ours"], tokens["transformers"]),
    }


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def differences(pair: Pair, inputs: dict[str, Tensor], ours: Tensor, theirs: Tensor) -> list[dict[str, Any]]:
    """For each row whose tokens differ: where first, and whether the reference's own rounding explains it."""
    found = []
    prompt = inputs["input_ids"].shape[1]
    for row in (ours != theirs).any(-1).nonzero().flatten().tolist():
        place = int((ours[row] != theirs[row]).nonzero()[0])
        ids = theirs[:, :place]
        attended = torch.nn.functional.pad(inputs["attention_mask"], (0, place - prompt), value=1)
        logits = {kernel: last_logits(pair.theirs, ids, attended, inputs, kernel)[row] for kernel in ("sdpa", "eager")}
        pair.theirs.set_attn_implementation("sdpa")
        margin = logits["sdpa"][theirs[row, place]] - logits["sdpa"][ours[row, place]]
        spread = (logits["sdpa"] - logits["eager"]).abs().max()
        found.append(
            {
                "row": row,
                "new_token": place - prompt,
                "reference_margin": round(float(margin), 5),
                "reference_kernel_spread": round(float(spread), 5),
                "explained_by_rounding": bool(margin <= 2 * spread),
            }
        )
    return found


def last_logits(model: Any, ids: Tensor, attended: Tensor, inputs: dict[str, Tensor], kernel: str) -> Tensor:
    """(B, V) float32 logits of the reference after the last of ids (B, T)."""
    model.set_attn_implementation(kernel)
    audio = {name: inputs[name] for name in ("input_features", "input_features_mask")}
    logits: Tensor = model(
        input_ids=ids, attention_mask=attended, **audio, use_cache=False, logits_to_keep=1
    ).logits[:, -1]  # fmt: skip
    return logits.float()


if __name__ == "__main__":
    main()
