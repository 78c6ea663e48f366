"""Question: which way of a decode step's products over weights of four and eight bits is the fastest, and by how much?

Every layer of the full-size decoder in every plan, from a cold cache, each beside an fp32 twin; plans are compiled by
many processes first. Layers are saved and printed as they come, then what a step's products take in the best plans,
of all ways, without "digits" and "codes", and without "places" either.

Run: python benchmarks/kernels_few_bits.py [--kinds int4 int8] [--rows 1 8] [--ops gate_up ...] [--seconds 75]
[--out FILE] ; TRITON_INTERPRET=1 and --tiny for a CPU
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels_common import Scale
from kernels_linear import OPS, Job, compile_all, measure

WHOLE = ("digits", "codes")  # ways in which weights go to the matrix units as they are stored


def main() -> None:
    options = parse_options()
    scale = Scale.tiny() if options.tiny else Scale()
    jobs = [Job(kind, op, rows) for rows in options.rows for kind in options.kinds for op in options.ops]
    start = time.monotonic()
    name = torch.cuda.get_device_name() if scale.is_gpu else "cpu"
    found: dict[str, Any] = {"card": name, "torch": torch.__version__, "layers": {}}
    found["failed"] = compile_all(scale, jobs)
    print(f"compiled in {time.monotonic() - start:.0f} s, failed: {found['failed']}", flush=True)
    with torch.inference_mode():
        for job in jobs:
            if time.monotonic() - start > options.seconds:
                found["cut"] = f"time was up before {job}"
                break
            layer = found["layers"][f"{job.kind} {job.op} x{job.num_rows}"] = measure(job, scale)
            if "us" not in layer["plans"][0]:
                raise SystemExit(f"{job}: no plan runs, the first for this: {layer['plans'][0]['failed']}")
            tell(job, layer["plans"])
            save(found, options.out)
    found["seconds"] = round(time.monotonic() - start, 1)
    found["steps"] = steps(jobs, found["layers"], scale)
    save(found, options.out)
    print(json.dumps({key: value for key, value in found.items() if key != "layers"}, indent=1))


def tell(job: Job, plans: list[dict[str, Any]]) -> None:
    print(f"{job.kind} {job.op} x{job.num_rows}")
    for row in [*plans[:3], *without(plans, *WHOLE)[:1], *without(plans, *WHOLE, "places")[:1]]:
        print("   ", row, flush=True)


def without(plans: list[dict[str, Any]], *ways: str) -> list[dict[str, Any]]:
    """What ran in other ways than these."""
    return [row for row in plans if not row["plan"].startswith(ways) and "us" in row]


def steps(jobs: list[Job], layers: dict[str, Any], scale: Scale) -> dict[str, Any]:
    """Milliseconds of all products of a step, of kinds and rows whose layers all were measured."""
    found: dict[str, Any] = {}
    for kind, rows in dict.fromkeys((job.kind, job.num_rows) for job in jobs):
        names = {op: f"{kind} {op} x{rows}" for op in OPS}
        if set(names.values()) <= set(layers):
            plans = {op: layers[name]["plans"] for op, name in names.items()}
            found[f"{kind} x{rows}"] = {
                "ms": total_ms({op: rows[0] for op, rows in plans.items()}, scale),
                "ms without whole numbers": total_ms(
                    {op: without(rows, *WHOLE)[0] for op, rows in plans.items()}, scale
                ),
                "ms without whole numbers and places": total_ms(
                    {op: without(rows, *WHOLE, "places")[0] for op, rows in plans.items()}, scale
                ),
                "plans": {op: rows[0]["plan"] for op, rows in plans.items()},
            }
    return found


def total_ms(best: dict[str, dict[str, Any]], scale: Scale) -> float:
    num_layers = scale.config.decoder.num_layers
    return round(sum(row["us"] * (1 if op == "head" else num_layers) for op, row in best.items()) / 1e3, 3)


def save(found: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="*", default=["int4", "int8"], choices=["int4", "int8", "fp8"])
    parser.add_argument("--rows", nargs="*", type=int, default=[1, 8], help="sequences of a step")
    parser.add_argument("--ops", nargs="*", default=list(OPS), choices=OPS, help="layers")
    parser.add_argument("--seconds", type=float, default=75, help="no layer is begun after so long")
    folder = Path(os.environ.get("OUT", "/tmp"))
    parser.add_argument("--out", type=Path, default=folder / "kernels_few_bits.json", help="JSON file to write")
    parser.add_argument("--tiny", action="store_true", help="small sizes, for a CPU")
    return parser.parse_args()


if __name__ == "__main__":
    main()
