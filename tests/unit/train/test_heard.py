"""What a frozen encoder heard once is the same to the last bit as what it hears anew."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from tiny_training import maker, tiny_model, write_rows

from audioflamingo.audio import log_mel_batch
from audioflamingo.train import heard as heard_module
from audioflamingo.train.collate import collate
from audioflamingo.train.data import load_corpus, parse_mixture
from audioflamingo.train.distributed import Processes
from audioflamingo.train.heard import Heard
from audioflamingo.train.loss import AnswerLoss
from audioflamingo.train.run import Job, train
from audioflamingo.train.stages import STAGES, nano

CPU = Processes(torch.device("cpu"))
WINDOW_BYTES = 12 * 32 * 4  # features of half a second in the tiny model


@pytest.fixture
def windows():
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(size).astype(np.float32) for size in (8_000, 8_000, 11_200, 8_000)]


def encoded(model, monkeypatch):
    """The list that grows by the mel frames of every call of the encoder."""
    calls = []
    plain = model.encode

    def counting(mel, num_mel_frames, numbers=None):
        calls.append(num_mel_frames)
        return plain(mel, num_mel_frames, numbers)

    monkeypatch.setattr(model, "encode", counting)
    return calls


def test_each_content_is_heard_once_and_given_in_order(windows, monkeypatch):
    model = tiny_model()
    calls = encoded(model, monkeypatch)
    heard = Heard(model)
    order = [windows[0], windows[2], windows[0].copy(), windows[1]]
    first, new = heard.features(order, [0, 0, 1, 0])
    assert new == [50, 70, 50]
    again, none = heard.features(order, [0, 0, 1, 0])
    assert none == []
    assert len(calls) == 3
    assert torch.equal(first, again)
    assert torch.equal(first[:12], first[12 + 17 : 24 + 17])
    mel, num_mel_frames = log_mel_batch(order)
    together, _ = tiny_model().encode(mel, list(num_mel_frames))
    torch.testing.assert_close(first, together.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_bytes", [0, WINDOW_BYTES, 2 * WINDOW_BYTES + 1])
def test_full_memory_keeps_what_came_first_and_changes_no_bit(windows, monkeypatch, max_bytes):
    model = tiny_model()
    calls = encoded(model, monkeypatch)
    expected, _ = Heard(tiny_model()).features(windows, [0] * 4)
    heard = Heard(model, max_bytes)
    for _ in range(3):
        assert torch.equal(heard.features(windows, [0] * 4)[0], expected)
        assert heard.num_bytes <= max_bytes
    kept = max_bytes // WINDOW_BYTES
    assert len(calls) == 4 + 2 * (4 - kept)


def test_it_does_not_matter_what_stands_beside_a_window(windows):
    alone = Heard(tiny_model()).features(windows[2:3], [0])[0]
    among = Heard(tiny_model()).features(windows, [0] * 4)[0]
    assert torch.equal(alone, among[24 : 24 + 17])


def test_the_loss_is_that_of_sounds_heard_with_the_pack(tmp_path):
    corpus = load_corpus(list(parse_mixture(str(write_rows(tmp_path)))), maker(tmp_path))
    examples = [maker(tmp_path).make(sample.row) for sample in corpus.samples]
    model = tiny_model()
    loss = AnswerLoss(model).eval()
    heard = Heard(model)
    expected = loss(collate(examples))
    for _ in range(2):
        torch.testing.assert_close(loss(collate(examples, heard=heard)), expected, rtol=1e-5, atol=1e-5)
    text_only = [example for example in examples if not example.audios]
    assert collate(text_only, heard=heard).features is None


@pytest.mark.parametrize("name", ["lora", "stage_1"])
def test_a_run_ends_with_the_same_bits_whatever_is_kept(base, tmp_path, monkeypatch, name):
    rows = write_rows(tmp_path / "rows", 10)
    found, counts = [], []
    for max_bytes in (heard_module.MAX_BYTES, 3 * WINDOW_BYTES, 0):
        calls = []

        class Counting(Heard):
            def __init__(self, model, *, limit=max_bytes, calls=calls):
                super().__init__(model, limit)
                self.calls = calls

            def features(self, windows, numbers):
                features, new = super().features(windows, numbers)
                self.calls += new
                return features, new

        monkeypatch.setattr("audioflamingo.train.run.Heard", Counting)
        out = tmp_path / str(max_bytes)
        stage = dataclasses.replace(nano(STAGES[name]("paper")), batch_s=6.0, epochs=3)
        train(Job(base=str(base), data=parse_mixture(str(rows)), out=out, stage=stage), CPU)
        files = sorted(out.rglob("adapter_model.safetensors" if name == "lora" else "model/model.safetensors"))
        losses = [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]
        found.append((files[0].read_bytes(), losses))
        counts.append(len(calls))
    assert found[0] == found[1] == found[2]
    assert counts[0] == 8  # sounds
    assert counts[0] < counts[1] < counts[2] == 24


@pytest.mark.parametrize(("name", "epochs"), [("stage_2", 2), ("full", 2), ("lora", 1), ("af_whisper", 2)])
def test_nothing_is_kept_where_it_would_be_wrong_or_useless(base, tmp_path, monkeypatch, name, epochs):
    def refuse(*_):
        raise AssertionError("a memory was made")

    monkeypatch.setattr("audioflamingo.train.run.Heard", refuse)
    stage = dataclasses.replace(nano(STAGES[name]("paper")), batch_s=60.0, epochs=epochs)
    rows = write_rows(tmp_path / "rows", 4)
    train(Job(base=str(base), data=parse_mixture(str(rows)), out=tmp_path / "out", stage=stage), CPU)
