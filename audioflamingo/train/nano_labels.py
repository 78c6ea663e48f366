"""What the encoder is told about every 40 ms: events, voices and music, by name; exact, because we made the sound.

The names and their order belong to `heads.safetensors`. The first are those of the first version, so that its head's
rows are found again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from audioflamingo.world import sounds
from audioflamingo.world.cast import MOODS, PACES
from audioflamingo.world.music.instruments import DRUM_KIT, INSTRUMENTS
from audioflamingo.world.music.theory import NUM_PITCH_CLASSES, PITCH_CLASSES
from audioflamingo.world.scenes import Scene
from audioflamingo.world.timeline import Heard, Timeline

Span = tuple[str, float, float]
"""A name, start and end in seconds."""

AUDIO_TOKENS_PER_S = 25
EVENT_NAMES = ("speech", *sorted(sounds.KINDS))
SLOWEST_BPM, TEMPO_STEP, NUM_TEMPI = 50.0, 1.06, 24
BEAT_S = 0.06
FRAME_NAMES: tuple[str, ...] = (
    *EVENT_NAMES,
    "music", "onset", "offset", "beat", "downbeat",
    *(f"sex {name}" for name in ("female", "male")),
    *(f"mood {name}" for name in sorted(MOODS)),
    *(f"pace {name}" for name in sorted(PACES)),
    *(f"instrument {name}" for name in sorted({*INSTRUMENTS, DRUM_KIT})),
    *(f"lead {name}" for name in sorted(INSTRUMENTS)),
    *(f"pitch class {name}" for name in PITCH_CLASSES),
    *(f"root {name}" for name in PITCH_CLASSES),
    *(f"key {name} {mode}" for mode in ("major", "minor") for name in PITCH_CLASSES),
    *(f"tempo {step}" for step in range(NUM_TEMPI)),
    *(f"beats {number}" for number in (2, 3, 4)),
)  # fmt: skip
FRAME_INDEX = {name: index for index, name in enumerate(FRAME_NAMES)}


def tempo_step(tempo_bpm: float) -> int:
    """Which of the `NUM_TEMPI` steps of 6 % a tempo falls into."""
    return min(max(round(math.log(tempo_bpm / SLOWEST_BPM) / math.log(TEMPO_STEP)), 0), NUM_TEMPI - 1)


def spans_of_timeline(timeline: Timeline) -> list[Span]:
    """All names that can be heard on a timeline, with their times."""
    return [span for event in timeline.events for span in _spans(event, timeline.duration_s)]


def spans_of_scene(scene: Scene) -> list[Span]:
    """The same of a scene of `world.scenes`."""
    duration_s = len(scene.samples) / 16_000
    found: list[Span] = [(event.kind, event.start_s, event.end_s) for event in scene.events]
    found += [span for event in scene.events for span in _edges(event.start_s, event.end_s)]
    found += [(f"sex {event.sex}", event.start_s, event.end_s) for event in scene.events if event.sex]
    return found + ([(scene.background, 0.0, duration_s)] if scene.background else [])


def frames_of(spans: list[Span], start_s: float, num_tokens: int) -> list[tuple[int, int, int]]:
    """(name, first, end) in audio tokens from `start_s` on, cut to a window of `num_tokens`."""
    found = []
    for name, begins_s, ends_s in spans:
        first = max(int((begins_s - start_s) * AUDIO_TOKENS_PER_S), 0)
        end = min(math.ceil((ends_s - start_s) * AUDIO_TOKENS_PER_S), num_tokens)
        if first < end:
            found.append((FRAME_INDEX[name], first, end))
    return found


def _edges(start_s: float, end_s: float) -> Iterator[Span]:
    yield "onset", start_s, start_s + BEAT_S
    yield "offset", end_s - BEAT_S, end_s


def _spans(event: Heard, duration_s: float) -> Iterator[Span]:
    end_s = min(event.end_s, duration_s)
    yield event.kind, event.start_s, end_s
    if event.layer == "front":
        yield from _edges(event.start_s, end_s)
    if event.voice is not None:
        for fact in ("sex", "mood", "pace"):
            yield f"{fact} {event.voice[fact]}", event.start_s, end_s
    if event.piece is not None:
        yield from _music(event.piece, event.start_s, end_s)


def _music(piece: Any, start_s: float, end_s: float) -> Iterator[Span]:
    half_s = start_s + piece["half_s"]
    if piece["tempo_change"] == "steady":
        yield f"tempo {tempo_step(piece['tempo_bpm'])}", start_s, end_s
    yield f"beats {piece['beats_per_bar']}", start_s, end_s
    yield f"key {PITCH_CLASSES[piece['tonic']]} {piece['mode']}", start_s, half_s if piece["modulation"] else end_s
    if piece["modulation"]:
        moved = PITCH_CLASSES[(piece["tonic"] + piece["modulation"]) % NUM_PITCH_CLASSES]
        yield f"key {moved} {piece['mode']}", half_s, end_s
    for part in piece["parts"]:
        yield from _part(part, start_s, end_s)
    yield from _beats(piece, start_s, end_s)


def _part(part: Any, start_s: float, end_s: float) -> Iterator[Span]:
    notes = [(start_s + a, min(start_s + b, end_s), int(pitch)) for a, b, pitch, _ in part["notes"]]
    if notes:
        yield f"instrument {part['instrument']}", notes[0][0], notes[-1][1]
    if part["role"] == "melody" and notes:
        yield f"lead {part['instrument']}", notes[0][0], notes[-1][1]
    if part["role"] == "drums":
        return
    kind = "root" if part["role"] == "bass" else "pitch class"
    for begins_s, ends_s, pitch in notes:
        yield f"{kind} {PITCH_CLASSES[pitch % NUM_PITCH_CLASSES]}", begins_s, ends_s
        if kind == "root":
            yield f"pitch class {PITCH_CLASSES[pitch % NUM_PITCH_CLASSES]}", begins_s, ends_s


def _beats(piece: Any, start_s: float, end_s: float) -> Iterator[Span]:
    """Beats of the piece, the first of each bar apart; the tempo may change at half of it."""
    num_half = len(piece["chords"]) // 2 * piece["beats_per_bar"]
    first_s = piece["half_s"] / num_half
    ratio = {"steady": 1.0, "faster": 1.4, "slower": 0.7}[piece["tempo_change"]]
    num_beats = len(piece["chords"]) * piece["beats_per_bar"]
    for beat in range(num_beats):
        late = max(beat - num_half, 0)
        at_s = start_s + min(beat, num_half) * first_s + late * first_s / ratio
        if at_s < end_s:
            yield ("downbeat" if beat % piece["beats_per_bar"] == 0 else "beat"), at_s, at_s + BEAT_S
