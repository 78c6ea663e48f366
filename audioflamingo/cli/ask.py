"""`flamingo ask`: a question about sounds."""

from __future__ import annotations

import argparse
import itertools
import os
import shlex
from collections.abc import Sequence

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model, add_thinking
from audioflamingo.errors import OptionError

SUMMARY = "Ask a question about one sound, or about several together."
EXAMPLES = """\
flamingo ask dog.wav "What do you hear?"
flamingo ask first.wav second.mp3 "Is this the same speaker?"
flamingo ask --each *.wav "Is there speech? Answer yes or no."
ffmpeg -i talk.mp4 -f wav - | flamingo ask - "Who is speaking?"
flamingo ask talk.wav "How many dogs bark?" --think
flamingo ask --think=200 talk.wav "How many dogs bark?"
flamingo ask dog.wav "What do you hear?" --temperature 0.7 --seed 1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.usage = 'flamingo ask [OPTION...] FILE... "QUESTION"'
    parser.add_argument("words", nargs="*", metavar="FILE... QUESTION", help="sounds (- is stdin); the question last")
    parser.add_argument("--each", action="store_true", help="ask about each file by itself")
    parser.add_argument("--json", action="store_true", help="one JSON object a line: text, finish_reason, usage, notes")
    add_model(parser)
    add_generation(parser)
    add_thinking(parser)


def files_and_question(words: Sequence[str], verb: str = "ask", ending: str = "") -> tuple[Sequence[str], str]:
    """The words told apart.

    Args:
        words: of the command line.
        verb: whose they are, and `ending` what stands behind them in its example.
        ending: of the example.

    Raises:
        OptionError: one or the other is missing, or there are two questions.
    """
    *files, question = words or [""]
    first = shlex.quote(words[0]) if words and os.path.isfile(words[0]) else "dog.wav"
    example = f'for example: flamingo {verb} {first} "What do you hear?"{ending}'
    if not files:
        came = f"only {question!r} came" if words else "nothing came"
        raise OptionError(f"{came}, needed: FILE... and then the question; {example}")
    if os.path.isfile(question):
        raise OptionError(f"the last word is the question, but {question!r} is a file; {example}")
    if not question.strip():
        raise OptionError(f"the question, the last word, is empty; {example}")
    spoken = list(itertools.takewhile(_is_plain_word, reversed(files)))[::-1]
    if spoken and len(spoken) < len(files):
        whole = shlex.join([*files[: -len(spoken)], " ".join([*spoken, question])])
        quoted = f"a question of several words stands in quotes: flamingo {verb} {whole}{ending}"
        raise OptionError(f"{spoken[0]!r} is not a file; {quoted}")
    for file in files:
        if file.rstrip().endswith(("?", "!", ".")) and not os.path.exists(file):
            raise OptionError(f"{file!r} is not a file, and only the last word is the question; {example}")
    return files, question


def _is_plain_word(word: str) -> bool:
    """Whether it can hardly have been meant as a file: no ending, no folder, no stdin, and there is none."""
    return word.strip("'").isalpha() and not os.path.exists(word)


def run(arguments: argparse.Namespace) -> int:
    """Answer; returns the exit code."""
    files, question = files_and_question(arguments.words)
    answerer = Answerer(arguments, as_json=arguments.json)
    if arguments.each:
        return answerer.batched(files, question)
    answerer.stream(files, question)
    return 0
