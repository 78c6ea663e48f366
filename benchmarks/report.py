"""From the reports of `flamingo bench` in benchmarks/results/ to docs/benchmarks.md, docs/plots/ and README's table.

    python -m benchmarks.report        (make bench does it)

Of several reports of one hardware, model and quantization the newest is shown, and below it, said to be so, rows that
only those before it have; a malformed one is an error. The same reports give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioflamingo.bench.row import RATE_UNITS
from audioflamingo.bench.schema import complaints
from audioflamingo.config import ModelConfig
from audioflamingo.model.costs import parameters
from benchmarks.plots import bars_of, draw

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- bench: made by python -m benchmarks.report -->", "<!-- bench: end -->"
CPU_SECTION = "cpu"
BUSY_LOAD = 0.5  # processes a core before we began
INTRODUCTION = """\
# Speed

Made by `make bench` from `benchmarks/results/`. Every figure is a median; ours and transformers' own class with equal
weights took turns in one process (`flamingo bench --beside transformers`). Units stand with the work.

* **Floor**: operations over the matrix rate and bytes over the bandwidth, both measured in the same run. What a pass
  over weights has to compute and to read counts, activations do not. "of floor" is how near we come.
* **MFU, MBU**: operations and bytes of the work over our time, as shares of the measured matrix rate and bandwidth.
* **Ours** starts from samples and ids on the host: hashing the sound, log-mel and all bookkeeping count; encoder rows
  start from features. **transformers** starts from features on the device (log-mel is a row of its own), which is in
  its favour; in the rows of the embedded model on a CPU it starts from samples.
* Sounds and questions are new at every call, so that nothing comes from a cache but where a row says so. Random weights
  are never zeros.
"""


class MalformedError(Exception):
    """A report that cannot be shown."""


@dataclass(frozen=True)
class Report:
    """One report and the name that its picture has."""

    found: dict[str, Any]
    name: str

    @property
    def title(self) -> str:
        """Model, numbers and hardware."""
        model, card = self.found["model"], self.found["card"]
        kind = f"decoder in {model['quantize']}" if model["quantize"] else model["dtype"]
        cache = "" if self.kv_cache == "plain" else f", KV cache in {self.kv_cache}"
        return f"{model['name']}, {kind}{cache}, on {card['hardware']}"

    @property
    def kv_cache(self) -> str:
        """How keys and values were kept; reports from before there was a choice do not say."""
        return str(self.found["model"].get("kv_cache", "plain"))

    @property
    def in_fewer_bits(self) -> str:
        """Empty for the plain model."""
        cache = "" if self.kv_cache == "plain" else self.kv_cache
        return (self.found["model"]["quantize"] or "") + cache

    @property
    def is_full_size(self) -> bool:
        """Whether it is the released model's size."""
        return bool(self.found["model"]["num_parameters"] == parameters(ModelConfig()).total)


def read_reports(folder: Path) -> list[Report]:
    """The newest report of each kind: the full size first, unquantized first.

    Raises:
        MalformedError: one of them has not the form of `audioflamingo.bench.schema`.
    """
    newest: dict[tuple[str, ...], Report] = {}
    for path in sorted(folder.glob("bench_*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if wrong := complaints(found):
            raise MalformedError(f"{path}: {'; '.join(wrong)}")
        report = Report(found, re.sub(r"_\d{4}-\d\d-\d\d[a-z]?$", "", path.stem))
        model = found["model"]
        key = (found["card"]["hardware"], model["name"], str(model["quantize"]), report.kv_cache)
        if key not in newest:
            newest[key] = report
        elif found["date"] >= newest[key].found["date"]:
            newest[key] = _completed(report, newest[key])
        else:
            newest[key] = _completed(newest[key], report)
    return sorted(newest.values(), key=_order)


def _completed(newer: Report, older: Report) -> Report:
    """The newer report with those of the older one's rows that it has not."""
    own = {row["key"] for row in newer.found["rows"]}
    kept = [row for row in older.found["rows"] if row["key"] not in own and row["ours"] is not None]
    before = older.found.get("before", {})
    dates = {row["work"]: before.get(row["work"], older.found["date"]) for row in kept}
    found = {**newer.found, "rows": newer.found["rows"] + kept, "before": {**newer.found.get("before", {}), **dates}}
    return Report(found, newer.name)


def _order(report: Report) -> tuple[bool, str, str]:
    return not report.is_full_size, report.in_fewer_bits, report.title


def write_pages(results: Path, docs: Path, readme: Path | None) -> list[Path]:
    """Write page, pictures and, where its markers stand, README's table; returns what was written."""
    reports = read_reports(results)
    plots = docs / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    written, parts = [], [INTRODUCTION]
    for report in reports:
        parts.append(_section(report))
        if bars := bars_of(report.found):
            written.append(plots / f"{report.name}.svg")
            written[-1].write_text(draw(report.title, _measured(report.found["card"]), bars), encoding="utf-8")
            parts.append(f"![{report.title}](plots/{report.name}.svg)\n")
    written.append(docs / "benchmarks.md")
    written[-1].write_text("\n".join(parts), encoding="utf-8")
    if readme is not None and (text := with_table(readme.read_text(encoding="utf-8"), reports)) is not None:
        readme.write_text(text, encoding="utf-8")
        written.append(readme)
    return written


def with_table(text: str, reports: Sequence[Report]) -> str | None:
    """README with the tables between its two markers; None where it has none."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        return None
    shown = [report for report in reports if not report.in_fewer_bits]
    tables = [f"**{report.title}**\n\n{short_table(_for_readme(report))}" for report in shown]
    return before + BEGIN + "\n" + "\n".join(tables) + END + after


def _for_readme(report: Report) -> dict[str, Any]:
    """Of a small model what people wait for, if it was measured; the page has all rows."""
    rows = report.found["rows"]
    commands = [row for row in rows if row["section"] == CPU_SECTION]
    return {**report.found, "rows": rows if report.is_full_size or not commands else commands}


def _section(report: Report) -> str:
    found, card = report.found, report.found["card"]
    words = [f"## {report.title}\n", f"{found['date']}: {_measured(card)}; {_software(card)}\n"]
    if card["load_before"] is not None and card["load_before"] > BUSY_LOAD * card["num_cores"]:
        words.append(f"**The machine was busy** (load {card['load_before']} before): to be measured again.\n")
    words += [f"{found['note']}\n"] if "note" in found else []
    words.append(long_table(found))
    words += [f"* Not measured: {name}: {text}" for name, text in found["errors"].items()]
    words += [f"* From an earlier run, of {date}: {work}" for work, date in found.get("before", {}).items()]
    return "\n".join(words) + "\n"


def _measured(card: Mapping[str, Any]) -> str:
    rates = f"matrix product {card['matmul_tflops']:.4g} TFLOP/s, read {card['read_gb_s']:.4g} GB/s"
    return f"{rates}, {card['num_threads']} CPU threads"


def _software(card: Mapping[str, Any]) -> str:
    versions = {"torch": card["torch_version"], "CUDA": card["cuda"], **card["packages"]}
    return ", ".join(f"{name} {version}" for name, version in versions.items() if version)


def long_table(found: Mapping[str, Any]) -> str:
    """Every row and column."""
    names = ("work", "ours", "least to most (n)", "transformers", "ratio", "floor", "of floor", "MFU", "MBU", "goal")
    return _table(names, [_long_cells(row) for row in found["rows"]])


def _long_cells(row: Mapping[str, Any]) -> list[str]:
    ours = row["ours"]
    spread = "-" if ours is None else f"{ours['min']:.4g} to {ours['max']:.4g} ({ours['n']})"
    shares = [_percent(row[name]) for name in ("of_floor", "mfu", "mbu")]
    return [
        _work(row),
        _median(ours),
        spread,
        _median(row["transformers"]),
        _ratio(row),
        _number(row["floor"]),
        *shares,
        _goal(row),
    ]


def short_table(found: Mapping[str, Any]) -> str:
    """What README shows."""
    rows = [
        [_work(row), _median(row["ours"]), _median(row["transformers"]), _ratio(row), _number(row["floor"]), _goal(row)]
        for row in found["rows"]
    ]
    return _table(("work", "ours", "transformers", "ratio", "floor", "goal"), rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (names, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(names), *lines[1:]]) + "\n"


def _work(row: Mapping[str, Any]) -> str:
    return f"{row['work']}, {row['unit']}"


def _median(spread: Mapping[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['median']:.4g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _ratio(row: Mapping[str, Any]) -> str:
    return "-" if row["ratio"] is None else f"{row['ratio']:.3g}x"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _goal(row: Mapping[str, Any]) -> str:
    """The target, and whether it is reached."""
    if row["goal"] is None:
        return "-"
    sign = ">=" if row["unit"] in RATE_UNITS else "<="
    return f"{sign} {row['goal']:g}{_verdict(row)}"


def _verdict(row: Mapping[str, Any]) -> str:
    if row["ours"] is None:
        return ""
    is_rate = row["unit"] in RATE_UNITS
    median = row["ours"]["median"]
    return " reached" if (median >= row["goal"] if is_rate else median <= row["goal"]) else ""


def main() -> int:
    """Write everything; returns the exit code."""
    argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0]).parse_args()  # no word may be lost
    try:
        written = write_pages(ROOT / "benchmarks" / "results", ROOT / "docs", ROOT / "README.md")
    except MalformedError as error:
        print(error, file=sys.stderr)
        return 2
    print("\n".join(str(path.relative_to(ROOT)) for path in written))
    return 0


if __name__ == "__main__":
    sys.exit(main())
