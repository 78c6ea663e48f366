"""How loud voice, breath and noise are at every 5 ms, and how far mouth and nose are open."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioflamingo.world.tract_parts import Part, Saying
from audioflamingo.world.tract_phones import NOISE_ROWS
from audioflamingo.world.tract_sound import FRAME_S, NASAL_POLE_HZ, Floats

BREATHING_DB = -14.0  # of h and of what follows a burst, against a vowel
WHISPER_DB = 0.0
PHRASE_FALL_DB = 4.0
BURST_FRAMES = 2
NASAL_AROUND_S = 0.06
HUSHING = ("f", "th")
FRONT_HZ = 1_600.0  # vowels above it draw k forward


@dataclass(frozen=True, eq=False)
class Levels:
    """(T,) each, as amplitudes; `noise` is (T, R), `nasal` says how far the nose is open, from 0 to 1."""

    voice: Floats
    breath: Floats
    bar: Floats
    zero_hz: Floats
    nasal: Floats
    noise: Floats


def levelled(parts: list[Part], num: int, formants: Floats, saying: Saying, rng: np.random.Generator) -> Levels:
    """The levels of all parts, one after another."""
    voice, breath, bar, zero_hz, nasal = (np.zeros(num, np.float32) for _ in range(5))
    out = Levels(voice, breath, bar, zero_hz, nasal, np.zeros((num, len(NOISE_ROWS)), np.float32))
    bursts = np.zeros_like(out.noise)
    out.zero_hz[:] = NASAL_POLE_HZ
    for index, part in enumerate(parts):
        _put(part, parts[index - 1] if index else part, parts[min(index + 1, len(parts) - 1)], out, bursts, formants,
             saying, rng)  # fmt: skip
    phrase = _phrase(parts, num)
    voice, noise = _smooth(out.voice, 3) * phrase, _smooth(out.noise, 5)
    breath = _smooth(out.breath, 3) * phrase + saying.breath * voice * 0.6
    if saying.whisper:
        breath, voice = np.asarray(breath + voice * _gain(WHISPER_DB), np.float32), np.zeros_like(voice)
    zero_hz = _smooth(out.zero_hz, 5)
    return Levels(voice, breath, _smooth(out.bar, 3), zero_hz, _smooth(out.nasal, 5), noise + bursts)


def _gain(db: float) -> float:
    return float(10.0 ** (db / 20.0))


def _put(
    part: Part, before: Part, after: Part, out: Levels, bursts: Floats, formants: Floats, saying: Saying,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    kind, phone = part.phone.kind, part.phone
    all_of = slice(part.first, part.last)
    if kind in ("vowel", "glide", "liquid", "nasal"):
        out.voice[all_of] = _gain((phone.voice_db or 0.0) + _stress_db(part, saying))
    if kind == "nasal":
        _open_nose(part, out, saying)
    elif kind == "fricative":
        own_db = saying.hush_db if phone.noise in HUSHING else saying.hiss_db
        out.noise[all_of, NOISE_ROWS[phone.noise]] = _gain(phone.noise_db + own_db)
        out.bar[all_of] = phone.bar
        if phone.voice_db is not None:
            out.voice[all_of] = _gain(phone.voice_db)
    elif kind == "aspirate":
        out.breath[all_of] = _gain(BREATHING_DB + 4.0 + saying.aspiration_db)
        if before.phone.kind == "vowel" and not part.segment.is_stressed:
            out.voice[all_of] = _gain(-9.0)
    elif kind in ("stop", "affricate"):
        _stop(part, before, after, out, bursts, formants, saying, rng)


def _stress_db(part: Part, saying: Saying) -> float:
    segment = part.segment
    return saying.stress_db * (0.5 if segment.is_accented else 0.0 if segment.is_stressed else -0.5)


def _open_nose(part: Part, out: Levels, saying: Saying) -> None:
    all_of = slice(part.first, part.last)
    out.bar[all_of] = part.phone.bar
    out.zero_hz[all_of] = NASAL_POLE_HZ + saying.nasal * (part.phone.zero_hz - NASAL_POLE_HZ)
    around = round(NASAL_AROUND_S / FRAME_S)
    near = slice(max(part.first - around, 0), part.last + around // 2)
    out.nasal[near] = np.maximum(out.nasal[near], 0.4 * saying.nasal)
    out.nasal[all_of] = 1.0


def _stop(
    part: Part, before: Part, after: Part, out: Levels, bursts: Floats, formants: Floats, saying: Saying,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Closure, burst, and what follows it until the voice."""
    phone, release = part.phone, part.release
    if phone.voice_db is not None:
        is_flap = part.segment.phone == "dx"
        out.voice[part.first : release] = _gain(phone.voice_db + (0.0 if is_flap else saying.bar_db))
        out.bar[part.first : release] = 0.7 if is_flap else 1.0
    burst = _gain(phone.noise_db + saying.burst_db)
    rows = _rows(phone.noise, float(formants[min(part.last, len(formants) - 1), 1]))
    if phone.kind == "affricate":
        for row, share in rows:
            out.noise[release : part.last, row] = share * _gain(phone.noise_db + saying.hiss_db)
            bursts[release, row] += share * 0.7 * burst
        return
    if after.phone.kind == "pause" and rng.random() > saying.releases:
        return
    if after.phone.kind in ("stop", "affricate") and rng.random() > 0.5 * saying.releases:
        return
    for row, share in rows:
        bursts[release, row] += share * burst
        bursts[min(release + 1, part.last - 1), row] += 0.5 * share * burst
    _after_burst(part, before, after, out, rows, burst, saying)


def _after_burst(
    part: Part, before: Part, after: Part, out: Levels, rows: list[tuple[int, float]], burst: float, saying: Saying
) -> None:
    rest = slice(part.release + 1, part.last)
    if part.phone.voice_db is not None:
        out.voice[rest] = _gain(-6.0)
        return
    is_after_s = before.segment.phone == "s" and before.segment.word == part.segment.word
    weaker = -8.0 if is_after_s or after.phone.kind == "pause" else 0.0
    out.breath[rest] = _gain(BREATHING_DB + saying.aspiration_db + weaker)
    for row, share in rows:
        out.noise[rest, row] = share * burst * 0.25
    if is_after_s:  # hardly any breath: the voice begins at once
        early = slice(part.release + (part.last - part.release) // 2 + 1, part.last)
        out.voice[early], out.breath[early] = _gain(-3.0), 0.0


def _rows(noise: str, second_hz: float) -> list[tuple[int, float]]:
    """Which noise, and how much of it: k's depends on the vowel."""
    if noise != "k":
        return [(NOISE_ROWS[noise], 1.0)]
    front = float(np.clip((second_hz - FRONT_HZ) / 400.0 + 0.5, 0.0, 1.0))
    return [(NOISE_ROWS["kf"], front), (NOISE_ROWS["kb"], 1.0 - front)]


def _phrase(parts: list[Part], num: int) -> Floats:
    """(T,) what a phrase loses in level from its begin to its end."""
    out = np.ones(num, np.float32)
    first = 0
    for part in parts:
        if part.phone.kind == "pause" and part.first > first:
            out[first : part.first] = np.linspace(_gain(0.5 * PHRASE_FALL_DB), _gain(-0.5 * PHRASE_FALL_DB),
                                              part.first - first)  # fmt: skip
        if part.phone.kind == "pause":
            first = part.last
    return out


def _smooth(track: npt.NDArray[np.float32], width: int) -> Floats:
    """Over `width` frames by a Hann window; columns each."""
    window = np.hanning(width + 2)[1:-1].astype(np.float32)
    window /= window.sum()
    half = width // 2
    padded = np.pad(track, ((half, half), *((0, 0),) * (track.ndim - 1)), mode="edge")
    return np.asarray(sum(w * padded[k : k + len(track)] for k, w in enumerate(window)), np.float32)
