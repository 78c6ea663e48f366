"""What every voice is, ours or somebody else's: units of text in, pieces of sound out.

`PhraseVoice` makes one of an engine that wants whole phrases: units are gathered until a pause or `MAX_PHRASE_WORDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audioflamingo.speech.stream import SPEECH_RATE_HZ
from audioflamingo.speech.text_units import Unit

Samples = npt.NDArray[np.float32]

MAX_PHRASE_WORDS = 12
FADE_MS = 3
QUIET = 0.003  # of the peak: what engines leave before and after a phrase


@dataclass(frozen=True, eq=False)
class Sound:
    """A piece of an answer's sound.

    Attributes:
        samples: (N,) float32 at 24 kHz.
        source_end: characters of the text that are said once this piece was heard.
    """

    samples: Samples
    source_end: int


class Utterance(Protocol):
    """One answer on its way from text to sound."""

    def feed(self, unit: Unit) -> Iterator[Sound]:
        """Sound that can be made now that this unit is known."""
        ...

    def flush(self) -> Iterator[Sound]:
        """The rest: no more units come."""
        ...


class Voice(Protocol):
    """Somebody who can speak. One voice may speak several utterances, one after another."""

    @property
    def name(self) -> str:
        """For reports."""
        ...

    def begin(self) -> Utterance:
        """Start a new utterance."""
        ...


Render = Callable[[str], tuple[Samples, int]]
"""A phrase to (N,) float32 samples and their rate in Hz."""


class PhraseVoice:
    """A voice of an engine that speaks phrase by phrase."""

    def __init__(self, name: str, render: Render) -> None:
        self._name = name
        self._render = render

    @property
    def name(self) -> str:
        """See `Voice`."""
        return self._name

    def begin(self) -> Utterance:
        """See `Voice`."""
        return _Phrases(self._render)


class _Phrases:
    def __init__(self, render: Render) -> None:
        self._render = render
        self._units: list[Unit] = []

    def feed(self, unit: Unit) -> Iterator[Sound]:
        self._units.append(unit)
        if unit.pause_ms or sum(len(one.words) for one in self._units) >= MAX_PHRASE_WORDS:
            yield from self.flush()

    def flush(self) -> Iterator[Sound]:
        units, self._units = self._units, []
        words = [word for unit in units for word in unit.words]
        if words:
            mark = units[-1].mark if units[-1].mark in ",;:.!?" else ""
            samples, rate_hz = self._render(" ".join(words) + mark)
            yield from _shared_out(faded(trimmed(resampled(samples, rate_hz))), units)
        if units and units[-1].pause_ms:
            yield Sound(silence(units[-1].pause_ms), units[-1].source_end)


def _shared_out(samples: Samples, units: list[Unit]) -> Iterator[Sound]:
    """A phrase's sound cut at its units: the engine does not tell where, so by their letters."""
    letters = np.cumsum([sum(len(word) + 1 for word in unit.words) for unit in units])
    ends = np.round(letters / letters[-1] * len(samples)).astype(int)
    start = 0
    for unit, end in zip(units, ends, strict=True):
        yield Sound(samples[start:end], unit.source_end)
        start = int(end)


def silence(duration_ms: float) -> Samples:
    """Zeros of so many milliseconds."""
    return np.zeros(round(duration_ms * SPEECH_RATE_HZ / 1000), np.float32)


def resampled(samples: Samples, rate_hz: int) -> Samples:
    """(N,) samples at 24 kHz."""
    if rate_hz == SPEECH_RATE_HZ:
        return samples
    import soxr

    out: Samples = soxr.resample(samples, rate_hz, SPEECH_RATE_HZ)
    return out


def trimmed(samples: Samples) -> Samples:
    """Without the near-silence at both ends."""
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max(initial=0.0))
    return samples[loud[0] : loud[-1] + 1] if len(loud) else samples[:0]


def faded(samples: Samples) -> Samples:
    """Without clicks at both ends."""
    size = min(FADE_MS * SPEECH_RATE_HZ // 1000, len(samples) // 2)
    out = samples.copy()
    ramp = np.linspace(0, 1, size, endpoint=False, dtype=np.float32)
    out[:size] *= ramp
    out[len(out) - size :] *= ramp[::-1]
    return out
