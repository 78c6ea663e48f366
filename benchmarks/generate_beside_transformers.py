"""Time of `generate`: ours under transformers' interface beside transformers' own class, the same weights and inputs.

Both take turns in one run; medians. Greedy, an equal number of new tokens, and the tokens are compared.

    python benchmarks/generate_beside_transformers.py [--model nano] [--threads 2] [--repeats 5] [--device cpu]
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import audioflamingo.integrations.transformers as integration

hf: Any = transformers  # its classes are not typed
RATE_HZ = 16_000
QUESTION = "What do you hear?"
NUM_NEW_TOKENS = 40
CASES = {
    "one sound of 1 s": (1.0,),
    "one sound of 30 s": (30.0,),
    "eight sounds of 1 to 8 s": tuple(float(seconds) for seconds in range(1, 9)),
}


def make_inputs(processor: Any, durations_s: tuple[float, ...]) -> Any:
    """Inputs of one batch, in the form that both models take."""
    generator = np.random.default_rng(0)
    conversations = [
        [
            {
                "role": "user",
                "content": [
                    {"type": "audio", "audio": (0.1 * generator.standard_normal(int(s * RATE_HZ))).astype(np.float32)},
                    {"type": "text", "text": QUESTION},
                ],
            }
        ]
        for s in durations_s
    ]
    return processor.apply_chat_template(conversations, tokenize=True, return_dict=True, add_generation_prompt=True)


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, result


def measure(models: dict[str, Any], inputs: Any, repeats: int) -> dict[str, Any]:
    """Medians of both models, taken in turns after one unmeasured call each."""
    options = {"do_sample": False, "max_new_tokens": NUM_NEW_TOKENS, "min_new_tokens": NUM_NEW_TOKENS}
    times: dict[str, list[float]] = {name: [] for name in models}
    tokens = {}
    for repeat in range(repeats + 1):
        for name, model in models.items():
            seconds, tokens[name] = timed(lambda model=model: model.generate(**inputs, **options), model.device)
            if repeat:
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "ours_s": round(medians["ours"], 4),
        "transformers_s": round(medians["transformers"], 4),
        "speedup": round(medians["transformers"] / medians["ours"], 2),
        "equal_tokens": torch.equal(tokens["ours"], tokens["transformers"]),
        "ran_on": models["ours"].generated_on,
    }


def main() -> None:
    """Measure and print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    folder, device = integration.resolve(chosen.model), torch.device(chosen.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    processor = integration.AudioFlamingo3Processor.from_pretrained(folder)
    models = {
        "ours": integration.AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=dtype).to(device),
        "transformers": hf.AudioFlamingo3ForConditionalGeneration.from_pretrained(folder, dtype=dtype).to(device),
    }
    cases = {}
    for name, durations_s in CASES.items():
        inputs = make_inputs(processor, durations_s).to(device)
        inputs["input_features"] = inputs["input_features"].to(dtype)
        cases[name] = measure(models, inputs, chosen.repeats)
        print(f"{name:28} ours {cases[name]['ours_s']:8.3f} s   transformers {cases[name]['transformers_s']:8.3f} s")
    report = {
        "benchmark": "generate_beside_transformers",
        "date": datetime.date.today().isoformat(),
        "model": chosen.model,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "threads": chosen.threads,
        "load_before": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "transformers": hf.__version__,
        "new_tokens": NUM_NEW_TOKENS,
        "repeats": chosen.repeats,
        "cases": cases,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
