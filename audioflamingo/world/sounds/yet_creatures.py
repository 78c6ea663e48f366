"""Insects, dogs, pigs and coughs, from wings, files, folds of the throat and air; for training alone (see `more`)."""

from __future__ import annotations

import numpy as np

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
    log_uniform,
    lowpass,
    modes,
    noise,
    num_samples,
    place,
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
    echoes,
    harmonics,
    moments_of,
    rough,
    scattered,
    struck,
    turns_of,
    wave,
)


def _fly_by(rng: Rng, duration_s: float) -> Samples:
    """One fly, bee, wasp or mosquito that circles: its distance sets level, brightness and a little of the pitch."""
    n = num_samples(duration_s)
    near = np.exp(uniform(rng, 0.4, 1.1) * drift(n, rng, uniform(rng, 0.6, 3.0)))
    effort = 1.0 + uniform(rng, 0.01, 0.06) * drift(n, rng, uniform(rng, 3.0, 12.0))
    effort += uniform(rng, 0.0, 0.06) * np.tanh(drift(n, rng, 1.0))
    f0 = log_uniform(rng, 95.0, 620.0) * np.clip(effort, 0.6, 1.5)
    turn = turns_of(f0)
    out = wave(turn, harmonics(rng, float(f0.max()), uniform(rng, 0.5, 1.6), 0.5), rng, uniform(rng, 0.1, 1.0))
    flutter = 1.0 + uniform(rng, 0.0, 0.3) * np.sin(2.0 * np.pi * 0.5 * turn + 1.0)
    dull = lowpass(out, log_uniform(rng, 500.0, 2_000.0), 1)
    out = np.minimum(near, 3.0) * (dull + out * np.minimum(near, 1.5) * uniform(rng, 0.3, 1.0)) * flutter
    air = bandpass(noise(n, rng), 300.0, 3_500.0, 1) * near.clip(0.0, 3.0)
    return out + uniform(rng, 0.02, 0.2) * unit(air)


def _swarm(rng: Rng, duration_s: float) -> Samples:
    """Bees at a hive or flies on something: wings that beat unevenly, many at once, in a bed of far ones."""
    n, centre = num_samples(duration_s), log_uniform(rng, 130.0, 330.0)
    shell = rng.uniform(250.0, 3_800.0, 5)
    wing = modes(400, shell, rng.uniform(0.003, 0.012, 5), rng.uniform(0.3, 1.0, 5))
    out = np.zeros(n)
    for _ in range(int(rng.integers(1, 4))):
        f0 = centre * log_uniform(rng, 0.8, 1.3) * rough(n, rng, uniform(rng, 2.0, 8.0), 0.03)
        moments = moments_of(turns_of(f0, rng.random()), rng, uniform(rng, 0.005, 0.04))
        levels = scattered(rng, len(moments), uniform(rng, 0.3, 1.5)) * np.resize(
            [1.0, uniform(rng, 0.5, 1.0)], len(moments)
        )
        out += struck(n, moments, levels, wing) * np.exp(0.7 * drift(n, rng, 0.8)).clip(0.2, 4.0)
    bed, air = np.zeros(n), noise(n, rng)
    for k in range(1, 5):
        bed += unit(bandpass(air, 0.85 * k * centre, 1.2 * k * centre, 1)) / k
    return unit(out) + uniform(rng, 0.1, 1.0) * unit(bed)


def _file(rng: Rng, duration_s: float) -> Samples:
    """A field cricket: a scraper runs over the teeth of a file, each tooth a tick that rings the wing."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 3_200.0, 5_600.0)
    pulse, per_chirp = uniform(rng, 16.0, 42.0), int(rng.integers(2, 7))
    chirps = min(uniform(rng, 0.8, 4.0), 0.85 * pulse / per_chirp)
    since = (turns_of(chirps * rough(n, rng, 0.8, 0.08)) % 1.0) / chirps * pulse
    within, which = since % 1.0, np.floor(since)
    closing = (within < uniform(rng, 0.4, 0.75)) & (which < per_chirp)
    level = np.where(
        closing, np.sin(np.pi * np.minimum(within / 0.7, 1.0)) * (0.5 + 0.5 * (which + 1) / per_chirp), 0.0
    )
    moments = moments_of(turns_of(pitch * (1.0 - uniform(rng, 0.0, 0.08) * within)), rng, log_uniform(rng, 0.004, 0.06))
    levels = level[np.clip((moments * RATE).astype(np.int64), 0, n - 1)] * scattered(rng, len(moments), 2.0)
    wing = modes(480, [pitch, 0.97 * pitch, 1.8 * pitch], [log_uniform(rng, 0.005, 0.03)] * 3, [1.0, 0.4, 0.1])
    out = bandpass(struck(n, moments, levels + 1e-3, wing), 0.5 * pitch, 1.5 * pitch, 1)
    night = shaped_noise(n, rng, [100, 800, 3_000, 6_000], [-10, -6, -6, 0])
    return echoes(out, rng, 0.08, uniform(rng, 0.0, 0.4)) + uniform(rng, 0.0, 0.12) * night


def _chorus(rng: Rng, duration_s: float) -> Samples:
    """Trills of tree crickets, a katydid's rasp and a far choir: tones and bands of noise gated at their own rates."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    low = log_uniform(rng, 2_500.0, 4_800.0)
    for index in range(int(rng.integers(1, 3))):
        gate = (0.5 + 0.5 * np.sin(2.0 * np.pi * turns_of(uniform(rng, 22.0, 85.0) * rough(n, rng, 1.0, 0.02)))) ** 2
        phrase = smooth((drift(n, rng, uniform(rng, 0.3, 1.5)) > uniform(rng, -3.0, 0.0)).astype(np.float64), 30.0)
        phrase = phrase if index else np.maximum(phrase, 0.3)
        f0 = low * log_uniform(rng, 0.85, 1.25) * (1.0 + 0.003 * drift(n, rng, 3.0) + 0.01 * gate)
        out += log_uniform(rng, 0.3, 1.0) * np.sin(2.0 * np.pi * turns_of(f0)) * gate * phrase
    choir = bandpass(noise(n, rng), low * 0.93, low * 1.1, 1) * rough(
        n, rng, uniform(rng, 0.5, 8.0), uniform(rng, 0.0, 0.4)
    )
    out = unit(out) + uniform(rng, 0.1, 1.0) * unit(choir)
    if rng.random() < 0.4:
        rasp = bandpass(noise(n, rng), uniform(rng, 4_000, 5_500), 7_500.0, 1)
        beat = ((times(n) * uniform(rng, 1.0, 12.0)) % 1.0 < uniform(rng, 0.3, 0.7)).astype(np.float64)
        out += uniform(rng, 0.2, 0.7) * unit(rasp) * smooth(beat, 60.0)
    return afar(out, rng)


def _tract(rng: Rng, length_cm: float, opening: float) -> Curve:
    """(600,) response of a throat and mouth of a length; `opening` 0 to 1 moves the lowest resonance up."""
    quarter = 34_300.0 / (4.0 * length_cm)
    hz = quarter * np.array([0.55 + 0.75 * opening, 2.4 + 0.9 * opening, 4.9, 7.0, 9.2]) * rng.uniform(0.88, 1.12, 5)
    width = rng.uniform(0.12, 0.3) * hz + 60.0
    return modes(600, hz, 2.2 / width, np.array([1.0, 0.8, 0.55, 0.4, 0.3]) * rng.uniform(0.5, 1.3, 5))


def _through(x: Curve, rng: Rng, length_cm: float, openings: tuple[float, ...]) -> Curve:
    """A source through a mouth that opens and closes: from one response to the next."""
    n, out = len(x), np.zeros(len(x))
    for index, opening in enumerate(openings):
        share = curve(n, [float(index == one) for one in range(len(openings))])
        out += share * unit(convolve(x, _tract(rng, length_cm, opening)))
    return out


def _bark_sung(rng: Rng, duration_s: float) -> Samples:
    """A dog of any size: folds that swing up and down in pitch under a mouth that snaps open; breath and bite."""
    n, size = num_samples(duration_s), uniform(rng, 0.0, 1.0)
    pitch = 950.0 ** (1.0 - size) * 120.0**size * log_uniform(rng, 0.8, 1.25)
    top = uniform(rng, 0.15, 0.5)
    f0 = pitch * curve(n, [uniform(rng, 0.6, 0.9), 1.0, 0.95, uniform(rng, 0.45, 0.8)], [0.0, top, top + 0.15, 1.0])
    f0 *= 1.0 + uniform(rng, 0.005, 0.05) * drift(n, rng, 90.0)
    turn = turns_of(f0)
    voice = wave(turn, harmonics(rng, float(f0.max()), uniform(rng, 0.2, 1.0)), rng, uniform(rng, 0.0, 0.5))
    broken = 1.0 + uniform(rng, 0.0, 0.8) * np.sin(np.pi * turn)
    air = noise(n, rng) * (0.4 + 0.6 * np.sin(np.pi * (turn % 1.0)))
    out = _through(unit(voice * broken) + uniform(rng, 0.1, 0.9) * unit(air), rng, 7.0 + 13.0 * size, (0.1, 1.0, 0.3))
    attack, fall = uniform(rng, 0.03, 0.2), uniform(rng, 0.3, 0.7)
    out = out * swell(n, attack, fall) + uniform(rng, 0.0, 0.3) * unit(highpass(out, 2_000.0, 1)) * decay(
        n, 0.08, 0.003
    )
    return afar(out, rng)


def _bark_rough(rng: Rng, duration_s: float) -> Samples:
    """A hoarse dog: puffs whose gaps and strengths go two by two and then at random, each with a burst of air."""
    n, size = num_samples(duration_s), uniform(rng, 0.0, 1.0)
    pitch = 620.0 ** (1.0 - size) * 130.0**size * log_uniform(rng, 0.8, 1.25)
    f0 = pitch * curve(n, [0.8, uniform(rng, 1.1, 1.6), 1.0, 0.6], [0.0, uniform(rng, 0.1, 0.4), 0.6, 1.0])
    moments = moments_of(turns_of(f0), rng, uniform(rng, 0.02, 0.14))
    levels = scattered(rng, len(moments), uniform(rng, 2.0, 5.0))
    levels[1::2] *= uniform(rng, 0.3, 1.0)
    puff = np.zeros(200)
    puff[:1] = 2.0
    puff += uniform(rng, 0.1, 0.7) * noise(200, rng) * decay(200, uniform(rng, 0.004, 0.012), 0.001)
    source = convolve(struck(n, moments, levels, puff), np.array([1.0, -uniform(rng, 0.6, 0.95)]))
    source = unit(source) + uniform(rng, 0.05, 0.5) * noise(n, rng)
    source = lowpass(source, log_uniform(rng, 1_000.0, 5_000.0), 1)
    out = _through(source, rng, 8.0 + 12.0 * size, (uniform(rng, 0.0, 0.4), uniform(rng, 0.7, 1.1), 0.2))
    shape = curve(
        n, [0.0, 1.0, uniform(rng, 0.4, 0.9), 1.0 if rng.random() < 0.3 else 0.6, 0.0], [0, 0.12, 0.4, 0.6, 1]
    )
    return echoes(out * smooth(shape, 60.0), rng, 0.1, uniform(rng, 0.0, 0.5))


def _wet_or_dry(rng: Rng, duration_s: float) -> Samples:
    """A cough in three parts: air tears the closed throat open, rushes, the voice closes it off; some crackle."""
    n, size = num_samples(duration_s), uniform(rng, 11.0, 19.0)
    open_to, close = uniform(rng, 0.15, 0.4), uniform(rng, 0.5, 0.8)
    burst = noise(n, rng) * (
        decay(n, uniform(rng, 0.05, 0.15), 0.002) + 0.35 * curve(n, [1, 0.6, 0.2, 0], [0, 0.4, 0.7, 1])
    )
    voice_at = curve(n, [0.0, 0.0, 1.0, 0.4, 0.0], [0.0, open_to, 0.5 * (open_to + close), close, 1.0])
    f0 = log_uniform(rng, 90.0, 420.0) * curve(n, [1.2, 1.0, 0.65]) * (1.0 + 0.06 * drift(n, rng, 80.0))
    voice = wave(turns_of(f0), harmonics(rng, float(f0.max()), uniform(rng, 0.4, 1.2)), rng, 0.2) * voice_at
    out = _through(unit(burst) + uniform(rng, 0.0, 0.9) * unit(voice), rng, size, (0.9, 0.6, 0.1))
    if rng.random() < 0.5:
        drops = rng.random(int(rng.integers(10, 60))) * duration_s
        drop = modes(240, rng.uniform(400.0, 2_500.0, 3), [0.01] * 3, np.ones(3))
        mucus = struck(n, np.concatenate([[0.01], drops]), scattered(rng, len(drops) + 1, 5.0), drop)
        out += uniform(rng, 0.2, 0.8) * mucus * curve(n, [1.0, 0.8, 0.0])
    again = num_samples(uniform(rng, 0.35, 0.6) * duration_s)
    out = out * curve(n, [1.0, 0.7, 0.0], [0.0, close, 1.0])
    if rng.random() < 0.35:
        out[again:] += uniform(rng, 0.4, 0.9) * out[: n - again]
    return echoes(out, rng, 0.06, uniform(rng, 0.0, 0.4))


def _flutter(rng: Rng, duration_s: float) -> Samples:
    """A cough from deep down, or a throat that is cleared: flesh that flaps in the stream chops it, in a small room."""
    n = num_samples(duration_s)
    flow = curve(n, [0.0, 1.0, uniform(rng, 0.3, 0.8), 0.0], [0.0, uniform(rng, 0.02, 0.15), 0.5, 1.0])
    flap = turns_of(log_uniform(rng, 45.0, 190.0) * (0.6 + 0.5 * flow) * rough(n, rng, 60.0, 0.12)) % 1.0
    gate = np.exp(-flap * uniform(rng, 1.5, 6.0)) * (1.0 + 0.3 * drift(n, rng, 70.0))
    source = unit(lowpass(noise(n, rng), log_uniform(rng, 1_500.0, 7_000.0), 1) * gate * flow)
    source += uniform(rng, 0.1, 0.8) * unit(noise(n, rng) * flow**2)
    throat = _through(source, rng, uniform(rng, 11.0, 20.0), (uniform(rng, 0.0, 1.0), uniform(rng, 0.0, 1.0)))
    chest = resonate(source, [uniform(rng, 130, 320)], [90.0], [1.0])
    out = throat + uniform(rng, 0.1, 0.9) * unit(chest) * flow
    place(out, unit(highpass(noise(400, rng), 1_200.0)) * decay(400, 0.02), 0.0, uniform(rng, 0.0, 1.5))
    return echoes(out, rng, 0.05, uniform(rng, 0.0, 0.5))


def _grunt(rng: Rng, duration_s: float) -> Samples:
    """A pig grunts or oinks: slow rough puffs through a long snout, shut at first and open later, or the reverse."""
    n = num_samples(duration_s)
    rise = uniform(rng, 0.7, 2.2)
    f0 = log_uniform(rng, 38.0, 210.0) * curve(n, [0.8, 1.0, rise, 0.8 * rise]) * rough(n, rng, 40.0, 0.06)
    moments = moments_of(turns_of(f0), rng, uniform(rng, 0.03, 0.12))
    puff = noise(320, rng) * decay(320, uniform(rng, 0.004, 0.02), 0.001) * uniform(rng, 0.2, 0.8)
    edge = int(rng.integers(6, 30))
    puff[:edge] += np.hanning(edge) * 2.0
    source = struck(n, moments, scattered(rng, len(moments), uniform(rng, 1.0, 4.0)), puff)
    source += uniform(rng, 0.1, 0.7) * unit(noise(n, rng) * (0.3 + np.abs(source)))
    openings = (uniform(rng, 0.0, 0.4), uniform(rng, 0.4, 1.0), uniform(rng, 0.0, 0.6))
    mouth = _through(source, rng, uniform(rng, 14.0, 24.0), openings)
    nose = resonate(source, [uniform(rng, 220, 420), uniform(rng, 900, 1_600)], [70.0, 200.0], [1.0, 0.5])
    out = mouth + uniform(rng, 0.2, 1.2) * unit(nose) * curve(n, [1.0, 0.2, 0.6])
    return echoes(out * swell(n, uniform(rng, 0.08, 0.3), uniform(rng, 0.2, 0.5)), rng, 0.05, uniform(rng, 0.0, 0.3))


def _snort(rng: Rng, duration_s: float) -> Samples:
    """A pig draws breath through a fluttering snout and may break into a squeal."""
    n = num_samples(duration_s)
    split = uniform(rng, 0.3, 1.0) if rng.random() < 0.7 else uniform(rng, 0.05, 0.3)
    early = curve(n, [0.3, 1.0, 0.8, 0.0, 0.0], [0.0, 0.4 * split, 0.85 * split, min(split + 0.08, 0.99), 1.0])
    flap = turns_of(log_uniform(rng, 28.0, 95.0) * rough(n, rng, 25.0, 0.15)) % 1.0
    air = shaped_noise(n, rng, [100, 400, 1_300, 3_000, 6_500], [-12, 0, uniform(rng, -4, 4), -8, -20])
    snort = unit(_through(air * np.exp(-flap * uniform(rng, 2.0, 5.0)), rng, uniform(rng, 10, 20), (0.2, 0.5))) * early
    f0 = log_uniform(rng, 480.0, 1_300.0) * curve(n, [0.7, uniform(rng, 0.8, 1.3), 1.0, 0.7])
    f0 *= 1.0 + uniform(rng, 0.01, 0.05) * drift(n, rng, 120.0)
    scream = wave(turns_of(f0), harmonics(rng, float(f0.max()), uniform(rng, 0.2, 0.9)), rng, 0.3)
    scream = unit(np.tanh(1.5 * scream + uniform(rng, 0.2, 0.9) * noise(n, rng)))
    late = (
        _through(scream, rng, uniform(rng, 9.0, 15.0), (0.6, 1.0)) * (1.0 - np.clip(early / early.max(), 0.0, 1.0)) ** 2
    )
    out = snort + uniform(rng, 0.3, 1.2) * late * (1.0 if split < 0.75 else 0.2)
    return afar(out * swell(n, 0.08, 0.2), rng)


CREATURES: dict[str, tuple[Variant, ...]] = {
    "insect_buzz": (_fly_by, _swarm),
    "cricket": (_file, _chorus),
    "dog_bark": (_bark_sung, _bark_rough),
    "cough": (_wet_or_dry, _flutter),
    "pig_oink": (_grunt, _snort),
}
"""By the kind's name."""
