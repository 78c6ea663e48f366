"""Four ways in which a throat can be imitated, for animals and people: one `Call`, four independent engines.

Sources: Fant's source-filter model; additive synthesis under a spectral envelope; Rodet's formant wave functions (FOF,
1984); Chowning's formant FM (1980).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioflamingo.world.sounds.synthesis import (
    RATE,
    TOP_HZ,
    Curve,
    Rng,
    buzz,
    convolve,
    curve,
    noise,
    phase,
    resonate,
    smooth,
    strikes_at,
    times,
    uniform,
    unit,
    wander,
)

Formants = tuple[float, ...]


@dataclass(frozen=True)
class Call:
    """What is to be voiced.

    Attributes:
        f0_hz: (N,) pitch.
        envelope: (N,) loudness, 0 to 1.
        formants_hz: sets of formants that the mouth goes through, evenly over the call.
        breath: share of noise, 0 to 1.
        roughness: irregularity of the folds, 0 to 1.
        tilt_hz: corner above which the source loses 6 dB an octave more.
        bandwidth: width of the formants relative to their frequency.
    """

    f0_hz: Curve
    envelope: Curve
    formants_hz: tuple[Formants, ...]
    breath: float = 0.1
    roughness: float = 0.1
    tilt_hz: float = 1_200.0
    bandwidth: float = 0.14


Engine = Callable[[Call, Rng], Curve]


def _rough(call: Call, rng: Rng) -> tuple[Curve, Curve]:
    """Pitch with jitter, and an amplitude factor with shimmer and a subharmonic."""
    n = len(call.f0_hz)
    jitter = 0.04 * call.roughness * smooth(noise(n, rng), 60.0) * 10.0 + 0.012 * wander(n, rng, 9.0)
    f0 = call.f0_hz * np.clip(1.0 + jitter, 0.6, 1.6)
    sub = np.sin(phase(f0) * 0.5 + uniform(rng, 0.0, 6.28))
    shimmer = smooth(noise(n, rng), 90.0) * 7.0
    return f0, np.maximum(1.0 + call.roughness * (0.5 * sub + 0.5 * shimmer), 0.0)


def _through_mouth(x: Curve, call: Call) -> Curve:
    """Formant filters; a moving mouth is a cross-fade between still ones."""
    sets, n = call.formants_hz, len(x)
    out = np.zeros(n)
    for index, formants in enumerate(sets):
        weight = np.zeros(len(sets))
        weight[index] = 1.0
        widths = [60.0 + call.bandwidth * f for f in formants]
        gains = [0.75**k for k in range(len(formants))]
        filtered = resonate(x, formants, widths, gains)
        out += filtered if len(sets) == 1 else filtered * curve(n, weight.tolist())
    return out


def _finish(voiced: Curve, call: Call, rng: Rng) -> Curve:
    """Adds breath of the same mouth, then the envelope."""
    out = unit(voiced)
    if call.breath > 0.0:
        air = unit(_through_mouth(noise(len(voiced), rng), call))
        out = out * (1.0 - call.breath) + air * call.breath
    return np.asarray(out * call.envelope)


def source_filter(call: Call, rng: Rng) -> Curve:
    """Glottal pulses through formant resonators."""
    f0, shake = _rough(call, rng)
    source = smooth(buzz(f0, uniform(rng, 0.97, 0.995)), call.tilt_hz) * shake
    return _finish(_through_mouth(source, call), call, rng)


def additive(call: Call, rng: Rng) -> Curve:
    """Harmonics whose levels are read from a moving spectral envelope."""
    f0, shake = _rough(call, rng)
    n, turn = len(f0), phase(f0)
    num_harmonics = int(np.clip(TOP_HZ / np.max(f0), 1, 60))
    knots = np.linspace(0, n - 1, max(3, n // 320)).astype(np.int64)
    envelopes = _spectral_envelope(call, knots, np.arange(1, num_harmonics + 1)[:, None] * f0[knots][None, :])
    twice_cos, below, here = 2.0 * np.cos(turn), np.zeros(n), np.sin(turn)
    out, grid = np.zeros(n), np.arange(n)
    for row in envelopes:
        out += here * np.interp(grid, knots, row)
        below, here = here, twice_cos * here - below
    return _finish(out * shake, call, rng)


def _spectral_envelope(call: Call, knots: npt.NDArray[np.int64], frequency_hz: Curve) -> Curve:
    """Levels (harmonics, knots) under bell curves around the formants, above a falling floor."""
    paths = np.array(call.formants_hz)
    places = np.linspace(0.0, 1.0, len(paths))
    at = knots / max(1, len(call.f0_hz) - 1)
    out = 0.04 / (1.0 + frequency_hz / 1_000.0)
    for index in range(paths.shape[1]):
        centre = np.interp(at, places, paths[:, index])[None, :]
        width = 60.0 + 0.8 * call.bandwidth * centre
        out = out + 0.75**index * np.exp(-0.5 * ((frequency_hz - centre) / width) ** 2)
    return np.asarray(out / (1.0 + frequency_hz / (3.0 * call.tilt_hz)))


def wave_functions(call: Call, rng: Rng) -> Curve:
    """Each pulse of the folds starts a little burst of damped sines; pulses may be late, weak or missing."""
    f0, shake = _rough(call, rng)
    n = len(f0)
    cycles = np.cumsum(f0) / RATE
    moments = np.searchsorted(cycles, np.arange(1, int(cycles[-1]) + 1)) / RATE
    moments = moments + 0.0004 * call.roughness * rng.standard_normal(len(moments))
    levels = 1.0 + 0.4 * call.roughness * rng.standard_normal(len(moments))
    levels[1::2] *= 1.0 - 0.6 * call.roughness
    pulses = strikes_at(n, np.sort(moments), levels)
    out, sets = np.zeros(n), call.formants_hz
    for index, formants in enumerate(sets):
        weight = np.zeros(len(sets))
        weight[index] = 1.0
        burst = convolve(pulses, _burst(formants, call))
        out += burst if len(sets) == 1 else burst * curve(n, weight.tolist())
    return _finish(out * np.sqrt(shake), call, rng)


def _burst(formants: Formants, call: Call) -> Curve:
    """One formant wave function of 25 ms for each formant, summed."""
    t = times(400)
    out = np.zeros(400)
    for index, frequency in enumerate(formants):
        if frequency < TOP_HZ:
            width = 60.0 + call.bandwidth * frequency
            attack = np.minimum(t * 1_000.0, 1.0)
            out += 0.75**index * attack * np.exp(-np.pi * width * t) * np.sin(2.0 * np.pi * frequency * t)
    return out


def modulated(call: Call, rng: Rng) -> Curve:
    """One modulator at the pitch, a carrier at the harmonic nearest to each formant; the index follows loudness."""
    f0, shake = _rough(call, rng)
    turn, pitch = phase(f0), float(np.median(f0))
    depth = uniform(rng, 0.8, 2.0) * (0.3 + call.envelope) * min(1.0, 1_500.0 / pitch)
    swing = depth * np.sin(turn)
    centre = np.mean(np.array(call.formants_hz), axis=0)
    out = np.zeros(len(f0))
    for index, frequency in enumerate(centre):
        ratio = max(1, round(float(frequency) / pitch))
        if (ratio + 2) * float(np.max(f0)) < TOP_HZ or ratio == 1:
            out += 0.7**index * np.sin(ratio * turn + swing)
    return _finish(out * shake, call, rng)
