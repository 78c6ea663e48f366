"""Sound from a throat's settings at every 5 ms: pulses and noise through resonances, in the domain of frequency.

Shapes: T frames of `HOP` samples, B = `NUM_BINS` frequencies from 0 to 8 kHz, R rows of `tract_phones.NOISES`.
Source: the cascade of Klatt (1980), his digital resonators evaluated at all frequencies at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.tract_phones import NOISES, UPPER_HZ, UPPER_WIDTH_HZ

Floats = npt.NDArray[np.float32]
Spectra = npt.NDArray[np.complex64]

HOP, FRAME, SIZE = 80, 160, 640  # samples; a frame's resonances may ring for SIZE - FRAME
NUM_BINS = SIZE // 2 + 1
FRAME_S = HOP / SAMPLE_RATE_HZ
HIGHEST_UPPER_HZ = 7_900.0
NASAL_POLE_HZ = 900.0
BAR_HZ = 420.0  # what a closed mouth lets through lies below
TAPS = 12  # of the band-limited pulse
HALF_STEP_HZ = 800.0
CREAKY = 0.92  # of the middle pitch: a voice that creaks does so below

_OMEGA = np.linspace(0.0, np.pi, NUM_BINS)
_HZ = (_OMEGA / np.pi * SAMPLE_RATE_HZ / 2).astype(np.float32)
_BASIS = np.stack([np.cos(_OMEGA), 1j * np.sin(_OMEGA), -np.ones(NUM_BINS)]).astype(np.complex64)
_BAR = (1.0 / (1.0 + (_HZ / BAR_HZ) ** 2) ** 1.5).astype(np.float32)


@dataclass(frozen=True)
class Throat:
    """What stays the same while a speaker speaks.

    Attributes:
        upper: factor on the frequencies of F4 and above.
        widths: factor on all bandwidths.
        pulse_hz: corner of the voice's pulse: above it the pulse falls by 12 dB an octave.
        pulse_damping: how round the pulse is; low values strengthen its lowest harmonics.
        tilt_hz: above it the voice falls by 6 dB an octave more.
        breath_tilt_hz: the same for its breath.
        noise_centre: factor on the frequencies of consonants' noise.
        noise_width: factor on its widths.
        gating: how far noise comes and goes with the voice, 0 to 1.
        nasal_width_hz: width of a nasal's gap.
    """

    upper: float = 1.0
    widths: float = 1.0
    pulse_hz: float = 130.0
    pulse_damping: float = 0.75
    tilt_hz: float = 3_000.0
    breath_tilt_hz: float = 6_000.0
    noise_centre: float = 1.0
    noise_width: float = 1.0
    gating: float = 0.4
    nasal_width_hz: float = 250.0


@dataclass(frozen=True, eq=False)
class Tracks:
    """Settings at every frame; levels are amplitudes, 1 is that of a neutral vowel.

    Attributes:
        f0: (T,) Hz.
        formants: (T, 3) Hz.
        widths: (T, 3) Hz.
        voice, breath: (T,) levels.
        bar: (T,) how far the mouth is closed.
        zero_hz: (T,) gap of the nasal; `NASAL_POLE_HZ` where there is none.
        noise: (T, R) levels.
    """

    f0: Floats
    formants: Floats
    widths: Floats
    voice: Floats
    breath: Floats
    bar: Floats
    zero_hz: Floats
    noise: Floats


@dataclass(frozen=True)
class Unevenness:
    """How irregular pulses are: deviations of their distance and strength, and how much weaker every second low one."""

    jitter: float = 0.005
    shimmer: float = 0.03
    creak: float = 0.0


def sound_of(tracks: Tracks, throat: Throat, uneven: Unevenness, rng: np.random.Generator) -> Floats:
    """(T * HOP,) samples at 16 kHz; a vowel has a root mean square of about 0.1."""
    pulses, phase = _pulses(tracks, uneven, rng)
    voiced = np.repeat((tracks.voice > 0.03).astype(np.float32), HOP)
    noise = rng.standard_normal(len(pulses), dtype=np.float32)
    noise *= 1.0 + throat.gating * voiced * np.cos(2 * np.pi * phase).astype(np.float32)
    spectra = _spectra(pulses) * _voice_filter(tracks, throat) + _spectra(noise) * _noise_filter(tracks, throat)
    return np.float32(0.1) * _overlapped(fft.irfft(spectra, SIZE, axis=1), len(pulses))


def _spectra(x: Floats) -> Spectra:
    """(T, B) of windowed frames; frame t is centred on the border between hops t and t + 1."""
    padded = np.concatenate([x, np.zeros(HOP, np.float32)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    window = (0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(FRAME) + 0.5) / FRAME)).astype(np.float32)
    return np.asarray(fft.rfft(frames * window, SIZE, axis=1), np.complex64)


def _overlapped(frames: Floats, num_samples: int) -> Floats:
    steps = SIZE // HOP
    out = np.zeros((len(frames) + steps, HOP), np.float32)
    for step in range(steps):
        out[step : step + len(frames)] += frames[:, step * HOP : (step + 1) * HOP]
    return out.reshape(-1)[:num_samples]


def _pulses(tracks: Tracks, uneven: Unevenness, rng: np.random.Generator) -> tuple[Floats, npt.NDArray[np.float64]]:
    """Band-limited pulses of the same power at any pitch, and the phase of the voice at every sample."""
    num = len(tracks.f0) * HOP
    edges = np.concatenate([[0.0], np.cumsum(tracks.f0.astype(np.float64) * FRAME_S)])
    phase = np.interp(np.arange(num), np.arange(len(edges)) * HOP, edges)
    count = int(edges[-1])
    moments: Any = np.arange(1, count + 1) + np.clip(uneven.jitter * rng.standard_normal(count), -0.3, 0.3)
    is_low = tracks.f0 < CREAKY * np.median(tracks.f0)
    moments[::2] += 0.25 * uneven.creak * np.interp(moments, edges[1:], is_low)[::2]
    places = np.interp(moments, edges, np.arange(len(edges)) * HOP)
    frames = np.minimum((places / HOP).astype(np.int64), len(tracks.f0) - 1)
    strengths = (1.0 + uneven.shimmer * rng.standard_normal(count)) / np.sqrt(tracks.f0[frames])
    strengths[::2] *= 1.0 - uneven.creak * is_low[frames][::2]
    whole = np.floor(places).astype(np.int64)
    steps = np.arange(-TAPS // 2 + 1, TAPS // 2 + 1)
    distance = steps[None] - (places - whole)[:, None]
    taps = np.sinc(distance) * np.cos(np.pi * distance / (TAPS + 2)) ** 2
    where = np.clip(whole[:, None] + steps[None], 0, num - 1)
    out = np.bincount(where.ravel(), (taps * strengths[:, None]).ravel(), num)
    return out.astype(np.float32), phase


def _resonance(hz: Floats, width_hz: Floats) -> tuple[Spectra, Floats]:
    """(T, B) denominator of a digital resonator and (T, 1) the factor that makes it 1 at 0 Hz; a sample early."""
    radius = np.exp(-np.pi * width_hz / SAMPLE_RATE_HZ)
    b, c = 2.0 * radius * np.cos(2 * np.pi * hz / SAMPLE_RATE_HZ), radius * radius
    coefficients = np.stack([1.0 + c, 1.0 - c, b], axis=1).astype(np.complex64)
    return coefficients @ _BASIS, (1.0 - b + c).astype(np.float32)[:, None]


def _cascade(formants: Floats, widths: Floats, zero_hz: Floats, throat: Throat) -> Spectra:
    """(T, B) response of the throat, mouth and nose."""
    upper = [(hz * throat.upper, width) for hz, width in zip(UPPER_HZ, UPPER_WIDTH_HZ, strict=True)]
    kept = np.array([one for one in upper if one[0] < HIGHEST_UPPER_HZ], np.float32)
    below, gain = _resonance(kept[:, 0], kept[:, 1] * throat.widths)
    denominator: Any = np.repeat(below.prod(axis=0)[None], len(formants), axis=0)
    gains = np.full((len(formants), 1), gain.prod(), np.float32)
    for index in range(3):
        below, gain = _resonance(formants[:, index], widths[:, index])
        denominator *= below
        gains = gains * gain
    nasal = np.flatnonzero(np.abs(zero_hz - NASAL_POLE_HZ) > 1.0)
    response: Spectra = gains / denominator
    if len(nasal):
        above, top = _resonance(zero_hz[nasal], np.full(len(nasal), throat.nasal_width_hz, np.float32))
        pole = np.full(1, NASAL_POLE_HZ, np.float32)
        below, gain = _resonance(pole, np.full(1, throat.nasal_width_hz, np.float32))
        response[nasal] *= (above / top) * (gain / below)
    return response


def _pulse_spectrum(throat: Throat) -> Spectra:
    """(B,) of the glottis and of the radiation from the lips, made loud as one for a neutral vowel."""
    x = _HZ / throat.pulse_hz
    pulse = 1j * x / (1.0 + 2j * throat.pulse_damping * x - x * x)
    shaped = (pulse / (1.0 + 1j * _HZ / throat.tilt_hz)).astype(np.complex64)
    return np.asarray(shaped / np.float32(_level(shaped * _neutral(throat))), np.complex64)


def _neutral(throat: Throat) -> Spectra:
    formants = np.array([[500.0, 1_500.0, 2_500.0]], np.float32)
    widths = np.array([[80.0, 100.0, 140.0]], np.float32) * np.float32(throat.widths)
    response: Spectra = _cascade(formants, widths, np.full(1, NASAL_POLE_HZ, np.float32), throat)[0]
    return response


def _level(response: Spectra) -> float:
    """Root mean square of unit noise, or of pulses of the same power, after a filter."""
    return float(np.sqrt(np.mean(np.abs(response) ** 2)))


def _voice_filter(tracks: Tracks, throat: Throat) -> Spectra:
    cascade = _cascade(tracks.formants, tracks.widths, tracks.zero_hz, throat)
    # Pulses of strength 1 / sqrt(f0) have the power of one pulse a second: noise's is that of one a sample.
    level = tracks.voice * np.float32(np.sqrt(SAMPLE_RATE_HZ))
    closed = 1.0 + tracks.bar[:, None] * (_BAR - 1.0)[None]
    return np.asarray(cascade * (closed * level[:, None]) * _pulse_spectrum(throat), np.complex64)


def _noise_filter(tracks: Tracks, throat: Throat) -> Spectra:
    shapes = noise_shapes(throat)
    filtered = (tracks.noise @ shapes).astype(np.complex64)
    breathing = np.flatnonzero(tracks.breath > 1e-3)
    if len(breathing):
        wide = np.array([180.0, 60.0, 60.0], np.float32)
        cascade = _cascade(
            tracks.formants[breathing], tracks.widths[breathing] + wide, tracks.zero_hz[breathing], throat
        )
        x = _HZ / HALF_STEP_HZ
        breath = (1j * x / (1.0 + 1j * x) / (1.0 + 1j * _HZ / throat.breath_tilt_hz)).astype(np.complex64)
        breath /= np.float32(_level(breath * _neutral(throat)))
        filtered[breathing] += cascade * breath * tracks.breath[breathing, None]
    return filtered


def noise_shapes(throat: Throat) -> Floats:
    """(R, B) magnitudes of consonants' noise, each of level 1."""
    rows = []
    for humps in NOISES.values():
        row = np.full(NUM_BINS, 0.02, np.float32)
        for centre, half, level_db in humps:
            distance = (_HZ - centre * throat.noise_centre) / (half * throat.noise_width)
            row += 10.0 ** (level_db / 20) * np.exp(-0.5 * distance**2)
        row *= _HZ / (_HZ + 200.0)
        rows.append(row / _level(row.astype(np.complex64)))
    return np.stack(rows).astype(np.float32)
