"""`flamingo chat`: a conversation in the terminal, with sounds at any turn."""

from __future__ import annotations

import argparse
import glob
import os
import sys

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model, add_thinking
from audioflamingo.cli.chat_session import COMMANDS, Session
from audioflamingo.cli.output import show_progress, write_text
from audioflamingo.errors import OptionError

SUMMARY = "Talk about sounds, turn by turn; /audio brings new ones in, /help lists what else there is."
EXAMPLES = """\
flamingo chat dog.wav
flamingo chat
flamingo chat --system "Answer in one word." first.wav second.wav
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("files", nargs="*", metavar="FILE", help="sounds that come with the first question")
    parser.add_argument("--system", metavar="TEXT", help="what the model is told about its task")
    add_model(parser)
    add_generation(parser)
    add_thinking(parser)


def run(arguments: argparse.Namespace) -> int:
    """Talk until the input ends; returns the exit code."""
    if "-" in arguments.files:
        raise OptionError("standard input (-) is where the questions come from; name the sound's file")
    answerer = Answerer(arguments, as_json=False)
    sounds = answerer.sounds(arguments.files) if arguments.files else []
    session = Session(answerer.model.chat(arguments.system, **answerer.options), answerer.sounds)
    if sounds:
        session.bring_in(sounds)
    show_progress("")
    if sys.stdin.isatty():
        _edit_lines()
        write_text("Ask a question, or type /help. The conversation stays on this machine.\n")
    session.announce()
    while session.is_open:
        session.turn()
    return 0


def _edit_lines() -> None:
    """Arrow keys, and the tab key for commands and files, where Python has them."""
    try:
        import readline  # its import is what gives `input` line editing
    except ImportError:  # as on Windows
        return
    readline.set_completer_delims(" \t")
    readline.set_completer(
        lambda word, number: dict(enumerate(completions(readline.get_line_buffer(), word))).get(number)
    )
    readline.parse_and_bind("tab: complete")


def completions(line: str, word: str) -> list[str]:
    """What a word may become by the tab key: a command at the beginning of a line, a file behind one."""
    if line.startswith(word) and word.startswith("/"):
        return [f"{name} " for name in COMMANDS if name.startswith(word)]
    if not line.startswith("/"):
        return []
    home = os.path.expanduser(word)
    found = sorted(f"{path}/" if os.path.isdir(path) else path for path in glob.glob(f"{glob.escape(home)}*"))
    return [word + path[len(home) :].replace(" ", "\\ ") for path in found]
