"""More renderings of a kind of sound than its algorithms give: sizes, materials, and mixtures of two algorithms.

What makes a bark a bark is its course in time and the rough place of its resonances, not the exact timbre of one
algorithm. So the timbre is varied widely, and partly taken from another algorithm of the same kind. Training alone
uses this; a held-out algorithm is never touched. What is borrowed comes from events made before, so samples depend on
the process's history too.
"""

from __future__ import annotations

import numpy as np
from scipy import fft

from audioflamingo.world import disguise
from audioflamingo.world.disguise import Change, Samples
from audioflamingo.world.sounds import KINDS, PEAK, TRAINING_VARIANTS, VARIANTS, render_by
from audioflamingo.world.sounds.kinds import Variant
from audioflamingo.world.sounds.more import MORE
from audioflamingo.world.sounds.synthesis import log_uniform

BORROWED_SHARE = 0.4
LEAST_MORE, MOST_MORE = 0.5, 0.75  # share of the events of a kind that algorithms for training alone make, if any
FRESH_SHARE, NUM_KEPT = 0.1, 6
NUM_BANDS = 32
SHORTEST_S = 0.3

_KEPT: dict[str, list[Samples]] = {}


def render_varied(
    kind: str,
    rng: np.random.Generator,
    *,
    variant: int,
    duration_s: float | None = None,
    repeats: int | None = None,
    variety: float = 1.0,
) -> Samples:
    """One event as by `sounds.render`, then changed.

    Args:
        kind: a name in `KINDS`.
        rng: draws everything.
        variant: which algorithm.
        duration_s: exact duration of a steady kind, as in `sounds.render`.
        repeats: units in the event.
        variety: how far it may go, 0 to 1.

    Returns:
        (N,) float32 with a peak of `PEAK`; a steady kind of a given duration keeps it to the sample.
    """
    size = log_uniform(rng, 1.0 - 0.28 * variety, 1.0 + 0.38 * variety)
    asked = duration_s and float(np.clip(duration_s * size, SHORTEST_S, None))
    samples = render_by(_algorithm(kind, rng, variant, variety), kind, rng, duration_s=asked, repeats=repeats)
    samples = disguise.wander(samples, rng, 0.12 * variety, size)
    samples = _changed(kind, samples, rng, variety)
    if duration_s is not None and KINDS[kind].steady:
        samples = _exactly(samples, round(duration_s * 16_000))
    peak = float(np.abs(samples).max())
    return np.asarray(samples * np.float32(PEAK / max(peak, 1e-9)), np.float32)


def _algorithm(kind: str, rng: np.random.Generator, variant: int, variety: float) -> Variant:
    """The one that is asked for, or in its place one of those for training alone."""
    if kind in MORE and rng.random() < _share_of_more(kind) * variety:
        return MORE[kind][int(rng.integers(len(MORE[kind])))]
    return VARIANTS[kind][variant]


def _share_of_more(kind: str) -> float:
    """Every algorithm as often as any other, within bounds: what the kind's own algorithms make stays well known."""
    num_more, num_own = len(MORE[kind]), len(TRAINING_VARIANTS[kind])
    return float(np.clip(num_more / (num_more + num_own), LEAST_MORE, MOST_MORE))


def _changed(kind: str, samples: Samples, rng: np.random.Generator, variety: float) -> Samples:
    change = Change(
        formants=log_uniform(rng, 1.0 - 0.3 * variety, 1.0 + 0.42 * variety),
        breath=variety * float(rng.choice((0.0, 0.0, rng.uniform(0.0, 0.4)))),
        tilt_db=variety * float(rng.uniform(-15.0, 15.0)),
        depth=1.0 + variety * float(rng.uniform(-0.45, 0.35)),
    )
    out = disguise.changed(samples, change, rng)
    if (len(TRAINING_VARIANTS[kind]) > 1 or kind in MORE) and rng.random() < BORROWED_SHARE * variety:
        out = _with_timbre_of(out, _another(kind, rng), float(rng.uniform(0.3, 1.0)))
    return _with_course(out, rng, 6.0 * variety)


def _another(kind: str, rng: np.random.Generator) -> Samples:
    """An event of the kind by any training algorithm: one of a few that are kept, now and then a fresh one."""
    kept = _KEPT.setdefault(kind, [])
    if len(kept) < NUM_KEPT or rng.random() < FRESH_SHARE:
        variant = int(rng.choice(list(TRAINING_VARIANTS[kind])))
        seconds = 1.5 if KINDS[kind].steady else None
        kept.append(render_by(_algorithm(kind, rng, variant, 1.0), kind, rng, duration_s=seconds, repeats=1))
        del kept[:-NUM_KEPT]
    return kept[int(rng.integers(len(kept)))]


def _with_timbre_of(x: Samples, other: Samples, share: float) -> Samples:
    """The long-term spectrum moved towards another's."""
    steps = np.clip((_bands(other) - _bands(x)) * share, -3.0, 3.0)
    size = fft.next_fast_len(len(x) + 2_048, real=True)
    spectrum = fft.rfft(x, size)
    gain = np.exp(np.interp(np.linspace(0, NUM_BANDS - 1, len(spectrum)), np.arange(NUM_BANDS), steps))
    return np.asarray(fft.irfft(spectrum * gain.astype(np.float32), size)[: len(x)], np.float32)


def _bands(x: Samples) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """(NUM_BANDS,) log level of evenly spaced bands around their mean."""
    size = 512
    padded = np.pad(x, (0, max(0, size - len(x))))
    frames = padded[: len(padded) // size * size].reshape(-1, size) * np.hanning(size).astype(np.float32)
    power = np.mean(np.abs(fft.rfft(frames, axis=1)[:, 1:]) ** 2, axis=0) + 1e-9
    log = 0.5 * np.log(power[: size // 2 // NUM_BANDS * NUM_BANDS].reshape(NUM_BANDS, -1).mean(axis=1))
    return np.asarray(log - log.mean(), np.float64)


def _with_course(x: Samples, rng: np.random.Generator, depth_db: float) -> Samples:
    """A slow change of level of up to `depth_db` either way."""
    num_points = max(2, len(x) // 8_000 + 2)
    gains = 10.0 ** (rng.uniform(-1, 1, num_points) * depth_db / 20.0)
    course = np.interp(np.arange(len(x)), np.linspace(0, len(x), num_points), gains)
    return np.asarray(x * course, np.float32)


def _exactly(x: Samples, num: int) -> Samples:
    if len(x) >= num:
        return x[:num]
    return np.resize(x, num)
