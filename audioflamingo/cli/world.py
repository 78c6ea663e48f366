"""`flamingo world`: sound that we make ourselves, with questions whose answers are exact."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from audioflamingo.cli.arguments import number, whole_number
from audioflamingo.cli.output import show_progress, write_json, write_text
from audioflamingo.errors import OptionError

if TYPE_CHECKING:
    from audioflamingo.world.export import Order

DEFAULT_HOURS = 0.1
SUMMARY = "Make sounds with questions and exact answers, as training data or as a page to listen to."
EXAMPLES = """\
flamingo world --tasks counting,temporal_order --hours 0.1 --seed 1 --out ./data
flamingo world --tasks all --hours 10 --workers 8 --split train --out ./data
flamingo world --tasks LongAudio --hours 1 --split test_known --out ./test
flamingo world --tasks all --listen --out ./listen
flamingo world --tasks transcript --codec adpcm --out ./coded
flamingo world --check ./data
flamingo world --list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument(
        "--tasks", default="all", metavar="NAMES", help="tasks or their families, by commas; see --list"
    )
    parser.add_argument("--hours", type=number(0), metavar="H", help="of audio (default 0.1)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="S", help="the same seed, the same files")
    parser.add_argument(
        "--split",
        default="train",
        metavar="NAME",
        help="train, test_known (words and phrasings held out), test_unknown (voices, sounds, instruments too)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write; an export that was cut off goes on")
    parser.add_argument("--workers", type=whole_number(1), metavar="N", help="processes; by default as many as cores")
    parser.add_argument("--longest", type=number(40, 600), default=600.0, metavar="S", help="seconds of long scenes")
    parser.add_argument("--strength", type=number(0, 1), default=0.5, metavar="X", help="of rooms and noise; 0: clean")
    parser.add_argument(
        "--codec", metavar="NAME", help="that all goes through at last: alaw, mulaw, adpcm, transform[@KBPS] or any"
    )
    parser.add_argument("--soundfont", type=Path, action="append", metavar="SF2", help="also play music through it")
    parser.add_argument("--wav", action="store_true", help="WAV instead of FLAC")
    parser.add_argument("--listen", action="store_true", help="a page of examples instead of data")
    parser.add_argument("--check", type=Path, metavar="DIR", help="find all answers of an export again")
    parser.add_argument("--list", action="store_true", help="name the tasks")


def run(arguments: argparse.Namespace) -> int:
    """Write, check or list; returns the exit code."""
    asked = [f"--{name}" for name in ("list", "check", "listen") if getattr(arguments, name)]
    if len(asked) > 1:
        raise OptionError(f"{' and '.join(asked)} came; each is a work of its own: give one")
    if arguments.list:
        return _list()
    if arguments.check:
        return _check(arguments.check)
    from audioflamingo.world.export import Order, export
    from audioflamingo.world.skills import parse_tasks
    from audioflamingo.world.timeline import World

    if arguments.out is None:
        raise OptionError("no --out is given; name a folder to write to.")
    fonts = tuple(arguments.soundfont or ())
    world = World(arguments.split, arguments.strength, arguments.longest, fonts, codec=arguments.codec)
    audio = "wav" if arguments.wav else "flac"
    hours = DEFAULT_HOURS if arguments.hours is None else arguments.hours
    order = Order(parse_tasks(arguments.tasks), hours, arguments.seed, world, audio)  # type: ignore[arg-type]
    if arguments.listen:
        return _listen(order, arguments)
    done = export(order, arguments.out, num_workers=arguments.workers or _cores(), report=_progress)
    show_progress("")
    write_json(
        {"out": str(arguments.out), "scenes": done.num_scenes, "rows": done.num_rows, "hours": done.duration_s / 3600}
    )
    return 0


def _listen(order: Order, arguments: argparse.Namespace) -> int:
    from audioflamingo.world.listen import write_page

    unused = [f"--{name}" for name in ("hours", "workers", "wav") if getattr(arguments, name)]
    if unused:
        raise OptionError(f"a page has a pair of scenes of each task: {', '.join(unused)} has no part in --listen.")
    page = write_page(order, arguments.out, show_progress)
    show_progress("")
    write_text(f"{page}\n")
    return 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _progress(done_s: float, wanted_s: float) -> None:
    show_progress(f"{done_s / 3600:.2f} of {wanted_s / 3600:.2f} h")


def _list() -> int:
    from audioflamingo.world.skills import SKILLS

    write_text("".join(f"{s.family:12}{s.name:26}{s.about}\n" for s in SKILLS.values()))
    return 0


def _check(folder: Path) -> int:
    from audioflamingo.world.check_files import check_export

    num_turns, problems = check_export(folder)
    for problem in problems:
        write_text(f"{problem}\n")
    write_text(f"{num_turns} answers checked, {len(problems)} wrong\n")
    return 1 if problems else 0
