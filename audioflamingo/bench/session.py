"""From options to a report: device, model, peer, machine's rates, then the sections."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, cast, get_args

import torch

from audioflamingo.bench.card import Machine, make_card, measure_rates
from audioflamingo.bench.command import ALL, SECTIONS
from audioflamingo.bench.context import Context
from audioflamingo.bench.material import SCALES, Material
from audioflamingo.bench.random_weights import RANDOM_MODELS
from audioflamingo.bench.reference import Reference
from audioflamingo.bench.report import card_text, heading
from audioflamingo.bench.run import Run
from audioflamingo.bench.subject import make_subject, model_card
from audioflamingo.bench.timing import Clock
from audioflamingo.engine.scheduler import CacheKind
from audioflamingo.errors import OptionError
from audioflamingo.model.quantize import SCHEMES, Scheme

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPU_SECTION = "cpu"


@dataclass(frozen=True)
class Order:
    """What is to be measured; every value is allowed.

    Attributes:
        sections: in their order.
        model: its name.
        device: where.
        dtype: of the weights.
        scale: name of the sizes.
        beside: whether transformers' class is measured too.
        quantize: of our decoder's weights.
        kv_cache: of our engine.
        budget_s: of the whole run.
        threads: of the CPU.
        out: file or folder of the report.
    """

    sections: tuple[str, ...]
    model: str
    device: torch.device
    dtype: torch.dtype
    scale: str
    beside: bool = False
    quantize: Scheme | None = None
    kv_cache: CacheKind = "plain"
    budget_s: float | None = None
    threads: int | None = None
    out: Path | None = None


def read_order(arguments: argparse.Namespace) -> Order:
    """Options as they were given.

    Raises:
        OptionError: one of them is not allowed.
    """
    device = _device(arguments.device, arguments.sections)
    is_gpu = device.type == "cuda"
    dtype = arguments.dtype or ("bfloat16" if is_gpu else "float32")
    scale = arguments.scale or ("full" if is_gpu else "cpu")
    _allowed("dtype", dtype, tuple(DTYPES))
    _allowed("scale", scale, tuple(SCALES))
    if arguments.quantize is not None:
        _allowed("quantize", arguments.quantize, SCHEMES)
    kv_cache = arguments.kv_cache or "plain"
    _allowed("kv_cache", kv_cache, get_args(CacheKind))
    for name in ("budget_s", "threads"):
        value = getattr(arguments, name)
        if value is not None and not value > 0:
            raise OptionError(f"{name} is {value}, allowed: above 0")
    return Order(
        sections=_sections(arguments.sections, arguments.model, device),
        model=arguments.model,
        device=device,
        dtype=DTYPES[dtype],
        scale=scale,
        beside=arguments.beside is not None,
        quantize=arguments.quantize,
        kv_cache=cast("CacheKind", kv_cache),
        budget_s=arguments.budget_s,
        threads=arguments.threads,
        out=_writable(arguments.out),
    )


def measure(order: Order, say: Callable[[str], object]) -> dict[str, Any]:
    """Measure all sections; returns the report.

    Raises:
        FlamingoError: the model cannot be had, or transformers is asked for and not installed.
    """
    clock = Clock(order.budget_s)
    if order.threads is not None:
        torch.set_num_threads(order.threads)
    machine = Machine.of(order.device)
    subject = make_subject(
        order.model,
        order.device,
        order.dtype,
        quantize=order.quantize,
        kv_cache=order.kv_cache,
        with_reference=order.beside,
    )
    peer = Reference(subject.reference) if order.beside else None
    rates = measure_rates(order.device, order.dtype)
    context = Context(subject, peer, rates, SCALES[order.scale], Material(subject.config))
    say(card_text(make_card(machine, rates), model_card(subject)))
    say(heading())
    return Run(context, machine, clock, order.out, say).sections(list(order.sections))


def _device(name: str | None, sections: list[str]) -> torch.device:
    if name is None:
        name = "cuda" if torch.cuda.is_available() and list(sections) != [CPU_SECTION] else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {name!r} is not available here") from error
    return device


def _sections(names: list[str], model: str, device: torch.device) -> tuple[str, ...]:
    for name in names:
        _allowed("section", name, (*SECTIONS, ALL))
    if names and ALL not in names:
        return tuple(dict.fromkeys(names))
    has_commands = device.type == "cpu" and model not in RANDOM_MODELS
    return tuple(name for name in SECTIONS if name != CPU_SECTION or has_commands)


def _writable(out: Path | None) -> Path | None:
    """The same, if a report can be written there: better told now than after minutes of measuring.

    Raises:
        OptionError: it cannot.
    """
    if out is None:
        return None
    folder = out if out.is_dir() else out.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return out
    except OSError as error:
        raise OptionError(
            f"out {str(out)!r} cannot be written ({error.strerror}); give a file or a folder that can be"
        ) from error


def _allowed(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"{name} is {value!r}, allowed: {', '.join(allowed)}")
