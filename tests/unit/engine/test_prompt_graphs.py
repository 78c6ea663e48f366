"""Recorded prompts and windows against the model's own calls; on a CPU the same code runs unrecorded."""

import pytest
import torch
from graph_model import graph_config, graph_model

from audioflamingo.engine.kv_cache import PagedCache
from audioflamingo.engine.prompt_graphs import GraphEncoder, GraphPrefill, Recorder
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, fuse_projections

CONFIG = graph_config()
NEAR = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def model(device):
    model = graph_model(CONFIG, device)
    fuse_projections(model)
    return model


class Kept:
    """Attention that remembers what it was given."""

    def __init__(self, packing):
        self._context, self.pairs = CausalContext(packing), []

    def attend(self, layer_index, query, key, value):
        self.pairs.append((key.clone(), value.clone()))
        return self._context.attend(layer_index, query, key, value)


@torch.inference_mode()
def test_prompts_of_any_length_again_and_again(model, device):
    cache = PagedCache(CONFIG.decoder, torch.float32, device, 8)
    prefill = GraphPrefill(model, cache)
    for num_tokens in (33, 40, 64, 1, 33):
        x = torch.randn(num_tokens, 64, device=device)
        slots = 32 + torch.randperm(7 * 32, device=device)[:num_tokens]
        packing = Packing.of([num_tokens], device)
        kept = Kept(packing)
        want = model.hidden_states(x, packing.positions, kept)[-1:]
        torch.testing.assert_close(prefill.hidden(x, slots), want, **NEAR)
        for layer, (keys, values) in enumerate(kept.pairs):
            torch.testing.assert_close(cache.keys[layer][slots], keys, **NEAR)
            torch.testing.assert_close(cache.values[layer][slots], values, **NEAR)


@torch.inference_mode()
def test_a_prompt_writes_to_no_other_slot(model, device):
    cache = PagedCache(CONFIG.decoder, torch.float32, device, 4)
    slots = torch.arange(32, 32 + 5, device=device)
    GraphPrefill(model, cache).hidden(torch.randn(5, 64, device=device), slots)
    assert not cache.pair(0)[:, 32 + 5 :].any()


@torch.inference_mode()
def test_a_cache_that_has_moved_is_noticed(model, device):
    cache = PagedCache(CONFIG.decoder, torch.float32, device, 4)
    prefill = GraphPrefill(model, cache)
    x, slots = torch.randn(5, 64, device=device), torch.arange(32, 37, device=device)
    for _ in range(3):
        want = prefill.hidden(x, slots)
    cache.grow(8)
    cache.pair(0).zero_()
    assert torch.equal(prefill.hidden(x, slots), want)
    assert cache.pair(0)[:, slots].any()


@torch.inference_mode()
@pytest.mark.parametrize("num_windows", [1, 2, 3])
def test_windows_of_sound(model, device, num_windows):
    encoder = GraphEncoder(model)
    for _ in range(3):
        mel = torch.randn(num_windows, 128, 3000, device=device)
        want, lengths = model.embed_audio(mel, [3000] * num_windows)
        got, same = encoder.embed_audio(mel, [3000] * num_windows)
        assert same == lengths
        torch.testing.assert_close(got, want, **NEAR)


@torch.inference_mode()
def test_windows_are_taken_only_where_nothing_hangs_on_the_layers(model, device):
    encoder, mel = GraphEncoder(model), torch.zeros(1, 128, 3000)
    takes = encoder.takes(mel, [3000])
    assert takes == (device.type == "cuda")
    assert not encoder.takes(mel, [2999])
    with torch.enable_grad():
        assert not encoder.takes(mel, [3000])
    model.projector.linear_1.register_forward_hook(lambda *_: None)
    assert not encoder.takes(mel, [3000])


def test_work_is_recorded_when_it_comes_again(device):
    calls = []
    recorder = Recorder(device)
    out = torch.zeros(1, device=device)

    def work():
        calls.append(0)
        return out.add_(1)

    for _ in range(4):
        recorder.run("key", work)
    assert len(calls) == (2 if device.type == "cuda" else 4)
    assert int(out) == 4
