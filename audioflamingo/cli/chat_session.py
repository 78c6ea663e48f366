"""One conversation at the terminal: its lines, its commands, and its branches."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from audioflamingo.cli.output import (
    OutputError,
    cut_notes,
    report_error,
    report_notes,
    show_progress,
    write_text,
    write_thoughts,
)
from audioflamingo.cli.wording import told_in_chat
from audioflamingo.errors import FlamingoError, OptionError

if TYPE_CHECKING:
    from audioflamingo.conversation import Chat
    from audioflamingo.types import Audio

PROMPT = "> "
FAREWELLS = ("quit", "exit")  # lines that are no question
ALIASES = {"/exit": "/quit", "/q": "/quit", "/?": "/help", "/h": "/help"}
MAX_DIGITS = 9


@dataclass
class Session:
    """A conversation, the sounds that wait for the next question, and the commands.

    Attributes:
        chat: what was said on the branch that is talked on.
        read: reads sound files.
        waiting: sounds that the next question brings in.
        branches: all conversations of this session, by their number less one.
        is_open: whether it goes on.
        is_kept: whether the last line became part of the memory.
    """

    chat: Chat
    read: Callable[[Sequence[str]], list[Audio]]
    waiting: list[Audio] = field(default_factory=list)
    branches: list[Chat] = field(default_factory=list)
    is_open: bool = True
    is_kept: bool = False

    def __post_init__(self) -> None:
        """The first branch is the conversation that it begins with."""
        self.branches = [self.chat]

    @property
    def branch(self) -> int:
        """The number of the branch that is talked on, from 1."""
        return self.branches.index(self.chat) + 1

    def turn(self) -> None:
        """Read one line and do what it says; errors are shown and change nothing.

        Raises:
            OutputError: answers cannot be written any more.
        """
        line = self._line()
        self.is_kept = False
        try:
            if line.startswith("/"):
                self.command(line)
            elif line.lower() in FAREWELLS:
                self.is_open = False
            elif line:
                self.ask(line)
        except OutputError:
            raise
        except FlamingoError as error:
            report_error(error, told_in_chat)
            self._let_go()
        except KeyboardInterrupt:  # ends the answer, not the conversation
            show_progress("")
            write_text("\n")
            report_notes(["interrupted; what was said is remembered" if self.is_kept else "interrupted"])

    def command(self, line: str) -> None:
        """Do what a line beginning with a slash says.

        Raises:
            OptionError: there is no such command, or it takes no words and some came.
        """
        typed, *words = line.split(maxsplit=1)
        name = ALIASES.get(typed.lower(), typed.lower())
        if name not in COMMANDS:
            raise OptionError(f"{typed} is not a command; allowed: {', '.join(COMMANDS)}")
        if words and not COMMANDS[name].takes_words:
            raise OptionError(f"{typed} stands alone, but {words[0]} came behind it; leave that out")
        COMMANDS[name].run(self, "".join(words))

    def ask(self, question: str) -> None:
        """Ask, with the waiting sounds, and print the answer as it comes; they wait no longer once it is remembered."""
        before = self.chat.messages
        show_progress("listening")
        try:
            with self.chat.stream(question, list(self.waiting)) as stream:
                report_notes(stream.notes)
                for delta in stream:
                    if delta.thoughts or delta.text:
                        show_progress("")  # and never again: behind words it would stay, or take their line away
                    write_thoughts(delta.thoughts)
                    write_text(delta.text)
                    if delta.finish_reason is not None:
                        show_progress("")
                        write_text("\n")
                        report_notes([*delta.notes, *cut_notes(delta.finish_reason)])
        finally:
            show_progress("")
            self.is_kept = self.chat.messages is not before
            if self.is_kept:
                self.waiting.clear()

    def bring_in(self, sounds: Sequence[Audio]) -> None:
        """Let sounds wait for the next question.

        Raises:
            FlamingoError: no question could bring them in, such as one that is too long; none of them waits then.
        """
        both = [*self.waiting, *sounds]
        self.chat.check_sounds(tuple(both))
        self.waiting = both

    def _let_go(self) -> None:
        """Drop the waiting sounds where no question could bring them in: they would make every later one fail."""
        if self.waiting and _is_refused(self.chat, self.waiting) and not _is_refused(self.chat, []):
            report_notes([f"{_names(self.waiting)} no longer waits for a question; /audio brings sounds in again"])
            self.waiting.clear()

    def announce(self) -> None:
        """Say which sounds wait for the next question."""
        first = len(self.chat.sounds) + 1
        for number, sound in enumerate(self.waiting, start=first):
            write_text(f"<sound-{number}> {sound.name}, {sound.duration_s:.1f} s, comes with the next question\n")

    def _line(self) -> str:
        """The next line; "" where there is none to act on. Only the end of the input ends the conversation."""
        is_watched = sys.stdin.isatty()
        prompt = f"{self.branch}{PROMPT}" if len(self.branches) > 1 else PROMPT
        try:
            return _typed(prompt) if is_watched else _piped()
        except EOFError:
            self.is_open = False
            write_text("\n" if is_watched else "")
        except KeyboardInterrupt:
            if not is_watched:
                raise
            write_text("\n")
            report_notes(["/quit or Ctrl-D leaves"])
        return ""


def _typed(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except OSError as error:
        raise OutputError(f"the prompt cannot be written: {error.strerror}. Send it somewhere else.") from error


def _piped() -> str:
    """A line of a file or a pipe, without `input`, which would write to where the answers go."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.strip()


@dataclass(frozen=True)
class Command:
    """A command's effect, its line of help, and whether words may stand behind it."""

    run: Callable[[Session, str], None]
    help: str
    takes_words: bool = True


def _is_refused(chat: Chat, sounds: Sequence[Audio]) -> bool:
    try:
        chat.check_sounds(tuple(sounds))
    except FlamingoError:
        return True
    return False


def _names(sounds: Sequence[Audio]) -> str:
    return ", ".join(sound.name for sound in sounds)


def _audio(session: Session, rest: str) -> None:
    for number, sound in enumerate(session.chat.sounds, start=1):
        if not rest:
            write_text(f"<sound-{number}> {sound.name}, {sound.duration_s:.1f} s\n")
    if rest:
        session.bring_in(session.read(files_in(rest)))
        show_progress("")
    elif not session.chat.sounds and not session.waiting:
        write_text("no sounds so far; /audio FILE brings one in\n")
    session.announce()


def _think(session: Session, rest: str) -> None:
    word = rest.lower()
    num_tokens = _count(word)
    if word not in ("", "on", "off") and not num_tokens:
        raise OptionError(
            f"/think {rest} came, allowed: /think on, /think off, /think TOKENS (the most, at least 1), "
            "or /think to switch"
        )
    is_on = not session.chat.options.get("think", False) if not word else word != "off"
    limit = {"max_thought_tokens": num_tokens} if num_tokens else {}
    session.chat.choose(think=is_on, **limit)
    write_text(f"thinking is {'on' if is_on else 'off'}{f', in at most {num_tokens} tokens' if limit else ''}\n")


def _save(session: Session, rest: str) -> None:
    file = _one_file(rest, "/save")
    session.chat.save(file)
    write_text(f"saved {len(session.chat.messages)} messages as {file}\n")


def _load(session: Session, rest: str) -> None:
    file = _one_file(rest, "/load")
    session.chat.load(file)
    write_text(f"loaded {len(session.chat.messages)} messages from {file}\n")
    session.announce()


def _undo(session: Session, rest: str) -> None:
    if rest and not _count(rest):
        raise OptionError(f"/undo {rest} came, allowed: /undo, or /undo N for the last N questions")
    if session.waiting and not rest:  # the latest thing that was done
        write_text(f"{_names(session.waiting)}: forgotten before a question; /undo again takes back the last one\n")
        session.waiting.clear()
        return
    num_undone = 0
    while num_undone < (_count(rest) or 1) and session.chat.undo():
        num_undone += 1
    what = "question and its answer are" if num_undone == 1 else f"{num_undone} questions and their answers are"
    rest_of_them = "; there were no more" if num_undone < _count(rest) else ""
    write_text(f"the last {what} forgotten{rest_of_them}\n" if num_undone else "nothing to undo\n")


def _fork(session: Session, _: str) -> None:
    old = session.branch
    session.chat = session.chat.fork()
    session.branches.append(session.chat)
    write_text(f"this is conversation {session.branch}; /switch {old} goes back to {old}\n")


def _switch(session: Session, rest: str) -> None:
    numbers = [str(number) for number in range(1, len(session.branches) + 1)]
    if rest:
        if rest not in numbers:
            raise OptionError(f"/switch {rest} came, allowed: {', '.join(numbers)}; /fork begins another one")
        session.chat = session.branches[int(rest) - 1]
    for number, chat in zip(numbers, session.branches, strict=True):
        mark = "*" if chat is session.chat else " "
        write_text(f"{mark} {number}: {len(chat.messages)} messages, {len(chat.sounds)} sounds\n")


def _budget(session: Session, _: str) -> None:
    write_text(f"{session.chat.budget()}\n")


def _help(_: Session, __: str) -> None:
    write_text("".join(f"{name:9}{command.help}\n" for name, command in COMMANDS.items()))
    write_text("In a question, <sound-2> is the second sound and <sound:dog.wav> the one of that name.\n")


def _quit(session: Session, _: str) -> None:
    session.is_open = False


COMMANDS: dict[str, Command] = {
    "/audio": Command(_audio, "/audio FILE... brings sounds in with the next question; /audio lists them"),
    "/think": Command(_think, "/think on or off: reason before answering; /think TOKENS limits it"),
    "/save": Command(_save, "/save FILE writes the conversation, its sounds beside it"),
    "/load": Command(_load, "/load FILE goes on with a saved one"),
    "/undo": Command(_undo, "forgets the sounds that wait, else the last question and its answer; /undo N the last N"),
    "/fork": Command(_fork, "goes on in a second conversation from here; the first stays as it is", False),
    "/switch": Command(_switch, "/switch N talks on in conversation N; /switch lists them"),
    "/budget": Command(_budget, "shows how much of the context is used", False),
    "/help": Command(_help, "shows this", False),
    "/quit": Command(_quit, "leaves; so do quit, exit and the end of the input (Ctrl-D)", False),
}


def files_in(words: str) -> list[str]:
    """Files as they are typed behind a command: one with blanks in its name, or several with quotes where needed.

    Raises:
        OptionError: a quote is not closed, or one of them is "-".
    """
    whole = os.path.expanduser(words)
    if os.path.exists(whole):
        return [whole]
    try:
        files = [os.path.expanduser(word) for word in shlex.split(words)]
    except ValueError as error:
        raise OptionError(f"{words} came: {str(error).lower()}; put names with blanks into two quotes") from error
    if "-" in files:
        raise OptionError("standard input (-) is where the questions come from; name the sound's file")
    return files


def _count(word: str) -> int:
    """The whole number that a word is; 0 where it is none."""
    return int(word) if word.isdecimal() and len(word) <= MAX_DIGITS else 0


def _one_file(rest: str, name: str) -> str:
    if not rest:
        raise OptionError(f"{name} needs a file, for example {name} talk.json")
    is_quoted = rest[0] in "'\"" or "\\" in rest
    files = files_in(rest) if is_quoted else [os.path.expanduser(rest)]
    if len(files) != 1:
        raise OptionError(f"{name} takes one file, {len(files)} came")
    return files[0]
