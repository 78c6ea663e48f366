"""Just enough theory of Western music to write pieces and to say what is in them.

Pitches are MIDI numbers (60 is middle C), pitch classes count semitones above C, degrees count from 0 within a scale.
"""

from __future__ import annotations

from typing import Literal

Mode = Literal["major", "minor"]

NUM_PITCH_CLASSES = 12
CONCERT_PITCH, CONCERT_PITCH_HZ = 69, 440.0
PITCH_CLASSES = ("C", "C sharp", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")
SCALES: dict[Mode, tuple[int, ...]] = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
TRIADS = {"major": (0, 4, 7), "minor": (0, 3, 7), "diminished": (0, 3, 6)}
QUALITIES: dict[Mode, tuple[str, ...]] = {
    "major": ("major", "minor", "minor", "major", "major", "minor", "diminished"),
    "minor": ("minor", "diminished", "major", "minor", "major", "major", "major"),  # the fifth is the harmonic one
}
NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII")
PROGRESSIONS: dict[Mode, tuple[tuple[int, ...], ...]] = {
    "major": ((0, 4, 5, 3), (0, 3, 4, 0), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 4), (0, 5, 3, 4)),
}
BLUES = (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 0)


def frequency_hz(pitch: float) -> float:
    """Of a MIDI pitch in equal temperament."""
    return float(CONCERT_PITCH_HZ * 2.0 ** ((pitch - CONCERT_PITCH) / NUM_PITCH_CLASSES))


def key_name(tonic: int, mode: Mode) -> str:
    """Such as "E flat minor"."""
    return f"{PITCH_CLASSES[tonic % NUM_PITCH_CLASSES]} {mode}"


def chord_classes(tonic: int, mode: Mode, degree: int) -> tuple[int, int, int]:
    """Pitch classes of the triad on a degree: root, third, fifth."""
    root = tonic + SCALES[mode][degree]
    first, third, fifth = ((root + step) % NUM_PITCH_CLASSES for step in TRIADS[QUALITIES[mode][degree]])
    return first, third, fifth


def chord_name(tonic: int, mode: Mode, degree: int) -> str:
    """Such as "A minor"."""
    root = (tonic + SCALES[mode][degree]) % NUM_PITCH_CLASSES
    return f"{PITCH_CLASSES[root]} {QUALITIES[mode][degree]}"


def numeral(mode: Mode, degree: int) -> str:
    """Roman numeral of a degree: upper case for major triads, lower case for the others."""
    name = NUMERALS[degree]
    return name if QUALITIES[mode][degree] == "major" else name.lower()


def scale_pitch(tonic: int, mode: Mode, step: int, *, around: int = 60) -> int:
    """Pitch that lies `step` scale degrees above the tonic nearest below `around`."""
    base = around - (around - tonic) % NUM_PITCH_CLASSES
    octave, degree = divmod(step, len(SCALES[mode]))
    return base + NUM_PITCH_CLASSES * octave + SCALES[mode][degree]


def nearest(pitch_class: int, pitch: int) -> int:
    """The pitch of a class that lies nearest to another pitch, at most six semitones away."""
    shift = (pitch_class - pitch) % NUM_PITCH_CLASSES
    return pitch + (shift if shift <= NUM_PITCH_CLASSES // 2 else shift - NUM_PITCH_CLASSES)
