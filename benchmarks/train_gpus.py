"""How fast, in how much memory and how faithfully several GPUs train what one trains, at full size.

    torchrun --standalone --nproc-per-node 2 --max-restarts 2 benchmarks/train_gpus.py --out out/train_gpus.json
    torchrun --standalone --nproc-per-node 2 benchmarks/train_gpus.py --tiny --out out/tiny.json  # anywhere

Every section steps the product's own `Trainer` as `train.run` sets it up, on random weights (8.27 B) and random sounds:
all parameters of stage 3 in shards; adapters of stage 3.5 on one GPU, on whole copies, in shards; one sample of ten
minutes divided over all GPUs; and a small model in fp32 whose loss and gradients must be those of one GPU. MFU counts
what the model needs (`train.costs`) against the rate of a plain matrix product here. A section that fails is noted and
the next one begins. A process that waits for another for a minute dies; torchrun then starts all of them again
(--max-restarts), and they go on behind the section that was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("TRAIN_GPUS_BEGAN_UNIX", str(time.time()))
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from full_size import peak_gb, reset_peak
from torch import distributed
from train_gpus_equal import equality
from train_gpus_run import GivenPacks, alone, example, trainer

from audioflamingo.bench.random_weights import TINY, assembled, random_tensors
from audioflamingo.bench.timing import release_memory, told
from audioflamingo.config import ModelConfig
from audioflamingo.train.costs import matmul_rate
from audioflamingo.train.distributed import Processes, joined
from audioflamingo.train.stages import Stage, stage_3, stage_3_5
from audioflamingo.train.trainer import Progress

BUDGET_S = 150.0
GROUP_TIMEOUT_S = 60.0
ANSWER_TIMEOUT_S = 120.0  # of what processes tell each other between sections: longer than a lost one takes to die
LINK_BYTES = 256 << 20
Found = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """What a section hears, and how often.

    Attributes:
        config: of the model.
        windows: of 30 s in a long sample.
        sounds: of one window in a pack of stage 3.
        window_s: length of a window.
        steps: of a section; the first two are not timed.
        rate: of stage 3, or None for its own.
    """

    config: ModelConfig
    windows: int = 20
    sounds: int = 10
    window_s: float = 30.0
    steps: int = 6
    rate: float | None = None


class Bench:
    """What every section needs.

    Args:
        sizes: of everything.
        processes: of the run, all in one group.
    """

    def __init__(self, sizes: Sizes, processes: Processes) -> None:
        self.sizes, self.processes, self.device = sizes, processes, processes.device
        self.flops_per_s = matmul_rate(self.device, torch.bfloat16)

    def stepped(self, stage: Stage, processes: Processes, number: int, *, num_sounds: int, num_windows: int) -> Found:
        """Steps on one pack, the same every time.

        Args:
            stage: how.
            processes: how many share the step, and how.
            number: of the pack, which decides its sounds and words.
            num_sounds: in the pack, each with a question and an answer.
            num_windows: of each sound.
        """
        sizes = self.sizes
        reset_peak()
        # As `train.run` loads them, but drawn in bf16 for all: sections are compared, and fp32 would be other numbers.
        dtype = torch.float32 if processes.shards and not stage.only_adapters else torch.bfloat16
        drawn = random_tensors(sizes.config, self.device, torch.bfloat16)
        model = assembled(sizes.config, {name: tensor.to(dtype) for name, tensor in drawn})
        pack = [example(sizes.config, (number, k), num_windows * sizes.window_s, 40 + 7 * k) for k in range(num_sounds)]
        feed = GivenPacks([(processes.feeding[0], pack)], sizes.steps)
        run, memory = trainer(model, stage, processes, feed, self.flops_per_s)
        steps: list[Progress] = []
        run.run(steps.append)
        seconds = [step.num_tokens / step.tokens_per_s for step in steps]
        timed = seconds[2:] or seconds
        return {
            "ms_a_step": round(1e3 * statistics.median(timed), 1),
            "times_ms": [round(1e3 * one, 1) for one in seconds],
            "mfu_per_gpu": round(statistics.median(step.mfu or 0.0 for step in steps[2:] or steps), 4),
            "losses": [round(step.loss, 7) for step in steps],
            "norms": [round(step.norm, 7) for step in steps],
            "tokens_per_gpu": steps[0].num_tokens,
            "peak_gb": peak_gb(),
            "reserved_gb": peak_gb(reserved=True),
            "estimated_gb": round(memory.total / 1e9, 2),
            "kept_layers": memory.num_kept,
        }

    def full(self) -> Found:
        """Stage 3 in shards, every GPU with sounds of its own; the loss of a repeated batch has to fall."""
        stage = stage_3() if self.sizes.rate is None else replace(stage_3(), rate=self.sizes.rate)
        rank = self.processes.rank
        found = self.stepped(stage, self.processes, rank, num_sounds=self.sizes.sounds, num_windows=1)
        return found | {"loss_fell": found["losses"][-1] < found["losses"][0]}

    def lora(self, processes: Processes, *, is_same: bool = False) -> Found:
        """Stage 3.5 on one long sample a GPU; with `is_same` all hear the first one's, and nothing is dropped."""
        stage = stage_3_5()
        if is_same and stage.lora is not None:  # processes that share a sample draw masks of their own
            stage = replace(stage, lora=replace(stage.lora, dropout=0.0))
        number = 0 if is_same else self.processes.rank
        return self.stepped(stage, processes, number, num_sounds=1, num_windows=self.sizes.windows)

    def link(self) -> Found:
        """What a sum over all and a gathering of all carry a second, in bytes that each GPU sends."""
        size, elements = self.processes.size, LINK_BYTES // 2 // (1 if self.device.type == "cuda" else 64)
        mine = torch.ones(elements, dtype=torch.bfloat16, device=self.device)
        whole = torch.empty(size * elements, dtype=torch.bfloat16, device=self.device)
        share = (size - 1) / size
        gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor  # its older name
        work: dict[str, tuple[Callable[[], object], float]] = {
            "all_reduce": (lambda: distributed.all_reduce(mine), 2 * share * mine.nbytes),
            "all_gather": (lambda: gather(whole, mine), share * whole.nbytes),
        }
        return {f"{name}_gb_a_s": round(sent / best_s(call) / 1e9, 2) for name, (call, sent) in work.items()}


def best_s(call: Callable[[], object], num_calls: int = 5) -> float:
    found = []
    for _ in range(num_calls):
        synchronize()
        began = time.perf_counter()
        call()
        synchronize()
        found.append(time.perf_counter() - began)
    return min(found)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Section:
    """Something to be measured.

    Attributes:
        name: in the report.
        expected_s: on the GPUs; it is left out where less is left.
        work: what every process does.
    """

    name: str
    expected_s: float
    work: Callable[[], Found]


def sections(bench: Bench) -> Iterator[Section]:
    """What is measured, the most wanted first."""
    everyone, single = bench.processes, alone(bench.processes)
    copies, divided = replace(everyone, shards=False), replace(everyone, shards=False, splits=everyone.size > 1)
    yield Section("link", 3, bench.link)
    yield Section("full", 25, bench.full)
    # Every GPU for itself, all at once: nobody waits for anybody, and all of them draw power as they do together.
    yield Section("lora_alone", 15, lambda: bench.lora(single))
    yield Section("lora_copies", 15, lambda: bench.lora(copies))
    if everyone.size > 1:
        yield Section("sequence_alone", 12, lambda: bench.lora(single, is_same=True))
        yield Section("sequence", 12, lambda: bench.lora(divided, is_same=True))
    yield Section("equality", 15, lambda: equality(everyone))
    yield Section("lora_shards", 18, lambda: bench.lora(everyone))


class Board:
    """Where processes tell each other between sections what comes next and what was found; the first one writes it.

    It needs no collective: one that failed in the middle of a section must not be taken for one that goes on.
    """

    def __init__(self, path: Path, processes: Processes, budget_s: float) -> None:
        self.path, self.processes, self.budget_s = path, processes, budget_s
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(
            address, port, is_master=False, timeout=timedelta(seconds=ANSWER_TIMEOUT_S), wait_for_workers=False
        )
        self.store = distributed.PrefixStore(f"train_gpus/{attempt}", store)
        self.found: Found = {"card": card(processes), "errors": {}, "seconds": {}}
        if processes.is_first and attempt != "0" and path.exists():
            self.found = json.loads(path.read_text())
            lost = self.found.pop("running", None)
            if lost is not None:
                self.keep(lost, "failed", "a process was lost, or waited too long for another; all began again")

    @property
    def elapsed_s(self) -> float:
        """Since the first start."""
        return float(time.time() - self.found["card"]["began_unix"])

    def begins(self, section: Section) -> bool:
        """Whether all begin a section; the first process decides."""
        key = f"{section.name}/begins"
        if self.processes.is_first:
            self.store.set(key, self._verdict(section))
        return bool(self.store.get(key) == b"yes")

    def _verdict(self, section: Section) -> str:
        if section.name in self.found:
            return "no"
        if self.elapsed_s + section.expected_s > self.budget_s:
            self.keep(section.name, f"left out: {self.budget_s:g} s are nearly over")
            return "no"
        self.keep("running", section.name)
        return "yes"

    def ends(self, section: Section, mine: Found, seconds: float) -> None:
        """Hand in what was found here; the first process waits for all, and writes.

        Raises:
            RuntimeError: some failed and some did not, or waited in vain: the group is of no more use.
        """
        self.store.set(f"{section.name}/{self.processes.rank}", json.dumps(mine))
        every = [json.loads(self.store.get(f"{section.name}/{rank}")) for rank in range(self.processes.size)]
        if self.processes.is_first:
            self._note(section, every, seconds)
        places = {one.get("place") for one in every}
        if len(places) > 1:
            raise RuntimeError(f"{section.name} did not end alike in all processes; they have to begin again")

    def _note(self, section: Section, every: list[Found], seconds: float) -> None:
        self.found.pop("running", None)
        self.found["seconds"][section.name] = round(seconds, 2)
        errors = {str(rank): f"{one['error']} ({one['place']})" for rank, one in enumerate(every) if "error" in one}
        if errors:
            self.keep(section.name, "failed", errors)
            return
        keys = ("ms_a_step", "mfu_per_gpu", "peak_gb", "reserved_gb", "kept_layers")
        by_gpu = {key: [one[key] for one in every] for key in keys if key in every[0]}
        self.keep(section.name, every[0] | {"by_gpu": by_gpu})

    def keep(self, name: str, values: Any, error: Any = None) -> None:
        """Write it down, and say it."""
        self.found[name] = values
        if error is not None:
            self.found["errors"][name] = error
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.found, indent=1) + "\n")
        if name != "running":
            print(f"{name}: {json.dumps(values if error is None else error)}", flush=True)


def card(processes: Processes) -> Found:
    is_gpu = processes.device.type == "cuda"
    return {
        "benchmark": "train_gpus",
        "date": time.strftime("%Y-%m-%d"),
        "began_unix": float(os.environ["TRAIN_GPUS_BEGAN_UNIX"]),
        "processes": processes.size,
        "hardware": torch.cuda.get_device_name() if is_gpu else f"cpu ({platform.machine()})",
        "torch": torch.__version__,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if is_gpu else None,
    }


def attempted(work: Callable[[], Found]) -> Found:
    """What the work gives, or its error and place."""
    try:
        return work()
    except Exception as error:  # the next section has to go on whatever happened
        last = traceback.extract_tb(error.__traceback__)[-1]
        return {"error": told(error), "place": f"{Path(last.filename).name}:{last.lineno}"}
    finally:
        release_memory()


def compare(found: Found, size: int) -> Found:
    """How many times faster than one GPU, how far from its loss and gradients, and what shards save."""
    compared: Found = {}
    for name, other, times in (
        ("lora_copies", "lora_alone", size), ("lora_shards", "lora_alone", size), ("sequence", "sequence_alone", 1)
    ):  # fmt: skip
        if have(found, name, other):
            compared[f"{name}_times_one_gpu"] = round(times * found[other]["ms_a_step"] / found[name]["ms_a_step"], 3)
    # Copies and shards of a frozen base hear and drop the same, and compute the same.
    for name, other in (("sequence", "sequence_alone"), ("lora_shards", "lora_copies")):
        for key in ("losses", "norms") if have(found, name, other) else ():
            pairs = zip(found[other][key], found[name][key], strict=True)
            compared[f"{name}_{key}_difference"] = [abs(a - b) / abs(a) for a, b in pairs]
    if have(found, "lora_shards", "lora_copies") and found["lora_copies"]["peak_gb"] is not None:
        compared["lora_shards_save_gb"] = round(found["lora_copies"]["peak_gb"] - found["lora_shards"]["peak_gb"], 2)
    return compared


def have(found: Found, *names: str) -> bool:
    """Whether all of these sections were measured."""
    return all(isinstance(found.get(name), dict) for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "out")) / "train_gpus.json")
    parser.add_argument("--only", help="sections by commas")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S)
    options = parser.parse_args()
    sizes = Sizes(TINY, windows=2, sounds=2, window_s=3.0, steps=4, rate=1e-3) if options.tiny else Sizes(ModelConfig())
    with joined(shards=True, timeout_s=GROUP_TIMEOUT_S) as processes:
        board = Board(options.out, processes, options.budget_s)
        bench = Bench(sizes, processes)
        if processes.is_first:
            board.keep("matmul_tflops", round(bench.flops_per_s / 1e12, 2))
        for section in sections(bench):
            if (options.only and section.name not in options.only.split(",")) or not board.begins(section):
                continue
            began = time.perf_counter()
            mine = attempted(section.work)
            board.ends(section, mine, time.perf_counter() - began)
        if processes.is_first:
            board.keep("compared", compare(board.found, processes.size))
            board.keep("total_s", round(board.elapsed_s, 1))


if __name__ == "__main__":
    main()
