"""What people do without words: applause, laughter, coughs, snores, cries, sneezes and breath."""

from __future__ import annotations

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe
from audioflamingo.world.sounds.mammals import scaled, voiced
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    cloud,
    curve,
    decay,
    highpass,
    log_uniform,
    lowpass,
    noise,
    num_samples,
    phase,
    place,
    resonate,
    shaped_noise,
    smooth,
    swell,
    times,
    uniform,
    unit,
    wander,
)
from audioflamingo.world.sounds.vocal import (
    Call,
    additive,
    modulated,
    source_filter,
    wave_functions,
)

SCHWA = (550.0, 1_450.0, 2_500.0, 3_600.0)
OPEN = (780.0, 1_300.0, 2_600.0, 3_600.0)


def _clap_grains(rng: Rng, num: int) -> list[Curve]:
    out = []
    for _ in range(num):
        n, centre = int(rng.integers(200, 700)), log_uniform(rng, 700.0, 2_600.0)
        out.append(unit(bandpass(noise(n, rng) * decay(n, n / 16_000.0), centre * 0.6, centre * 1.8, 1)))
    return out


def _applause(rng: Rng, duration_s: float) -> Samples:
    """Many people clapping, each their own hands: a Poisson cloud of claps and a far wash."""
    n = num_samples(duration_s)
    claps = cloud(n, rng, log_uniform(rng, 40.0, 300.0), _clap_grains(rng, 14), 5.0)
    wash = shaped_noise(n, rng, [150, 700, 1_800, 5_000, 8_000], [-18, -2, 0, -8, -16])
    return unit(claps) + uniform(rng, 0.1, 0.6) * wash


def _rhythmic_applause(rng: Rng, duration_s: float) -> Samples:
    """A smaller crowd: each person claps at a rate of their own, 3 to 5 times a second."""
    n, out = num_samples(duration_s), np.zeros(num_samples(duration_s))
    for grain in _clap_grains(rng, int(rng.integers(5, 18))):
        gap = uniform(rng, 0.19, 0.34)
        moments = rng.uniform(0.0, gap) + np.arange(int(duration_s / gap) + 1) * gap
        for moment in moments + 0.012 * rng.standard_normal(len(moments)):
            place(out, grain, max(0.0, float(moment)), uniform(rng, 0.4, 1.0))
    return out + 0.04 * noise(n, rng)


def _ovation(rng: Rng, duration_s: float) -> Samples:
    """A hall: noise of clapping with fine random modulation, plus a murmur of voices."""
    n = num_samples(duration_s)
    flicker = np.abs(smooth(noise(n, rng), 150.0)) * 8.0
    hall = shaped_noise(n, rng, [150, 600, 1_500, 4_000, 8_000], [-16, -3, 0, -6, -18]) * (0.4 + flicker)
    return hall + 0.25 * unit(cloud(n, rng, 50.0, _clap_grains(rng, 6), 4.0))


def _ha_times(rng: Rng, duration_s: float) -> tuple[Curve, Curve]:
    """Starts of the syllables in seconds, and their levels, falling."""
    gap = uniform(rng, 0.16, 0.26)
    starts = np.arange(0.0, max(duration_s - gap * 0.7, 0.1), gap)
    return starts + 0.01 * rng.random(len(starts)), np.linspace(1.0, uniform(rng, 0.4, 0.8), len(starts))


def _laugh(rng: Rng, duration_s: float) -> Call:
    """Ha-ha-ha: voiced syllables 4 to 6 a second, breath between them, pitch falling over the whole."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 130.0, 420.0)
    shape, bend = np.full(n, 0.03), np.zeros(n)
    starts, levels = _ha_times(rng, duration_s)
    for start, loud in zip(starts, levels, strict=True):
        num = num_samples(uniform(rng, 0.09, 0.15))
        place(shape, swell(num, 0.2, 0.6), float(start), float(loud))
        place(bend, curve(num, [0.1, 0.25, -0.1]), float(start))
    f0 = pitch * curve(n, [1.0, 1.15, 0.8]) * (1.0 + bend)
    mouth = scaled((SCHWA, OPEN, SCHWA), uniform(rng, 0.9, 1.3))
    return Call(
        f0, shape, mouth, uniform(rng, 0.15, 0.45), uniform(rng, 0.05, 0.3), log_uniform(rng, 800.0, 2_500.0), 0.1
    )


def _giggle(rng: Rng, duration_s: float) -> Samples:
    """A giggle: high, fast, with an audible intake of breath, voiced harmonics multiplied by bursts."""
    n, rate = num_samples(duration_s), uniform(rng, 5.0, 7.5)
    position = (times(n) * rate) % 1.0
    burst = np.clip(np.sin(np.pi * position / 0.6), 0.0, 1.0) * (position < 0.6) * curve(n, [1.0, 0.9, 0.3])
    f0 = log_uniform(rng, 280.0, 520.0) * (1.0 + 0.15 * burst) * curve(n, [1.0, 1.1, 0.85])
    sung = Call(f0, burst, scaled((OPEN, SCHWA), 1.2), 0.1, 0.15, 2_000.0)
    breath = unit(bandpass(noise(n, rng), 900.0, 3_500.0)) * np.roll(burst, -num_samples(0.25 / rate))
    return additive(sung, rng) + uniform(rng, 0.1, 0.35) * breath


def _cough(rng: Rng, duration_s: float) -> Samples:
    """A plosive burst of noise from the glottis, a noisy middle, and a short voiced end."""
    n, size = num_samples(duration_s), uniform(rng, 0.85, 1.25)
    burst = noise(n, rng) * decay(n, uniform(rng, 0.12, 0.25), 0.004)
    tail = noise(n, rng) * curve(n, [0.0, 0.5, 0.25, 0.0], [0.0, 0.25, 0.6, 1.0])
    mouth = [620.0 * size, 1_350.0 * size, 2_500.0 * size, 3_700.0 * size]
    air = resonate(burst + 0.5 * tail, mouth, [180.0, 260.0, 380.0, 600.0], [1.0, 0.8, 0.6, 0.5])
    f0 = log_uniform(rng, 110.0, 300.0) * curve(n, [1.1, 1.0, 0.7])
    grunt = Call(f0, curve(n, [0.0, 1.0, 0.6, 0.0], [0.0, 0.15, 0.5, 1.0]), scaled((SCHWA,), size), 0.3, 0.8, 1_200.0)
    return unit(air) + uniform(rng, 0.1, 0.7) * source_filter(grunt, rng)


def _hacking(rng: Rng, duration_s: float) -> Samples:
    """A wet cough: irregular pulses through a chest and a throat, then air."""
    n = num_samples(duration_s)
    f0 = log_uniform(rng, 70.0, 170.0) * curve(n, [1.3, 1.0, 0.8]) * (1.0 + 0.1 * wander(n, rng, 30.0)).clip(0.5)
    call = Call(
        f0, decay(n, duration_s * 0.9, 0.012), ((500, 1_200, 2_400), (650, 1_400, 2_500)), 0.6, 1.0, 2_500.0, 0.25
    )
    return wave_functions(call, rng) + 0.25 * unit(highpass(noise(n, rng), 2_000.0)) * decay(n, 0.15)


def _snore(rng: Rng, duration_s: float) -> Samples:
    """Breathing in with a fluttering palate (25 to 70 Hz), then a soft breath out."""
    n, share = num_samples(duration_s), uniform(rng, 0.45, 0.65)
    rate = log_uniform(rng, 28.0, 75.0) * (1.0 + 0.12 * wander(n, rng, 6.0)).clip(0.5)
    flaps = np.maximum(np.sin(phase(rate)), 0.0) ** 3
    drawn = curve(n, [0.0, 0.5, 1.0, 0.0, 0.0], [0.0, 0.2 * share, 0.8 * share, share, 1.0])
    blown = curve(n, [0.0, 0.0, 0.6, 0.0], [0.0, share + 0.05, share + 0.18, 1.0])
    throat = resonate(noise(n, rng) * flaps, [uniform(rng, 200, 400), 900, 1_900], [120, 250, 500], [1.0, 0.7, 0.35])
    air = unit(bandpass(noise(n, rng), 400.0, uniform(rng, 1_800.0, 3_500.0), 1))
    return unit(throat) * drawn + uniform(rng, 0.08, 0.35) * air * blown


def _rattle_call(rng: Rng, duration_s: float) -> Call:
    """A snore as a very low, rough voice."""
    n = num_samples(duration_s)
    f0 = log_uniform(rng, 32.0, 80.0) * curve(n, [0.8, 1.0, 1.2, 1.0]) * (1.0 + 0.1 * wander(n, rng, 12.0)).clip(0.5)
    shape = curve(n, [0.0, 0.5, 1.0, 0.0, 0.12, 0.0], [0.0, 0.15, 0.5, 0.62, 0.8, 1.0])
    return Call(f0, shape, ((300, 1_000, 2_200), (450, 1_200, 2_300)), uniform(rng, 0.3, 0.6), 0.8, 1_500.0, 0.2)


def _baby(rng: Rng, duration_s: float) -> Call:
    """A wail of half a second to a second and a half, pitch arched, mouth wide; may break into noise."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 330.0, 560.0)
    f0 = pitch * curve(n, [0.8, 1.1, uniform(rng, 1.1, 1.35), 1.05, 0.75], [0.0, 0.15, 0.45, 0.8, 1.0])
    f0 *= 1.0 + uniform(rng, 0.005, 0.03) * np.sin(times(n) * 6.28 * uniform(rng, 5.0, 9.0))
    mouth = scaled(
        ((700, 1_800, 3_400, 5_200), (1_150, 2_000, 3_700, 5_400), (950, 1_800, 3_500, 5_200)), uniform(rng, 0.9, 1.15)
    )
    shape = swell(n, uniform(rng, 0.1, 0.2), uniform(rng, 0.15, 0.35))
    return Call(f0, shape, mouth, uniform(rng, 0.02, 0.12), uniform(rng, 0.05, 0.5), 4_000.0, 0.11)


def _sobs(rng: Rng, duration_s: float) -> Samples:
    """Sobbing: short wails with gasps between them."""
    out, start = np.zeros(num_samples(duration_s)), 0.0
    seed = int(rng.integers(2**62))
    while start < duration_s - 0.2:
        length_s = min(uniform(rng, 0.3, 0.7), duration_s - start)
        place(out, additive(_baby(np.random.default_rng(seed), length_s), rng), start, uniform(rng, 0.7, 1.0))
        gasp_n = num_samples(uniform(rng, 0.12, 0.25))
        place(
            out,
            unit(bandpass(noise(gasp_n, rng), 1_200.0, 4_500.0)) * swell(gasp_n, 0.6, 0.3),
            start + length_s + 0.02,
            0.12,
        )
        start += length_s + uniform(rng, 0.2, 0.4)
    return out


def _sneeze(rng: Rng, duration_s: float) -> Samples:
    """Ah - tchoo: a drawn breath that rises, a pause, an explosive fricative and a voiced end."""
    n, go, size = num_samples(duration_s), uniform(rng, 0.35, 0.55), uniform(rng, 0.85, 1.25)
    breath = resonate(noise(n, rng), [700 * size, 1_500 * size, 2_800 * size], [200, 300, 500], [1.0, 0.7, 0.5])
    shape = curve(n, [0.0, 0.4, 0.5, 0.0, 0.0], [0.0, go * 0.5, go * 0.85, go * 0.95, 1.0])
    hiss = unit(bandpass(noise(n, rng), 1_800.0, 6_500.0, 1)) * curve(
        n, [0, 0, 1, 0.35, 0], [0, go, go + 0.03, go + 0.2, go + 0.42]
    )
    f0 = log_uniform(rng, 140.0, 420.0) * curve(n, [1.0, 1.1, 1.4, 0.8], [0.0, go, go + 0.08, 1.0])
    voice = Call(
        f0,
        curve(n, [0, 0.15, 0, 0, 1, 0.4, 0], [0, go * 0.7, go * 0.9, go, go + 0.1, go + 0.3, 1.0]),
        scaled((OPEN, SCHWA, (350, 900, 2_300)), size),
        0.4,
        0.4,
        1_500.0,
    )
    return 0.4 * unit(breath) * shape + hiss + uniform(rng, 0.3, 1.0) * source_filter(voice, rng)


def _achoo(rng: Rng, duration_s: float) -> Samples:
    """A short, dry sneeze: a click of the tongue, a jet that darkens, and a chest tone in FM."""
    n, go = num_samples(duration_s), uniform(rng, 0.2, 0.4)
    jet = highpass(noise(n, rng), 2_500.0) * curve(n, [0, 0, 1, 0.1, 0], [0, go, go + 0.02, go + 0.25, go + 0.3])
    dark = lowpass(noise(n, rng), 1_800.0) * curve(n, [0, 0, 0.9, 0.3, 0], [0, go + 0.01, go + 0.08, go + 0.3, 1.0])
    f0 = log_uniform(rng, 180.0, 500.0) * curve(n, [0.9, 1.2, 1.3, 0.7])
    voice = Call(
        f0,
        curve(n, [0, 0.3, 0.5, 0, 1, 0], [0, go * 0.3, go * 0.9, go, go + 0.1, 1]),
        (OPEN, (400, 1_000, 2_400, 3_500)),
        0.2,
        0.3,
    )
    return unit(jet) + unit(dark) + 0.7 * modulated(voice, rng)


def _breaths(rng: Rng, duration_s: float) -> Samples:
    """In and out: two bands of noise in turn, the breath in brighter and shorter."""
    n, period = num_samples(duration_s), uniform(rng, 1.2, 3.0)
    position = (times(n) / period + rng.uniform()) % 1.0
    drawn = np.clip(np.sin(np.pi * position / 0.4), 0.0, 1.0) * (position < 0.4)
    blown = np.clip(np.sin(np.pi * (position - 0.48) / 0.45), 0.0, 1.0) * (position > 0.48)
    source, size = noise(n, rng), uniform(rng, 0.85, 1.2)
    bright = resonate(source, [900 * size, 1_900 * size, 3_200 * size], [300, 400, 700], [0.7, 1.0, 0.8])
    dark = resonate(source, [500 * size, 1_300 * size, 2_500 * size], [250, 300, 600], [1.0, 0.8, 0.4])
    return np.asarray(unit(bright) * drawn + uniform(rng, 0.5, 1.2) * unit(dark) * blown**0.7)


def _panting(rng: Rng, duration_s: float) -> Samples:
    """Heavy breathing through the nose: band noise with a fast, uneven swell and a nasal valley."""
    n, rate = num_samples(duration_s), uniform(rng, 0.7, 2.2)
    push = np.abs(np.sin(np.pi * (np.cumsum(rate * (1.0 + 0.15 * wander(n, rng, 1.0))) / 16_000.0))) ** 1.5
    turn = np.sign(np.sin(np.pi * np.cumsum(np.full(n, rate)) / 16_000.0))
    air = shaped_noise(n, rng, [100, 400, 1_000, 1_800, 3_500, 8_000], [-20, -4, -10, 0, -6, -24])
    other = shaped_noise(n, rng, [100, 300, 900, 2_500, 8_000], [-16, 0, -4, -12, -34])
    return np.where(turn > 0, air, 0.7 * other) * push


def _dry_cough(rng: Rng, duration_s: float) -> Samples:
    """A dry cough: a spectrum-shaped burst in two pushes, with voiced harmonics under the second."""
    n = num_samples(duration_s)
    pushes = curve(n, [0.0, 1.0, 0.5, 0.15, 0.55, 0.0], [0.0, 0.03, 0.2, 0.45, 0.55, 1.0])
    air = shaped_noise(n, rng, [150, 500, 1_200, 3_000, 8_000], [-16, -2, uniform(rng, -4, 2), -8, -20])
    f0 = log_uniform(rng, 130.0, 320.0) * curve(n, [1.2, 1.0, 0.8])
    chest = additive(Call(f0, curve(n, [0.2, 0.3, 1.0, 0.0]), (OPEN, SCHWA), 0.3, 0.6), rng)
    return air * pushes + uniform(rng, 0.2, 0.6) * chest


def _nasal_snore(rng: Rng, duration_s: float) -> Samples:
    """A snore through the nose: a chopped, buzzing band that rises in pitch, and a whistle of breath out."""
    n, share = num_samples(duration_s), uniform(rng, 0.4, 0.65)
    rate = (
        uniform(rng, 35.0, 90.0)
        * curve(n, [0.7, 1.0, 1.1], [0.0, share * 0.6, 1.0])
        * (1.0 + 0.05 * wander(n, rng, 10.0))
    )
    chopped = np.exp(-4.0 * ((np.cumsum(rate) / 16_000.0) % 1.0))
    body = shaped_noise(n, rng, [60, 180, 500, 1_500, 5_000], [-12, 0, -3, -12, -34]) * chopped
    drawn = curve(n, [0.0, 0.8, 1.0, 0.0, 0.0], [0.0, 0.3 * share, 0.8 * share, share, 1.0])
    blown = curve(n, [0.0, 0.0, 1.0, 0.0], [0.0, share + 0.1, share + 0.2, 1.0])
    air = shaped_noise(n, rng, [200, 900, 2_500, 6_000, 8_000], [-20, -4, 0, -10, -20])
    return body * drawn + uniform(rng, 0.05, 0.3) * air * blown


def _mouth_breath(rng: Rng, duration_s: float) -> Samples:
    """Breathing through the mouth by formants of noise whose balance shifts between in and out."""
    n, rate = num_samples(duration_s), uniform(rng, 0.3, 1.2)
    swing = np.sin(2.0 * np.pi * np.cumsum(rate * (1.0 + 0.1 * wander(n, rng, 0.8))) / 16_000.0)
    drawn, blown = np.maximum(swing, 0.0) ** 1.2, np.maximum(-swing, 0.0) ** 0.8
    bright = unit(bandpass(noise(n, rng), uniform(rng, 800, 1_500), 4_500.0, 1))
    dull = unit(bandpass(noise(n, rng), 250.0, uniform(rng, 1_000, 2_000), 1))
    return bright * drawn + uniform(rng, 0.5, 1.5) * dull * blown


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str, steady: bool = False) -> Kind:
    return Kind(name, label, noun, sentence, "people", phrases, countable=not steady, steady=steady)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("applause", "people applauding", "applause", "people applaud", "clapping", "an audience", steady=True),
        (2.0, 6.0),
        (_applause, _rhythmic_applause, _ovation),
    ),
    Recipe(
        _kind("laughter", "a person laughing", "laughter", "somebody laughs", "a laugh", "a laughing person"),
        (0.8, 2.5),
        (voiced(_laugh, source_filter), voiced(_laugh, additive, wave_functions), _giggle),
    ),
    Recipe(
        _kind("cough", "a person coughing", "cough", "somebody coughs", "coughing"),
        (0.25, 0.5),
        (_cough, _dry_cough, _hacking),
        most_repeats=3,
        gap_s=(0.05, 0.35),
    ),
    Recipe(
        _kind("snoring", "a person snoring", "snore", "somebody snores", "a snoring sleeper"),
        (1.3, 3.0),
        (_snore, _nasal_snore, voiced(_rattle_call, source_filter, wave_functions)),
    ),
    Recipe(
        _kind("baby_cry", "a baby crying", "baby", "a baby cries", "a crying baby", "a wailing infant"),
        (0.6, 1.5),
        (voiced(_baby, source_filter), _sobs, voiced(_baby, wave_functions, modulated)),
        most_repeats=2,
        gap_s=(0.2, 0.5),
    ),
    Recipe(
        _kind("sneeze", "a person sneezing", "sneeze", "somebody sneezes", "a sneezing person"),
        (0.7, 1.3),
        (_sneeze, _achoo),
    ),
    Recipe(
        _kind("breathing", "a person breathing", "breath", "somebody breathes", "heavy breathing", steady=True),
        (2.5, 6.0),
        (_breaths, _mouth_breath, _panting),
    ),
)
