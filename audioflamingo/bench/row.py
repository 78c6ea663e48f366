"""One row of the table: what is measured, in which unit, beside whom, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audioflamingo.bench.card import Rates
from audioflamingo.bench.floors import Work
from audioflamingo.bench.timing import Plan, Spread, significant

SECONDS_PER_UNIT = {"ms": 1e-3, "s": 1.0}
RATE_UNITS = ("s of audio per s", "tokens/s")  # the more the better
MEMORY_UNIT = "GB"
UNITS = (*SECONDS_PER_UNIT, *RATE_UNITS, MEMORY_UNIT)
OURS, PEER = "ours", "transformers"


@dataclass(frozen=True)
class Row:
    """A row to be measured.

    Attributes:
        key: stable name, by which reports of several days are compared.
        section: what `flamingo bench` calls its part.
        work: what is done, in words, sizes included.
        unit: one of `UNITS`.
        ours: how we are measured.
        peer: how transformers' class is, or None.
        cost: operations and bytes, from which floor, MFU and MBU follow; None where none is known.
        floor: the floor itself where it is no matter of passes over weights, in the row's unit.
        amount: of a rate, what is done within the time of `cost`: seconds of audio, or tokens.
        goal: of the project's targets, in the row's unit, or None.
    """

    key: str
    section: str
    work: str
    unit: str
    ours: Plan
    peer: Plan | None = None
    cost: Work | None = None
    floor: float | None = None
    amount: float = 1.0
    goal: float | None = None

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit in RATE_UNITS

    def plans(self) -> dict[str, Plan]:
        """What is to be measured by turns."""
        return {OURS: self.ours} | ({PEER: self.peer} if self.peer else {})

    def seconds(self, figure: float) -> float:
        """Time of the whole work that a figure means."""
        return self.amount / figure if self.is_rate else figure * SECONDS_PER_UNIT[self.unit]

    def floor_on(self, rates: Rates) -> float | None:
        """The floor in the row's unit."""
        if self.cost is None:
            return self.floor
        floor_s = self.cost.floor_s(rates)
        return self.amount / floor_s if self.is_rate else floor_s / SECONDS_PER_UNIT[self.unit]

    def record(self, spreads: Mapping[str, Spread], rates: Rates) -> dict[str, Any]:
        """What came of it, as plain values; None wherever something was not measured."""
        ours, peer = (_median(spreads.get(name)) for name in (OURS, PEER))
        floor = self.floor_on(rates)
        return {
            "key": self.key,
            "section": self.section,
            "work": self.work,
            "unit": self.unit,
            OURS: _values(spreads.get(OURS)),
            PEER: _values(spreads.get(PEER)),
            "amount": self.amount,
            "floor": _rounded(floor),
            "goal": self.goal,
            "flops": self.cost.flops if self.cost else None,
            "bytes": self.cost.num_bytes if self.cost else None,
            "mfu": self._share("mfu", ours, rates),
            "mbu": self._share("mbu", ours, rates),
            "ratio": _rounded(self._times_better(ours, peer)),
            "of_floor": _rounded(self._times_better(floor, ours)),
        }

    def _share(self, name: str, figure: float | None, rates: Rates) -> float | None:
        if self.cost is None or figure is None:
            return None
        return _rounded(getattr(self.cost, name)(self.seconds(figure), rates))

    def _times_better(self, figure: float | None, other: float | None) -> float | None:
        """How many times better a figure is than another one."""
        if not figure or not other:
            return None
        return figure / other if self.is_rate else other / figure


def _median(spread: Spread | None) -> float | None:
    return None if spread is None or spread.error is not None else spread.median


def _values(spread: Spread | None) -> dict[str, float | int] | None:
    return None if spread is None else spread.as_dict()


def _rounded(value: float | None) -> float | None:
    return None if value is None else significant(value)
