"""Decode steps of `generate`: the fast ways against the plain one, and what laying weights together leaves alone."""

import copy

import peft
import pytest
import torch
from safetensors.torch import load_file

from audioflamingo.engine.contiguous import KVCache, PrefillContext
from audioflamingo.integrations.transformers import steps
from audioflamingo.integrations.transformers.steps import GraphSteps, LeanSteps, PlainSteps, graphs_of, steps_for
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import fuse_projections

LENGTHS = (5, 40, 70)
NUM_STEPS = 7


@pytest.fixture
def flamingo(model):
    return model.model.twin.link(model)


@torch.no_grad()
def prefilled(flamingo):
    """A cache that holds three prompts of random embeddings."""
    cache = KVCache(flamingo.config.decoder, flamingo.dtype, flamingo.device)
    packing = Packing.of(LENGTHS, flamingo.device)
    embeddings = torch.randn(sum(LENGTHS), flamingo.config.decoder.width, generator=torch.Generator().manual_seed(0))
    flamingo.hidden_states(
        embeddings, packing.positions, PrefillContext(cache, cache.add_rows(packing.lengths), packing)
    )
    return cache


@torch.no_grad()
def walked(found):
    """Logits of some steps; the middle row ends after the fourth."""
    logits = []
    for number in range(NUM_STEPS):
        if number == 4:
            found.keep([0, 2])
        logits.append(found.logits([11 + number, 12, 13][: 3 if number < 4 else 2]).clone())
    return torch.cat(logits)


@pytest.mark.parametrize("room", [512, 1])
def test_graphs_and_lean_steps_give_the_plain_ones_logits(flamingo, room, monkeypatch):
    monkeypatch.setattr(steps, "ROOM_TOKENS", room)
    monkeypatch.setattr(steps, "STEPS_BEFORE_COPY", 3)
    expected = walked(PlainSteps(flamingo, prefilled(flamingo)))
    fuse_projections(flamingo)
    lean = steps_for(flamingo, prefilled(flamingo), is_free=True)
    assert isinstance(lean, LeanSteps)
    torch.testing.assert_close(walked(lean), expected, atol=2e-5, rtol=1e-4)
    graphs = graphs_of(flamingo)
    torch.testing.assert_close(walked(GraphSteps(graphs, prefilled(flamingo))), expected, atol=2e-5, rtol=1e-4)
    again = GraphSteps(graphs_of(flamingo), prefilled(flamingo))
    assert graphs_of(flamingo) is graphs
    torch.testing.assert_close(walked(again), expected, atol=2e-5, rtol=1e-4)


def test_weights_that_have_moved_are_captured_anew(flamingo):
    graphs = graphs_of(flamingo)
    layer = flamingo.decoder.layers[0].mlp.down_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().clone())
    assert graphs_of(flamingo) is not graphs


def test_what_is_not_plain_takes_the_plain_step(model, flamingo):
    cache = prefilled(flamingo)
    assert isinstance(steps_for(flamingo, cache, is_free=False), PlainSteps)
    handle = model.model.language_model.layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    assert isinstance(steps_for(flamingo, cache, is_free=True), PlainSteps)
    handle.remove()
    peft.inject_adapter_in_model(peft.LoraConfig(target_modules=["q_proj"]), model)
    linked = model.model.twin.link(model)
    assert isinstance(steps_for(linked, cache, is_free=True), PlainSteps)


def test_generating_leaves_weights_files_and_training_as_they_were(model, processor, sound, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = processor(text="What is it?", audio=sound(0.5))
    expected = model.generate(**inputs, max_new_tokens=6)
    assert model.generated_on == "engine"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    assert torch.equal(again.generate(**inputs, max_new_tokens=6), expected)
    assert len(load_file(tmp_path / "model.safetensors")) == len(before)
    copied = copy.deepcopy(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    optimiser.step()
    assert not torch.equal(model.model.language_model.layers[0].self_attn.k_proj.weight,
                           copied.model.language_model.layers[0].self_attn.k_proj.weight)  # fmt: skip
    fresh = type(model).from_pretrained(tmp_path)
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(model.generate(**inputs, max_new_tokens=6), fresh.generate(**inputs, max_new_tokens=6))
    assert torch.equal(copied.generate(**inputs, max_new_tokens=6), expected)


def test_a_model_that_generated_in_inference_mode_can_be_trained(model, processor, sound):
    inputs = processor(text="What is it?", audio=sound(0.5))
    with torch.inference_mode():
        expected = model.generate(**inputs, max_new_tokens=4)
    assert not any(parameter.is_inference() for parameter in model.parameters())
    assert torch.equal(model.generate(**inputs, max_new_tokens=4), expected)
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    assert model.model.language_model.layers[0].self_attn.q_proj.weight.grad.isfinite().all()


def test_a_model_that_was_loaded_in_inference_mode_generates(folder, model, processor, sound):
    inputs = processor(text="What is it?", audio=sound(0.5))
    with torch.inference_mode():
        loaded = type(model).from_pretrained(folder, dtype=torch.float32)
        found = loaded.generate(**inputs, max_new_tokens=4)
    assert torch.equal(found, model.generate(**inputs, max_new_tokens=4))


def test_inference_mode_and_what_follows_it_each_get_graphs_of_their_own(flamingo):
    expected = walked(PlainSteps(flamingo, prefilled(flamingo)))
    with torch.inference_mode():
        found = walked(GraphSteps(graphs_of(flamingo), prefilled(flamingo))).clone()
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    again = GraphSteps(graphs_of(flamingo), prefilled(flamingo))
    torch.testing.assert_close(walked(again), expected, atol=2e-5, rtol=1e-4)
