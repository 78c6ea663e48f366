"""The mean of two endings: every tensor where it belongs, and an adapter that knows its new base."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioflamingo.api import load_model
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.model.weights import resolve
from audioflamingo.train.nano_mean import Shares, average, mean_tensors

NANO = resolve("nano")
HEADS = NANO.parent / "nano_training" / "heads.safetensors"


def ending(folder, moved_by=0.0, rows=None):
    """The embedded model with all weights moved, and with fewer rows of heads."""
    shutil.copytree(NANO, folder)
    generator = torch.Generator().manual_seed(5)
    moved = {name: x + moved_by * x.float().std() * torch.randn(x.shape, generator=generator)
             for name, x in load_file(folder / "model.safetensors").items()}  # fmt: skip
    save_file(
        {name: x.bfloat16() for name, x in moved.items()}, folder / "model.safetensors", metadata={"format": "pt"}
    )
    heads = {name: x[:rows].clone() if name.startswith("events") else x for name, x in load_file(HEADS).items()}
    save_file(heads, folder / "heads.safetensors")
    return folder


def test_shares_are_of_the_newer_one_and_the_decoder_has_its_own():
    older = {
        "audio_tower.w": torch.zeros(2, 2),
        "language_model.w": torch.zeros(2, 2),
        "events.weight": torch.zeros(1, 2),
    }
    newer = {"audio_tower.w": torch.ones(2, 2), "language_model.w": torch.ones(2, 2), "events.weight": torch.ones(3, 2)}
    mean = mean_tensors(older, newer, Shares(0.5, 0.75))
    assert mean["audio_tower.w"].unique().tolist() == [0.5]
    assert mean["language_model.w"].unique().tolist() == [0.75]
    assert mean["events.weight"].tolist() == [[0.5, 0.5], [1.0, 1.0], [1.0, 1.0]]
    assert newer["events.weight"].unique().tolist() == [1.0]


def test_later_layers_have_their_own_share():
    shares = Shares(0.1, 0.2, late=0.3, late_from=5)
    layers = [f"language_model.model.layers.{number}.mlp.up_proj.weight" for number in (4, 5, 15)]
    names = [
        "audio_tower.layers.6.fc1.weight",
        "events.weight",
        *layers,
        "language_model.lm_head.weight",
        "clock.weight",
    ]
    assert [shares.of(name) for name in names] == [0.1, 0.1, 0.2, 0.3, 0.3, 0.3, 0.3]


@pytest.mark.parametrize("change", ["name", "shape", "rows"])
def test_what_does_not_belong_together_is_refused(change):
    older, newer = {"a": torch.zeros(2, 2)}, {"a": torch.zeros(2, 2)}
    older = {"name": {"b": torch.zeros(2, 2)}, "shape": {"a": torch.zeros(2, 3)}, "rows": {"a": torch.zeros(3, 2)}}[
        change
    ]
    with pytest.raises(OptionError, match="endings of one model"):
        mean_tensors(older, newer, Shares())


def test_a_share_is_from_0_to_1():
    with pytest.raises(OptionError, match=r"1\.5 is no share"):
        Shares(1.5, 0.5)
    with pytest.raises(OptionError, match=r"-1 is no share"):
        Shares(late=-1)


def test_the_mean_answers_and_its_adapter_belongs_to_it(tmp_path):
    older, newer = ending(tmp_path / "older", rows=300), ending(tmp_path / "newer", moved_by=0.02)
    average(older, newer, tmp_path / "out", Shares())
    rows = load_file(tmp_path / "out" / "heads.safetensors")["events.weight"]
    assert len(rows) == len(load_file(HEADS)["events.weight"])
    checkpoint = tmp_path / "out" / "checkpoint"
    assert not (checkpoint / "heads.safetensors").exists()
    sound = "examples/dog_then_bell.wav"
    model = load_model(str(checkpoint))
    assert "bell" in model.ask(sound, "What do you hear?").text
    assert model.ask(sound, "How many sounds are there?", think=True).thoughts
    shutil.rmtree(checkpoint / "think")
    shutil.copytree(NANO / "think", checkpoint / "think")  # the adapter of other weights
    with pytest.raises(FlamingoError):
        load_model(str(checkpoint)).ask(sound, "How many sounds are there?", think=True)
