"""Open speech engines behind one small interface: text in, mono sound out, with the facts of the speaker.

Engines: espeak-ng and flite through their C libraries (quick, in-process), festival through its command `text2wave`.
Whole engines are held out by construction: training hears `TRAIN_ENGINES`, and where a world has variety our own
`tract` and `between`, which nothing is measured on.
"""

from __future__ import annotations

import ctypes
import math
import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import festival

Sex = Literal["female", "male"]
TRAIN_ENGINES = ("espeak-ng", "flite")
HELD_OUT_ENGINES = ("festival",)
MAX_TEXT_CHARS = 2_000


class EngineMissingError(FlamingoError):
    """A speech engine is not installed on this machine."""


@dataclass(frozen=True)
class Speaker:
    """Who speaks and how.

    Attributes:
        engine: name of the speech engine.
        voice: its name for the voice.
        sex: as the voice is described by its makers.
        rate: speed of speech relative to the voice's own.
        pitch: mean pitch relative to the voice's own.
        liveliness: range of the pitch relative to the voice's own.
    """

    engine: str
    voice: str
    sex: Sex
    rate: float = 1.0
    pitch: float = 1.0
    liveliness: float = 1.0


class Engine(Protocol):
    """A speech engine."""

    def speak(self, text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], int]:
        """(N,) float32 samples in [-1, 1] and their rate in Hz."""
        ...


ESPEAK_ACCENTS = (
    "en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-gb-x-gbcwmd", "en-gb-x-gbclan", "en-us-nyc",
)  # fmt: skip
ESPEAK_FEMALE = (
    "Alicia", "Andrea", "Annie", "anika", "aunty", "belinda", "f1", "f2", "f3", "f4", "f5", "grandma", "linda",
    "steph", "steph2", "steph3", "whisperf",
)  # fmt: skip
ESPEAK_MALE = (
    "Alex", "Andy", "Denis", "Diogo", "Gene", "Henrique", "Hugo", "Jacky", "Lee", "Marco", "Mario", "Michael", "Mike",
    "adam", "antonio", "boris", "caleb", "david", "ed", "edward", "grandpa", "iven", "john", "klatt", "klatt2",
    "klatt3", "klatt4", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "max", "michel", "norbert", "pablo", "paul",
    "quincy", "rob", "robert", "sandro", "shelby", "travis", "victor", "whisper",
)  # fmt: skip
FLITE_VOICES: dict[str, Sex] = {
    "cmu_us_kal": "male",
    "cmu_us_kal16": "male",
    "cmu_us_awb": "male",
    "cmu_us_rms": "male",
    "cmu_us_slt": "female",
}
FLITE_PITCH_HZ = {
    "cmu_us_kal": 100.0,
    "cmu_us_kal16": 100.0,
    "cmu_us_awb": 120.0,
    "cmu_us_rms": 95.0,
    "cmu_us_slt": 170.0,
}
FIXED_PITCH = ("cmu_us_rms", "kal_diphone", "ked_diphone")  # voices that keep their pitch whatever they are asked
FESTIVAL_VOICES: dict[str, Sex] = {"kal_diphone": "male", "ked_diphone": "male"}


def draw_speaker(rng: random.Random, engines: tuple[str, ...] = TRAIN_ENGINES, *, flite_share: float = 0.45) -> Speaker:
    """A random speaker of the given engines, with random rate, pitch and liveliness."""
    engine = engines[0]
    if len(engines) > 1:
        engine = "flite" if rng.random() < flite_share else rng.choice([e for e in engines if e != "flite"])
    rate, pitch = rng.uniform(0.75, 1.35), rng.uniform(0.8, 1.25)
    liveliness = rng.uniform(0.6, 1.5)
    if engine == "espeak-ng":
        female = rng.random() < 0.5
        variant = rng.choice(ESPEAK_FEMALE if female else ESPEAK_MALE)
        voice = f"{rng.choice(ESPEAK_ACCENTS)}+{variant}"
        return Speaker(engine, voice, "female" if female else "male", rate, pitch, liveliness)
    voices = FLITE_VOICES if engine == "flite" else FESTIVAL_VOICES
    voice = rng.choice(sorted(voices))
    if voice in FIXED_PITCH:
        pitch = 1.0
    return Speaker(engine, voice, voices[voice], rate, pitch, liveliness)


def speak(text: str, speaker: Speaker) -> npt.NDArray[np.float32]:
    """Text spoken, (N,) float32 mono at 16 kHz, silence at both ends trimmed.

    Raises:
        EngineMissingError: the engine or the voice is not installed.
        FlamingoError: the text is empty or too long, or the engine gave no sound.
    """
    if not text.strip() or len(text) > MAX_TEXT_CHARS:
        raise FlamingoError(f"text of {len(text)} characters cannot be spoken; give 1 to {MAX_TEXT_CHARS}")
    samples, rate_hz = open_engine(speaker.engine).speak(text, speaker)
    samples = trim_silence(_resample(samples, rate_hz))
    if len(samples) < SAMPLE_RATE_HZ // 50:
        raise FlamingoError(f"{speaker.engine} gave no sound for {text[:60]!r}")
    return samples


@cache
def open_engine(name: str) -> Engine:
    """The engine of this name, opened once in each process."""
    from audioflamingo.world.between import Between  # which build on this module
    from audioflamingo.world.tract import Tract

    makers: dict[str, type[Any]] = {
        "espeak-ng": _EspeakNG, "flite": _Flite, "festival": _Festival, "tract": Tract, "between": Between,
    }  # fmt: skip
    if name not in makers:
        raise EngineMissingError(f"unknown speech engine {name!r}; known: {', '.join(sorted(makers))}")
    engine: Engine = makers[name]()
    return engine


def trim_silence(samples: npt.NDArray[np.float32], threshold: float = 0.004) -> npt.NDArray[np.float32]:
    """Without the near-silence at both ends; the threshold is relative to the peak."""
    loud = np.flatnonzero(np.abs(samples) > threshold * max(float(np.abs(samples).max(initial=0.0)), 1e-9))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def _resample(samples: npt.NDArray[np.float32], rate_hz: int) -> npt.NDArray[np.float32]:
    if rate_hz == SAMPLE_RATE_HZ:
        return samples
    from math import gcd

    from scipy.signal import resample_poly

    common = gcd(rate_hz, SAMPLE_RATE_HZ)
    out: npt.NDArray[np.float32] = resample_poly(samples, SAMPLE_RATE_HZ // common, rate_hz // common)
    return out.astype(np.float32)


def _to_float(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    return samples.astype(np.float32) / np.float32(32768)


def _library(name: str, package: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise EngineMissingError(f"{name} is missing; install {package} (Debian: apt-get install {package})") from error


class _EspeakNG:
    """espeak-ng through libespeak-ng: formant synthesis."""

    _SYNCHRONOUS = 2
    _UTF8 = 1
    _RATE, _PITCH, _RANGE = 1, 3, 4
    _RATE_WPM, _PITCH_BASE, _RANGE_BASE = 165, 50, 50
    _CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)

    def __init__(self) -> None:
        self.library = _library("libespeak-ng.so.1", "espeak-ng")
        self.rate_hz = int(self.library.espeak_Initialize(self._SYNCHRONOUS, 500, None, 0))
        if self.rate_hz <= 0:
            raise EngineMissingError("espeak-ng could not be started; is its data installed (espeak-ng-data)?")
        self.pieces: list[bytes] = []
        self.callback = self._CALLBACK(self._collect)  # kept: the library holds only a pointer to it
        self.library.espeak_SetSynthCallback(self.callback)

    def _collect(self, wave: Any, num_samples: int, _events: Any) -> int:
        if wave and num_samples > 0:
            self.pieces.append(ctypes.string_at(wave, num_samples * 2))
        return 0

    def speak(self, text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], int]:
        """See `Engine`."""
        if self.library.espeak_SetVoiceByName(speaker.voice.encode()) != 0:
            raise EngineMissingError(f"espeak-ng has no voice {speaker.voice!r}; espeak-ng --voices lists those it has")
        settings = {
            self._RATE: self._RATE_WPM * speaker.rate,
            self._PITCH: self._PITCH_BASE + 60 * (speaker.pitch - 1),
            self._RANGE: self._RANGE_BASE * speaker.liveliness,
        }
        for parameter, value in settings.items():
            self.library.espeak_SetParameter(parameter, round(value), 0)
        self.pieces = []
        self.library.espeak_SetSynthCallback(self.callback)  # the library has one for all who opened it
        encoded = text.encode()
        self.library.espeak_Synth(encoded, len(encoded) + 1, 0, 0, 0, self._UTF8, None, None)
        return _to_float(np.frombuffer(b"".join(self.pieces), np.int16)), self.rate_hz


class FliteWave(ctypes.Structure):
    """`cst_wave` of flite's C library."""

    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Flite:
    """flite through its C library: diphone and clustergen voices."""

    _PITCH_SPREAD_HZ = 14.0
    _SETTINGS = (b"duration_stretch", b"int_f0_target_mean", b"int_f0_target_stddev")

    def __init__(self) -> None:
        self.library = _library("libflite.so.1", "flite")
        self.library.flite_init()
        self.library.flite_text_to_wave.restype = ctypes.POINTER(FliteWave)
        self.library.flite_text_to_wave.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
        self.library.feat_set_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self.library.get_param_float.restype = ctypes.c_float
        self.library.get_param_float.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float]
        self.library.feat_remove.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        self.library.delete_wave.argtypes = [ctypes.POINTER(FliteWave)]
        self.voices: dict[str, int] = {}
        self.own: dict[str, dict[bytes, float]] = {}
        self.random = ctypes.CDLL(None)

    def _voice(self, name: str) -> int:
        if name not in self.voices:
            register = getattr(_library(f"libflite_{name}.so.1", "flite"), f"register_{name}")
            register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
            voice = self.voices[name] = register(None)
            get, features = self.library.get_param_float, self._features(voice)
            self.own[name] = {setting: get(features, setting, math.nan) for setting in self._SETTINGS}
        return self.voices[name]

    @staticmethod
    def _features(voice: int) -> int | None:
        """The second pointer of a voice's C structure."""
        features: int | None = ctypes.cast(voice, ctypes.POINTER(ctypes.c_void_p))[1]
        return features

    def as_registered(self, name: str) -> int:
        """A voice at its own rate and pitch, whatever has been said with it, and with noise that begins anew."""
        voice = self._voice(name)
        for setting, value in self.own[name].items():
            if math.isnan(value):
                self.library.feat_remove(self._features(voice), setting)
            else:
                self.library.feat_set_float(self._features(voice), setting, value)
        self.random.srand(1)
        return voice

    def speak(self, text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], int]:
        """See `Engine`."""
        voice = self._voice(speaker.voice)
        settings = {
            b"duration_stretch": 1 / speaker.rate,
            b"int_f0_target_mean": FLITE_PITCH_HZ[speaker.voice] * speaker.pitch,
            b"int_f0_target_stddev": self._PITCH_SPREAD_HZ * speaker.liveliness,
        }
        for name, value in settings.items():
            self.library.feat_set_float(self._features(voice), name, value)
        self.random.srand(1)  # its voices excite with C's random numbers: the same text must sound the same twice
        wave = self.library.flite_text_to_wave(text.encode("ascii", "ignore"), voice)
        content = wave.contents
        samples = _to_float(np.ctypeslib.as_array(content.samples, (content.num_samples,)))
        rate_hz = int(content.sample_rate)
        self.library.delete_wave(wave)
        return samples, rate_hz


class _Festival:
    """festival's diphone voices, held out from training. Rate is set, pitch is the voice's own."""

    def speak(self, text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], int]:
        """See `Engine`."""
        try:
            samples, rate_hz = festival.speak(text, speaker.voice, speaker.rate)
        except (festival.FestivalError, OSError) as error:
            raise EngineMissingError(str(error)) from error
        return _to_float(samples), rate_hz
