"""Question: what do the pieces in which a long prompt is fed forward, and rows padded ahead, cost and save?

Whole first tokens through the engine: what each way's memory grows by, weights apart, and its times, taken by turns.
The ways that matter come first. Every figure is printed, and the file written anew, as soon as it is there.

    python benchmarks/prompt_memory.py [--model random-8b] [--quantize none|fp8|int8|int4] [--seconds 600]
        [--rounds 5] [--budget-s 60] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from audioflamingo.bench.answering import prompt_tokens
from audioflamingo.bench.material import Material
from audioflamingo.bench.resources import growth_bytes
from audioflamingo.bench.session import DTYPES
from audioflamingo.bench.subject import Subject, make_subject
from audioflamingo.bench.timeline import first_token
from audioflamingo.bench.timing import Clock, elapsed_s, release_memory
from audioflamingo.engine import contexts
from audioflamingo.model import fused
from audioflamingo.model.attention import Packing, num_padded

WHOLE = 1 << 20  # rows; longer than any prompt
NUM_WARMUPS = 2


@dataclass(frozen=True)
class Way:
    """Rows fed forward at once, and whether queries, keys and values are made with their padding."""

    rows: int
    is_padded: bool

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within the block prompts are read so."""
        kept = fused.FEED_ROWS
        fused.FEED_ROWS = self.rows
        contexts.num_padded = num_padded if self.is_padded else _as_they_are
        try:
            yield
        finally:
            fused.FEED_ROWS = kept
            contexts.num_padded = num_padded


DEFAULT = Way(fused.FEED_ROWS, is_padded=True)
MAIN = (DEFAULT, Way(DEFAULT.rows, is_padded=False), Way(WHOLE, is_padded=False), Way(8192, is_padded=False))
OTHERS = tuple(
    way for rows in (2304, 4096, 4736, 8192, WHOLE) for way in (Way(rows, True), Way(rows, False)) if way not in MAIN
)


def _as_they_are(_: torch.Tensor, packing: Packing) -> int:
    return packing.total


@dataclass
class Board:
    """What was found of each way so far."""

    path: Path | None
    clock: Clock
    grown_gb: dict[Way, float] = field(default_factory=dict)
    times_ms: dict[Way, list[float]] = field(default_factory=dict)

    def keep(self, way: Way) -> None:
        """Print what is known of one way and write down what is known of all."""
        print(json.dumps({"after s": round(self.clock.elapsed_s, 1), **self._row(way)}), flush=True)
        if self.path:
            self.path.write_text(json.dumps([self._row(one) for one in self.grown_gb], indent=1) + "\n")

    def _row(self, way: Way) -> dict[str, Any]:
        rows = "all" if way.rows == WHOLE else way.rows
        row: dict[str, Any] = {"rows at once": rows, "padded ahead": way.is_padded, "is default": way == DEFAULT}
        row["grows by GB"] = round(self.grown_gb[way], 3)
        if times := self.times_ms.get(way):
            row |= {"first token ms": round(statistics.median(times), 2), "least ms": round(min(times), 2)}
            row["times ms"] = [round(one, 2) for one in times]
        return row


@dataclass(frozen=True)
class Asking:
    """First tokens of new sounds, all of one length."""

    subject: Subject
    material: Material
    duration_s: float

    def spent_ms(self) -> float:
        """Milliseconds to the first token."""
        prompt = self.material.prompt(self.material.sound(self.duration_s))
        return 1e3 * elapsed_s(lambda: first_token(self.subject.engine, prompt), self.subject.device)

    def grown_gb(self) -> float:
        """What memory grows by for a new engine and its first token."""
        self.subject.drop_engine()
        release_memory()
        prompt = self.material.prompt(self.material.sound(self.duration_s))
        num_tokens = prompt_tokens(self.duration_s) + 64

        def ask() -> int:
            return first_token(self.subject.new_engine(1, num_tokens), prompt)

        return growth_bytes(ask, self.subject.device) / 1e9


def measure(asking: Asking, ways: Sequence[Way], num_rounds: int, board: Board) -> None:
    """Memory of every way, then times by turns; nothing is begun when the board's clock is over."""
    for way in ways:
        if board.clock.is_over:
            return
        with way.taken():
            board.grown_gb[way] = asking.grown_gb()
        board.keep(way)
    for number in range(NUM_WARMUPS + num_rounds):
        for way in ways:
            if board.clock.is_over:
                return
            with way.taken():
                spent_ms = asking.spent_ms()
            if number >= NUM_WARMUPS:
                board.times_ms.setdefault(way, []).append(spent_ms)
                board.keep(way)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    is_gpu = torch.cuda.is_available()
    parser.add_argument("--model", default="random-8b" if is_gpu else "nano")
    parser.add_argument("--quantize", choices=("none", "fp8", "int8", "int4"), default="none")
    parser.add_argument("--seconds", type=float, default=600.0 if is_gpu else 20.0)
    parser.add_argument("--rounds", type=int, default=5 if is_gpu else 1)
    parser.add_argument("--budget-s", type=float, metavar="S", help="begin nothing after so many seconds")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    board = Board(options.out, Clock(options.budget_s))
    device = torch.device("cuda" if is_gpu else "cpu")
    quantize = None if options.quantize == "none" else options.quantize
    subject = make_subject(options.model, device, DTYPES["bfloat16" if is_gpu else "float32"], quantize=quantize)
    print(f"model made after {board.clock.elapsed_s:.1f} s", flush=True)
    asking = Asking(subject, Material(subject.config), options.seconds)
    asking.grown_gb()  # not counted: libraries keep what they take at their first call
    for ways in (MAIN, OTHERS):
        measure(asking, ways, options.rounds, board)
    if board.clock.is_over:
        print(f"stopped: the {options.budget_s:g} s are over", flush=True)


if __name__ == "__main__":
    main()
