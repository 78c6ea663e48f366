"""Decode steps with little between the products give the logits of the decoder's modules."""

import pytest
import torch

from audioflamingo.engine.blocks import num_blocks_for
from audioflamingo.engine.kv_cache import PagedCache
from audioflamingo.engine.runner import decode_in_place
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.lean import QuantizedLean
from audioflamingo.model.quantize.native.build import Unbuilt
from audioflamingo.model.weights import load_flamingo
from audioflamingo.types import Prompt, Sampling

needs_kernels = pytest.mark.skipif(isinstance(native.library(), Unbuilt), reason=f"no kernels: {native.library()}")
TOLERANCE = 3e-4  # of all logits: a few roundings to 16 bits, of states that differ by such


def loaded(folder, scheme):
    return load_flamingo(folder, quantize=scheme).eval().requires_grad_(False)


def filled_cache(config, lengths, *, is_scattered=False):
    """A cache with random keys and values, and sequences that lie in it, in order or with their blocks backwards."""
    cache = PagedCache(config, torch.float32, torch.device("cpu"), 1 + sum(num_blocks_for(one + 1) for one in lengths))
    generator = torch.Generator().manual_seed(0)
    for index in range(config.num_layers):
        cache.pair(index).normal_(generator=generator)
    free, sequences = sorted(range(1, cache.num_blocks), reverse=is_scattered), []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, 200, (length,), generator=generator).tolist()
        one = Sequence(index, Prompt(tuple(ids)), Sampling(), 2000)
        one.blocks = [free.pop(0) for _ in range(num_blocks_for(length + 1))]
        one.generated.append(7 + index)
        sequences.append(one)
    return cache, sequences


@needs_kernels
@pytest.mark.parametrize("lengths", [[1], [40], [1500], [40, 33, 70, 5, 9]])
@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_a_step_equals_that_of_the_modules(small_folder, scheme, lengths):
    model = loaded(small_folder, scheme)
    lean = QuantizedLean.of(model.decoder)
    assert lean is not None
    cache, sequences = filled_cache(model.config.decoder, lengths)
    with torch.inference_mode():
        expected = decode_in_place(model, None, cache, sequences)
        found = decode_in_place(model, lean, cache, sequences)
    assert found.shape == expected.shape
    assert float((found - expected).norm() / expected.norm()) < TOLERANCE


@needs_kernels
@pytest.mark.parametrize("lengths", [[200], [200, 90, 7]])
def test_sequences_may_lie_in_many_places(small_folder, lengths):
    model = loaded(small_folder, "int4")
    cache, sequences = filled_cache(model.config.decoder, lengths, is_scattered=True)
    assert len(sequences[0].runs(lengths[0])) > 1
    with torch.inference_mode():
        expected = decode_in_place(model, None, cache, sequences)
        found = decode_in_place(model, QuantizedLean.of(model.decoder), cache, sequences)
    assert float((found - expected).norm() / expected.norm()) < TOLERANCE


@needs_kernels
def test_what_has_no_compiled_product_keeps_its_modules(small_folder, small_model, monkeypatch):
    assert QuantizedLean.of(small_model.decoder) is None
    assert QuantizedLean.of(loaded(small_folder, "fp8").decoder) is None
    model = loaded(small_folder, "int4")
    monkeypatch.setattr(native, "library", lambda: Unbuilt("no C compiler was found; install gcc"))
    assert QuantizedLean.of(model.decoder) is None


@needs_kernels
def test_a_layer_that_is_replaced_keeps_its_modules(small_folder):
    model = loaded(small_folder, "int4")
    mlp = model.decoder.layers[1].mlp
    mlp.up_proj = torch.nn.Linear(mlp.up_proj.in_features, mlp.up_proj.out_features, bias=False)
    assert QuantizedLean.of(model.decoder) is None
