"""What a piece is, found again from its notes: the music side of the independent checker.

Works on the JSON of a score alone and shares no code with the composer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import fmean
from typing import Any

Piece = Mapping[str, Any]

MAJOR_STEPS = {0, 2, 4, 5, 7, 9, 11}
NOTE_NAMES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
USES = {
    "waltz": "dancing in a ballroom", "march": "a parade", "blues": "an evening in a bar", "dance": "a dance floor",
    "rock": "a concert of a band", "lullaby": "putting a child to sleep", "canon": "a concert hall",
    "solo": "practising alone",
}  # fmt: skip
FAMILIES = {
    "piano": "keyboard", "organ": "keyboard", "guitar": "plucked string", "harp": "plucked string",
    "violin": "bowed string", "flute": "woodwind", "clarinet": "woodwind", "trumpet": "brass",
    "vibraphone": "mallet", "choir": "voice", "synthesizer": "synthesizer",
}  # fmt: skip
ONSET, END, PITCH, VELOCITY = 0, 1, 2, 3


def _pitched(piece: Piece) -> list[Mapping[str, Any]]:
    return [part for part in piece["parts"] if part["instrument"] != "drums"]


def _melody(piece: Piece) -> Mapping[str, Any]:
    """The part that lies highest."""
    return max(_pitched(piece), key=lambda part: fmean(note[PITCH] for note in part["notes"]))


def _all_notes(piece: Piece) -> list[list[float]]:
    return sorted(note for part in _pitched(piece) for note in part["notes"])


def lead_instrument(piece: Piece) -> str:
    """Of the highest part."""
    return str(_melody(piece)["instrument"])


def lead_family(piece: Piece) -> str:
    """Of the highest part's instrument."""
    return FAMILIES[lead_instrument(piece)]


def beats_per_bar(piece: Piece) -> int | None:
    """The shortest period, in beats, after which the accompaniment repeats its rhythm."""
    beat_s = 60.0 / piece["tempo_bpm"]
    struck = {
        (round(note[ONSET] / beat_s * 2), part["role"], note[PITCH] if part["role"] == "drums" else 0)
        for part in piece["parts"]
        if part["role"] in ("bass", "chords", "drums")
        for note in part["notes"]
        if note[ONSET] < piece["half_s"]
    }
    last = round(piece["half_s"] / beat_s * 2)
    for beats in (2, 3, 4):
        period = 2 * beats
        moved = {(at + period, role, pitch) for at, role, pitch in struck if at + period < last}
        if moved == {one for one in struck if one[0] >= period}:
            return beats
    return None


def contour(piece: Piece) -> str:
    """From the mean height of the melody at five places."""
    notes = _melody(piece)["notes"]
    total = notes[-1][END]

    def height(place: float) -> float:
        near = [n[PITCH] for n in notes if abs(n[ONSET] / total - place) < 0.09]
        return fmean(near) if near else min(notes, key=lambda n: abs(n[ONSET] / total - place))[PITCH]

    start, third, middle, two_thirds, end = (height(place) for place in (0.0, 1 / 3, 1 / 2, 2 / 3, 0.97))
    if third > two_thirds + 4 and end > two_thirds + 4:
        return "wave"
    if middle > start + 4 and middle > end + 4:
        return "arch"
    return "rising" if end > start else "falling"


def dynamics(piece: Piece) -> str:
    """From the velocities of the melody at both ends."""
    notes = _melody(piece)["notes"]
    quarter = max(1, len(notes) // 4)
    first, last = (fmean(note[VELOCITY] for note in part) for part in (notes[:quarter], notes[-quarter:]))
    if 0.8 < last / first < 1.25:
        return "loud" if first > 0.5 else "soft"
    return "getting louder" if last > first else "getting softer"


def mode(piece: Piece) -> str:
    """Which third above the tonic is used."""
    thirds = [(int(note[PITCH]) - piece["tonic"]) % 12 for note in _all_notes(piece)]
    return "major" if thirds.count(4) > thirds.count(3) else "minor"


def articulation(piece: Piece) -> str:
    """How much of the time between its notes the melody sounds."""
    notes = _melody(piece)["notes"]
    shares = [(a[END] - a[ONSET]) / (b[ONSET] - a[ONSET]) for a, b in pairwise(notes)]
    return "staccato" if fmean(shares) < 0.7 else "legato"


def texture(piece: Piece) -> str:
    """One line, or two of which one follows the other an octave lower, or more."""
    parts = _pitched(piece)
    if len(parts) == 1:
        return "monophonic"
    if len(parts) == 2:
        first, second = ([note[PITCH] for note in part["notes"]] for part in parts)
        if [pitch - 12 for pitch in first[: len(second)]] == second:
            return "polyphonic"
    return "homophonic"


def tempo(piece: Piece) -> str:
    """In three classes."""
    return "slow" if piece["tempo_bpm"] < 80 else "fast" if piece["tempo_bpm"] > 140 else "moderate"


def tempo_bpm(piece: Piece) -> int:
    """From the beats that lie before the middle of the piece."""
    num_beats = len(piece["chords"]) // 2 * piece["beats_per_bar"]
    tempo_bpm: float = 60.0 * num_beats / piece["half_s"]
    return round(tempo_bpm)


def tempo_change(piece: Piece) -> str:
    """From the lengths of both halves, which have as many bars."""
    second_s = max(note[END] for part in piece["parts"] for note in part["notes"]) - piece["half_s"]
    ratio = piece["half_s"] / second_s
    return "faster" if ratio > 1.2 else "slower" if ratio < 0.85 else "steady"


def late(piece: Piece) -> str | None:
    """The instrument that is silent during the first half."""
    found = [p["instrument"] for p in piece["parts"] if min(n[ONSET] for n in p["notes"]) > piece["half_s"] - 0.01]
    return found[0] if len(found) == 1 else None


def tonic_name(piece: Piece) -> int | None:
    """The tonic, if every note is in its major scale."""
    fits = all((int(note[PITCH]) - piece["tonic"]) % 12 in MAJOR_STEPS for note in _all_notes(piece))
    return int(piece["tonic"]) if fits else None


def first_chord(piece: Piece) -> int | None:
    """Root of the major triad that is struck first."""
    chords = next(part["notes"] for part in piece["parts"] if part["role"] == "chords")
    struck = {int(note[PITCH]) % 12 for note in chords if note[ONSET] == chords[0][ONSET]}
    return next((root for root in range(12) if struck == {root, (root + 4) % 12, (root + 7) % 12}), None)


def modulation(piece: Piece) -> int | None:
    """By how many semitones the roots of the second half lie above what the numerals say."""
    bass = next(part["notes"] for part in piece["parts"] if part["role"] == "bass")
    per_bar = len(bass) // len(piece["chords"])
    roots = [int(note[PITCH]) % 12 for note in bass[::per_bar]]
    written = [NOTE_NAMES.index(name.rsplit(" ", 1)[0]) for name in piece["chords"]]
    shifts = {(root - chord) % 12 for root, chord in list(zip(roots, written, strict=True))[len(roots) // 2 :]}
    return shifts.pop() if len(shifts) == 1 else None


def num_parts(piece: Piece) -> int:
    """Instruments, drums included."""
    return len({part["instrument"] for part in piece["parts"]})


MUSIC_RULES: dict[str, Callable[[Piece], Any]] = {
    f"music_{rule.__name__}": rule
    for rule in (
        lead_instrument, lead_family, beats_per_bar, contour, dynamics, mode, articulation, texture, tempo,
        tempo_bpm, tempo_change, late, tonic_name, first_chord, modulation, num_parts,
    )
}  # fmt: skip
MUSIC_RULES["music_style"] = lambda piece: piece["style"]
MUSIC_RULES["music_context"] = lambda piece: USES[piece["style"]]

_WORDS: dict[str, dict[Any, str]] = {
    "music_beats_per_bar": {2: "two", 3: "three", 4: "four"},
    "music_num_parts": {1: "one", 2: "two", 3: "three", 4: "four"},
    "music_contour": {"rising": "it rises", "falling": "it falls", "arch": "it rises and then falls",
                      "wave": "it goes up and down in waves"},
    "music_texture": {"monophonic": "a single line alone", "homophonic": "a melody with accompaniment",
                      "polyphonic": "two voices that imitate each other"},
    "music_tempo_change": {"steady": "it stays the same", "faster": "it gets faster", "slower": "it gets slower"},
    "music_modulation": {0: "the key stays", 2: "the key moves up", 3: "the key moves up"},
    "music_tonic_name": {index: f"{name} major" for index, name in enumerate(NOTE_NAMES)},
    "music_first_chord": {index: f"{name} major" for index, name in enumerate(NOTE_NAMES)},
}  # fmt: skip


def music_words(rule: str, value: Any) -> str:
    """How an answer puts a value."""
    if rule == "music_lead_instrument":
        return f"an {value}" if value[0] in "aeiou" else f"a {value}"
    if rule == "music_tempo_bpm":
        return f"{value} beats a minute"
    if rule == "music_late":
        return f"the {value}"
    return _WORDS[rule][value] if rule in _WORDS else str(value)
