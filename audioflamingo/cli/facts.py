"""`flamingo facts`: tags, the emotion of a speaker, or the facts of a piece of music, as values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from audioflamingo.cli.answering import Answerer
from audioflamingo.cli.arguments import add_generation, add_model
from audioflamingo.cli.output import report_notes, show_progress, write_json, write_text
from audioflamingo.errors import OptionError

SUMMARY = "Name what is heard: tags; the emotion of a speaker; genre, key, tempo and more of music."
EXAMPLES = """\
flamingo facts tags street.wav
flamingo facts tags street.wav --among "a dog barking,rain falling"
flamingo facts emotion talk.wav --json
flamingo facts song *.mp3 --json > songs.jsonl
"""
UNTOLD = "untold"  # the field of a value that says what the model does not tell
KINDS: dict[str, Callable[..., Any]] = {
    "tags": lambda model, sound, options: model.tags(sound, **options),
    "emotion": lambda model, sound, options: model.emotion(sound, **options),
    "song": lambda model, sound, options: model.song(sound, **options),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.usage = f"flamingo facts [OPTION...] {'|'.join(KINDS)} FILE..."
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound files (- is stdin)")
    parser.add_argument("--among", metavar="LABELS", help="with tags: the labels that may come, by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_model(parser)
    add_generation(parser)


def run(arguments: argparse.Namespace) -> int:
    """Name; returns the exit code."""
    answerer = Answerer(arguments, as_json=arguments.json)
    if arguments.among is not None:
        if arguments.kind != "tags":
            raise OptionError(f"--among names labels for tags, but {arguments.kind} was asked for; leave it out")
        answerer.options["among"] = [label.strip() for label in arguments.among.split(",") if label.strip()]

    def answer(file: str, heading: str) -> None:
        (sound,) = answerer.sounds([file])
        model = answerer.model
        show_progress("listening")
        found = asdict(KINDS[arguments.kind](model, sound, answerer.options))
        show_progress("")
        if arguments.json:
            write_json({"files": [file], **found})
        else:
            told = (one for one in found.items() if one[0] != UNTOLD and one[1] is not None)
            write_text(heading.rstrip(" ") + "\n" * bool(heading) + "".join(_line(*one) for one in told))
            report_notes([*found.get(UNTOLD, ()), *_unheard(found, sound.name, answerer.options.get("among"))])

    return answerer.each(arguments.files, answer)


def _unheard(found: dict[str, Any], name: str, among: Sequence[str] | None) -> list[str]:
    """A note where tags were asked for and none came."""
    if found.get("labels", True):
        return []
    if among is None:
        return [f"the model names no sound in {name}"]
    return [
        f"{among[0]} is not heard in {name}" if len(among) == 1 else f"none of {', '.join(among)} is heard in {name}"
    ]


def _line(name: str, value: Any) -> str:
    return f"{name}: {', '.join(value) if isinstance(value, tuple) else value}\n"
