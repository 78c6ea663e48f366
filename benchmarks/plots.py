"""Bars of one report as SVG: transformers, ours and the floor for every row, as times on a logarithmic scale.

Drawn by hand so that the same figures give the same few kilobytes on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from audioflamingo.bench.row import RATE_UNITS, SECONDS_PER_UNIT

SERIES = (("transformers", "#c3ccd4"), ("ours", "#1f6fb2"), ("floor", "#2b2b2b"))
LABEL_WIDTH, PLOT_WIDTH, VALUE_WIDTH = 372, 470, 78
TOP, BAR, GAP, FOOT = 62, 10, 12, 34
FONT = "font-family='Helvetica, Arial, DejaVu Sans, sans-serif'"


@dataclass(frozen=True)
class Bars:
    """One row's times in milliseconds, in the order of `SERIES`; None where there is none."""

    label: str
    times_ms: tuple[float | None, ...]


def bars_of(report: Mapping[str, Any]) -> list[Bars]:
    """The rows that are times, or rates that can be told as the time of the whole work."""
    found = []
    for row in report["rows"]:
        figures = (row["transformers"] and row["transformers"]["median"], row["ours"] and row["ours"]["median"])
        times = tuple(_ms(row, figure) for figure in (*figures, row["floor"]))
        if times[1] is not None:
            found.append(Bars(row["work"], times))
    return found


def _ms(row: Mapping[str, Any], figure: float | None) -> float | None:
    if not figure:
        return None
    if row["unit"] in RATE_UNITS:
        return 1e3 * float(row["amount"]) / figure
    factor = SECONDS_PER_UNIT.get(row["unit"])
    return None if factor is None else 1e3 * figure * factor


def draw(title: str, subtitle: str, rows: Sequence[Bars]) -> str:
    """The picture as the text of an SVG file.

    Raises:
        ValueError: there is no row to draw.
    """
    if not rows:
        raise ValueError("no row has a time to draw")
    scale = _Scale([time for row in rows for time in row.times_ms if time is not None])
    row_height = len(SERIES) * BAR + GAP
    width, height = LABEL_WIDTH + PLOT_WIDTH + VALUE_WIDTH, TOP + len(rows) * row_height + FOOT
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' {FONT}>",
        f"<rect width='{width}' height='{height}' fill='#ffffff'/>",
        _text(16, 24, title, size=15, weight="600"),
        _text(16, 44, subtitle, size=11, fill="#5c6670"),
        *_legend(width),
        *_grid(scale, TOP, height - FOOT),
    ]
    for number, row in enumerate(rows):
        lines += _row(row, TOP + number * row_height, scale)
    return "\n".join([*lines, "</svg>"]) + "\n"


class _Scale:
    """Milliseconds to pixels, in whole decades."""

    def __init__(self, times_ms: Sequence[float]) -> None:
        self.low = math.floor(math.log10(min(times_ms)))
        self.high = max(math.ceil(math.log10(max(times_ms))), self.low + 1)

    def x(self, time_ms: float) -> float:
        share = (math.log10(time_ms) - self.low) / (self.high - self.low)
        return round(LABEL_WIDTH + PLOT_WIDTH * share, 1)

    def decades(self) -> Iterator[float]:
        return (10.0**power for power in range(self.low, self.high + 1))


def _row(row: Bars, top: float, scale: _Scale) -> Iterator[str]:
    middle = top + len(SERIES) * BAR / 2 + 4
    yield _text(LABEL_WIDTH - 10, middle, row.label, size=12, anchor="end")
    for place, ((_, colour), time_ms) in enumerate(zip(SERIES, row.times_ms, strict=True)):
        if time_ms is None:
            continue
        y, end = top + place * BAR, max(scale.x(time_ms), LABEL_WIDTH + 1)
        size = f"width='{end - LABEL_WIDTH:.1f}' height='{BAR - 1}'"
        yield f"<rect x='{LABEL_WIDTH}' y='{y + 0.5}' {size} fill='{colour}'/>"
        yield _text(end + 4, y + BAR - 1, told(time_ms), size=9, fill="#3c444c")


def _grid(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for time_ms in scale.decades():
        x = scale.x(time_ms)
        yield f"<line x1='{x}' y1='{top - 6}' x2='{x}' y2='{bottom}' stroke='#e3e8ec'/>"
        yield _text(x, bottom + 16, told(time_ms), size=10, anchor="middle", fill="#5c6670")


def _legend(width: float) -> Iterator[str]:
    x = width - 262.0
    for name, colour in SERIES:
        yield f"<rect x='{x:g}' y='15' width='11' height='11' fill='{colour}'/>"
        yield _text(x + 16, 24.5, name, size=11)
        x += 34 + 6.6 * len(name)


def _text(x: float, y: float, text: str, *, size: int, anchor: str = "start", fill: str = "#1c2126", weight: str = "400"
          ) -> str:  # fmt: skip
    style = f"font-size='{size}' fill='{fill}' text-anchor='{anchor}' font-weight='{weight}'"
    return f"<text x='{x:g}' y='{y:g}' {style}>{escape(text)}</text>"


def told(time_ms: float) -> str:
    """A time with three digits in the unit that suits it."""
    for unit, factor in (("s", 1e-3), ("ms", 1.0), ("µs", 1e3)):
        if time_ms * factor >= 1 or unit == "µs":
            return f"{float(f'{time_ms * factor:.3g}'):g} {unit}"
    raise AssertionError
