"""Copies side by side: the same as one after another, in order, and their errors are seen."""

import numpy as np
import pytest

from audioflamingo.audio import threads
from audioflamingo.audio.threads import FEW_ARRAYS, copied


@pytest.mark.parametrize("num_arrays", [0, 1, FEW_ARRAYS, FEW_ARRAYS + 1, 40])
@pytest.mark.parametrize("num_cores", [1, 2, 16])
def test_every_array_is_there_when_its_turn_has_come(num_arrays, num_cores, monkeypatch):
    monkeypatch.setattr(threads, "num_cores", lambda: num_cores)
    rng = np.random.default_rng(0)
    sources = [rng.standard_normal(rng.integers(1, 400_000)).astype(np.float32) for _ in range(num_arrays)]
    targets = [np.full_like(source, np.nan) for source in sources]
    done = 0
    for source, target, _ in zip(sources, targets, copied(sources, targets), strict=True):
        np.testing.assert_array_equal(source, target)
        done += 1
    assert done == num_arrays


def test_what_does_not_fit_is_an_error():
    sources = [np.zeros(5, np.float32)] * 4
    with pytest.raises(ValueError, match="broadcast"):
        list(copied(sources, [np.zeros(4, np.float32)] * 4))
