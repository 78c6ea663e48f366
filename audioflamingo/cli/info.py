"""`flamingo info`: what a checkpoint is, without loading its weights."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from audioflamingo.cli.output import write_json, write_text

SUMMARY = "Show what a model is: size, precision, limits, memory, default options. Its weights are checked, not loaded."
EXAMPLES = """\
flamingo info nano
flamingo info ./my-checkpoint --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("model", metavar="MODEL", help="nano, af3, af3-think, af3-chat, a folder, a hub id")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Print; returns the exit code."""
    from audioflamingo.api import inspect_model

    found = inspect_model(arguments.model)
    if arguments.json:
        write_json(found)
    else:
        lines = _flat(found)
        width = max(len(name) for name, _ in lines) + 2
        write_text("".join(f"{name:{width}}{value}\n" for name, value in lines))
    return 0


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int) and not isinstance(value, bool):
            lines.append((prefix + name, f"{value:,}"))
        else:
            lines.append((prefix + name, str(value)))
    return lines
