"""What is left of a run: a log of JSON lines, TensorBoard's events where it is installed, a plot, and a page."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from audioflamingo.train.data import BadRow, Corpus
from audioflamingo.train.stages import Stage
from audioflamingo.train.trainer import Progress

LOG_FILE, PLOT_FILE, REPORT_FILE = "log.jsonl", "loss.svg", "report.md"
NUM_AVERAGED = 5  # steps at either end
DIGITS = 6
PLOT_WIDTH, PLOT_HEIGHT, MARGIN = 640, 240, 40
MAX_POINTS = 1_000


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
    def first_loss(self) -> float:
        """Mean of the first steps."""
        return _mean([line["loss"] for line in self.lines[:NUM_AVERAGED]])

    @property
    def last_loss(self) -> float:
        """Mean of the last steps."""
        return _mean([line["loss"] for line in self.lines[-NUM_AVERAGED:]])

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
            for name in ("loss", "rate", "norm", "tokens_per_s"):
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
        "loss": f"{log.first_loss:.4f} in the first {NUM_AVERAGED} steps, {log.last_loss:.4f} in the last",
        "learnt tokens": sum(line["num_targets"] for line in log.lines),
        "tokens a second": f"{_mean([line['tokens_per_s'] for line in log.lines]):.0f} in each process",
        "peak rate": stage.rate,
        "seconds a step": stage.batch_s,
        "precision": stage.precision,
        "seed": stage.seed,
    }
    table = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    left_out = "".join(f"* {row.origin} ({row.id}): {row.reason}\n" for row in bad)
    page = f"# Training report\n\n|  |  |\n|---|---|\n{table}\n![loss of every step]({PLOT_FILE})\n"
    page += f"\n## Rows left out\n\n{left_out}" if bad else ""
    (folder / REPORT_FILE).write_text(page, encoding="utf-8")


def plot(losses: Sequence[float]) -> str:
    """A line of losses over steps as SVG."""
    points = [(i, loss) for i, loss in enumerate(losses)][:: max(1, len(losses) // MAX_POINTS)]
    top = max((loss for _, loss in points), default=1.0) or 1.0
    right = max(len(losses) - 1, 1)
    width, height = PLOT_WIDTH - 2 * MARGIN, PLOT_HEIGHT - 2 * MARGIN
    path = " ".join(f"{MARGIN + width * i / right:.1f},{MARGIN + height * (1 - y / top):.1f}" for i, y in points)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{PLOT_WIDTH}" height="{PLOT_HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<path d="M{MARGIN},{MARGIN}v{height}h{width}" fill="none" stroke="black"/>'
        f'<polyline points="{path}" fill="none" stroke="#1f77b4"/>'
        f'<text x="4" y="{MARGIN}">{top:.2f}</text><text x="4" y="{MARGIN + height}">0</text>'
        f'<text x="{MARGIN + width - 60}" y="{PLOT_HEIGHT - 12}">step {len(losses)}</text></svg>\n'
    )


def _read(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a log; a last one that was cut off by a kill is dropped."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in lines]


def _tensorboard(folder: Path, step: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(len(values), 1)
