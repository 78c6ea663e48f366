"""What came of an evaluation: a figure with its interval for each set and metric, as a table, Markdown and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audioflamingo.eval.judging import METRICS, Metric
from audioflamingo.eval.metrics import Measured, share_of
from audioflamingo.eval.run import Evaluation, Judged

NAMES: dict[Metric, str] = {
    "words": "word error rate",
    "choice": "accuracy, multiple choice",
    "yes_no": "accuracy, yes or no",
    "number": "accuracy, numbers",
    "open": "F1 of words, open answers",
}
REPORT, VALUES = "report.md", "report.json"
SHOWN_MISTAKES = 20
_WORLD_ID = re.compile(r"([a-z_]+)-(?:train|test_known|test_unknown)-\d")


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        set_name: of the data.
        metric: by which the answers were judged.
        measured: with its interval.
        exact: share of answers that are right to the last word.
        num_untold: answers that say nothing that can be judged, counted as wrong.
        num_failed: answers that the model refused, counted as wrong.
    """

    set_name: str
    metric: Metric
    measured: Measured
    exact: float
    num_untold: int
    num_failed: int


def figures(evaluation: Evaluation) -> list[Figure]:
    """One for each set and metric, in the order of the data; of rows of the world one for each task."""
    groups: dict[tuple[str, Metric], list[Judged]] = {}
    for one in evaluation.answers:
        groups.setdefault((group_of(one), one.verdict.metric), []).append(one)
    names = list(dict.fromkeys(name for name, _ in groups))
    order = sorted(groups, key=lambda key: (names.index(key[0]), METRICS.index(key[1])))
    return [_figure(name, metric, groups[name, metric]) for name, metric in order]


def group_of(one: Judged) -> str:
    """What an answer is counted with: its set, and the task that its id names if `flamingo world` made it."""
    found = _WORLD_ID.match(one.id)
    return f"{one.set_name}: {found[1]}" if found else one.set_name


def _figure(name: str, metric: Metric, some: Sequence[Judged]) -> Figure:
    verdicts = [one.verdict for one in some]
    if metric == "words":
        measured = share_of([one.num_errors for one in verdicts], [one.num_words for one in verdicts])
    else:
        measured = share_of([one.score for one in verdicts], [1.0] * len(verdicts))
    exact = sum(one.is_right for one in verdicts) / len(verdicts)
    untold = sum(not one.is_told for one in verdicts)
    return Figure(name, metric, measured, exact, untold, sum(bool(one.error) for one in some))


def table(rows: Sequence[Figure]) -> str:
    """As Markdown."""
    lines = ["| data | metric | value | 95 % interval | answers | exact | says nothing | refused |", "|" + "---|" * 8]
    for row in rows:
        value, low, high = (f"{100 * one:.1f} %" for one in (row.measured.value, row.measured.low, row.measured.high))
        lines.append(
            f"| {row.set_name} | {NAMES[row.metric]} | {value} | {low} to {high} | {row.measured.num_items:,} | "
            f"{100 * row.exact:.1f} % | {row.num_untold} | {row.num_failed} |"
        )
    return "\n".join(lines)


def write_report(evaluation: Evaluation, out: Path, about: dict[str, Any]) -> str:
    """Write report.md and report.json; returns the table."""
    rows = figures(evaluation)
    values = {**about, "figures": [asdict(row) for row in rows], "num_bad_rows": len(evaluation.bad)}
    (out / VALUES).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = [one for one in evaluation.answers if not one.verdict.is_right]
    text = table(rows)
    lines = ["# Evaluation", "", *(f"* {name}: {value}" for name, value in about.items()), "", text, ""]
    if evaluation.bad:
        lines += [f"{len(evaluation.bad)} rows were left out; bad_rows.jsonl lists them.", ""]
    lines += [
        "## The first answers that are not the truth",
        "",
        "| id | question | truth | answer |",
        "|---|---|---|---|",
    ]
    for one in wrong[:SHOWN_MISTAKES]:
        cells = (one.id, one.question, one.truth, one.error or one.answer)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    (out / REPORT).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return text


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= 200 else f"{flat[:197]}..."
