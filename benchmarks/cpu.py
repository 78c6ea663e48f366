"""How long the embedded model takes on a CPU: cold command, first token, rate; beside transformers' own class.

Floor of a decode step: the decoder's fp32 weights read once at the measured read bandwidth of memory.
Prints a card, a table, and one last JSON line.   python benchmarks/cpu.py [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audioflamingo.api import AudioFlamingo, load_model
from audioflamingo.types import Audio, Message

ROOT = Path(__file__).resolve().parent.parent
NANO = ROOT / "audioflamingo" / "assets" / "nano"
NUM_RUNS = 7
NUM_TOKENS = 100
CLIP_S = 5


def seconds(work: Any, runs: int = NUM_RUNS) -> dict[str, float]:
    work()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return {
        "median_s": round(statistics.median(taken), 4),
        "min_s": round(min(taken), 4),
        "max_s": round(max(taken), 4),
    }


def cold_command() -> dict[str, float]:
    words = [
        sys.executable,
        "-m",
        "audioflamingo",
        "ask",
        str(ROOT / "examples" / "unheard_voice.wav"),
        "What do you hear?",
    ]
    return seconds(lambda: subprocess.run(words, check=True, capture_output=True), 5)


def clip() -> Audio:
    rng = np.random.default_rng(0)
    return Audio((0.1 * rng.standard_normal(CLIP_S * 16_000)).astype(np.float32), "noise of 5 s")


def first_token(model: AudioFlamingo, sound: Audio) -> None:
    with model.stream([Message("user", (sound, "What do you hear?"))], max_new_tokens=NUM_TOKENS) as deltas:
        next(deltas)


def decode_rate(model: AudioFlamingo, sound: Audio) -> float:
    """Tokens a second after the first one, of an answer that the model is not allowed to end."""
    ends, model.engine.tokenizer.eos_ids = model.engine.tokenizer.eos_ids, ()
    try:
        deltas = model.stream([Message("user", (sound, "What do you hear?"))], max_new_tokens=NUM_TOKENS)
        next(deltas)
        began = time.perf_counter()
        count = sum(1 for _ in deltas)
        return count / (time.perf_counter() - began)
    finally:
        model.engine.tokenizer.eos_ids = ends


def read_bandwidth() -> float:
    """Bytes a second of summing 256 MB."""
    block = torch.ones(64_000_000)
    return block.numel() * 4 / seconds(block.sum)["min_s"]


def transformers_answer(sound: Audio) -> Any:
    from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

    stock = AudioFlamingo3ForConditionalGeneration.from_pretrained(NANO, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(NANO)
    text = [
        {
            "role": "user",
            "content": [{"type": "audio", "audio": sound.samples}, {"type": "text", "text": "What do you hear?"}],
        }
    ]

    def answer(num_tokens: int = NUM_TOKENS) -> Any:
        inputs = processor.apply_chat_template(text, tokenize=True, add_generation_prompt=True, return_dict=True)
        return stock.generate(**inputs, max_new_tokens=num_tokens, min_new_tokens=num_tokens, do_sample=False)

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, sound = load_model("nano", device="cpu"), clip()
    card = {
        "benchmark": "cpu",
        "date": datetime.now(UTC).date().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "read_bandwidth_gb_s": round(read_bandwidth() / 1e9, 1),
    }
    decoder_bytes = 4 * sum(p.numel() for n, p in model.model.decoder.named_parameters() if "embed_tokens" not in n)
    results: dict[str, Any] = {
        "cold flamingo ask": cold_command(),
        "first token, 5 s sound": seconds(lambda: first_token(model, sound)),
        "decode, tokens a second": round(statistics.median(decode_rate(model, sound) for _ in range(NUM_RUNS)), 1),
        "floor, tokens a second": round(card["read_bandwidth_gb_s"] * 1e9 / decoder_bytes, 1),
    }
    stock = transformers_answer(sound)
    results["transformers, first token"] = seconds(lambda: stock(1))
    results["transformers, 100 tokens"] = seconds(stock, 3)
    ours = results["first token, 5 s sound"]["median_s"] + (NUM_TOKENS - 1) / results["decode, tokens a second"]
    results["ours, 100 tokens"] = {"median_s": round(ours, 4)}
    results["ratio, 100 tokens"] = round(results["transformers, 100 tokens"]["median_s"] / ours, 2)
    for name, value in {**card, **results}.items():
        print(f"{name:<28} {value}")
    line = json.dumps({"card": card, "results": results})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
