"""Products of rows with a full-size matrix on a CPU: our kernels for stored weights beside torch's own.

The matrix is that of the gate, 18,944 x 3,584, or with --down the one behind it, 3,584 x 18,944, in several copies, so
that each product reads it from memory; ours lie in it as they do in a loaded model. "avx2" is our way for processors
without AVX-512. Times are
the processor's own (all threads together), the least of several, so that other programs count little; the rate is bytes
of the stored weight over that time, for one thread, beside that of a plain sum.
Prints a table and one last JSON line.   python benchmarks/cpu_products.py [--threads N] [--down] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch reads it
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.quantize import Scheme, native
from audioflamingo.model.quantize.linear import QuantizedLinear
from audioflamingo.model.quantize.schemes import GROUP, INT4_ZERO

WIDE, NARROW = 18_944, 3_584
NUM_COPIES = 4
NUM_TIMED = 12
NUM_ROWS = (1, 4, 64)
READ_VALUES = 64_000_000
Work = Callable[[Tensor], Tensor]


def own_s(work: Callable[[], object], num_timed: int = NUM_TIMED) -> float:
    """The least processor time, of all threads together."""
    times = []
    for _ in range(num_timed):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times)


def torch_int8(layer: QuantizedLinear) -> Work:
    scale = layer.scale.bfloat16()
    return lambda x: torch.ops.aten._weight_int8pack_mm(x.bfloat16(), layer.codes, scale).float()


def torch_int4(layer: QuantizedLinear) -> Work:
    steps = torch.stack((layer.codes & 15, layer.codes >> 4), dim=2).flatten(1).int()
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(steps, 1)
    zeros = torch.zeros_like(layer.scale.t())
    assert INT4_ZERO == 8  # torch's kernel subtracts as much
    scale_and_zero = torch.stack((layer.scale.t(), zeros), dim=2).contiguous()
    return lambda x: torch.ops.aten._weight_int4pack_mm_for_cpu(x.bfloat16(), packed, GROUP, scale_and_zero).float()


def loaded(scheme: Scheme, weight: Tensor) -> QuantizedLinear:
    """As in a loaded model: on huge pages, where the system has some."""
    (layer,) = QuantizedLinear.neighbours(scheme, [len(weight)], weight.shape[1], weight.device)
    layer.write_rows(0, weight)
    return layer


def ways(weight: Tensor) -> dict[str, tuple[int, Work]]:
    """Names to bytes of the weight and the product."""
    int8, int4 = loaded("int8", weight), loaded("int4", weight)
    short = weight.bfloat16()
    int8_bytes, int4_bytes = int8.codes.nbytes, int4.codes.nbytes + int4.scale.nbytes
    return {
        "fp32, torch": (weight.nbytes, lambda x: functional.linear(x, weight)),
        "bf16, torch": (short.nbytes, lambda x: functional.linear(x.bfloat16(), short).float()),
        "int8, torch": (int8_bytes, torch_int8(int8)),
        "int8, ours": (int8_bytes, int8),
        "int8, avx2": (int8_bytes, lambda x: native.product(int8, x, "avx2")),
        "int4, torch": (int4_bytes, torch_int4(int4)),
        "int4, ours": (int4_bytes, int4),
        "int4, avx2": (int4_bytes, lambda x: native.product(int4, x, "avx2")),
    }


def measure(num_outputs: int, num_inputs: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn((num_outputs, num_inputs), generator=generator) * 0.02
    copies = [ways(weight.clone()) for _ in range(NUM_COPIES)]
    rows = []
    for num_rows in NUM_ROWS:
        x = torch.randn((num_rows, num_inputs), generator=generator)
        expected = functional.linear(x, weight)
        for name, (num_bytes, work) in copies[0].items():
            error = float((work(x) - expected).norm() / expected.norm())
            turn = itertools.cycle([copy[name][1] for copy in copies])
            seconds = own_s(lambda turn=turn, x=x: next(turn)(x), NUM_TIMED if num_rows < 64 else 4)
            gmac = num_rows * weight.numel() / seconds / 1e9
            rows.append(
                {
                    "way": name,
                    "rows": num_rows,
                    "ms": round(seconds * 1e3, 2),
                    "gb_s": round(num_bytes / seconds / 1e9, 1),
                    "gmac_s": round(gmac, 1),
                    "error": round(error, 5),
                }
            )
            print(
                "{way:<12} rows {rows:<3} {ms:>9} ms {gb_s:>6} GB/s {gmac_s:>6} GMAC/s   error {error}".format(
                    **rows[-1]
                )
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--down", action="store_true")
    options = parser.parse_args()
    shape = (NARROW, WIDE) if options.down else (WIDE, NARROW)
    torch.set_num_threads(options.threads)
    block = torch.ones(READ_VALUES)
    rate = round(4 * READ_VALUES / own_s(block.sum) / 1e9, 1)
    print(f"a sum reads {rate} GB/s of processor time, {options.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    card = {
        "benchmark": "cpu_products",
        "date": datetime.now(UTC).date().isoformat(),
        "torch": torch.__version__,
        "threads": options.threads,
        "shape": shape,
        "sum_gb_s": rate,
        "load": round(os.getloadavg()[0], 1),
    }
    line = json.dumps({"card": card, "rows": measure(*shape)})
    if options.out:
        options.out.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
