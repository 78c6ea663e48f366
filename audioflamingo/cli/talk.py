"""`flamingo talk`: speak with the model; from the microphone, or from a file to a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioflamingo.cli.arguments import add_model, add_temperature, generation_options, loading_options
from audioflamingo.cli.output import show_progress, write_json, write_text
from audioflamingo.cli.say import add_voice
from audioflamingo.cli.speech_file import SUFFIXES, check_form, write_speech
from audioflamingo.errors import FlamingoError, OptionError

if TYPE_CHECKING:
    from audioflamingo.speech.talk import Samples, Talk
    from audioflamingo.types import Audio

SUMMARY = "Talk: spoken questions, spoken answers, with interruptions."
EXAMPLES = """\
flamingo talk --in question.wav --out answer.wav
flamingo talk --in conversation.wav --out answers.wav --timed --json
flamingo talk --model af3-chat --engine piper --voice en_US-lessac-medium.onnx
"""
DEFAULT_PROMPT = "What do you hear?"
STEP_S = 0.02
MAX_SILENCE_S = 120.0  # after the end of a file, for the last answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words and options of the verb."""
    parser.add_argument("--in", dest="source", metavar="FILE", help="a sound instead of the microphone")
    parser.add_argument("--out", metavar="FILE", help=f"sound file for the answers, needed with --in: {SUFFIXES}")
    parser.add_argument("--timed", action="store_true", help="with --in: keep the answers where they were said")
    parser.add_argument("--prompt", default=DEFAULT_PROMPT, metavar="TEXT", help="said to the model with every turn")
    parser.add_argument("--forget", action="store_true", help="answer every turn by itself, without those before it")
    parser.add_argument("--detector", default="energy", metavar="NAME", help="of speech: energy (default), silero")
    parser.add_argument("--json", action="store_true", help="one JSON object a turn: start_ms, end_ms, text, is_cut")
    add_voice(parser)
    add_model(parser)
    add_temperature(parser)


def run(arguments: argparse.Namespace) -> int:
    """Talk; returns the exit code."""
    if (arguments.source is None) != (arguments.out is None):
        raise OptionError("--in and --out belong together; without both, the microphone and the loudspeaker are used")
    if arguments.source is None:
        unused = [f"--{name}" for name in ("timed", "json") if getattr(arguments, name)]
        if unused:
            raise OptionError(f"{unused[0]} tells of a sound's turns; give --in question.wav --out answer.wav with it")
        device = open_device()
        _live(_talk(arguments, is_live=True), device)
        return 0
    from audioflamingo.audio import load

    sound = load(arguments.source)
    _check_target(Path(arguments.out), Path(arguments.source))
    talk = _talk(arguments, is_live=False)
    show_progress("listening")
    track = answers(talk, sound.samples, is_timed=arguments.timed)
    show_progress("")
    if not talk.exchanges:
        raise FlamingoError(f"nobody speaks in {arguments.source}, or too short a time to answer")
    from audioflamingo.speech.speaker import to_pcm

    write_speech(Path(arguments.out), [to_pcm(track)])
    for exchange in talk.exchanges:
        write_json(vars(exchange)) if arguments.json else write_text(exchange.text + "\n")
    return 0


def _check_target(target: Path, source: Path) -> None:
    if target.is_dir():
        raise OptionError(f"--out is a folder: {target}; give a file")
    if target.exists() and target.samefile(source):
        raise OptionError(f"--in and --out are one file, {target}, and the question would be lost; name another --out")
    check_form(target)


def answers(talk: Talk, samples: Samples, *, is_timed: bool) -> Samples:
    """A whole recording through a conversation: our side of it, at 24 kHz."""
    import numpy as np

    from audioflamingo.types import SAMPLE_RATE_HZ

    step = round(STEP_S * SAMPLE_RATE_HZ)
    track = [talk.feed(samples[start : start + step]) for start in range(0, len(samples), step)]
    for _ in range(round(MAX_SILENCE_S / STEP_S)):
        track.append(talk.feed(np.zeros(step, np.float32)))
        if talk.is_quiet:
            break
    talk.close()
    joined = np.concatenate(track)
    if is_timed:
        return joined
    heard = np.flatnonzero(joined)
    return joined[heard[0] : heard[-1] + 1] if len(heard) else joined[:0]


def _talk(arguments: argparse.Namespace, *, is_live: bool) -> Talk:
    from audioflamingo.speech.detect import open_detector
    from audioflamingo.speech.speaker import open_speaker
    from audioflamingo.speech.talk import Talk

    speaker = open_speaker(arguments.engine, voice=arguments.voice, rate=arguments.rate)
    detector = open_detector(arguments.detector)
    memory = Memory(arguments)
    return Talk(memory.answer, speaker, detector=detector, on_cut=memory.cut, prefill=memory.read, is_live=is_live)


class Memory:
    """The conversation that the model remembers."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        show_progress(f"loading {arguments.model}")
        from audioflamingo.api import load_model

        model = load_model(arguments.model, **loading_options(arguments))
        self._model, self._options = model, generation_options(arguments)
        self._chat = model.chat(**self._options)
        self._prompt, self._forgets = arguments.prompt, arguments.forget

    def answer(self, turn: Audio) -> Iterator[str]:
        """The answer to a turn, piece by piece."""
        if self._forgets:
            self._chat = self._model.chat(**self._options)
        with self._chat.stream(self._prompt, turn) as stream:
            for delta in stream:
                yield delta.text

    def read(self, turn: Audio, is_over: bool) -> None:
        """Read a turn before it is answered: its full windows, or all of it with what came before."""
        if not is_over:
            self._model.listen(turn, is_complete=False)
            return
        chat = self._model.chat(**self._options) if self._forgets else self._chat.fork()
        chat.ask(self._prompt, turn, max_new_tokens=1)

    def cut(self, heard: str) -> None:
        """Of the last answer only this was heard."""
        from audioflamingo.types import Message

        *before, last = self._chat.messages or (None,)
        if last is not None and last.role == "assistant":
            said = (Message("assistant", (heard,)),) if heard else ()
            self._chat.messages = (*before, *said)


def open_device() -> Any:
    """The sound device.

    Raises:
        OptionError: there is none, or its package is missing.
    """
    try:
        import sounddevice  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except (ImportError, OSError) as error:
        raise OptionError(
            "the microphone needs its package: pip install sounddevice (and the system's PortAudio); "
            "or give --in question.wav --out answer.wav"
        ) from error
    try:
        sounddevice.check_input_settings()
        sounddevice.check_output_settings()
    except Exception as error:  # PortAudio's own errors, of several types
        raise OptionError(f"no microphone or loudspeaker: {error}. Give --in question.wav --out answer.wav") from error
    return sounddevice


def _live(talk: Talk, device: Any) -> None:
    """Until Ctrl-C."""
    from audioflamingo.speech.stream import SPEECH_RATE_HZ
    from audioflamingo.types import SAMPLE_RATE_HZ

    step = round(STEP_S * SAMPLE_RATE_HZ)
    microphone = device.InputStream(samplerate=SAMPLE_RATE_HZ, channels=1, dtype="float32", blocksize=step)
    loudspeaker = device.OutputStream(samplerate=SPEECH_RATE_HZ, channels=1, dtype="float32", latency="low")
    show_progress("listening; Ctrl-C ends")
    with microphone, loudspeaker:
        try:
            while True:
                block, _ = microphone.read(step)
                loudspeaker.write(talk.feed(block[:, 0])[:, None])
        finally:
            talk.close()
