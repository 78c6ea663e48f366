"""Machines, horns, sirens and whistles, from what spins, hammers, chops or blows in them; for training alone."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.synthesis import (
    RATE,
    Curve,
    Rng,
    Samples,
    bandpass,
    cloud,
    convolve,
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
    sine,
    smooth,
    swell,
    times,
    uniform,
    unit,
)
from audioflamingo.world.sounds.yet_tools import (
    afar,
    drift,
    echoes,
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


def _spin(rng: Rng, duration_s: float) -> Samples:
    """A washing machine spins: the drum's imbalance thuds, the belt's motor whines far above it, the panels rattle."""
    n = num_samples(duration_s)
    ramp = curve(n, [uniform(rng, 0.3, 1.0), uniform(rng, 0.8, 1.0), uniform(rng, 0.5, 1.0)], [0.0, 0.5, 1.0])
    rate = log_uniform(rng, 5.0, 21.0) * ramp * rough(n, rng, 0.7, 0.01)
    turn = turns_of(rate, rng.random())
    thud = wave(turn, harmonics(rng, 120.0, uniform(rng, 0.2, 1.2), 0.6)[:30], rng, uniform(rng, 0.0, 1.0))
    motor = turn * uniform(rng, 9.0, 15.0)
    whine = wave(motor, harmonics(rng, float(rate.max()) * 15.0, uniform(rng, 0.3, 1.0), 0.9), rng)
    whine *= 1.0 + uniform(rng, 0.1, 0.6) * np.sin(2.0 * np.pi * turn)
    panel = modes(1_500, rng.uniform(120.0, 1_800.0, 7), rng.uniform(0.02, 0.09, 7), rng.uniform(0.2, 1.0, 7))
    moments = moments_of(turn, rng, 0.06)
    rattle = struck(n, moments, scattered(rng, len(moments), 5.0), panel)
    rush = shaped_noise(n, rng, [50, 200, 800, 3_000, 7_000], [-4, 0, uniform(rng, -10, 2), -12, -30])
    rush *= 1.0 + uniform(rng, 0.1, 0.5) * np.sin(2.0 * np.pi * turn + 1.0)
    out = uniform(rng, 0.4, 1.2) * thud + uniform(rng, 0.2, 0.9) * unit(whine) + uniform(rng, 0.1, 0.8) * rattle
    return afar(out + uniform(rng, 0.3, 0.9) * unit(rush), rng)


def _bubbles(rng: Rng, num: int) -> list[Curve]:
    """Drops and bubbles in a drum, each a short sine that rises."""
    out = []
    for _ in range(num):
        length = num_samples(uniform(rng, 0.02, 0.09))
        pitch = log_uniform(rng, 250.0, 1_800.0) * curve(length, [1.0, uniform(rng, 1.0, 1.6)])
        out.append(np.asarray(np.sin(2.0 * np.pi * turns_of(pitch)) * decay(length, length / RATE, 0.002)))
    return out


def _tumble(rng: Rng, duration_s: float) -> Samples:
    """A washing machine washes: the motor turns a while, rests, turns back; water sloshes, buttons and zips knock."""
    n, period = num_samples(duration_s), uniform(rng, 3.0, 12.0)
    place_in = (times(n) / period + rng.random()) % 1.0
    turning = smooth(((place_in > 0.12) & (place_in < uniform(rng, 0.7, 1.0))).astype(np.float64), 1.5)
    pitch = log_uniform(rng, 180.0, 850.0) * (0.25 + 0.75 * turning) * rough(n, rng, 3.0, 0.012)
    whine = wave(turns_of(pitch), harmonics(rng, 900.0, uniform(rng, 0.5, 1.4), 0.8), rng)
    whine *= 1.0 + uniform(rng, 0.1, 0.5) * sine(n, uniform(rng, 4.0, 15.0))
    slosh = bandpass(noise(n, rng), uniform(rng, 90, 250), uniform(rng, 700, 2_500), 1)
    slosh = tamed(slosh * np.exp(uniform(rng, 0.6, 1.4) * drift(n, rng, uniform(rng, 1.0, 2.5))))
    wet = tamed(cloud(n, rng, uniform(rng, 8.0, 60.0), _bubbles(rng, 3)) + 0.1 * slosh)
    drum = modes(2_400, rng.uniform(90.0, 1_500.0, 6), rng.uniform(0.04, 0.14, 6), rng.uniform(0.3, 1.0, 6))
    knocks = moments_of(turns_of((0.3 + 2.5 * turning) * uniform(rng, 0.5, 1.6)), rng, 0.25)
    fall = tamed(struck(n, np.abs(knocks), scattered(rng, len(knocks), 4.0), drum))
    mains = wave(turns_of(np.full(n, float(rng.choice((100.0, 120.0))))), harmonics(rng, 900.0, 0.6, 0.8), rng)
    out = uniform(rng, 0.2, 1.0) * unit(whine) * (0.05 + turning) + uniform(rng, 0.4, 1.0) * slosh
    return afar(
        out + uniform(rng, 0.1, 0.7) * wet + uniform(rng, 0.1, 0.7) * fall + uniform(rng, 0.05, 0.4) * mains, rng
    )


def _trigger(n: int, rng: Rng) -> Curve:
    """(n,) a drill's trigger: held, or pulled again and again; it starts from rest."""
    on = (hand(n, rng, -0.6, 1.0, uniform(rng, 0.5, 1.5)) > 0.0) if rng.random() < 0.4 else np.ones(n, np.bool_)
    return np.maximum(smooth(on.astype(np.float64), log_uniform(rng, 0.8, 5.0)), 0.1)


def _gears(rng: Rng, duration_s: float) -> Samples:
    """A drill: brushes sing on the commutator, teeth mesh with sidebands, the bit loads them and the wall rings."""
    n = num_samples(duration_s)
    pulled = _trigger(n, rng)
    speed = (
        log_uniform(rng, 90.0, 420.0) * pulled * (1.0 - uniform(rng, 0.0, 0.4) * hand(n, rng, -1, 1, 0.7).clip(0, 1))
    )
    turn = turns_of(speed * rough(n, rng, 20.0, 0.008))
    top = float(speed.max())
    brushes = wave(turn, harmonics(rng, top, uniform(rng, 0.0, 0.8), 0.7), rng)
    teeth = int(rng.integers(4, 12))
    mesh = wave(turn * teeth, harmonics(rng, top * teeth, uniform(rng, 0.5, 1.5), 0.5), rng)
    mesh *= 1.0 + uniform(rng, 0.2, 0.9) * np.sin(2.0 * np.pi * turn)
    bit = 1.0 + 0.7 * np.sin(2.0 * np.pi * turn / uniform(rng, 8.0, 20.0))
    hz = [log_uniform(rng, 200, 600), log_uniform(rng, 700, 2_000), log_uniform(rng, 2_500, 6_000)]
    scrape = noise(n, rng) * bit
    wall = unit(resonate(scrape, hz, [80.0, 300.0, 1_200.0], rng.uniform(0.2, 1.0, 3).tolist()))
    out = uniform(rng, 0.3, 1.0) * brushes + uniform(rng, 0.3, 1.2) * unit(mesh) + uniform(rng, 0.2, 0.9) * wall
    return afar(out * pulled, rng)


def _hammer_drill(rng: Rng, duration_s: float) -> Samples:
    """A hammer drill in a wall: blow after blow that makes the stone and the room ring, dust, and a labouring motor."""
    n = num_samples(duration_s)
    pulled = _trigger(n, rng)
    blows = log_uniform(rng, 22.0, 75.0) * (0.15 + 0.85 * pulled) * rough(n, rng, 2.0, 0.03)
    turn = turns_of(blows)
    moments = moments_of(turn, rng, 0.02)
    hz = np.exp(rng.uniform(np.log(180.0), np.log(6_000.0), 10))
    blow = modes(1_600, hz, rng.uniform(0.01, 0.06, 10), rng.uniform(0.2, 1.0, 10))
    blow[:200] += uniform(rng, 0.5, 3.0) * noise(200, rng) * decay(200, 0.01)
    out = struck(n, moments, scattered(rng, len(moments), 2.0), blow)
    motor = wave(turn * uniform(rng, 4.0, 9.0), harmonics(rng, 500.0, uniform(rng, 0.2, 0.9), 0.7), rng)
    dust = highpass(noise(n, rng), uniform(rng, 1_500.0, 4_000.0), 1) * (0.3 + np.exp(-5.0 * (turn % 1.0)))
    out += uniform(rng, 0.1, 0.8) * motor + uniform(rng, 0.1, 0.5) * unit(dust)
    return echoes(out * pulled, rng, 0.15, uniform(rng, 0.0, 0.4))


def _air_raid(rng: Rng, duration_s: float) -> Samples:
    """A siren with a rotor: holes chop the air in two rows, spun up by a heavy motor and let go again, over a town."""
    n, cycle_s = num_samples(duration_s), log_uniform(rng, 4.0, 14.0)
    on = ((times(n) / cycle_s + rng.random()) % 1.0) < uniform(rng, 0.4, 1.1)
    spin = 0.25 + 0.75 * smooth(on.astype(np.float64) - 0.5, uniform(rng, 0.06, 0.25)) + 0.375
    rotor = turns_of(uniform(rng, 28.0, 65.0) * np.maximum(spin, 0.15))
    rows = ((10, 12), (8, 12), (9, 12), (12, 12), (5, 6), (12, 16))[int(rng.integers(6))]
    slope = uniform(rng, 0.8, 2.0)
    out = sum((wave(rotor * row, harmonics(rng, 900.0, slope, 0.3), rng, 0.3) for row in rows), np.zeros(n))
    out += uniform(rng, 0.0, 0.3) * unit(shaped_noise(n, rng, [100, 800, 4_000], [-10, 0, -20])) * spin
    return afar(out * (0.3 + 0.7 * spin / spin.max()), rng) * rough(n, rng, 1.0, 0.1)


def _course(n: int, rng: Rng, mode: str) -> Curve:
    """(n,) from 0 to 1, how an electronic siren runs between its lowest and its highest pitch."""
    if mode == "hi-lo":
        return np.asarray(((times(n) * uniform(rng, 0.7, 2.2) + rng.random()) % 1.0) < 0.5, np.float64)
    rate = {"wail": uniform(rng, 0.12, 0.5), "yelp": uniform(rng, 1.8, 5.0), "phaser": uniform(rng, 8.0, 20.0)}[mode]
    place_in, share = (times(n) * rate + rng.random()) % 1.0, uniform(rng, 0.15, 0.85)
    up = (1.0 - np.exp(-2.5 * place_in / share)) / (1.0 - np.exp(-2.5))
    down = (np.exp(-2.5 * (place_in - share) / (1.0 - share)) - np.exp(-2.5)) / (1.0 - np.exp(-2.5))
    return np.asarray(np.where(place_in < share, up, down))


def _patrol(rng: Rng, duration_s: float) -> Samples:
    """A siren of police or ambulance: a clipped tone charged and discharged, in one mode or two, as the car passes."""
    n = num_samples(duration_s)
    low, high = log_uniform(rng, 350.0, 800.0), log_uniform(rng, 1_100.0, 2_000.0)
    modes_of = ["wail", "yelp", "hi-lo", "phaser"]
    first, second = (_course(n, rng, modes_of[i]) for i in rng.choice(4, 2, p=(0.35, 0.3, 0.25, 0.1)))
    switch = times(n) % uniform(rng, 3.0, 12.0) < uniform(rng, 1.0, 20.0)
    loud, pitch = passing(n, rng)
    f0 = low * (high / low) ** smooth(np.where(switch, first, second), 60.0) * pitch
    tone = wave(turns_of(f0), harmonics(rng, float(f0.max()), uniform(rng, 0.3, 1.5), 0.3), rng)
    if rng.random() < 0.5:
        tone = np.tanh(uniform(rng, 1.0, 4.0) * tone)
    horn = log_uniform(rng, 700.0, 2_500.0)
    out = unit(tone) + uniform(rng, 0.3, 1.5) * unit(bandpass(tone, 0.7 * horn, 1.5 * horn, 1))
    street = shaped_noise(n, rng, [50, 300, 2_000], [0, -4, -25])
    return echoes(out * loud, rng, 0.4, uniform(rng, 0.0, 0.5)) + uniform(rng, 0.0, 0.15) * street


CHORDS = (
    (311, 370, 415, 494, 622),
    (277, 329, 392, 440, 554),
    (255, 311, 440),
    (370, 466, 554),
    (311, 370),
    (300, 660),
)


def _valley(x: Curve, rng: Rng) -> Curve:
    """The answer of a wide land: noise that dies slowly."""
    num = num_samples(uniform(rng, 0.3, 1.5))
    tail = lowpass(noise(num, rng), log_uniform(rng, 800.0, 4_000.0), 1) * decay(num, num / RATE, 0.02)
    return np.asarray(unit(x) + uniform(rng, 0.0, 0.6) * unit(convolve(x, tail)))


def _blasts(n: int, rng: Rng) -> Curve:
    """(n,) one long blast, or long and short ones, in level."""
    num = 1 if n < 1.5 * RATE or rng.random() < 0.5 else int(rng.integers(2, 4))
    edges = np.cumsum(rng.uniform(0.4, 1.5, num))
    place_in = np.linspace(0.0, float(edges[-1]) + 0.01, n)
    on = np.ones(n)
    for edge in edges[:-1]:
        on[np.abs(place_in - edge) < 0.1] = 0.0
    on[: num_samples(0.01)] = on[-num_samples(0.06) :] = 0.0
    return smooth(on, uniform(rng, 4.0, 14.0))


def _chord(rng: Rng, duration_s: float) -> Samples:
    """A locomotive's horn: diaphragms of a known chord that beat, each slow in its own way, heard near or far off."""
    n, shift = num_samples(duration_s), log_uniform(rng, 0.8, 1.25)
    on, pitch = _blasts(n, rng), passing(n, rng)[1]
    slope, out = uniform(rng, 0.1, 1.0), np.zeros(n)
    for hz in CHORDS[int(rng.integers(len(CHORDS)))]:
        speaks = smooth(on, uniform(rng, 2.0, 12.0))
        f0 = hz * shift * pitch * uniform(rng, 0.99, 1.01) * (0.97 + 0.03 * np.minimum(speaks * 1.3, 1.0))
        levels = harmonics(rng, float(f0.max()), slope, 0.4)
        out += uniform(rng, 0.5, 1.0) * speaks * wave(turns_of(f0), levels, rng, uniform(rng, 0.0, 1.0))
    return afar(_valley(out, rng), rng)


def _trumpet(rng: Rng, duration_s: float) -> Samples:
    """A train's horn as puffs of air, each a little uneven, that excite a flared trumpet and its hiss."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    on, low = _blasts(n, rng), log_uniform(rng, 140.0, 420.0)
    for ratio in (1.0, *rng.choice((1.125, 1.2, 1.26, 1.335, 1.5, 1.6, 2.0), int(rng.integers(0, 3)), replace=False)):
        f0 = low * float(ratio) * (0.93 + 0.07 * smooth(on, 8.0)) * rough(n, rng, 5.0, 0.003)
        bore = low * float(ratio) * np.arange(1.0, 13.0)
        spread = np.exp(-((np.log(bore / log_uniform(rng, 500.0, 1_800.0))) ** 2) / uniform(rng, 0.6, 3.0))
        kernel = modes(700, bore, np.full(12, uniform(rng, 0.012, 0.04)), spread + 0.03)
        moments = moments_of(turns_of(f0), rng, log_uniform(rng, 0.0005, 0.005))
        out += struck(n, moments, scattered(rng, len(moments), 0.7), kernel) * uniform(rng, 0.5, 1.0)
    hiss = bandpass(noise(n, rng), 800.0, 5_000.0, 1)
    return afar(_valley((out + uniform(rng, 0.02, 0.3) * unit(hiss)) * on, rng), rng)


def _pea(rng: Rng, duration_s: float) -> Samples:
    """A referee's whistle: two chambers that beat, a pea that shuts them tens of times a second, a hard breath."""
    n = num_samples(duration_s)
    breath = swell(n, 0.04, 0.1) * (1.0 if rng.random() < 0.6 else curve(n, [0.4, 1.0, 0.7, 1.0]))
    turn = turns_of(uniform(rng, 18.0, 48.0) * (0.7 + 0.3 * breath) * rough(n, rng, 12.0, 0.1))
    shut = (0.5 + 0.5 * np.sin(2.0 * np.pi * turn)) ** uniform(rng, 0.5, 3.0) * float(rng.choice((0.0, 1.0, 1.0)))
    f0 = log_uniform(rng, 1_700.0, 3_900.0) * (0.9 + 0.1 * breath) * (1.0 - uniform(rng, 0.01, 0.07) * shut)
    tone = wave(turns_of(f0), harmonics(rng, float(f0.max()), uniform(rng, 1.2, 2.5)), rng)
    tone += uniform(rng, 0.0, 1.0) * np.sin(2.0 * np.pi * turns_of(f0 * uniform(rng, 1.01, 1.12)))
    shrill = 1.0 + uniform(rng, 0.1, 0.5) * unit(lowpass(noise(n, rng), log_uniform(rng, 60.0, 600.0)))
    air = bandpass(noise(n, rng), 1_500.0, 5_500.0, 1)
    out = tone * shrill * (1.0 - uniform(rng, 0.3, 0.9) * shut) + uniform(rng, 0.03, 0.2) * unit(air)
    return afar(out * breath, rng)


def _lips(n: int, rng: Rng) -> list[Curve]:
    """Two fingers or pursed lips: up, down, up and down, or a steady call."""
    bends = ((0.6, 1.0), (1.0, 1.0), (0.6, 1.1, 0.5), (1.0, 0.6), (0.8, 1.0, 0.8, 1.0), (0.5, 0.6, 1.2))
    bend = curve(n, bends[int(rng.integers(len(bends)))])
    return [log_uniform(rng, 1_000.0, 3_000.0) * smooth(bend - bend[0], 15.0) + log_uniform(rng, 1_000.0, 2_000.0)]


def _jet_of_air(rng: Rng, duration_s: float) -> Samples:
    """Air at an edge: lips, a kettle that comes to the boil, or the chimes of a steam whistle; tones born of noise."""
    n, kind = num_samples(duration_s), rng.random()
    if kind < 0.45:
        pitches, purity = _lips(n, rng), uniform(rng, 0.6, 1.0)
    elif kind < 0.75:
        pitches, purity = [log_uniform(rng, 1_200.0, 3_200.0) * curve(n, [uniform(rng, 0.8, 1.0), 1.0])], 0.6
    else:
        low, up = log_uniform(rng, 600.0, 1_300.0), curve(n, [0.93, 1.0, 1.0, 0.96], [0.0, 0.15, 0.85, 1.0])
        pitches, purity = [low * ratio * up for ratio in (1.0, 1.26, 1.5, 2.0)[: int(rng.integers(1, 5))]], 0.5
    out = np.zeros(n)
    for f0 in pitches:
        waver = 1.0 + uniform(rng, 0.001, 0.01) * drift(n, rng, uniform(rng, 5.0, 40.0))
        cloudy = lowpass(noise(n, rng), log_uniform(rng, 20.0, 150.0))
        swing = purity + (1.0 - purity) * unit(cloudy)
        out += (
            wave(turns_of(np.clip(f0 * waver, 500.0, 4_800.0)), harmonics(rng, 2_500.0, uniform(rng, 2.0, 4.5)), rng)
            * swing
        )
    centre = float(np.median(pitches[0]))
    air = bandpass(noise(n, rng), 0.7 * centre, min(1.8 * centre, 7_000.0), 1)
    return afar((unit(out) + uniform(rng, 0.02, 0.3) * unit(air)) * swell(n, uniform(rng, 0.03, 0.3), 0.15), rng)


MACHINES: dict[str, tuple[Variant, ...]] = {
    "washing_machine": (_spin, _tumble),
    "drill": (_gears, _hammer_drill),
    "siren": (_air_raid, _patrol),
    "train_horn": (_chord, _trumpet),
    "whistle": (_pea, _jet_of_air),
}
"""By the kind's name."""
