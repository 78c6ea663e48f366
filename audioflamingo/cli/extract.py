"""`flamingo extract`: an answer as JSON that keeps to a schema."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model, add_thinking
from audioflamingo.cli.ask import files_and_question
from audioflamingo.cli.output import report_notes, show_progress, write_text, write_thoughts
from audioflamingo.errors import OptionError

SUMMARY = "Ask a question about sounds and get JSON that keeps to a schema (needs the extra structured)."
EXAMPLES = """\
flamingo extract street.wav "Which sounds do you hear?" --schema sounds.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.usage = 'flamingo extract [OPTION...] --schema FILE FILE... "QUESTION"'
    parser.add_argument("words", nargs="*", metavar="FILE... QUESTION", help="sounds (- is stdin); the question last")
    parser.add_argument("--schema", metavar="FILE", required=True, help="the JSON schema")
    add_model(parser)
    add_generation(parser)
    add_thinking(parser)


def run(arguments: argparse.Namespace) -> int:
    """Answer; returns the exit code."""
    files, question = files_and_question(arguments.words, "extract", f" --schema {shlex.quote(arguments.schema)}")
    answerer = Answerer(arguments, as_json=False)
    answerer.options["schema"] = read_schema(arguments.schema)
    _answer(answerer, files, question)
    return 0


def _answer(answerer: Answerer, files: Sequence[str], question: str) -> None:
    """Print the whole answer or, where it does not become one, nothing: half of a JSON text is of use to nobody."""
    from audioflamingo.types import Message

    sounds = answerer.sounds(files)
    model = answerer.model
    show_progress("listening")
    reply = model.answer([Message("user", (*sounds, question))], **answerer.options)
    show_progress("")
    report_notes(reply.notes)
    write_thoughts(f"{reply.thoughts}\n" if reply.thoughts else "")
    write_text(f"{reply.text}\n")


def read_schema(file: str) -> str:
    """The text of a schema's file.

    Raises:
        OptionError: it cannot be read, or is too large.
    """
    from audioflamingo.engine.schema import MAX_SCHEMA_CHARS

    try:
        with open(file, encoding="utf-8") as opened:
            text = opened.read(MAX_SCHEMA_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise OptionError(f"the schema {file} cannot be read ({why}); give a file that holds a JSON schema") from error
    if len(text) > MAX_SCHEMA_CHARS:
        raise OptionError(f"the schema {file} has more than {MAX_SCHEMA_CHARS:,} characters")
    return text
