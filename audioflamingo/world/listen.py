"""A page of listening examples: for every task a pair of scenes with sound, spectrogram, truth and questions.

Spectrograms need matplotlib (`pip install audioflamingo[plot]`). The page is one folder without any script, and can be
opened from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.world.export import Order, write_audio, written
from audioflamingo.world.skills import SKILLS, Made, make
from audioflamingo.world.skills.chat import tagged
from audioflamingo.world.timeline import Heard, Timeline

STFT_WINDOW, HOP = 512, 160
FLOOR_DB, TOP_HZ = -80.0, 8_000
MOST_COLUMNS = 2_400
SCENES_PER_TASK = 2
COLOURS = {"speech": "#3b82f6", "music": "#a855f7"}
SOUND_COLOUR, BACK_COLOUR = "#22c55e", "#9ca3af"
LEGEND = {**COLOURS, "sound": SOUND_COLOUR, "background": BACK_COLOUR}
NUM_LANES = 4  # in which events lie under a spectrogram
MOST_NAMED = 16  # events; more would write over one another
PAGE, CLIPS = "index.html", "clips"
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2937}
img,audio{width:100%;display:block}h2{margin:2.5rem 0 .2rem}
section{border-left:3px solid #e5e7eb;padding:0 0 0 1rem;margin:1rem 0}
dt{font-weight:600;white-space:pre-wrap;margin-top:.6rem}dd{margin:0 0 0 1rem;white-space:pre-wrap}
table{border-collapse:collapse;font-size:13px}td{padding:.1rem .8rem .1rem 0;vertical-align:top}
summary{cursor:pointer;color:#6b7280}nav a{margin-right:.8rem;white-space:nowrap}
i{display:inline-block;width:.8rem;height:.8rem;margin:0 .3rem 0 .8rem}
"""


def write_page(order: Order, folder: Path, report: Callable[[str], None] = lambda _: None) -> Path:
    """Write `SCENES_PER_TASK` scenes of each task; returns the page, which appears when all of it is there.

    Args:
        order: tasks, seed and world.
        folder: a new or an empty one, or one in which a page was begun and not finished.
        report: called with the name of each task.

    Raises:
        FlamingoError: matplotlib or a speech engine is missing.
        OptionError: the folder is not empty.
        ExportError: it cannot be written to.
    """
    if folder.exists() and any(path.name != CLIPS for path in folder.iterdir()):
        raise OptionError(f"{folder} is not empty; choose a new folder for the page.")
    plt = _pyplot()
    with written(folder):
        return _page(order, folder, plt, report)


def _page(order: Order, folder: Path, plt: Any, report: Callable[[str], None]) -> Path:
    (folder / CLIPS).mkdir(parents=True, exist_ok=True)
    parts = []
    for name in order.tasks:
        report(name)
        skill = SKILLS[name]
        parts.append(f'<h2 id="{name}">{escape(name)}</h2><div>{escape(skill.family)}: {escape(skill.about)}</div>')
        scenes = (make(name, order.world, order.seed, index) for index in range(SCENES_PER_TASK))
        parts += [_section(made, f"{name}-{index}", folder, plt) for index, made in enumerate(scenes)]
    page = folder / PAGE
    title = f"Examples, split {order.world.split}, seed {order.seed}"
    page.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>{_contents(order.tasks)}"
        f"{''.join(parts)}</html>\n",
        encoding="utf-8",
    )
    return page


def _contents(tasks: Sequence[str]) -> str:
    """Links to the tasks, and what the colours of a timeline mean."""
    links = " ".join(f'<a href="#{name}">{escape(name)}</a>' for name in tasks)
    colours = "".join(f'<i style="background:{colour}"></i>{name}' for name, colour in LEGEND.items())
    return f"<nav>{links}</nav><p>Below each spectrogram:{colours}</p>"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise FlamingoError("spectrograms need matplotlib; pip install audioflamingo[plot]") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _section(made: Made, name: str, folder: Path, plt: Any) -> str:
    parts = []
    for number, clip in enumerate(made.clips):
        path = f"{CLIPS}/{name}-{number}"
        write_audio(folder / CLIPS, name, number, clip)
        draw(clip, folder / f"{path}.png", plt)
        parts.append(
            f'<img src="{path}.png" alt="spectrogram and timeline of {escape(name)}">'
            f'<audio controls preload="none" src="{path}.flac"></audio>{_truth(clip)}'
        )
    for turns in made.dialogues:
        asked = tagged(turns) if len(made.clips) > 1 else [turn.question for turn in turns]
        pairs = zip(asked, turns, strict=True)
        lines = "".join(f"<dt>{escape(text)}</dt><dd>{escape(turn.answer)}</dd>" for text, turn in pairs)
        parts.append(f"<dl>{lines}</dl>")
    return f"<section>{''.join(parts)}</section>"


def _truth(clip: Timeline) -> str:
    rows = "".join(
        f"<tr><td>{event.start_s:.2f}</td><td>{event.end_s:.2f}</td><td>{escape(event.kind)}</td>"
        f"<td>{escape(_details(event))}</td></tr>"
        for event in clip.events
    )
    told = f"{len(clip.events)} events" + (f", through {clip.codec}" if clip.codec else "")
    return f"<details><summary>truth ({escape(told)})</summary><table>{rows}</table></details>"


def _details(event: Heard) -> str:
    if event.voice is not None:
        voice = event.voice
        return f"{voice['name']}, {voice['sex']}, {voice['mood']}, {voice['engine']} {voice['voice']}: {event.text}"
    if event.piece is not None:
        piece = event.piece
        names = ", ".join(part["instrument"] for part in piece["parts"])
        return f"{piece['style']}, {piece['key']}, {piece['tempo_bpm']} bpm, {piece['beats_per_bar']} beats, {names}"
    if event.distance_m is not None:
        return f"{event.level_db:.0f} dB, from {event.distance_m:.1f} m"
    return "background" if event.layer == "back" else f"{event.level_db:.0f} dB"


def spectrogram_db(samples: Any) -> Any:
    """(bins, frames) in dB below the loudest, at most `MOST_COLUMNS` frames."""
    hop = max(HOP, len(samples) // MOST_COLUMNS)
    padded = np.pad(samples, (0, STFT_WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, STFT_WINDOW)[: len(samples) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(STFT_WINDOW), axis=1)) ** 2
    return np.maximum(10.0 * np.log10(power.T / max(float(power.max()), 1e-12) + 1e-12), FLOOR_DB)


def draw(clip: Timeline, path: Path, plt: Any) -> None:
    """A spectrogram with the timeline of events under it, as PNG."""
    figure, (top, below) = plt.subplots(2, 1, figsize=(11, 4), sharex=True, height_ratios=(3, 1), layout="constrained")
    extent = (0.0, clip.duration_s, 0.0, TOP_HZ / 1000)
    top.imshow(spectrogram_db(clip.samples), origin="lower", aspect="auto", extent=extent, cmap="magma")
    top.set_ylabel("kHz")
    for lane, event in zip(lanes(clip.events), clip.events, strict=True):
        color = BACK_COLOUR if event.layer == "back" else COLOURS.get(event.kind, SOUND_COLOUR)
        below.barh(lane, event.duration_s, left=event.start_s, height=0.8, color=color, alpha=0.7)
        if len(clip.events) <= MOST_NAMED:
            below.text(event.start_s, lane, f" {event.kind}", va="center", fontsize=7, clip_on=True)
    below.set_ylim(NUM_LANES - 0.4, -0.6)
    below.set_yticks([])
    below.set_xlabel("seconds")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def lanes(events: Sequence[Heard]) -> list[int]:
    """A lane for every event: the next one in turn in which nothing sounds any more, or the one that is free first."""
    ends_s = [0.0] * NUM_LANES
    chosen: list[int] = []
    for event in events:
        order = [(chosen[-1] + 1 + step) % NUM_LANES if chosen else step for step in range(NUM_LANES)]
        lane = next((lane for lane in order if ends_s[lane] <= event.start_s), min(order, key=lambda k: ends_s[k]))
        ends_s[lane] = event.end_s
        chosen.append(lane)
    return chosen
