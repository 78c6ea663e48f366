"""What `flamingo bench` and `python -m audioflamingo.bench` share: arguments, and what they start."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

SECTIONS = ("encoder", "prefill", "decode", "batch", "turns", "mel", "memory", "load", "cpu")
ALL = "all"
SUMMARY = "Measure speed: the machine's limits, ours, transformers' own class beside it; the last line is JSON."
EXAMPLES = """\
flamingo bench cpu --beside transformers
flamingo bench decode turns --model nano
flamingo bench all --model random-8b --beside transformers --out results/ --budget-s 240
flamingo bench decode --model random-8b --quantize int4 --kv-cache int8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"{', '.join(SECTIONS)}; or all (the default), cpu on a CPU only"
    )
    parser.add_argument(
        "--model",
        default="nano",
        metavar="NAME",
        help="nano (the default), a folder, or random weights made on the device: random-8b, random-nano, random-tiny",
    )
    parser.add_argument(
        "--beside", choices=("transformers",), help="also its own class, by turns, with the same weights"
    )
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="JSON to write, a file, or a folder for one by its name"
    )
    parser.add_argument("--device", metavar="NAME", help="cpu or cuda; by default the GPU if there is one")
    parser.add_argument("--dtype", metavar="NAME", help="float32 or bfloat16; by default what fits the device")
    parser.add_argument("--quantize", metavar="KIND", help="keep our decoder's weights in fp8, int8 or int4")
    parser.add_argument("--kv-cache", metavar="KIND", help="plain (the default), or int8")
    parser.add_argument("--scale", metavar="NAME", help="sizes: full (the default on a GPU), cpu, tiny")
    parser.add_argument("--budget-s", type=float, metavar="S", help="begin nothing after so many seconds")
    parser.add_argument("--threads", type=int, metavar="N", help="of the CPU; by default torch's own choice")


def run(arguments: argparse.Namespace, say: Callable[[str], object] = print) -> int:
    """Measure and print; returns the exit code, 1 where some row has no figure.

    Raises:
        FlamingoError: an option is not allowed, or there is no such model.
    """
    from audioflamingo.bench.schema import complaints
    from audioflamingo.bench.session import measure, read_order

    report = measure(read_order(arguments), say)
    wrong = complaints(report)
    assert not wrong, wrong
    say(json.dumps(report))
    return 1 if report["errors"] else 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m audioflamingo.bench`: the same without the packages that `flamingo` reads files with."""
    from audioflamingo.errors import FlamingoError

    parser = argparse.ArgumentParser(
        prog="python -m audioflamingo.bench",
        description=SUMMARY,
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        return run(arguments, lambda line: print(line, flush=True))
    except FlamingoError as error:
        parser.exit(2, f"error: {error}\n")
