"""A formant synthesiser that draws a new speaker from every seed: a source of speech for training alone.

Engines at hand have few throats; here everything about one is drawn: lengths of its parts, how far and how quickly
the tongue goes, how stops burst and sibilants hiss, the voice's source, melody and timing. What is drawn belongs to the
seed in the voice's name and to the sex; rate, pitch and liveliness are the speaker's, as with every other engine.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.tract_flite import segments_of
from audioflamingo.world.tract_parts import Saying
from audioflamingo.world.tract_phones import VOWELS, Formants
from audioflamingo.world.tract_plan import Plan, planned
from audioflamingo.world.tract_sound import FRAME_S, Throat, Unevenness, sound_of
from audioflamingo.world.voices import EngineMissingError, Sex, Speaker

ENGINE = "tract"
PREFIX = "tract-"
TRACT_SHARE = 0.2  # of the speakers of training at full variety
WHISPER_SHARE, RECORDED_SHARE, CREAK_SHARE = 0.02, 0.3, 0.12
NUM_SEEDS = 1 << 30
Numbers = np.random.Generator


@dataclass(frozen=True)
class Person:
    """A speaker of this engine: what `tract_plan` needs, and what `tract_sound` needs."""

    saying: Saying
    throat: Throat
    uneven: Unevenness


def tract_share(split: str, engines: tuple[str, ...], variety: float) -> float:
    """Share of speakers that are drawn here: none outside of training, and none without flite, whose rules are used."""
    return TRACT_SHARE * variety if split == "train" and "flite" in engines else 0.0


def draw_tract_speaker(rng: random.Random, sex: Sex | None = None, *, clear: bool = False) -> Speaker:
    """A new speaker with random rate, pitch and liveliness.

    Args:
        rng: draws.
        sex: of the speaker; None draws it.
        clear: nobody who whispers, whose sex and pitch are hard to tell.
    """
    drawn: Sex = sex or ("female" if rng.random() < 0.5 else "male")
    voice = draw_voice(rng, clear=clear)
    return Speaker(ENGINE, voice, drawn, rng.uniform(0.8, 1.3), rng.uniform(0.85, 1.2), rng.uniform(0.6, 1.5))


def draw_voice(rng: random.Random, *, clear: bool = False) -> str:
    """The name of a voice that nobody had yet."""
    while True:
        voice = f"{PREFIX}{rng.randrange(NUM_SEEDS)}"
        if not clear or not whispers(voice):
            return voice


def whispers(voice: str) -> bool:
    """Whether the speaker of this name only whispers.

    Raises:
        EngineMissingError: it is no name of this engine.
    """
    return bool(np.random.default_rng((seed_of(voice), 1)).random() < WHISPER_SHARE)


def seed_of(voice: str, engine: str = ENGINE) -> int:
    """The number in the name of a voice of this engine, or of another one that draws its voices.

    Raises:
        EngineMissingError: it is no name of this engine.
    """
    prefix = f"{engine}-"
    number = voice.removeprefix(prefix)
    if not voice.startswith(prefix) or not number.isascii() or not number.isdigit():
        raise EngineMissingError(f"{engine} has no voice {voice!r}; its voices are {prefix}0, {prefix}1, ...")
    return int(number)


class Tract:
    """The engine; see `voices.Engine`."""

    def speak(self, text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], int]:
        """See `voices.Engine`; the same text and speaker give the same samples."""
        samples, rate_hz, _ = speak_with_words(text, speaker)
        return samples, rate_hz


def speak_with_words(
    text: str, speaker: Speaker
) -> tuple[npt.NDArray[np.float32], int, list[tuple[str, float, float]]]:
    """(N,) samples, their rate in Hz, and every word as flite spells it with its start and end in seconds.

    Raises:
        EngineMissingError: flite, whose rules of pronunciation are used, is missing, or the voice is unknown.
        FlamingoError: there is nothing to say in the text.
    """
    samples, plan = _spoken(text, speaker)
    words = [(spelling, first * FRAME_S, last * FRAME_S) for spelling, first, last in plan.words]
    return samples, SAMPLE_RATE_HZ, words


def speak_with_phones(text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], list[str], list[float]]:
    """(N,) samples at 16 kHz, flite's names of the phones, and where each ends in seconds; see `speak_with_words`."""
    samples, plan = _spoken(text, speaker)
    return samples, [phone for phone, _ in plan.phones], [last * FRAME_S for _, last in plan.phones]


def _spoken(text: str, speaker: Speaker) -> tuple[npt.NDArray[np.float32], Plan]:
    who = person(speaker.voice, speaker.sex)
    segments = segments_of(text)
    if not any(segment.word >= 0 for segment in segments):
        raise FlamingoError(f"{ENGINE} gave no sound for {text[:60]!r}: there is no word in it")
    rng = np.random.default_rng((seed_of(speaker.voice), zlib.crc32(text.encode()), 2))
    plan = planned(segments, text, speaker, who.saying, rng)
    samples = sound_of(plan.tracks, who.throat, who.uneven, rng)
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(min(1.0, 0.95 / max(peak, 1e-6))), plan


@lru_cache(maxsize=64)
def person(voice: str, sex: Sex) -> Person:
    """Who has this name."""
    rng = np.random.default_rng((seed_of(voice), 0))
    female = sex == "female"
    size = float(rng.uniform(1.1, 1.24) if female else rng.uniform(0.93, 1.07))
    breathy = float(rng.choice((rng.uniform(0.0, 0.06), rng.uniform(0.06, 0.25))))
    recorded = bool(rng.random() < RECORDED_SHARE)
    creaks = bool(rng.random() < CREAK_SHARE)
    pitch = float(np.exp(rng.normal(np.log(205.0 if female else 112.0), 0.13)))
    noise_centre = float((1.06 if female else 1.0) * np.exp(rng.normal(0.02, 0.09)))
    throat = Throat(
        upper=size * float(np.exp(rng.normal(0.0, 0.03))),
        widths=float(np.exp(rng.uniform(-0.3, 0.4))),
        pulse_hz=pitch * float(rng.uniform(0.8, 1.5)),
        pulse_damping=float(rng.uniform(0.5, 1.0)),
        tilt_hz=float(np.exp(rng.uniform(np.log(1_300.0), np.log(6_000.0)))),
        breath_tilt_hz=float(rng.uniform(2_500.0, 8_000.0)),
        noise_centre=float(np.clip(noise_centre, 0.85, 1.28)),
        noise_width=float(np.exp(rng.uniform(-0.35, 0.35))),
        gating=float(rng.uniform(0.1, 0.7)),
        nasal_width_hz=float(rng.uniform(150.0, 350.0)),
    )
    rough = float(rng.uniform(0.0, 1.0)) ** 2
    uneven = Unevenness(0.003 + 0.014 * rough, 0.02 + 0.1 * rough, float(rng.uniform(0.15, 0.5)) if creaks else 0.0)
    saying = Saying(
        scale=_scales(rng, size),
        vowels=_vowels(rng),
        widths=throat.widths,
        move_s=float(np.exp(rng.uniform(np.log(0.03), np.log(0.085)))),
        undershoot=float(rng.uniform(0.0, 0.5)),
        onset=float(np.exp(rng.uniform(-0.5, 0.2))),
        burst_db=float(rng.uniform(-4.0, 5.0)),
        hiss_db=float(rng.uniform(-3.0, 5.0)),
        hush_db=float(rng.uniform(-4.0, 5.0)),
        aspiration_db=float(rng.uniform(-4.0, 4.0)),
        bar_db=float(rng.uniform(-6.0, 4.0)),
        nasal=float(rng.uniform(0.5, 1.3)),
        breath=breathy,
        whisper=whispers(voice),
        recorded=recorded,
        join=float(rng.uniform(0.01, 0.03)) if recorded else 0.0,
        flaps=bool(rng.random() < 0.7),
        dark_l=float(rng.uniform(0.2, 1.0)),
        r_depth=float(rng.uniform(0.75, 1.1)),
        releases=float(rng.uniform(0.2, 0.9)),
        pitch_hz=pitch,
        declination=float(rng.uniform(0.5, 5.0)),
        accent=float(rng.uniform(1.5, 5.5)),
        accent_late=float(rng.uniform(0.1, 0.9)),
        accent_s=float(rng.uniform(0.07, 0.14)),
        fall=float(rng.uniform(0.5, 6.0)),
        rise=float(rng.uniform(1.0, 7.0)),
        comma=float(rng.uniform(-2.0, 4.0)),
        micro=float(rng.uniform(0.2, 1.2)),
        tremor=float(rng.choice((0.0, 0.0, rng.uniform(0.1, 0.4)))),
        drift=float(rng.uniform(0.1, 0.5)),
        stretch=_stretches(rng),
        reduced=float(np.exp(rng.uniform(-0.3, 0.2))),
        unsteady=float(rng.uniform(0.05, 0.18)),
        pause=float(np.exp(rng.uniform(-0.9, 0.5))),
        stress_db=float(rng.uniform(0.5, 4.0)),
    )
    return Person(saying, throat, uneven)


_KINDS = ("vowel", "glide", "liquid", "nasal", "fricative", "stop", "affricate", "aspirate")


def _stretches(rng: Numbers) -> dict[str, float]:
    """Factors on durations by kind; even, so that the pace stays that of the speaker's rate."""
    logs = np.clip(rng.normal(0.0, 0.13, len(_KINDS)), -0.26, 0.26)
    return {kind: float(np.exp(log)) for kind, log in zip(_KINDS, logs - logs.mean(), strict=True)}


def _scales(rng: Numbers, size: float) -> Formants:
    """Factors on F1, F2 and F3: throat and mouth differ in length, each in its own way."""
    own = size * np.exp(np.clip(rng.normal(0.0, 0.04, 3), -0.08, 0.08))
    return float(own[0]), float(own[1]), float(own[2])


def _vowels(rng: Numbers) -> dict[str, tuple[Formants, ...]]:
    """Targets in a space that is larger or smaller, each vowel moved a little: a dialect."""
    spread = np.array([rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.12), 1.0])
    centre = np.array([500.0, 1_450.0, 2_450.0])
    fronted = {"uw": rng.uniform(0.0, 0.35), "ow": rng.uniform(0.0, 0.2), "uh": rng.uniform(0.0, 0.15)}
    open_o = rng.uniform(0.0, 0.8)  # how far "ao" goes towards "aa"
    found = {}
    for name, phone in VOWELS.items():
        moved = np.exp(np.clip(rng.normal(0.0, (0.05, 0.035, 0.02)), -0.09, 0.09))
        moved[1] *= np.exp(fronted.get(name, 0.0))
        targets = []
        for target in phone.targets:
            at = np.array(target, np.float64)
            if name == "ao":
                at += open_o * (np.array(VOWELS["aa"].targets[0]) - at)
            at = centre * (at / centre) ** spread * moved
            targets.append((float(max(at[0], 230.0)), float(at[1]), float(max(at[2], at[1] + 250.0))))
        found[name] = tuple(targets)
    return found
