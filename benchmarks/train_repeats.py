"""Whether equal training steps give equal bits on this machine, and which gradients differ where they do not.

    python benchmarks/train.py --only repeats --out /tmp/repeats.json

Each case is trained three times from the same weights and seed, as it is, with torch's deterministic mode set to warn,
and with `train.deterministic`, which is what `flamingo train --seed N` uses. Compared are the losses and gradients of
the first step and what is trained after the second.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audioflamingo.train.collate import PackedBatch
from audioflamingo.train.deterministic import deterministic_kernels
from audioflamingo.train.parts import trained
from audioflamingo.train.stages import Stage
from audioflamingo.train.updates import Updates

NUM_RUNS, NUM_STEPS = 3, 2
NUM_SHOWN = 12
RATE = 1e-4


@dataclass(frozen=True)
class Trained:
    """What is run again and again.

    Attributes:
        stage: how.
        pack: what is heard in every step.
        fresh: gives the loss of a new model, the same each time.
    """

    stage: Stage
    pack: PackedBatch
    fresh: Callable[[], nn.Module]


@dataclass(frozen=True)
class Bits:
    """What a run left: losses, gradients of the first step, trained parameters after the last."""

    losses: tuple[float, ...]
    gradients: Mapping[str, Tensor]
    ends: Mapping[str, Tensor]


def repeats(cases: Mapping[str, Trained]) -> dict[str, Any]:
    """Of every case and mode what was equal, and the names of what was not."""
    return {name: {mode: _compared(case, mode) for mode in MODES} for name, case in cases.items()}


@contextlib.contextmanager
def warn_only() -> Iterator[None]:
    """The mode in which torch says what does not repeat, and lets it be."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "as_it_is": contextlib.nullcontext,
    "warn_only": warn_only,
    "deterministic": deterministic_kernels,
}


def _compared(case: Trained, mode: str) -> dict[str, Any]:
    with MODES[mode](), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            first, *others = [_run(case) for _ in range(NUM_RUNS)]
        except RuntimeError as error:
            return {"refused": str(error)[:200]}
    differing: dict[str, float] = {}
    for other in others:
        for name, gradient in first.gradients.items():
            if not torch.equal(gradient, other.gradients[name]):
                apart = float((gradient - other.gradients[name]).norm() / gradient.norm())
                differing[name] = max(apart, differing.get(name, 0.0))
    found = {
        "gradients_equal": not differing,
        "losses_equal": all(first.losses == other.losses for other in others),
        "ends_equal": all(torch.equal(end, other.ends[name]) for other in others for name, end in first.ends.items()),
        "num_differing": f"{len(differing)} of {len(first.gradients)}",
        "largest_relative_difference": max(differing.values(), default=0.0),
        "differing": sorted(differing, key=lambda name: -differing[name])[:NUM_SHOWN],
        "same": sorted(set(first.gradients) - set(differing))[:NUM_SHOWN] if differing else "all",
        "warned": sorted({str(one.message).split(".")[0][:120] for one in warned if "determinis" in str(one.message)}),
    }
    return {"equal": all(found[f"{what}_equal"] for what in ("gradients", "losses", "ends")), **found}


def _run(case: Trained) -> Bits:
    torch.manual_seed(0)
    loss = case.fresh()
    parameters = trained(loss)
    for parameter in parameters.values():  # in weights that are shared nothing may change
        parameter.data = parameter.data.clone()
    updates = Updates(parameters, case.stage)
    losses, gradients = [], {}
    for step in range(NUM_STEPS):
        total = loss(case.pack)
        torch.autograd.backward(total / case.pack.num_targets)
        updates.collect()
        if not step:
            gradients = {name: gradient.clone() for name, gradient in updates.gradients().items()}
        updates.step(updates.gradients(), RATE)
        losses.append(float(total.detach()))
    return Bits(tuple(losses), gradients, {name: one.detach().clone() for name, one in updates.masters.items()})
