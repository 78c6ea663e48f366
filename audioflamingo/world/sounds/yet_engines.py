"""Engines on land, rails and in the air, from what turns, fires and rolls in them; for training alone (see `more`)."""

from __future__ import annotations

import numpy as np

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
    resonate,
    shaped_noise,
    smooth,
    swell,
    times,
    uniform,
    unit,
)
from audioflamingo.world.sounds.yet_tools import (
    afar,
    drift,
    ground,
    hand,
    harmonics,
    moments_of,
    passing,
    rough,
    scattered,
    struck,
    tamed,
    turns_of,
    wave,
)


def _propeller(rng: Rng, duration_s: float) -> Samples:
    """A light aeroplane: blades chop the air, one or two engines that beat, reflected from the ground as it passes."""
    n = num_samples(duration_s)
    loud, pitch = passing(n, rng)
    rate = log_uniform(rng, 38.0, 115.0) * pitch * (1.0 + 0.004 * drift(n, rng, 0.7))
    levels = harmonics(rng, float(rate.max()), uniform(rng, 0.5, 1.6), 0.5)
    out = wave(turns_of(rate), levels, rng, uniform(rng, 0.1, 1.0))
    if rng.random() < 0.4:
        out = out + uniform(rng, 0.4, 1.0) * wave(turns_of(rate * uniform(rng, 0.97, 1.03)), levels, rng)
    cylinders = wave(turns_of(rate * float(rng.choice((0.5, 0.75, 1.5)))), harmonics(rng, 170.0, 1.2, 0.6), rng)
    wind = shaped_noise(n, rng, [50, 300, 1_500, 6_000], [-4, 0, -9, -28])
    out = unit(out) + uniform(rng, 0.1, 0.6) * cylinders + uniform(rng, 0.1, 0.7) * wind
    return afar(ground(out, rng) if rng.random() < 0.65 else out, rng) * loud * rough(n, rng, 1.5, 0.15)


def _jet(rng: Rng, duration_s: float) -> Samples:
    """A jet goes over: roar of torn air, bright before and dull behind, a fan that whines, a moving reflection."""
    n = num_samples(duration_s)
    loud, pitch = passing(n, rng)
    peak = log_uniform(rng, 120.0, 500.0)
    roar = shaped_noise(n, rng, [20, peak, 5 * peak, 7_000], [-12, 0, uniform(rng, -14, -5), uniform(rng, -40, -22)])
    hiss = shaped_noise(n, rng, [200, 1_200, 3_500, 7_000], [-20, -3, 0, uniform(rng, -25, -6)])
    front = np.clip((pitch - pitch.min()) / max(float(np.ptp(pitch)), 1e-6), 0.0, 1.0)
    out = roar * rough(n, rng, 2.0, 0.2) + uniform(rng, 0.1, 0.8) * hiss * front**2
    blades = log_uniform(rng, 900.0, 3_300.0) * pitch
    fan = wave(turns_of(blades), harmonics(rng, float(blades.max()), 1.0, 0.5), rng)
    buzz = wave(turns_of(blades / int(rng.integers(18, 36))), harmonics(rng, 200.0, 0.3, 0.8)[:40], rng)
    out += front * (uniform(rng, 0.0, 0.4) * fan + uniform(rng, 0.0, 0.3) * buzz)
    return afar(ground(out, rng) if rng.random() < 0.65 else out, rng) * loud


def _diesel(rng: Rng, duration_s: float) -> Samples:
    """A truck or a tractor: every firing knocks the block and puffs down the pipe, cylinder by cylinder."""
    n, num = num_samples(duration_s), int(rng.choice((1, 2, 3, 4, 6)))
    rate = log_uniform(rng, 11.0, 48.0) * (hand(n, rng, 0.85, 1.6, 2.0) if rng.random() < 0.5 else np.ones(n))
    moments = moments_of(turns_of(rate * rough(n, rng, 3.0, 0.02)), rng, 0.015)
    which = np.arange(len(moments)) % num
    block = rng.uniform(500.0, 3_800.0, 7)
    knock = modes(900, block, rng.uniform(0.008, 0.05, 7), rng.uniform(0.3, 1.0, 7))
    pipe = log_uniform(rng, 45.0, 160.0)
    puff = modes(4_000, [pipe, 2.2 * pipe, 3.9 * pipe], [0.25, 0.12, 0.08], [1.0, 0.7, 0.5])
    out = struck(n, moments, rng.uniform(0.5, 1.0, num)[which] * scattered(rng, len(moments), 1.5), puff)
    out += uniform(rng, 0.3, 1.2) * struck(
        n, moments, rng.uniform(0.3, 1.0, num)[which] * scattered(rng, len(moments), 3.0), knock
    )
    fan = shaped_noise(n, rng, [60, 400, 2_000, 6_000], [-8, 0, -10, -25])
    return afar(tamed(out) + uniform(rng, 0.1, 0.5) * fan, rng)


def _geared(n: int, rng: Rng, low_hz: float, high_hz: float) -> Curve:
    """(n,) rate of an engine that is driven through its gears, held, and let go."""
    gear_s = uniform(rng, 1.0, 3.5)
    drive = (times(n) / gear_s + rng.random()) % 1.0
    kind = rng.random()
    if kind < 0.4:
        course = 0.25 + 0.75 * drive ** uniform(rng, 0.5, 1.0)
    elif kind < 0.75:
        course = hand(n, rng, 0.0, 1.0, uniform(rng, 0.5, 2.5))
    else:
        course = curve(n, rng.uniform(0.0, 1.0, 2).tolist())
    lagging = course[0] + smooth(course - course[0], 4.0)
    return np.asarray(low_hz * (high_hz / low_hz) ** lagging)


def _orders(rng: Rng, duration_s: float) -> Samples:
    """A car: orders of the crankshaft, strong at the firing order, through body and exhaust; tyres and air on top."""
    n, cylinders = num_samples(duration_s), int(rng.choice((3, 4, 4, 6, 8)))
    cycle = _geared(n, rng, log_uniform(rng, 6.0, 10.0), log_uniform(rng, 12.0, 34.0))
    levels = harmonics(rng, float(cycle.max()), uniform(rng, 0.5, 1.1), 0.7)
    levels[cylinders - 1 :: cylinders] *= log_uniform(rng, 3.0, 9.0)
    source = wave(turns_of(cycle * rough(n, rng, 6.0, 0.006)), levels, rng, uniform(rng, 0.2, 1.0))
    firing = np.sin(2.0 * np.pi * turns_of(cycle * cylinders))
    source += uniform(rng, 0.1, 0.5) * lowpass(noise(n, rng), 2_500.0, 1) * (1.0 + 0.8 * firing)
    pipes = sorted(log_uniform(rng, 60.0, 1_500.0) for _ in range(4))
    body = resonate(source, pipes, [0.4 * hz + 20.0 for hz in pipes], rng.uniform(0.4, 1.0, 4).tolist())
    tyres = shaped_noise(n, rng, [50, 600, 1_500, 6_000], [-10, 0, -8, -30])
    out = unit(body) + uniform(rng, 0.1, 0.5) * unit(source) + uniform(rng, 0.02, 0.3) * tyres
    return afar(out * (cycle / cycle.max()) ** uniform(rng, 0.0, 1.0), rng)


def _two_stroke(n: int, rng: Rng, rate: Curve, muffler_hz: tuple[float, float], jitter: float) -> Curve:
    """Sharp explosions, each of another strength, through a small muffler."""
    moments = moments_of(turns_of(rate), rng, jitter)
    hz = np.sort(np.exp(rng.uniform(np.log(muffler_hz[0]), np.log(muffler_hz[1]), 6)))
    kernel = modes(1_200, hz, rng.uniform(0.006, 0.04, 6), rng.uniform(0.4, 1.0, 6))
    kernel[:60] += uniform(rng, 0.2, 1.0) * noise(60, rng) * decay(60, 0.004)
    return struck(n, moments, scattered(rng, len(moments), uniform(rng, 1.0, 4.0)), kernel)


def _saw_in_wood(rng: Rng, duration_s: float) -> Samples:
    """A chain saw: burbles idle, screams when the trigger is pulled, sags in the wood, where the teeth rasp."""
    n, full = num_samples(duration_s), log_uniform(rng, 105.0, 230.0)
    trigger = hand(n, rng, -0.5, 1.6, uniform(rng, 0.3, 1.5)).clip(0.0, 1.0)
    load = hand(n, rng, -0.3, 1.0, uniform(rng, 0.4, 2.0)).clip(0.0, 1.0) * trigger
    rate = full * (uniform(rng, 0.3, 0.75) ** (1.0 - trigger)) * (1.0 - uniform(rng, 0.15, 0.4) * load)
    out = _two_stroke(n, rng, rate * rough(n, rng, 15.0, 0.015), (250.0, 3_500.0), uniform(rng, 0.01, 0.05))
    teeth = 0.5 + 0.5 * np.sin(2.0 * np.pi * turns_of(rate * uniform(rng, 1.5, 3.2)))
    rasp = bandpass(noise(n, rng), uniform(rng, 1_000, 2_200), uniform(rng, 4_500, 7_000), 1) * teeth
    out += uniform(rng, 0.3, 1.2) * unit(rasp) * (0.15 + load)
    return afar(out * (0.45 + 0.55 * trigger), rng)


def _saw_scream(rng: Rng, duration_s: float) -> Samples:
    """A chain saw heard as one harsh overdriven tone that bends under load, with the chain's own higher tone."""
    n = num_samples(duration_s)
    strokes = np.abs(np.sin(np.pi * (times(n) * log_uniform(rng, 0.15, 1.2) + rng.random()))) ** uniform(rng, 0.5, 2.0)
    f0 = log_uniform(rng, 70.0, 190.0) * (1.0 + uniform(rng, 0.1, 0.5) * (1.0 - strokes) + 0.02 * drift(n, rng, 9.0))
    tone = wave(turns_of(f0), harmonics(rng, float(f0.max()), uniform(rng, 0.4, 1.0), 0.4), rng)
    half = 1.0 + uniform(rng, 0.1, 0.6) * np.sin(np.pi * turns_of(f0))
    grit = 1.0 + uniform(rng, 0.2, 0.8) * unit(lowpass(noise(n, rng), uniform(rng, 80.0, 400.0)))
    harsh = np.tanh(uniform(rng, 0.8, 3.0) * tone * half * grit)
    chain = wave(turns_of(f0 * uniform(rng, 3.1, 6.9)), harmonics(rng, 1_500.0, 0.8), rng)
    chips = highpass(noise(n, rng), uniform(rng, 1_500.0, 3_500.0), 1) * (0.2 + strokes)
    body = log_uniform(rng, 500.0, 2_500.0)
    out = unit(harsh) + unit(bandpass(harsh, 0.7 * body, 1.5 * body, 1)) * uniform(rng, 0.2, 1.2)
    return afar(out + uniform(rng, 0.05, 0.4) * chain + uniform(rng, 0.15, 0.8) * unit(chips), rng)


def _v_twin(rng: Rng, duration_s: float) -> Samples:
    """A big motorcycle: two cylinders that fire unevenly, potato-potato, through wide pipes; blips of the throttle."""
    n, uneven = num_samples(duration_s), float(rng.choice((315.0, 270.0, 360.0, 405.0))) / 720.0
    rev = hand(n, rng, -0.8, 1.0, uniform(rng, 0.4, 1.8)).clip(0.0, 1.0)
    cycle = log_uniform(rng, 6.0, 12.0) * (1.0 + uniform(rng, 0.2, 2.5) * rev)
    turns = turns_of(cycle * rough(n, rng, 4.0, 0.02))
    first, second = moments_of(turns, rng, 0.012), moments_of(turns + 1.0 - uneven, rng, 0.012)
    second[:1] = first[:1] + uneven / cycle[0]
    pipe = log_uniform(rng, 70.0, 210.0)
    overtones, lasts = np.array([1.0, 2.05, 3.2, 4.9, 7.5]), rng.uniform(0.04, 0.2, 5)
    shot = modes(5_000, pipe * overtones, lasts / overtones**0.8, rng.uniform(0.4, 1.0, 5))
    shot[:400] += uniform(rng, 0.2, 1.5) * lowpass(noise(400, rng), 3_000.0) * decay(400, 0.02, 0.002)
    levels = [scattered(rng, len(moments), 2.0) for moments in (first, second)]
    out = struck(n, np.concatenate([first, second]), np.concatenate([levels[0], 0.85 * levels[1]]), shot)
    valves = highpass(noise(n, rng), 2_500.0) * (np.sin(2.0 * np.pi * 4.0 * turns) > 0.6)
    return afar((out + uniform(rng, 0.02, 0.25) * unit(valves)) * (0.5 + 0.5 * rev), rng)


def _sport_bike(rng: Rng, duration_s: float) -> Samples:
    """A four that howls through its gears, or a moped with one small two-stroke cylinder; it may ride by."""
    n = num_samples(duration_s)
    loud, pitch = passing(n, rng) if rng.random() < 0.5 else (np.ones(n), np.ones(n))
    if rng.random() < 0.4:
        rate = _geared(n, rng, uniform(rng, 35.0, 60.0), uniform(rng, 80.0, 160.0)) * pitch
        out = _two_stroke(n, rng, rate * rough(n, rng, 10.0, 0.02), (180.0, 2_200.0), 0.03)
    else:
        crank = _geared(n, rng, uniform(rng, 22.0, 45.0), uniform(rng, 80.0, 190.0)) * pitch
        levels = harmonics(rng, float(crank.max()), uniform(rng, 0.6, 1.1), 0.6)
        levels[1::2] *= log_uniform(rng, 2.0, 6.0)
        howl = wave(turns_of(crank * rough(n, rng, 8.0, 0.006)), levels, rng)
        intake = [log_uniform(rng, 150.0, 400.0), log_uniform(rng, 500.0, 1_200.0), log_uniform(rng, 1_500.0, 3_500.0)]
        out = unit(resonate(howl, intake, [120.0, 300.0, 700.0], rng.uniform(0.3, 1.0, 3).tolist()))
        out += uniform(rng, 0.1, 0.6) * howl
    wind = shaped_noise(n, rng, [60, 500, 2_500, 7_000], [-8, 0, -8, -25])
    return afar((out + uniform(rng, 0.05, 0.4) * wind) * loud, rng)


def _joints(n: int, rng: Rng, speed: float) -> tuple[Curve, Curve]:
    """Moments and levels at which the axles of wagon after wagon hit a joint of the rails: da-dam, da-dam."""
    axle, bogie, wagon = uniform(rng, 1.8, 2.8), uniform(rng, 8.0, 17.0), uniform(rng, 18.0, 27.0)
    num = int(n / RATE * speed / wagon) + 3
    start = wagon * (np.arange(num) - rng.random() - 1.0)
    within = np.array([0.0, axle, bogie, bogie + axle])
    moments = (start[:, None] + within).ravel() / speed + 0.004 * rng.standard_normal(4 * num)
    moments = np.concatenate([[0.02], moments])
    return moments, np.tile(rng.uniform(0.5, 1.0, 4), num + 1)[: len(moments)] * scattered(rng, len(moments), 2.5)


def _wagons(rng: Rng, duration_s: float) -> Samples:
    """A train rolls by: clacks at the joints, wagons that roar one by one, a rumble in the ground, perhaps a diesel."""
    n, speed = num_samples(duration_s), log_uniform(rng, 7.0, 32.0)
    moments, levels = _joints(n, rng, speed)
    rail = rng.uniform(90.0, 2_600.0, 9)
    clack = modes(3_000, rail, rng.uniform(0.03, 0.16, 9), rng.uniform(0.3, 1.0, 9) * (300.0 / (200.0 + rail)) ** 0.5)
    out = uniform(rng, 0.6, 1.6) * tamed(struck(n, moments, levels, clack))
    roll = shaped_noise(n, rng, [30, 150, 900, 2_500, 6_500], [-3, 0, uniform(rng, -8, 2), -10, -30])
    near = 1.0 + uniform(rng, 0.2, 0.8) * np.cos(2.0 * np.pi * (times(n) * speed / uniform(rng, 18, 27) + rng.random()))
    out += unit(roll * near * rough(n, rng, 5.0, 0.2)) * uniform(rng, 0.5, 1.2)
    out += uniform(rng, 0.2, 1.0) * unit(lowpass(noise(n, rng), uniform(rng, 60.0, 140.0)))
    if rng.random() < 0.4:
        hum = wave(turns_of(np.full(n, uniform(rng, 9.0, 18.0))), harmonics(rng, 60.0, 0.7, 0.6), rng)
        out += uniform(rng, 0.2, 0.7) * hum
    return afar(out, rng) * (passing(n, rng)[0] if rng.random() < 0.5 else rough(n, rng, 0.5, 0.1))


def _rails(rng: Rng, duration_s: float) -> Samples:
    """A tram or an underground: motors that sing as it speeds up or slows, wheels that hiss, flanges that squeal."""
    n = num_samples(duration_s)
    speed = curve(n, rng.uniform(0.3, 1.0, int(duration_s / 6.0) + 2).tolist())
    sing = turns_of(log_uniform(rng, 160.0, 900.0) * speed)
    motor = wave(sing, harmonics(rng, 900.0, 0.9, 0.6), rng) + 0.5 * wave(
        sing * uniform(rng, 2.2, 3.6), np.ones(1), rng
    )
    roar = shaped_noise(n, rng, [40, 250, 1_000, 3_000, 7_000], [-2, 0, uniform(rng, -6, 3), -8, -25])
    grind = unit(bandpass(noise(n, rng), 700.0, 2_500.0, 1)) * np.maximum(drift(n, rng, 3.0), 0.0)
    pitch = log_uniform(rng, 900.0, 3_600.0) * (1.0 + 0.012 * drift(n, rng, 2.0))
    bite = np.maximum(drift(n, rng, uniform(rng, 0.5, 2.0)) - uniform(rng, -0.5, 0.8), 0.0)
    squeal = wave(turns_of(pitch), harmonics(rng, float(pitch.max()), 1.0, 0.5), rng)
    squeal += 0.6 * wave(turns_of(pitch * uniform(rng, 1.2, 1.9)), np.ones(1), rng)
    joints = struck(n, *_joints(n, rng, 16.0), modes(1_500, rng.uniform(80, 900, 5), [0.06] * 5, np.ones(5)))
    out = roar * (0.3 + 0.7 * speed) + uniform(rng, 0.1, 0.8) * motor + uniform(rng, 0.0, 0.8) * squeal * bite
    return afar(out + uniform(rng, 0.1, 0.6) * grind + uniform(rng, 0.1, 0.7) * joints, rng)


def _steam(rng: Rng, duration_s: float) -> Samples:
    """A steam engine: four puffs a turn, one stronger, faster and faster; pipes hiss and rods clank."""
    n = num_samples(duration_s)
    rate = log_uniform(rng, 2.0, 9.0) * curve(n, [1.0, log_uniform(rng, 0.7, 1.7)])
    turn = turns_of(rate, rng.random())
    since = turn % 1.0
    strong = rng.uniform(0.5, 1.0, 4)[turn.astype(np.int64) % 4]
    puff = np.minimum(since * 12.0, 1.0) * np.exp(-since * uniform(rng, 2.5, 6.0)) * strong
    steam = shaped_noise(n, rng, [60, 250, 900, 3_500, 7_000], [-8, 0, uniform(rng, -8, 0), -12, -25])
    out = unit(steam * puff) + uniform(rng, 0.05, 0.3) * unit(highpass(noise(n, rng), 2_500.0, 1))
    moments = moments_of(turn, rng, 0.02)
    clank = modes(2_000, rng.uniform(200.0, 2_500.0, 6), rng.uniform(0.03, 0.12, 6), rng.uniform(0.3, 1.0, 6))
    out += uniform(rng, 0.1, 0.6) * struck(n, moments, scattered(rng, len(moments), 3.0), clank)
    roll = lowpass(noise(n, rng), uniform(rng, 150.0, 500.0))
    return afar((out + uniform(rng, 0.1, 0.5) * unit(roll)) * swell(n, 0.02, 0.02), rng)


ENGINES: dict[str, tuple[Variant, ...]] = {
    "airplane": (_propeller, _jet),
    "engine": (_diesel, _orders),
    "chainsaw": (_saw_in_wood, _saw_scream),
    "motorcycle": (_v_twin, _sport_bike),
    "train": (_wagons, _rails, _steam),
}
"""By the kind's name."""
