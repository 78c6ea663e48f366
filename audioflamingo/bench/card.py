"""The card of a machine: what it is, and how quickly it copies and multiplies, measured now."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from audioflamingo.bench.timing import elapsed_s, release_memory, significant

GPU_BYTES, CPU_BYTES = 2 << 30, 256 << 20  # far beyond any cache
GPU_SIDE, CPU_SIDE = 8192, 1024  # of the matrices whose product is timed
NUM_WARMUPS, NUM_RUNS = 3, 10
FP8_CAPABILITY = (8, 9)
GIGA, TERA = 1e9, 1e12
PACKAGES = ("triton", "transformers", "numpy")


@dataclass(frozen=True)
class Rates:
    """What floors are computed from.

    Attributes:
        flops_per_s: of a large matrix product of random numbers in the dtype of the weights.
        fp8_flops_per_s: the same in fp8; None where the machine has none.
        copy_bytes_per_s: read and written, by copying within the device's memory.
        read_bytes_per_s: read only; on a GPU the copy's rate, which counts both directions.
        host_bytes_per_s: from pinned host memory to the GPU; on a CPU the copy's rate.
    """

    flops_per_s: float
    fp8_flops_per_s: float | None
    copy_bytes_per_s: float
    read_bytes_per_s: float
    host_bytes_per_s: float


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Time copies and matrix products; a few seconds."""
    copy = copy_rate(device)
    is_gpu = device.type == "cuda"
    rates = Rates(
        flops_per_s=matmul_rate(device, dtype),
        fp8_flops_per_s=fp8_rate(device) if is_gpu else None,
        copy_bytes_per_s=copy,
        read_bytes_per_s=copy if is_gpu else read_rate(),
        host_bytes_per_s=host_rate(device) if is_gpu else copy,
    )
    release_memory()
    return rates


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int | None = None) -> float:
    """Operations a second of a square matrix product; random numbers, since zeros run faster than any real weights."""
    side = side or (GPU_SIDE if device.type == "cuda" else CPU_SIDE)
    left, right = (torch.randn(side, side, device=device, dtype=torch.float32).to(dtype) for _ in range(2))
    return 2 * side**3 / _median_s(lambda: left @ right, device)


def fp8_rate(device: torch.device) -> float | None:
    """The same in fp8 with one scale a matrix; None where the GPU has no fp8."""
    if torch.cuda.get_device_capability(device) < FP8_CAPABILITY:
        return None
    left, right = (torch.randn(GPU_SIDE, GPU_SIDE, device=device).to(torch.float8_e4m3fn) for _ in range(2))
    scale = torch.ones((), device=device)

    def multiply() -> object:
        return torch._scaled_mm(left, right.t(), scale_a=scale, scale_b=scale, out_dtype=torch.bfloat16)

    return 2 * GPU_SIDE**3 / _median_s(multiply, device)


def copy_rate(device: torch.device, num_bytes: int | None = None) -> float:
    """Bytes a second, read and written."""
    num_bytes = num_bytes or (GPU_BYTES if device.type == "cuda" else CPU_BYTES)
    source, target = (torch.ones(num_bytes // 4, device=device) for _ in range(2))
    return 2 * num_bytes / _median_s(lambda: target.copy_(source), device)


def read_rate(num_bytes: int = CPU_BYTES) -> float:
    """Bytes a second of summing numbers on the CPU."""
    block = torch.ones(num_bytes // 4)
    return num_bytes / _median_s(block.sum, torch.device("cpu"))


def host_rate(device: torch.device, num_bytes: int = CPU_BYTES) -> float:
    """Bytes a second from pinned host memory to a GPU."""
    source = torch.ones(num_bytes // 4).pin_memory()
    target = torch.empty(num_bytes // 4, device=device)
    return num_bytes / _median_s(lambda: target.copy_(source), device)


def _median_s(work: Callable[[], object], device: torch.device) -> float:
    for _ in range(NUM_WARMUPS):
        work()
    return statistics.median(elapsed_s(work, device) for _ in range(NUM_RUNS))


@dataclass(frozen=True)
class Machine:
    """Names and sizes of what figures were measured on."""

    hardware: str
    device: str
    memory_gb: float
    processor: str
    num_cores: int
    num_threads: int
    python: str
    torch_version: str
    cuda: str | None
    packages: dict[str, str | None]
    load_before: float | None

    @classmethod
    def of(cls, device: torch.device) -> Machine:
        """The machine that this program runs on."""
        processor = processor_name()
        is_gpu = device.type == "cuda"
        return cls(
            hardware=torch.cuda.get_device_name(device) if is_gpu else processor,
            device=device.type,
            memory_gb=significant(_memory_bytes(device) / GIGA),
            processor=processor,
            num_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            num_threads=torch.get_num_threads(),
            python=platform.python_version(),
            torch_version=torch.__version__,
            cuda=torch.version.cuda,
            packages={name: _version(name) for name in PACKAGES},
            load_before=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        )


def make_card(machine: Machine, rates: Rates) -> dict[str, Any]:
    """Machine and rates as plain values, rates in units that people compare."""
    return asdict(machine) | {
        "matmul_tflops": significant(rates.flops_per_s / TERA),
        "fp8_tflops": significant(rates.fp8_flops_per_s / TERA) if rates.fp8_flops_per_s else None,
        "copy_gb_s": significant(rates.copy_bytes_per_s / GIGA),
        "read_gb_s": significant(rates.read_bytes_per_s / GIGA),
        "host_to_device_gb_s": significant(rates.host_bytes_per_s / GIGA),
    }


def processor_name() -> str:
    """The CPU's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
