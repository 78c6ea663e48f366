"""Feeding the embedded model's trainer: both ways of drawing, what is heard while shards arrive, and every end."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audioflamingo.train.nano_draw import Apart, DrawOrder, read_shard
from audioflamingo.train.nano_feed import BYTES_PER_S, PREFETCHED, NanoFeed
from audioflamingo.train.nano_items import Conversation, Item, Window, load_items, save_items
from audioflamingo.train.nano_packed import PackedPlan
from audioflamingo.train.nano_plan import Shape
from audioflamingo.train.nano_pool import Draws, Ring, is_long_step

SHORT = Shape(2_000, 1_600, 40, 80, 400, 400, longest_tokens=800)
LONG = Shape(6_000, 3_400, 40, 80, 400, 400, longest_tokens=3_200)
DRAWS = Draws(SHORT, LONG, 0.25, vocab_size=50, placeholder=57, token_noise=0.1)
EXACT = replace(DRAWS, token_noise=0.0)
WAYS = pytest.mark.parametrize("apart", [False, True], ids=["beside", "apart"])
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
SPAWN = multiprocessing.get_context("spawn")


def item(value, seconds):
    """Sound and words of one value, in two conversations, one of which is longer; some can teach CTC."""
    samples = np.full(round(seconds * 25) * 640, value, np.int16)
    pieces = [samples[at : at + 480_000] for at in range(0, len(samples), 480_000)]
    ctc = np.array([1, value % 20 + 2]) if seconds < 16 else None
    windows = tuple(Window(piece, np.array([[1, 0, 2]], np.int32), ctc) for piece in pieces)
    made = []
    for words in (6, 9):
        ids = np.concatenate([np.full(words, value), np.full(len(samples) // 640, 57), np.full(words, value)])
        made.append(Conversation(ids.astype(np.uint16), (np.arange(len(ids)) >= len(ids) - 2).astype(np.uint8)))
    return Item(windows, tuple(made), (1.0, 3.0))


def write(folder, number, lengths, value=None):
    save_items([item(number if value is None else value, one) for one in lengths], folder / f"shard-{number:06d}.npz")


def ring(seconds, device="cpu"):
    return torch.zeros(round(seconds * 16_000), dtype=torch.int16, device=device)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shards").mkdir()
    return tmp_path / "shards"


@pytest.fixture
def feeds():
    """Makes feeds that are stopped in the end."""
    made = []

    def make(*args, **options):
        made.append(NanoFeed(*args, **options))
        return made[-1]

    yield make
    for feed in made:
        feed.stop()


def same(one, other):
    """Whether two plans are equal in everything, to the last bit, wherever they are."""
    pairs = [tuple(map(there, (getattr(one, field.name), getattr(other, field.name)))) for field in fields(one)]
    return all(torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def there(value):
    return value.cpu() if isinstance(value, torch.Tensor) else value


def test_samples_are_found_in_the_file(folder):
    write(folder, 7, (1.0, 2.0, 45.0))
    path = folder / "shard-000007.npz"
    whole = load_items(path)
    arrays, first_byte = read_shard(path)
    samples = whole.pop("samples")
    assert arrays.keys() == whole.keys()
    assert all(np.array_equal(arrays[name], whole[name]) for name in whole)
    assert np.array_equal(np.fromfile(path, np.int16, len(samples), offset=first_byte), samples)


def test_other_samples_are_refused(folder):
    write(folder, 7, (1.0,))
    path = folder / "shard-000007.npz"
    arrays = load_items(path)
    np.savez_compressed(path, **arrays)
    with pytest.raises(ValueError, match="compressed"):
        read_shard(path)
    np.savez(path, **{**arrays, "samples": arrays["samples"].astype(np.float32)})
    with pytest.raises(ValueError, match="float32"):
        read_shard(path)


def test_a_plan_comes_out_of_its_line_as_it_was(folder):
    write(folder, 1, (1.0, 2.0, 20.0))
    rooms = Ring(3_600 * 16_000)
    rooms.place(read_shard(folder / "shard-000001.npz")[0])
    plan = rooms.draw(np.random.default_rng(0), DRAWS)
    packed = PackedPlan.of(plan, is_long=False)
    again = PackedPlan(json.loads(json.dumps(packed.head)), packed.line.clone())
    assert same(again.plan(SHORT, again.line), plan)


@pytest.mark.parametrize("device", DEVICES)
def test_both_ways_draw_the_very_same(folder, tmp_path, feeds, device):
    """Out of turn and in turn, from the same seed and shards; long steps are where their number says."""
    for number in range(1, 7):
        write(folder, number, (1.0, 2.4, 3.0, 20.0, 41.0))
    shutil.copytree(folder, tmp_path / "other")
    plans, heard = [], []
    for place, apart in ((folder, False), (tmp_path / "other", True)):
        samples = ring(3_600, device if apart else "cpu")
        feed = feeds(samples, place, DRAWS, (5, 3), keep_hours=1.0, first_step=6, apart=apart)
        feed.fill(404.3 / 3_600)
        assert (feed.num_shards, round(feed.hours * 3_600, 1)) == (6, 404.4)
        drawn = [feed.one(), feed.one(is_long=True)]
        feed.start()
        drawn += [feed.next() for _ in range(10)]
        plans.append(drawn)
        heard.append(samples.cpu())
    assert torch.equal(*heard)
    assert all(same(one, other) for one, other in zip(*plans, strict=True))
    shapes = [LONG if is_long_step(number, 0.25) else SHORT for number in range(6, 16)]
    assert [plan.shape for plan in plans[0]] == [SHORT, LONG, *shapes]
    assert not same(plans[0][2], plans[0][3])


@WAYS
@pytest.mark.parametrize("device", DEVICES)
def test_no_plan_hears_samples_that_are_not_its_own(folder, feeds, apart, device):
    """Shards arrive all the time in a ring that holds few of them, and a step lasts: all that it hears is its own."""
    samples = ring(90, device)
    dice = random.Random(3)
    done = threading.Event()

    def render():
        for number in range(1, 10_000):
            while len(list(folder.glob("shard-*.npz"))) > 4:
                if done.wait(0.001):
                    return
            write(folder, number, [dice.choice((1.0, 2.0, 3.0)) for _ in range(dice.randint(1, 6))], 1 + number % 47)

    renderer = threading.Thread(target=render)
    renderer.start()
    try:
        feed = feeds(samples, folder, EXACT, (0,), apart=apart)
        feed.fill(30 / 3_600)
        feed.start()
        until, first = time.monotonic() + 60, feed.num_shards
        while feed.num_shards < first + 80 and time.monotonic() < until:
            plan = feed.next()
            time.sleep(dice.choice((0.0, 0.0, 0.1)))  # as during a look at held-out items
            starts = plan.decoder_offsets[: plan.num_sequences].long()
            values = plan.ids[starts]
            for start, num, owner in zip(plan.window_start, plan.window_samples, plan.window_item, strict=True):
                assert (samples[start : start + num] == values[owner]).all()
    finally:
        done.set()
        renderer.join()
    assert feed.num_shards >= first + 80
    assert feed.hours * 3_600 < 90


def test_the_ring_says_what_must_have_been_heard():
    """`since` against a record of every sample: the newest table from which it could still be drawn, and no later."""
    rooms, dice = Ring(1_000 * 640), random.Random(0)
    last = np.zeros(rooms.num_samples // 640, np.int64)  # how many were placed when a step could last hear a sample
    waited = waits = 0
    for number in range(1, 400):
        num = dice.choice((10, 40, 90, 120, 200, 300)) * 640
        place = rooms.place(arrays_of(num))
        needed = int(last[place.start // 640 : (place.start + num) // 640].max())
        assert place.since in (0, needed + 1)
        waited = max(waited, place.since)
        assert waited > needed or needed == 0
        waits += place.since == number
        for shard in rooms.shards:
            last[shard.start // 640 : (shard.start + shard.num_samples) // 640] = number
    assert 0 < waits < 200


def arrays_of(num_samples):
    nothing = np.zeros(1, np.int64)
    return {
        "samples_offsets": np.array([0, num_samples]), "labels": np.zeros((0, 3), np.int32),
        "labels_offsets": np.zeros(2, np.int64), "ctc": nothing[:0], "ctc_offsets": np.zeros(2, np.int64),
        "ids": np.zeros(2, np.uint16), "ids_offsets": np.array([0, 2]), "learnt": np.ones(2, np.uint8),
        "learnt_offsets": np.array([0, 2]), "has_ctc": np.zeros(1, np.bool_), "clips": np.zeros(1, np.uint8),
        "item_windows": np.array([0, 1]), "item_sequences": np.array([0, 1]), "weights": np.ones(1),
    }  # fmt: skip


@WAYS
def test_shards_of_text_alone_are_read_too(folder, feeds, apart):
    words = Conversation(np.arange(9, dtype=np.uint16), (np.arange(9) > 4).astype(np.uint8))
    save_items([Item((), (words,), (1.0,))], folder / "shard-000001.npz")
    write(folder, 2, [2.0])
    feed = feeds(ring(3_600), folder, EXACT, (0,), apart=apart)
    feed.fill(1.9 / 3_600)
    assert feed.num_shards == 2
    assert names(folder / "kept") == []
    assert feed.one().seconds > 0


@WAYS
def test_shards_that_are_read_stay_for_the_next_piece(folder, feeds, apart):
    """Up to so many hours, the oldest go first; a later feed reads them, after what is new."""
    for number in range(4):
        write(folder, number, [2.0], 1)
    size = (folder / "shard-000000.npz").stat().st_size
    feed = feeds(ring(3_600), folder, DRAWS, (0,), keep_hours=2.5 * size / BYTES_PER_S / 3_600, apart=apart)
    feed.fill(7.9 / 3_600)
    assert not list(folder.glob("shard-*.npz"))
    assert names(folder / "kept") == ["shard-000002.npz", "shard-000003.npz"]
    write(folder, 4, [2.0], 1)
    again = feeds(ring(3_600), folder, DRAWS, (0,), keep_hours=2.5 * size / BYTES_PER_S / 3_600, apart=apart)
    again.fill(5.9 / 3_600)
    assert again.num_shards == 1
    assert names(folder / "kept") == ["shard-000003.npz", "shard-000004.npz"]
    assert again.one().seconds > 0


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_still_to_be_read_is_not_deleted(folder, feeds):
    """A later piece that keeps nothing reads what an earlier one kept."""
    (folder / "kept").mkdir()
    for number in range(5):
        write(folder / "kept", number, [2.0], 1)
    write(folder, 5, [2.0], 1)
    feed = feeds(ring(3_600), folder, DRAWS, (0,))
    feed.fill(11.9 / 3_600)
    assert names(folder) == ["kept"]
    assert not names(folder / "kept")


@WAYS
def test_a_feed_does_not_wait_for_the_dead(tmp_path, feeds, apart):
    feed = feeds(ring(3_600), tmp_path / "shards", DRAWS, (0,), apart=apart)
    with pytest.raises(RuntimeError, match="all rendering processes ended"):
        feed.fill(1.0, lambda: False)


@WAYS
def test_a_failure_ends_the_run_and_says_why(folder, feeds, apart):
    write(folder, 0, [2.0], 1)
    feed = feeds(ring(3_600), folder, DRAWS, (0,), apart=apart)
    feed.fill(1.0 / 3_600)
    (folder / "shard-000001.npz").write_bytes(b"not a shard")
    feed.start()
    with pytest.raises(RuntimeError, match="a feeding thread failed") as told:
        draw_on(feed)
    cause = str(told.value.__cause__)
    assert "pickle" in cause  # numpy's words for what is no array
    assert ("in read_shard" in cause) == apart  # a process's own traceback is told


def draw_on(feed):
    for _ in range(1_000):
        feed.next()
        time.sleep(0.01)


def test_a_drawer_that_is_killed_ends_the_run(folder, feeds):
    write(folder, 0, [2.0], 1)
    feed = feeds(ring(3_600), folder, DRAWS, (0,), apart=True)
    feed.fill(1.0 / 3_600)
    feed.start()
    feed.next()
    os.kill(feed.source.process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="a feeding thread failed") as told:
        draw_on(feed)
    assert "exit code -9" in str(told.value.__cause__)


def test_a_drawer_outlives_what_its_group_is_told_but_not_its_feed(folder, feeds):
    """A launcher asks whole groups of processes to end; the trainer still takes steps before it saves."""
    write(folder, 0, [2.0], 1)
    feed = feeds(ring(3_600), folder, DRAWS, (0,), apart=True)
    feed.fill(1.0 / 3_600)
    feed.start()
    process = feed.source.process
    os.kill(process.pid, signal.SIGTERM)
    for _ in range(3 * PREFETCHED):
        feed.next()
    began = time.monotonic()
    feed.stop()
    assert process.exitcode == 0
    assert not feed.thread.is_alive()
    assert time.monotonic() - began < 3


def be_killed(folder, told):
    apart = Apart(DrawOrder(folder, (), 16_000, DRAWS, (0,), 0), pins=False)
    apart.receive()
    told.send(apart.process.pid)
    time.sleep(60)


def leave(folder, told):
    apart = Apart(DrawOrder(folder, (), 16_000, DRAWS, (0,), 0), pins=False)
    apart.receive()
    told.send(apart.process.pid)


@pytest.mark.parametrize("way", [be_killed, leave])
def test_a_drawer_ends_with_its_process(tmp_path, way):
    """Which is killed, or ends without a word."""
    heard, told = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=way, args=(tmp_path, told))
    process.start()
    assert heard.poll(60)
    drawer = heard.recv()
    if way is be_killed:
        os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode is not None
    until = time.monotonic() + 30
    while is_running(drawer) and time.monotonic() < until:
        time.sleep(0.1)
    assert not is_running(drawer)


def is_running(pid):
    """A process that nobody waited for is no longer running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
