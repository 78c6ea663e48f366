"""Scenes of 1 s to 10 min: a stage on which sounds, voices and music are put at exact times, and the truth about it.

Everything that is put on a stage is rendered at once, so its end is known; then the stage is closed: background, room
and channel are added, none of which moves anything in time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world import disguise, rooms, sounds
from audioflamingo.world.cast import Voice
from audioflamingo.world.codecs import check_codec, coded
from audioflamingo.world.distance import Hall, heard_from, loudness
from audioflamingo.world.height import heights
from audioflamingo.world.music import midi, synth
from audioflamingo.world.music.score import Score
from audioflamingo.world.said import Statement
from audioflamingo.world.scenes import Dice
from audioflamingo.world.sounds.variety import render_varied
from audioflamingo.world.text import SentenceGenerator, normalise
from audioflamingo.world.tract import tract_share
from audioflamingo.world.voices import HELD_OUT_ENGINES, TRAIN_ENGINES
from audioflamingo.world.word_times import Word, speak_timed

Samples = npt.NDArray[np.float32]
Split = Literal["train", "test_known", "test_unknown"]
SPLITS: tuple[Split, ...] = ("train", "test_known", "test_unknown")
Layer = Literal["front", "back"]

SHORTEST_S, LONGEST_S = 1.0, 600.0
SPEECH_LEVEL, SOUND_PEAK, MUSIC_LEVEL = 0.1, 0.5, 0.12
EVEN_LOUDNESS = 0.12  # of sounds that are to be equally loud, by `distance.loudness`; speech has about as much
BED_LOOP_S, BED_FADE_S = 12.0, 0.5
GAP_S = (0.35, 1.0)
FULL_SCALE = 0.98
VOICE_VARIETY = 0.5
DIGITS = 3  # times are kept to the millisecond


@dataclass(frozen=True)
class World:
    """Where everything comes from; this decides what is held out.

    Attributes:
        split: "train"; "test_known" (words and phrasings held out, sources known); "test_unknown" (sources too).
        strength: of rooms, noise and channels, 0 to 1.
        longest_s: of the scenes of long tasks.
        soundfonts: General MIDI soundfonts. Empty: our synthesiser alone.
        engines: speech engines; empty takes the split's.
        variety: how far voices and sounds are changed beyond what engines and algorithms give (`disguise`), 0 to 1;
            for training alone.
        exact: the same samples from the same seed; training gives that up for speed.
        shortest_s: of the scenes of long tasks.
        soundfont_share: of the music that goes through soundfonts, where there are any.
        phrasings: of the questions: those of the split's side, or always those of one side.
        codec: that every clip goes through at last (`codecs.check_codec`); None leaves that to the task.
    """

    split: Split = "train"
    strength: float = 0.5
    longest_s: float = LONGEST_S
    soundfonts: tuple[Path, ...] = ()
    engines: tuple[str, ...] = ()
    variety: float = 0.0
    exact: bool = True
    shortest_s: float = 30.0
    soundfont_share: float = 0.5
    phrasings: Literal["split", "train", "held_out"] = "split"
    codec: str | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise OptionError(f"split is {self.split!r}; allowed: {', '.join(SPLITS)}.")
        if not 0.0 <= self.strength <= 1.0:
            raise OptionError(f"strength is {self.strength}; allowed: 0 to 1.")
        if not 40.0 <= self.longest_s <= LONGEST_S:
            raise OptionError(f"longest_s is {self.longest_s}; long scenes take 40 to {LONGEST_S:.0f} s.")
        if not 30.0 <= self.shortest_s < self.longest_s:
            raise OptionError(f"shortest_s is {self.shortest_s}; allowed: 30 to below longest_s, {self.longest_s}.")
        kept = [font.name for font in self.soundfonts if font.resolve().name in midi.HELD_OUT_FONTS]
        if kept and self.split == "train":
            raise OptionError(f"{kept[0]} is kept for testing; give another soundfont, or another split than train.")
        if self.codec is not None:
            check_codec(self.codec)
        if not self.engines:
            object.__setattr__(self, "engines", HELD_OUT_ENGINES if self.unknown else TRAIN_ENGINES)

    @property
    def sentences(self) -> SentenceGenerator:
        """Everyday English of the split's side."""
        return SentenceGenerator("train" if self.split == "train" else "test")

    @property
    def tract_share(self) -> float:
        """Share of the speakers that are drawn by `tract`."""
        return tract_share(self.split, self.engines, self.variety)

    @property
    def unknown(self) -> bool:
        """Whether sources (engines, synthesis families, instrument builds) are those that training never hears."""
        return self.split == "test_unknown"

    @property
    def held_out_phrasings(self) -> bool:
        """Whether questions use the phrasings that training never uses."""
        return self.split != "train" if self.phrasings == "split" else self.phrasings == "held_out"


@dataclass(frozen=True)
class Heard:
    """Something on the timeline.

    Attributes:
        kind: "speech", "music" or a name in `sounds.KINDS`.
        start_s: where it begins.
        end_s: where it ends.
        layer: "front", or "back" for what goes on behind everything.
        level_db: of its peak relative to the others' before the channel.
        text: what is said as display text; None unless it is speech.
        voice: facts of the speaker; None unless it is speech.
        words: what is said when, on the scene's clock; None where the engine does not tell.
        says: topic and facts of what is said, or None.
        piece: facts and notes of the music, or None.
        distance_m: of the source, where it has one of its own; its level is then that of what comes straight from it.
        heights: of the voice in every 40 ms from the start (`world.height`); known where the world has variety.
    """

    kind: str
    start_s: float
    end_s: float
    layer: Layer = "front"
    level_db: float = 0.0
    text: str | None = None
    voice: Mapping[str, Any] | None = None
    words: tuple[Word, ...] | None = None
    says: Mapping[str, Any] | None = None
    piece: Mapping[str, Any] | None = None
    distance_m: float | None = None
    heights: tuple[int, ...] = field(default=(), repr=False)

    @property
    def duration_s(self) -> float:
        """How long it lasts."""
        return self.end_s - self.start_s


@dataclass(frozen=True, eq=False)
class Timeline:
    """A finished scene: (N,) float32 samples at 16 kHz within [-1, 1], and everything in it by order of its start.

    `codec` is what it went through at last, if it was a codec that is told.
    """

    samples: Samples
    events: tuple[Heard, ...]
    codec: str | None = None

    @property
    def duration_s(self) -> float:
        """Of the whole scene."""
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def front(self) -> tuple[Heard, ...]:
        """What is not background."""
        return tuple(event for event in self.events if event.layer == "front")

    def through(self, codec: str) -> Timeline:
        """The same scene as it comes out of a codec.

        Raises:
            OptionError: there is no such codec, or something about it is to be drawn yet.
        """
        return replace(self, samples=coded(self.samples, codec), codec=codec)

    def truth(self) -> dict[str, Any]:
        """Everything as JSON values: what the independent checker gets to see."""
        events = []
        for event in self.events:
            values = asdict(event)
            del values["heights"]  # for training: no question is about it
            values["transcript"] = normalise(event.text) if event.text else None
            events.append({name: value for name, value in values.items() if value is not None})
        told = {"duration_s": round(self.duration_s, DIGITS), "events": events}
        return told if self.codec is None else {**told, "codec": self.codec}


class Stage:
    """Puts things at times, one after another unless told otherwise, and closes them into a `Timeline`."""

    def __init__(self, world: World, dice: Dice) -> None:
        self.world, self.dice = world, dice
        self.pieces: list[tuple[int, Samples]] = []
        self.events: list[Heard] = []
        self.clock_s = 0.0
        self.bed_kind: str | None = None
        self.disguises: dict[str, disguise.Change] = {}

    def pause(self, seconds: float | None = None) -> None:
        """Silence; None draws an ordinary gap."""
        self.clock_s += self.dice.plain.uniform(*GAP_S) if seconds is None else seconds

    def sound(
        self, kind: str, *, start_s: float | None = None, level_db: float = 0.0, duration_s: float | None = None
    ) -> Heard:
        """One unit of a kind of sound."""
        samples = self._one(kind, duration_s)
        gain = SOUND_PEAK / sounds.PEAK * _amplitude(level_db)
        return self._put(samples * np.float32(gain), kind, start_s, level_db=level_db)

    def even(
        self, kind: str, *, start_s: float | None = None, level_db: float = 0.0, duration_s: float | None = None,
        hall: Hall | None = None, distance_m: float = 1.0,
    ) -> Heard:  # fmt: skip
        """One unit of a kind of sound, to the ear as loud as one of any other kind; in a hall, at a distance.

        Args:
            kind: of the sound.
            start_s: None puts it where the last one ends.
            level_db: of the source, against other sources.
            duration_s: of a steady kind; None draws it.
            hall: where it is heard; its reverberation goes on behind the event's end. None leaves it dry.
            distance_m: of the source in the hall.

        Raises:
            OptionError: the distance is out of range.
        """
        samples = self._one(kind, duration_s)
        samples = samples * np.float32(EVEN_LOUDNESS / loudness(samples) * _amplitude(level_db))
        if hall is None:
            return self._put(samples, kind, start_s, level_db=level_db)
        straight_db = round(level_db - 20.0 * math.log10(distance_m), 2)
        return self._put(
            heard_from(samples, hall, distance_m), kind, start_s, num=len(samples), level_db=straight_db,
            distance_m=round(distance_m, 2),
        )  # fmt: skip

    def say(self, said: Statement | str, voice: Voice, *, start_s: float | None = None, level_db: float = 0.0) -> Heard:
        """One statement by a voice; a plain text carries no facts."""
        statement = said if isinstance(said, Statement) else Statement(said)
        samples, words = speak_timed(statement.text, voice.rendered(), exact=self.world.exact)
        change = self._disguise(voice) if self.world.variety else disguise.Change()
        change = replace(change, tilt_db=change.tilt_db + voice.tilt_db)
        if change != disguise.Change():
            samples = disguise.changed(samples, change, self.dice.numeric)
        told_heights = heights(samples) if self.world.variety else ()
        level_db += voice.loudness_db
        rms = rooms.active_rms(samples) + 1e-9
        start = self.clock_s if start_s is None else start_s
        placed = words and tuple(
            Word(w.text, round(start + w.start_s, DIGITS), round(start + w.end_s, DIGITS)) for w in words
        )
        facts = {
            "name": voice.name, "engine": voice.speaker.engine, "voice": voice.speaker.voice, "sex": voice.sex,
            "pace": voice.pace, "mood": voice.mood, "rate": round(voice.rendered().rate, 3),
            "pitch": round(voice.rendered().pitch, 3), "loudness_db": voice.loudness_db,
        }  # fmt: skip
        return self._put(
            samples * np.float32(SPEECH_LEVEL / rms * _amplitude(level_db)), "speech", start_s,
            level_db=level_db, text=statement.text, voice=facts, words=placed or None, says=statement.facts or None,
            heights=told_heights,
        )  # fmt: skip

    def music(
        self, score: Score, *, start_s: float | None = None, level_db: float = 0.0, layer: Layer = "front",
        part_s: tuple[float, float] | None = None,
    ) -> Heard:  # fmt: skip
        """A piece; as often as the world says through a soundfont where it has any.

        Args:
            score: the piece.
            start_s: None puts it where the last thing ends.
            level_db: against other music.
            layer: in front, or behind all else.
            part_s: the seconds of it that are heard; then no facts of the piece are told. None takes it whole.
        """
        fonts = self.world.soundfonts
        if fonts and self.dice.plain.random() < self.world.soundfont_share:
            samples = midi.render_with_font(score, self.dice.plain.choice(fonts))
        else:
            samples = synth.render(score, self.dice.numeric, held_out=self.world.unknown, variety=self.world.variety)
        gain = MUSIC_LEVEL / (rooms.active_rms(samples) + 1e-9) * _amplitude(level_db)
        piece = score.truth() if part_s is None else None
        if part_s is not None:
            samples = synth.excerpt(samples, *part_s)
        return self._put(samples * np.float32(gain), "music", start_s, level_db=level_db, piece=piece, layer=layer)

    def bed(self, kind: str) -> None:
        """A steady sound behind everything, from the beginning to the end."""
        self.bed_kind = kind

    def close(self, *, duration_s: float | None = None, channel: bool = True) -> Timeline:
        """The finished scene, at least `duration_s` long; cut at nothing.

        Args:
            duration_s: None ends the scene shortly after its last event.
            channel: whether the room and the recording add anything.
        """
        last = max([len(piece) + start for start, piece in self.pieces], default=0) / SAMPLE_RATE_HZ
        total_s = max(SHORTEST_S, last + self.dice.plain.uniform(0.1, 0.6), duration_s or 0.0)
        assert total_s <= LONGEST_S + 1.0, f"a scene of {total_s:.1f} s"
        out = np.zeros(round(total_s * SAMPLE_RATE_HZ), np.float32)
        for start, piece in self.pieces:
            out[start : start + len(piece)] += piece
        if self.bed_kind:
            out = self._with_bed(out)
        if channel:
            out = rooms.channel(_within_scale(out), self.dice.numeric, self.world.strength)
        events = sorted(self.events, key=lambda event: (event.start_s, event.end_s))
        return Timeline(_within_scale(out), tuple(events))

    def _one(self, kind: str, duration_s: float | None) -> Samples:
        """One unit; a steady kind as long as is told or drawn."""
        if duration_s is None and sounds.KINDS[kind].steady:
            duration_s = self.dice.plain.uniform(1.5, 4.0)
        return self._rendered(kind, duration_s, 1 if sounds.KINDS[kind].countable else None)

    def _rendered(self, kind: str, duration_s: float | None, repeats: int | None) -> Samples:
        variant = self._variant(kind)
        if not self.world.variety:
            return sounds.render(kind, self.dice.numeric, variant=variant, duration_s=duration_s, repeats=repeats)
        return render_varied(
            kind, self.dice.numeric, variant=variant, duration_s=duration_s, repeats=repeats,
            variety=self.world.variety,
        )  # fmt: skip

    def _disguise(self, voice: Voice) -> disguise.Change:
        """The same for all that a person says; milder than for transcripts, because sex and mood are asked for."""
        if voice.name not in self.disguises:
            self.disguises[voice.name] = disguise.draw_change(self.dice.numeric, VOICE_VARIETY * self.world.variety)
        return self.disguises[voice.name]

    def _put(
        self, samples: Samples, kind: str, start_s: float | None, *, num: int | None = None, **facts: Any
    ) -> Heard:
        """Samples on the timeline; the event ends with them, or with the first `num` where others only ring on."""
        start = round((self.clock_s if start_s is None else start_s) * SAMPLE_RATE_HZ)
        begins, ends = start / SAMPLE_RATE_HZ, (start + (len(samples) if num is None else num)) / SAMPLE_RATE_HZ
        heard = Heard(kind, round(begins, DIGITS), round(ends, DIGITS), **facts)
        self.pieces.append((start, np.asarray(samples, np.float32)))
        self.events.append(heard)
        self.clock_s = max(self.clock_s, ends)
        return heard

    def _variant(self, kind: str) -> int:
        held_out = sounds.HELD_OUT_VARIANT[kind]
        return held_out if self.world.unknown else self.dice.plain.choice(list(sounds.TRAINING_VARIANTS[kind]))

    def _with_bed(self, out: Samples) -> Samples:
        assert self.bed_kind is not None
        duration_s = len(out) / SAMPLE_RATE_HZ
        bed = self._rendered(self.bed_kind, min(duration_s, BED_LOOP_S), None)
        self.events.append(Heard(self.bed_kind, 0.0, round(duration_s, DIGITS), layer="back", level_db=-12.0))
        bed = looped(bed, len(out))
        if not self.pieces:
            return np.asarray(bed * np.float32(0.3), np.float32)
        return rooms.mix_at_snr(out, bed, self.dice.plain.uniform(8.0, 16.0))


def looped(samples: Samples, num: int) -> Samples:
    """(num,) samples: repeated, with crossfades of `BED_FADE_S` so that no seam is heard."""
    if len(samples) >= num:
        return samples[:num]
    fade = min(round(BED_FADE_S * SAMPLE_RATE_HZ), len(samples) // 4)
    up = np.sqrt(np.linspace(0.0, 1.0, fade, dtype=np.float32))
    seam = samples[:fade] * up + samples[len(samples) - fade :] * up[::-1]
    cycle = np.concatenate([seam, samples[fade : len(samples) - fade]])
    return np.resize(cycle, num)


def draw_duration_s(rng: random.Random, shortest_s: float, longest_s: float) -> float:
    """Log-uniform, so that long scenes do not take all of the hours."""
    return math.exp(rng.uniform(math.log(shortest_s), math.log(longest_s)))


def _amplitude(level_db: float) -> float:
    return float(10.0 ** (level_db / 20.0))


def _within_scale(samples: Samples) -> Samples:
    peak = float(np.abs(samples).max(initial=0.0))
    return np.asarray(samples * np.float32(FULL_SCALE / peak) if peak > FULL_SCALE else samples, dtype=np.float32)
