"""What came of an evaluation: a figure with its interval for each set and metric, as a table, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from audioflamingo.eval.captions import caption_figures
from audioflamingo.eval.judging import METRICS, Metric, Verdict
from audioflamingo.eval.metrics import Measured, share_of
from audioflamingo.eval.run import GOES_ON, Evaluation, Judged
from audioflamingo.train.explained import explained_files

NAMES: dict[Metric, str] = {  # captions have several figures, see `captions.FIGURES`
    "words": "word error rate",
    "choice": "accuracy, multiple choice",
    "yes_no": "accuracy, yes or no",
    "number": "accuracy, numbers",
    "open": "F1 of words, open answers",
}
REPORT, VALUES = "report.md", "report.json"
SHOWN_MISTAKES = 20


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        set_name: of the data.
        metric: by which the answers were judged.
        name: of the figure; the answers to captions have several.
        measured: with its interval.
        exact: share of answers that are right to the last word.
        num_untold: answers that say nothing that can be judged, counted as wrong.
        num_failed: answers that the model refused, counted as wrong.
    """

    set_name: str
    metric: Metric
    name: str
    measured: Measured
    exact: float
    num_untold: int
    num_failed: int


def figures(evaluation: Evaluation) -> list[Figure]:
    """Of each set and metric, in the order of the data; rows of the world are counted by task."""
    groups: dict[tuple[str, Metric], list[Judged]] = {}
    for one in evaluation.answers:
        groups.setdefault((one.group, one.verdict.metric), []).append(one)
    names = list(dict.fromkeys(name for name, _ in groups))
    order = sorted(groups, key=lambda key: (names.index(key[0]), METRICS.index(key[1])))
    return [figure for name, metric in order for figure in _figures(name, metric, groups[name, metric])]


def _figures(name: str, metric: Metric, some: Sequence[Judged]) -> list[Figure]:
    verdicts = [one.verdict for one in some]
    exact = sum(one.is_right for one in verdicts) / len(verdicts)
    untold = sum(not one.is_told for one in verdicts)
    failed = sum(bool(one.error) for one in some)
    return [Figure(name, metric, told, found, exact, untold, failed) for told, found in _measured(metric, verdicts)]


def _measured(metric: Metric, verdicts: Sequence[Verdict]) -> list[tuple[str, Measured]]:
    if metric == "caption":
        return list(caption_figures([one.caption for one in verdicts if one.caption]).items())
    if metric == "words":
        return [(NAMES[metric], share_of([one.num_errors for one in verdicts], [one.num_words for one in verdicts]))]
    return [(NAMES[metric], share_of([one.score for one in verdicts], [1.0] * len(verdicts)))]


def table(rows: Sequence[Figure]) -> str:
    """As Markdown."""
    lines = ["| data | metric | value | 95 % interval | answers | exact | says nothing | refused |", "|" + "---|" * 8]
    for row in rows:
        measured = (row.measured.value, row.measured.low, row.measured.high)
        # Captions are published as plain numbers, 0.79 say; all else as percents.
        value, low, high = (f"{one:.3f}" if row.metric == "caption" else f"{100 * one:.1f} %" for one in measured)
        lines.append(
            f"| {row.set_name} | {row.name} | {value} | {low} to {high} | {row.measured.num_items:,} | "
            f"{100 * row.exact:.1f} % | {row.num_untold} | {row.num_failed} |"
        )
    return "\n".join(lines)


def write_report(evaluation: Evaluation, out: Path, about: dict[str, Any]) -> str:
    """Write report.md and report.json; returns the table.

    Raises:
        FlamingoError: they cannot be written.
    """
    with explained_files(out, GOES_ON):
        return _written(evaluation, out, about)


def _written(evaluation: Evaluation, out: Path, about: dict[str, Any]) -> str:
    rows = figures(evaluation)
    values = {**about, "figures": [asdict(row) for row in rows], "num_bad_rows": len(evaluation.bad)}
    values["notes"] = evaluation.notes
    (out / VALUES).write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = sorted((one for one in evaluation.answers if not one.verdict.is_right), key=_place)
    text = table(rows)
    lines = ["# Evaluation", "", *(f"* {name}: {value}" for name, value in about.items()), "", text, ""]
    if evaluation.bad:
        lines += [f"{len(evaluation.bad)} rows were left out; bad_rows.jsonl lists them.", ""]
    for note in evaluation.notes:
        lines += [f"Note: {note}.", ""]
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


def _place(one: Judged) -> tuple[bool, float]:
    """Keeps mistakes in order; behind them captions, which are hardly ever the truth's words, the poorest first."""
    is_caption = one.verdict.metric == "caption"
    return is_caption, one.verdict.score if is_caption else 0.0


def _cell(text: str) -> str:
    flat = " ".join(text.split()).replace("|", "\\|")
    return flat if len(flat) <= 200 else f"{flat[:197]}..."
