"""When each token of a batch came, and what follows from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from audioflamingo.engine.engine import Engine
from audioflamingo.types import Prompt, Sampling


@dataclass(frozen=True)
class Timeline:
    """Arrivals of a batch's tokens.

    Attributes:
        times_s: of every token, for each sequence.
        token_ids: of every sequence.
    """

    times_s: tuple[tuple[float, ...], ...]
    token_ids: tuple[tuple[int, ...], ...]

    @property
    def step_s(self) -> float:
        """Seconds of a decode step with every sequence in it, by all steps between the last start and the first end.

        Raises:
            ValueError: the sequences never ran all together.
        """
        began, ended = max(times[0] for times in self.times_s), min(times[-1] for times in self.times_s)
        num_tokens = sum(began < one <= ended for times in self.times_s for one in times)
        num_steps = num_tokens / len(self.times_s)
        if num_steps < 1:
            raise ValueError(f"{len(self.times_s)} sequences never ran all together for a whole step")
        return (ended - began) / num_steps


def first_token(engine: Engine, prompt: Prompt) -> int:
    """Ask, and wait for one token."""
    with closing(engine.generate([prompt], [Sampling(max_new_tokens=1)])) as deltas:
        return next(token for delta in deltas for token in delta.token_ids)


def answer_all(engine: Engine, prompts: Sequence[Prompt], num_tokens: int) -> Timeline:
    """Greedy answers of exactly so many tokens.

    Raises:
        ValueError: an answer has another length.
    """
    times: list[list[float]] = [[] for _ in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]
    with closing(engine.generate(prompts, [Sampling(max_new_tokens=num_tokens)] * len(prompts))) as deltas:
        for delta in deltas:
            times[delta.index] += [time.perf_counter()] * len(delta.token_ids)
            tokens[delta.index] += delta.token_ids
    lengths = {len(row) for row in tokens}
    if lengths != {num_tokens}:
        raise ValueError(f"answers have {sorted(lengths)} tokens where {num_tokens} were asked for")
    return Timeline(tuple(map(tuple, times)), tuple(map(tuple, tokens)))
