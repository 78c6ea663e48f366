"""Names of sounds by their content."""

import os
import threading

import numpy as np
import pytest

from audioflamingo.engine import content
from audioflamingo.engine.content import LEAF_BYTES, content_keys

LEAF_SAMPLES = LEAF_BYTES // 4


def noise(num_samples, seed=0):
    return np.random.default_rng(seed).standard_normal(num_samples, dtype=np.float32)


@pytest.mark.parametrize("num_samples", [1, LEAF_SAMPLES - 1, LEAF_SAMPLES, LEAF_SAMPLES + 1, 5 * LEAF_SAMPLES + 7])
def test_equal_sounds_have_equal_keys_and_others_have_others(num_samples):
    samples = noise(num_samples)
    (key,) = content_keys([samples])
    assert content_keys([samples.copy()]) == [key]
    for place in {0, num_samples // 2, num_samples - 1}:
        other = samples.copy()
        other[place] = np.nextafter(other[place], np.float32(9))
        assert content_keys([other]) != [key]
    assert content_keys([samples[:-1]]) != [key]
    assert content_keys([np.append(samples, np.float32(0))]) != [key]


def test_what_stands_beside_changes_nothing():
    sounds = [noise(number * 30_000 + 1, number) for number in range(12)]
    assert content_keys(sounds) == [content_keys([sound])[0] for sound in sounds]
    assert len(set(content_keys(sounds))) == 12


def test_a_sound_that_does_not_lie_in_one_piece():
    wide = noise(300_000)
    assert content_keys([wide[::2]]) == content_keys([wide[::2].copy()])


def test_many_threads_and_one_agree(monkeypatch):
    sounds = [noise(480_000, seed) for seed in range(7)]
    keys = {}
    for num_cores in (1, 2, 16):
        monkeypatch.setattr(content, "num_cores", lambda number=num_cores: number)
        content.threads.cache_clear()
        keys[num_cores] = content_keys(sounds)
    content.threads.cache_clear()
    assert keys[1] == keys[2] == keys[16]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(content, "num_cores", lambda: 16)
    sounds = [noise(480_000, seed) for seed in range(5)]
    want = content_keys(sounds)
    child = os.fork()
    if child == 0:
        done = threading.Event()
        alarm = threading.Timer(20, lambda: done.is_set() or os._exit(2))
        alarm.start()
        is_same = content_keys(sounds) == want
        done.set()
        os._exit(0 if is_same else 1)
    _, status = os.waitpid(child, 0)
    content.threads.cache_clear()
    assert os.waitstatus_to_exitcode(status) == 0
