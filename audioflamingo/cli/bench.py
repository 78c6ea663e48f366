"""`flamingo bench`: speed, beside the machine's limits and beside transformers."""

from __future__ import annotations

import argparse

from audioflamingo.bench.command import EXAMPLES, SUMMARY, add_arguments
from audioflamingo.cli.output import write_text

__all__ = ["EXAMPLES", "SUMMARY", "add_arguments", "run"]


def run(arguments: argparse.Namespace) -> int:
    """Measure and print; returns the exit code."""
    from audioflamingo.bench import command

    return command.run(arguments, lambda line: write_text(line + "\n"))
