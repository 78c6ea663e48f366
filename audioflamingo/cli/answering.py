"""What ask, transcribe and caption share: sounds in, answers out, and one bad file does not lose the others."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING

from audioflamingo.cli.arguments import generation_options
from audioflamingo.cli.output import report_error, report_notes, show_progress, write_json, write_text, write_thoughts
from audioflamingo.errors import AudioError, OptionError, PromptError

if TYPE_CHECKING:
    from audioflamingo.api import AudioFlamingo
    from audioflamingo.types import Audio, Delta, Reply

STDIN = "-"
EXIT_SOME_FAILED = 1
EXIT_ALL_FAILED = 2


class Answerer:
    """One model, loaded when the first sound was read, and one way of printing its answers."""

    def __init__(self, arguments: argparse.Namespace, *, as_json: bool) -> None:
        self.arguments = arguments
        self.as_json = as_json
        self.options = generation_options(arguments)

    def stream(self, files: Sequence[str], question: str, heading: str = "") -> None:
        """Answer a question about sounds, printed as it comes."""
        from audioflamingo.types import Message, Reply

        sounds = read_sounds(files)
        model = self.model
        show_progress("listening")
        with model.stream([Message("user", (*sounds, question))], **self.options) as stream:
            report_notes(() if self.as_json else stream.notes)
            deltas = [self._shown(delta, heading if number == 0 else "") for number, delta in enumerate(stream)]
        text, last = "".join(delta.text for delta in deltas), deltas[-1]
        token_ids = tuple(token for delta in deltas for token in delta.token_ids)
        assert last.finish_reason is not None
        assert last.usage is not None
        thoughts = "".join(delta.thoughts for delta in deltas).strip()
        self._finish(files, Reply(text, token_ids, last.finish_reason, last.usage, stream.notes, thoughts))

    def whole(self, file: str, ask: Callable[[AudioFlamingo, Audio], Reply], heading: str = "") -> None:
        """Print an answer that has to be complete before it can be shown."""
        (sound,) = read_sounds([file])
        model = self.model
        show_progress("listening")
        reply = ask(model, sound)
        if not self.as_json:
            report_notes(reply.notes)
            self._write(heading + reply.text)
        self._finish([file], reply)

    def each(self, files: Sequence[str], answer: Callable[[str, str], None]) -> int:
        """Call `answer(file, heading)` for every file, report those that fail, and return the exit code."""
        _refuse_second_stdin(files)
        num_failed = 0
        for file in files:
            try:
                answer(file, f"{file}: " if len(files) > 1 else "")
            except (AudioError, PromptError) as error:
                num_failed += 1
                report_error(error)
                if self.as_json:
                    write_json({"files": [file], "error": str(error)})
        if num_failed == 0:
            return 0
        return EXIT_ALL_FAILED if num_failed == len(files) else EXIT_SOME_FAILED

    @cached_property
    def model(self) -> AudioFlamingo:
        """The model that was asked for."""
        show_progress(f"loading {self.arguments.model}")
        from audioflamingo.api import load_model

        chosen = self.arguments
        return load_model(chosen.model, device=chosen.device, dtype=chosen.dtype, adapter=chosen.adapter)

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

    def _finish(self, files: Sequence[str], reply: Reply) -> None:
        show_progress("")
        if not self.as_json:
            write_text("\n")
            return
        write_json(
            {
                "files": list(files),
                "text": reply.text,
                **({"thoughts": reply.thoughts} if reply.thoughts else {}),
                "finish_reason": reply.finish_reason,
                "usage": asdict(reply.usage),
                "notes": list(reply.notes),
            }
        )


def read_sounds(files: Sequence[str]) -> list[Audio]:
    """The sounds of the files, in order; "-" is standard input."""
    _refuse_second_stdin(files)
    show_progress(f"reading {', '.join(files)}")
    from audioflamingo.audio import load

    return [load(sys.stdin.buffer, name="standard input") if file == STDIN else load(file) for file in files]


def _refuse_second_stdin(files: Sequence[str]) -> None:
    if files.count(STDIN) > 1:
        raise OptionError("standard input (-) is named more than once; it holds one sound")
    if STDIN in files and sys.stdin.isatty():
        raise OptionError("standard input (-) is a terminal; pipe a sound into it, or name a file")
