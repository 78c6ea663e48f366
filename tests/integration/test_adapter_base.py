"""From the shell: an adapter on the weights it was trained on, and on others of the same name and shape."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioflamingo import CheckpointError, load_model
from audioflamingo.cli.main import main
from audioflamingo.think.base import BASE_KEY, stated_base

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_training import write_rows

TRAIN = ["--epochs", "1", "--batch-s", "2", "--micro-s", "2", "--rank", "2", "--replay", "0", "--device", "cpu"]


@pytest.fixture(scope="module")
def first(checkpoint, tmp_path_factory):
    """A folder named base, and in another place one of the same name, whose weights are of another training."""
    return shutil.copytree(checkpoint, tmp_path_factory.mktemp("first") / "base")


@pytest.fixture(scope="module")
def second(checkpoint, tmp_path_factory):
    folder = shutil.copytree(checkpoint, tmp_path_factory.mktemp("second") / "base")
    generator = torch.Generator().manual_seed(9)
    tensors = load_file(folder / "model.safetensors")
    changed = {name: one + 0.1 * torch.randn(one.shape, generator=generator) for name, one in tensors.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})
    return folder


def trained(first, out, *words):
    rows = write_rows(out / "data", num_rows=4)
    assert main(["train", "lora", "--base", str(first), "--data", str(rows), "--out", str(out), *TRAIN, *words]) == 0
    return out


@pytest.fixture(scope="module")
def adapter(first, tmp_path_factory):
    return trained(first, tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def small_adapter(first, tmp_path_factory):
    """Trained on the base in int8."""
    return trained(first, tmp_path_factory.mktemp("qlora"), "--quantize", "int8")


@pytest.fixture
def ask(capsys, write_wav):
    """A function of words to (exit code, standard output, standard error) of `flamingo ask` about a noise."""
    file = str(write_wav())

    def run(*words):
        code = main(["ask", file, "What is it?", "--device", "cpu", "--max-new-tokens", "4", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def refused(found):
    code, out, err = found
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "was trained on" in err
    assert "any_base=True" in err
    return err


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16", "int8", "int4", "fp8"])
def test_on_its_base_in_any_precision(ask, first, adapter, precision):
    code, out, _ = ask("--model", str(first), "--adapter", str(adapter), "--dtype", precision)
    assert code == 0
    assert out


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_on_another_base_in_any_precision(ask, second, adapter, precision):
    err = refused(ask("--model", str(second), "--adapter", str(adapter), "--dtype", precision))
    assert str(second) in err
    assert str(adapter) in err


def test_one_that_was_trained_on_few_bits(ask, first, second, small_adapter):
    for precision in ("float32", "int8"):
        assert ask("--model", str(first), "--adapter", str(small_adapter), "--dtype", precision)[0] == 0
    refused(ask("--model", str(second), "--adapter", str(small_adapter), "--quantize", "int8"))


@pytest.fixture
def with_think(adapter, small_adapter, tmp_path):
    """A function of a base to a copy of it whose thinking adapter is one that was trained on the first."""

    def make(base):
        folder = shutil.copytree(base, tmp_path / base.parent.name)
        (folder / "think").mkdir()
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(small_adapter / name, folder / "think" / name)
        return folder

    return make


def test_a_thinking_adapter_too(ask, first, second, with_think, adapter):
    good, bad = with_think(first), with_think(second)
    assert ask("--model", str(good), "--think")[0] == 0
    assert ask("--model", str(good), "--think", "--adapter", str(adapter))[0] == 0  # worked in first
    refused(ask("--model", str(bad), "--think"))
    assert ask("--model", str(bad))[0] == 0  # which does not read it


def test_both_adapters_over_a_base_in_few_bits(first, with_think, adapter, noise):
    model = load_model(with_think(first), device="cpu", quantize="int8", adapter=adapter)
    assert model.ask(noise(1.0), "What is it?", sample_rate_hz=16_000, think=True, max_new_tokens=4).token_ids


def test_whoever_wants_it_says_so(second, adapter, with_think):
    with pytest.raises(CheckpointError, match=r"any_base=True"):
        load_model(second, device="cpu", adapter=adapter)
    model = load_model(with_think(second), device="cpu", adapter=adapter, any_base=True)
    assert model.answer("Why?", think=True, max_new_tokens=4).token_ids


def test_one_that_does_not_say_is_loaded_as_before(ask, second, adapter, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    shutil.copy(adapter / "adapter_config.json", old)
    save_file(load_file(adapter / "adapter_model.safetensors"), old / "adapter_model.safetensors", {"format": "pt"})
    assert stated_base(old) is None
    assert ask("--model", str(second), "--adapter", str(old))[0] == 0


def test_a_run_does_not_go_on_from_other_weights(first, second, adapter, tmp_path, capsys):
    """The base's folder may hold another training when a stopped run is taken up."""
    base = shutil.copytree(first, tmp_path / "base")
    rows = write_rows(tmp_path / "data", num_rows=4)
    words = ["train", "lora", "--base", str(base), "--data", str(rows), "--out", str(tmp_path / "out"), *TRAIN]
    assert main(words) == 0
    shutil.copy(second / "model.safetensors", base / "model.safetensors")
    capsys.readouterr()
    assert main(words) == 2
    assert "a run with another base, data or options" in capsys.readouterr().err


def test_the_embedded_models_own_is_read_by_peft(adapter):
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as opened:
        assert opened.metadata()["format"] == "pt"
        assert json.loads(opened.metadata()[BASE_KEY])["version"] == 1
