"""How long a full-size checkpoint takes from a warm page cache to a device; beside transformers' own from_pretrained.

A random checkpoint (bf16, sharded) is made in a temporary folder, loaded several times in each way, and deleted.
Floor: its bytes over the measured rate of pinned copies to the device. Prints a card, a table, and one last JSON line.

    python benchmarks/load.py [--device cuda] [--size 8b|tiny] [--runs N] [--out FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.encoder import sinusoids
from audioflamingo.model.quantize import SCHEMES
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights import load_flamingo
from audioflamingo.model.weights.write import save_flamingo

SEED = 0
INIT_STD = 0.02
COPY_BYTES = 1 << 30
TINY = ModelConfig(
    EncoderConfig(width=64, num_layers=2, num_heads=4, ffn_width=128),
    DecoderConfig(vocab_size=512, width=256, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=64, ffn_width=384),
    audio_token_id=500,
)
SIZES = {"8b": ModelConfig(), "tiny": TINY}


def write_checkpoint(config: ModelConfig, folder: Path, device: torch.device) -> int:
    """A seeded random checkpoint, made on the device; returns its bytes."""
    model = skeleton(config)
    generator = torch.Generator(device).manual_seed(SEED)
    state = {}
    for name, shape in ((name, tensor.shape) for name, tensor in model.state_dict().items()):
        tensor = torch.empty(shape, dtype=torch.bfloat16, device=device)
        if "embed_positions" in name:
            tensor.copy_(sinusoids(*shape))
        elif "norm" in name:
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)
        else:
            tensor.normal_(0, INIT_STD, generator=generator)
        state[name] = tensor
    model.load_state_dict(state, assign=True)
    save_flamingo(model, folder)
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def timed(work: Callable[[], Any], runs: int, device: torch.device) -> dict[str, Any]:
    """Seconds of each run, their median, and the memory that stays and that was taken at most."""
    seconds, held, peak = [], 0, 0
    for _ in range(runs):
        release(device)
        began = time.perf_counter()
        model = work()
        synchronize(device)
        seconds.append(round(time.perf_counter() - began, 3))
        if device.type == "cuda":
            held, peak = torch.cuda.memory_allocated(device), torch.cuda.max_memory_allocated(device)
        del model
    return {
        "median_s": statistics.median(seconds),
        "runs_s": seconds,
        "held_gb": round(held / 1e9, 2),
        "peak_gb": round(peak / 1e9, 2),
    }


def release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rate(device: torch.device) -> float | None:
    """Bytes a second from pinned memory to the device."""
    if device.type != "cuda":
        return None
    pinned = torch.ones(COPY_BYTES, dtype=torch.uint8).pin_memory()
    place = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device)
    seconds = []
    for _ in range(4):
        synchronize(device)
        began = time.perf_counter()
        place.copy_(pinned, non_blocking=True)
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return COPY_BYTES / min(seconds)


def transformers_loader(folder: Path, device: torch.device) -> Callable[[], Any]:
    import transformers

    kind: Any = transformers.AudioFlamingo3ForConditionalGeneration
    return lambda: kind.from_pretrained(folder, dtype=torch.bfloat16, device_map=str(device))


def measure(folder: Path, num_bytes: int, device: torch.device, options: argparse.Namespace) -> dict[str, Any]:
    rate = copy_rate(device)
    results: dict[str, Any] = {
        "copy_gb_s": rate and round(rate / 1e9, 1),
        "floor_s": rate and round(num_bytes / rate, 3),
    }
    results["ours"] = timed(lambda: load_flamingo(folder, device=device), options.runs, device)
    for scheme in SCHEMES:  # once each: the whole is to stay within 90 s
        results[f"ours, {scheme}"] = timed(lambda s=scheme: load_flamingo(folder, device=device, quantize=s), 1, device)
    if not options.alone:
        results["transformers"] = timed(transformers_loader(folder, device), 2, device)
        results["ratio"] = round(results["transformers"]["median_s"] / results["ours"]["median_s"], 2)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, default="8b")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="without transformers")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory(prefix="load-") as root:
        began = time.perf_counter()
        num_bytes = write_checkpoint(SIZES[options.size], Path(root) / "model", device)
        card = {
            "benchmark": "load",
            "date": datetime.now(UTC).date().isoformat(),
            "hardware": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
            "torch": torch.__version__,
            "size": options.size,
            "bytes": num_bytes,
            "writing_s": round(time.perf_counter() - began, 1),
        }
        results = measure(Path(root) / "model", num_bytes, device, options)
    for name, value in {**card, **results}.items():
        print(f"{name:<24} {value}")
    line = json.dumps({"card": card, "results": results})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
