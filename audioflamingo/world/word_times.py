"""Speech that is the same every time, with the time of each word where the engine tells.

espeak-ng tells by its events, flite by its utterance structure, tract by its plan. `voices.speak` is quicker to call
but its engines keep state from one utterance to the next; here the same text and speaker give the same samples.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import voices
from audioflamingo.world.espeak_server import (
    CLAUSE_END,
    WORD_EVENT,
    Told,
    Utterance,
    speak_fresh,
    speak_here,
)
from audioflamingo.world.text import normalise
from audioflamingo.world.tract import speak_with_words
from audioflamingo.world.voices import Speaker

Samples = npt.NDArray[np.float32]
Span = tuple[str, float, float]
"""Words, start and end in seconds of the raw sound."""

Take = Callable[[Any, ctypes.c_void_p], None]
"""Reads one item of an utterance's relation through flite's library."""

_SILENCE = 0.004  # of the peak: what `voices.trim_silence` cuts off
_SHORTEST = SAMPLE_RATE_HZ // 50
_TOKEN = re.compile(r"\S+")
_START = b"R:SylStructure.daughter.daughter.R:Segment.p.end"
_END = b"R:SylStructure.daughtern.daughtern.R:Segment.end"


@dataclass(frozen=True)
class Word:
    """One word in transcript form, or a few that the engine says as one ("of the"); seconds from the start."""

    text: str
    start_s: float
    end_s: float


def speak_timed(text: str, speaker: Speaker, *, exact: bool = True) -> tuple[Samples, tuple[Word, ...] | None]:
    """Text spoken as by `voices.speak`, and its words with their times; None where the engine does not tell them all.

    Args:
        text: what is said.
        speaker: by whom.
        exact: the same samples every time; without, espeak-ng speaks in this process, four times as fast.

    Raises:
        EngineMissingError: the engine or the voice is not installed.
        FlamingoError: the text is empty or too long, or the engine gave no sound.
    """
    if not text.strip() or len(text) > voices.MAX_TEXT_CHARS:
        raise FlamingoError(f"text of {len(text)} characters cannot be spoken; give 1 to {voices.MAX_TEXT_CHARS}")
    if speaker.engine not in _TELLERS:
        return voices.speak(text, speaker), None
    teller = _by_espeak_here if speaker.engine == "espeak-ng" and not exact else _TELLERS[speaker.engine]
    raw, rate_hz, spans = teller(text, speaker)
    samples = voices.trim_silence(voices._resample(raw, rate_hz))
    if len(samples) < _SHORTEST:
        raise FlamingoError(f"{speaker.engine} gave no sound for {text[:60]!r}")
    return samples, _placed(spans, text, _lead_s(raw, rate_hz), samples)


def _placed(spans: list[Span], text: str, lead_s: float, samples: Samples) -> tuple[Word, ...] | None:
    """On the clock of the trimmed samples; None if anything is out of place."""
    loud = np.flatnonzero(np.abs(samples) > _SILENCE * float(np.abs(samples).max())) / SAMPLE_RATE_HZ
    words = tuple(Word(w, max(0.0, a - lead_s), _last(loud, b - lead_s)) for w, a, b in spans)
    told = all(word.start_s < word.end_s for word in words)
    return words if told and " ".join(word.text for word in words) == normalise(text) else None


def _last(loud: npt.NDArray[np.float64], end_s: float) -> float:
    """When sound was last heard before a time: espeak-ng counts the pause after a clause to its last word."""
    place = int(np.searchsorted(loud, end_s))
    return float(loud[place - 1]) if place else 0.0


def _lead_s(raw: Samples, rate_hz: int) -> float:
    """Silence at the start that `voices.trim_silence` cuts off."""
    loud = np.flatnonzero(np.abs(raw) > _SILENCE * max(float(np.abs(raw).max(initial=0.0)), 1e-9))
    return float(loud[0]) / rate_hz if len(loud) else 0.0


def _by_espeak(text: str, speaker: Speaker) -> tuple[Samples, int, list[Span]]:
    return _with_spans(text, speak_fresh(text, speaker))


def _by_espeak_here(text: str, speaker: Speaker) -> tuple[Samples, int, list[Span]]:
    return _with_spans(text, speak_here(text, speaker))


def _with_spans(text: str, said: Utterance) -> tuple[Samples, int, list[Span]]:
    return said.samples, said.rate_hz, _espeak_spans(text, said.events, said.rate_hz, len(said.samples))


def _espeak_spans(text: str, events: tuple[Told, ...], rate_hz: int, num_samples: int) -> list[Span]:
    """Tokens without an event of their own belong to the group before them."""
    starts = {place: sample for kind, place, sample in reversed(events) if kind == WORD_EVENT}
    stops = sorted(sample for kind, _, sample in events if kind in (WORD_EVENT, CLAUSE_END))
    groups: list[tuple[list[str], int]] = []
    for match in _TOKEN.finditer(text):
        at = next((starts[place] for place in range(match.start(), match.end()) if place in starts), None)
        words = normalise(match.group()).split()
        if groups and (at is None or at <= groups[-1][1]):
            groups[-1][0].extend(words)
        elif at is not None and words:
            groups.append((words, at))
    ends = [next((stop for stop in stops if stop > at), num_samples) for _, at in groups]
    return [(" ".join(words), at / rate_hz, end / rate_hz) for (words, at), end in zip(groups, ends, strict=True)]


def _by_flite(text: str, speaker: Speaker) -> tuple[Samples, int, list[Span]]:
    spans: list[Span] = []

    def take(library: Any, word: ctypes.c_void_p) -> None:
        name = library.item_feat_string(word, b"name").decode("ascii", "ignore")
        start, end = library.ffeature_float(word, _START), library.ffeature_float(word, _END)
        if name.startswith("'") and spans:  # "'s" and its like are words of their own to flite
            spans[-1] = (spans[-1][0] + name, spans[-1][1], end)
        else:
            spans.append((name, start, end))

    return *_read_by_flite(text, speaker, b"Word", take), spans


def speak_by_flite_with_phones(text: str, speaker: Speaker) -> tuple[Samples, int, list[tuple[str, float]]]:
    """(N,) samples, their rate in Hz, and each phone's name with its end in seconds, as planned.

    Raises:
        EngineMissingError: flite or the voice is not installed.
    """
    phones: list[tuple[str, float]] = []

    def take(library: Any, phone: ctypes.c_void_p) -> None:
        name = library.item_feat_string(phone, b"name").decode("ascii", "ignore")
        phones.append((name, library.ffeature_float(phone, b"end")))

    return *_read_by_flite(text, speaker, b"Segment", take), phones


def _read_by_flite(text: str, speaker: Speaker, relation: bytes, take: Take) -> tuple[Samples, int]:
    engine: Any = voices.open_engine("flite")
    original = engine.library.flite_text_to_wave
    engine.library.flite_text_to_wave = partial(_flite_wave, engine.library, relation, take)
    try:
        samples, rate_hz = engine.speak(text, speaker)
    finally:
        engine.library.flite_text_to_wave = original
    return samples, rate_hz


@cache
def _declare(library: Any) -> Any:
    """Result types of the functions that `_flite_wave` calls; the C library's random generator comes back."""
    for name in ("flite_synth_text", "utt_relation", "relation_head", "item_next", "utt_wave"):
        getattr(library, name).restype = ctypes.c_void_p
    library.item_feat_string.restype = ctypes.c_char_p
    library.ffeature_float.restype = ctypes.c_float
    library.copy_wave.restype = ctypes.POINTER(voices.FliteWave)
    return ctypes.CDLL(None)


def _flite_wave(library: Any, relation: bytes, take: Take, encoded: bytes, voice: int) -> Any:
    """What `flite_text_to_wave` does, step by step; `take` gets every item of a relation on the way.

    Its noise comes from `rand`, seeded here.
    """
    _declare(library).srand(1)
    utterance = ctypes.c_void_p(library.flite_synth_text(encoded, ctypes.c_void_p(voice)))
    item = library.relation_head(ctypes.c_void_p(library.utt_relation(utterance, relation)))
    while item:
        here = ctypes.c_void_p(item)
        take(library, here)
        item = library.item_next(here)
    wave = library.copy_wave(ctypes.c_void_p(library.utt_wave(utterance)))
    library.delete_utterance(utterance)
    return wave


_TELLERS = {"espeak-ng": _by_espeak, "flite": _by_flite, "tract": speak_with_words}
