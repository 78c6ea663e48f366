"""`flamingo caption`: a description of all that is heard."""

from __future__ import annotations

import argparse

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model, add_thinking

SUMMARY = "Describe each sound in words."
EXAMPLES = """\
flamingo caption street.wav
flamingo caption street.wav --detail short
flamingo caption *.wav --json > captions.jsonl
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.usage = "flamingo caption [OPTION...] FILE..."
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound files (- is stdin)")
    parser.add_argument("--detail", choices=("short", "long"), default="long", help="one sentence, or all (default)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: text, finish_reason, usage, notes")
    add_model(parser)
    add_generation(parser)
    add_thinking(parser)


def run(arguments: argparse.Namespace) -> int:
    """Describe; returns the exit code."""
    from audioflamingo.facts.questions import CAPTIONS

    question = CAPTIONS[arguments.detail]
    answerer = Answerer(arguments, as_json=arguments.json)
    if len(arguments.files) > 1:
        return answerer.batched(arguments.files, question)
    return answerer.each(arguments.files, lambda file, heading: answerer.stream([file], question, heading))
