"""What is heard when: every epoch's order, packs and steps follow from the seed and the sizes alone.

So a run that resumes at a step, or that is spread over more processes, hears the same as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from audioflamingo.errors import OptionError

SECONDS_PER_TOKEN = 0.04  # an audio token's; a token of text is counted like one
ROUNDING = 1e-6  # of a budget in seconds, as a whole number of tokens
OPEN_PACKS = 16  # a row goes into the first of so many that has room

Pack = tuple[int, ...]  # indices of samples that go through the model together
Step = tuple[Pack, ...]  # packs whose gradients make one update


@dataclass(frozen=True)
class Schedule:
    """Steps of a run, a budget of sound in each.

    Attributes:
        num_tokens: of every sample.
        batch_s: seconds of a step, in all processes together; text counts as if it were spoken at 25 tokens a second.
        micro_s: most seconds that go through the model at once, in one process; this decides the memory.
        epochs: how often everything is heard.
        seed: of the order.
        num_processes: a step is a whole number of packs for each of them.
    """

    num_tokens: tuple[int, ...]
    batch_s: float
    micro_s: float
    epochs: int
    seed: int
    num_processes: int = 1

    def __post_init__(self) -> None:
        """Check that every sample fits.

        Raises:
            OptionError: one does not, or a budget is not positive.
        """
        if not (self.batch_s > 0 and self.micro_s > 0 and self.epochs >= 1):
            raise OptionError("the seconds of a step and of a pack, and the epochs, must be positive")
        longest = max(self.num_tokens) * SECONDS_PER_TOKEN
        if longest > self.micro_s:
            raise OptionError(f"the longest row takes {longest:.1f} s, but micro_s is {self.micro_s:g}; raise it")

    @property
    def pack_s(self) -> float:
        """Most seconds of a pack: never more than a step needs, unless a single row does."""
        return min(self.micro_s, max(self.batch_s, max(self.num_tokens) * SECONDS_PER_TOKEN))

    @property
    def packs_per_step(self) -> int:
        """Packs of a step: enough for its seconds, and as many for every process."""
        wanted = max(1, round(self.batch_s / self.pack_s))
        return -(-wanted // self.num_processes) * self.num_processes

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return len(self._steps)

    def step(self, number: int) -> Step:
        """The packs of a step, counted from 0 over all epochs."""
        return self._steps[number]

    @cached_property
    def _steps(self) -> tuple[Step, ...]:
        return tuple(step for epoch in range(self.epochs) for step in self._epoch_steps(epoch))

    def _epoch_steps(self, epoch: int) -> Iterator[Step]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.num_tokens))
        packs = fill_packs(order.tolist(), self.num_tokens, int(self.pack_s / SECONDS_PER_TOKEN + ROUNDING))
        size = self.packs_per_step
        yield from (tuple(packs[start : start + size]) for start in range(0, len(packs), size))


def fill_packs(order: Sequence[int], num_tokens: Sequence[int], most: int) -> list[Pack]:
    """Samples in packs of at most `most` tokens, first fit over a few open packs, in the order they are closed."""
    closed: list[Pack] = []
    opened: list[tuple[list[int], int]] = []
    for index in order:
        size = num_tokens[index]
        place = next((p for p, (_, filled) in enumerate(opened) if filled + size <= most), None)
        if place is None:
            if len(opened) == OPEN_PACKS:
                closed.append(tuple(opened.pop(0)[0]))
            opened.append(([index], size))
        else:
            members, filled = opened[place]
            opened[place] = ([*members, index], filled + size)
    return closed + [tuple(members) for members, _ in opened]
