"""The teacher of the embedded voice: flite's clustergen voices, whose phones and times are read from its own utterance.

flite keeps, beside the sound, every segment with its end time. For the clustergen voices these times are those of the
frames that were synthesised, exact to 5 ms (checked against the energy of pauses); for its diphone voices they are
planned times and are not used here.
"""

from __future__ import annotations

import ctypes
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError
from audioflamingo.speech.codec import HOP_SAMPLES
from audioflamingo.speech.phones import PAUSE, PHONE_IDS, phone_name
from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.voice import resampled
from audioflamingo.world.text import SentenceGenerator
from audioflamingo.world.voices import FliteWave, open_engine

TEACHER_VOICES = {"slt": "cmu_us_slt", "rms": "cmu_us_rms"}  # our name to flite's: a woman's and a man's
VOICE_NAMES = tuple(TEACHER_VOICES)
CLIPS_PER_SHARD = 128
MAX_SEGMENTS = 4_000
PEAK = 0.7  # every clip is scaled to it


@dataclass(frozen=True, eq=False)
class Reading:
    """A sentence as the teacher read it.

    Attributes:
        phones: (P,) ids.
        units: (P,) the word that each belongs to; a pause belongs to the word before it.
        durations: (P,) in subframes of 10 ms; they add up to the sound.
        samples: (N,) int16 at 24 kHz; N = 240 times the sum of the durations.
        voice: index in `VOICE_NAMES`.
        words: pairs of a word as flite spells it and its phones' names.
    """

    phones: npt.NDArray[np.int64]
    units: npt.NDArray[np.int64]
    durations: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int16]
    voice: int
    words: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Segment:
    """A phone of flite's utterance: its name here, when it ends, and its word (0 for a pause)."""

    phone: str
    end_s: float
    word_key: int
    word: str


class FliteTeacher:
    """Reads sentences and tells what it did when. One a process: flite's library keeps a state of its own."""

    def __init__(self) -> None:
        engine: Any = open_engine("flite")  # its library and voices, beside what the interface promises
        self._engine = engine
        self._library = ctypes.CDLL(engine.library._name)  # a handle of its own: signatures belong to a handle
        pointer, text, real = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float
        signatures: dict[str, tuple[Any, list[Any]]] = {
            "flite_synth_text": (pointer, [text, pointer]),
            "utt_relation": (pointer, [pointer, text]),
            "relation_head": (pointer, [pointer]),
            "item_next": (pointer, [pointer]),
            "item_parent": (pointer, [pointer]),
            "item_as": (pointer, [pointer, text]),
            "item_feat_string": (text, [pointer, text]),
            "item_feat_float": (real, [pointer, text]),
            "ffeature_string": (text, [pointer, text]),
            "utt_wave": (ctypes.POINTER(FliteWave), [pointer]),
            "delete_utterance": (None, [pointer]),
        }
        for name, (result, arguments) in signatures.items():
            function = getattr(self._library, name)
            function.restype, function.argtypes = result, arguments

    def read(self, text: str, voice: int = 0) -> Reading:
        """Speak a sentence.

        Raises:
            FlamingoError: nothing of it can be spoken.
        """
        segments, samples, rate_hz = self.utterance(text, TEACHER_VOICES[VOICE_NAMES[voice]])
        return reading(segments, samples, rate_hz, voice)

    def utterance(self, text: str, flite_voice: str) -> tuple[list[Segment], npt.NDArray[np.float32], int]:
        """Segments, (N,) samples in [-1, 1], and their rate in Hz."""
        library = self._library
        utterance = library.flite_synth_text(text.encode("ascii", "ignore"), self._engine.as_registered(flite_voice))
        if not utterance:
            raise FlamingoError(f"flite could not speak {text[:60]!r}")
        try:
            wave = library.utt_wave(utterance).contents
            samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32) / np.float32(32_768)
            return self._segments(utterance), samples, int(wave.sample_rate)
        finally:
            library.delete_utterance(utterance)

    def _segments(self, utterance: int) -> list[Segment]:
        library = self._library
        segments: list[Segment] = []
        item = library.relation_head(library.utt_relation(utterance, b"Segment"))
        while item and len(segments) < MAX_SEGMENTS:
            segments.append(self._segment(item))
            item = library.item_next(item)
        return segments

    def _segment(self, item: int) -> Segment:
        library = self._library
        name = library.item_feat_string(item, b"name").decode()
        end_s = float(library.item_feat_float(item, b"end"))
        in_syllable = library.item_as(item, b"SylStructure")
        syllable = library.item_parent(in_syllable) if in_syllable else None
        word = library.item_parent(syllable) if syllable else None
        if not word:
            return Segment(PAUSE, end_s, 0, "")
        is_stressed = library.ffeature_string(item, b"R:SylStructure.parent.stress") == b"1"
        spelling = library.item_feat_string(word, b"name").decode()
        return Segment(phone_name(name, stressed=is_stressed), end_s, int(word), spelling)


def reading(segments: list[Segment], samples: npt.NDArray[np.float32], rate_hz: int, voice: int) -> Reading:
    """Segments and sound on our grid: leading silence cut off, ends rounded to 10 ms, sound at 24 kHz.

    Raises:
        FlamingoError: there is no phone.
    """
    first = next((number for number, segment in enumerate(segments) if segment.word_key), None)
    if first is None:
        raise FlamingoError("there is nothing to speak in this text")
    start_s = segments[first - 1].end_s if first else 0.0
    kept = segments[first:]
    subframes_per_s = SPEECH_RATE_HZ // HOP_SAMPLES
    ends = np.array([round((segment.end_s - start_s) * subframes_per_s) for segment in kept])
    durations = np.diff(ends, prepend=0)
    num_samples = int(ends[-1]) * HOP_SAMPLES
    wave = resampled(samples[round(start_s * rate_hz) :], rate_hz)[:num_samples]
    wave = np.pad(wave, (0, num_samples - len(wave)))
    return Reading(
        phones=np.array([PHONE_IDS[segment.phone] for segment in kept]),
        units=_units(kept),
        durations=durations.astype(np.int64),
        samples=scaled_to_peak(wave),
        voice=voice,
        words=_words(kept),
    )


def scaled_to_peak(samples: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """(N,) samples as int16 whose largest is `PEAK`."""
    scaled = samples * (PEAK * 32_767 / max(float(np.abs(samples).max(initial=0.0)), 1e-3))
    return scaled.round().astype(np.int16)


def _units(segments: list[Segment]) -> npt.NDArray[np.int64]:
    units, key = [0], segments[0].word_key
    for segment in segments[1:]:
        is_new = segment.word_key not in (0, key)
        units.append(units[-1] + is_new)
        key = segment.word_key or key
    return np.array(units)


def _words(segments: list[Segment]) -> tuple[tuple[str, str], ...]:
    words: dict[int, tuple[str, list[str]]] = {}
    for segment in segments:
        if segment.word_key:
            words.setdefault(segment.word_key, (segment.word, []))[1].append(segment.phone)
    return tuple((word, " ".join(phones)) for word, phones in words.values())


def render_shard(seed: int, number: int, teacher: FliteTeacher, num_clips: int = CLIPS_PER_SHARD) -> list[Reading]:
    """The readings that belong to a shard's number: sentences of the training split, voices in turn."""
    rng = random.Random(repr(("voice", seed, number)))
    sentences = SentenceGenerator("train")
    return [teacher.read(_text(sentences, rng), index % len(VOICE_NAMES)) for index in range(num_clips)]


def _text(sentences: SentenceGenerator, rng: random.Random) -> str:
    """One to three sentences, so that sentence ends are heard within a clip."""
    return " ".join(sentences.sentence(rng) for _ in range(rng.choice((1, 1, 1, 2, 3))))


def save_readings(readings: list[Reading], path: Path) -> None:
    """Write a shard; it appears under its name only when it is complete."""
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in readings]) for name in ("phones", "units", "durations")
    }
    words = Counter(pair for one in readings for pair in one.words)
    part = path.with_name(f"part-{path.name}")
    np.savez(
        part,
        samples=np.concatenate([one.samples for one in readings]),
        num_phones=np.array([len(one.phones) for one in readings]),
        num_samples=np.array([len(one.samples) for one in readings]),
        voices=np.array([one.voice for one in readings]),
        words=np.array([f"{word}\t{phones}\t{count}" for (word, phones), count in sorted(words.items())]),
        **arrays,
    )
    part.rename(path)


def load_readings(path: Path) -> tuple[list[Reading], Counter[tuple[str, str]]]:
    """The readings of a shard (without words), and how often each word was said how."""
    with np.load(path, allow_pickle=False) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    phone_cuts, sample_cuts = np.cumsum(data["num_phones"])[:-1], np.cumsum(data["num_samples"])[:-1]
    columns = zip(
        *(np.split(data[name], phone_cuts) for name in ("phones", "units", "durations")),
        np.split(data["samples"], sample_cuts),
        data["voices"].tolist(),
        strict=True,
    )
    counts: Counter[tuple[str, str]] = Counter()
    for line in data["words"].tolist():
        word, phones, count = line.split("\t")
        counts[word, phones] += int(count)
    return [Reading(*column) for column in columns], counts
