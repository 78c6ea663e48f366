import random

import numpy as np
import pytest
import torch

from audioflamingo.train.clips import CTC_ALPHABET, EVENT_NAMES, Clip, ctc_labels, dialogue_ids, load_shard, save_shard
from audioflamingo.train.pool import ClipPool
from audioflamingo.world.tasks import Question


class LetterTokenizer:
    def encode(self, text):
        return [ord(letter) for letter in text]


def make(seconds, transcript, answers, start=0):
    encoded = [dialogue_ids(Question("t", "Q?", answer), LetterTokenizer()) for answer in answers]
    return Clip(
        samples=np.arange(start, start + seconds * 16_000).astype(np.int16),
        ctc=ctc_labels(transcript),
        events=np.array([[2, 3, 10]]),
        dialogues=tuple(ids for ids, _ in encoded),
        answer_starts=tuple(begin for _, begin in encoded),
        weights=tuple(1.0 for _ in encoded),
    )


@pytest.fixture
def clips():
    return [make(1, "hello you", ["yes", "no"]), make(2, None, ["a dog barking"]), make(1, "it's", ["ok"], start=77)]


@pytest.fixture
def pool(clips, tmp_path):
    save_shard(clips, tmp_path / "shard-000000.npz")
    pool = ClipPool(torch.device("cpu"), max_samples=100_000, num_event_names=len(EVENT_NAMES), pad_id=0)
    assert pool.append(tmp_path / "shard-000000.npz")
    return pool


def test_ctc_labels_spell_the_transcript():
    assert "".join(CTC_ALPHABET[i - 1] for i in ctc_labels("it's late")) == "it's late"
    assert len(ctc_labels(None)) == 0


def test_shard_holds_what_was_put_in(clips, tmp_path):
    save_shard(clips, tmp_path / "s.npz")
    shard = load_shard(tmp_path / "s.npz")
    assert shard["samples_offsets"].tolist() == [0, 16_000, 48_000, 64_000]
    assert shard["num_dialogues"].tolist() == [2, 1, 1]
    assert not list(tmp_path.glob("*.partial"))


def test_batch_holds_the_right_samples_and_masks_all_but_the_answer(pool):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(20):
        batch = pool.draw(rng, budget_s=3, max_length_s=1)
        assert batch.samples.shape == (3, 16_000)
        answers = []
        for row in range(3):
            first = int(batch.samples[row, 0])
            assert first in (0, 77)
            said = "".join(chr(i) for i in batch.suffix[row][batch.is_answer[row]])
            answers.append(said)
            assert said in ({"yes<|im_end|>", "no<|im_end|>"} if first == 0 else {"ok<|im_end|>"})
            unmasked = "".join(chr(i) for i in batch.suffix[row][~batch.is_answer[row]] if i)
            assert unmasked == "Q?<|im_end|>\n<|im_start|>assistant\n"
        flat = batch.suffix.flatten()[batch.answer_places]
        assert "".join(chr(i) for i in flat) == "".join(answers)
        seen.update(answers)
    assert seen == {"yes<|im_end|>", "no<|im_end|>", "ok<|im_end|>"}


def test_lengths_never_mix_and_all_are_drawn(pool):
    rng = np.random.default_rng(1)
    shapes = {pool.draw(rng, budget_s=4).samples.shape for _ in range(40)}
    assert shapes == {(4, 16_000), (2, 32_000)}


def test_event_targets_lie_where_the_event_is(pool):
    batch = pool.draw(np.random.default_rng(0), budget_s=1, max_length_s=1)
    assert batch.events.shape == (1, 25, len(EVENT_NAMES))
    assert batch.events[0, :, 2].tolist() == [0.0] * 3 + [1.0] * 7 + [0.0] * 15
    assert batch.events.sum() == 7


def test_a_full_pool_refuses_and_keeps_what_it_has(pool, clips, tmp_path):
    save_shard(clips, tmp_path / "more.npz")
    before = pool.num_samples
    assert not pool.append(tmp_path / "more.npz")
    assert pool.num_samples == before


def test_a_shard_is_never_unpickled(tmp_path):
    np.savez(tmp_path / "evil.npz", samples=np.array([random.Random()], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        load_shard(tmp_path / "evil.npz")
