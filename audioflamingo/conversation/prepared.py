"""A conversation that is ready for the engine and has not begun."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from audioflamingo.types import Beams, Delta, Prompt, Sampling


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the engine takes, and what becomes of what it gives.

    Attributes:
        prompts: one; several only where a long sound is split.
        samplings: one a prompt.
        notes: what was done to the request that its author should know of, such as a truncation.
        constraint: what the answer must keep to: a schema's text, choices, or nothing.
        shown: deltas of the engine, whose indices are those of `prompts`, to the answer's: thoughts apart, parts in
            order. Of one prompt, each delta that goes in is one that comes out.
        beams: how its answers are searched for, which is not the engine's: `engine.beams.generated` looks at it.
    """

    prompts: tuple[Prompt, ...]
    samplings: tuple[Sampling, ...]
    notes: tuple[str, ...]
    constraint: str | tuple[str, ...] | None
    shown: Callable[[Generator[Delta, None, None]], Iterator[Delta]]
    beams: Beams | None = None
