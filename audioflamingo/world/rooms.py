"""What lies between a sound and a listener: rooms, noise beds, spectral tilt, narrow bands, clipping, coarse coding.

Everything takes and gives (N,) float32 mono samples at 16 kHz and keeps N, except `speed`. Nothing delays the direct
sound, so that the times of events stay exact. The stochastic room response follows Moorer (1979): early reflections,
then noise that decays exponentially, faster at high frequencies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, signal

from audioflamingo.errors import OptionError
from audioflamingo.types import SAMPLE_RATE_HZ

Samples = npt.NDArray[np.float32]
Rng = np.random.Generator

DB60 = 6.908  # ln(1000)
ACTIVE_WINDOW = 320  # samples: 20 ms
ACTIVE_RANGE_DB = 30.0  # windows this far below the loudest count as silence
MU = 255.0  # G.711 mu-law


def reverberate(
    x: Samples, rng: Rng, *, rt60_s: float | None = None, direct_to_reverberant_db: float | None = None
) -> Samples:
    """Puts a sound into a room; the direct path has gain 1 and delay 0, and the tail is cut at the end of `x`.

    Args:
        x: (N,) float32.
        rng: draws the room.
        rt60_s: time in which the reverberation loses 60 dB; None draws 0.1 to 1.2 s.
        direct_to_reverberant_db: energy of the direct path over that of everything else; None draws 0 to 20 dB.

    Returns:
        (N,) float32.
    """
    rt60 = float(np.exp(rng.uniform(np.log(0.1), np.log(1.2)))) if rt60_s is None else rt60_s
    ratio = float(rng.uniform(0.0, 20.0)) if direct_to_reverberant_db is None else direct_to_reverberant_db
    response = _reflections(rng, rt60)
    response *= np.float32(10.0 ** (-ratio / 20.0) / max(float(np.sqrt(np.sum(response**2))), 1e-9))
    return np.asarray(x + signal.oaconvolve(x, response)[: len(x)], dtype=np.float32)


def _reflections(rng: Rng, rt60_s: float) -> Samples:
    """(M,) response of a room without its direct path."""
    n = int(rt60_s * SAMPLE_RATE_HZ) + 400
    t = np.arange(n, dtype=np.float32) / SAMPLE_RATE_HZ
    white = rng.standard_normal(n, dtype=np.float32)
    dull = signal.lfilter([0.25], [1.0, -0.75], white).astype(np.float32)
    darkening = rng.uniform(0.3, 0.9)
    late = dull * np.exp(-DB60 * t / rt60_s) + 0.4 * (white - dull) * np.exp(-DB60 * t / (rt60_s * darkening))
    onset = int(rng.uniform(0.002, 0.02) * SAMPLE_RATE_HZ)
    late[:onset] = 0.0
    num_early = int(rng.integers(3, 12))
    delays = (rng.uniform(0.002, 0.06, num_early) * SAMPLE_RATE_HZ).astype(np.int64)
    delays = delays[delays < n]
    np.add.at(
        late, delays, rng.choice((-1.0, 1.0), len(delays)) * 3.0 * np.exp(-DB60 * delays / SAMPLE_RATE_HZ / rt60_s)
    )
    return np.asarray(late, dtype=np.float32)


def colored_noise(n: int, rng: Rng, slope_db_per_octave: float) -> Samples:
    """(n,) float32 noise of unit deviation: 0 is white, -3 pink, -6 brown."""
    return _spectral(n, rng, lambda hz: np.maximum(hz, 20.0) ** (slope_db_per_octave / 6.02))


def _spectral(n: int, rng: Rng, gain: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]) -> Samples:
    """Noise with a magnitude spectrum that is a function of frequency in Hz."""
    size = fft.next_fast_len(n, real=True)
    half = size // 2 + 1
    parts = rng.standard_normal((2, half), dtype=np.float32)
    hz = np.arange(half, dtype=np.float32) * np.float32(SAMPLE_RATE_HZ / size)
    spectrum = (parts[0] + 1j * parts[1]) * gain(hz).astype(np.float32)
    spectrum[0] = 0.0
    out = fft.irfft(spectrum.astype(np.complex64), size)[:n]
    return np.asarray(out / (out.std() + 1e-12), dtype=np.float32)


def mains_hum(n: int, rng: Rng) -> Samples:
    """(n,) 50 or 60 Hz with harmonics and a little hiss."""
    mains = float(rng.choice((50.0, 60.0)))
    turn = np.arange(n, dtype=np.float64) * (2.0 * np.pi * mains * rng.uniform(0.995, 1.005) / SAMPLE_RATE_HZ)
    once = np.exp(1j * turn)
    out, power = np.zeros(n), np.ones(n, dtype=np.complex128)
    for order in range(1, 11):
        power = power * once
        if order <= 2 or order % 2 == 0 or rng.random() < 0.5:
            out += rng.uniform(0.1, 1.0) / order**0.7 * (power * np.exp(1j * rng.uniform(0.0, 6.28))).real
    return _unit(out + 0.1 * colored_noise(n, rng, -3.0))


def fan(n: int, rng: Rng) -> Samples:
    """(n,) a fan or ventilation: broad low noise, a slow beat and the tone of the blades."""
    corner, blade = rng.uniform(150.0, 900.0), rng.uniform(40.0, 220.0)
    air = _spectral(n, rng, lambda hz: 1.0 / (1.0 + (hz / corner) ** 2) + 0.01)
    t = np.arange(n) / SAMPLE_RATE_HZ
    tone = np.sin(2.0 * np.pi * blade * t) + 0.4 * np.sin(4.0 * np.pi * blade * t)
    return _unit(air * (1.0 + 0.1 * np.sin(2.0 * np.pi * rng.uniform(0.5, 6.0) * t)) + rng.uniform(0.0, 0.5) * tone)


def vinyl(n: int, rng: Rng) -> Samples:
    """(n,) an old record: faint hiss, sparse clicks and rumble."""
    clicks = np.zeros(n, dtype=np.float32)
    num = int(rng.poisson(rng.uniform(5.0, 60.0) * n / SAMPLE_RATE_HZ))
    clicks[rng.integers(0, n, num)] = rng.standard_t(3, num) * 30.0
    clicks = signal.lfilter([1.0, -0.6], [1.0, -0.7], clicks)
    return _unit(clicks + colored_noise(n, rng, -2.0) + 0.5 * colored_noise(n, rng, -8.0))


def room_tone(n: int, rng: Rng) -> Samples:
    """(n,) the quiet of a room: steeply falling noise with a slow drift of level."""
    drift = np.interp(np.arange(n), np.linspace(0, n, 12), 10.0 ** (rng.uniform(-3.0, 3.0, 12) / 20.0))
    return _unit(colored_noise(n, rng, rng.uniform(-7.0, -4.0)) * drift)


def babble(n: int, rng: Rng) -> Samples:
    """(n,) a murmuring crowd: several streams of speech-shaped noise that swell at the rate of syllables."""
    out = np.zeros(n, dtype=np.float32)
    for _ in range(int(rng.integers(4, 9))):
        centre = float(np.exp(rng.uniform(np.log(250.0), np.log(1_800.0))))
        stream = _spectral(n, rng, lambda hz, centre=centre: np.exp(-1.5 * np.log2((hz + 30.0) / centre) ** 2))  # type: ignore[misc]
        num_points = max(2, int(n / SAMPLE_RATE_HZ * rng.uniform(5.0, 9.0)))
        out += stream * np.interp(np.arange(n), np.linspace(0, n, num_points), rng.uniform(0.0, 1.0, num_points) ** 2)
    return _unit(out)


NOISE_BEDS: dict[str, Callable[[int, Rng], Samples]] = {
    "white": lambda n, rng: colored_noise(n, rng, 0.0),
    "pink": lambda n, rng: colored_noise(n, rng, -3.0),
    "brown": lambda n, rng: colored_noise(n, rng, -6.0),
    "hum": mains_hum,
    "fan": fan,
    "vinyl": vinyl,
    "room_tone": room_tone,
    "babble": babble,
}


def noise_bed(n: int, rng: Rng, name: str | None = None) -> Samples:
    """(n,) float32 background of unit deviation; None draws one of `NOISE_BEDS`."""
    if name is None:
        name = sorted(NOISE_BEDS)[int(rng.integers(len(NOISE_BEDS)))]
    if name not in NOISE_BEDS:
        raise OptionError(f"no noise bed is called {name!r}; choose one of {', '.join(sorted(NOISE_BEDS))}.")
    return NOISE_BEDS[name](n, rng)


def active_rms(x: Samples) -> float:
    """Root mean square over the windows of 20 ms within 30 dB of the loudest one; 0 for silence."""
    num_windows = max(1, len(x) // ACTIVE_WINDOW)
    cut = x[: num_windows * ACTIVE_WINDOW] if len(x) >= ACTIVE_WINDOW else x
    power = np.mean(np.square(cut, dtype=np.float64).reshape(num_windows, -1), axis=1)
    active = power[power >= np.max(power, initial=0.0) * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)]
    return float(np.sqrt(active.mean())) if len(active) else 0.0


def mix_at_snr(x: Samples, noise: Samples, snr_db: float) -> Samples:
    """Adds noise so that the active level of `x` lies `snr_db` above the level of the noise; silence stays as it is.

    Raises:
        OptionError: the noise is shorter than the sound.
    """
    if len(noise) < len(x):
        raise OptionError(f"noise has {len(noise)} samples; it needs at least the sound's {len(x)}. Make it longer.")
    bed = noise[: len(x)]
    rms = float(np.sqrt(np.mean(np.square(bed, dtype=np.float64)))) if len(bed) else 0.0
    if rms == 0.0:
        return x
    return np.asarray(x + bed * np.float32(active_rms(x) / rms * 10.0 ** (-snr_db / 20.0)), dtype=np.float32)


def equalise(x: Samples, rng: Rng, depth_db: float = 9.0) -> Samples:
    """Random smooth colouring by a spectral multiplier: a tilt and up to three bumps, each within `depth_db`."""
    tilt, bumps = rng.uniform(-0.5, 0.5) * depth_db, int(rng.integers(0, 4))
    centres, heights = rng.uniform(6.5, 12.8, bumps), rng.uniform(-depth_db, depth_db, bumps)

    def gain(hz: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        octave = np.log2(np.maximum(hz, 40.0))
        db = tilt * (octave - 9.8) / 3.0
        for centre, height in zip(centres, heights, strict=True):
            db = db + height * np.exp(-2.0 * (octave - centre) ** 2)
        return np.asarray(10.0 ** (db / 20.0))

    return _multiplied(x, gain)


def _multiplied(x: Samples, gain: Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]) -> Samples:
    """Zero-phase filter: keeps the place of everything in time. Padded, so that the end does not leak to the start."""
    size = fft.next_fast_len(len(x) + 2_048, real=True)
    knots = np.geomspace(1.0, SAMPLE_RATE_HZ / 2.0, 256, dtype=np.float32)
    hz = np.arange(size // 2 + 1, dtype=np.float32) * np.float32(SAMPLE_RATE_HZ / size)
    curve = np.interp(hz, knots, gain(knots)).astype(np.float32)
    return np.asarray(fft.irfft(fft.rfft(x, size) * curve, size)[: len(x)], dtype=np.float32)


BANDS = ("telephone", "am_radio", "muffled")


def band_limit(x: Samples, rng: Rng, band: str | None = None) -> Samples:
    """Telephone (300 to 3400 Hz), AM radio (100 to 4500 Hz) or a muffled low-pass at 2 to 6 kHz; None draws one."""
    name = BANDS[int(rng.integers(len(BANDS)))] if band is None else band
    if name not in BANDS:
        raise OptionError(f"no band is called {name!r}; choose one of {', '.join(BANDS)}.")
    low, high = {"telephone": (300.0, 3_400.0), "am_radio": (100.0, 4_500.0)}.get(
        name, (1.0, rng.uniform(2_000.0, 6_000.0))
    )
    order = 12.0 if name == "telephone" else 8.0
    return _multiplied(x, lambda hz: 1.0 / np.sqrt((1.0 + (hz / high) ** order) * (1.0 + (low / hz) ** order)))


def clip_soft(x: Samples, drive_db: float) -> Samples:
    """Overdrives a sound by `drive_db` above its peak into a tanh curve, and restores the peak."""
    peak = float(np.abs(x).max(initial=0.0))
    if peak == 0.0:
        return x
    drive = 10.0 ** (drive_db / 20.0)
    return np.asarray(np.tanh(x * np.float32(drive / peak)) * np.float32(peak / np.tanh(drive)), dtype=np.float32)


def codec_like(x: Samples, bits: int = 8) -> Samples:
    """Mu-law companding (G.711): eight bits are a telephone line's, fewer are coarser. Input beyond 1 clips."""
    if not 4 <= bits <= 16:
        raise OptionError(f"bits is {bits}; codec_like takes 4 to 16.")
    table = _mu_law_table(bits)
    steps = 2.0 ** (bits - 1) - 1.0
    code = np.log1p(np.float32(MU) * np.minimum(np.abs(x), np.float32(1.0))) * np.float32(steps / np.log1p(MU))
    return np.copysign(table[np.rint(code).astype(np.int32)], x)


@lru_cache(maxsize=16)
def _mu_law_table(bits: int) -> Samples:
    steps = 2 ** (bits - 1) - 1
    return np.asarray(np.expm1(np.arange(steps + 1) / steps * np.log1p(MU)) / MU, dtype=np.float32)


def speed(x: Samples, factor: float) -> Samples:
    """Plays `x` faster (above 1) or slower: (round(N / factor),) float32. Pitch and formants move along.

    Raises:
        OptionError: the factor is outside 0.25 to 4.
    """
    if not 0.25 <= factor <= 4.0:
        raise OptionError(f"factor is {factor}; speed takes 0.25 to 4.")
    num = max(1, round(len(x) / factor))
    pad = 512
    size = fft.next_fast_len(len(x) + pad, real=True)
    target = max(2, round(size / factor))
    return np.asarray(signal.resample(np.pad(x, (0, size - len(x))), target)[:num], dtype=np.float32)


def gain(x: Samples, gain_db: float) -> Samples:
    """Louder or softer by `gain_db`."""
    return np.asarray(x * np.float32(10.0 ** (gain_db / 20.0)), dtype=np.float32)


def channel(x: Samples, rng: Rng, strength: float) -> Samples:
    """A random way from source to recording; times of events stay exact.

    Chances at full strength: room 0.6, background 0.6 at 0 to 30 dB, tilt or narrow band 0.4, mu-law 0.15, clipping
    0.1; a gain of -30 to 0 dB always. `strength` scales chances and depths; 0 leaves a mild gain only.

    Args:
        x: (N,) float32.
        rng: draws everything.
        strength: 0 to 1.

    Returns:
        (N,) float32 within [-1, 1].

    Raises:
        OptionError: strength is outside 0 to 1.
    """
    if not 0.0 <= strength <= 1.0:
        raise OptionError(f"strength is {strength}; channel takes 0 to 1.")
    room, bed, color, coarse, hot = rng.random(5) < np.array([0.6, 0.6, 0.4, 0.15, 0.1]) * strength
    if room:
        x = reverberate(x, rng, direct_to_reverberant_db=float(rng.uniform(20.0 - 20.0 * strength, 20.0)))
    if color:
        x = equalise(x, rng, 9.0 * strength) if rng.random() < 0.6 else band_limit(x, rng)
    if bed:
        x = mix_at_snr(x, noise_bed(len(x), rng), float(rng.uniform(30.0 - 30.0 * strength, 30.0)))
    if hot:
        x = clip_soft(x, float(rng.uniform(0.0, 12.0)) * strength)
    x = _within_one(gain(x, float(rng.uniform(-6.0 - 24.0 * strength, 0.0))))
    return codec_like(x) if coarse else x


def _within_one(x: Samples) -> Samples:
    """Scaled down, if need be, so as not to exceed 1."""
    peak = float(np.abs(x).max(initial=0.0))
    return np.asarray(x / np.float32(peak), dtype=np.float32) if peak > 1.0 else x


def _unit(x: npt.NDArray[Any]) -> Samples:
    return np.asarray(x / (np.std(x) + 1e-12), dtype=np.float32)
