"""`flamingo serve`: the model and its voice over HTTP, in the way of OpenAI's endpoints."""

from __future__ import annotations

import argparse
import os
import signal
from types import ModuleType
from typing import TYPE_CHECKING

from audioflamingo.cli.arguments import add_model, loading_options, number, whole_number
from audioflamingo.cli.output import report_notes, show_progress
from audioflamingo.errors import OptionError

if TYPE_CHECKING:
    from audioflamingo.server.limits import ServerLimits

SUMMARY = "Serve the model over HTTP for OpenAI's clients: chat, transcription, speech."
EXAMPLES = """\
flamingo serve
flamingo serve --model af3 --host 0.0.0.0 --port 8080 --api-key "$KEY"
flamingo serve --voice slt --allow-urls --max-waiting 16
"""
KEY_VARIABLE = "FLAMINGO_API_KEY"
DEFAULT_ENGINE = "flamingo"
EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("--host", default="127.0.0.1", metavar="NAME", help="address; 0.0.0.0 is reached from outside")
    parser.add_argument("--port", type=whole_number(0), default=8000, metavar="N", help="0 takes any that is free")
    parser.add_argument("--api-key", action="append", default=[], metavar="KEY", help=f"needed then; or {KEY_VARIABLE}")
    parser.add_argument("--max-waiting", type=whole_number(0), metavar="N", help="requests beyond those at work; 64")
    parser.add_argument("--max-body-mb", type=whole_number(1), metavar="N", help="MiB of one request; 64")
    parser.add_argument("--max-audio-s", type=number(1), metavar="S", help="seconds of sound of one request; 3600")
    parser.add_argument("--allow-urls", action="store_true", help="fetch sounds from public http(s) addresses")
    parser.add_argument("--engine", default=DEFAULT_ENGINE, metavar="NAME", help="of the voice; see flamingo say")
    parser.add_argument("--voice", metavar="NAME", help="the default voice; for piper, an .onnx file")
    parser.add_argument("--no-voice", action="store_true", help="no speech")
    add_model(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C; returns the exit code."""
    if arguments.no_voice and (arguments.voice or arguments.engine != DEFAULT_ENGINE):
        raise OptionError("--no-voice serves no speech, but --voice or --engine came too; leave one of them out")
    limits = _limits(arguments)
    run_module = _server_room()
    bound = run_module.bind(arguments.host, arguments.port)
    from audioflamingo.api import load_model
    from audioflamingo.server.limits import open_note
    from audioflamingo.server.voices import Voices
    from audioflamingo.server.worker import Worker

    show_progress(f"loading {arguments.model}")
    voices = None if arguments.no_voice else Voices(arguments.engine, arguments.voice)
    worker = Worker(load_model(arguments.model, **loading_options(arguments)), voices, limits)
    port = bound.getsockname()[1]
    note = open_note(arguments.host, limits.api_keys)
    host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host

    def ready() -> None:
        show_progress("")
        report_notes([note] if note else [])
        report_notes([f"{worker.name} is served at http://{host}:{port}/v1; Ctrl-C ends"])

    received = run_module.serve(worker, bound, arguments.host, ready)
    return EXIT_INTERRUPTED if received == signal.SIGINT else 0


def _limits(arguments: argparse.Namespace) -> ServerLimits:
    from audioflamingo.server.limits import MIB, ServerLimits

    keys = [*arguments.api_key, *os.environ.get(KEY_VARIABLE, "").split(",")]
    given = {
        "max_waiting": arguments.max_waiting,
        "max_body_bytes": arguments.max_body_mb and arguments.max_body_mb * MIB,
        "max_audio_s": arguments.max_audio_s,
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    if arguments.api_key and not all(arguments.api_key):
        raise OptionError("--api-key is empty; give a key, or leave it out")
    return ServerLimits(allow_urls=arguments.allow_urls, api_keys=tuple(key for key in keys if key), **chosen)


def _server_room() -> ModuleType:
    """The server, whose packages are an extra.

    Raises:
        OptionError: they are not installed.
    """
    try:
        from audioflamingo.server import run
    except ImportError as error:
        raise OptionError(f"{error.name} is not installed: pip install 'audioflamingo[serve]'") from error
    return run
