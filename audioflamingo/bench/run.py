"""All chosen sections, one after another; each row is saved as soon as it is there, and none can end the others."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from audioflamingo.bench import answering, embedded, listening, resources
from audioflamingo.bench.card import Machine, make_card
from audioflamingo.bench.context import Context
from audioflamingo.bench.report import row_line
from audioflamingo.bench.row import Row
from audioflamingo.bench.schema import SCHEMA
from audioflamingo.bench.subject import model_card
from audioflamingo.bench.timing import Clock, alternate, release_memory, told

Section = Callable[[Context], Iterator[Row]]
SECTIONS: dict[str, Section] = {
    "encoder": listening.encoder,
    "prefill": answering.prefill,
    "decode": answering.decode,
    "batch": answering.batch,
    "turns": answering.turns,
    "mel": listening.log_mel,
    "memory": resources.memory,
    "load": resources.load,
    "cpu": embedded.cpu,
}


class Run:
    """One report on its way.

    Attributes:
        found: the report so far, in the form of `schema`.
        path: where it is written after every row; None to keep it.
    """

    def __init__(
        self, context: Context, machine: Machine, clock: Clock, out: Path | None, say: Callable[[str], object]
    ):
        self._context = context
        self._clock = clock
        self._say = say
        date = datetime.date.today().isoformat()
        self.found: dict[str, Any] = {
            "schema": SCHEMA,
            "date": date,
            "card": make_card(machine, context.rates),
            "model": model_card(context.subject),
            "scale": context.scale.name,
            "rows": [],
            "errors": {},
            "seconds": {},
        }
        self.path = out / _file_name(machine, context, date) if out is not None and out.is_dir() else out

    def sections(self, names: list[str]) -> dict[str, Any]:
        """Measure; returns the report."""
        for name in names:
            own = Clock()
            if self._clock.is_over:
                self._fail(name, f"left out: the budget of {self._clock.budget_s:g} s was used up")
                continue
            self._section(name)
            self.found["seconds"][name] = round(own.elapsed_s, 1)
            self._save()
        self.found["seconds"]["total"] = round(self._clock.elapsed_s, 1)
        self._save()
        return self.found

    def _section(self, name: str) -> None:
        try:
            for row in SECTIONS[name](self._context):
                self._measure(row)
        except Exception as error:  # whatever it is, the other sections go on and the report says so
            self._fail(name, told(error))
        release_memory()

    def _measure(self, row: Row) -> None:
        spreads = alternate(row.plans(), self._clock, self._context.scale.row_budget_s)
        for who, spread in spreads.items():
            if spread.error is not None:
                self._fail(f"{row.key}, {who}", spread.error)
        record = row.record(spreads, self._context.rates)
        self.found["rows"].append(record)
        self._say(row_line(record))
        release_memory()
        self._save()

    def _fail(self, name: str, text: str) -> None:
        self.found["errors"][name] = text
        self._say(f"  {name}: {text}")

    def _save(self) -> None:
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.found, indent=1) + "\n", encoding="utf-8")


def _file_name(machine: Machine, context: Context, date: str) -> str:
    """By hardware and date: bench_nvidia-h200_random-8b_2026-01-31.json."""
    subject = context.subject
    cache = "" if subject.kv_cache == "plain" else f"kv-{subject.kv_cache}"
    words = (machine.hardware, Path(subject.name).name, subject.quantize or "", cache, date)
    return (
        "_".join(["bench", *(re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words if word)]) + ".json"
    )
