"""Algorithms for training alone: thunder, guns, fireworks and wind. See `apart`."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.apart_parts import (
    SOUND_M_PER_S,
    blast,
    diffuse,
    grains,
    heard,
    logs,
    n_wave,
    poisson,
    ramp,
    room,
    turbulence,
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
    smooth,
    strikes_at,
    swell,
    uniform,
    unit,
)


def _channel(rng: Rng, duration_s: float) -> Samples:
    """Thunder from its lightning: every piece of a crooked channel sends a shock, heard when it arrives."""
    n, num = num_samples(duration_s), int(rng.integers(150, 1_500))
    steps = rng.standard_normal((num, 3)) * [1.0, 1.0, 0.8] + [*rng.uniform(-0.8, 0.8, 2), uniform(rng, 0.1, 0.8)]
    nearest = log_uniform(rng, 60.0, 3_000.0)
    course = np.cumsum(steps, axis=0)
    spread = np.linalg.norm(course, axis=1).max()
    course = course * (uniform(rng, 0.5, 1.1) * SOUND_M_PER_S * duration_s / spread) + [nearest, 0.0, 0.0]
    meters = np.linalg.norm(course, axis=1)
    facing = np.abs(np.sum(steps * course, axis=1)) / (np.linalg.norm(steps, axis=1) * meters)
    strength = (1.0 - facing**2) ** 2 / meters * np.repeat(rng.lognormal(0.0, 0.8, num // 25 + 1), 25)[:num]
    arrive = (meters - meters.min()) / SOUND_M_PER_S
    out, far = np.zeros(n), np.argsort(meters)
    for part in np.array_split(far, 4):
        arrivals = strikes_at(n, arrive[part] + 0.01, strength[part])
        shocks = convolve(arrivals, n_wave(log_uniform(rng, 0.0012, 0.02)))
        out += lowpass(shocks, np.clip(1e6 / float(meters[part].mean()), 120.0, 7_000.0), 1)
    echo = convolve(out, diffuse(n, rng, uniform(rng, 1.0, 4.0), 0.4, 0.2))
    return heard(unit(out) + uniform(rng, 0.1, 0.9) * unit(echo), rng)


def _tearing(rng: Rng, duration_s: float) -> Samples:
    """Thunder that tears like cloth, bangs, and rolls between clouds; from afar it is the rolling alone."""
    n, bang_s = num_samples(duration_s), duration_s * uniform(rng, 0.03, 0.3)
    rolls = np.zeros(n)
    for moment in bang_s + rng.exponential(duration_s / 3.0, int(rng.integers(3, 12))):
        num = num_samples(uniform(rng, 0.2, 1.2))
        place(rolls, swell(num, uniform(rng, 0.01, 0.3), 0.7), float(moment), uniform(rng, 0.2, 1.0))
    place(rolls, decay(n, uniform(rng, 1.0, 4.0), 0.02), bang_s, 1.0)
    rolls = np.maximum(rolls, uniform(rng, 0.05, 0.3) * decay(n, uniform(rng, 4.0, 12.0), bang_s))
    deep = unit(lowpass(noise(n, rng), log_uniform(rng, 60.0, 200.0))) * rolls
    middle = unit(bandpass(noise(n, rng), 120.0, log_uniform(rng, 300.0, 1_200.0), 1)) * rolls**2
    out = deep + uniform(rng, 0.1, 0.8) * middle
    if rng.random() < 0.6:
        rips = bang_s * rng.power(2.5, int(rng.integers(20, 150)))
        torn = grains(n, rips, logs(rng, 300, 4_000, len(rips)), logs(rng, 0.005, 0.04, len(rips)), rips / bang_s)
        place(torn, blast(uniform(rng, 0.003, 0.012)), bang_s, 6.0)
        out += uniform(rng, 0.5, 2.0) * level(torn, 2.0)
    return heard(out, rng)


def _open_field(rng: Rng, duration_s: float) -> Samples:
    """A gun outdoors: the bullet's shock, the muzzle's blast, the ground, and what trees and walls throw back."""
    n, width = num_samples(duration_s), log_uniform(rng, 0.0002, 0.003)
    at = 0.005
    moments, levels = [at, at + uniform(rng, 0.001, 0.012)], [1.0, uniform(rng, 0.3, 0.8)]
    trees = at + 0.02 + rng.exponential(uniform(rng, 0.08, 0.5), int(rng.integers(200, 2_000)))
    scatter = strikes_at(n, trees, 0.25 * rng.standard_normal(len(trees)) * np.exp(-3.0 * trees))
    for echo_s in rng.uniform(0.08, 0.9, int(rng.integers(0, 5))).tolist():
        wall = at + echo_s + rng.exponential(uniform(rng, 0.004, 0.05), 60)
        scatter += strikes_at(n, wall, uniform(rng, 0.05, 0.5) * rng.standard_normal(60))
    shot = convolve(strikes_at(n, moments, levels), blast(width, uniform(rng, 0.6, 1.5)))
    woods = smooth(convolve(scatter, blast(2.0 * width)), log_uniform(rng, 400.0, 3_000.0))
    out = level(shot) + uniform(rng, 0.05, 0.4) * level(woods)
    if rng.random() < 0.5:
        place(out, n_wave(uniform(rng, 0.0003, 0.001)), 0.0, uniform(rng, 0.3, 1.2))
    gas = lowpass(noise(n, rng), log_uniform(rng, 800.0, 5_000.0), 1) * decay(n, uniform(rng, 0.05, 0.3), 0.001)
    out += uniform(rng, 0.02, 0.3) * level(gas)
    return np.tanh(heard(out, rng) * log_uniform(rng, 0.5, 12.0))


def _range_indoors(rng: Rng, duration_s: float) -> Samples:
    """A pistol between walls, some with a silencer: blast, slide forth and back, and the case that tinkles."""
    n = num_samples(duration_s)
    silenced = rng.random() < 0.3
    dry = np.zeros(n)
    puff = noise(n, rng) * decay(n, uniform(rng, 0.03, 0.12), 0.002 if silenced else 0.0003)
    puff = bandpass(puff, uniform(rng, 150, 500), uniform(rng, 1_500, 5_000), 1) if silenced else puff
    place(dry, level(puff), 0.0, uniform(rng, 0.2, 0.9))
    place(dry, blast(log_uniform(rng, 0.0004, 0.002)), 0.0, 0.1 if silenced else 1.0)
    for moment in (uniform(rng, 0.015, 0.05), uniform(rng, 0.06, 0.11)):
        clack = modes(900, rng.uniform(900, 5_500, 6), rng.uniform(0.01, 0.05, 6), rng.uniform(0.3, 1.0, 6))
        place(dry, level(clack), moment, uniform(rng, 0.2, 0.5) if silenced else uniform(rng, 0.02, 0.15))
    if rng.random() < 0.4:
        falls = uniform(rng, 0.3, 0.6) + np.cumsum(0.16 * 0.7 ** np.arange(5))
        place(dry, grains(n, falls, logs(rng, 3_500, 7_000, 5), logs(rng, 0.04, 0.2, 5), 0.05 * 0.7 ** np.arange(5)), 0)
    sizes = (uniform(rng, 2.5, 8.0), uniform(rng, 3.0, 25.0), uniform(rng, 2.2, 5.0))
    near = room(min(n, 6_400), rng, sizes, uniform(rng, 0.4, 0.9), log_uniform(rng, 900.0, 4_000.0))
    out = convolve(dry, near)
    far = convolve(dry, diffuse(n, rng, uniform(rng, 0.4, 1.8), uniform(rng, 0.2, 0.7)))
    return np.tanh((level(out) + uniform(rng, 0.05, 0.5) * level(far)) * log_uniform(rng, 0.5, 6.0))


def _salvo(rng: Rng, duration_s: float) -> Samples:
    """A display: shells that burst one after another, near and far, with echoes and crackling stars."""
    n = num_samples(duration_s)
    out = np.zeros(n)
    for _ in range(int(rng.integers(2, 9))):
        moment, far = uniform(rng, 0.0, 0.8) * duration_s, log_uniform(rng, 1.0, 8.0)
        bang = convolve(np.r_[blast(uniform(rng, 0.0015, 0.008)), np.zeros(12_000)], diffuse(8_000, rng, 0.9, 0.3))
        place(bang, 2.0 * np.abs(bang).max() * blast(uniform(rng, 0.002, 0.009)), 0.0)
        place(out, lowpass(level(bang), 8_000.0 / far, 1), moment, 1.5 / far + 0.3)
        if rng.random() < 0.5:
            pops = moment + uniform(rng, 0.2, 0.7) + rng.gamma(2.0, uniform(rng, 0.1, 0.3), int(rng.integers(30, 250)))
            sizes = 0.35 / far * rng.lognormal(-0.8, 0.6, len(pops))
            out += grains(n, pops, logs(rng, 900, 6_000, len(pops)), logs(rng, 0.004, 0.03, len(pops)), sizes)
    if rng.random() < 0.5:
        out += log_uniform(rng, 0.05, 0.6) * level(_screamer(n, rng))
    return heard(out + 0.01 * unit(lowpass(noise(n, rng), 600.0)), rng)


def _screamer(n: int, rng: Rng) -> Curve:
    """A whistling charge: burning in a tube that grows longer or shorter, harsh and unsteady."""
    num = min(n, num_samples(uniform(rng, 0.3, 1.2)))
    f0 = log_uniform(rng, 900.0, 2_600.0) * curve(num, [1.0, uniform(rng, 0.7, 1.8)])
    rough = 1.0 + 0.4 * unit(lowpass(noise(num, rng), 150.0))
    f0 = f0 * (1.0 + uniform(rng, 0.002, 0.03) * unit(lowpass(noise(num, rng), 40.0)))
    out = np.zeros(n)
    place(out, partials(num, f0, [1.0, 0.4, 0.3]) * rough * swell(num, 0.1, 0.3), uniform(rng, 0.0, (n - num) / RATE))
    return out


def _firecrackers(rng: Rng, duration_s: float) -> Samples:
    """A string of crackers in a street: a fuse hisses, bangs follow each other unevenly, walls answer; or rockets."""
    n = num_samples(duration_s)
    fuse_s = uniform(rng, 0.0, 0.3) * duration_s
    gaps = rng.gamma(uniform(rng, 0.6, 3.0), 1.0, 200)
    bangs = fuse_s + 0.01 + np.cumsum(gaps / gaps.mean()) / log_uniform(rng, 4.0, 40.0)
    bangs = bangs[bangs < duration_s * uniform(rng, 0.6, 1.0) + 0.02]
    dry = strikes_at(n, bangs, rng.lognormal(0.0, 0.5, len(bangs)))
    sharp = convolve(dry, blast(log_uniform(rng, 0.0004, 0.002)))
    walls = (uniform(rng, 6.0, 20.0), uniform(rng, 10.0, 40.0), uniform(rng, 6.0, 15.0))
    street = convolve(sharp, room(9_600, rng, walls, uniform(rng, 0.3, 0.8), log_uniform(rng, 600.0, 3_000.0)))
    out = level(street) + uniform(rng, 0.1, 0.6) * level(convolve(sharp, diffuse(12_000, rng, 0.8, 0.3)))
    hiss = highpass(noise(n, rng), 2_500.0) * curve(n, [0.3, 1.0, 0.0, 0.0], [0.0, 0.2, 0.4, 1.0])
    out += uniform(rng, 0.0, 0.15) * level(hiss)
    for _ in range(int(rng.choice((0, 0, 0, 1, 3)))):
        out += log_uniform(rng, 0.03, 0.3) * level(_screamer(n, rng))
    return np.tanh(out * log_uniform(rng, 0.7, 4.0))


def _aeolian(rng: Rng, duration_s: float) -> Samples:
    """Wind past wires and twigs: each sings at a pitch that its thickness and the speed give; the ear rumbles."""
    n = num_samples(duration_s)
    speed = np.clip(1.0 + uniform(rng, 0.2, 0.5) * turbulence(n, rng, log_uniform(rng, 0.08, 0.6), 2.3), 0.15, 3.0)
    fast = ramp(speed, n)
    rumble = unit(smooth(smooth(noise(n, rng), log_uniform(rng, 40.0, 150.0)), 400.0)) * fast**2
    hiss = unit(bandpass(noise(n, rng), log_uniform(rng, 200, 500), log_uniform(rng, 900, 2_500), 1)) * fast**3
    out = rumble + uniform(rng, 0.1, 0.9) * hiss
    num = int(rng.integers(1, 5))
    loud = uniform(rng, 0.1, 1.6) / num
    for hz in logs(rng, 180.0, 1_500.0, num):
        own = speed * (1.0 + uniform(rng, 0.02, 0.08) * turbulence(n, rng, 6.0))
        strength = own**3 * np.clip(1.0 + 0.7 * turbulence(n, rng, 1.0), 0.0, 3.0)
        out += loud * np.sin(phase(ramp(hz * own, n), uniform(rng, 0.0, 6.0))) * ramp(strength, n)
    return heard(out, rng)


def _trees(rng: Rng, duration_s: float) -> Samples:
    """Wind in trees or round a house: leaves hiss as gusts pass over, a gap or chimney hums by its overtones."""
    n = num_samples(duration_s)
    gust = np.exp(uniform(rng, 0.3, 0.8) * turbulence(n, rng, log_uniform(rng, 0.1, 0.5), 3.0))
    flutter = 1.0 + uniform(rng, 0.05, 0.25) * turbulence(n, rng, 12.0, 0.5)
    roar = unit(lowpass(noise(n, rng), log_uniform(rng, 150.0, 600.0), 1)) * ramp(gust, n)
    low = log_uniform(rng, 500.0, 2_500.0)
    leaves = unit(bandpass(noise(n, rng), low, log_uniform(rng, 1.5, 4.0) * low, 1)) * ramp(gust**1.7 * flutter, n)
    out = roar * uniform(rng, 0.4, 1.2) + uniform(rng, 0.1, 0.8) * leaves
    if rng.random() < 0.5:
        pipe, air = log_uniform(rng, 120.0, 500.0), noise(n, rng)
        for number in (1, 2, 3):
            blown = np.exp(-0.5 * ((np.log(gust) - 0.5 * (number - 1.5)) / 0.4) ** 2) * gust
            hum = bandpass(air, pipe * number * 0.97, pipe * number * 1.03, 1)
            out += uniform(rng, 0.1, 0.6) * unit(hum) * ramp(blown, n)
    twigs = poisson(n, rng, uniform(rng, 0.0, 1.5), 0)
    return out + grains(
        n, twigs, logs(rng, 300, 2_000, len(twigs)), np.full(len(twigs), 0.03), np.full(len(twigs), 0.5)
    )


BLASTS: dict[str, tuple[Variant, ...]] = {
    "thunder": (_channel, _tearing),
    "gunshot": (_open_field, _range_indoors),
    "fireworks": (_salvo, _firecrackers),
    "wind": (_aeolian, _trees),
}
"""By the kind's name."""
