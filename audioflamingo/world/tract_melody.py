"""The fundamental of a speaker at every 5 ms: a line that falls, accents on it, and how a phrase ends."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.tract_parts import Part, Saying
from audioflamingo.world.tract_sound import FRAME_S, Floats
from audioflamingo.world.voices import Speaker

LOWEST_HZ, HIGHEST_HZ = 55.0, 480.0
END_S = 0.28
UNACCENTED = 0.35  # height of a stressed syllable without accent, against an accented one's
RECORDED_RANGE = 0.45
WIDEST = 9.0  # semitones from the middle, however lively
TREMOR_HZ = 5.0
ASKING = ("who", "what", "where", "when", "why", "which", "whose", "how")
Numbers = np.random.Generator


def melody(parts: list[Part], num: int, text: str, speaker: Speaker, saying: Saying, rng: Numbers) -> Floats:
    """(T,) Hz."""
    frames = np.arange(num)
    line = np.zeros(num)
    range_of = speaker.liveliness * (RECORDED_RANGE if saying.recorded else 1.0)
    phrases = _phrases(parts)
    for index, phrase in enumerate(phrases):
        first, last = phrase[0].first, phrase[-1].last
        inside = slice(first, last)
        line[inside] += saying.declination * np.linspace(0.5, -0.5, last - first)
        is_last = index == len(phrases) - 1
        ending = -saying.fall if is_last else saying.comma
        if is_last and _is_asked(text):
            ending = saying.rise
        from_frame = last - min(round(END_S / FRAME_S), last - first)
        line[inside] += ending * np.clip((frames[inside] - from_frame) / (last - from_frame), 0.0, 1.0)
        line += _accents(phrase, frames, saying, rng)
    line = WIDEST * np.tanh(range_of * line / WIDEST) + _micro(parts, num, saying) + _drift(num, saying, rng)
    line = _smoothed(line)
    if saying.recorded:
        line = _level_pieces(line, parts)
    voiced = [line[part.first : part.last] for part in parts if part.phone.voice_db is not None]
    line -= float(np.median(np.concatenate(voiced))) if voiced else 0.0  # a made-up word may have none
    f0 = saying.pitch_hz * speaker.pitch * 2.0 ** (line / 12.0)
    return np.clip(f0, LOWEST_HZ, HIGHEST_HZ).astype(np.float32)


def _phrases(parts: list[Part]) -> list[list[Part]]:
    """What lies between pauses."""
    found: list[list[Part]] = [[]]
    for part in parts:
        if part.phone.kind == "pause":
            found.append([])
        else:
            found[-1].append(part)
    return [phrase for phrase in found if phrase]


def _is_asked(text: str) -> bool:
    """Whether yes or no is asked for: only then the voice goes up."""
    if not text.rstrip("\"' ").endswith("?"):
        return False
    last = text.replace("!", ".").replace("?", ".").rstrip("\"'. ").split(".")[-1].split()
    return not last or last[0].lower().strip("\"'") not in ASKING


def _accents(phrase: list[Part], frames: np.ndarray, saying: Saying, rng: Numbers) -> np.ndarray:
    line = np.zeros(len(frames))
    for part in phrase:
        segment = part.segment
        if part.phone.kind != "vowel" or not segment.is_stressed:
            continue
        height = saying.accent * (1.0 if segment.is_accented else UNACCENTED) * rng.uniform(0.6, 1.3)
        peak = part.first + saying.accent_late * part.frames
        line += height * np.exp(-0.5 * ((frames - peak) * FRAME_S / saying.accent_s) ** 2)
    return line


def _micro(parts: list[Part], num: int, saying: Saying) -> np.ndarray:
    """Voiceless consonants raise the pitch beside them, voiced ones lower it."""
    line = np.zeros(num)
    for part in parts:
        if part.phone.kind in ("stop", "fricative", "affricate"):
            line[part.first : part.last] = saying.micro * (1.0 if part.phone.voice_db is None else -1.0)
    return line


def _drift(num: int, saying: Saying, rng: Numbers) -> np.ndarray:
    seconds = num * FRAME_S
    points = rng.normal(0.0, saying.drift, max(3, int(2 * seconds) + 2))
    slow = np.interp(np.arange(num), np.linspace(0, num, len(points)), points)
    tremor = np.sin(2 * np.pi * TREMOR_HZ * np.arange(num) * FRAME_S + rng.uniform(0.0, 6.0))
    return np.asarray(slow + saying.tremor * tremor)


def _level_pieces(line: np.ndarray, parts: list[Part]) -> np.ndarray:
    """One pitch for each sound."""
    out = line.copy()
    for part in parts:
        out[part.first : part.last] = line[part.first : part.last].mean()
    return out


def _smoothed(line: np.ndarray) -> np.ndarray:
    window = np.hanning(15)[1:-1]
    padded = np.pad(line, len(window) // 2, mode="edge")
    return np.convolve(padded, window / window.sum(), "valid")
