"""Question: how fast is attention of packed sequences, ours in every plan, FlashAttention's and cuDNN's?

FlashAttention 2 is torch's own ("varlen"); its packages are measured where one is installed ("flash_attn").

Sequences as they come: prompts of 30 s, of 10 s, a single one, ten minutes; windows of sound of 10 s and of 30 s.

    python benchmarks/packed_attention.py [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kernels_common import Scale, median_us

from audioflamingo.model.attention import Kernel, Packing, attend, attention_kernel, has_flash_attn
from audioflamingo.model.kernels.packed_attention import PLANS, attend_packed

DECODER, ENCODER = (28, 4, 128, True), (20, 20, 64, False)
CASES = {
    "20 prompts of 790": (DECODER, (790,) * 20), "1 prompt of 790": (DECODER, (790,)),
    "8 prompts of 200 to 1,900": (DECODER, (200, 430, 790, 790, 1000, 1200, 1500, 1900)),
    "50 prompts of 290": (DECODER, (290,) * 50), "1 prompt of 15,040": (DECODER, (15_040,)),
    "20 windows of 10 s": (ENCODER, (500,) * 20), "64 windows of 3 s": (ENCODER, (150,) * 64),
    "1 window of 30 s": (ENCODER, (1500,)), "20 windows of 30 s": (ENCODER, (1500,) * 20),
}  # fmt: skip


def flops(lengths: tuple[int, ...], num_heads: int, head_dim: int, causal: bool) -> float:
    return sum(4.0 * length**2 * num_heads * head_dim for length in lengths) / (2 if causal else 1)


def cudnn(batch: list[Tensor], causal: bool) -> Tensor:
    """Of sequences of one length, which need no packing."""
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        shared = batch[0].shape[1] != batch[1].shape[1]
        out = functional.scaled_dot_product_attention(*batch, is_causal=causal, enable_gqa=shared)
    return out.transpose(1, 2).flatten(0, 1)


def measured(case: tuple[tuple[int, int, int, bool], tuple[int, ...]], scale: Scale) -> dict[str, Any]:
    (num_heads, num_kv_heads, head_dim, causal), lengths = case
    joint = scale.random(sum(lengths), num_heads + 2 * num_kv_heads, head_dim)
    query, key, value = joint.split([num_heads, num_kv_heads, num_kv_heads], dim=1)
    packing = Packing.of(lengths, query.device)
    offsets = packing.offsets

    def forced(kernel: Kernel) -> Tensor:
        with attention_kernel(kernel):
            return attend(query, key, value, packing, causal=causal)

    works: dict[str, Any] = {"varlen": partial(forced, "varlen")}
    if has_flash_attn():
        works["flash_attn"] = partial(forced, "flash_attn")
    if packing.is_uniform:
        batch = [x.view(len(lengths), -1, *x.shape[1:]).transpose(1, 2) for x in (query, key, value)]
        works["cudnn"] = partial(cudnn, batch, causal)
    for plan in PLANS[head_dim]:
        name = f"ours {plan.queries} {plan.block} {plan.warps} {plan.stages}"
        works[name] = partial(attend_packed, query, key, value, lengths, offsets, causal=causal, plan=plan)
    found, want = {}, works["varlen"]().float()
    for name, work in works.items():
        try:
            took = median_us(work, scale)
            error = float((work().float() - want).norm() / want.norm())
        except Exception as failure:
            found[name] = {"failed": str(failure)[:100]}
            continue
        rate = flops(lengths, num_heads, head_dim, causal) / took / 1e6
        found[name] = {"us": round(took, 1), "tflop_s": round(rate), "from varlen": f"{error:.1e}"}
    return found


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    folder = Path(os.environ.get("OUT", "/tmp"))
    parser.add_argument("--out", type=Path, default=folder / "packed_attention.json", help="JSON file to write")
    options = parser.parse_args()
    scale = Scale()
    found: dict[str, Any] = {"card": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name, case in CASES.items():
        found[name] = measured(case, scale)
        print(name, *(f"  {key:18s} {row}" for key, row in found[name].items()), sep="\n", flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
