"""`flamingo transcribe`: the words that are spoken, as text, JSON or subtitles."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from audioflamingo.cli.answering import Answerer, read_sounds
from audioflamingo.cli.arguments import add_beams, add_generation, add_model
from audioflamingo.cli.output import report_notes, show_progress, write_json, write_text
from audioflamingo.errors import OptionError

if TYPE_CHECKING:
    from audioflamingo.longform import Transcript

SUMMARY = "Write down the words that are spoken in each sound."
EXAMPLES = """\
flamingo transcribe talk.wav --num-beams 4
flamingo transcribe *.mp3 --format json > transcripts.jsonl
flamingo transcribe lecture.flac --long-audio split --resume lecture.part
flamingo transcribe film.mkv --format srt > film.srt
arecord -f S16_LE -r 16000 -d 5 | flamingo transcribe -
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="sound files (- is stdin)")
    parser.add_argument(
        "--format",
        choices=("txt", "json", "srt", "vtt"),
        help="text (default), a JSON line a file with times, or subtitles",
    )
    parser.add_argument("--json", action="store_true", help="the same as --format json")
    parser.add_argument("--resume", metavar="FILE", help="keep what is done here, and go on from it (one sound only)")
    add_model(parser)
    add_generation(parser, is_verbatim=True)
    add_beams(parser)


def run(arguments: argparse.Namespace) -> int:
    """Transcribe; returns the exit code."""
    if arguments.json and arguments.format not in (None, "json"):
        raise OptionError(f"--json and --format {arguments.format} came; leave one of them out")
    form = "json" if arguments.json else arguments.format or "txt"
    answerer = Answerer(arguments, as_json=form == "json")
    is_split = answerer.options.get("long_audio") == "split" or form in ("srt", "vtt")
    if arguments.resume and not is_split:
        raise OptionError("--resume goes on with a sound in pieces; add --long-audio split")
    if len(arguments.files) > 1 and (arguments.resume or form in ("srt", "vtt")):
        raise OptionError(f"{len(arguments.files)} files came; subtitles and --resume take one at a time")
    if is_split:
        answerer.options.pop("long_audio", None)
        return answerer.each(arguments.files, lambda file, heading: _in_pieces(answerer, file, heading, form))
    from audioflamingo.cli.spoken import values_of, words_of
    from audioflamingo.prompt import TRANSCRIBE_PROMPT

    return answerer.batched(arguments.files, TRANSCRIBE_PROMPT, words_of(answerer), values_of)


def _in_pieces(answerer: Answerer, file: str, heading: str, form: str) -> None:
    from audioflamingo.cli.pace import Pace
    from audioflamingo.longform import as_srt, as_values, as_vtt, transcribe_long

    (sound,) = read_sounds([file], is_any_length=True)
    resume = answerer.arguments.resume
    try:
        transcript = transcribe_long(
            answerer.model, sound, resume=resume, progress=Pace(sound.duration_s).show, **answerer.options
        )
    except KeyboardInterrupt:
        if resume:
            report_notes([f"what is done is kept in {resume}; the same words go on from there"])
        raise
    show_progress("")
    if form == "json":
        write_json({"files": [file], **as_values(transcript)})
        return
    report_notes(transcript.notes)
    write_text({"srt": as_srt, "vtt": as_vtt}[form](transcript) if form != "txt" else _plain(transcript, heading))


def _plain(transcript: Transcript, heading: str) -> str:
    return f"{heading}{transcript.text}\n"
