"""More algorithms for training alone, so that no kind of sound is known by one algorithm only.

A model that hears one way of making a sneeze learns that algorithm, not sneezes. These are written from what happens in
the thing that sounds, apart from the held-out algorithms. Instruments come from the music's drawn timbres. Scenes of
tests never use them: they keep the algorithms that they had.
"""

from __future__ import annotations

import numpy as np

from audioflamingo.world.music import widened
from audioflamingo.world.sounds.apart import APART
from audioflamingo.world.sounds.further import FURTHER
from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.synthesis import (
    RATE,
    Curve,
    Rng,
    Samples,
    bandpass,
    curve,
    decay,
    highpass,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    partials,
    phase,
    place,
    shaped_noise,
    swell,
    times,
    uniform,
    unit,
    wander,
)
from audioflamingo.world.sounds.yet_creatures import CREATURES
from audioflamingo.world.sounds.yet_engines import ENGINES
from audioflamingo.world.sounds.yet_machines import MACHINES
from audioflamingo.world.sounds.yet_notes import NOTES

KEYS = {"piano": (33, 90), "guitar": (40, 79), "flute": (60, 93), "violin": (50, 92)}  # lowest and highest of each
DRUM_KEYS = (36, 38)


def _note(name: str) -> Variant:
    """One note of an instrument drawn for it."""

    def made(rng: Rng, duration_s: float) -> Samples:
        timbre = widened.draw_timbre(name, rng)
        out = np.zeros(num_samples(duration_s))
        place(out, widened.tone(timbre, int(rng.integers(*KEYS[name])), 0.85 * duration_s, uniform(rng, 0.3, 1.0)), 0.0)
        return out

    return made


def _drum(rng: Rng, duration_s: float) -> Samples:
    """A kick or a snare of a kit drawn for it."""
    out = np.zeros(num_samples(duration_s))
    place(out, widened.drum(int(rng.choice(DRUM_KEYS)), rng.random(6), rng), 0.0)
    return out


def _hand_key(rng: Rng, duration_s: float) -> Samples:
    """Morse code by hand: uneven dots and dashes of a tone with overtones that slides a little as it starts."""
    n, dot_s, f0 = num_samples(duration_s), uniform(rng, 0.045, 0.12), log_uniform(rng, 320.0, 1_300.0)
    level, clock = np.zeros(n), uniform(rng, 0.0, 0.1)
    while clock < duration_s:
        for _ in range(int(rng.integers(1, 5))):
            length = dot_s * (1.0 if rng.random() < 0.55 else 3.0) * uniform(rng, 0.8, 1.2)
            level[int(clock * RATE) : int((clock + length) * RATE)] = 1.0
            clock += length + dot_s * uniform(rng, 0.8, 1.3)
        clock += dot_s * uniform(rng, 1.5, 4.0)
    level = np.convolve(level, np.hanning(60) / np.hanning(60).sum(), "same")
    slide = f0 * (1.0 + uniform(rng, -0.02, 0.02) * (1.0 - level))
    tone = partials(n, slide, (1.0 / np.arange(1, 8) ** uniform(rng, 0.8, 4.0)).tolist())
    return tone * level + uniform(rng, 0.0, 0.04) * noise(n, rng)


def _shell(rng: Rng, duration_s: float) -> Samples:
    """Fireworks from afar: the thump of the mortar, a wait, a burst that rolls away, and sparks that die."""
    n = num_samples(duration_s)
    out = np.zeros(n)
    burst_s = duration_s * uniform(rng, 0.2, 0.45)
    place(out, lowpass(noise(n, rng), uniform(rng, 120, 300)) * decay(n, 0.3, 0.004), 0.0, 2.0)
    boom = lowpass(noise(n, rng), log_uniform(rng, 250.0, 1_500.0), 1) * decay(n, uniform(rng, 0.5, 1.4), 0.003)
    place(out, unit(boom), burst_s, 3.0)
    spark = highpass(noise(240, rng), uniform(rng, 1_500.0, 4_000.0)) * decay(240, 0.01)
    for moment in burst_s + 0.1 + rng.exponential(duration_s / 4, int(rng.integers(20, 120))):
        place(out, spark, float(moment), uniform(rng, 0.1, 0.6))
    return out


def _cistern(rng: Rng, duration_s: float) -> Samples:
    """A toilet: a lever, water that swells and whirls, and air that gurgles down the drain as it ebbs."""
    n = num_samples(duration_s)
    rush = shaped_noise(n, rng, [60, 300, 1_200, 5_000], [-12, 0, uniform(rng, -6, 2), uniform(rng, -22, -8)])
    whirl = 1.0 + 0.35 * np.sin(2.0 * np.pi * np.cumsum(curve(n, [3.0, 7.0, 12.0])) / RATE)
    out = rush * whirl * curve(n, [0.05, 1.0, 0.8, 0.25, 0.1], [0.0, uniform(rng, 0.1, 0.25), 0.55, 0.8, 1.0])
    place(out, modes(2_000, [420.0, 1_150.0, 2_300.0], [0.06, 0.04, 0.03], [1.0, 0.8, 0.5]), 0.01, 1.5)
    for moment in rng.uniform(0.55, 0.97, int(rng.integers(10, 30))) * duration_s:
        num = num_samples(uniform(rng, 0.04, 0.12))
        glug = np.sin(phase(curve(num, [1.0, uniform(rng, 1.2, 1.9)]) * log_uniform(rng, 120.0, 480.0)))
        place(out, glug * swell(num, 0.2, 0.6), float(moment), uniform(rng, 0.3, 1.2))
    return out


def _hatschi(rng: Rng, duration_s: float) -> Samples:
    """A sneeze: breath drawn in with a rising voice, a stop, and a blast that narrows from s-like to vowel-like."""
    n = num_samples(duration_s)
    stop = uniform(rng, 0.35, 0.55)
    low, rise = log_uniform(rng, 110.0, 320.0), curve(n, [0.0, 1.0, 0.0, 0.0], [0.0, stop - 0.06, stop, 1.0])
    gasp = lowpass(partials(n, low * (1.0 + 0.4 * rise), [1.0, 0.6, 0.4, 0.3, 0.2]), 1_200.0) * rise**2
    air = shaped_noise(n, rng, [200, 900, 2_500, 6_000], [-20, 0, -8, -20]) * rise
    blast = np.zeros(n)
    num = n - int(stop * n)
    sharp = bandpass(noise(num, rng), 2_000.0, 7_000.0, 1) * decay(num, uniform(rng, 0.12, 0.3), 0.004)
    wide = shaped_noise(num, rng, [150, 500, 1_500, 4_000], [-10, 0, -4, -15]) * decay(num, 0.45, 0.02)
    voiced = partials(num, low * curve(num, [1.8, 0.9]), [1.0, 0.8, 0.6, 0.4, 0.3, 0.2]) * decay(num, 0.5, 0.03)
    blast[n - num :] = 1.6 * unit(sharp) + unit(wide) + uniform(rng, 0.2, 1.0) * unit(voiced)
    return uniform(rng, 0.1, 0.5) * unit(gasp + 0.3 * air) + blast


def _laundry(rng: Rng, duration_s: float) -> Samples:
    """A washing machine: the motor's hum, and wet clothes that fall and splash at every turn of the drum."""
    n, turn_s, mains = num_samples(duration_s), uniform(rng, 0.6, 1.5), uniform(rng, 48.0, 62.0)
    hum = partials(n, 2.0 * mains * (1.0 + 0.004 * wander(n, rng, 2.0)), [1.0, 0.5, 0.35, 0.2, 0.2, 0.1])
    place_in_turn = (times(n) / turn_s + rng.random()) % 1.0
    splash = shaped_noise(n, rng, [80, 400, 1_500, 5_000], [-6, 0, -10, -28]) * np.exp(-4.0 * place_in_turn)
    fall = lowpass(noise(n, rng), uniform(rng, 90, 200)) * np.exp(-18.0 * place_in_turn)
    return unit(hum) * uniform(rng, 0.2, 0.8) + unit(splash) * uniform(rng, 0.4, 1.0) + 1.2 * unit(fall)


def _teeth(rng: Rng, duration_s: float) -> Samples:
    """A saw whose teeth tear one after another, faster in the middle of each stroke; pulling sounds duller."""
    n, stroke_s = num_samples(duration_s), uniform(rng, 0.3, 0.7)
    place_in = times(n) / stroke_s
    speed = np.abs(np.sin(np.pi * place_in))
    teeth = np.sin(phase(uniform(rng, 60.0, 240.0) * speed + 5.0)) ** 2
    push = bandpass(noise(n, rng), uniform(rng, 500, 1_200), uniform(rng, 3_500, 7_000), 1)
    pull = bandpass(noise(n, rng), uniform(rng, 250, 600), uniform(rng, 1_500, 3_000), 1)
    is_push = (place_in.astype(np.int64) % 2) == 0
    board = modes(800, [uniform(rng, 180, 420), uniform(rng, 500, 900)], [0.05, 0.03], [1.0, 0.6])
    cut = np.where(is_push, unit(push), uniform(rng, 0.3, 0.8) * unit(pull)) * teeth * speed
    return np.asarray(cut + uniform(rng, 0.0, 0.5) * unit(np.convolve(cut, board)[:n]))


def _click(rng: Rng, low_hz: float, high_hz: float, t60_s: float) -> Curve:
    num = num_samples(2.0 * t60_s)
    hz = rng.uniform(low_hz, high_hz, 5)
    ring = modes(num, hz, rng.uniform(0.3, 1.0, 5) * t60_s, rng.uniform(0.3, 1.0, 5))
    return np.asarray(ring + uniform(rng, 0.1, 0.6) * noise(num, rng) * decay(num, 0.3 * t60_s))


def _button(rng: Rng, duration_s: float) -> Samples:
    """A mouse: its button goes down with a click and comes up with a brighter one."""
    out = np.zeros(num_samples(duration_s))
    place(out, _click(rng, 1_200.0, 5_500.0, uniform(rng, 0.006, 0.02)), 0.01)
    place(
        out, _click(rng, 2_000.0, 7_000.0, uniform(rng, 0.004, 0.015)), uniform(rng, 0.06, 0.18), uniform(rng, 0.3, 0.9)
    )
    return out


def _mirror(rng: Rng, duration_s: float) -> Samples:
    """A camera: the mirror slaps up, the curtain runs, the mirror falls back, and often a motor winds on."""
    out = np.zeros(num_samples(duration_s))
    place(out, _click(rng, 300.0, 1_800.0, uniform(rng, 0.02, 0.05)), 0.005)
    shut_s = uniform(rng, 0.03, 0.14)
    num = num_samples(shut_s)
    place(out, bandpass(noise(num, rng), 2_500.0, 7_000.0) * swell(num, 0.1, 0.3), 0.01, uniform(rng, 0.1, 0.4))
    place(out, _click(rng, 500.0, 3_500.0, uniform(rng, 0.015, 0.04)), shut_s, uniform(rng, 0.5, 1.0))
    left_s = duration_s - shut_s - 0.05
    if left_s > 0.1 and rng.random() < 0.6:
        num = num_samples(left_s)
        whirr = partials(num, uniform(rng, 180, 420) * curve(num, [0.6, 1.0, 1.1]), rng.uniform(0.2, 1.0, 10).tolist())
        place(out, (unit(whirr) + 0.6 * noise(num, rng)) * swell(num, 0.15, 0.2), shut_s + 0.04, uniform(rng, 0.1, 0.4))
    return out


def _tab(rng: Rng, duration_s: float) -> Samples:
    """A can: a finger at the tab, the metal gives way with a crack, gas hisses out and fizzes on."""
    n, crack_s = num_samples(duration_s), uniform(rng, 0.06, 0.2)
    out = np.zeros(n)
    place(out, _click(rng, 2_000.0, 6_500.0, 0.012), 0.005, uniform(rng, 0.2, 0.6))
    place(out, _click(rng, 600.0, 5_000.0, uniform(rng, 0.03, 0.08)), crack_s, 1.5)
    hiss = shaped_noise(n, rng, [500, 2_000, 5_000, 7_500], [-25, -8, 0, -3])
    fizz = highpass(noise(n, rng), 3_500.0) * (rng.random(n) < 0.02) * 4.0
    place(out, hiss * decay(n, uniform(rng, 0.15, 0.6), 0.008) + 0.3 * fizz * decay(n, 1.5), crack_s + 0.005)
    return out


def _bent(rng: Rng, duration_s: float) -> Samples:
    """A sweep along a bent course, of a sine, of odd overtones or of two tones that beat."""
    n = num_samples(duration_s)
    low, high = log_uniform(rng, 120.0, 900.0), log_uniform(rng, 1_500.0, 6_000.0)
    course = np.linspace(0.0, 1.0, n) ** log_uniform(rng, 0.5, 2.0)
    course = course if rng.random() < 0.5 else course[::-1]
    f0 = low * (high / low) ** course
    levels = [1.0, 0.0, uniform(rng, 0.0, 0.5), 0.0, uniform(rng, 0.0, 0.3)]
    beating = np.sin(phase(f0 * uniform(rng, 1.003, 1.02))) * (rng.random() < 0.4)
    return np.asarray((partials(n, f0, levels) + beating) * swell(n, uniform(rng, 0.01, 0.2), uniform(rng, 0.02, 0.3)))


HERE: dict[str, tuple[Variant, ...]] = {
    **{name: (_note(name),) for name in KEYS},
    "drum": (_drum,),
    "morse_code": (_hand_key,),
    "fireworks": (_shell,),
    "toilet_flush": (_cistern,),
    "sneeze": (_hatschi,),
    "washing_machine": (_laundry,),
    "hand_saw": (_teeth,),
    "mouse_click": (_button,),
    "camera": (_mirror,),
    "can_opening": (_tab,),
    "tone_sweep": (_bent,),
}


def _together(*parts: dict[str, tuple[Variant, ...]]) -> dict[str, tuple[Variant, ...]]:
    """All algorithms of each kind, in the order of the parts."""
    kinds = dict.fromkeys(kind for part in parts for kind in part)
    return {kind: tuple(one for part in parts for one in part.get(kind, ())) for kind in kinds}


MORE: dict[str, tuple[Variant, ...]] = _together(HERE, FURTHER, ENGINES, MACHINES, CREATURES, NOTES, APART)
"""Further algorithms of a kind, by its name."""
