"""Train the embedded model from nothing for a short time, whole and with one thing of its curriculum left out.

    python benchmarks/nano_ablation.py --shards runs/nano/shards/kept --checks runs/nano/checks.npz --seconds 75 \
        --out ablation.json

All runs hear the same rendered sound (what a longer training left in WORK/shards/kept, see `--keep-hours`) and are
looked at with the same held-out items, every token of an answer being judged given those before it. One run for each
GPU at a time; on a CPU with `-- --step-s 8 --tiny`, which shows that it works and nothing more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from audioflamingo.train.nano_ablation import LEFT_OUT
from audioflamingo.train.nano_schedule import TOKENIZER

WHOLE = "nothing"
FROM_NOTHING_S = 540.0  # the piece that `from_nothing` is written for
DECAYS = 0.4  # of a run's seconds


def linked(shards: Path, checks: Path, work: Path) -> None:
    """A folder of work with the same sound and held-out items, without copying them."""
    kept = work / "shards" / "kept"
    kept.mkdir(parents=True, exist_ok=True)
    for shard in sorted(shards.glob("shard-*.npz")):
        if not (kept / shard.name).exists():
            os.link(shard, kept / shard.name)
    shutil.copyfile(checks, work / "checks.npz")


def command(name: str, work: Path, options: argparse.Namespace) -> list[str]:
    """The trainer's command line for one run."""
    line = [
        sys.executable, "-m", "audioflamingo.train.nano", "--recipe", "from_nothing", "--tokenizer", str(TOKENIZER),
        "--work", str(work), "--out", str(work / "out"), "--workers", "0", "--keep-hours", "10000",
        "--piece-s", str(options.seconds), "--decay-s", str(DECAYS * options.seconds),
        "--phases", str(options.seconds / FROM_NOTHING_S), "--check-every-s", "10000", "--no-draw-apart",
        "--check-times", str(options.check_times),
        "--pool-hours", str(options.pool_hours), "--first-hours", str(options.first_hours), "--speed", options.speed,
    ]  # fmt: skip
    return [*line, *([] if name == WHOLE else ["--without", name]), *options.more]


def figures(log: Path) -> dict[str, Any]:
    """The better of the last and the averaged weights, and how far the run came."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    looks = [line for line in lines if "weights" in line]
    best = max(looks, key=lambda line: line["val_tokens"])
    return {key: value for key, value in best.items() if key.startswith("val") or key in ("s", "step", "heard_h")}


@dataclass(frozen=True)
class Run:
    """A trainer at work."""

    name: str
    work: Path
    process: subprocess.Popen[bytes]


def begun(name: str, gpu: int, options: argparse.Namespace) -> Run:
    """Start one on a GPU."""
    work = options.work / name
    linked(options.shards, options.checks, work)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": str(gpu), "OMP_NUM_THREADS": "1"}
    with (work / "log.txt").open("wb") as log:
        process = subprocess.Popen(command(name, work, options), stdout=log, stderr=subprocess.STDOUT, env=environment)
    return Run(name, work, process)


class Results:
    """What is known so far, kept in a file after each run."""

    def __init__(self, options: argparse.Namespace) -> None:
        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu"
        self.out: Path = options.out
        self.values: dict[str, Any] = {"device": device, "seconds": options.seconds, "without": {}}

    def keep(self, run: Run) -> None:
        """Take a run that has ended, well or not."""
        if run.process.returncode:
            found: dict[str, Any] = {"failed": (run.work / "log.txt").read_text()[-600:]}
        else:
            found = figures(run.work / "out" / "log.jsonl")
        self.values["without"][run.name] = found
        self.out.write_text(json.dumps(self.values, indent=1) + "\n")
        print(run.name, json.dumps(found)[:300], flush=True)


def main() -> None:
    """Run all, keeping what is there after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--checks", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--pool-hours", type=float, default=330.0)
    parser.add_argument("--first-hours", type=float, default=60.0)
    parser.add_argument("--speed", default="compiled_graphs" if torch.cuda.is_available() else "eager")
    parser.add_argument("--check-times", type=int, default=1, help="as the run that left the held-out items was told")
    parser.add_argument("--limit-s", type=float, default=1e9, help="begin no run after so many seconds")
    parser.add_argument("--only", nargs="*", choices=[WHOLE, *LEFT_OUT], default=[WHOLE, *LEFT_OUT])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("more", nargs="*", help="for the trainer, behind --")
    options = parser.parse_args()
    results = Results(options)
    waiting, running, began = list(options.only), dict[int, Run](), time.monotonic()
    while waiting or running:
        for gpu in range(max(1, torch.cuda.device_count())):
            if gpu in running and running[gpu].process.poll() is not None:
                results.keep(running.pop(gpu))
            if gpu not in running and waiting and time.monotonic() - began < options.limit_s:
                running[gpu] = begun(waiting.pop(0), gpu, options)
        if waiting and time.monotonic() - began >= options.limit_s:
            print("no time left for", ", ".join(waiting), flush=True)
            waiting.clear()
        time.sleep(0.3)
    print(json.dumps(results.values))


if __name__ == "__main__":
    main()
