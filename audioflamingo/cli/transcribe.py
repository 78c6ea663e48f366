"""`flamingo transcribe`: the words that are spoken."""

from __future__ import annotations

import argparse

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model

SUMMARY = "Write down the words that are spoken in each sound."
EXAMPLES = """\
flamingo transcribe talk.wav
flamingo transcribe *.mp3 --format json > transcripts.jsonl
flamingo transcribe lecture.flac --long-audio split
arecord -f S16_LE -r 16000 -d 5 | flamingo transcribe -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound files (- is stdin)")
    parser.add_argument(
        "--format", choices=("txt", "json"), default="txt", help="text (default), or a JSON line a file"
    )
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    add_model(parser)
    add_generation(parser)


def run(arguments: argparse.Namespace) -> int:
    """Transcribe; returns the exit code."""
    answerer = Answerer(arguments, as_json=arguments.json or arguments.format == "json")

    def answer(file: str, heading: str) -> None:
        answerer.whole(file, lambda model, sound: model.transcribe(sound, **answerer.options), heading)

    return answerer.each(arguments.files, answer)
