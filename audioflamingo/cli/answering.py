"""What ask, transcribe and caption share: sounds in, answers out, and one bad file does not lose the others."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from audioflamingo.cli.arguments import generation_options, loading_options
from audioflamingo.cli.batches import Answer, answers_of, in_batches
from audioflamingo.cli.output import (
    cut_notes,
    report_error,
    report_notes,
    show_progress,
    write_json,
    write_text,
    write_thoughts,
)
from audioflamingo.cli.wording import LONGEST_SPLIT_S, told
from audioflamingo.errors import AnswerError, AudioError, FlamingoError, OptionError, PromptError

if TYPE_CHECKING:
    from audioflamingo.api import AudioFlamingo
    from audioflamingo.types import Audio, Delta, Reply

STDIN = "-"
EXIT_SOME_FAILED = 1
EXIT_ALL_FAILED = 2
PER_FILE = (AnswerError, AudioError, PromptError)
"""What may be wrong with one file and not with the next."""


class Answerer:
    """One model, loaded when the first sound was read, and one way of printing its answers."""

    def __init__(self, arguments: argparse.Namespace, *, as_json: bool) -> None:
        self.arguments = arguments
        self.as_json = as_json
        self.options = generation_options(arguments)

    def stream(self, files: Sequence[str], question: str, heading: str = "") -> None:
        """Answer a question about sounds, printed as it comes."""
        from audioflamingo.types import Message, Reply

        sounds = self.sounds(files)
        model = self.model
        show_progress("listening")
        deltas: list[Delta] = []
        with model.stream([Message("user", (*sounds, question))], **self.options) as stream:
            report_notes(() if self.as_json else stream.notes)
            try:
                for delta in stream:
                    deltas.append(self._shown(delta, "" if deltas else heading))
            except FlamingoError:
                write_text("\n" if deltas and not self.as_json else "")  # the error gets a line of its own
                raise
        text, last = "".join(delta.text for delta in deltas), deltas[-1]
        token_ids = tuple(token for delta in deltas for token in delta.token_ids)
        assert last.finish_reason is not None
        assert last.usage is not None
        thoughts = "".join(delta.thoughts for delta in deltas).strip()
        notes = (*stream.notes, *last.notes)
        self._finish(files, Reply(text, token_ids, last.finish_reason, last.usage, notes, thoughts), last.notes)

    def sounds(self, files: Sequence[str]) -> list[Audio]:
        """The sounds of files; of any length where they are answered in parts."""
        return read_sounds(files, is_any_length=self.options.get("long_audio") in ("split", "truncate"))

    def batched(
        self,
        files: Sequence[str],
        question: str,
        answer: Answer | None = None,
        values: Callable[[Reply], dict[str, Any]] = lambda _: {},
    ) -> int:
        """Answer a question about each of many files, some at a time; returns the exit code.

        Args:
            files: what to read.
            question: of each of them.
            answer: what answers a batch of sounds, if not just the model.
            values: of a reply, what its JSON holds beside what it always does.
        """
        _refuse_second_stdin(files)
        answer = answer or answers_of(lambda: self.model, question, self.options)
        num_failed = 0
        for file, found in in_batches(files, lambda one: self.sounds([one])[0], answer):
            if isinstance(found, FlamingoError):
                if not isinstance(found, PER_FILE):
                    raise found
                num_failed += 1
                self._report(file, found)
                continue
            if not self.as_json:
                report_notes(found.notes)
                write_thoughts(f"{found.thoughts}\n" if found.thoughts else "")
                self._write((f"{file}: " if len(files) > 1 else "") + found.text)
            self._finish([file], found, values=values(found))
        return _exit_code(num_failed, len(files))

    def each(self, files: Sequence[str], answer: Callable[[str, str], None]) -> int:
        """Call `answer(file, heading)` for every file, report those that fail, and return the exit code."""
        _refuse_second_stdin(files)
        num_failed = 0
        for file in files:
            try:
                answer(file, f"{file}: " if len(files) > 1 else "")
            except PER_FILE as error:
                num_failed += 1
                self._report(file, error)
        return _exit_code(num_failed, len(files))

    @cached_property
    def model(self) -> AudioFlamingo:
        """The model that was asked for."""
        show_progress(f"loading {self.arguments.model}")
        from audioflamingo.api import load_model

        return load_model(self.arguments.model, **loading_options(self.arguments))

    def _report(self, file: str, error: FlamingoError) -> None:
        report_error(error)
        if self.as_json:
            write_json({"files": [file], "error": told(error)})

    def _shown(self, delta: Delta, heading: str) -> Delta:
        if not self.as_json:
            if delta.thoughts:
                show_progress("")
                write_thoughts(delta.thoughts)
            self._write(heading + delta.text)
        return delta

    def _write(self, text: str) -> None:
        if text:
            show_progress("")
            write_text(text)

    def _finish(
        self,
        files: Sequence[str],
        reply: Reply,
        late_notes: Sequence[str] = (),
        values: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        show_progress("")
        if not self.as_json:
            write_text("\n")
            report_notes([*late_notes, *cut_notes(reply.finish_reason)])
            return
        write_json(
            {
                "files": list(files),
                "text": reply.text,
                **({"thoughts": reply.thoughts} if reply.thoughts else {}),
                **values,
                "finish_reason": reply.finish_reason,
                "usage": asdict(reply.usage),
                "notes": list(reply.notes),
            }
        )


def read_sounds(files: Sequence[str], *, is_any_length: bool = False) -> list[Audio]:
    """The sounds of the files, in order; "-" is standard input.

    Args:
        files: their names.
        is_any_length: reads hours; otherwise what is longer than any checkpoint takes is refused before it is decoded.
    """
    _refuse_second_stdin(files)
    show_progress(f"reading {', '.join(files)}")
    from audioflamingo.audio import load
    from audioflamingo.engine.options import MAX_AUDIO_S

    longest_s = LONGEST_SPLIT_S if is_any_length else MAX_AUDIO_S
    found = []
    for file in files:
        if file == STDIN:
            found.append(load(sys.stdin.buffer, name="standard input", max_duration_s=longest_s))
        elif is_pipe(file):  # who names one at a shell waits for what comes through it
            with open(file, "rb") as pipe:
                found.append(load(pipe, name=file, max_duration_s=longest_s))
        else:
            found.append(load(file, max_duration_s=longest_s))
    return found


def is_pipe(file: str) -> bool:
    """Whether a name is that of a pipe, as `<(ffmpeg ...)` gives one."""
    try:
        return stat.S_ISFIFO(os.stat(file).st_mode)
    except (OSError, ValueError):  # what is wrong with it is told where it is read
        return False


def _exit_code(num_failed: int, num_files: int) -> int:
    if num_failed == 0:
        return 0
    return EXIT_ALL_FAILED if num_failed == num_files else EXIT_SOME_FAILED


def _refuse_second_stdin(files: Sequence[str]) -> None:
    if files.count(STDIN) > 1:
        raise OptionError("standard input (-) is named more than once; it holds one sound")
    if STDIN in files and sys.stdin.isatty():
        raise OptionError("standard input (-) is a terminal; pipe a sound into it, or name a file")
