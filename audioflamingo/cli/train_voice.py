"""`flamingo train voice`: the voice that `flamingo say` and `flamingo talk` speak with."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioflamingo.cli.arguments import number, whole_number
from audioflamingo.errors import OptionError

SUMMARY = "Train a voice: from sentences that an engine reads, or from your own recordings and their texts."
EXAMPLES = """\
flamingo train voice --out my-voice --budget-s 1000 --until-s 480
flamingo train voice --out my-voice --budget-s 1000
flamingo train voice --data recordings --start-from my-voice/voice --work runs/me --out me --budget-s 600
flamingo train voice --recipe codes --work runs/codes --out codes --budget-s 2400
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; the same as those of `python -m audioflamingo.train.voice`."""
    add = parser.add_argument
    add("stage", choices=("voice",), metavar="voice", help="this word")
    add(
        "--data", type=Path, metavar="DIR",
        help="folder of sounds with NAME.txt beside NAME.wav, or metadata.csv; by default flite reads our sentences",
    )  # fmt: skip
    add("--out", type=Path, metavar="DIR", help="folder of the voice and the log")
    work = "what is prepared, and the state that it resumes from; one for every recipe and data (runs/voice)"
    add("--work", type=Path, default=Path("runs/voice"), metavar="DIR", help=work)
    add("--recipe", default="mel", metavar="NAME", help="mel (the default), codes, or paper: of 644 M parameters")
    add("--budget-s", type=number(1), metavar="S", help="seconds of training in all pieces together")
    add("--until-s", type=number(1), metavar="S", help="end this piece once so much is spent (default: the budget)")
    add("--workers", type=whole_number(1), default=2, metavar="N", help="processes that render or align (2)")
    add("--shards", type=whole_number(1), default=120, metavar="N", help="of about 10 minutes of flite's each (120)")
    first = "of sound before training starts (0.2; with --data 0.01)"
    add("--first-hours", type=number(0), metavar="H", help=first)
    add("--start-from", type=Path, metavar="DIR", help="a saved voice to go on from, instead of from nothing")
    add("--only-sound", action="store_true", help="with --start-from: the vocoder alone goes on")


def run(arguments: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    if arguments.out is None:
        raise OptionError(f"--out is missing; for example: {EXAMPLES.splitlines()[0]}")
    from audioflamingo.train.voice import train

    train(arguments)
    return 0
