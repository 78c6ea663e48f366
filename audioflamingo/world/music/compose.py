"""Writes pieces: draws facts within a style, then notes that obey them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from audioflamingo.world.music.instruments import BASSES, CHORDAL, DRUM_KIT, MELODIC
from audioflamingo.world.music.score import Articulation, Dynamics, Facts, Note, Part, Role, Score, Texture
from audioflamingo.world.music.theory import (
    BLUES,
    NUM_PITCH_CLASSES,
    PROGRESSIONS,
    SCALES,
    Mode,
    chord_classes,
    nearest,
    scale_pitch,
)

KICK, SNARE, HAT = 36, 38, 42  # General MIDI percussion keys
VELOCITIES: dict[Dynamics, tuple[float, float]] = {
    "soft": (0.35, 0.35),
    "loud": (0.9, 0.9),
    "getting louder": (0.2, 1.0),
    "getting softer": (1.0, 0.2),
}
CONTOURS = ("rising", "falling", "arch", "wave")
DYNAMICS = tuple(VELOCITIES)
LOWEST_MELODY, CHORD_CENTRE, BASS_CENTRE = 67, 60, 41
MELODY_SPAN = 9  # scale steps between the lowest and the highest note of a contour


@dataclass(frozen=True)
class Style:
    """What makes a style that style, and what it is good for.

    Attributes:
        context: a use that suits it.
        tempo_bpm: slowest and fastest.
        metres: beats a bar.
        modes: keys it may be in.
        drums: (beat within the bar, key) of one bar; None leaves drums out.
        accompaniment: beats of the bar on which chords are struck.
        articulation: of the melody.
        textures: it may have.
    """

    context: str
    tempo_bpm: tuple[int, int]
    metres: tuple[int, ...]
    modes: tuple[Mode, ...]
    drums: tuple[tuple[float, int], ...] | None
    accompaniment: tuple[float, ...]
    articulation: Articulation | None = None
    textures: tuple[Texture, ...] = ("homophonic",)


STYLES: dict[str, Style] = {
    "waltz": Style("dancing in a ballroom", (120, 180), (3,), ("major", "minor"), None, (1.0, 2.0)),
    "march": Style(
        "a parade", (104, 124), (2,), ("major",), ((0.0, KICK), (1.0, SNARE), (1.5, SNARE)), (0.5, 1.5), "staccato"
    ),
    "blues": Style(
        "an evening in a bar", (72, 100), (4,), ("major",),
        ((0.0, KICK), (1.0, SNARE), (2.0, KICK), (3.0, SNARE)), (0.0, 1.0, 2.0, 3.0),
    ),
    "dance": Style(
        "a dance floor", (118, 134), (4,), ("minor",),
        ((1.0, SNARE), (3.0, SNARE), *((b + 0.0, KICK) for b in range(4)), *((b + 0.5, HAT) for b in range(4))),
        (0.5, 1.5, 2.5, 3.5), "staccato",
    ),
    "rock": Style(
        "a concert of a band", (100, 150), (4,), ("major", "minor"),
        ((0.0, KICK), (1.0, SNARE), (2.0, KICK), (2.5, KICK), (3.0, SNARE), *((b / 2, HAT) for b in range(8))),
        (0.0, 2.0),
    ),
    "lullaby": Style("putting a child to sleep", (56, 76), (3, 4), ("major",), None, (0.0,), "legato"),
    "canon": Style("a concert hall", (84, 120), (4,), ("major", "minor"), None, (), "legato", ("polyphonic",)),
    "solo": Style("practising alone", (60, 160), (3, 4), ("major", "minor"), None, (), None, ("monophonic",)),
}  # fmt: skip


def draw_facts(rng: random.Random, *, duration_s: float = 12.0, **wanted: Any) -> Facts:
    """Facts of a piece of about a duration; `wanted` fixes any of them by name.

    Args:
        rng: draws everything that is not fixed.
        duration_s: aimed at; the piece has whole bars, an even number of them, and at least four.
        wanted: fields of `Facts`, of which "instruments" may hold some of the roles only.
    """
    name = wanted.get("style") or rng.choice(sorted(STYLES))
    style = STYLES[name]
    mode: Mode = wanted.get("mode") or rng.choice(style.modes)
    tempo = wanted.get("tempo_bpm") or rng.randint(*style.tempo_bpm)
    metre = wanted.get("beats_per_bar") or rng.choice(style.metres)
    num_bars = 2 * max(2, round(duration_s * tempo / 60 / metre / 2))
    pattern = BLUES if name == "blues" else rng.choice(PROGRESSIONS[mode])
    texture = rng.choice(style.textures)
    facts = Facts(
        tonic=rng.randrange(NUM_PITCH_CLASSES),
        mode=mode,
        tempo_bpm=tempo,
        beats_per_bar=metre,
        style=name,
        degrees=tuple(pattern[bar % len(pattern)] for bar in range(num_bars)),
        instruments=_draw_instruments(rng, style, texture, wanted.pop("instruments", {})),
        texture=texture,
        contour=rng.choice(CONTOURS),  # type: ignore[arg-type]
        dynamics=rng.choice(DYNAMICS[:2]),
        articulation=style.articulation or rng.choice(("legato", "staccato")),  # type: ignore[arg-type]
    )
    return replace(facts, **wanted)


def _draw_instruments(rng: random.Random, style: Style, texture: Texture, wanted: dict[Role, str]) -> dict[Role, str]:
    """All roles of a texture; no instrument is drawn twice."""
    roles: list[Role] = ["melody"]
    if texture == "polyphonic":
        roles.append("second voice")
    if texture == "homophonic":
        roles += ["chords", "bass"]
    if style.drums:
        roles.append("drums")
    pools: dict[Role, tuple[str, ...]] = {
        "melody": MELODIC, "second voice": MELODIC, "chords": CHORDAL, "bass": BASSES, "drums": (DRUM_KIT,)
    }  # fmt: skip
    chosen: dict[Role, str] = {}
    for role in roles:
        free = [name for name in pools[role] if name not in {*chosen.values(), *wanted.values()}]
        drawn = rng.choice(free)
        chosen[role] = wanted.get(role, drawn)
    return chosen


def compose(facts: Facts, rng: random.Random) -> Score:
    """Notes for the facts. The same facts and the same state of `rng` give the same piece."""
    melody = list(_melody(facts, rng))
    written: dict[Role, list[Note]] = {"melody": melody}
    if "second voice" in facts.instruments:
        delay = 2 * facts.beats_per_bar
        shifted = [replace(note, onset=note.onset + delay, pitch=note.pitch - 12) for note in melody]
        written["second voice"] = [note for note in shifted if note.onset + note.duration <= facts.num_beats]
    if "chords" in facts.instruments:
        written["chords"] = list(_chords(facts))
    if "bass" in facts.instruments:
        written["bass"] = list(_bass(facts))
    if "drums" in facts.instruments:
        written["drums"] = list(_drums(facts))
    parts = tuple(Part(role, facts.instruments[role], _performed(facts, role, n)) for role, n in written.items())
    return Score(facts, parts)


def _performed(facts: Facts, role: Role, notes: list[Note]) -> tuple[Note, ...]:
    """With dynamics, a late entry and a modulation."""
    soft, loud = VELOCITIES[facts.dynamics]
    out = []
    for note in notes:
        second_half = note.onset >= facts.half_beat
        if role == facts.late and not second_half:
            continue
        moved = facts.modulation if second_half and role != "drums" else 0
        level = soft + (loud - soft) * note.onset / facts.num_beats
        out.append(replace(note, pitch=note.pitch + moved, velocity=note.velocity * level))
    return tuple(out)


def _height(contour: str, place: float) -> float:
    """Where a contour runs, from 0 (low) to 1 (high), at a place from 0 to 1 in the piece."""
    if contour in ("rising", "falling"):
        return place if contour == "rising" else 1.0 - place
    turns = 1.0 if contour == "arch" else 3.0
    return abs((place * turns + 1.0) % 2.0 - 1.0) if contour == "wave" else 1.0 - abs(2.0 * place - 1.0)


def _melody(facts: Facts, rng: random.Random) -> Iterator[Note]:
    """Follows the contour; on the first beat of a bar it takes a note of the chord, at the end the tonic."""
    rhythm = [rng.choice(((1.0,), (0.5, 0.5), (1.0,), (2.0,))) for _ in range(2 * facts.beats_per_bar)]
    beat, turn = 0.0, 0
    while beat < facts.num_beats:
        for duration in rhythm[turn % len(rhythm)]:
            left = facts.num_beats - beat
            duration = min(duration, left)
            if duration <= 0:
                return
            step = round(_height(facts.contour, beat / facts.num_beats) * MELODY_SPAN)
            pitch = _melody_pitch(facts, step, beat, rng)
            sounding = duration * (0.45 if facts.articulation == "staccato" else 0.97)
            yield Note(beat, sounding, pitch, 1.0 if beat % facts.beats_per_bar == 0 else 0.85)
            beat += duration
        turn += 1


def _melody_pitch(facts: Facts, step: int, beat: float, rng: random.Random) -> int:
    pitch = scale_pitch(facts.tonic, facts.mode, step, around=LOWEST_MELODY)
    if beat % facts.beats_per_bar == 0:
        bar = int(beat) // facts.beats_per_bar
        classes = chord_classes(facts.tonic, facts.mode, facts.degrees[bar])
        return min((nearest(one, pitch) for one in classes), key=lambda one: abs(one - pitch))
    wiggle = rng.choice((-1, 0, 0, 1))
    return scale_pitch(facts.tonic, facts.mode, step + wiggle, around=LOWEST_MELODY)


def _chords(facts: Facts) -> Iterator[Note]:
    style = STYLES[facts.style]
    beats = [beat for beat in style.accompaniment if beat < facts.beats_per_bar]
    for bar, degree in enumerate(facts.degrees):
        for index, beat in enumerate(beats):
            until = beats[index + 1] if index + 1 < len(beats) else facts.beats_per_bar
            for pitch_class in chord_classes(facts.tonic, facts.mode, degree):
                onset = bar * facts.beats_per_bar + beat
                yield Note(onset, (until - beat) * 0.9, nearest(pitch_class, CHORD_CENTRE), 0.6)


def _bass(facts: Facts) -> Iterator[Note]:
    """The root on the first beat, and the fifth on the third beat of four."""
    for bar, degree in enumerate(facts.degrees):
        root, _, fifth = chord_classes(facts.tonic, facts.mode, degree)
        start = float(bar * facts.beats_per_bar)
        length = 1.9 if facts.beats_per_bar == 4 else 0.95 * min(facts.beats_per_bar, 2)
        yield Note(start, length, nearest(root, BASS_CENTRE), 0.9)
        if facts.beats_per_bar == 4:
            yield Note(start + 2.0, length, nearest(fifth, BASS_CENTRE), 0.75)


def _drums(facts: Facts) -> Iterator[Note]:
    for bar in range(facts.num_bars):
        for beat, key in STYLES[facts.style].drums or ():
            if beat < facts.beats_per_bar:
                yield Note(bar * facts.beats_per_bar + beat, 0.25, key, 0.5 if key == HAT else 0.9)


def scale_classes(tonic: int, mode: Mode) -> set[int]:
    """Pitch classes of a key."""
    return {(tonic + step) % NUM_PITCH_CLASSES for step in SCALES[mode]}
