"""Question: how far is every kernel of the GPU's fast path from what the card can do, and is what it computes right?

Sections, each saved as soon as it is there: ceilings; every kernel against its twin in fp64; linear layers of the
full-size decoder in every plan; a decode step by graph; prefill; the encoder; prompts and windows by graph; a second
question behind a long past; steps and prefill with weights in fewer bits, and plans tried within whole steps. Weights
are random, never zeros.

Run: python benchmarks/kernels.py [--out FILE] [--only SECTION ...] ; python benchmarks/kernels.py --tiny (CPU, seconds)
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kernels_checks as checks
import kernels_linear as linear
import kernels_model as whole
import kernels_prompt as prompt
import kernels_steps as steps
from kernels_common import Scale, median_us

Section = Callable[[Scale], Any]


SECTIONS: dict[str, Section] = {}  # filled below, where the functions are known
# Each group has a process of its own: an illegal access ends one, not the others.
GROUPS = (
    ("compile", "ceilings", "checks"),
    ("decode",),
    ("encoder", "prefill", "graphs"),
    ("second_question",),
    ("steps",),
    ("linear", "linear_quantised", "attention"),
)
GROUP_TIMEOUT_S = 170


def main() -> None:
    options = parse_options()
    if options.tiny or options.only:
        scale = Scale.tiny() if options.tiny else Scale()
        names = options.only or list(SECTIONS)
        print(json.dumps(run(scale, names, options.out)))
        return
    merged: dict[str, Any] = {"card": card(), "seconds": {}, "errors": {}}
    for group in GROUPS:
        run_apart(group, options.out.with_suffix(f".{group[0]}.json"), merged)
        options.out.write_text(json.dumps(merged, indent=1) + "\n")
    print(json.dumps({key: merged[key] for key in ("card", "seconds", "errors")}))


def run(scale: Scale, names: list[str], out: Path) -> dict[str, Any]:
    """These sections in this process."""
    torch.manual_seed(int(time.time()))  # fresh inputs in every run
    found: dict[str, Any] = {"card": card(), "seconds": {}, "errors": {}}
    with torch.inference_mode():
        for name in names:
            attempt(found, name, SECTIONS[name], scale, out)
    return {key: found[key] for key in ("card", "seconds", "errors")}


def run_apart(group: tuple[str, ...], part: Path, merged: dict[str, Any]) -> None:
    """A group in a process of its own, and what it saved added to the rest."""
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            [sys.executable, __file__, "--out", str(part), "--only", *group], timeout=GROUP_TIMEOUT_S, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        merged["errors"][f"group {group[0]}"] = str(error)[:500]
    if part.exists():
        found = json.loads(part.read_text())
        for key in ("seconds", "errors"):
            merged[key] |= found.pop(key)
        merged |= found


def attempt(found: dict[str, Any], name: str, work: Section, scale: Scale, out: Path) -> None:
    start = time.perf_counter()
    scale.save = lambda values: save(found, name, values, out)
    try:
        found[name] = work(scale)
    except Exception:  # one section's failure must not lose the others
        found["errors"][name] = traceback.format_exc()[-3000:]
        print(name, "FAILED\n", found["errors"][name], flush=True)
    found["seconds"][name] = round(time.perf_counter() - start, 1)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    save(found, name, found.get(name), out)
    print(f"== {name}: {found['seconds'][name]} s", flush=True)


def save(found: dict[str, Any], name: str, values: Any, out: Path) -> None:
    found[name] = values
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1, default=str) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    folder = Path(os.environ.get("OUT", "/tmp"))
    parser.add_argument("--out", type=Path, default=folder / "kernels.json", help="JSON file to write")
    parser.add_argument("--only", nargs="*", help="sections to run")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a CPU")
    return parser.parse_args()


def card() -> dict[str, Any]:
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"hardware": name, "torch": torch.__version__}


def ceilings(scale: Scale) -> dict[str, float]:
    """Copy (bytes read and written) and read bandwidth in TB/s, matrix rate in TFLOP/s."""
    source = torch.randint(-100, 100, (scale.num_copied_bytes,), dtype=torch.int8, device=scale.device)
    target = torch.empty_like(source)
    copy_us = median_us(lambda: target.copy_(source), scale)
    words = source.view(torch.int32)
    read_us = median_us(lambda: words.max(), scale)
    size = scale.matrix_size
    a, b = (torch.randn(size, size, device=scale.device, dtype=scale.dtype) for _ in range(2))
    product_us = median_us(lambda: a @ b, scale)
    found = {
        "copy_tb_s": 2 * source.numel() / copy_us / 1e6,
        "read_tb_s": source.numel() / read_us / 1e6,
        "matrix_tflop_s": 2 * size**3 / product_us / 1e6,
    }
    print(found)
    return found


SECTIONS |= {
    "compile": linear.compile_all,
    "ceilings": ceilings,
    "checks": checks.small_kernels,
    "linear": linear.all_plans,
    "decode": whole.decode,
    "prefill": whole.prefill,
    "encoder": whole.encoder,
    "graphs": prompt.graphs,
    "second_question": prompt.second_question,
    "steps": steps.steps,
    "linear_quantised": linear.quantised_plans,
    "attention": checks.attention_times,
}

if __name__ == "__main__":
    main()
