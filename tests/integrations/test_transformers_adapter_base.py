"""Adapters of transformers' class say which weights they are of; ours read that, and the other way round."""

import shutil

import peft
import pytest
import torch
from safetensors import safe_open

from audioflamingo.errors import CheckpointError
from audioflamingo.integrations.transformers import adapter_base
from audioflamingo.model.fingerprint import fingerprint
from audioflamingo.model.weights import load_flamingo
from audioflamingo.think import read_adapter
from audioflamingo.think.base import BASE_KEY, stated_base

CONFIG = peft.LoraConfig(r=4, target_modules=r".*language_model.*\.(q_proj|up_proj)")


@pytest.fixture
def saved(model, tmp_path):
    """The folder of a fresh adapter, as transformers' class saves it."""
    model.add_adapter(CONFIG)
    model.save_pretrained(tmp_path / "saved")
    model.delete_adapter("default")
    return tmp_path / "saved"


@torch.no_grad()
def change(model):
    model.model.language_model.layers[1].mlp.up_proj.weight.mul_(1.1)


def test_both_sides_take_the_same_values(folder, shared_model):
    ours, theirs = fingerprint(load_flamingo(folder, dtype=torch.float32)), adapter_base.weights_of(shared_model, {})
    assert ours.names == theirs.names
    assert torch.equal(ours.values, theirs.values)


def test_what_it_saves_is_known_to_both(model, saved, folder):
    assert torch.equal(stated_base(saved).values, adapter_base.weights_of(model, {}).values)
    model.load_adapter(saved)
    assert read_adapter(saved, load_flamingo(folder)).low_rank
    assert peft.load_peft_weights(str(saved), device="cpu")


@pytest.mark.parametrize("form", ["folder", "subfolder"])
def test_other_weights_are_refused_and_nothing_is_changed(model, saved, folder, tmp_path, form):
    shutil.copytree(saved, tmp_path / "root" / "think")
    change(model)
    where = {"folder": (saved, {}), "subfolder": (tmp_path / "root", {"subfolder": "think"})}
    name, options = where[form]
    with pytest.raises(CheckpointError, match=r"1 of .* differ .*load_adapter\(\.\.\., any_base=True\)"):
        model.load_adapter(name, **options)
    assert not any("lora" in path for path, _ in model.named_parameters())
    model.load_adapter(name, **options, any_base=True)
    assert any("lora" in path for path, _ in model.named_parameters())


def test_adapters_in_the_model_do_not_count(model, saved, tmp_path):
    """Neither LoRA, nor tables that it replaced, nor what PEFT worked into the weights for now."""
    table = {"model.language_model.embed_tokens.weight": torch.randn(model.get_input_embeddings().weight.shape)}
    shutil.copytree(saved, tmp_path / "tables" / "think")
    think = tmp_path / "tables" / "think"
    from audioflamingo.integrations.transformers.adapter_files import write_extra_tensors

    write_extra_tensors(think, table)
    before = adapter_base.weights_of(model, {})
    model.load_adapter(tmp_path / "tables", subfolder="think", adapter_name="one")
    assert torch.equal(model.get_input_embeddings().weight, table["model.language_model.embed_tokens.weight"])
    model.load_adapter(saved, adapter_name="two")
    model.save_pretrained(tmp_path / "again")
    assert before.differing(stated_base(tmp_path / "again")) == []
    for layer in model.model.language_model.layers:
        layer.mlp.up_proj.merge()
    found = adapter_base.weights_of(model, model._base_tables)
    assert found.differing(before) == []
    assert found.values.isnan().any()


def test_modules_that_an_adapter_trains_whole_do_not_count(model, saved):
    before = adapter_base.weights_of(model, {})
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "fc1"], modules_to_save=["lm_head"])
    wrapped = peft.get_peft_model(model, config).base_model.model
    wrapped.lm_head.modules_to_save["default"].weight.data.add_(1)
    found = adapter_base.weights_of(wrapped, {})
    assert found.names == before.names
    assert torch.equal(found.values, before.values)


def test_weights_that_are_elsewhere_are_not_compared(model, saved, folder):
    change(model)
    model.model.language_model.layers[1].to("meta")
    adapter_base.check(model, saved, {})  # the rest is as it was
    model.model.audio_tower.conv1.weight.data.add_(1)
    with pytest.raises(CheckpointError, match=r"encoder\.conv1\.weight"):
        adapter_base.check(model, saved, {})


def test_a_whole_model_is_saved_without(shared_model, tmp_path):
    shared_model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as opened:
        assert BASE_KEY not in opened.metadata()
