"""`flamingo timeline`: what is heard when, as a table, JSON, or a picture."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from audioflamingo.cli.answering import STDIN, Answerer, is_pipe, read_sounds
from audioflamingo.cli.arguments import add_model, number
from audioflamingo.cli.output import report_notes, show_progress, write_json, write_text
from audioflamingo.errors import OptionError

SUMMARY = "List what is heard when: sounds, speech, music, with start and end."
EXAMPLES = """\
flamingo timeline street.wav
flamingo timeline *.wav --json > timelines.jsonl
flamingo timeline street.wav --plot street.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound files (- is stdin), of any length")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: file, duration_s, events")
    parser.add_argument("--plot", metavar="FILE", help="also draw it, as .png, .svg or .pdf (needs matplotlib)")
    parser.add_argument("--piece", type=number(0.1, 30), default=4.0, metavar="S", help="seconds heard at once")
    parser.add_argument(
        "--step", type=number(0.1, 30), default=1.0, metavar="S", help="how exact times are, in seconds"
    )
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    """List; returns the exit code."""
    if arguments.plot:
        from audioflamingo.timeline_plot import check_plot

        if len(arguments.files) > 1:
            raise OptionError(f"{len(arguments.files)} files came; --plot draws one at a time")
        check_plot(arguments.plot)
    answerer = Answerer(arguments, as_json=arguments.json)
    return answerer.each(arguments.files, lambda file, heading: _list(answerer, file, heading))


def _list(answerer: Answerer, file: str, heading: str) -> None:
    """One file: heard, written, drawn."""
    arguments = answerer.arguments
    from audioflamingo.audio import stated_duration_s
    from audioflamingo.cli.pace import Pace
    from audioflamingo.timeline import as_table, check_pieces, timeline

    # Hours take a while to decode, and too fine a step for them can be told from the header.
    stated_s = None if file == STDIN or is_pipe(file) else stated_duration_s(file)
    check_pieces(stated_s or 0.0, arguments.piece, arguments.step)
    (sound,) = read_sounds([file], is_any_length=True)
    model = answerer.model

    pace = Pace(sound.duration_s)
    events = timeline(model, sound, piece_s=arguments.piece, step_s=arguments.step, progress=pace.show)
    show_progress("")
    if arguments.json:
        listed = [asdict(event) for event in events]
        write_json({"file": file, "duration_s": round(sound.duration_s, 3), "events": listed})
    else:
        write_text(heading.rstrip(" ") + "\n" * bool(heading) + as_table(events))
        report_notes([] if events else [f"nothing is heard in {sound.name}"])
    if arguments.plot:
        from audioflamingo.timeline_plot import plot_timeline

        plot_timeline(arguments.plot, sound, events)
