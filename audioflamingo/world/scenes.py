"""Scenes: events on a timeline, rendered to one sound, with the truth about everything in it.

A scene is decided first (what, when, who) and rendered after, so that its truth is exact. Durations are whole grid
steps, so that a trainer can batch scenes of equal length without padding.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import FlamingoError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import disguise, rooms, sounds
from audioflamingo.world.between import between_share, draw_between_speaker
from audioflamingo.world.drill import drilled
from audioflamingo.world.height import heights
from audioflamingo.world.sounds.variety import render_varied
from audioflamingo.world.text import SentenceGenerator, normalise
from audioflamingo.world.tract import ENGINE as TRACT
from audioflamingo.world.tract import draw_tract_speaker, tract_share
from audioflamingo.world.voices import EngineMissingError, Sex, Speaker, draw_speaker, speak

Samples = npt.NDArray[np.float32]
Backdrop = Literal["scene", "noise", "silence"]

GRID_S = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 30.0)
STEADY_S = (1.0, 5.0)
PAUSE_S = (0.15, 1.2)
SPARSE_SHARE = 0.08  # of training's scenes: little within much silence, so that late words are words too
MOST_TRIES = 50  # of a sentence that an engine has a sound for
SPEECH_LEVEL = 0.1  # root mean square that speech is brought to before the channel
FULL_SCALE = 0.98
DISGUISED_SHARE, WANDERING_SHARE = 0.6, 0.5
TRACT_VARIETY = 0.5  # of a source's: tract's speakers differ by themselves


@dataclass(frozen=True)
class Event:
    """Something that is heard.

    Attributes:
        kind: "speech" or a name in `sounds.KINDS`.
        start_s: where it begins.
        end_s: where it ends.
        text: what is said, in transcript form; None unless it is speech.
        sex: of the speaker; None unless it is speech.
        heights: of the voice in every 40 ms from the start (`world.height`); known where the source has variety.
    """

    kind: str
    start_s: float
    end_s: float
    text: str | None = None
    sex: Sex | None = None
    heights: tuple[int, ...] = field(default=(), repr=False)


@dataclass(frozen=True, eq=False)
class Scene:
    """A sound with its truth.

    Attributes:
        samples: (N,) float32 mono 16 kHz.
        events: in order of their start.
        backdrop: "noise" or "silence" where nothing else is there.
        background: kind of a steady sound that lasts all through, or None.
    """

    samples: Samples
    events: tuple[Event, ...] = ()
    backdrop: Backdrop = "scene"
    background: str | None = None

    @property
    def transcript(self) -> str | None:
        """All that is said, or None where nobody speaks."""
        said = [event.text for event in self.events if event.text is not None]
        return " ".join(said) if said else None

    @property
    def sound_events(self) -> tuple[Event, ...]:
        """The events that are not speech."""
        return tuple(event for event in self.events if event.kind != "speech")


@dataclass(frozen=True)
class Source:
    """Where scenes take their voices, words and sounds from: this decides what is held out.

    Attributes:
        split: of the sentences.
        engines: speech engines.
        held_out_sounds: render sounds by the synthesis families that training never hears.
        strength: of the channel (rooms, noise, telephone, ...), from 0 to 1.
        variety: how far voices and sounds are changed beyond what engines and algorithms give (`disguise`), 0 to 1;
            for training alone.
        drill: share of what is spoken that is no sentence, but words to practise with (`drill`); for training alone.
    """

    split: Literal["train", "test"] = "train"
    engines: tuple[str, ...] = ("espeak-ng", "flite")
    held_out_sounds: bool = False
    strength: float = 1.0
    variety: float = 0.0
    drill: float = 0.0
    sentences: SentenceGenerator = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", SentenceGenerator(self.split))


@dataclass(frozen=True)
class Dice:
    """Both kinds of random generator, from one seed."""

    plain: random.Random
    numeric: np.random.Generator

    @classmethod
    def of(cls, *seed: int) -> Dice:
        """Dice whose throws depend on the seed alone."""
        return cls(random.Random(repr(seed)), np.random.default_rng(seed))


def spoken(source: Source, dice: Dice, speaker: Speaker | None = None) -> tuple[Samples, str, Speaker]:
    """A random sentence of the source's split, spoken: samples at `SPEECH_LEVEL`, its transcript, and who spoke.

    Raises:
        EngineMissingError: the speaker's engine is not installed.
        FlamingoError: it says nothing of what it is given.
    """
    speaker = speaker or _speaker(source, dice)
    samples, text = _said(source, dice, speaker)
    if source.split == "train" or source.strength > 0:
        samples = _vary_voice(samples, source, dice, speaker)
    level = float(np.sqrt(np.mean(np.square(samples)))) + 1e-9
    return samples * (SPEECH_LEVEL / level), normalise(text), speaker


def _speaker(source: Source, dice: Dice) -> Speaker:
    share = tract_share(source.split, source.engines, source.variety)
    if share and dice.plain.random() < share:
        return draw_tract_speaker(dice.plain)
    share = between_share(source.split, source.engines, source.variety)
    if share and dice.plain.random() < share:
        return draw_between_speaker(dice.plain)
    return draw_speaker(dice.plain, source.engines)


def _said(source: Source, dice: Dice, speaker: Speaker) -> tuple[Samples, str]:
    """A sentence for which the engine has a sound; it may have none for a lone interjection, so others are tried."""
    left = MOST_TRIES
    while True:
        text = _text(source, dice)
        left -= 1
        try:
            return speak(text, speaker), text
        except EngineMissingError:
            raise
        except FlamingoError:
            if not left:
                raise


def _text(source: Source, dice: Dice) -> str:
    if source.drill and dice.plain.random() < source.drill:
        return drilled(dice.plain, source.sentences)
    return source.sentences.sentence(dice.plain)


def _vary_voice(samples: Samples, source: Source, dice: Dice, speaker: Speaker) -> Samples:
    """A change of speed moves pitch and formants together: a vocal tract of another length; `disguise` does more."""
    if source.variety:
        variety = source.variety * (TRACT_VARIETY if speaker.engine == TRACT else 1.0)
        if dice.plain.random() < DISGUISED_SHARE:
            samples = disguise.changed(samples, disguise.draw_change(dice.numeric, variety), dice.numeric)
        if dice.plain.random() < WANDERING_SHARE:
            return disguise.wander(samples, dice.numeric, 0.08 * variety, dice.plain.uniform(0.85, 1.18))
        return samples
    if dice.plain.random() < 0.5:
        return samples
    return rooms.speed(samples, dice.plain.uniform(0.85, 1.18))


def speech_scene(source: Source, dice: Dice, *, num_sentences: int = 1) -> Scene:
    """One voice saying one or more sentences."""
    speaker = _speaker(source, dice)
    pieces, events, clock = [], [], 0.0
    for index in range(num_sentences):
        samples, text, _ = spoken(source, dice, speaker)
        if clock + len(samples) / SAMPLE_RATE_HZ > GRID_S[-1] - 2.0 and index:
            break
        pause = np.zeros(int(dice.plain.uniform(*PAUSE_S) * SAMPLE_RATE_HZ) if index else 0, np.float32)
        start = clock + len(pause) / SAMPLE_RATE_HZ
        clock = start + len(samples) / SAMPLE_RATE_HZ
        told_heights = heights(samples) if source.variety else ()
        events.append(Event("speech", start, clock, text, speaker.sex, told_heights))
        pieces += [pause, samples]
    return _finish(np.concatenate(pieces), tuple(events), source, dice)


def sound_scene(source: Source, dice: Dice, *, num_events: int = 1) -> Scene:
    """Sound events one after another, all of different kinds."""
    names = dice.plain.sample(sorted(sounds.KINDS), num_events)
    pieces, events, clock = [], [], 0.0
    for index, name in enumerate(names):
        samples = _render(name, source, dice) * _level(dice)
        gap = dice.plain.uniform(0.1, 1.0) if index else 0.0
        start = clock + gap
        clock = start + len(samples) / SAMPLE_RATE_HZ
        events.append(Event(name, start, clock))
        pieces += [np.zeros(int(gap * SAMPLE_RATE_HZ), np.float32), samples]
    return _finish(np.concatenate(pieces), tuple(events), source, dice)


def speech_over_sound_scene(source: Source, dice: Dice) -> Scene:
    """A sentence while a steady sound goes on, 3 to 20 dB below the voice."""
    scene = speech_scene(replace(source, strength=0.0), dice)
    name = dice.plain.choice(sorted(name for name, kind in sounds.KINDS.items() if kind.steady))
    bed = _render(name, source, dice, duration_s=len(scene.samples) / SAMPLE_RATE_HZ)
    bed = np.resize(bed, len(scene.samples))
    mixed = rooms.mix_at_snr(scene.samples, bed, dice.plain.uniform(3.0, 20.0))
    samples = rooms.channel(mixed, dice.numeric, 0.4 * source.strength)
    return Scene(_within_scale(samples), scene.events, background=name)


def empty_scene(dice: Dice) -> Scene:
    """Nothing but noise, or nothing at all."""
    num_samples = int(dice.plain.choice(GRID_S[:12]) * SAMPLE_RATE_HZ)
    if dice.plain.random() < 0.2:
        hiss = 10.0 ** dice.plain.uniform(-6, -4) if dice.plain.random() < 0.5 else 0.0
        samples = hiss * dice.numeric.standard_normal(num_samples).astype(np.float32)
        return Scene(samples.astype(np.float32), backdrop="silence")
    noise = rooms.noise_bed(num_samples, dice.numeric)
    peak = float(np.abs(noise).max()) + 1e-9
    level = 10.0 ** dice.plain.uniform(-1.5, 0)
    return Scene((noise * level / peak).astype(np.float32), backdrop="noise")


def _render(name: str, source: Source, dice: Dice, duration_s: float | None = None) -> Samples:
    held_out = sounds.HELD_OUT_VARIANT[name]
    variants = [v for v in range(len(sounds.VARIANTS[name])) if (v == held_out) == source.held_out_sounds]
    if duration_s is None and sounds.KINDS[name].steady:
        duration_s = dice.plain.uniform(*STEADY_S)
    variant = dice.plain.choice(variants)
    if source.variety:
        return render_varied(name, dice.numeric, variant=variant, duration_s=duration_s, variety=source.variety)
    return sounds.render(name, dice.numeric, variant=variant, duration_s=duration_s)


def _level(dice: Dice) -> float:
    return math.pow(10.0, dice.plain.uniform(-12.0, 0.0) / 20)


def place(samples: Samples, text: str, speaker: Speaker, source: Source, dice: Dice) -> Scene:
    """A scene of one spoken text, ready samples included."""
    event = Event("speech", 0.0, len(samples) / SAMPLE_RATE_HZ, normalise(text), speaker.sex)
    return _finish(samples, (event,), source, dice)


def _finish(content: Samples, events: tuple[Event, ...], source: Source, dice: Dice) -> Scene:
    """Place the content somewhere in a clip of a length on the grid, and send it through a channel."""
    content = content[: int(GRID_S[-1] * SAMPLE_RATE_HZ)]
    steps = [int(s * SAMPLE_RATE_HZ) for s in GRID_S if int(s * SAMPLE_RATE_HZ) >= len(content)]
    total = steps[min(1, len(steps) - 1)] if dice.plain.random() < 0.3 else steps[0]
    if source.variety and dice.plain.random() < SPARSE_SHARE * source.variety:
        total = dice.plain.choice(steps)
    lead = dice.plain.randint(0, total - len(content))
    samples = np.zeros(total, np.float32)
    samples[lead : lead + len(content)] = content
    shift = lead / SAMPLE_RATE_HZ
    moved = tuple(replace(e, start_s=e.start_s + shift, end_s=e.end_s + shift) for e in events)
    return Scene(_within_scale(rooms.channel(samples, dice.numeric, source.strength)), moved)


def _within_scale(samples: Samples) -> Samples:
    """The channel may overshoot: a real recorder's level control would have turned it down."""
    peak = float(np.abs(samples).max(initial=0.0))
    return (samples * (FULL_SCALE / peak)).astype(np.float32) if peak > FULL_SCALE else samples.astype(np.float32)
