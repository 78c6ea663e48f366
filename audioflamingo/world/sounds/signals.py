"""Sirens, alarm clocks, smoke alarms, telephones and doorbells."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    buzz,
    convolve,
    curve,
    decay,
    log_uniform,
    modes,
    noise,
    num_samples,
    phase,
    place,
    resonate,
    resonator,
    sine,
    smooth,
    strikes_at,
    swell,
    times,
    uniform,
    unit,
    wander,
)


def _horn(x: Curve, rng: Rng) -> Curve:
    """The cone of a loudspeaker or horn: a broad band with one or two peaks."""
    low, peak = uniform(rng, 250.0, 500.0), log_uniform(rng, 900.0, 2_500.0)
    return bandpass(x, low, uniform(rng, 3_500.0, 6_500.0), 1) + 0.6 * resonator(x, peak, peak * 0.4)


def _tone(f0: Curve, rng: Rng) -> Curve:
    """Anything between a sine and a hard pulse."""
    return np.asarray((np.sin(phase(f0)), buzz(f0, uniform(rng, 0.6, 0.95)))[int(rng.integers(2))])


def _wail(rng: Rng, duration_s: float) -> Samples:
    """An electronic wail or yelp: the pitch runs up and down like a charged capacitor."""
    n, rate = num_samples(duration_s), (uniform(rng, 0.15, 0.5), uniform(rng, 2.5, 4.5))[int(rng.integers(2))]
    position = (times(n) * rate + rng.uniform()) % 1.0
    up = (1.0 - np.exp(-3.0 * np.minimum(position / 0.5, 1.0))) * (position < 0.5)
    down = np.exp(-3.0 * np.maximum(position / 0.5 - 1.0, 0.0)) * (position >= 0.5)
    low, high = uniform(rng, 450.0, 750.0), uniform(rng, 1_200.0, 1_750.0)
    return _horn(_tone(low + (high - low) * (up + down), rng), rng)


def _two_tone(rng: Rng, duration_s: float) -> Samples:
    """A European horn: two pitches, a second or a fourth apart, in turn."""
    n, low = num_samples(duration_s), log_uniform(rng, 380.0, 700.0)
    high = low * (1.122, 1.26, 1.335)[int(rng.integers(3))]
    square = ((times(n) * uniform(rng, 0.7, 2.2) + rng.uniform()) % 1.0) < 0.5
    f0 = smooth(np.where(square, high, low), 30.0)
    f0[:200] = f0[200:201] if n > 200 else f0[-1]
    return _horn(buzz(f0, uniform(rng, 0.8, 0.97)), rng)


def _motor_siren(rng: Rng, duration_s: float) -> Samples:
    """A rotor that chops air: a slow swell in pitch and loudness, harmonics of the chopped jet, some noise."""
    n = num_samples(duration_s)
    spin = curve(n, [0.35, 0.95, 1.0, 0.95, 0.5], [0.0, 0.4, 0.6, 0.7, 1.0])
    f0 = uniform(rng, 380.0, 900.0) * spin
    jet = np.clip(np.sin(phase(f0)) + uniform(rng, -0.4, 0.4), -0.5, 0.8) + 0.4 * np.sin(phase(f0 * 1.2)) ** 3
    return (unit(jet) + 0.1 * noise(n, rng)) * (0.2 + 0.8 * spin)


def _beeps(rng: Rng, duration_s: float) -> Samples:
    """A digital alarm clock: groups of one to four short square beeps."""
    out, pitch = np.zeros(num_samples(duration_s)), log_uniform(rng, 900.0, 3_200.0)
    on, off, group = uniform(rng, 0.05, 0.12), uniform(rng, 0.05, 0.1), int(rng.integers(1, 5))
    rest, n = uniform(rng, 0.2, 0.6), num_samples(on)
    beep = buzz(np.full(n, pitch), uniform(rng, 0.4, 0.9)) * swell(n, 0.03, 0.03)
    start = 0.0
    while start < duration_s - on:
        for _ in range(group):
            place(out, beep, start)
            start += on + off
        start += rest
    return out


def _twin_bells(rng: Rng, duration_s: float) -> Samples:
    """A wind-up clock: a hammer between two small bells, 12 to 28 strokes a second."""
    rate, base = uniform(rng, 12.0, 28.0), log_uniform(rng, 1_300.0, 3_000.0)
    return _struck_gongs(rng, duration_s, rate, (base, base * uniform(rng, 1.03, 1.2)), uniform(rng, 0.15, 0.5))


def _struck_gongs(rng: Rng, duration_s: float, rate: float, pitches: tuple[float, float], ring_s: float) -> Curve:
    """A clapper that beats two gongs in turn."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    moments = np.arange(0.0, duration_s, 1.0 / rate)
    for index, pitch in enumerate(pitches):
        ratios = np.array([1.0, 1.51, 2.12, 2.74, 3.46]) * (1.0 + 0.02 * rng.standard_normal(5))
        kernel = modes(num_samples(ring_s), pitch * ratios, ring_s / ratios, rng.uniform(0.3, 1.0, 5))
        mine = moments[index::2] + 0.0015 * rng.standard_normal(len(moments[index::2]))
        out += convolve(strikes_at(n, mine.clip(0.0), rng.uniform(0.6, 1.0, len(mine))), kernel)
    return out


def _melodic_alarm(rng: Rng, duration_s: float) -> Samples:
    """A telephone's or radio clock's alarm: a rising two-tone pattern in FM with a hard attack."""
    out, pitch = np.zeros(num_samples(duration_s)), log_uniform(rng, 700.0, 1_500.0)
    step, start, index = uniform(rng, 0.09, 0.2), 0.0, 0
    ratios = ((1.0, 1.5), (1.0, 1.25, 1.5), (1.0, 1.0, 2.0))[int(rng.integers(3))]
    while start < duration_s - step:
        n, f0 = num_samples(step * 0.9), pitch * ratios[index % len(ratios)]
        turn = times(n) * 2.0 * np.pi * f0
        place(out, np.sin(turn + 1.5 * np.sin(2.0 * turn)) * swell(n, 0.04, 0.3), start)
        index += 1
        start += step * (2.5 if index % 4 == 0 else 1.0)
    return out


def _three_pulses(rng: Rng, duration_s: float) -> Samples:
    """The temporal-three pattern of smoke detectors: three half-second beeps near 3.1 kHz, then a pause."""
    n, pitch = num_samples(duration_s), uniform(rng, 2_850.0, 3_400.0)
    cycle = (times(n) + (0.0, 0.5)[int(rng.integers(2))]) % 4.0
    gate = smooth(((cycle < 3.0) & ((cycle % 1.0) < 0.5)).astype(float), 80.0)
    return (sine(n, pitch) + uniform(rng, 0.05, 0.3) * sine(n, 2.0 * pitch, 1.0)) * gate


def _fast_piezo(rng: Rng, duration_s: float) -> Samples:
    """A hard piezo alarm: even beeps, twice to five times a second, square and slightly drooping."""
    n, rate = num_samples(duration_s), uniform(rng, 2.0, 5.0)
    inside = (times(n) * rate) % 1.0
    f0 = uniform(rng, 2_600.0, 3_600.0) * (1.0 - 0.01 * inside)
    body = np.tanh(4.0 * np.sin(phase(f0)))
    return resonator(body, float(f0[0]), 500.0) * smooth((inside < uniform(rng, 0.4, 0.75)).astype(float), 150.0)


def _bell_phone(rng: Rng, duration_s: float) -> Samples:
    """A classic telephone: two gongs at 20 strokes a second, and a tail when the clapper stops."""
    base = log_uniform(rng, 1_000.0, 1_900.0)
    ring = _struck_gongs(
        rng, duration_s, uniform(rng, 20.0, 30.0), (base, base * uniform(rng, 1.15, 1.3)), uniform(rng, 0.4, 0.9)
    )
    n = len(ring)
    pause = uniform(rng, 0.75, 0.85)
    return ring * curve(n, [1.0, 1.0, 0.12, 0.0], [0.0, pause, min(pause + 0.06, 0.95), 1.0])


def _warble(rng: Rng, duration_s: float) -> Samples:
    """An electronic telephone: two tones that alternate 10 to 25 times a second, in bursts."""
    n, low = num_samples(duration_s), log_uniform(rng, 700.0, 1_700.0)
    fast = ((times(n) * uniform(rng, 10.0, 25.0)) % 1.0) < 0.5
    f0 = smooth(np.where(fast, low * uniform(rng, 1.15, 1.35), low) - low, 200.0) + low
    burst = ((times(n) * uniform(rng, 0.8, 1.6)) % 1.0) < uniform(rng, 0.5, 0.8)
    return buzz(f0, uniform(rng, 0.3, 0.85)) * smooth(burst.astype(float), 60.0)


def _ring_tone(rng: Rng, duration_s: float) -> Samples:
    """A mobile telephone: a short marimba-like tune, repeated."""
    out, root = np.zeros(num_samples(duration_s)), log_uniform(rng, 500.0, 1_000.0)
    tune = rng.choice([0, 2, 4, 5, 7, 9, 12, -3], int(rng.integers(4, 8)))
    step, index = uniform(rng, 0.1, 0.19), 0
    while index * step < duration_s - 0.1:
        f0 = root * 2.0 ** (tune[index % len(tune)] / 12.0)
        place(out, modes(num_samples(0.5), [f0, f0 * 3.93], [0.45, 0.12], [1.0, 0.35]), index * step)
        index += 1
    return out


def _chime(rng: Rng, duration_s: float) -> Samples:
    """Ding-dong: two metal bars, a third or a fourth apart, each with a soft hammer."""
    out, high = np.zeros(num_samples(duration_s)), log_uniform(rng, 550.0, 1_000.0)
    second, ring = uniform(rng, 0.3, 0.7), uniform(rng, 1.2, 3.0)
    for start, f0 in ((0.0, high), (second, high / (1.26, 1.335, 1.189)[int(rng.integers(3))])):
        n = num_samples(duration_s - start)
        freqs = f0 * np.array([1.0, 2.0, 2.756, 4.0, 5.404]) * (1.0 + 0.003 * rng.standard_normal(5))
        place(
            out,
            modes(n, freqs, ring / np.array([1.0, 2.0, 2.5, 4.0, 5.0]), rng.uniform(0.1, 0.4, 5) + np.eye(5)[0]),
            start,
        )
    return out


def _buzzer(rng: Rng, duration_s: float) -> Samples:
    """A mains buzzer: a steel armature at 100 or 120 Hz, one or two pushes."""
    n, mains = num_samples(duration_s), (100.0, 120.0)[int(rng.integers(2))]
    f0 = mains * (1.0 + 0.004 * wander(n, rng, 8.0))
    rattle = np.tanh(3.0 * buzz(f0, 0.985)) + 0.05 * noise(n, rng)
    plate = resonate(rattle, [600, 1_500, 2_900, 4_400], [150, 250, 400, 600], rng.uniform(0.3, 1.0, 4).tolist())
    one, two = (
        ([0, 1, 1, 0], [0, 0.02, 0.75, 0.8]),
        ([0, 1, 1, 0, 0, 1, 1, 0], [0, 0.02, 0.4, 0.42, 0.5, 0.52, 0.95, 1.0]),
    )
    values, at = (one, two)[int(rng.integers(2))]
    return plate * curve(n, values, at)


def _electronic_chime(rng: Rng, duration_s: float) -> Samples:
    """A door chime in FM: two to four falling notes with a shared decay."""
    out, f0, start = np.zeros(num_samples(duration_s)), log_uniform(rng, 700.0, 1_300.0), 0.0
    for interval in rng.permutation([1.0, 0.794, 0.667, 0.891])[: int(rng.integers(2, 4))]:
        n = num_samples(max(0.1, duration_s - start))
        turn = times(n) * 2.0 * np.pi * f0 * interval
        envelope = decay(n, uniform(rng, 0.9, 2.0), 0.004)
        place(out, np.sin(turn + 1.8 * envelope * np.sin(3.5 * turn)) * envelope, start)
        start += uniform(rng, 0.25, 0.45)
    return out


def _whooping(rng: Rng, duration_s: float) -> Samples:
    """A fire panel's sounder: a tone of 2 to 3.2 kHz that whoops upwards, or trills, with the click of its piezo."""
    n, rate = num_samples(duration_s), uniform(rng, 1.2, 4.0)
    inside = (times(n) * rate) % 1.0
    low = uniform(rng, 2_500.0, 2_900.0)
    f0 = low * (1.0 + uniform(rng, 0.03, 0.15) * inside)
    tone = np.sin(phase(f0)) + uniform(rng, 0.0, 0.3) * np.sin(2.0 * phase(f0) + 0.5)
    return np.asarray(tone * smooth((inside < uniform(rng, 0.55, 0.9)).astype(float), 100.0))


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = False) -> Kind:
    return Kind(name, label, noun, sentence, "alarms", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind(
            "siren", "a siren wailing", "siren", "a siren wails", "an ambulance siren", "a police siren", steady=True
        ),
        (2.0, 6.0),
        (_wail, _two_tone, _motor_siren),
    ),
    Recipe(
        _kind("alarm_clock", "an alarm clock ringing", "alarm clock", "an alarm clock rings", "a clock alarm"),
        (1.0, 3.0),
        (_beeps, _twin_bells, _melodic_alarm),
    ),
    Recipe(
        _kind(
            "smoke_alarm", "a smoke alarm beeping", "smoke alarm", "a smoke alarm sounds", "a fire alarm", steady=True
        ),
        (2.0, 5.0),
        (_three_pulses, _whooping, _fast_piezo),
    ),
    Recipe(
        _kind("phone_ring", "a telephone ringing", "telephone", "a telephone rings", "a phone", "a ringing phone"),
        (1.2, 3.0),
        (_bell_phone, _warble, _ring_tone),
    ),
    Recipe(
        _kind("doorbell", "a doorbell ringing", "doorbell", "a doorbell rings", "a ding-dong", "a door chime"),
        (1.2, 2.8),
        (_chime, _buzzer, _electronic_chime),
    ),
)
