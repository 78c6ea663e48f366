"""The full-size model on a CPU: memory, loading, first token, decode steps; each against what the memory can deliver.

A random checkpoint (8.27 B, bf16, 16.5 GB, sharded) is written to a temporary folder and deleted at the end. It is
loaded, quantised on the way, in a process of its own, whose largest resident size is then all that loading and
answering took. Floor of a decode step: the bytes of the decoder's stored weights over the read bandwidth, which is
measured before every step, because a machine that others share reads faster in one minute than in the next.
Prints a card, a table, and one last JSON line.

    python benchmarks/full_size_cpu.py [--quantize int4] [--tokens N] [--folder DIR] [--size 8b|tiny] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does, before torch reads it
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import save_file
from torch import Tensor

from audioflamingo.bench.material import Material
from audioflamingo.bench.random_weights import INIT_STD, RANDOM_MODELS, SEED
from audioflamingo.bench.subject import endless_tokenizer
from audioflamingo.config import ModelConfig
from audioflamingo.engine.engine import Engine
from audioflamingo.model.costs import held_bytes
from audioflamingo.model.quantize import SCHEMES
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights import load_config, load_flamingo
from audioflamingo.model.weights.names import from_ours
from audioflamingo.model.weights.write import plan_shards
from audioflamingo.types import Sampling

SHARD_BYTES = 1_000_000_000
BLOCK_VALUES = 16_000_003  # random values that are laid end to end; a prime, so that no two rows are alike
CLIP_S = 5.0
READ_VALUES = 64_000_000
NUM_READS = 3
SIZES = {"8b": RANDOM_MODELS["random-8b"], "tiny": RANDOM_MODELS["random-tiny"]}


def write_checkpoint(config: ModelConfig, folder: Path) -> int:
    """Seeded weights under the hub's names, a shard in memory at a time; returns their bytes."""
    shapes = {name: tensor.shape for name, tensor in skeleton(config).state_dict().items()}
    sizes = {name: 2 * shape.numel() for name, shape in shapes.items()}
    block = torch.randn(BLOCK_VALUES, generator=torch.Generator().manual_seed(SEED)).mul_(INIT_STD).bfloat16()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"dtype": "bfloat16"}))
    weight_map: dict[str, str] = {}
    for number, names in enumerate(plan_shards(sizes, SHARD_BYTES), 1):
        file = f"model-{number:05}.safetensors"
        shard = {from_ours(name, "legacy"): _weights(name, shapes[name], block) for name in names}
        save_file(shard, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return sum(sizes.values())


def _weights(name: str, shape: torch.Size, block: Tensor) -> Tensor:
    if "norm" in name:
        return torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=torch.bfloat16)
    flat = torch.empty(shape.numel(), dtype=torch.bfloat16)
    for first in range(0, len(flat), len(block)):
        part = flat[first : first + len(block)]
        part.copy_(block[: len(part)])
    return flat.view(shape)


def _seconds(work: Any) -> tuple[float, float]:
    """Of the clock, and of all threads' own time."""
    wall, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - own


def measure(folder: Path, scheme: str, num_tokens: int) -> dict[str, Any]:
    """Everything about one model, in this process."""
    before = resident_gb()
    began = time.perf_counter()
    model = load_flamingo(folder, quantize=scheme).requires_grad_(False)  # type: ignore[arg-type]
    load_s = time.perf_counter() - began
    loaded_peak = resident_gb()
    engine = Engine(model, endless_tokenizer())
    material = Material(load_config(folder))
    prompt = material.prompt(material.sound(CLIP_S))
    deltas = engine.generate([prompt], [Sampling(max_new_tokens=num_tokens)])
    first_s, _ = _seconds(lambda: next(deltas))
    peak = resident_gb()  # of the prompt; what the reads below take is not the model's
    block, steps, rates = torch.ones(READ_VALUES), [], []
    for _ in range(num_tokens - 1):
        rates.append(block.nbytes / min(_seconds(block.sum)[0] for _ in range(NUM_READS)))
        steps.append(_seconds(lambda: next(deltas, None)))
    walls, own = [wall for wall, _ in steps], [own for _, own in steps]
    table = {id(tensor) for tensor in (*model.decoder.embed_tokens.buffers(), *model.decoder.embed_tokens.parameters())}
    decoder = [*model.decoder.buffers(), *model.decoder.parameters()]
    read_bytes = held_bytes(tensor for tensor in decoder if id(tensor) not in table)
    rate = statistics.median(rates)
    ratios = [wall * one / read_bytes for wall, one in zip(walls, rates, strict=True)]
    threads = torch.get_num_threads()
    return {
        "quantize": scheme,
        "threads": threads,
        "load_1_minute_before": round(os.getloadavg()[0], 2),
        "read_bandwidth_gb_s": {
            "median": round(rate / 1e9, 1),
            "min": round(min(rates) / 1e9, 1),
            "max": round(max(rates) / 1e9, 1),
        },
        "resident_before_gb": round(before, 2),
        "weights_gb": round(held_bytes(model.state_dict().values()) / 1e9, 2),
        "load_s": round(load_s, 1),
        "peak_resident_after_load_gb": round(loaded_peak, 2),
        "peak_resident_gb": round(peak, 2),
        "prompt_tokens": prompt.num_tokens,
        "first_token_s": round(first_s, 2),
        "decode_step_ms": {
            "median": round(statistics.median(walls) * 1e3, 1),
            "min": round(min(walls) * 1e3, 1),
            "of_threads_own_time": round(min(own) / threads * 1e3, 1),
        },
        "decode_bytes_gb": round(read_bytes / 1e9, 3),
        "floor_ms": round(read_bytes / rate * 1e3, 1),
        "times_the_floor": {"median": round(statistics.median(ratios), 2), "min": round(min(ratios), 2)},
    }


def resident_gb() -> float:
    """The most that this process ever had in memory; getrusage would tell the parent's, if that was more."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quantize", choices=SCHEMES, default="int4")
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--size", choices=SIZES, default="8b")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.quantize, options.tokens)))
        return
    with tempfile.TemporaryDirectory(prefix="full-size-", dir=options.folder) as root:
        began = time.perf_counter()
        num_bytes = write_checkpoint(SIZES[options.size], Path(root) / "model")
        card = {
            "benchmark": "full_size_cpu",
            "date": datetime.now(UTC).date().isoformat(),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "size": options.size,
            "checkpoint_gb": round(num_bytes / 1e9, 2),
            "writing_s": round(time.perf_counter() - began, 1),
        }
        words = [sys.executable, __file__, "--measure", str(Path(root) / "model"), "--quantize", options.quantize]
        child = subprocess.run([*words, "--tokens", str(options.tokens)], check=True, stdout=subprocess.PIPE, text=True)
    results = json.loads(child.stdout.splitlines()[-1])
    for name, value in {**card, **results}.items():
        print(f"{name:<28} {value}")
    line = json.dumps({"card": card, "results": results})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
