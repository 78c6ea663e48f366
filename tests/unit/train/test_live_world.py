import os
import signal
from contextlib import closing

import numpy as np
import pytest
from tiny_training import maker

from audioflamingo.audio import load
from audioflamingo.errors import FlamingoError
from audioflamingo.train.data import Component, Schedule, live_world, load_corpus, parse_mixture
from audioflamingo.train.data.live_world import LiveWorld, SceneMaker
from audioflamingo.train.feed import Feed
from audioflamingo.world.export import Order, export
from audioflamingo.world.workers import LostWorkerError, result

TASKS = "counting,temporal_order"  # no speech engine is needed
HOURS = 0.02


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch):
    monkeypatch.setattr(live_world, "num_cores", lambda: 0)


def test_rows_and_sounds_are_those_that_the_command_writes(tmp_path, base):
    order = Order(("counting", "temporal_order"), HOURS, 7)
    export(order, tmp_path / "files")
    files = load_corpus(parse_mixture(str(tmp_path / "files" / "rows.json")), maker(base))
    live = load_corpus(parse_mixture(f"world:{TASKS}@{HOURS}@7"), maker(base))
    for ours, theirs in zip(live.samples, files.samples, strict=False):
        assert (ours.row.id, ours.row.turns, ours.size) == (theirs.row.id, theirs.row.turns, theirs.size)
    assert 4 <= len(live.samples) <= len(files.samples)  # the command writes whole shards
    for number in (0, 3):
        made = maker(base).make(live.samples[number].row).audios[0].samples
        assert np.array_equal(made, load(files.samples[number].row.sounds[0]).samples)


def test_what_was_found_out_is_kept_and_the_sounds_are_made_again(tmp_path, base, monkeypatch):
    parts = parse_mixture(f"world:{TASKS}@{HOURS}@7*2+world:{TASKS}@{HOURS}@8#50")
    first = load_corpus(parts, maker(base), cache=tmp_path)
    assert len(list(tmp_path.glob("world-*.jsonl"))) == 2
    calls = []
    make = live_world.make_scene
    monkeypatch.setattr(live_world, "make_scene", lambda order, index: calls.append(index) or make(order, index))
    again = load_corpus(parts, maker(base), cache=tmp_path)
    assert again.fingerprint == first.fingerprint
    assert calls == []
    sounds = [maker(base).make(corpus.samples[1].row).audios[0].samples for corpus in (first, again)]
    assert np.array_equal(*sounds)
    assert len(calls) == 1
    other = load_corpus(parse_mixture(f"world:{TASKS}@{HOURS}@9"), maker(base))
    assert other.fingerprint != first.fingerprint


def test_memory_holds_the_latest_scenes_only(monkeypatch):
    monkeypatch.setattr(live_world, "KEPT_SAMPLES", 1_000_000)
    scenes = SceneMaker(Order(("counting",), 1.0, 3), 0)
    made = [clips for (_, clips), _ in zip(scenes.first(), range(12), strict=False)]
    assert 0 < len(scenes._kept) < 12
    assert sum(len(clip) for clips in scenes._kept.values() for clip in clips) <= 1_000_000
    assert np.array_equal(scenes.clips(0)[0], made[0][0])


def test_other_processes_make_the_same_scenes():
    scenes = SceneMaker(Order(("counting",), 1.0, 3), 1)
    alone = SceneMaker(Order(("counting",), 1.0, 3), 0)
    for (rows, clips), (expected, wanted), _ in zip(scenes.first(), alone.first(), range(3), strict=False):
        assert rows == expected
        assert all(np.array_equal(*pair) for pair in zip(clips, wanted, strict=True))
    scenes._pool.close()


def test_a_lost_worker_stops_the_run_and_blames_no_row(base, monkeypatch):
    monkeypatch.setattr(live_world, "KEPT_SAMPLES", 1)  # every scene is made again
    source = LiveWorld("counting", HOURS, 7, num_workers=1)
    corpus = load_corpus([Component(source)], maker(base))
    maker_of_scenes = corpus.samples[0].row.sounds[0].maker
    schedule = Schedule(tuple(sample.size.num_tokens for sample in corpus.samples), 60.0, 60.0, 1, 0, 1)
    with closing(Feed(corpus, maker(base), schedule)) as feed:
        os.kill(result(maker_of_scenes._workers().submit(os.getpid)), signal.SIGKILL)
        with pytest.raises(LostWorkerError, match="start again"):
            feed.step(0)
        assert feed.bad_rows == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("world:", "is not world:TASKS@HOURS@SEED"),
        ("world:counting@x", "is not world:TASKS@HOURS@SEED"),
        ("world:counting@1@2@3", "is not world:TASKS@HOURS@SEED"),
        ("world:counting@0", "hours above 0"),
        ("world:counting@1@-1", "a seed from 0"),
        ("world:counting@nan", "hours above 0"),
        ("world:dancing@1", "'dancing' is no task"),
        ("world:needle@0.1", "needle are longer than this recipe's 30 s"),
    ],
)
def test_what_cannot_be_made_is_one_line(text, reason, base):
    with pytest.raises(FlamingoError, match=reason) as caught:
        load_corpus(parse_mixture(text), maker(base))
    assert "\n" not in str(caught.value)


def test_long_tasks_fit_the_stage_that_takes_them():
    order = LiveWorld("needle", 0.1)._order(max_windows=4)
    assert order.world.longest_s == 120.0
