"""What the sections share: the subject, its peer, the machine's rates, sizes and a source of sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from audioflamingo.bench.card import GIGA, Rates
from audioflamingo.bench.floors import ModelCost
from audioflamingo.bench.goals import goal_of
from audioflamingo.bench.material import Material, Scale
from audioflamingo.bench.reference import Reference
from audioflamingo.bench.subject import Subject
from audioflamingo.bench.timing import Plan, Sample


@dataclass(frozen=True)
class Context:
    """What is measured, on what, how large.

    Attributes:
        subject: the model.
        peer: transformers' class, or None.
        rates: of the machine.
        scale: sizes.
        material: sounds and prompts.
        scratch: a folder for files that are read back; None for the system's own.
    """

    subject: Subject
    peer: Reference | None
    rates: Rates
    scale: Scale
    material: Material
    scratch: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.subject.device

    @property
    def cost(self) -> ModelCost:
        """What the model's passes cost."""
        return self.subject.cost

    def goal(self, key: str) -> float | None:
        """The project's target for a row of this model on this kind of machine."""
        return goal_of(key, self.subject.config, self.device.type, self.subject.quantize)

    def ours(self, build: Callable[[], Sample], num_warmups: int = 1) -> Plan:
        """A plan with as many figures as the scale says."""
        return Plan(build, self.scale.num_runs, num_warmups)

    def theirs(self, build: Callable[[Reference], Sample]) -> Plan | None:
        """The same for the peer; None without one."""
        peer = self.peer
        if peer is None:
            return None
        return Plan(lambda: build(peer), self.scale.num_peer_runs)

    @property
    def weights_gb(self) -> float:
        """Our weights in memory."""
        return self.cost.total_bytes / GIGA
