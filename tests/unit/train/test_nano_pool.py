"""Items, shards, and the ring from which steps are drawn."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from audioflamingo.audio import num_audio_tokens
from audioflamingo.model.weights import resolve
from audioflamingo.prompt import build, load_template
from audioflamingo.tokenizer import Tokenizer
from audioflamingo.train.nano_items import (
    CTC_ALPHABET,
    Ask,
    Conversation,
    Hearing,
    Item,
    PlainTokenizer,
    Window,
    conversation,
    ctc_labels,
    load_items,
    save_items,
    windows_of,
)
from audioflamingo.train.nano_labels import FRAME_INDEX
from audioflamingo.train.nano_plan import Shape, make_plan
from audioflamingo.train.nano_pool import Draws, ItemPool, Shard, Table, is_long_step
from audioflamingo.types import Audio, Message

SHORT = Shape(2_000, 1_600, 40, 80, 400, 400, longest_tokens=800)
LONG = Shape(6_000, 3_400, 40, 80, 400, 400, longest_tokens=3_200)
DRAWS = Draws(SHORT, LONG, 0.5, vocab_size=50, placeholder=57, token_noise=0.0)


@pytest.fixture(scope="module")
def nano():
    return resolve("nano")


def item(value, seconds, words=6):
    """Windows of one value, and two conversations of different words; the second is three times as likely."""
    samples = np.full(round(seconds * 25) * 640, value, np.int16)
    pieces = [samples[at : at + 480_000] for at in range(0, len(samples), 480_000)]
    windows = tuple(Window(piece, np.array([[1, 0, 2]], np.int32), np.array([1, 2])) for piece in pieces)
    made = []
    for word in (10, 20):
        ids = np.concatenate([np.full(words, word), np.full(len(samples) // 640, 57), np.full(words, word)])
        made.append(Conversation(ids.astype(np.uint16), np.arange(len(ids)) >= len(ids) - 2))
    return Item(windows, tuple(made), (1.0, 3.0))


def shard(path, value, lengths):
    save_items([item(value, seconds) for seconds in lengths], path)
    return load_items(path)


def test_shards_keep_everything(tmp_path):
    arrays = shard(tmp_path / "shard-0.npz", 7, (1.0, 40.0))
    assert arrays["item_windows"].tolist() == [0, 1, 3]
    assert np.diff(arrays["samples_offsets"]).tolist() == [16_000, 480_000, 160_000]
    assert arrays["weights"].tolist() == [1.0, 3.0, 1.0, 3.0]
    assert arrays["has_ctc"].all()


def test_steps_fit_and_are_drawn_by_weight(tmp_path):
    pool = ItemPool(torch.device("cpu"), 3_600 * 16_000)
    pool.append_arrays(shard(tmp_path / "a.npz", 5, (1.0, 2.0, 3.5, 5.0)))
    rng, first = np.random.default_rng(0), []
    for _ in range(40):
        plan = pool.draw(rng, DRAWS)
        assert plan.shape == SHORT
        assert plan.seconds <= SHORT.seconds
        assert plan.seconds > 0.7 * SHORT.seconds
        starts = plan.decoder_offsets[: plan.num_sequences].long()
        first += plan.ids[starts].tolist()
    share = first.count(20) / len(first)
    assert set(first) == {10, 20}
    assert 0.68 < share < 0.82


def test_long_sounds_come_in_steps_of_their_own(tmp_path):
    pool = ItemPool(torch.device("cpu"), 3_600 * 16_000)
    rng = np.random.default_rng(0)
    pool.append_arrays(shard(tmp_path / "a.npz", 5, (1.0, 2.0)))
    assert pool.draw(rng, DRAWS, is_long=True).shape == SHORT  # there is no long one yet
    pool.append_arrays(shard(tmp_path / "b.npz", 5, (1.0, 2.0, 100.0)))
    long = [pool.draw(rng, DRAWS, is_long=True) for _ in range(10)]
    short = [pool.draw(rng, DRAWS) for _ in range(10)]
    assert all(plan.shape == LONG and plan.window_samples[:4].tolist() == [480_000] * 3 + [160_000] for plan in long)
    assert all(plan.shape == SHORT and plan.window_samples.max() < 40 * 16_000 for plan in short)


def test_long_steps_are_spaced_evenly():
    """A function of the step's number alone: the same in all data-parallel processes, and after a resumption."""
    for share in (0.0, 0.1, 0.25, 1 / 3, 0.5, 1.0):
        places = [number for number in range(3_000) if is_long_step(number, share)]
        assert len(places) == pytest.approx(3_000 * share, abs=1)
        assert all(b - a in (int(1 / share), int(1 / share) + 1) for a, b in pairwise(places))
    assert [number for number in range(12) if is_long_step(number, 0.25)] == [3, 7, 11]


def test_the_ring_forgets_the_oldest_and_never_mixes(tmp_path):
    """Every window that is drawn holds the one value of its shard, after several rounds."""
    pool = ItemPool(torch.device("cpu"), 60 * 16_000)
    rng = np.random.default_rng(1)
    lengths = [(1.0, 2.0, 3.0), (2.0, 2.0), (1.0, 1.5, 1.0, 3.0), (5.0,)]
    for number in range(1, 40):
        pool.append_arrays(shard(tmp_path / f"{number}.npz", number, lengths[number % 4]))
        plan = pool.draw(rng, DRAWS)
        seen = set()
        for start, num in zip(plan.window_start.tolist(), plan.window_samples.tolist(), strict=True):
            values = pool.samples[start : start + num].unique().tolist()
            assert len(values) <= 1
            seen |= set(values)
        assert max(seen) <= number
        assert min(seen) > number - 12
    assert pool.hours * 3_600 < 60


def test_a_pool_that_is_too_small_says_so(tmp_path):
    pool = ItemPool(torch.device("cpu"), 5 * 16_000)
    with pytest.raises(ValueError, match="no room"):
        pool.append_arrays(shard(tmp_path / "a.npz", 1, (2.0,)))


def test_conversations_read_like_prompts(nano):
    """The same tokens as at inference, placeholders included, over several clips and turns."""
    clips = [np.zeros(16_000, np.float32), np.zeros(32_000, np.float32)]
    turns = [
        Ask("What is it?", "A dog barking.", (0,)), Ask("Is there rain?", "No."), Ask("And this one?", "A bell.", (1,)),
    ]  # fmt: skip
    tokenizer = PlainTokenizer(nano / "tokenizer.json")
    made = conversation(turns, [num_audio_tokens(len(clip)) for clip in clips], tokenizer)
    messages = []
    for turn in turns:
        sound = [Audio(clips[clip], "clip") for clip in turn.clips]
        messages += [Message("user", (*sound, turn.question)), Message("assistant", (turn.answer,))]
    whole = Tokenizer.from_folder(nano)
    prompt = build(messages[:-1], whole, load_template(nano))
    ids = [*prompt.ids, *whole.encode_plain(turns[-1].answer), whole.im_end]
    assert made.ids.tolist() == ids
    learnt = tokenizer.encode("A dog barking.<|im_end|>") + tokenizer.encode("No.<|im_end|>")
    assert made.ids[made.learnt > 0].tolist() == learnt + tokenizer.encode("A bell.<|im_end|>")


def test_several_clips_of_a_turn_read_like_prompts(nano):
    """Two clips with one question, then two more with the next: token for token what the prompt writes."""
    clips = [np.full(16_000 * seconds, seconds, np.float32) for seconds in (1, 2, 31, 4)]
    turns = [
        Ask("Which of the two is longer?", "The second clip is longer.", (0, 1)), Ask("What is in it?", "Rain."),
        Ask("And these?\n(A) a dog\n(B) a cat", "(B) a cat", (2, 3)),
    ]  # fmt: skip
    tokenizer = PlainTokenizer(nano / "tokenizer.json")
    made = conversation(turns, [num_tokens_of(clip) for clip in clips], tokenizer)
    messages = []
    for turn in turns:
        sounds = [Audio(clips[clip], f"clip {clip}") for clip in turn.clips]
        messages += [Message("user", (*sounds, turn.question)), Message("assistant", (turn.answer,))]
    whole = Tokenizer.from_folder(nano)
    prompt = build(messages[:-1], whole, load_template(nano))
    assert made.ids.tolist() == [*prompt.ids, *whole.encode_plain(turns[-1].answer), whole.im_end]
    assert [span.audio_index for span in prompt.spans] == [0, 1, 2, 3]
    assert not made.learnt[made.ids == whole.sound].any()


def num_tokens_of(clip):
    windows = windows_of(Hearing(clip, []))
    return sum(num_audio_tokens(len(window.samples)) for window in windows)


def test_examples_of_the_user_are_not_learnt(nano):
    tokenizer = PlainTokenizer(nano / "tokenizer.json")
    turns = [Ask("Label?", "Red.", (0,), is_given=True), Ask("Label?", "Blue.", (1,))]
    made = conversation(turns, [25, 50], tokenizer)
    assert made.ids[made.learnt > 0].tolist() == tokenizer.encode("Blue.<|im_end|>")
    learnt = conversation([replace(turn, is_given=False) for turn in turns], [25, 50], tokenizer)
    assert made.ids.tolist() == learnt.ids.tolist()


@pytest.mark.parametrize("clips", [[(0,)], [(1, 0)], [(0,), (0, 1)], [(0, 1, 2)]])
def test_every_clip_is_brought_once_and_in_order(nano, clips):
    turns = [Ask("What?", "Rain.", one) for one in clips]
    with pytest.raises(AssertionError, match="clips"):
        conversation(turns, [25, 25], PlainTokenizer(nano / "tokenizer.json"))


def test_a_clip_is_cut_to_windows_with_its_labels():
    spans = [("dog_bark", 29.0, 31.0), ("onset", 40.0, 40.04), ("speech", 50.0, 60.0)]
    windows = windows_of(Hearing(np.zeros(45 * 16_000 + 300, np.float32), spans, "too long for ctc"))
    assert [len(window.samples) for window in windows] == [480_000, 240_000]
    dog = FRAME_INDEX["dog_bark"]
    assert windows[0].labels.tolist() == [[dog, 725, 750]]
    assert windows[1].labels.tolist() == [[dog, 0, 25], [FRAME_INDEX["onset"], 250, 251]]
    assert windows[0].ctc is None
    short = windows_of(Hearing(np.zeros(16_000, np.float32), [], "ab"))
    assert short[0].ctc is not None
    assert short[0].ctc.tolist() == [2, 3]


def test_ctc_labels_spell_the_transcript():
    assert "".join(CTC_ALPHABET[i - 1] for i in ctc_labels("it's late")) == "it's late"
    assert len(ctc_labels(None)) == 0


def test_conversations_about_several_clips_can_be_left_out(tmp_path):
    alone, other = item(1, 4.0), item(7, 4.0)
    pair = Item((*item(5, 4.0).windows, replace(other.windows[0], clip=1)), item(5, 8.0).conversations, (1.0, 3.0))
    save_items([alone, pair, item(2, 3.0)], tmp_path / "pairs.npz")
    pool = ItemPool(torch.device("cpu"), 2_000_000)
    pool.append_arrays(load_items(tmp_path / "pairs.npz"))
    heard = {}
    for one_clip in (False, True):
        rng = np.random.default_rng(0)
        plans = [pool.draw(rng, replace(DRAWS, one_clip=one_clip)) for _ in range(4)]
        starts = [plan.window_start[plan.window_samples > 0] for plan in plans]
        heard[one_clip] = set(pool.samples[torch.cat(starts)].tolist())
    assert {5, 7} <= heard[False]
    assert heard[True] == {1, 2}


class Least(np.random.Generator):
    """Draws nothing but zeros."""

    def random(self, size=None):
        return np.zeros(size)


def many(num, weights):
    """The arrays of a shard with so many items of one token, each with conversations of these weights."""
    count = len(weights)
    return {
        "item_windows": np.arange(num + 1), "item_sequences": np.arange(num + 1) * count,
        "samples_offsets": np.arange(num + 1) * 640, "labels_offsets": np.zeros(num + 1, np.int64),
        "clips": np.zeros(num, np.uint8), "ids_offsets": np.arange(num * count + 1),
        "learnt": np.ones(num * count, np.uint8), "weights": np.tile(weights, num),
    }  # fmt: skip


@pytest.mark.parametrize("weights", [(0.1, 0.2, 0.5), (1.0, 3.0, 3.0), (0.3,) * 7])
def test_among_many_items_each_is_asked_its_own(weights):
    """A running sum over all of them is off by more than what is drawn now and then."""
    num, count = 30_000, len(weights)
    table = Table([Shard(many(num, weights), 0), Shard(many(num, weights), 640 * num)])
    items = np.arange(2 * num)
    first = table.conversations(items, Least(np.random.PCG64(0)))
    assert first.tolist() == (items * count).tolist()
    drawn = table.conversations(items, np.random.default_rng(1))
    assert (drawn // count == items).all()
    expected = np.array(weights) / sum(weights)
    assert np.allclose(np.bincount(drawn % count) / len(items), expected, atol=0.01)


def test_a_conversation_about_another_sound_is_refused(tmp_path):
    arrays = shard(tmp_path / "a.npz", 5, (1.0, 2.0))
    right = Shard(arrays, 0).picked(0, 0)
    wrong = replace(right, windows=Shard(arrays, 0).picked(1, 2).windows)
    rng = np.random.default_rng(0)
    make_plan([right], SHORT, rng, vocab_size=50, placeholder=57)
    with pytest.raises(AssertionError, match="25 places of audio tokens for 50"):
        make_plan([wrong], SHORT, rng, vocab_size=50, placeholder=57)
