"""`flamingo train voice`: the voice that `flamingo say` and `flamingo talk` speak with, from nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

from audioflamingo.cli.arguments import number, whole_number
from audioflamingo.errors import OptionError

SUMMARY = "Train a voice from nothing: a teacher reads our own sentences, and the parts learn from it."
EXAMPLES = """\
flamingo train voice --work runs/voice --out my-voice --budget-s 1000 --until-s 480
flamingo train voice --work runs/voice --out my-voice --budget-s 1000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options; the same as those of `python -m audioflamingo.train.voice`."""
    add = parser.add_argument
    add("stage", choices=("voice",), metavar="voice", help="this word")
    add(
        "--work",
        type=Path,
        default=Path("runs/voice"),
        metavar="DIR",
        help="shards, and the state that it resumes from",
    )
    add("--out", type=Path, metavar="DIR", help="folder of the voice and the log")
    add("--recipe", default="mel", metavar="NAME", help="mel (the default), or another of train/voice_recipe.py")
    add("--budget-s", type=number(1), metavar="S", help="seconds of training in all pieces together")
    add("--until-s", type=number(1), metavar="S", help="end this piece once so much is spent (default: the budget)")
    add("--workers", type=whole_number(1), default=2, metavar="N", help="processes that render (2)")
    add("--shards", type=whole_number(1), default=120, metavar="N", help="of about 10 minutes of sound each (120)")
    add("--first-hours", type=number(0), default=0.2, metavar="H", help="of sound before training starts (0.2)")
    add("--start-from", type=Path, metavar="DIR", help="a saved voice to go on from, instead of from nothing")


def run(arguments: argparse.Namespace) -> int:
    """Train; returns the exit code."""
    if arguments.out is None:
        raise OptionError(f"--out is missing; for example: {EXAMPLES.splitlines()[0]}")
    import torch

    from audioflamingo.train.voice import VoiceJob
    from audioflamingo.train.voice import run as train
    from audioflamingo.train.voice_recipe import continued, recipe_by_name

    recipe = recipe_by_name(arguments.recipe, arguments.budget_s)
    if arguments.start_from is not None:
        recipe = continued(recipe)
    until_s = arguments.until_s or recipe.budget_s
    job = VoiceJob(
        arguments.work, arguments.out, until_s, arguments.workers, arguments.shards, arguments.first_hours,
        arguments.start_from,
    )  # fmt: skip
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    train(recipe, job, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return 0
