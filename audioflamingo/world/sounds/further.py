"""A further algorithm, for training alone, of kinds that unknown renderings were often mistaken for others of.

See `more`. Each is written from what happens in the thing that sounds, apart from the held-out algorithm of its kind.
"""

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
    partials,
    phase,
    place,
    resonate,
    shaped_noise,
    swell,
    times,
    uniform,
    unit,
    wander,
)


def _reeds(n: int, rng: Rng, tones_hz: list[float], slope: float, low_hz: float, high_hz: float) -> Curve:
    """Blown tongues that start together, through a trumpet that favours a band."""
    out = np.zeros(n)
    for hz in tones_hz:
        f0 = hz * (1.0 - uniform(rng, 0.0, 0.04) * decay(n, 0.15) + 0.001 * wander(n, rng, 4.0))
        out += partials(n, f0, (np.arange(1.0, 15.0) ** -slope).tolist())
    return unit(out) + uniform(rng, 0.3, 1.5) * unit(bandpass(out, low_hz, high_hz))


def _two_tone_horn(rng: Rng, duration_s: float) -> Samples:
    """A car: two reeds about a third apart, or one."""
    n, low = num_samples(duration_s), uniform(rng, 280.0, 520.0)
    tones = [low, low * uniform(rng, 1.18, 1.34)][: int(rng.integers(1, 3))]
    band = log_uniform(rng, 1_200.0, 3_000.0)
    horn = _reeds(n, rng, tones, uniform(rng, 0.3, 1.2), 0.8 * band, 1.3 * band)
    return horn * swell(n, min(0.03 / duration_s, 0.3), min(0.06 / duration_s, 0.3))


def _air_horns(rng: Rng, duration_s: float) -> Samples:
    """A train: three to five air horns in a chord, slow to speak, in the open."""
    n, low = num_samples(duration_s), uniform(rng, 220.0, 370.0)
    chord = [1.0, 1.19, 1.335, 1.5, 1.68][: int(rng.integers(3, 6))]
    horn = _reeds(n, rng, [low * one for one in chord], uniform(rng, 0.6, 1.3), 600.0, uniform(rng, 1_200.0, 2_400.0))
    air = bandpass(noise(n, rng), 400.0, 3_000.0, 1)
    return (horn + uniform(rng, 0.05, 0.3) * unit(air)) * swell(n, uniform(rng, 0.06, 0.2), uniform(rng, 0.1, 0.3))


def _motor_under_load(rng: Rng, duration_s: float) -> Samples:
    """A drill: gears whine, sag under load, and chips rattle; some hammer."""
    n, idle = num_samples(duration_s), log_uniform(rng, 140.0, 520.0)
    load = curve(n, [0.3, 1.0, *rng.uniform(0.6, 1.0, 4), 0.9])
    speed = idle * load * (1.0 + 0.01 * wander(n, rng, 12.0))
    whine = partials(n, speed, (rng.uniform(0.2, 1.0, 14) * np.arange(1.0, 15.0) ** -0.4).tolist())
    gear = np.sin(phase(speed * uniform(rng, 4.3, 9.7)))
    chips = highpass(noise(n, rng), uniform(rng, 1_200.0, 3_500.0)) * (1.0 + 0.5 * wander(n, rng, 30.0))
    out = unit(whine) + uniform(rng, 0.2, 0.8) * gear + uniform(rng, 0.2, 1.0) * unit(chips)
    if rng.random() < 0.3:
        out = out * (0.25 + np.maximum(np.sin(phase(np.full(n, uniform(rng, 25.0, 60.0)))), 0.0))
    return out * swell(n, 0.08, 0.1)


def _blown(rng: Rng, duration_s: float) -> Samples:
    """Somebody whistles a call: a sine that bends, with a narrow band of air around it."""
    n = num_samples(duration_s)
    f0 = log_uniform(rng, 900.0, 3_200.0) * curve(n, rng.uniform(0.75, 1.35, int(rng.integers(2, 5))).tolist())
    if rng.random() < 0.4:  # the pea of a referee's
        f0 = f0 * (1.0 + uniform(rng, 0.02, 0.06) * np.sin(phase(np.full(n, uniform(rng, 25.0, 60.0)))))
    air = unit(lowpass(noise(n, rng), uniform(rng, 40.0, 200.0)))
    return np.sin(phase(f0)) * (1.0 + uniform(rng, 0.1, 0.7) * air) * swell(n, 0.1, 0.15) + 0.02 * noise(n, rng)


def _gusts(rng: Rng, duration_s: float) -> Samples:
    """Wind: wide noise whose loudness and brightness rise and fall together, with a howl at some edge."""
    n = num_samples(duration_s)
    gust = np.clip(0.5 + 0.35 * wander(n, rng, uniform(rng, 0.4, 1.2)), 0.05, 1.5)
    low = shaped_noise(n, rng, [30, 150, 600, 3_000], [0, -3, -15, -40])
    high = shaped_noise(n, rng, [100, 500, 1_500, 5_000], [-12, 0, -8, -30])
    edge = log_uniform(rng, 250.0, 900.0)
    howl = unit(bandpass(noise(n, rng), 0.93 * edge, 1.07 * edge))
    return gust * low + uniform(rng, 0.4, 1.0) * gust**2 * high + uniform(rng, 0.0, 0.6) * gust**3 * howl


def _hands(rng: Rng, duration_s: float) -> Samples:
    """Applause: a few dozen people, each clapping at a rate of his own with hands of his own."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    for _ in range(int(rng.integers(12, 45))):
        hollow, near = log_uniform(rng, 500.0, 2_200.0), uniform(rng, 0.15, 1.0)
        clap = bandpass(noise(320, rng), 0.7 * hollow, 1.9 * hollow, 1) * decay(320, uniform(rng, 0.006, 0.02))
        clock, every = uniform(rng, 0.0, 0.3), uniform(rng, 0.18, 0.34)
        while clock < duration_s:
            place(out, clap, clock, near * uniform(rng, 0.6, 1.0))
            clock += every * uniform(rng, 0.88, 1.12)
    return np.asarray(out + 0.1 * out.std() * unit(lowpass(noise(n, rng), 2_000.0)))


def _firing(rng: Rng, duration_s: float, rates_hz: tuple[float, float], exhaust_hz: tuple[float, float]) -> Curve:
    """Explosions in cylinders, each through a pipe: pulses of noise, uneven, faster and slower as the hand turns."""
    n = num_samples(duration_s)
    rate = log_uniform(rng, *rates_hz) * curve(n, rng.uniform(0.7, 1.5, int(rng.integers(2, 6))).tolist())
    turn = np.cumsum(rate) / RATE
    since = turn % 1.0
    level = rng.uniform(0.7, 1.0, 4)[(turn.astype(np.int64) % 4)]
    bang = np.exp(-since * uniform(rng, 4.0, 9.0)) * level * (0.4 + unit(lowpass(noise(n, rng), 1_500.0)))
    pipe = log_uniform(rng, *exhaust_hz)
    return unit(resonate(bang, [pipe, 2.1 * pipe, 3.3 * pipe], [60, 120, 250], [1.0, 0.7, 0.4])) + 0.3 * unit(bang)


def _rider(rng: Rng, duration_s: float) -> Samples:
    """A motorcycle that is revved."""
    return _firing(rng, duration_s, (22.0, 75.0), (110.0, 320.0))


def _throat(rng: Rng, duration_s: float) -> Samples:
    """A snore: the soft palate flaps in the breath that is drawn in; breath that leaves hisses softly."""
    n = num_samples(duration_s)
    inward = curve(n, [0.0, 1.0, 0.7, 0.0, 0.0], [0.0, 0.25, 0.5, 0.58, 1.0])
    flap = phase(uniform(rng, 24.0, 70.0) * (1.0 + 0.15 * wander(n, rng, 5.0)))
    pulses = np.maximum(np.sin(flap), 0.0) ** uniform(rng, 2.0, 6.0)
    source = pulses * (0.5 + unit(lowpass(noise(n, rng), 1_800.0))) * inward
    voice = resonate(
        source, [uniform(rng, 180, 350), uniform(rng, 600, 1_100), 2_200.0], [90, 150, 300], [1.0, 0.6, 0.2]
    )
    out_breath = curve(n, [0.0, 0.0, 1.0, 0.0], [0.0, 0.6, 0.75, 1.0])
    return unit(voice) + uniform(rng, 0.05, 0.3) * out_breath * shaped_noise(n, rng, [200, 900, 4_000], [-10, 0, -20])


def _chest(rng: Rng, duration_s: float) -> Samples:
    """A cough: glottis bursts open, air roars for a tenth of a second, a hoarse voice closes it."""
    n = num_samples(duration_s)
    mouth = [uniform(rng, 450, 750), uniform(rng, 1_100, 1_700), uniform(rng, 2_300, 2_900), 3_900.0]
    roar = noise(n, rng) * decay(n, uniform(rng, 0.12, 0.3), 0.006)
    f0 = log_uniform(rng, 110.0, 330.0) * curve(n, [1.3, 1.0, 0.7]) * (1.0 + 0.05 * wander(n, rng, 60.0))
    after = curve(n, [0.0, 0.0, 1.0, 0.5, 0.0], [0.0, 0.12, 0.25, 0.5, 0.8])
    hoarse = partials(n, f0, (np.arange(1.0, 20.0) ** -0.8).tolist()) * after
    source = unit(roar) + uniform(rng, 0.1, 0.6) * unit(hoarse)
    return resonate(source, mouth, [120, 150, 200, 300], [1.0, 0.9, 0.6, 0.5]) + 0.15 * source


def _bells_of_phone(rng: Rng, duration_s: float) -> Samples:
    """A telephone: a clapper between two small bells, or two tones that alternate."""
    n = num_samples(duration_s)
    rate, low = uniform(rng, 14.0, 26.0), log_uniform(rng, 700.0, 1_700.0)
    out, clock, side = np.zeros(n), 0.0, 0
    electric = rng.random() < 0.5
    while clock < duration_s:
        f0 = low * (1.0, 1.19)[side]
        num = num_samples(1.0 / rate if electric else 0.4)
        if electric:
            one = partials(num, np.full(num, f0), [1.0, 0.3, 0.2]) * swell(num, 0.05, 0.05)
        else:
            one = modes(num, [f0, 2.7 * f0, 4.1 * f0], [0.5, 0.3, 0.2], [1.0, 0.6, 0.4])
        place(out, one, clock, uniform(rng, 0.8, 1.0))
        clock, side = clock + 1.0 / rate, 1 - side
    return out


def _pane(rng: Rng, duration_s: float) -> Samples:
    """Glass: a crack, then splinters that ring high as they fall, fewer and fewer."""
    n = num_samples(duration_s)
    out = np.zeros(n)
    crack = highpass(noise(n, rng), uniform(rng, 700.0, 2_000.0)) * decay(n, uniform(rng, 0.05, 0.2))
    place(out, unit(crack), 0.0, 2.0)
    for moment in rng.exponential(duration_s / 5, int(rng.integers(15, 60))):
        hz = log_uniform(rng, 1_800.0, 6_800.0)
        splinter = modes(1_600, [hz, hz * 1.53, hz * 2.31], [0.08, 0.05, 0.03], [1.0, 0.6, 0.4])
        place(out, splinter, float(moment), log_uniform(rng, 0.05, 0.8))
    return out


def _rotor(rng: Rng, duration_s: float) -> Samples:
    """A helicopter: every blade slaps the air, a turbine whines above."""
    n, rate = num_samples(duration_s), uniform(rng, 9.0, 24.0)
    since = (times(n) * rate) % 1.0
    slap = lowpass(noise(n, rng), uniform(rng, 250.0, 900.0)) * np.exp(-since * uniform(rng, 2.5, 7.0))
    thump = np.sin(2.0 * np.pi * np.minimum(since * 2.5, 1.0))
    whine = np.sin(phase(uniform(rng, 900.0, 3_000.0) * (1.0 + 0.002 * wander(n, rng, 3.0))))
    return unit(slap) + uniform(rng, 0.2, 0.8) * thump + uniform(rng, 0.0, 0.12) * whine


def _wail(rng: Rng, duration_s: float) -> Samples:
    """A siren: up and down smoothly, fast or slow, or by two notes, of an electronic horn."""
    n = num_samples(duration_s)
    low, high = uniform(rng, 380.0, 750.0), uniform(rng, 950.0, 1_700.0)
    turn = times(n) * log_uniform(rng, 0.2, 4.0) + rng.random()
    course = 0.5 - 0.5 * np.cos(2.0 * np.pi * turn)
    if rng.random() < 0.35:
        course, high = (course > 0.5).astype(np.float64), low * uniform(rng, 1.2, 1.4)
    f0 = low * (high / low) ** course
    return partials(n, f0, (np.arange(1.0, 12.0) ** -uniform(rng, 0.6, 2.0)).tolist())


FURTHER: dict[str, tuple[Variant, ...]] = {
    "applause": (_hands,),
    "car_horn": (_two_tone_horn,),
    "cough": (_chest,),
    "drill": (_motor_under_load,),
    "glass_breaking": (_pane,),
    "helicopter": (_rotor,),
    "motorcycle": (_rider,),
    "phone_ring": (_bells_of_phone,),
    "siren": (_wail,),
    "snoring": (_throat,),
    "train_horn": (_air_horns,),
    "whistle": (_blown,),
    "wind": (_gusts,),
}
"""By the kind's name."""
