"""Kernels that repeat: what is set and put back, what torch refuses, and that equal steps give equal bits."""

import dataclasses
import os

import pytest
import torch
from test_two_gpus import Rows
from tiny_training import maker, tiny_model, write_rows

from audioflamingo.cli.main import main
from audioflamingo.model.attention import _takes_cudnn
from audioflamingo.train.collate import collate
from audioflamingo.train.data import Component, load_corpus
from audioflamingo.train.deterministic import deterministic_kernels
from audioflamingo.train.explained import TrainingError, explained_step
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.run import train
from audioflamingo.train.stages import STAGES, nano
from audioflamingo.train.updates import Updates

LORA = nano(STAGES["lora"]("paper"))


def modes():
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("before", [(False, False), (True, True), (True, False)])
def test_torch_must_not_only_warn_and_all_is_put_back(before):
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    fills = torch.utils.deterministic.fill_uninitialized_memory
    try:
        with deterministic_kernels():
            assert modes() == (True, False)
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] in (":4096:8", ":16:8")
        assert modes() == before
        with pytest.raises(KeyError), deterministic_kernels():
            raise KeyError
        assert modes() == before
        assert torch.utils.deterministic.fill_uninitialized_memory == fills
        with deterministic_kernels(wanted=False):
            assert modes() == before
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_cannot_repeat_says_what_to_leave_out():
    with pytest.raises(TrainingError, match=r"step 3 .* leave out --seed"), explained_step(LORA, 2):
        raise RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but you set ...")
    with pytest.raises(RuntimeError, match="shapes"), explained_step(LORA, 2):
        raise RuntimeError("shapes do not fit")


def bits(base, stage, device):
    """Losses and trained parameters of two steps, on sounds that need no reader of files."""
    corpus = load_corpus([Component(Rows())], maker(base))
    examples = [maker(base).make(sample.row) for sample in corpus.samples]
    torch.manual_seed(0)
    model = tiny_model().to(device)
    loss = prepare(model.bfloat16() if stage.precision == "bfloat16" else model, stage)
    updates = Updates(trained(loss), stage)
    losses = []
    for _ in range(2):
        total = loss(collate(examples, device))
        total.backward()
        updates.collect()
        updates.step(updates.gradients(), 1e-3)
        losses.append(float(total.detach()))
    return losses, {name: one.detach().cpu() for name, one in updates.masters.items()}


@pytest.mark.parametrize("name", ["lora", "stage_3"])
def test_every_operation_of_a_step_can_repeat(base, name):
    """On a CPU none is refused, and the bits are those of the usual kernels."""
    stage = nano(STAGES[name]("paper"))
    usual = bits(base, stage, "cpu")
    with deterministic_kernels():
        strict = bits(base, stage, "cpu")
    assert usual[0] == strict[0]
    assert all(torch.equal(one, strict[1][key]) for key, one in usual[1].items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["lora", "stage_3"])
def test_equal_steps_give_equal_bits_on_a_gpu(base, name, precision):
    stage = dataclasses.replace(nano(STAGES[name]("paper")), precision=precision)
    with deterministic_kernels():
        assert not _takes_cudnn(torch.device("cuda"))
        losses, expected = bits(base, stage, "cuda")
        for _ in range(3):
            again, found = bits(base, stage, "cuda")
            assert again == losses
            assert all(torch.equal(one, found[key]) for key, one in expected.items())


def test_who_names_a_seed_gets_them(base, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("audioflamingo.train.run.train", lambda job, *_: seen.append(job.stage) or train(job, *_))
    rows = write_rows(tmp_path, 4)
    words = ["train", "lora", "--base", str(base), "--data", str(rows), "--epochs", "1", "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "a")]) == 0
    assert main([*words, "--out", str(tmp_path / "b"), "--seed", "5"]) == 0
    assert [stage.deterministic for stage in seen] == [False, True]
