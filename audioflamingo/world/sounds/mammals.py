"""Dogs, cats, cows, sheep and pigs: calls described by pitch, mouth and breath, voiced by the engines of `vocal`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audioflamingo.world.sounds.kinds import Kind, Recipe, Variant
from audioflamingo.world.sounds.synthesis import (
    Curve,
    Rng,
    Samples,
    bandpass,
    curve,
    decay,
    log_uniform,
    noise,
    num_samples,
    partials,
    smooth,
    swell,
    times,
    uniform,
    unit,
    wander,
)
from audioflamingo.world.sounds.vocal import (
    Call,
    Engine,
    Formants,
    additive,
    modulated,
    source_filter,
    wave_functions,
)


def scaled(sets: tuple[Formants, ...], factor: float) -> tuple[Formants, ...]:
    """Formants of a larger (below 1) or smaller (above 1) head."""
    return tuple(tuple(f * factor for f in formants) for formants in sets)


def voiced(describe: Callable[[Rng, float], Call], *engines: Engine) -> Variant:
    """A variant that describes a call and voices it with one of the engines."""

    def render(rng: Rng, duration_s: float) -> Samples:
        call = describe(rng, duration_s)
        return engines[int(rng.integers(len(engines)))](call, rng)

    return render


def _bark(rng: Rng, duration_s: float) -> Call:
    n, size = num_samples(duration_s), log_uniform(rng, 0.6, 1.7)
    top = uniform(rng, 380.0, 620.0) * size
    f0 = curve(n, [top * uniform(rng, 0.4, 0.7), top, top * 0.9, top * uniform(rng, 0.4, 0.65)], [0.0, 0.2, 0.45, 1.0])
    mouth = scaled(((450, 1000, 2300), (850, 1500, 2700), (750, 1300, 2600), (480, 1050, 2400)), 0.55 + 0.5 * size)
    shape = swell(n, uniform(rng, 0.06, 0.16), uniform(rng, 0.5, 0.8))
    return Call(f0, shape, mouth, uniform(rng, 0.15, 0.5), uniform(rng, 0.3, 0.8), log_uniform(rng, 700, 2500), 0.2)


def _woof(rng: Rng, duration_s: float) -> Call:
    """A large dog: deep, breathy, with a short growl ahead of the bark."""
    n, size = num_samples(duration_s), log_uniform(rng, 0.7, 1.3)
    top = uniform(rng, 200.0, 330.0) * size
    f0 = curve(n, [top * 0.45, top * 0.55, top, top * 0.75, top * 0.4], [0.0, 0.18, 0.35, 0.6, 1.0])
    rise = curve(n, [0.0, 0.25, 1.0, 0.6, 0.0], [0.0, 0.15, 0.28, 0.55, 1.0])
    mouth = scaled(((330, 800, 2000), (700, 1150, 2300), (420, 850, 2100)), size)
    return Call(f0, rise, mouth, uniform(rng, 0.3, 0.6), uniform(rng, 0.5, 1.0), log_uniform(rng, 600, 1500), 0.22)


def _yap_noise(rng: Rng, duration_s: float) -> Samples:
    """A bark as a sketch: a band of noise and a few swept harmonics, multiplied by a rough envelope."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 260.0, 900.0)
    f0 = pitch * curve(n, [0.6, 1.0, 0.85, 0.5], [0.0, 0.15, 0.5, 1.0])
    tone = partials(n, f0, [0.6, 1.0, 0.8, 0.55, 0.3, 0.2, 0.1, 0.08])
    breath = unit(bandpass(noise(n, rng), 500.0, log_uniform(rng, 1800.0, 3500.0)))
    rough = 1.0 + 0.5 * smooth(noise(n, rng), 120.0) * 8.0
    attack = uniform(rng, 0.008, 0.03)
    return (unit(tone) * rough + uniform(rng, 0.2, 0.8) * breath) * decay(
        n, duration_s * uniform(rng, 1.0, 2.0), attack
    )


def _meow(rng: Rng, duration_s: float) -> Call:
    n, pitch = num_samples(duration_s), log_uniform(rng, 380.0, 750.0)
    f0 = pitch * curve(
        n, [0.75, 1.05, uniform(rng, 1.05, 1.35), 1.0, uniform(rng, 0.6, 0.9)], [0.0, 0.2, 0.45, 0.75, 1.0]
    )
    mouth = scaled(
        ((400, 2300, 3300), (800, 2000, 3200), (1050, 1600, 3000), (800, 1250, 2900), (480, 1000, 2700)), 1.25
    )
    shape = swell(n, uniform(rng, 0.12, 0.3), uniform(rng, 0.3, 0.5))
    return Call(f0, shape, mouth, uniform(rng, 0.02, 0.15), uniform(rng, 0.02, 0.2), log_uniform(rng, 1500, 4000), 0.1)


def _yowl(rng: Rng, duration_s: float) -> Call:
    """A demanding, drawn-out miaow that ends on an open mouth."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 450.0, 900.0)
    f0 = pitch * curve(n, [0.7, 0.9, 1.15, 1.1, 0.95]) * (1.0 + 0.02 * wander(n, rng, 5.0))
    mouth = scaled(((450, 1900, 3000), (900, 1700, 3000), (1000, 1500, 2900)), uniform(rng, 1.1, 1.5))
    return Call(f0, swell(n, 0.3, 0.25), mouth, uniform(rng, 0.02, 0.2), uniform(rng, 0.1, 0.4), 2500.0, 0.12)


def _moo(rng: Rng, duration_s: float) -> Call:
    n, pitch = num_samples(duration_s), log_uniform(rng, 85.0, 170.0)
    f0 = pitch * curve(n, [0.8, 1.0, uniform(rng, 1.05, 1.5), 1.1, 0.75], [0.0, 0.25, 0.6, 0.85, 1.0])
    mouth = scaled(
        ((220, 650, 1900), (300, 750, 2000), (480, 950, 2100), (550, 1050, 2200), (350, 800, 2000)),
        uniform(rng, 0.85, 1.2),
    )
    shape = curve(n, [0.0, 0.45, 0.9, 1.0, 0.7, 0.0], [0.0, 0.1, 0.4, 0.7, 0.9, 1.0])
    return Call(f0, shape, mouth, uniform(rng, 0.02, 0.12), uniform(rng, 0.05, 0.35), log_uniform(rng, 700, 2000), 0.12)


def _bellow(rng: Rng, duration_s: float) -> Call:
    """A cow whose voice breaks upwards half-way."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 110.0, 200.0)
    f0 = pitch * curve(n, [0.8, 0.9, 1.6, 1.7, 1.3], [0.0, 0.4, 0.5, 0.8, 1.0])
    mouth = scaled(((250, 700, 2000), (500, 1000, 2200), (600, 1100, 2300)), uniform(rng, 0.85, 1.2))
    return Call(f0, swell(n, 0.15, 0.3), mouth, 0.08, uniform(rng, 0.2, 0.5), 1200.0, 0.13)


def _tremor(n: int, rng: Rng) -> Curve:
    rate = uniform(rng, 6.5, 12.0) * (1.0 + 0.08 * wander(n, rng, 3.0))
    return smooth(times(n) * 0.0 + (((np.cumsum(rate) / 16_000.0) % 1.0) < 0.55).astype(float), 25.0)


def _bleat(rng: Rng, duration_s: float) -> Call:
    n, pitch = num_samples(duration_s), log_uniform(rng, 170.0, 420.0)
    tremor = _tremor(n, rng)
    f0 = pitch * curve(n, [0.95, 1.05, 1.0, 0.85]) * (0.95 + uniform(rng, 0.05, 0.13) * tremor)
    mouth = scaled(((350, 1400, 2500), (750, 1600, 2700), (700, 1700, 2700)), uniform(rng, 0.85, 1.25))
    shape = swell(n, 0.08, 0.2) * (1.0 - uniform(rng, 0.4, 0.8) * (1.0 - tremor))
    return Call(f0, shape, mouth, uniform(rng, 0.05, 0.2), uniform(rng, 0.1, 0.45), log_uniform(rng, 1200, 3000), 0.11)


def _lamb(rng: Rng, duration_s: float) -> Call:
    """A young animal: higher, nasal, with a sine-like tremolo that grows."""
    n, pitch = num_samples(duration_s), log_uniform(rng, 350.0, 620.0)
    shake = wander(n, rng, uniform(rng, 14.0, 22.0)) * curve(n, [0.2, 1.0, 1.0])
    f0 = pitch * curve(n, [1.0, 1.1, 0.95]) * (1.0 + 0.05 * shake)
    mouth = scaled(((600, 1500, 2800), (900, 1900, 3000)), uniform(rng, 1.0, 1.3))
    return Call(f0, swell(n, 0.1, 0.25) * (1.0 + 0.35 * shake).clip(0.1), mouth, 0.12, 0.25, 2500.0, 0.12)


def _oink(rng: Rng, duration_s: float) -> Call:
    n, pitch = num_samples(duration_s), log_uniform(rng, 45.0, 110.0)
    f0 = pitch * curve(n, [0.8, 1.2, 0.9]) * (1.0 + 0.12 * wander(n, rng, 12.0)).clip(0.5)
    mouth = scaled(((350, 1100, 2400), (500, 1500, 2600), (300, 1000, 2300)), uniform(rng, 0.8, 1.3))
    return Call(f0, swell(n, 0.15, 0.4), mouth, uniform(rng, 0.35, 0.65), uniform(rng, 0.6, 1.0), 2500.0, 0.2)


def _snort(rng: Rng, duration_s: float) -> Samples:
    """A grunt as air that flutters: nasal noise chopped by an uneven valve."""
    n = num_samples(duration_s)
    rate = log_uniform(rng, 30.0, 80.0) * (1.0 + 0.2 * wander(n, rng, 10.0)).clip(0.4)
    valve = smooth((((np.cumsum(rate) / 16_000.0) % 1.0) < 0.4).astype(float), 300.0)
    low = log_uniform(rng, 250.0, 500.0)
    air = unit(bandpass(noise(n, rng), low, low * 2.5)) + 0.5 * unit(bandpass(noise(n, rng), 1200.0, 2600.0))
    return air * (0.1 + valve) * swell(n, 0.2, 0.4)


def _kind(name: str, label: str, noun: str, sentence: str, *phrases: str) -> Kind:
    return Kind(name, label, noun, sentence, "animals", phrases)


RECIPES: tuple[Recipe, ...] = (
    Recipe(
        _kind("dog_bark", "a dog barking", "dog", "a dog barks", "a bark", "a barking dog"),
        (0.16, 0.42),
        (
            voiced(_bark, source_filter),
            voiced(_woof, source_filter, wave_functions),
            voiced(_bark, additive),
            _yap_noise,
        ),
        most_repeats=3,
        gap_s=(0.08, 0.45),
    ),
    Recipe(
        _kind("cat_meow", "a cat meowing", "cat", "a cat meows", "a meow", "a miaowing cat"),
        (0.45, 1.3),
        (
            voiced(_meow, source_filter),
            voiced(_yowl, source_filter, additive),
            voiced(_meow, additive),
            voiced(_yowl, modulated),
        ),
    ),
    Recipe(
        _kind("cow_moo", "a cow mooing", "cow", "a cow moos", "a moo", "a mooing cow"),
        (1.0, 2.6),
        (voiced(_moo, source_filter), voiced(_bellow, source_filter, additive), voiced(_moo, wave_functions)),
    ),
    Recipe(
        _kind("sheep_bleat", "a sheep bleating", "sheep", "a sheep bleats", "a bleat", "a bleating sheep"),
        (0.6, 1.5),
        (voiced(_bleat, source_filter), voiced(_lamb, source_filter, additive), voiced(_bleat, wave_functions)),
    ),
    Recipe(
        _kind("pig_oink", "a pig grunting", "pig", "a pig oinks", "an oink", "a grunting pig"),
        (0.2, 0.55),
        (voiced(_oink, source_filter), voiced(_oink, wave_functions), _snort),
        most_repeats=3,
        gap_s=(0.1, 0.4),
    ),
)
