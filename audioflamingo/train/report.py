"""What is left of a run: a log of JSON lines, TensorBoard's events where it is installed, a plot, and a page."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

from audioflamingo.train.data import BadRow, Corpus
from audioflamingo.train.stages import Stage
from audioflamingo.train.trainer import Progress

LOG_FILE, PLOT_FILE, REPORT_FILE = "log.jsonl", "loss.svg", "report.md"
NUM_AVERAGED = 5  # steps at either end, at most
DIGITS = 6
PLOT_WIDTH, PLOT_HEIGHT, MARGIN = 640, 240, 40
MAX_POINTS = 1_000
NUM_TICKS = 4
SMOOTHED_SHARE = 20  # of the steps


class Log:
    """Appends a line a step; on a resume, lines after the checkpoint are taken back.

    Args:
        folder: of the run.
        step: what was resumed from.
        writes: whether this process does.
    """

    def __init__(self, folder: Path, step: int, *, writes: bool = True) -> None:
        self.path = folder / LOG_FILE
        self.lines = [line for line in _read(self.path) if line["step"] <= step]
        self._file: Any = None
        self._board: Any = None
        if writes:
            folder.mkdir(parents=True, exist_ok=True)
            self.path.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")
            self._file = self.path.open("a", encoding="utf-8")
            self._board = _tensorboard(folder, step)

    @property
    def num_averaged(self) -> int:
        """Steps at either end whose losses are told; of a short run fewer, so that the ends are not the same."""
        return min(NUM_AVERAGED, max(1, len(self.lines) // 2))

    @property
    def first_loss(self) -> float:
        """Mean of the first `num_averaged` steps."""
        return _mean([line["loss"] for line in self.lines[: self.num_averaged]])

    @property
    def last_loss(self) -> float:
        """Mean of the last `num_averaged` steps."""
        return _mean([line["loss"] for line in self.lines[-self.num_averaged :]])

    def add(self, progress: Progress) -> None:
        """One step."""
        line = {
            name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
            for name, value in asdict(progress).items()
        }
        self.lines.append(line)
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._board is not None:
            for name in ("loss", "rate", "norm", "tokens_per_s", "mfu"):
                if line[name] is not None:
                    self._board.add_scalar(name, line[name], progress.step)

    def close(self) -> None:
        """Close the files."""
        for file in (self._file, self._board):
            if file is not None:
                file.close()


def write_report(folder: Path, stage: Stage, base: str, corpus: Corpus, log: Log, bad: Sequence[BadRow] = ()) -> None:
    """Write the plot and the page.

    Args:
        folder: of the run.
        stage: how it was trained.
        base: from what.
        corpus: on what.
        log: of all steps.
        bad: rows that were left out.
    """
    (folder / PLOT_FILE).write_text(plot([line["loss"] for line in log.lines]), encoding="utf-8")
    facts = {
        "stage": stage.name,
        "trained": ", ".join(stage.trains),
        "base": base,
        "rows": f"{corpus.num_rows} read, {len(bad)} left out, {len(corpus.samples)} heard an epoch",
        "steps": f"{len(log.lines)} in {stage.epochs} epoch(s)",
        "loss": f"{log.first_loss:.4f} in the first {log.num_averaged} step(s), {log.last_loss:.4f} in the last",
        "learnt tokens": sum(line["num_targets"] for line in log.lines),
        "tokens a second": f"{_mean([line['tokens_per_s'] for line in log.lines]):.0f} in each process",
        "MFU": _share([line["mfu"] for line in log.lines if line.get("mfu") is not None]),
        "time": f"{sum(line['num_tokens'] / max(line['tokens_per_s'], 1e-9) for line in log.lines):.0f} s of steps",
        "peak rate": stage.rate,
        "seconds a step": stage.batch_s,
        "precision": stage.precision + (f", base in {stage.quantize}" if stage.quantize else ""),
        "seed": stage.seed,
    }
    table = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    left_out = "".join(f"* {row.origin} ({row.id}): {row.reason}\n" for row in bad)
    page = f"# Training report\n\n|  |  |\n|---|---|\n{table}\n![loss of every step]({PLOT_FILE})\n"
    page += f"\n## Rows left out\n\n{left_out}" if bad else ""
    (folder / REPORT_FILE).write_text(page, encoding="utf-8")


def plot(losses: Sequence[float]) -> str:
    """Losses over steps as SVG: every step thin, their running mean thick."""
    every = max(1, len(losses) // MAX_POINTS)
    top = _rounded_up(max(losses, default=1.0))
    right = max(len(losses), 1)
    curves = [(losses, "#9ecae1", 1.0), (_smoothed(losses), "#08519c", 2.0)]
    drawn = "".join(
        f'<polyline points="{" ".join(_point(i + 1, y, right, top) for i, y in list(enumerate(values))[::every])}" '
        f'fill="none" stroke="{colour}" stroke-width="{width:g}"/>'
        for values, colour, width in curves
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f"{_grid(right, top)}{drawn}"
        f'<text x="{PLOT_WIDTH / 2:g}" y="{PLOT_HEIGHT - 6}" text-anchor="middle">step</text>'
        f'<text x="{MARGIN}" y="16">loss: every step, and the mean of about {_window(len(losses))}</text></svg>\n'
    )


def _grid(right: int, top: float) -> str:
    """Lines and numbers at quarters of both axes."""
    parts = []
    for quarter in range(NUM_TICKS + 1):
        step, loss = right * quarter / NUM_TICKS, top * quarter / NUM_TICKS
        x, y = _point(step, loss, right, top).split(",")
        parts.append(
            f'<path d="M{MARGIN},{y}H{PLOT_WIDTH - MARGIN}" stroke="#ddd"/>'
            f'<text x="{MARGIN - 6}" y="{float(y) + 4:g}" text-anchor="end">{loss:.3g}</text>'
            f'<text x="{x}" y="{PLOT_HEIGHT - MARGIN + 16}" text-anchor="middle">{round(step)}</text>'
        )
    return "".join(parts)


def _point(step: float, loss: float, right: int, top: float) -> str:
    width, height = PLOT_WIDTH - 2 * MARGIN, PLOT_HEIGHT - 2 * MARGIN
    return f"{MARGIN + width * step / right:.1f},{PLOT_HEIGHT - MARGIN - height * loss / top:.1f}"


def _window(num_steps: int) -> int:
    return max(1, num_steps // SMOOTHED_SHARE)


def _smoothed(losses: Sequence[float]) -> list[float]:
    """Means over the steps around each, fewer at the ends."""
    half = _window(len(losses)) // 2
    sums = [0.0, *accumulate(losses)]
    ends = [(max(0, i - half), min(len(losses), i + half + 1)) for i in range(len(losses))]
    return [(sums[end] - sums[start]) / (end - start) for start, end in ends]


def _rounded_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8 times a power of ten, so that the numbers at the axis are short."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= value)


def _share(values: Sequence[float]) -> str:
    return f"{_mean(values):.1%} in the mean of all steps" if values else "not measured"


def _read(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log: a kill may cut the last one off, and a power cut leave zeros in its place."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    return [found for line in lines if (found := _whole_line(line)) is not None]


def _whole_line(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("step"), int) else None


def _tensorboard(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
