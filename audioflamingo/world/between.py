"""Speakers between two others: the source and the timing of one, each sound's spectrum part of the way to the other's.

Of people flite has four, three of whom tell exactly when each of their phones ends (the fourth is of diphones). Two say
the same text by the same phones, so that every moment of one has its moment in the other; how far a new speaker goes
from the first to the second is drawn for each phone, so that it may have the nasals of one and the stops of the other.
The second is another of the three, or a speaker of `tract`. Spectra meet as log area ratios of linear prediction
(Viswanathan and Makhoul 1975), which move resonances instead of mixing two sets of them. Training alone hears these
speakers, in plain scenes: nobody is asked whether two of them are the same person.
Shapes: T frames of `HOP` samples, R order of the linear prediction.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioflamingo.errors import FlamingoError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.tract import PREFIX as TRACT_PREFIX
from audioflamingo.world.tract import seed_of, speak_with_phones
from audioflamingo.world.voices import FLITE_VOICES, Sex, Speaker
from audioflamingo.world.word_times import speak_by_flite_with_phones

ENGINE, PREFIX = "between", "between-"
BETWEEN_SHARE = 0.15  # of the speakers of training at full variety
NUM_SEEDS = 1 << 30
FIRST: dict[Sex, tuple[str, ...]] = {"female": ("cmu_us_slt",), "male": ("cmu_us_awb", "cmu_us_rms")}
PEOPLE = (*FIRST["male"], *FIRST["female"])
TRACT_SECOND_SHARE = 0.5
NEAREST, FARTHEST, FARTHEST_OTHER_SEX, APART = 0.3, 1.0, 0.45, 0.25
FRAME, HOP, ORDER = 512, 128, 18
EMPHASIS, RIDGE, MOST_LOG_GAIN = 0.97, 1e-4, 2.5
Samples = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Person:
    """Who lies between whom.

    Attributes:
        first: voice of flite's whose source and timing it has.
        second: another of these, or a voice of `tract`.
        share: how far it is from the first to the second on the whole.
        seed: of how far it is in each phone.
    """

    first: str
    second: str
    share: float
    seed: int

    def share_in(self, phone: str) -> float:
        """How far in one phone; a pause stays the first one's."""
        if phone == "pau":
            return 0.0
        drawn = random.Random(repr((self.seed, phone))).gauss(0.0, APART)
        return min(max(self.share + drawn, 0.0), 1.1)


def draw_between_speaker(rng: random.Random) -> Speaker:
    """A new speaker with random rate, pitch and liveliness."""
    sex: Sex = "female" if rng.random() < 0.4 else "male"
    voice = f"{PREFIX}{rng.randrange(NUM_SEEDS)}"
    return Speaker(ENGINE, voice, sex, rng.uniform(0.8, 1.3), rng.uniform(0.85, 1.2), rng.uniform(0.6, 1.5))


def between_share(split: str, engines: tuple[str, ...], variety: float) -> float:
    """Share of speakers that are drawn here: none outside of training, and none without flite."""
    return BETWEEN_SHARE * variety if split == "train" and "flite" in engines else 0.0


@lru_cache(maxsize=64)
def person(voice: str, sex: Sex) -> Person:
    """Who has this name.

    Raises:
        EngineMissingError: it is no name of this engine.
    """
    seed = seed_of(voice, ENGINE)
    rng = random.Random(repr((seed, sex)))
    first = rng.choice(FIRST[sex])
    if rng.random() < TRACT_SECOND_SHARE:
        return Person(first, f"{TRACT_PREFIX}{seed}", rng.uniform(NEAREST, FARTHEST), seed)
    second = rng.choice([other for other in PEOPLE if other != first])
    farthest = FARTHEST if FLITE_VOICES[second] == sex else FARTHEST_OTHER_SEX
    return Person(first, second, rng.uniform(NEAREST, farthest), seed)


class Between:
    """The engine; see `voices.Engine`."""

    def speak(self, text: str, speaker: Speaker) -> tuple[Samples, int]:
        """See `voices.Engine`; the same text and speaker give the same samples.

        Raises:
            FlamingoError: there is nothing to say in the text, or the two read it by other phones.
        """
        who = person(speaker.voice, speaker.sex)
        mine, phones, ends = _said(text, who.first, speaker)
        theirs, their_phones, their_ends = _said(text, who.second, speaker)
        if len(phones) != len(their_phones) or not any(phone != "pau" for phone in phones):
            raise FlamingoError(f"{ENGINE} gave no sound for {text[:60]!r}")
        num_frames = -(-len(mine) // HOP) + 1
        moments = np.arange(num_frames) * HOP / SAMPLE_RATE_HZ
        there = np.interp(moments, [0.0, *ends], [0.0, *their_ends])
        shares = _smooth([who.share_in(phone) for phone in phones], ends, moments)
        return _moved(mine, theirs, there, shares), SAMPLE_RATE_HZ


def _said(text: str, voice: str, speaker: Speaker) -> tuple[Samples, list[str], list[float]]:
    """(N,) samples at 16 kHz, the phones, and where each ends in seconds."""
    if voice.startswith(TRACT_PREFIX):
        likeness = Speaker("tract", voice, speaker.sex, speaker.rate, speaker.pitch, speaker.liveliness)
        return speak_with_phones(text, likeness)
    likeness = Speaker("flite", voice, speaker.sex, speaker.rate, speaker.pitch, speaker.liveliness)
    samples, rate_hz, found = speak_by_flite_with_phones(text, likeness)
    assert rate_hz == SAMPLE_RATE_HZ, f"{voice} speaks at {rate_hz} Hz"
    # What is said may end a frame before or after what was planned.
    scale = len(samples) / rate_hz / max(found[-1][1], 1e-6) if found else 1.0
    return samples, [phone for phone, _ in found], [end * scale for _, end in found]


def _smooth(shares: list[float], ends: list[float], moments: Rows) -> Rows:
    """(T,) the share at each moment: steps at the ends of phones, over some 25 ms."""
    steps = np.array(shares)[np.minimum(np.searchsorted(ends, moments), len(shares) - 1)]
    return np.convolve(np.pad(steps, 1, mode="edge"), np.ones(3) / 3.0, mode="valid")


def _moved(mine: Samples, theirs: Samples, there: Rows, shares: Rows) -> Samples:
    """(N,) my samples with the envelope of each frame moved towards theirs at the moments that belong to it."""
    level = np.sqrt(np.mean(np.square(mine)) / max(float(np.mean(np.square(theirs))), 1e-12))
    my_frames = _frames(mine, np.arange(len(there)) * HOP)
    reflections, gains = _prediction(_frames(_emphasised(mine), np.arange(len(there)) * HOP))
    places = np.round(there * SAMPLE_RATE_HZ).astype(np.int64)
    their_reflections, their_gains = _prediction(_frames(_emphasised(theirs * np.float32(level)), places))
    share = shares[:, None]
    new = np.tanh((1.0 - share) * np.arctanh(reflections) + share * np.arctanh(their_reflections))
    log_gain = share * 0.5 * np.log(their_gains / gains)[:, None] + _log_size(reflections) - _log_size(new)
    spectrum = fft.rfft(my_frames, axis=1) * np.exp(np.clip(log_gain, -MOST_LOG_GAIN, MOST_LOG_GAIN))
    out = _overlapped(fft.irfft(spectrum, FRAME, axis=1), len(mine))
    peak = float(np.abs(out).max(initial=0.0))
    return np.asarray(out * min(1.0, 0.95 / max(peak, 1e-6)), np.float32)


@lru_cache(maxsize=1)
def _window() -> Rows:
    return np.asarray(np.sqrt(np.hanning(FRAME + 1)[:FRAME]))


def _frames(x: Samples, centres: npt.NDArray[np.int64]) -> Rows:
    """(T, FRAME) weighted samples around some places; zeros beyond the ends."""
    padded = np.pad(x, FRAME)
    at = np.clip(centres, 0, len(x))[:, None] + FRAME // 2 + np.arange(FRAME)
    return np.asarray(padded[at] * _window(), np.float64)


def _overlapped(frames: Rows, num: int) -> Rows:
    """(num,) the frames, weighted again, one upon another every `HOP` samples."""
    out = np.zeros(len(frames) * HOP + FRAME)
    for row in range(FRAME // HOP):
        part = (frames * _window())[:, row * HOP : (row + 1) * HOP]
        out[row * HOP : row * HOP + len(frames) * HOP] += part.reshape(-1)
    return out[FRAME // 2 : FRAME // 2 + num] * (2.0 * HOP / FRAME)


def _emphasised(x: Samples) -> Samples:
    return np.asarray(np.append(x[:1], x[1:] - np.float32(EMPHASIS) * x[:-1]), np.float32)


def _prediction(frames: Rows) -> tuple[Rows, Rows]:
    """(T, R) reflections and (T,) gains of the linear prediction of (T, FRAME) samples (Levinson's recursion)."""
    power = np.square(np.abs(fft.rfft(frames, 2 * FRAME, axis=1)))
    lags = fft.irfft(power, axis=1)[:, : ORDER + 1]
    lags[:, 0] = lags[:, 0] * (1.0 + RIDGE) + 1e-9
    error, taps = lags[:, 0].copy(), np.zeros((len(frames), ORDER + 1))
    taps[:, 0] = 1.0
    reflections = np.zeros((len(frames), ORDER))
    for order in range(1, ORDER + 1):
        wanted = np.einsum("tr,tr->t", taps[:, :order], lags[:, order:0:-1])
        reflection = np.clip(-wanted / error, -0.999, 0.999)
        taps[:, 1 : order + 1] += reflection[:, None] * taps[:, order - 1 :: -1][:, :order]
        error = error * (1.0 - reflection**2)
        reflections[:, order - 1] = reflection
    return reflections, error


def _log_size(reflections: Rows) -> Rows:
    """(T, bins) logarithm of the size of the inverse filter that has these reflections."""
    taps = np.zeros((len(reflections), ORDER + 1))
    taps[:, 0] = 1.0
    for order in range(1, ORDER + 1):
        taps[:, 1 : order + 1] += reflections[:, order - 1 : order] * taps[:, order - 1 :: -1][:, :order]
    return np.asarray(np.log(np.maximum(np.abs(fft.rfft(taps, FRAME, axis=1)), 1e-6)))
