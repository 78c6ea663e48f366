"""The algorithms of sounds for training alone: finite, heard, repeatable, varied, at every duration."""

from __future__ import annotations

import numpy as np
import pytest

from audioflamingo.world.sounds import KINDS, PEAK, VARIANTS, render_by
from audioflamingo.world.sounds.apart import APART
from audioflamingo.world.sounds.kinds import Variant

CASES = [(kind, algorithm) for kind, algorithms in APART.items() for algorithm in algorithms]
STEADY = [(kind, algorithm) for kind, algorithm in CASES if KINDS[kind].steady]


def _name(value: object) -> str:
    return value if isinstance(value, str) else str(getattr(value, "__name__", value)).lstrip("_")


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


@pytest.mark.parametrize(("kind", "algorithm"), CASES, ids=_name)
def test_every_unit_is_finite_and_heard(kind: str, algorithm: Variant) -> None:
    for seed in range(12):
        x = render_by(algorithm, kind, np.random.default_rng([seed, 1]))
        assert x.dtype == np.float32
        assert np.isfinite(x).all()
        assert np.abs(x).max() == pytest.approx(PEAK, abs=1e-5)
        assert _rms(x) > 0.005


@pytest.mark.parametrize(("kind", "algorithm"), CASES, ids=_name)
def test_the_same_generator_gives_the_same_samples_and_another_gives_others(kind: str, algorithm: Variant) -> None:
    first, again, other = (render_by(algorithm, kind, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    num = min(len(first), len(other))
    assert not np.allclose(first[:num], other[:num], atol=1e-3)


@pytest.mark.parametrize("seconds", [0.3, 1.5, 20.0])
@pytest.mark.parametrize(("kind", "algorithm"), STEADY, ids=_name)
def test_steady_sounds_go_on_for_as_long_as_asked(kind: str, algorithm: Variant, seconds: float) -> None:
    for seed in range(4):
        x = render_by(algorithm, kind, np.random.default_rng([seed, 2]), duration_s=seconds)
        assert len(x) == round(seconds * 16_000)
        assert np.isfinite(x).all()
        assert _rms(x[len(x) // 2 :]) > 0.0003


@pytest.mark.parametrize(("kind", "algorithm"), CASES, ids=_name)
def test_a_unit_cut_short_is_still_heard(kind: str, algorithm: Variant) -> None:
    for seed in range(8):
        x = render_by(algorithm, kind, np.random.default_rng([seed, 3]), duration_s=0.3, repeats=1)
        assert np.isfinite(x).all()
        assert len(x) == 4_800
        assert _rms(x) > 0.002


def test_none_is_an_algorithm_that_the_kind_has_already() -> None:
    own = {algorithm for algorithms in VARIANTS.values() for algorithm in algorithms}
    added = [algorithm for algorithms in APART.values() for algorithm in algorithms]
    assert set(APART) <= set(KINDS)
    assert len(set(added)) == len(added)
    assert not own & set(added)
