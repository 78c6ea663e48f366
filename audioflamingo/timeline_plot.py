"""A picture of a timeline: the log-mel spectrogram above, one lane of labelled bars for each kind below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audioflamingo.audio import log_mel_batch, split_windows
from audioflamingo.errors import OptionError
from audioflamingo.timeline import QUESTIONS, Event
from audioflamingo.types import Audio

WIDTH_INCHES, HEIGHT_INCHES, DPI = 12, 5, 120
MAX_COLUMNS = 4_000
COLOURS = {"sound": "tab:blue", "speech": "tab:orange", "music": "tab:green"}


def plot_timeline(path: str | Path, audio: Audio, events: Sequence[Event]) -> None:
    """Write the picture; the format is that of the name's suffix, such as .png or .svg.

    Raises:
        OptionError: matplotlib is not installed, or the place cannot be written to.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OptionError(
            "a picture needs matplotlib, which is not installed: pip install 'audioflamingo[plot]'"
        ) from error
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DPI, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    mel = _spectrogram(audio)
    above.imshow(mel, origin="lower", aspect="auto", extent=(0, audio.duration_s, 0, mel.shape[0]), cmap="magma")
    above.set(title=audio.name, ylabel="mel bin")
    _draw_lanes(below, events)
    below.set(xlabel="seconds", xlim=(0, audio.duration_s))
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise OptionError(f"the picture cannot be written as {path}: {error}") from error


def _spectrogram(audio: Audio) -> Any:
    windows = split_windows(audio.samples)
    parts = []
    for window in windows:
        mel, num_frames = log_mel_batch([window], "cpu")
        parts.append(mel[0, :, : num_frames[0]].numpy())
    whole = np.concatenate(parts, axis=1)
    return whole[:, :: max(1, whole.shape[1] // MAX_COLUMNS)]


def _draw_lanes(axes: Any, events: Sequence[Event]) -> None:
    rows = sorted({(list(QUESTIONS).index(one.lane), one.label) for one in events}, reverse=True)
    for one in events:
        row = rows.index((list(QUESTIONS).index(one.lane), one.label))
        axes.barh(row, one.end_s - one.start_s, left=one.start_s, height=0.8, color=COLOURS[one.lane])
    axes.set_yticks(range(len(rows)), [label for _, label in rows])
