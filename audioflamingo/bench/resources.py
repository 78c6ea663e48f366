"""Rows of memory and of loading."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from audioflamingo.bench.answering import prompt_tokens
from audioflamingo.bench.card import GIGA
from audioflamingo.bench.context import Context
from audioflamingo.bench.random_weights import assembled, random_state
from audioflamingo.bench.reference import Reference
from audioflamingo.bench.row import Row
from audioflamingo.bench.timeline import answer_all
from audioflamingo.bench.timing import Plan, Sample, elapsed_s, release_memory
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights import load_flamingo, save_flamingo

NUM_TOKENS = 16
SHARED_MEMORY = Path("/dev/shm")
PROC = Path("/proc/self")
RESET_PEAK = "5"  # what the kernel wants to read in clear_refs
SPARE = 1.2
CACHE_STEP = 256  # positions; whole pieces of the cache


def memory(context: Context) -> Iterator[Row]:
    """Most memory that one question about the long sound takes, weights included."""
    scale, material = context.scale, context.material
    num_tokens = prompt_tokens(scale.long_s) + NUM_TOKENS

    def ours() -> float:
        context.subject.drop_engine()
        prompt = material.prompt(material.sound(scale.long_s))

        def ask() -> object:
            return answer_all(context.subject.new_engine(1, _rounded_up(num_tokens)), [prompt], NUM_TOKENS)

        return context.weights_gb + growth_bytes(ask, context.device) / GIGA

    def theirs(peer: Reference) -> Sample:
        weights_gb = sum(one.numel() * one.element_size() for one in peer.model.parameters()) / GIGA
        inputs = peer.inputs(material.prompts([scale.long_s]))
        return lambda: weights_gb + growth_bytes(lambda: peer.generate(inputs, NUM_TOKENS), context.device) / GIGA

    yield Row(
        key="peak_memory",
        section="memory",
        work=f"peak memory, {scale.long_s:g} s, batch 1",
        unit="GB",
        ours=Plan(lambda: ours, 1),
        peer=Plan(peer.build, 1) if (peer := context.theirs(theirs)) else None,
        floor=context.weights_gb + num_tokens * context.cost.cache_bytes_per_token / GIGA,
        goal=context.goal("peak_memory"),
    )


def _rounded_up(num_tokens: int) -> int:
    return -(-num_tokens // CACHE_STEP) * CACHE_STEP


def growth_bytes(work: Callable[[], object], device: torch.device) -> int:
    """How far memory in use rises above what it is now while `work` runs.

    Raises:
        OSError: this system does not tell a program's own peak.
        AttributeError: likewise.
    """
    release_memory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    ctypes.CDLL(None).malloc_trim(0)  # what was freed but not given back would hide what is taken
    (PROC / "clear_refs").write_text(RESET_PEAK)
    before = _resident_bytes("VmRSS")
    work()
    return _resident_bytes("VmHWM") - before


def _resident_bytes(name: str) -> int:
    for line in (PROC / "status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"{PROC}/status does not tell {name}")


def load(context: Context) -> Iterator[Row]:
    """From a folder whose files lie in the system's memory to a model on its device."""
    subject, device = context.subject, context.device
    num_bytes = context.cost.total_bytes
    with _folder(context) as folder:

        def ours() -> float:
            subject.drop_engine()
            release_memory()
            stored = folder()
            return elapsed_s(
                lambda: load_flamingo(stored, device=device, dtype=subject.model.dtype, quantize=subject.quantize),
                device,
            )

        def theirs(peer: Reference) -> Sample:
            loading = peer.loader(folder())

            def sample() -> float:
                release_memory()
                return elapsed_s(loading, device)

            return sample

        yield Row(
            key="load",
            section="load",
            work=f"load {num_bytes / GIGA:.1f} GB, files in memory",
            unit="s",
            ours=Plan(lambda: ours, context.scale.num_peer_runs),
            peer=context.theirs(theirs),
            floor=num_bytes / context.rates.host_bytes_per_s,
            goal=context.goal("load"),
        )


@contextmanager
def _folder(context: Context) -> Iterator[Callable[[], Path]]:
    """A function that gives the checkpoint's folder; random weights are written at its first call."""
    subject = context.subject
    if subject.folder is not None:
        own = subject.folder
        yield lambda: own
        return
    with tempfile.TemporaryDirectory(dir=context.scratch or _scratch(context.cost.total_bytes)) as root:
        place = Path(root) / "random"

        def folder() -> Path:
            if not place.exists():
                is_plain = subject.quantize is None
                save_flamingo(subject.model if is_plain else _unquantised(context), place)
                release_memory()
            return place

        yield folder


def _unquantised(context: Context) -> Flamingo:
    config = context.subject.config
    return assembled(config, random_state(config, context.device))


def _scratch(num_bytes: int) -> Path | None:
    """Files in shared memory need no disk; None, the system's own place, where it has no room."""
    is_roomy = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > SPARE * num_bytes
    return SHARED_MEMORY if is_roomy else None
