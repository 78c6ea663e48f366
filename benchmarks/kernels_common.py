"""What the parts of `kernels.py` share: sizes, timing, errors, profiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig

NUM_PROFILED_ROWS = 15
INIT_STD = 0.02


def _nothing(values: Any) -> None:
    """Until a section saves for itself."""


@dataclass
class Scale:
    """Sizes of everything that is run."""

    config: ModelConfig = field(default_factory=ModelConfig)
    device: str = "cuda"
    dtype: torch.dtype = torch.bfloat16
    num_copied_bytes: int = 2 << 30
    matrix_size: int = 8192
    batches: tuple[int, ...] = (1, 8, 64)
    contexts: tuple[int, ...] = (790, 15_040)
    prefills: tuple[int, ...] = (780, 15_040)
    max_cache_tokens: int = 70_000
    num_repeats: int = 11
    num_steps: int = 20
    save: Callable[[Any], None] = _nothing

    @classmethod
    def tiny(cls) -> Scale:
        """For a CPU."""
        decoder = DecoderConfig(
            vocab_size=512, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256,
            max_positions=256,
        )  # fmt: skip
        return cls(
            config=ModelConfig(EncoderConfig(width=64, num_layers=2, num_heads=2, ffn_width=64), decoder, 500),
            device="cpu", dtype=torch.float32, num_copied_bytes=1 << 20, matrix_size=128, batches=(1, 3),
            contexts=(40, 100), prefills=(20, 70), max_cache_tokens=400, num_repeats=2, num_steps=2,
        )  # fmt: skip

    @property
    def is_gpu(self) -> bool:
        """Whether events time it."""
        return self.device == "cuda"

    def random(self, *shape: int, std: float = 1.0) -> Tensor:
        """Normal numbers."""
        return torch.randn(*shape, device=self.device, dtype=torch.float32).mul_(std).to(self.dtype)


def median_us(work: Callable[[], object], scale: Scale, num_repeats: int | None = None) -> float:
    """Median time of the work alone, in microseconds, after two warm-ups."""
    for _ in range(2):
        work()
    return statistics.median(_one_us(work, scale.is_gpu) for _ in range(num_repeats or scale.num_repeats))


def _one_us(work: Callable[[], object], is_gpu: bool) -> float:
    if not is_gpu:
        begin = time.perf_counter()
        work()
        return (time.perf_counter() - begin) * 1e6
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3


def relative(out: Tensor, reference: Tensor) -> float:
    """Norm of the error over that of the reference; NaN stays NaN."""
    out, reference = out.double(), reference.double()
    return float((out - reference).norm() / reference.norm())


def profile(work: Callable[[], object], scale: Scale) -> str:
    """The kernels that took the most time, as a table."""
    if not scale.is_gpu:
        return ""
    from torch.profiler import ProfilerActivity

    work()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda row: -row.self_device_time_total)
    total = sum(row.self_device_time_total for row in rows)
    lines = [
        f"{row.self_device_time_total:10.1f} us {row.count:5d} x {row.key[:90]}" for row in rows[:NUM_PROFILED_ROWS]
    ]
    return "\n".join([f"{total:10.1f} us in all", *lines])
