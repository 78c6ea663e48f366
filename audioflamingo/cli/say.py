"""`flamingo say`: read text aloud."""

from __future__ import annotations

import argparse
import codecs
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from audioflamingo.cli.arguments import number
from audioflamingo.cli.output import OutputError, report_notes
from audioflamingo.cli.speech_file import SUFFIXES, check_form, write_speech
from audioflamingo.errors import FlamingoError, OptionError

SUMMARY = "Read text aloud: words, or standard input as it comes."
EXAMPLES = """\
flamingo say "Hello there." -o hello.wav
flamingo ask dog.wav "What do you hear?" | flamingo say -o answer.wav
flamingo say -o - < story.txt | aplay
flamingo say "Faster, please." --rate 1.3 --voice slt -o fast.mp3
flamingo say "Good morning." --engine espeak-ng --voice en-gb-scotland -o morning.wav
flamingo say "Hello." --engine piper --voice en_US-lessac-medium.onnx -o hello.wav
"""
STDOUT = "-"
READ_BYTES = 4_096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("words", nargs="*", metavar="TEXT", help="what to say; without it, standard input")
    parser.add_argument(
        "-o", "--out", metavar="FILE", help=f"sound file, 24 kHz mono: {SUFFIXES} (- is stdout, WAV as it comes)"
    )
    add_voice(parser)


def add_voice(parser: argparse.ArgumentParser) -> None:
    """`--engine`, `--voice`, `--rate`."""
    parser.add_argument(
        "--engine", default="flamingo", metavar="NAME", help="flamingo (default), espeak-ng, flite, piper, kokoro"
    )
    parser.add_argument("--voice", metavar="NAME", help="its name of a voice; for piper, an .onnx file")
    parser.add_argument("--rate", type=number(0.5, 2), default=1.0, metavar="X", help="speed; 1 is the voice's own")


def run(arguments: argparse.Namespace) -> int:
    """Speak; returns the exit code."""
    from audioflamingo.speech.speaker import open_speaker

    if arguments.out is None:
        raise OptionError("nowhere to speak to: give -o FILE, or -o - and pipe it to a player")
    if not arguments.words and sys.stdin.isatty():
        raise OptionError('no text came: flamingo say "Hello." -o hello.wav, or pipe text in')
    if arguments.out != STDOUT:
        check_form(Path(arguments.out))
    speaker = open_speaker(arguments.engine, voice=arguments.voice, rate=arguments.rate)
    deltas = [" ".join(arguments.words)] if arguments.words else read_text(sys.stdin.buffer)
    stream = speaker.stream(deltas)
    first = next(stream, None)
    if first is None:
        raise FlamingoError(f"nothing in this text can be spoken. {' '.join(stream.notes)}".strip())
    pieces = (packet.pcm for source in ([first], stream) for packet in source)
    if arguments.out == STDOUT:
        write_wav(sys.stdout.buffer, pieces)
    else:
        write_speech(Path(arguments.out), pieces)
    report_notes(stream.notes)
    return 0


def read_text(file: BinaryIO) -> Iterator[str]:
    """Text as it comes, never half a character; bytes that are no UTF-8 become the replacement character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    read = getattr(file, "read1", file.read)  # read1 gives what is there instead of waiting for a full buffer
    while piece := read(READ_BYTES):
        yield decoder.decode(piece)
    yield decoder.decode(b"", True)


def write_wav(file: BinaryIO, pieces: Iterable[bytes]) -> None:
    """A WAV stream of unknown length.

    Raises:
        OutputError: it takes no more, for example because a disk is full.
        BrokenPipeError: the reader went away.
    """
    from audioflamingo.speech.wav import wav_header

    try:
        file.write(wav_header())
        for piece in pieces:
            file.write(piece)
            file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"the sound cannot be written: {error.strerror}") from error
