"""The table of verbs, and what becomes of errors.

Exit codes: 0 all is well; 1 some of many files failed, the others' answers were printed; 2 nothing could be done as it
was asked for; 130 interrupted; 141 the reader of our output went away.
"""

from __future__ import annotations

import difflib
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from types import ModuleType

from audioflamingo.cli import (
    ask,
    bench,
    caption,
    catch_interrupts_again,
    chat,
    evaluate,
    extract,
    facts,
    info,
    say,
    serve,
    talk,
    timeline,
    train,
    transcribe,
    world,
)
from audioflamingo.cli.arguments import Parser
from audioflamingo.cli.output import OutputError, abandon_stdout, report_error, show_progress, write_text
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.version import __version__

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE

VERBS: dict[str, ModuleType] = {
    "ask": ask,
    "transcribe": transcribe,
    "caption": caption,
    "chat": chat,
    "extract": extract,
    "facts": facts,
    "say": say,
    "talk": talk,
    "serve": serve,
    "timeline": timeline,
    "info": info,
    "train": train,
    "eval": evaluate,
    "world": world,
    "bench": bench,
}
"""Each module has SUMMARY, EXAMPLES, `add_arguments(parser)` and `run(arguments) -> exit code`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    # OpenMP's threads spin while they wait, which on a busy machine takes the core from the thread they wait for.
    if "torch" not in sys.modules:  # which reads it when it is imported, and never again
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _replace_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an answer may hold what the terminal's encoding lacks
    logging.basicConfig(level=logging.WARNING, format="flamingo: %(message)s", stream=sys.stderr)
    try:
        if sys.stdout is None:
            raise OutputError("standard output is closed, and the answer has nowhere to go. Leave it open.")
        code = _run(words)
        sys.stdout.flush()
    except FlamingoError as error:
        report_error(error)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        show_progress("")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        abandon_stdout()
        return EXIT_BROKEN_PIPE
    return code


def _replace_closed_streams() -> None:
    """Python has None for a stream that was closed before it began: then input is empty, and notes go nowhere."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - open for as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _run(words: list[str]) -> int:
    if not words:
        sys.stderr.write(help_text())
        return EXIT_USER_ERROR
    verb, *rest = words
    if verb in ("-h", "--help", "help"):
        write_text(help_text())
        return 0
    if verb in ("-V", "--version", "version"):
        write_text(f"flamingo {__version__}\n")
        return 0
    if verb not in VERBS:
        raise OptionError(f"{verb!r} is not a verb{_hint(verb)}; allowed: {', '.join(VERBS)}. See flamingo --help.")
    module = VERBS[verb]
    module = (module.part(rest) if hasattr(module, "part") else None) or module  # a verb may have verbs of its own
    parser = Parser(verb, module.SUMMARY, module.EXAMPLES)
    module.add_arguments(parser)
    arguments = parser.parse_words(rest)
    return 0 if arguments is None else int(module.run(arguments))


def _hint(verb: str) -> str:
    """What was probably meant by a word that is not a verb."""
    if os.path.isfile(verb):
        return f' (to ask about a file: flamingo ask {shlex.quote(verb)} "What do you hear?")'
    if verb.startswith("-"):
        return " (options stand after the verb)"
    close = difflib.get_close_matches(verb.lower(), VERBS, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def help_text() -> str:
    """What `flamingo --help` prints."""
    verbs = "".join(f"  {name:12}{module.SUMMARY}\n" for name, module in VERBS.items())
    examples = "".join(f"  {module.EXAMPLES.splitlines()[0]}\n" for module in VERBS.values())
    return (
        "usage: flamingo VERB ...\n\nAudio Flamingo 3: ask, transcribe and reason about any sound.\n\n"
        f"verbs:\n{verbs}\nexamples:\n{examples}\nEvery verb explains itself: flamingo VERB --help\n"
        "The version: flamingo --version\n"
    )


catch_interrupts_again()  # last: from here on, `main` is what is interrupted
