"""Voices by name: our own, espeak-ng and flite of the system, Piper and Kokoro where the user installed them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.speech.voice import PhraseVoice, Samples, Voice
from audioflamingo.world.voices import FLITE_VOICES
from audioflamingo.world.voices import Speaker as WorldSpeaker
from audioflamingo.world.voices import open_engine as open_world_engine

MIN_RATE, MAX_RATE = 0.5, 2.0
DEFAULT_ENGINE = "flamingo"
EMBEDDED_DEFAULT_VOICE = "rms"  # the clearer of the two
ESPEAK_DEFAULT_VOICE = "en-us"
FLITE_DEFAULT_VOICE = "cmu_us_slt"
KOKORO_DEFAULT_VOICE = "af_heart"
KOKORO_RATE_HZ = 24_000
EMBEDDED_VOICE = Path(__file__).parents[1] / "assets" / "voice"
_library_lock = threading.Lock()  # the C libraries keep one state for the whole program


class VoiceMissingError(FlamingoError):
    """A voice, or the package that it needs, is not installed."""


def open_voice(engine: str = DEFAULT_ENGINE, voice: str | None = None, rate: float = 1.0) -> Voice:
    """A voice by name.

    Args:
        engine: "flamingo" (ours), "espeak-ng" or "flite" (of the system), "piper" or "kokoro" (installed by the user).
        voice: the engine's own name of a voice; for Piper, the path of its .onnx file; for ours, a name, or a folder
            that `flamingo train` wrote, or both as FOLDER:NAME.
        rate: speed relative to the voice's own.

    Raises:
        OptionError: no such engine, or the rate is out of range.
        VoiceMissingError: the engine or the voice is not installed.
    """
    if engine not in ENGINES:
        raise OptionError(f"engine {engine!r} is not one of {', '.join(ENGINES)}")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise OptionError(f"rate is {rate}; allowed: {MIN_RATE} to {MAX_RATE}, 1 is the voice's own")
    return ENGINES[engine](voice, rate)


def _espeak(voice: str | None, rate: float) -> Voice:
    return _system("espeak-ng", voice or ESPEAK_DEFAULT_VOICE, rate)


def _flite(voice: str | None, rate: float) -> Voice:
    chosen = voice or FLITE_DEFAULT_VOICE
    if chosen not in FLITE_VOICES:
        raise VoiceMissingError(f"flite has no voice {chosen!r}; known: {', '.join(FLITE_VOICES)}")
    return _system("flite", chosen, rate)


def _system(engine: str, voice: str, rate: float) -> Voice:
    speaker = WorldSpeaker(engine, voice, "female", rate=rate)  # the sex is a label of the world's, not used here
    opened = open_world_engine(engine)

    def render(text: str) -> tuple[Samples, int]:
        with _library_lock:
            return opened.speak(text, speaker)

    render("a")  # a voice that does not exist is known now, not in the middle of an answer
    return PhraseVoice(f"{engine} {voice}", render)


def _piper(voice: str | None, rate: float) -> Voice:
    if voice is None:
        raise OptionError("piper needs the path of a voice: an .onnx file with its .onnx.json beside it")
    if not Path(voice).is_file():
        raise VoiceMissingError(f"{voice!r} is no file; piper takes the path of a voice's .onnx file")
    try:
        from piper import PiperVoice, SynthesisConfig  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise VoiceMissingError("this voice needs Piper: pip install piper-tts") from error
    loaded, config = PiperVoice.load(voice), SynthesisConfig(length_scale=1 / rate)

    def render(text: str) -> tuple[Samples, int]:
        chunks = list(loaded.synthesize(text, syn_config=config))
        return _joined([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate if chunks else 22_050

    return PhraseVoice(f"piper {Path(voice).stem}", render)


def _kokoro(voice: str | None, rate: float) -> Voice:
    chosen = voice or KOKORO_DEFAULT_VOICE
    try:
        from kokoro import KPipeline  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise VoiceMissingError("this voice needs Kokoro: pip install kokoro") from error
    pipeline = KPipeline(lang_code=chosen[0])  # its voices' names begin with the language

    def render(text: str) -> tuple[Samples, int]:
        pieces: list[Any] = [result.audio for result in pipeline(text, voice=chosen, speed=rate)]
        return _joined([piece.numpy() for piece in pieces if piece is not None]), KOKORO_RATE_HZ

    return PhraseVoice(f"kokoro {chosen}", render)


def _own(voice: str | None, rate: float) -> Voice:
    from audioflamingo.speech.storage import load_voice
    from audioflamingo.speech.synthesis import OwnSpeaker

    folder_name, _, name = (voice or "").rpartition(":")
    if not folder_name and name and Path(name).is_dir():
        folder_name, name = name, ""
    folder = Path(folder_name) if folder_name else EMBEDDED_VOICE
    if not folder.is_dir():
        raise VoiceMissingError(f"there is no voice in {folder}; train one (docs/voice.md) or choose another engine")
    loaded = load_voice(folder)
    if name and name not in loaded.voice_names:
        raise VoiceMissingError(f"{folder} has no voice {name!r}; it has: {', '.join(loaded.voice_names)}")
    if not name and folder == EMBEDDED_VOICE:
        name = EMBEDDED_DEFAULT_VOICE
    return OwnSpeaker(loaded, loaded.voice_names.index(name) if name else 0, rate)


def _joined(pieces: list[Any]) -> Samples:
    return np.concatenate([np.zeros(0, np.float32), *pieces]).astype(np.float32)


ENGINES: dict[str, Callable[[str | None, float], Voice]] = {
    "flamingo": _own,
    "espeak-ng": _espeak,
    "flite": _flite,
    "piper": _piper,
    "kokoro": _kokoro,
}
