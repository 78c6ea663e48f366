"""`flamingo timeline`: what is heard when, as a table, JSON, or a picture."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from audioflamingo.cli.answering import Answerer, read_sounds
from audioflamingo.cli.arguments import add_model, number
from audioflamingo.cli.output import show_progress, write_json, write_text

SUMMARY = "List what is heard when: sounds, speech, music, with start and end."
EXAMPLES = """\
flamingo timeline street.wav
flamingo timeline street.wav --json
flamingo timeline street.wav --plot street.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("file", metavar="FILE", help="sound file (- is stdin), of any length")
    parser.add_argument("--json", action="store_true", help="one JSON object: file, duration_s, events")
    parser.add_argument("--plot", metavar="FILE", help="also draw it, as .png, .svg or .pdf (needs matplotlib)")
    parser.add_argument("--piece", type=number(0.1, 30), default=4.0, metavar="S", help="seconds heard at once")
    parser.add_argument("--step", type=number(0.1, 30), default=2.0, metavar="S", help="seconds between pieces")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    """List; returns the exit code."""
    answerer = Answerer(arguments, as_json=arguments.json)
    (sound,) = read_sounds([arguments.file], is_split=True)
    model = answerer.model
    from audioflamingo.timeline import as_table, timeline

    show_progress("listening")
    events = timeline(model, sound, piece_s=arguments.piece, step_s=arguments.step)
    show_progress("")
    if arguments.plot:
        from audioflamingo.timeline_plot import plot_timeline

        plot_timeline(arguments.plot, sound, events)
    if arguments.json:
        listed = [asdict(event) for event in events]
        write_json({"file": arguments.file, "duration_s": round(sound.duration_s, 3), "events": listed})
    else:
        write_text(as_table(events))
    return 0
