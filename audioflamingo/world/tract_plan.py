"""From sounds with durations to the settings of a throat at every 5 ms: timing, formants, levels and melody.

Formants are drawn as lines between knots: each border of two sounds has values (a locus for a consonant beside a
vowel), each vowel its targets, and a speaker's time to move from one to the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from audioflamingo.world.tract_flite import Segment
from audioflamingo.world.tract_levels import levelled
from audioflamingo.world.tract_melody import melody
from audioflamingo.world.tract_parts import Part, Saying
from audioflamingo.world.tract_phones import FLOWING, NEUTRAL, PHONES, Formants
from audioflamingo.world.tract_sound import FRAME_S, Floats, Tracks
from audioflamingo.world.voices import Speaker

Numbers = np.random.Generator
EDGE_FRAMES = 6  # of silence at both ends: a resonance may ring
SHORTEST_S = {"vowel": 0.035, "stop": 0.035, "affricate": 0.06, "fricative": 0.04, "nasal": 0.03}
FLAP_S, VOICED_ONSET_S, BURST_S = 0.03, 0.010, 0.008
SLOW_MOVE = 1.5  # of a glide, a liquid or a diphthong, against a consonant's


@dataclass(frozen=True)
class Plan:
    """Settings, words with their first and last frame, and phones with their last one."""

    tracks: Tracks
    words: list[tuple[str, int, int]]
    phones: list[tuple[str, int]]


def planned(segments: list[Segment], text: str, speaker: Speaker, saying: Saying, rng: Numbers) -> Plan:
    """The settings for these sounds as this speaker says them."""
    parts = _timed(_reworked(segments, saying), speaker.rate, saying, rng)
    num = parts[-1].last + EDGE_FRAMES
    formants = _formants(parts, num, saying)
    if saying.recorded:
        formants = _with_joins(formants, parts, saying, rng)
    levels = levelled(parts, num, formants, saying, rng)
    f0 = melody(parts, num, text, speaker, saying, rng)
    scaled = formants * np.array(saying.scale, np.float32)
    tracks = Tracks(
        f0, scaled, _widths(scaled, levels.nasal, saying), levels.voice, levels.breath, levels.bar, levels.zero_hz,
        levels.noise,
    )  # fmt: skip
    return Plan(tracks, _words(parts), [(part.segment.phone, part.last) for part in parts])


def _reworked(segments: list[Segment], saying: Saying) -> list[Part]:
    """Flaps and dark l; sounds that the tables lack are neutral vowels."""
    kept = [one for one in segments if one.phone != "pau" or one.duration_s > 0]
    parts: list[Part] = []
    for index, segment in enumerate(kept):
        before = kept[index - 1].phone if index else "pau"
        after = kept[index + 1] if index + 1 < len(kept) else Segment("pau", 0.0)
        name = segment.phone if segment.phone in PHONES else "ax"
        is_between = _is_vowel(before) and _is_vowel(after.phone) and after.word == segment.word
        if name in ("t", "d") and saying.flaps and is_between and not after.is_stressed:
            name = "dx"
        phone, targets = PHONES[name], saying.vowels.get(name, PHONES[name].targets)
        if name == "l" and not _is_vowel(after.phone):
            targets = (_between(targets[0], PHONES["el"].targets[0], saying.dark_l),)
        if name == "r":
            targets = (_between(NEUTRAL, targets[0], saying.r_depth),)
        parts.append(Part(replace(segment, phone=name), phone, targets=targets))
    return parts


def _is_vowel(name: str) -> bool:
    return name in PHONES and PHONES[name].kind == "vowel"


def _between(one: Formants, other: Formants, how_far: float) -> Formants:
    a, b, c = (x + how_far * (y - x) for x, y in zip(one, other, strict=True))
    return a, b, c


def _timed(parts: list[Part], rate: float, saying: Saying, rng: Numbers) -> list[Part]:
    """First and last frame of each part."""
    noise = np.exp(np.clip(rng.normal(0.0, saying.unsteady, len(parts)), -0.35, 0.35))
    clock = EDGE_FRAMES * FRAME_S
    for index, part in enumerate(parts):
        is_edge = index in (0, len(parts) - 1)
        duration_s = _duration_s(part, saying, is_edge) * float(noise[index]) / rate
        part.first = round(clock / FRAME_S)
        clock += max(duration_s, FRAME_S)
        part.last = max(part.first + 1, round(clock / FRAME_S))
        part.release = part.last - _onset_frames(part, saying, rate)
    return parts


def _duration_s(part: Part, saying: Saying, is_edge: bool) -> float:
    segment, kind = part.segment, part.phone.kind
    if kind == "pause":
        return 0.03 if is_edge else segment.duration_s * saying.pause
    if segment.phone == "dx":
        return FLAP_S
    factor = saying.stretch[kind]
    if kind == "vowel" and not segment.is_stressed:
        factor *= saying.reduced
    return max(segment.duration_s * factor, SHORTEST_S.get(kind, 0.03))


def _onset_frames(part: Part, saying: Saying, rate: float) -> int:
    """From a stop's burst to the end of its part."""
    phone = part.phone
    if phone.kind == "affricate":
        return max(1, round(0.62 * part.frames))
    if phone.kind != "stop":
        return 0
    onset_s = VOICED_ONSET_S
    if phone.voice_db is None:
        onset_s = BURST_S + phone.onset_s * saying.onset * (1.0 if part.segment.is_stressed else 0.65) / rate**0.5
    return int(np.clip(round(onset_s / FRAME_S), 1, max(1, round(0.6 * part.frames))))


def _formants(parts: list[Part], num: int, saying: Saying) -> Floats:
    """(num, 3) in Hz, before the speaker's scale."""
    times: list[float] = [0.0]
    values: list[Formants] = [_near(parts, 0, 1)]
    borders = [_border(parts, index) for index in range(len(parts) - 1)]
    for index, part in enumerate(parts):
        before = borders[index - 1] if index else values[0]
        after = borders[index] if index < len(borders) else values[-1]
        start = float(parts[index - 1].release) if index else 0.0
        if part.phone.kind in FLOWING:
            for moment, value in _held(part, start, before, after, saying):
                times.append(max(moment, times[-1] + 1e-3))
                values.append(value)
        elif part.phone.kind == "nasal":
            middle = (part.first + part.last) / 2
            mean = _between(before, after, 0.5)
            times.append(max(middle, times[-1] + 1e-3))
            values.append((260.0, mean[1], mean[2]))
        if index < len(borders):
            times.append(max(float(part.release), times[-1] + 1e-3))
            values.append(after)
    table = np.array(values)
    frames = np.arange(num)
    tracks = np.stack([np.interp(frames, times, table[:, column]) for column in range(3)], axis=1)
    return _smoothed(tracks, 5).astype(np.float32)


def _held(part: Part, start: float, before: Formants, after: Formants, saying: Saying) -> list[tuple[float, Formants]]:
    """Knots inside a sound with formants of its own: reached after a while, left in time for the next."""
    duration = part.last - start
    move = saying.move_s / FRAME_S * (1.0 if part.phone.kind == "vowel" else SLOW_MOVE)
    short = float(np.exp(-max(part.frames * FRAME_S - 0.04, 0.0) / 0.06))
    pull = saying.undershoot * short
    targets = part.targets
    first, last = targets[0], targets[-1]
    is_diphthong = (
        len(targets) > 1 and max(abs(first[1] - last[1]) / first[1], abs(first[0] - last[0]) / first[0]) > 0.15
    )
    first, last = _between(first, before, pull * 0.7), _between(last, after, pull * 0.7)
    into = min(move, 0.40 * duration)
    out = min(move, 0.40 * duration)
    if not is_diphthong:
        return [(start + into, first), (part.last - out, last)]
    into = min(into, 0.25 * duration)
    return [
        (start + into, first),
        (start + 0.38 * duration, _between(first, last, 0.12)),
        (part.last - min(out, 0.22 * duration), last),
    ]


def _border(parts: list[Part], index: int) -> Formants:
    """Formants at the border between a part and the next."""
    one, other = parts[index], parts[index + 1]
    left, right = one.phone, other.phone
    if left.kind in FLOWING and right.kind in FLOWING:
        return _between(one.targets[-1], other.targets[0], 0.5)
    if left.kind in FLOWING:
        return right.place.beside(one.targets[-1]) if right.place else one.targets[-1]
    if right.kind in FLOWING:
        return left.place.beside(other.targets[0]) if left.place else other.targets[0]
    around = _near(parts, index, 1)
    places = [phone.place for phone in (left, right) if phone.place]
    found = [place.beside(around) for place in places] or [around]
    return _between(found[0], found[-1], 0.5)


def _near(parts: list[Part], index: int, step: int) -> Formants:
    """Formants of the nearest sound that has some, looking one way and then the other."""
    for way in (step, -step):
        at = index
        while 0 <= at < len(parts):
            if parts[at].targets:
                return parts[at].targets[0 if way > 0 else -1]
            at += way
    return NEUTRAL


def _smoothed(tracks: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    """Each column by a Hann window over `width` frames."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(tracks, ((width // 2, width // 2), (0, 0)), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, width, axis=0)
    return np.asarray(views @ (window / window.sum()))


def _with_joins(formants: Floats, parts: list[Part], saying: Saying, rng: Numbers) -> Floats:
    """Recordings reach from the middle of one sound to that of the next; each is a little off."""
    middles = np.array([(part.first + part.last) // 2 for part in parts])
    which = np.searchsorted(middles, np.arange(len(formants)), side="right")
    steps = np.exp(rng.normal(0.0, saying.join, (len(parts) + 1, 3)))
    held = np.arange(len(formants)) // 2 * 2  # frames of 10 ms
    return np.asarray(formants[held] * steps[which], np.float32)


def _widths(formants: Floats, nasal: Floats, saying: Saying) -> Floats:
    """(T, 3) Hz: narrow for vowels, wider where the nose is open and for high first formants."""
    first = 50.0 + 0.05 * formants[:, 0] + 60.0 * nasal
    second = 55.0 + 0.025 * formants[:, 1] + 60.0 * nasal
    third = 70.0 + 0.03 * formants[:, 2] + 80.0 * nasal
    return np.asarray(np.stack([first, second, third], axis=1) * saying.widths, np.float32)


def _words(parts: list[Part]) -> list[tuple[str, int, int]]:
    words: list[tuple[str, int, int]] = []
    number = -1
    for part in parts:
        segment = part.segment
        if segment.word < 0:
            continue
        if segment.word == number:
            words[-1] = (words[-1][0], words[-1][1], part.last)
        elif segment.spelling.startswith("'") and words:  # "'s" and its like are words of their own to flite
            words[-1] = (words[-1][0] + segment.spelling, words[-1][1], part.last)
        else:
            words.append((segment.spelling, part.first, part.last))
        number = segment.word
    return words
