"""Algorithms for training alone: clocks, cameras, telephones, alarms and test tones. See `apart`."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.apart_parts import (
    bounces,
    grains,
    logs,
    plate,
    ramp,
    room,
    slow_points,
    tap,
)
from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.synthesis import (
    RATE,
    Curve,
    Rng,
    Samples,
    bandpass,
    convolve,
    curve,
    decay,
    highpass,
    level,
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    partials,
    phase,
    place,
    resonator,
    smooth,
    strikes_at,
    swell,
    uniform,
    unit,
    wander,
)


def _knock(rng: Rng, low_hz: float, high_hz: float, t60_s: float, num: int = 5) -> Curve:
    """A small part that hits another: a few modes and the scrape of the contact, at a peak of 1."""
    length = num_samples(2.0 * t60_s)
    ring = modes(
        length, logs(rng, low_hz, high_hz, num), t60_s * rng.uniform(0.3, 1.0, num), rng.uniform(0.2, 1.0, num)
    )
    scrape = bandpass(noise(length, rng), low_hz, high_hz, 1) * decay(length, 0.4 * t60_s)
    return level(level(ring) + uniform(rng, 0.1, 1.0) * level(scrape))


def _beats(n: int, rng: Rng, per_second: float, sounds: tuple[Curve, Curve], limp: float) -> Curve:
    """A sound and its answer in turn at an almost even rate; the first comes early enough for any duration."""
    seconds = n / RATE
    first = uniform(rng, 0.0, min(1.0 / per_second, 0.5 * seconds))
    moments = first + np.arange(int(seconds * per_second) + 1) / per_second
    moments += rng.normal(0.0, 0.0005, len(moments)) * (np.arange(len(moments)) > 0)
    moments[1::2] += limp / per_second
    levels = rng.uniform(0.85, 1.0, len(moments))
    out = np.zeros(n)
    for side, sound in enumerate(sounds):
        out += convolve(strikes_at(n, np.maximum(moments[side::2], 0.0), levels[side::2]), sound)
    return out


def _escapement(rng: Rng, duration_s: float) -> Samples:
    """A pendulum clock: a tooth drops on its pallet, recoils and locks; the wooden case and the room speak with it."""
    n = num_samples(duration_s)
    per_second = float(rng.choice((1.0, 1.0, 1.33, 2.0, 2.5, 3.0))) * uniform(rng, 0.97, 1.03)
    case = plate(4_000, rng, log_uniform(rng, 110.0, 500.0), uniform(rng, 0.06, 0.3), uniform(rng, 0.5, 0.9))
    pallet, wooden = log_uniform(rng, 1_200.0, 4_200.0), log_uniform(rng, 0.05, 1.2)
    sounds = []
    for pitch in (1.0, uniform(rng, 0.75, 1.3)):
        steel = np.zeros(4_000)
        for moment, loud in ((0.0, 1.0), (uniform(rng, 0.004, 0.03), uniform(rng, 0.1, 0.7))):
            hit = _knock(rng, 0.6 * pallet * pitch, 1.8 * pallet * pitch, uniform(rng, 0.006, 0.03))
            place(steel, hit, moment, loud)
        sounds.append(level(steel) + wooden * level(convolve(steel, case)))
    size = (uniform(rng, 2.5, 6.0), uniform(rng, 3.0, 8.0), uniform(rng, 2.3, 4.0))
    kernel = room(2_400, rng, size, uniform(rng, 0.1, 0.7), log_uniform(rng, 1_000.0, 4_000.0))
    tick, tock = (convolve(np.pad(sound, (0, 800)), kernel) for sound in sounds)
    return _beats(n, rng, per_second, (tick, tock), uniform(rng, -0.12, 0.12))


def _balance_wheel(rng: Rng, duration_s: float) -> Samples:
    """A watch, alarm clock or quartz clock at the ear: three tiny noises a beat, or a stepping motor that rebounds."""
    n = num_samples(duration_s)
    quartz = rng.random() < 0.4
    per_second = 1.0 if quartz else float(rng.choice((3.33, 4.0, 5.0, 5.0, 6.0, 8.0)))
    low = log_uniform(rng, 800.0, 3_000.0) if quartz else log_uniform(rng, 1_800.0, 5_000.0)
    t60, gap = uniform(rng, 0.004, 0.03), uniform(rng, 0.015, 0.05) if quartz else uniform(rng, 0.003, 0.01)
    sounds = []
    for _ in range(2):
        beat = np.zeros(2_400)
        for part, loud in enumerate(rng.uniform(0.2, 1.0, int(rng.integers(1, 3)) if quartz else 3).tolist()):
            place(beat, _knock(rng, low, 1.8 * low, t60), part * gap * uniform(rng, 0.7, 1.3), loud)
        box = resonator(beat, uniform(rng, 300.0, 1_200.0), 120.0)
        sounds.append(level(level(beat) + uniform(rng, 0.0, 0.6) * level(box)))
    if rng.random() < 0.5:
        sounds[1] = sounds[0] * uniform(rng, 0.6, 1.0)
    out = _beats(n, rng, per_second, (sounds[0], sounds[1]), 0.0 if quartz else uniform(rng, -0.08, 0.08))
    return out + log_uniform(rng, 0.0005, 0.02) * unit(lowpass(noise(n, rng), 800.0, 1))


def _pocket(rng: Rng, duration_s: float) -> Samples:
    """A small camera: it beeps when it sees sharp, its lens motor steps, leaf shutters snap, once or in a burst."""
    n, clock = num_samples(duration_s), 0.005
    out = np.zeros(n)
    if duration_s > 0.45 and rng.random() < 0.5:
        hz, num = uniform(rng, 1_800.0, 4_300.0), num_samples(uniform(rng, 0.03, 0.07))
        for _ in range(2):
            beep = partials(num, np.full(num, hz), [1.0, 0.15, 0.1]) * swell(num, 0.1, 0.1)
            place(out, beep, clock, uniform(rng, 0.1, 0.4))
            clock += num / RATE + uniform(rng, 0.02, 0.06)
    elif duration_s > 0.4 and rng.random() < 0.5:
        num = num_samples(uniform(rng, 0.08, 0.2))
        step_hz = log_uniform(rng, 120.0, 700.0) * curve(num, [0.6, 1.0, 1.0, 0.7])
        motor = partials(num, step_hz, rng.uniform(0.2, 1.0, 12).tolist()) + 0.4 * noise(num, rng)
        place(out, unit(motor) * swell(num, 0.1, 0.1), clock, uniform(rng, 0.03, 0.2))
        clock += num / RATE + 0.02
    low, open_s, every = log_uniform(rng, 900.0, 2_800.0), log_uniform(rng, 0.012, 0.12), uniform(rng, 0.1, 0.25)
    opens, shuts = (_knock(rng, low, 3.5 * low, uniform(rng, 0.01, 0.04), 7) for _ in range(2))
    num = num_samples(open_s)
    run = bandpass(noise(num, rng), 1.5 * low, 5.0 * low, 1) * swell(num, 0.2, 0.2)
    for _ in range(1 if rng.random() < 0.6 else 4):
        place(out, opens, clock, uniform(rng, 0.6, 1.0))
        place(out, level(run), clock + 0.003, uniform(rng, 0.05, 0.4))
        place(out, shuts, clock + open_s, uniform(rng, 0.5, 1.0))
        clock += open_s + every
    return out


def _by_lever(rng: Rng, duration_s: float) -> Samples:
    """A film camera: springs throw mirror and curtain, which bounce; gears hold long times; a lever or motor winds."""
    n = num_samples(duration_s)
    body = plate(2_400, rng, log_uniform(rng, 180.0, 700.0), uniform(rng, 0.03, 0.09), 0.5)
    hits, loud, open_s = [], [], log_uniform(rng, 0.02, 0.16)
    for start, strength in ((0.01, uniform(rng, 0.6, 1.0)), (0.01 + open_s, 1.0)):
        when, falls = bounces(rng, uniform(rng, 0.008, 0.022), uniform(rng, 0.2, 0.6), 4)
        hits += (start + when).tolist()
        loud += (strength * falls).tolist()
    force = strikes_at(n, hits, loud)
    metal = _knock(rng, log_uniform(rng, 700, 1_600), log_uniform(rng, 3_000, 7_000), uniform(rng, 0.008, 0.03), 8)
    out = level(convolve(convolve(force, tap(rng, log_uniform(rng, 0.0003, 0.002))), body))
    out += log_uniform(rng, 0.5, 4.0) * level(convolve(force, metal))
    if open_s > 0.06:
        teeth = np.arange(0.015, open_s, 1.0 / uniform(rng, 250.0, 800.0))
        out += uniform(rng, 0.05, 0.3) * level(convolve(strikes_at(n, teeth, rng.uniform(0.5, 1.0, len(teeth))), metal))
    wind_s = duration_s - open_s - 0.08
    if wind_s > 0.15 and rng.random() < 0.75:
        num = int(wind_s * log_uniform(rng, 25.0, 160.0))
        turn = np.sort(np.r_[0.0, 1.0, np.linspace(0.0, 1.0, max(num, 3)) ** uniform(rng, 0.6, 1.4)])
        pawls = open_s + 0.06 + wind_s * uniform(rng, 0.7, 1.0) * turn
        tooth = _knock(rng, log_uniform(rng, 800, 2_500), 6_000.0, uniform(rng, 0.004, 0.015))
        out += uniform(rng, 0.1, 0.6) * level(convolve(strikes_at(n, pawls, rng.uniform(0.5, 1.0, len(pawls))), tooth))
    return out


def _tone(rng: Rng, num: int, hz: float, voice: int, index: float) -> Curve:
    """One note of a small loudspeaker: of two oscillators that bend each other, a square wave, or a struck bar."""
    if voice == 0:
        bend = index * decay(num, 0.4) * np.sin(phase(np.full(num, 2.0 * hz)))
        return np.asarray(np.sin(phase(np.full(num, hz)) + bend) * decay(num, 1.2, 0.003))
    if voice == 1:
        return partials(num, np.full(num, hz), [1.0, 0.0, 0.33, 0.0, 0.2, 0.0, 0.14]) * swell(num, 0.03, 0.1)
    return modes(num, [hz, 3.93 * hz, 9.2 * hz], [0.5, 0.2, 0.06], [1.0, 0.4 * index, 0.2])


def _melody(rng: Rng, duration_s: float) -> Samples:
    """A mobile phone: a short bright figure of notes that comes again and again from a tiny loudspeaker."""
    n, voice, index = num_samples(duration_s), int(rng.integers(3)), uniform(rng, 0.3, 3.0)
    beat_s, root = log_uniform(rng, 0.06, 0.2), log_uniform(rng, 500.0, 1_400.0)
    scale = np.array(([0, 2, 4, 7, 9, 12], [0, 3, 5, 7, 10, 12], [0, 4, 7, 11, 12, 16])[int(rng.integers(3))])
    num_notes = int(rng.integers(3, 10))
    figure = root * 2.0 ** (rng.choice(scale, num_notes) / 12.0)
    lengths = rng.choice((1.0, 1.0, 1.0, 2.0), num_notes)
    rests = rng.random(num_notes) < 0.12
    rests[0] = False
    out, clock, note = np.zeros(n), 0.0, 0
    while clock < duration_s:
        held = float(lengths[note]) * beat_s
        if not rests[note]:
            place(
                out,
                _tone(rng, num_samples(held * (3.0 if voice == 2 else 0.95)), float(figure[note]), voice, index),
                clock,
            )
        note = (note + 1) % num_notes
        clock += held + (uniform(rng, 1.0, 3.0) * beat_s if note == 0 else 0.0)
    small = highpass(np.tanh(out * uniform(rng, 0.5, 3.0)), log_uniform(rng, 200.0, 900.0))
    return small + uniform(rng, 0.0, 0.8) * resonator(small, uniform(rng, 1_500.0, 3_500.0), 500.0)


def _on_table(rng: Rng, duration_s: float) -> Samples:
    """A phone that shakes: an uneven weight spins, the case hops on the table at every turn; some ring as well."""
    n, on_s = num_samples(duration_s), uniform(rng, 0.35, 1.0)
    turn_s = on_s + uniform(rng, 0.15, 0.6)
    on = ((np.arange(n) / RATE) % turn_s < on_s).astype(np.float64)
    drive = smooth(on, 4.0)
    speed = uniform(rng, 130.0, 230.0) * (0.3 + 0.7 * drive) * (1.0 + 0.01 * wander(n, rng, 20.0))
    hum = partials(n, speed, [1.0, 0.5, 0.4, 0.25, 0.2, 0.1, 0.1]) * drive**2
    turns = np.floor(np.cumsum(speed) / RATE)
    hits = np.flatnonzero(np.diff(turns) > 0)
    hop = drive[hits] ** 3 * rng.uniform(0.0, 1.0, len(hits)) ** uniform(rng, 0.3, 2.0)
    rattle = strikes_at(n, hits / RATE, hop)
    table = plate(3_200, rng, log_uniform(rng, 90.0, 400.0), uniform(rng, 0.05, 0.2), 0.6)
    shell = _knock(rng, 1_200.0, 6_000.0, 0.008)
    out = unit(hum) * uniform(rng, 0.3, 1.0) + uniform(rng, 0.2, 1.2) * unit(convolve(rattle, table))
    out += uniform(rng, 0.1, 0.9) * unit(convolve(rattle, shell))
    if rng.random() < 0.35:
        out += uniform(rng, 0.3, 1.0) * unit(_melody(rng, duration_s)[:n])
    return out


def _gongs(rng: Rng, duration_s: float) -> Samples:
    """An old bell telephone: a clapper driven by the exchange hits two cups that beat, in double or single rings."""
    n, rate = num_samples(duration_s), uniform(rng, 32.0, 52.0)
    if rng.random() < 0.5:
        on = [(0.0, 0.4), (0.6, 1.0), (2.0, 2.4), (2.6, 3.0)]
    else:
        on = [(0.0, uniform(rng, 0.8, 1.8)), (uniform(rng, 2.2, 2.8), 4.0)]
    strikes = np.concatenate([np.arange(start, stop, 1.0 / rate) for start, stop in on])
    strikes += rng.normal(0.0, 0.0012, len(strikes))
    loud, low = rng.uniform(0.6, 1.0, len(strikes)), log_uniform(rng, 650.0, 1_900.0)
    out = np.zeros(n)
    for side, ratio in enumerate((1.0, uniform(rng, 1.06, 1.34))):
        cup = low * ratio * np.array([1.0, 1.004, 2.37, 2.38, 4.2, 5.6]) * rng.uniform(0.99, 1.01, 6)
        ring = modes(
            9_600, cup, uniform(rng, 0.3, 1.2) / np.array([1, 1, 1.5, 1.5, 2.5, 3.0]), rng.uniform(0.2, 1.0, 6)
        )
        out += convolve(strikes_at(n, np.maximum(strikes[side::2], 0.0), loud[side::2]), ring)
    wood = convolve(strikes_at(n, np.maximum(strikes, 0.0), loud), plate(1_600, rng, uniform(rng, 150, 500), 0.06, 0.6))
    return level(out) + uniform(rng, 0.02, 0.3) * level(wood)


def _gate(n: int, rng: Rng) -> Curve:
    """(n,) on and off of an alarm: groups of beeps, an even pulse, or beeps that come ever faster."""
    if rng.random() < 0.3:
        rate = log_uniform(rng, 1.5, 4.0) * curve(n, [1.0, uniform(rng, 1.5, 4.0)])
        on = (np.cumsum(rate) / RATE) % 1.0 < uniform(rng, 0.3, 0.6)
    else:
        beep_s, num = log_uniform(rng, 0.04, 0.3), int(rng.integers(1, 6))
        step = beep_s * uniform(rng, 1.4, 2.2)
        whole = num * step + (uniform(rng, 0.1, 0.7) if num > 1 else 0.0)
        place_in = (np.arange(n) / RATE) % whole
        on = (place_in < num * step) & (place_in % step < beep_s)
    return smooth(on.astype(np.float64), 200.0)


def _piezo(rng: Rng, duration_s: float) -> Samples:
    """A digital alarm: a square wave drives a thin disc that has loud modes of its own; one, two or shaking tones."""
    n, hz = num_samples(duration_s), log_uniform(rng, 900.0, 3_600.0)
    gate, course = _gate(n, rng), np.full(n, hz)
    kind = int(rng.integers(3))
    flip = np.sin(phase(np.full(n, log_uniform(rng, 3.0, 16.0)))) > 0
    if kind == 1:
        course = np.where(flip, hz, hz * uniform(rng, 0.7, 0.95))
    square = partials(n, course, [1.0, uniform(rng, 0.0, 0.4), 0.33, 0.1, 0.2, 0.05, 0.14])
    if kind == 2:
        square = square * (0.3 + 0.7 * flip)
    disc = uniform(rng, 2_000.0, 4_500.0)
    out = unit(square) * uniform(rng, 0.2, 1.0) + unit(resonator(square, disc, disc / uniform(rng, 4.0, 25.0)))
    return np.tanh(out * uniform(rng, 0.3, 2.0)) * gate


def _armature(rng: Rng, duration_s: float) -> Samples:
    """A mains alarm: an iron tongue buzzes against its coil a hundred times a second, steady or by fits, in a case."""
    n, mains = num_samples(duration_s), float(rng.choice((50.0, 60.0))) * uniform(rng, 0.995, 1.005)
    gate = _gate(n, rng) if rng.random() < 0.5 else swell(n, 0.01, 0.02)
    moments = np.arange(0.002, duration_s, 0.5 / mains)
    loud = np.where(np.arange(len(moments)) % 2 == 0, 1.0, uniform(rng, 0.3, 1.0)) * rng.uniform(0.9, 1.0, len(moments))
    hits = strikes_at(n, moments + rng.normal(0.0, 0.0002, len(moments)), loud) * gate
    tongue = modes(800, logs(rng, 500, 4_500, 6), rng.uniform(0.005, 0.04, 6), rng.uniform(0.2, 1.0, 6))
    case = plate(1_600, rng, log_uniform(rng, 200.0, 700.0), uniform(rng, 0.03, 0.1), 0.5)
    hum = partials(n, np.full(n, 2.0 * mains), [1.0, 0.6, 0.5]) * gate
    out = unit(convolve(hits, tongue)) + uniform(rng, 0.2, 1.0) * unit(convolve(hits, case))
    return out + uniform(rng, 0.05, 0.4) * unit(hum)


def _runs_down(rng: Rng, duration_s: float) -> Samples:
    """A wind-up alarm: a hammer beats one bell or the clock's own back, its spring tires, the table rattles along."""
    n, rate = num_samples(duration_s), uniform(rng, 9.0, 24.0)
    slower = np.exp(ramp(np.linspace(0.0, -uniform(rng, 0.0, 0.6), slow_points(n)), n))
    hits = np.flatnonzero(np.diff(np.floor(np.cumsum(rate * slower) / RATE + 0.99)) > 0) / RATE
    hits = hits + rng.normal(0.0, 0.001, len(hits)).clip(-0.003, 0.003) * (hits > 0.01)
    loud = rng.uniform(0.6, 1.0, len(hits))
    low = log_uniform(rng, 900.0, 3_200.0)
    bell = low * np.array([1.0, 1.006, 1.58, 2.31, 3.1, 4.4]) * rng.uniform(0.97, 1.03, 6)
    ring = modes(8_000, bell, log_uniform(rng, 0.08, 0.7) * rng.uniform(0.3, 1.0, 6), rng.uniform(0.2, 1.0, 6))
    strokes = strikes_at(n, hits, loud)
    out = level(convolve(strokes, ring)) + uniform(rng, 0.1, 0.7) * level(
        convolve(strokes, _knock(rng, 1_500, 6_000, 0.01))
    )
    clatter = np.repeat(hits, 3) + rng.exponential(0.012, 3 * len(hits))
    hz = uniform(rng, 200.0, 900.0) * rng.lognormal(0.0, 0.4, len(clatter))
    table = grains(n, clatter, hz, np.full(len(hz), 0.04), rng.uniform(0.2, 1.0, len(hz)))
    return out + uniform(rng, 0.0, 0.3) * level(table)


def _steered(rng: Rng, duration_s: float) -> Samples:
    """A test tone that is steered evenly in Hz, there and back, or in an S, pure or as a wave with edges."""
    n, low, high = num_samples(duration_s), log_uniform(rng, 80.0, 1_200.0), log_uniform(rng, 1_800.0, 7_000.0)
    way = np.linspace(0.0, 1.0, n)
    shape = int(rng.integers(4))
    if shape == 1:
        way = 1.0 - np.abs(2.0 * way - 1.0)
    elif shape == 2:
        way = way * way * (3.0 - 2.0 * way)
    elif shape == 3:
        way = way**2 / (way**2 + (1.0 - way) * uniform(rng, 0.3, 1.5))
    way = way if rng.random() < 0.6 else 1.0 - way
    f0 = low + (high - low) * way
    out = np.zeros(n)
    tilt = uniform(rng, 0.8, 2.5)
    for number in range(1, 1 + int(rng.choice((1, 1, 1, 3, 8)))):
        heard = np.clip((7_400.0 - number * f0) / 200.0, 0.0, 1.0)
        out += number**-tilt * heard * np.sin(phase(np.minimum(number * f0, 7_600.0)))
    return out * swell(n, uniform(rng, 0.01, 0.1), uniform(rng, 0.01, 0.1))


DEVICES: dict[str, tuple[Variant, ...]] = {
    "clock_tick": (_escapement, _balance_wheel),
    "camera": (_pocket, _by_lever),
    "phone_ring": (_melody, _on_table, _gongs),
    "alarm_clock": (_piezo, _armature, _runs_down),
    "tone_sweep": (_steered,),
}
"""By the kind's name."""
