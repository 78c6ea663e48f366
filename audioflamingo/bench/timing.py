"""Samples of a duration, ours and the peer's by turns, until a budget is used up."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch

Sample = Callable[[], float]  # prepares, does the work once, and gives one figure in its row's unit
MAX_ERROR_CHARS = 300
DIGITS = 4
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """How often something is measured: first unmeasured calls, then at most `num_runs` figures."""

    build: Callable[[], Sample]
    num_runs: int
    num_warmups: int = 1


@dataclass(frozen=True)
class Spread:
    """What came of a plan: median and extremes of `num_runs` figures, or the error that ended it."""

    figures: tuple[float, ...] = ()
    num_warmups: int = 0
    error: str | None = None

    @property
    def median(self) -> float | None:
        """None where nothing was measured."""
        return statistics.median(self.figures) if self.figures else None

    def as_dict(self) -> dict[str, float | int] | None:
        """Plain values, rounded to four significant digits; None where nothing was measured."""
        if self.error is not None or not self.figures:
            return None
        values = {"median": statistics.median(self.figures), "min": min(self.figures), "max": max(self.figures)}
        counts = {"n": len(self.figures), "warmups": self.num_warmups}
        return {name: significant(value) for name, value in values.items()} | counts


class Clock:
    """Time since it was made, against a budget."""

    def __init__(self, budget_s: float | None = None) -> None:
        self._began = time.perf_counter()
        self.budget_s = budget_s

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was made."""
        return time.perf_counter() - self._began

    @property
    def is_over(self) -> bool:
        """Whether the budget is used up."""
        return self.budget_s is not None and self.elapsed_s >= self.budget_s


@dataclass
class _Runner:
    """One plan on its way; an error ends it and keeps what it says."""

    plan: Plan
    sample: Sample | None = None
    figures: list[float] = field(default_factory=list)
    num_calls: int = 0
    error: str | None = None

    @property
    def is_done(self) -> bool:
        return self.error is not None or self.num_calls >= self.plan.num_warmups + self.plan.num_runs

    def call(self) -> None:
        try:
            self.sample = self.sample or self.plan.build()
            figure = _checked(self.sample())
        except Exception as error:  # a kernel that this build lacks, no memory: the other rows go on
            self.error, self.sample = told(error), None
            release_memory()
            return
        self.num_calls += 1
        if self.num_calls > self.plan.num_warmups:
            self.figures.append(figure)

    def spread(self) -> Spread:
        if not self.figures and self.error is None:
            return Spread(error="not measured: the budget was used up before the first figure")
        return Spread(tuple(self.figures), self.plan.num_warmups, self.error)


def alternate(plans: Mapping[str, Plan], clock: Clock, row_budget_s: float) -> dict[str, Spread]:
    """Figures of every plan, taken by turns so that a change of the machine's pace meets all of them alike.

    Args:
        plans: by name; they are built at their first turn.
        clock: of the whole run.
        row_budget_s: after it, or with the clock's end, only plans that have no figure yet go on to their first.
    """
    runners = {name: _Runner(plan) for name, plan in plans.items()}
    own = Clock(row_budget_s)
    while waiting := [
        one for one in runners.values() if not one.is_done and not (_is_late(own, clock) and one.figures)
    ]:
        if clock.is_over and all(one.num_calls == 0 for one in waiting):
            break  # nothing is begun after the end of the whole run
        for one in waiting:
            one.call()
    return {name: one.spread() for name, one in runners.items()}


def _checked(figure: float) -> float:
    if not (math.isfinite(figure) and figure > 0):
        raise ValueError(f"a figure of {figure:.4g} came, which cannot be; is the machine busy?")
    return figure


def _is_late(own: Clock, clock: Clock) -> bool:
    return own.is_over or clock.is_over


def told(error: BaseException) -> str:
    """An error on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:MAX_ERROR_CHARS]


def elapsed_s(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call, the device idle before and after it."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def sampled_ms(work: Callable[[T], object], prepare: Callable[[], T], device: torch.device) -> Sample:
    """A sample of `work`, in milliseconds, on what `prepare` makes anew for each call and is not counted."""

    def sample() -> float:
        prepared = prepare()
        return 1e3 * elapsed_s(lambda: work(prepared), device)

    return sample


def synchronize(device: torch.device) -> None:
    """Wait for all that was given to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def release_memory() -> None:
    """Give back what is no longer used."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def significant(value: float, digits: int = DIGITS) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")
