"""What the encoder is told about every 40 ms: events, voices and music, by name; exact, because we made the sound.

The names and their order belong to `heads.safetensors`. The first are those of the first version, so that its head's
rows are found again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from audioflamingo.world import sounds
from audioflamingo.world.cast import MOODS, PACES
from audioflamingo.world.check_music import MUSIC_RULES
from audioflamingo.world.height import HOP, NUM_HEIGHTS, UNVOICED
from audioflamingo.world.music.instruments import DRUM_KIT, INSTRUMENTS
from audioflamingo.world.music.score import TEMPO_RATIO
from audioflamingo.world.music.theory import NUM_PITCH_CLASSES, PITCH_CLASSES
from audioflamingo.world.scenes import Scene
from audioflamingo.world.skills.every import MUSIC_SKILLS, is_defined
from audioflamingo.world.sounds.synthesis import Samples
from audioflamingo.world.timeline import Heard, Timeline

Span = tuple[str, float, float]
"""A name, start and end in seconds."""

AUDIO_TOKENS_PER_S = 25
EVENT_NAMES = ("speech", *sorted(sounds.KINDS))
SLOWEST_BPM, TEMPO_STEP, NUM_TEMPI = 50.0, 1.06, 24
FINE_TEMPI = range(52, 185, 4)
BEAT_S = 0.06
HEIGHT_S = HOP / 16_000
NUM_PHASES, MOST_BEATS = 4, 4
MOST_PLACES, MOST_VOICES = 8, 4
LONGEST_RELATED_S = 30.0  # a window of the encoder: beyond it nothing can be counted
QUIETEST_DB, LEVEL_STEP_DB, NUM_LEVELS, SHORTEST_LEVEL_S = -57.0, 3.0, 17, 0.1
LEAST_LONGER, LEAST_HIGHER, LEAST_LOUDER_DB, LEAST_STEP_DB = 1.3, 1.2, 8.0, 1.5
MUSIC_TOLD = tuple(sub for sub in MUSIC_SKILLS if sub.name not in ("lead_instrument", "tempo_bpm", "context"))
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
    *(f"nth {place}" for place in range(1, MOST_PLACES + 1)),
    *(f"again {place}" for place in range(1, MOST_PLACES + 1)),
    *(f"voice {place}" for place in range(1, MOST_VOICES + 1)),
    "higher", "lower", "coming", "going", "longest", "loudest",
    *(f"{sub.name} {value}" for sub in MUSIC_TOLD for value in sub.values),
    *(f"about {bpm} beats" for bpm in FINE_TEMPI),
    *(f"height {step}" for step in range(NUM_HEIGHTS)),
    *(f"phase {quarter}" for quarter in range(NUM_PHASES)),
    *(f"in bar {beat}" for beat in range(1, MOST_BEATS + 1)),
    *(f"kinds {number}" for number in range(1, MOST_PLACES + 1)),
    *(f"level {step}" for step in range(NUM_LEVELS)),
)  # fmt: skip
LEVEL_WEIGHT = 0.25  # masks and responses move a step's edges, so that much of this loss is chance
FRAME_WEIGHTS = tuple(LEVEL_WEIGHT if name.startswith("level ") else 1.0 for name in FRAME_NAMES)
FRAME_INDEX = {name: index for index, name in enumerate(FRAME_NAMES)}


def tempo_step(tempo_bpm: float) -> int:
    """Which of the `NUM_TEMPI` steps of 6 % a tempo falls into."""
    return min(max(round(math.log(tempo_bpm / SLOWEST_BPM) / math.log(TEMPO_STEP)), 0), NUM_TEMPI - 1)


def spans_of_timeline(timeline: Timeline) -> list[Span]:
    """All names that can be heard on a timeline, with their times."""
    found = [span for event in timeline.events for span in _spans(event, timeline.duration_s)]
    found += _levels(timeline.samples, [(event.start_s, event.end_s) for event in timeline.front])
    if timeline.duration_s <= LONGEST_RELATED_S:
        found += _relations([event for event in timeline.front if event.kind != "music"])
    return found


def spans_of_scene(scene: Scene) -> list[Span]:
    """The same of a scene of `world.scenes`."""
    duration_s = len(scene.samples) / 16_000
    found: list[Span] = [(event.kind, event.start_s, event.end_s) for event in scene.events]
    found += [span for event in scene.events for span in _edges(event.start_s, event.end_s)]
    found += _levels(scene.samples, [(event.start_s, event.end_s) for event in scene.events])
    found += [(f"sex {event.sex}", event.start_s, event.end_s) for event in scene.events if event.sex]
    found += [span for event in scene.events for span in _heights(event.start_s, event.heights, duration_s)]
    if duration_s <= LONGEST_RELATED_S:
        found += _places([(event.kind, event.start_s, event.end_s) for event in scene.events])
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


def _relations(events: list[Heard]) -> Iterator[Span]:
    """What each event is to those before it and beside it: what questions of counting and comparing come down to."""
    yield from _places([(event.kind, event.start_s, event.end_s) for event in events])
    yield from _voices([event for event in events if event.voice is not None])
    for before, event in pairwise(events):
        step_db = event.level_db - before.level_db
        if event.kind == before.kind != "speech" and abs(step_db) > LEAST_STEP_DB:
            yield "coming" if step_db > 0 else "going", event.start_s, event.end_s
    for name, sizes, least in (
        ("longest", [event.duration_s for event in events], LEAST_LONGER),
        ("loudest", [10.0 ** (event.level_db / 20.0) for event in events], 10.0 ** (LEAST_LOUDER_DB / 20.0)),
    ):
        found = list(zip(events, sizes, strict=True))
        largest = max(found, key=lambda pair: pair[1], default=None)
        others = [size for event, size in found if largest and event.kind != largest[0].kind]
        limit = least * max(others, default=math.inf)
        yield from ((name, event.start_s, event.end_s) for event, size in found if size > limit)


def _places(events: list[Span]) -> Iterator[Span]:
    """The place of each event among all and among those of its kind, and how many kinds there are up to it."""
    counts: dict[str, int] = {}
    for place, (kind, start_s, end_s) in enumerate(events, 1):
        counts[kind] = counts.get(kind, 0) + 1
        if place <= MOST_PLACES:
            yield f"nth {place}", start_s, end_s
        if counts[kind] <= MOST_PLACES:
            yield f"again {counts[kind]}", start_s, end_s
        if len(counts) <= MOST_PLACES:
            yield f"kinds {len(counts)}", start_s, end_s


def _voices(events: list[Heard]) -> Iterator[Span]:
    """Who speaks, by the order of their first words, and whether higher or lower than before."""
    pitches: dict[tuple[str, str], float] = {}
    for event in events:
        assert event.voice is not None
        who, pitch = (event.voice["engine"], event.voice["voice"]), float(event.voice["pitch"])
        before = pitches.get(who, pitch)
        pitches[who] = pitch
        place = list(pitches).index(who) + 1
        if place <= MOST_VOICES:
            yield f"voice {place}", event.start_s, event.end_s
        if max(pitch, before) > LEAST_HIGHER * min(pitch, before):
            yield "higher" if pitch > before else "lower", event.start_s, event.end_s


def _levels(samples: Samples, times: Sequence[tuple[float, float]]) -> Iterator[Span]:
    """How loud it is while each event is heard, whatever else is: which of several clips is louder comes down to it."""
    for start_s, end_s in times:
        heard = samples[round(start_s * 16_000) : round(end_s * 16_000)]
        if len(heard) >= SHORTEST_LEVEL_S * 16_000:
            yield f"level {level_step(heard)}", start_s, end_s


def level_step(samples: Samples) -> int:
    """Which of the `NUM_LEVELS` steps of 3 dB the root mean square of (n,) samples falls into."""
    level_db = 10.0 * math.log10(float(np.square(samples, dtype=np.float64).mean()) + 1e-12)
    return min(max(round((level_db - QUIETEST_DB) / LEVEL_STEP_DB), 0), NUM_LEVELS - 1)


def _heights(start_s: float, heights: Sequence[int], end_s: float) -> Iterator[Span]:
    """How high a voice is, on whole audio tokens, so that no token has two heights."""
    place = round(start_s * AUDIO_TOKENS_PER_S)
    for step, run in groupby(heights):
        num = len(list(run))
        if step != UNVOICED:
            yield from _on_tokens(f"height {step}", place, min(place + num, int(end_s * AUDIO_TOKENS_PER_S)))
        place += num


def _on_tokens(name: str, first: int, end: int) -> Iterator[Span]:
    """A span of exactly these audio tokens: its edges lie within the outer ones."""
    if first < end:
        yield name, (first + 0.25) / AUDIO_TOKENS_PER_S, (end - 0.25) / AUDIO_TOKENS_PER_S


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
        yield from _heights(event.start_s, event.heights, end_s)
    if event.piece is not None:
        yield from _music(event.piece, event.start_s, end_s)


def _music(piece: Any, start_s: float, end_s: float) -> Iterator[Span]:
    half_s = start_s + piece["half_s"]
    if piece["tempo_change"] == "steady":
        yield f"tempo {tempo_step(piece['tempo_bpm'])}", start_s, end_s
        yield f"about {min(FINE_TEMPI, key=lambda bpm: abs(bpm - piece['tempo_bpm']))} beats", start_s, end_s
    yield f"beats {piece['beats_per_bar']}", start_s, end_s
    yield f"key {PITCH_CLASSES[piece['tonic']]} {piece['mode']}", start_s, half_s if piece["modulation"] else end_s
    if piece["modulation"]:
        moved = PITCH_CLASSES[(piece["tonic"] + piece["modulation"]) % NUM_PITCH_CLASSES]
        yield f"key {moved} {piece['mode']}", half_s, end_s
    for sub in MUSIC_TOLD:
        if is_defined(sub, piece):
            yield f"{sub.name} {MUSIC_RULES[f'music_{sub.name}'](piece)}", start_s, end_s
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
    """Beats of the piece, the first of each bar apart, and all along where in the beat and in the bar one is."""
    for beat, (at_s, next_s) in enumerate(pairwise(_beat_times(piece, start_s))):
        if at_s >= end_s:
            return
        place = beat % piece["beats_per_bar"]
        yield ("downbeat" if place == 0 else "beat"), at_s, at_s + BEAT_S
        steps = [at_s + (next_s - at_s) * quarter / NUM_PHASES for quarter in range(NUM_PHASES + 1)]
        tokens = [round(min(step, end_s) * AUDIO_TOKENS_PER_S) for step in steps]
        for quarter, (first, end) in enumerate(pairwise(tokens)):
            yield from _on_tokens(f"phase {quarter}", first, end)
        yield from _on_tokens(f"in bar {place + 1}", tokens[0], tokens[-1])


def _beat_times(piece: Any, start_s: float) -> list[float]:
    """When each beat falls, and when the last one ends; the tempo may change at half of the piece."""
    num_half = len(piece["chords"]) // 2 * piece["beats_per_bar"]
    first_s = piece["half_s"] / num_half
    second_s = first_s / TEMPO_RATIO[piece["tempo_change"]]
    num_beats = len(piece["chords"]) * piece["beats_per_bar"]
    return [start_s + min(b, num_half) * first_s + max(b - num_half, 0) * second_s for b in range(num_beats + 1)]
