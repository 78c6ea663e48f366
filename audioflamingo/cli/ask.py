"""`flamingo ask`: a question about sounds."""

from __future__ import annotations

import argparse
import os

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model
from audioflamingo.errors import OptionError

SUMMARY = "Ask a question about one sound, or about several together."
EXAMPLES = """\
flamingo ask dog.wav "What do you hear?"
flamingo ask first.wav second.mp3 "Is this the same speaker?"
flamingo ask --each *.wav "Is there speech? Answer yes or no."
ffmpeg -i talk.mp4 -f wav - | flamingo ask - "Who is speaking?"
flamingo ask dog.wav "What do you hear?" --temperature 0.7 --seed 1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("words", nargs="*", metavar="FILE... QUESTION", help="sounds (- is stdin); the question last")
    parser.add_argument("--each", action="store_true", help="ask about each file by itself")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: text, finish_reason, usage, notes")
    add_model(parser)
    add_generation(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer; returns the exit code."""
    *files, question = arguments.words or [""]
    example = 'for example: flamingo ask dog.wav "What do you hear?"'
    if not files:
        raise OptionError(f"{len(arguments.words)} words came, needed: FILE... and then the question; {example}")
    if os.path.isfile(question):
        raise OptionError(f"the last word is the question, but {question!r} is a file; {example}")
    if not question.strip():
        raise OptionError(f"the question, the last word, is empty; {example}")
    answerer = Answerer(arguments, as_json=arguments.json)
    if arguments.each:
        return answerer.each(files, lambda file, heading: answerer.stream([file], question, heading))
    answerer.stream(files, question)
    return 0
