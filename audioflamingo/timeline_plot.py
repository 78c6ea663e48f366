"""A picture of a timeline: the log-mel spectrogram above, one lane of labelled bars for each label below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audioflamingo.audio import log_mel_batch, split_windows
from audioflamingo.engine.request import clock
from audioflamingo.errors import OptionError
from audioflamingo.timeline import QUESTIONS, Event, Lane
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

WIDTH_INCHES, DPI = 12, 120
SPECTROGRAM_INCHES, LANE_INCHES, MARGIN_INCHES = 3.2, 0.28, 0.9
MAX_LANES = 40
MAX_COLUMNS = 4_000
COLOURS: dict[Lane, str] = {"sound": "tab:blue", "speech": "tab:orange", "music": "tab:green"}
SHOWN_HZ = (250, 500, 1_000, 2_000, 4_000, 8_000)
LINEAR_TO_HZ, HZ_A_LINEAR_MEL, LOG_STEP = 1_000.0, 200 / 3, np.log(6.4) / 27  # Slaney's scale
MOST_CLOCKED_TICKS = 8
LOG_MEL_RANGE = 2.0  # from a window's loudest point to its floor, in the units of its log-mel


def plot_timeline(path: str | Path, audio: Audio, events: Sequence[Event]) -> None:
    """Write the picture; the format is that of the name's suffix, such as .png or .svg.

    Raises:
        OptionError: matplotlib is not installed, or the place cannot be written to.
    """
    figure_class = check_plot(path)
    rows = lanes_of(events)
    below_inches = LANE_INCHES * max(2, len(rows))
    height_inches = SPECTROGRAM_INCHES + below_inches + MARGIN_INCHES
    figure = figure_class(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[SPECTROGRAM_INCHES, below_inches])
    _draw_spectrogram(above, audio)
    _draw_lanes(below, events, rows)
    _draw_time(below, audio.duration_s)
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OptionError(f"the picture cannot be written as {path}: {' '.join(str(error).split())}") from error


def check_plot(path: str | Path) -> Any:
    """Find out before any work whether a picture could be written; returns matplotlib's class of figures.

    Raises:
        OptionError: matplotlib is not installed, or the place or the format will not do.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(
            "a picture needs matplotlib, which is not installed: pip install 'audioflamingo[plot]'"
        ) from error
    kinds = sorted(Figure().canvas.get_supported_filetypes())
    if Path(path).suffix.lower().removeprefix(".") not in kinds or not Path(path).parent.is_dir():
        raise OptionError(
            f"the picture cannot be written as {path}; allowed: a name that ends in .{', .'.join(kinds)}, in a folder "
            "that is there"
        )
    return Figure


def lanes_of(events: Sequence[Event]) -> list[tuple[Lane, str]]:
    """Kind and label of each lane, from above: by kind, within it by the first time that it is heard.

    Where there are more than can be read, those that are heard the longest stay.
    """
    first_s: dict[tuple[Lane, str], float] = {}
    length_s: dict[tuple[Lane, str], float] = {}
    for one in events:
        row = (one.lane, one.label)
        first_s[row] = min(first_s.get(row, one.start_s), one.start_s)
        length_s[row] = length_s.get(row, 0.0) + one.end_s - one.start_s
    kept = sorted(length_s, key=lambda row: (-length_s[row], row))[:MAX_LANES]
    return sorted(kept, key=lambda row: (list(QUESTIONS).index(row[0]), first_s[row], row[1]))


def mel_bin_of(hz: float, num_bins: int) -> float:
    """Where a frequency stands among so many bins of the mel scale (Slaney) from 0 Hz to half the sampling rate."""

    def mel(value_hz: float) -> float:
        if value_hz < LINEAR_TO_HZ:
            return value_hz / HZ_A_LINEAR_MEL
        return float(LINEAR_TO_HZ / HZ_A_LINEAR_MEL + np.log(value_hz / LINEAR_TO_HZ) / LOG_STEP)

    return mel(hz) / mel(SAMPLE_RATE_HZ / 2) * num_bins


def _draw_spectrogram(axes: Any, audio: Audio) -> None:
    mel = _spectrogram(audio)
    axes.imshow(mel, origin="lower", aspect="auto", extent=(0, audio.duration_s, 0, mel.shape[0]), cmap="magma")
    axes.set_yticks([mel_bin_of(hz, mel.shape[0]) for hz in SHOWN_HZ], [f"{hz / 1000:g}" for hz in SHOWN_HZ])
    axes.set_title(audio.name, parse_math=False)
    axes.set_ylabel("kHz")


def _spectrogram(audio: Audio) -> Any:
    """(128, at most about MAX_COLUMNS) log-mel; of a long sound the loudest of the frames that share a column."""
    step = max(1, len(audio.samples) // 160 // MAX_COLUMNS)
    parts = []
    for window in split_windows(audio.samples):
        mel, num_frames = log_mel_batch([window], "cpu")
        frames = mel[0, :, : num_frames[0]].numpy()
        starts = np.arange(0, frames.shape[1], step)
        parts.append(np.maximum.reduceat(frames, starts, axis=1))
    whole = np.concatenate(parts, axis=1)
    return np.maximum(whole, whole.max() - LOG_MEL_RANGE)  # each window has a floor of its own, which would show


def _draw_lanes(axes: Any, events: Sequence[Event], rows: Sequence[tuple[Lane, str]]) -> None:
    number_of = {row: number for number, row in enumerate(rows)}
    for one in events:
        if (one.lane, one.label) in number_of:
            number = number_of[one.lane, one.label]
            axes.barh(number, one.end_s - one.start_s, left=one.start_s, height=0.8, color=COLOURS[one.lane])
    axes.set_yticks(range(len(rows)), [label for _, label in rows])
    for tick, (lane, _) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set(color=COLOURS[lane], parse_math=False)
    axes.set_ylim(max(2, len(rows)) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    if not rows:
        axes.text(0.5, 0.5, "nothing recognised", transform=axes.transAxes, ha="center", va="center")
        return
    left_out = len({(one.lane, one.label) for one in events}) - len(rows)
    kinds = list(dict.fromkeys(lane for lane, _ in rows))
    handles = [axes.barh(0, 0, color=COLOURS[lane]) for lane in kinds]
    title = f"and {left_out} more, shorter" if left_out else None
    axes.legend(handles, kinds, title=title, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def _draw_time(axes: Any, duration_s: float) -> None:
    axes.set_xlim(0, duration_s)
    if duration_s < 60:
        axes.set_xlabel("seconds")
        return
    step_s = next(step for step in (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14_400)
                  if duration_s / step <= MOST_CLOCKED_TICKS or step == 14_400)  # fmt: skip
    ticks = np.arange(0, duration_s, step_s)
    axes.set_xticks(ticks, [clock(float(tick)) for tick in ticks])
    axes.set_xlabel("time")
