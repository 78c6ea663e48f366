"""`flamingo chat`: a conversation in the terminal, with sounds at any turn."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from audioflamingo.cli.answering import Answerer, read_sounds
from audioflamingo.cli.arguments import add_generation, add_model, add_thinking
from audioflamingo.cli.output import report_error, report_notes, show_progress, write_text, write_thoughts
from audioflamingo.errors import FlamingoError, OptionError

if TYPE_CHECKING:
    from audioflamingo.conversation import Chat
    from audioflamingo.types import Audio

SUMMARY = "Talk about sounds, turn by turn; /audio brings new ones in, /help lists what else there is."
EXAMPLES = """\
flamingo chat dog.wav
flamingo chat
flamingo chat --system "Answer in one word." first.wav second.wav
"""
PROMPT = "> "


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
    sounds = read_sounds(arguments.files) if arguments.files else []
    chat = answerer.model.chat(arguments.system, **answerer.options)
    session = Session(chat, sounds)
    show_progress("")
    if sys.stdin.isatty():
        import readline  # noqa: F401 (its import is what gives `input` line editing)

        write_text("Ask a question, or type /help. The conversation stays on this machine.\n")
    session.announce()
    while session.is_open:
        session.turn()
    return 0


@dataclass
class Session:
    """A conversation, the sounds that wait for the next question, and the commands.

    Attributes:
        chat: what was said.
        waiting: sounds that the next question brings in.
        is_open: whether it goes on.
    """

    chat: Chat
    waiting: list[Audio] = field(default_factory=list)
    is_open: bool = True

    def turn(self) -> None:
        """Read one line and do what it says; errors are shown and change nothing."""
        try:
            line = input(PROMPT if sys.stdin.isatty() else "").strip()
        except EOFError:
            self.is_open = False
            return
        try:
            if line.startswith("/"):
                self.command(line)
            elif line:
                self.ask(line)
        except FlamingoError as error:
            report_error(error)
        except KeyboardInterrupt:  # ends the answer, not the conversation
            write_text("\n")

    def command(self, line: str) -> None:
        """Do what a line beginning with a slash says.

        Raises:
            OptionError: there is no such command.
        """
        name, _, rest = line.partition(" ")
        if name not in COMMANDS:
            raise OptionError(f"{name} is not a command; allowed: {', '.join(COMMANDS)}")
        COMMANDS[name].run(self, rest.strip())

    def ask(self, question: str) -> None:
        """Ask, with the waiting sounds, and print the answer as it comes."""
        show_progress("listening")
        with self.chat.stream(question, list(self.waiting)) as stream:
            report_notes(stream.notes)
            for delta in stream:
                self.waiting.clear()
                if delta.thoughts:
                    show_progress("")
                    write_thoughts(delta.thoughts)
                if delta.text:
                    show_progress("")
                    write_text(delta.text)
        show_progress("")
        write_text("\n")

    def announce(self) -> None:
        """Say which sounds wait for the next question."""
        first = len(self.chat.sounds) + 1
        for number, sound in enumerate(self.waiting, start=first):
            write_text(f"<sound-{number}> {sound.name}, {sound.duration_s:.1f} s, comes with the next question\n")


@dataclass(frozen=True)
class Command:
    """A command's effect and its line of help."""

    run: Callable[[Session, str], None]
    help: str


def _audio(session: Session, rest: str) -> None:
    for number, sound in enumerate(session.chat.sounds, start=1):
        if not rest:
            write_text(f"<sound-{number}> {sound.name}, {sound.duration_s:.1f} s\n")
    if rest:
        session.waiting += read_sounds([rest])
        show_progress("")
    session.announce()


def _think(session: Session, rest: str) -> None:
    if rest not in ("", "on", "off"):
        raise OptionError(f"/think {rest} came, allowed: /think on, /think off, or /think to switch")
    is_on = not session.chat.options.get("think", False) if not rest else rest == "on"
    session.chat.options["think"] = is_on
    write_text(f"thinking is {'on' if is_on else 'off'}\n")


def _save(session: Session, rest: str) -> None:
    session.chat.save(_needed(rest, "/save"))
    write_text(f"saved {len(session.chat.messages)} messages as {rest}\n")


def _load(session: Session, rest: str) -> None:
    session.chat.load(_needed(rest, "/load"))
    session.waiting.clear()
    write_text(f"loaded {len(session.chat.messages)} messages from {rest}\n")


def _undo(session: Session, _: str) -> None:
    write_text("the last question and its answer are forgotten\n" if session.chat.undo() else "nothing to undo\n")


def _budget(session: Session, _: str) -> None:
    write_text(f"{session.chat.budget()}\n")


def _help(_: Session, __: str) -> None:
    write_text("".join(f"{name:9}{command.help}\n" for name, command in COMMANDS.items()))
    write_text("In a question, <sound-2> is the second sound and <sound:dog.wav> the one of that name.\n")


def _quit(session: Session, _: str) -> None:
    session.is_open = False


COMMANDS: dict[str, Command] = {
    "/audio": Command(_audio, "/audio FILE brings a sound in with the next question; /audio lists them"),
    "/think": Command(_think, "/think on or off: reason before answering"),
    "/save": Command(_save, "/save FILE writes the conversation, its sounds beside it"),
    "/load": Command(_load, "/load FILE goes on with a saved one"),
    "/undo": Command(_undo, "forgets the last question and its answer"),
    "/budget": Command(_budget, "shows how much of the context is used"),
    "/help": Command(_help, "shows this"),
    "/quit": Command(_quit, "leaves; so does the end of the input"),
}


def _needed(rest: str, name: str) -> str:
    if not rest:
        raise OptionError(f"{name} needs a file, for example {name} talk.json")
    return rest
