"""Motors and tools: chainsaw, drill, vacuum cleaner, washing machine, hand saw, and a creaking door."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    buzz,
    cloud,
    convolve,
    curve,
    decay,
    highpass,
    log_uniform,
    modes,
    noise,
    num_samples,
    phase,
    place,
    resonate,
    shaped_noise,
    smooth,
    strikes_at,
    swell,
    times,
    uniform,
    unit,
    wander,
)


def _two_stroke(rng: Rng, duration_s: float) -> Samples:
    """A chainsaw: a two-stroke that idles, screams, and drops under load; chain noise follows the revs."""
    n = num_samples(duration_s)
    revs = np.clip(0.75 + 0.35 * wander(n, rng, uniform(rng, 0.5, 1.5)), 0.35, 1.1)
    f0 = uniform(rng, 110.0, 210.0) * smooth(revs, 4.0).clip(0.35) * (1.0 + 0.03 * wander(n, rng, 40.0))
    source = np.tanh(3.0 * buzz(f0, 0.985) * (1.0 + 0.4 * smooth(noise(n, rng), 80.0) * 8.0))
    body = unit(
        resonate(
            source, [300, 850, 1_700, 3_100, 4_600], [150, 300, 500, 800, 1_000], rng.uniform(0.4, 1.0, 5).tolist()
        )
    )
    return body + uniform(rng, 0.2, 0.5) * unit(bandpass(noise(n, rng), 1_500.0, 6_500.0, 1)) * revs**2


def _saw_grains(rng: Rng, duration_s: float) -> Samples:
    """A chainsaw as noisy explosions: each firing a burst of noise through a short silencer."""
    n = num_samples(duration_s)
    f0 = uniform(rng, 80.0, 170.0) * curve(n, [0.6, 1.1, 0.9, 1.2, 0.8]) * (1.0 + 0.04 * wander(n, rng, 12.0))
    cycles = np.cumsum(f0) / 16_000.0
    moments = np.searchsorted(cycles, np.arange(1, int(cycles[-1]) + 1)) / 16_000.0
    pulses = strikes_at(n, moments, 1.0 + 0.35 * rng.standard_normal(len(moments)))
    shot = noise(140, rng) * decay(140, 0.009)
    return unit(convolve(pulses, shot)) + 0.35 * unit(highpass(noise(n, rng), 2_500.0))


def _motor(f0: Curve, rng: Rng, teeth: int) -> Curve:
    """A universal motor: brush noise at the shaft's rate, gears at a multiple."""
    turn = phase(f0)
    gear = np.sin(teeth * turn + 0.6 * np.sin(turn)) + 0.5 * np.sin(2 * teeth * turn)
    return np.asarray(unit(buzz(f0, 0.95)) + uniform(rng, 0.4, 1.2) * gear)


def _drill(rng: Rng, duration_s: float) -> Samples:
    """A power drill: runs up, labours, runs down; whine of gears and brush noise."""
    n, top = num_samples(duration_s), log_uniform(rng, 180.0, 420.0)
    up, down = min(0.3, 0.3 / duration_s), 1.0 - min(0.3, 0.35 / duration_s)
    revs = curve(n, [0.3, 1.0, uniform(rng, 0.75, 0.95), 0.95, 0.3], [0.0, up, 0.5, down, 1.0])
    f0 = top * revs * (1.0 + 0.01 * wander(n, rng, 12.0))
    body = _motor(f0, rng, int(rng.integers(5, 9)))
    return (body + uniform(rng, 0.2, 0.6) * unit(bandpass(noise(n, rng), 1_000.0, 6_000.0, 1))) * curve(
        n, [0.2, 1, 1, 0.1], [0, up, down, 1]
    )


def _hammer_drill(rng: Rng, duration_s: float) -> Samples:
    """A hammer drill or a pneumatic drill: 15 to 50 blows a second through a wall, over the motor."""
    n, rate = num_samples(duration_s), uniform(rng, 15.0, 50.0)
    moments = np.arange(0.0, duration_s, 1.0 / rate)
    blows = strikes_at(n, moments + 0.002 * rng.random(len(moments)), rng.uniform(0.6, 1.0, len(moments)))
    hit = modes(500, rng.uniform(250.0, 3_800.0, 8), np.full(8, 0.03), rng.uniform(0.3, 1.0, 8)) + 0.8 * noise(
        500, rng
    ) * decay(500, 0.012)
    whine = _motor(log_uniform(rng, 150.0, 300.0) * (1.0 + 0.01 * wander(n, rng, 8.0)), rng, 6)
    return unit(convolve(blows, hit)) + uniform(rng, 0.1, 0.4) * whine + 0.15 * highpass(noise(n, rng), 1_500.0)


def _dentist(rng: Rng, duration_s: float) -> Samples:
    """A small fast drill: a whistle-like FM tone of 500 to 1200 Hz that sags when it bites."""
    n = num_samples(duration_s)
    load = np.clip(wander(n, rng, 1.5), 0.0, 1.0)
    f0 = (
        log_uniform(rng, 350.0, 900.0)
        * (1.0 - 0.2 * smooth(load, 6.0))
        * curve(n, [0.5, 1.0, 1.0, 0.6], [0.0, 0.12, 0.88, 1.0])
    )
    turn = phase(f0)
    tone = np.sin(turn + 1.8 * np.sin(turn)) + 0.6 * np.sin(3.0 * turn + load * np.sin(0.5 * turn))
    return tone + (0.1 + 0.6 * load) * unit(bandpass(noise(n, rng), 2_000.0, 7_000.0, 1))


def _vacuum(rng: Rng, duration_s: float) -> Samples:
    """A vacuum cleaner: rushing air, formant-like peaks of the tube, and the motor's whine with its octaves."""
    n = num_samples(duration_s)
    air = shaped_noise(
        n,
        rng,
        [60, 250, 700, 1_500, 4_000, 8_000],
        [-14, uniform(rng, -6, 0), uniform(rng, -4, 3), uniform(rng, -5, 2), -8, -16],
    )
    f0 = log_uniform(rng, 180.0, 480.0) * (1.0 + 0.004 * wander(n, rng, 2.0))
    whine = sum(uniform(rng, 0.1, 1.0) / k * np.sin(k * phase(f0)) for k in range(1, 9))
    moved = 1.0 + 0.12 * wander(n, rng, uniform(rng, 0.5, 2.0))
    return air * moved + uniform(rng, 0.15, 0.8) * unit(np.asarray(whine))


def _suction(rng: Rng, duration_s: float) -> Samples:
    """A vacuum cleaner by its tube: noise and a buzz through resonances that shift as the nozzle moves."""
    n = num_samples(duration_s)
    source = noise(n, rng) + uniform(rng, 0.3, 1.0) * unit(
        buzz(log_uniform(rng, 90.0, 260.0) * (1.0 + 0.003 * wander(n, rng, 3.0)), 0.97)
    )
    near = smooth((wander(n, rng, 0.8) > 0.3).astype(float), 8.0)
    open_tube = resonate(
        source, [280, 760, 1_500, 2_900, 4_800], [120, 250, 400, 800, 1_200], [1.0, 0.9, 0.7, 0.5, 0.3]
    )
    shut_tube = resonate(
        source, [420, 1_050, 2_000, 3_600, 5_500], [120, 250, 400, 800, 1_200], [0.8, 1.0, 0.8, 0.5, 0.3]
    )
    return open_tube * (1.0 - near) + shut_tube * near


def _drum_wash(rng: Rng, duration_s: float) -> Samples:
    """A washing machine: the motor's hum, and a load of wet cloth that is lifted and dropped."""
    n, turn_s = num_samples(duration_s), uniform(rng, 0.7, 1.6)
    hum = buzz(uniform(rng, 45.0, 110.0) * (1.0 + 0.01 * wander(n, rng, 2.0)), 0.8)
    slosh = shaped_noise(n, rng, [80, 300, 1_200, 5_000], [-3, 0, -8, -26]) * (
        0.25 + np.maximum(np.sin(times(n) * 6.28 / turn_s), 0.0) ** 2
    )
    out = uniform(rng, 0.3, 0.7) * unit(hum) + slosh
    num = num_samples(0.3)
    for start in np.arange(0.2, duration_s, turn_s):
        thud = modes(num, [48, 85, 140, 260], [0.2, 0.15, 0.1, 0.06], rng.uniform(0.5, 1.0, 4))
        place(out, thud, start + uniform(rng, 0.0, 0.1), uniform(rng, 0.8, 2.0))
    return out


def _spin(rng: Rng, duration_s: float) -> Samples:
    """The spin cycle: a whine of several hundred hertz, and an imbalance that shakes 8 to 18 times a second."""
    n = num_samples(duration_s)
    rate = uniform(rng, 8.0, 18.0) * curve(n, [1.0, uniform(rng, 0.9, 1.2)])
    shake = 1.0 + 0.6 * np.sin(phase(rate))
    whine = np.sin(phase(rate * 22.0)) + 0.5 * np.sin(phase(rate * 44.0)) + 0.3 * np.sin(phase(rate * 33.0))
    rumble = shaped_noise(n, rng, [30, 90, 300, 1_500, 8_000], [-2, 0, -6, -18, -36])
    rattle = unit(cloud(n, rng, 80.0, [noise(60, rng) * decay(60, 0.004)], 6.0))
    return rumble * shake + uniform(rng, 0.2, 0.7) * whine + 0.2 * rattle * np.maximum(shake - 1.0, 0.0)


def _sawing(rng: Rng, duration_s: float) -> Samples:
    """A hand saw: push and pull strokes of toothed noise through a board and a blade."""
    n, period = num_samples(duration_s), uniform(rng, 0.45, 1.0)
    inside = (times(n) / period) % 1.0
    push = np.sin(np.pi * np.clip(inside / 0.5, 0, 1)) * (inside < 0.5)
    pull = np.sin(np.pi * np.clip((inside - 0.53) / 0.45, 0, 1)) * (inside > 0.53)
    speed = push + 0.8 * pull
    teeth = buzz(np.maximum(uniform(rng, 80.0, 240.0) * speed, 30.0), 0.97)
    source = noise(n, rng) * (0.5 + np.maximum(teeth, 0.0))
    stroke = resonate(source, [650, 1_400, 2_600, 4_300], [300, 400, 700, 1_200], rng.uniform(0.4, 1.0, 4).tolist())
    return stroke * (push + uniform(rng, 0.3, 0.9) * pull)


def _rasping(rng: Rng, duration_s: float) -> Samples:
    """Sawing as shaped noise that is chopped at the rate of the teeth; its pitch rises and falls with each stroke."""
    n, rate = num_samples(duration_s), uniform(rng, 2.0, 4.2)
    stroke = np.abs(np.sin(np.pi * np.cumsum(rate * (1.0 + 0.05 * wander(n, rng, 2.0))) / 16_000.0))
    chop = 0.5 + 0.5 * np.sin(phase(60.0 + uniform(rng, 100.0, 300.0) * stroke))
    return shaped_noise(n, rng, [150, 700, 2_500, 5_500, 8_000], [-20, -6, 0, -4, -14]) * stroke**1.5 * chop


def _creak(rng: Rng, duration_s: float) -> Samples:
    """A hinge that sticks and slips: pulses from 15 to 300 a second, through the wood of the door."""
    n = num_samples(duration_s)
    rate = (
        log_uniform(rng, 30.0, 130.0)
        * np.exp(0.6 * wander(n, rng, uniform(rng, 2.0, 5.0)))
        * curve(n, [0.6, 1.2, uniform(rng, 0.5, 1.6)])
    )
    cycles = np.cumsum(rate.clip(12.0, 400.0)) / 16_000.0
    moments = np.searchsorted(cycles, np.arange(1, int(cycles[-1]) + 1)) / 16_000.0
    moments = moments + 0.0008 * rng.standard_normal(len(moments))
    pulses = strikes_at(n, np.sort(moments.clip(0.0)), rng.uniform(0.4, 1.0, len(moments)))
    body = np.sort(np.exp(rng.uniform(np.log(400.0), np.log(4_000.0), 7))).tolist()
    return resonate(pulses, body, rng.uniform(40.0, 200.0, 7).tolist(), rng.uniform(0.4, 1.0, 7).tolist()) * swell(
        n, 0.15, 0.25
    )


def _squeal(rng: Rng, duration_s: float) -> Samples:
    """A dry hinge that sings: a wandering pitch of 300 to 900 Hz with rough harmonics, in one or two pushes."""
    n = num_samples(duration_s)
    f0 = (
        log_uniform(rng, 300.0, 900.0)
        * np.exp(0.12 * wander(n, rng, 4.0))
        * curve(n, [0.85, 1.0, uniform(rng, 0.9, 1.25)])
    )
    rough = np.maximum(0.6 + 0.6 * wander(n, rng, 25.0), 0.0)
    return (buzz(f0, 0.8) * rough + 0.03 * noise(n, rng)) * np.abs(
        np.sin(np.pi * np.linspace(0.0, float(rng.integers(1, 3)), n))
    )


def _revved(rng: Rng, duration_s: float) -> Samples:
    """A chainsaw in FM: blips of the throttle, a nasal rasp, and wood that loads the engine."""
    n = num_samples(duration_s)
    blips = smooth((wander(n, rng, 1.5) > uniform(rng, -0.6, 0.3)).astype(float), 3.0)
    f0 = uniform(rng, 75.0, 130.0) * (0.7 + 0.9 * blips) * (1.0 + 0.02 * wander(n, rng, 50.0))
    turn = phase(f0)
    rasp = np.sin(turn + 4.0 * np.sin(turn) + 2.5 * np.sin(3.0 * turn)) + 0.7 * np.sin(
        11.0 * turn + 3.0 * np.sin(2.0 * turn)
    )
    return np.asarray(
        np.tanh(1.5 * rasp) * (0.4 + 0.6 * blips) + 0.4 * unit(bandpass(noise(n, rng), 2_000.0, 7_000.0, 1)) * blips
    )


def _cleaner_motor(rng: Rng, duration_s: float) -> Samples:
    """A vacuum cleaner by its blower: harmonics that waver with the load, air noise modulated at the same rate."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 120.0, 330.0)
    up = 1.0 - uniform(rng, 0.0, 0.3) * decay(n, 0.8)
    turn = phase(pitch * up * (1.0 + 0.006 * wander(n, rng, 1.5)))
    tones = sum(
        uniform(rng, 0.2, 1.0) / k**0.6 * np.sin(k * turn + rng.uniform(0, 6.28)) for k in (1, 2, 3, 4, 6, 8, 12)
    )
    air = shaped_noise(n, rng, [80, 300, 1_000, 3_000, 8_000], [-10, -2, 0, uniform(rng, -8, 0), -14])
    return air * (1.0 + 0.2 * np.sin(turn)) + uniform(rng, 0.2, 0.7) * unit(np.asarray(tones))


def _groan(rng: Rng, duration_s: float) -> Samples:
    """A heavy door: a low creak by harmonics of a wandering pitch, multiplied by slow stick-slip bursts."""
    n = num_samples(duration_s)
    f0 = (
        log_uniform(rng, 90.0, 320.0) * np.exp(0.3 * wander(n, rng, 3.0)) * curve(n, [0.8, 1.0, uniform(rng, 0.7, 1.4)])
    )
    bursts = np.maximum(np.sin(phase(uniform(rng, 8.0, 25.0) * np.exp(0.4 * wander(n, rng, 3.0)))), 0.0) ** 0.5
    body = resonate(
        buzz(f0, 0.985), [600, 1_300, 2_400, 3_700], [120, 200, 300, 500], rng.uniform(0.4, 1.0, 4).tolist()
    )
    return np.asarray(body * (0.25 + bursts) * swell(n, 0.1, 0.2))


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = True) -> Kind:
    return Kind(name, label, noun, sentence, "machines", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("chainsaw", "a chainsaw running", "chainsaw", "a chainsaw runs", "a motor saw"),
        (2.0, 6.0),
        (_two_stroke, _revved, _saw_grains),
    ),
    Recipe(
        _kind("drill", "a drill running", "drill", "a drill runs", "drilling", "a power drill"),
        (1.5, 4.0),
        (_drill, _hammer_drill, _dentist),
    ),
    Recipe(
        _kind("vacuum_cleaner", "a vacuum cleaner running", "vacuum cleaner", "a vacuum cleaner runs", "vacuuming"),
        (2.0, 8.0),
        (_vacuum, _cleaner_motor, _suction),
    ),
    Recipe(
        _kind(
            "washing_machine",
            "a washing machine running",
            "washing machine",
            "a washing machine runs",
            "laundry spinning",
        ),
        (2.5, 8.0),
        (_drum_wash, _spin),
    ),
    Recipe(
        _kind("hand_saw", "a hand saw cutting wood", "hand saw", "somebody saws wood", "sawing"),
        (1.5, 4.0),
        (_sawing, _rasping),
    ),
    Recipe(
        _kind("door_creak", "a door creaking", "door creak", "a door creaks", "a creaking hinge", steady=False),
        (0.6, 2.2),
        (_creak, _groan, _squeal),
    ),
)
