"""Quantised models from checkpoints: filled piece by piece as if whole, checked as plain ones, sized as was told."""

import pytest
import torch

from audioflamingo.errors import CheckpointError
from audioflamingo.model.costs import held_bytes
from audioflamingo.model.kernels.joint import spanning
from audioflamingo.model.lora import EMBEDDING, HEAD, Adapter, LowRank, SwitchedAdapter, merged
from audioflamingo.model.quantize import SCHEMES, scheme_in_use
from audioflamingo.model.quantize.footprint import footprint, weight_bytes
from audioflamingo.model.quantize.layout import base_tensors, lay_out
from audioflamingo.model.quantize.linear import QuantizedLinear
from audioflamingo.model.quantize.stored import QuantizedEmbedding
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights import load_flamingo, rewrite, save_flamingo, transfer

IDS = torch.randint(0, 290, (12,), generator=torch.Generator().manual_seed(3))


@torch.no_grad()
def logits(model):
    return model(IDS, [len(IDS)])


@pytest.fixture(params=["whole", "pieces", "threads"])
def way(request, monkeypatch):
    """Tensors read at once, in pieces of a few rows, and by several threads."""
    if request.param != "whole":
        monkeypatch.setattr(transfer, "PIECE_BYTES", 2_000)
    if request.param == "threads":
        monkeypatch.setattr(transfer, "SMALL_BYTES", 0)
    return request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_loaded_layers_are_those_of_the_whole_weights(small_model, small_folder, scheme):
    model = load_flamingo(small_folder, quantize=scheme)
    assert scheme_in_use(model) == scheme
    assert model.dtype == torch.float32
    plain = dict(small_model.named_modules())
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, QuantizedLinear)}
    assert len(found) == 2 * 7 + 1
    for name, layer in found.items():
        same = QuantizedLinear.of("int8" if name == HEAD else scheme, plain[name].weight, plain[name].bias)
        assert layer.scheme == same.scheme
        assert torch.equal(layer.codes.view(torch.uint8), same.codes.view(torch.uint8))
        assert torch.equal(layer.scale, same.scale)
        assert (layer.bias is None) == (same.bias is None)
        assert layer.bias is None or torch.equal(layer.bias, same.bias.float())


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float16])
def test_plain_models_come_out_the_same_in_every_way_of_reading(small_model, small_folder, dtype):
    loaded = load_flamingo(small_folder, dtype=dtype).state_dict()
    for name, tensor in small_model.state_dict().items():
        assert torch.equal(loaded[name], tensor.to(dtype or torch.bfloat16))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sounds_are_embedded_exactly(small_model, small_folder, scheme):
    mel = torch.randn((1, 128, 210), generator=torch.Generator().manual_seed(0))
    plain, _ = load_flamingo(small_folder, dtype=torch.float32).embed_audio(mel, [208])
    found, _ = load_flamingo(small_folder, quantize=scheme).embed_audio(mel, [208])
    assert torch.allclose(found, plain, atol=1e-6)


@pytest.mark.parametrize(("scheme", "limit"), [("int8", 0.05), ("fp8", 0.1), ("int4", 0.3)])
def test_logits_are_near_those_of_the_plain_model(small_folder, scheme, limit):
    plain = logits(load_flamingo(small_folder, dtype=torch.float32))
    found = logits(load_flamingo(small_folder, quantize=scheme))
    assert 0 < (found - plain).norm() / plain.norm() < limit


def test_the_table_of_tokens_is_in_eight_bits_under_int4_only(small_folder):
    kinds = {scheme: load_flamingo(small_folder, quantize=scheme).decoder.embed_tokens for scheme in SCHEMES}
    assert isinstance(kinds["int4"], QuantizedEmbedding)
    assert kinds["int8"].weight.dtype == kinds["fp8"].weight.dtype == torch.bfloat16


@pytest.mark.parametrize("scheme", SCHEMES)
def test_projections_with_the_same_inputs_lie_together(small_folder, scheme):
    for layer in load_flamingo(small_folder, quantize=scheme).decoder.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for parts in ((attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj)):
            assert spanning([part.codes for part in parts]) is not None
            assert spanning([part.scale for part in parts]) is not None


def test_layers_that_int4_does_not_fit_are_int8(tiny_config):
    layers = lay_out(skeleton(tiny_config), "int4", torch.device("cpu"), torch.float32)
    assert tiny_config.decoder.width % 128
    assert {layer.scheme for layer in layers.values() if isinstance(layer, QuantizedLinear)} == {"int8"}


@pytest.mark.parametrize("scheme", [None, *SCHEMES])
def test_the_bytes_that_are_told_are_those_that_are_taken(small_model, small_folder, scheme):
    told = weight_bytes(small_model.config, scheme, dtype=torch.bfloat16, on_cpu=True)
    model = load_flamingo(small_folder, quantize=scheme, dtype=None if scheme else torch.bfloat16)
    if scheme is None:
        assert held_bytes(model.state_dict().values()) == 2 * sum(p.numel() for p in model.parameters())
        told = weight_bytes(small_model.config, None, dtype=torch.bfloat16, on_cpu=False)
    assert held_bytes(model.state_dict().values()) == told


def test_the_full_size_fits_where_it_was_promised():
    from audioflamingo.config import ModelConfig

    ten_minutes = {"num_tokens": 15_100, "chunk_tokens": 2_048, "dtype": torch.bfloat16}
    assert footprint(ModelConfig(), "int4", on_cpu=False, **ten_minutes).peak < 7.5e9
    assert footprint(ModelConfig(), "int4", on_cpu=True, **(ten_minutes | {"num_tokens": 2_000})).peak < 7.5e9
    assert footprint(ModelConfig(), None, on_cpu=False, **ten_minutes).weights == pytest.approx(16.53e9, rel=1e-3)


def test_a_file_that_ends_early_is_an_error_and_nothing_is_loaded(small_folder, tmp_path, monkeypatch):
    model = load_flamingo(small_folder)
    save_flamingo(model, tmp_path / "cut")
    from audioflamingo.model.weights import read

    kept = read.transfer

    def cut_then_read(jobs, *rest):
        with open(tmp_path / "cut" / "model.safetensors", "r+b") as file:
            file.truncate(5_000)
        kept(jobs, *rest)

    monkeypatch.setattr(read, "transfer", cut_then_read)
    with pytest.raises(CheckpointError, match=r"ends [0-9]+ bytes early"):
        load_flamingo(tmp_path / "cut", quantize="int8")


def test_progress_ends_at_the_checkpoint_s_bytes(small_model, small_folder):
    told = []
    load_flamingo(small_folder, quantize="int8", progress=lambda done, total: told.append((done, total)))
    num_bytes = sum(2 * tensor.numel() for tensor in small_model.state_dict().values())
    assert told[-1] == (num_bytes, num_bytes)
    assert told == sorted(told)


def test_a_quantised_model_is_not_written(small_folder, tmp_path):
    with pytest.raises(CheckpointError, match="save before quantizing"):
        save_flamingo(load_flamingo(small_folder, quantize="int8"), tmp_path / "x")


def adapter_of(model, **replaced):
    generator = torch.Generator().manual_seed(5)
    pairs = {
        f"decoder.layers.{layer}.{name}": LowRank(
            0.2 * torch.randn((4, 128), generator=generator), 0.2 * torch.randn((rows, 4), generator=generator), 0.5
        )
        for layer in range(2)
        for name, rows in (("self_attn.q_proj", 128), ("self_attn.v_proj", 64), ("mlp.up_proj", 256))
    }
    return Adapter(pairs, replaced)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_adapter_is_switched_over_a_quantised_base(small_folder, scheme):
    model = load_flamingo(small_folder, quantize=scheme)
    table = torch.randn((300, 128), generator=torch.Generator().manual_seed(6))
    adapter = adapter_of(model, **{EMBEDDING: table, HEAD: 0.1 * table})
    before = logits(model)
    switched = SwitchedAdapter(model, adapter)
    assert torch.equal(logits(model), before)
    with switched.on([len(IDS)], [True]):
        adapted = logits(model)
    assert not torch.allclose(adapted, before, atol=0.1)
    with switched.on([5, 7], [True, False]), torch.no_grad():
        mixed = model.decoder.embed_tokens(IDS)
    assert torch.equal(mixed[:5], table[IDS[:5]])
    switched.remove()
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_adapter_worked_in_is_that_of_a_merged_checkpoint(small_model, small_folder, tmp_path, scheme):
    table = torch.randn((300, 128), generator=torch.Generator().manual_seed(6)).bfloat16()
    adapter = adapter_of(small_model, **{EMBEDDING: table})
    wide = load_flamingo(small_folder, dtype=torch.float32)
    wide.load_state_dict(merged(wide, adapter), assign=True)
    save_flamingo(wide, tmp_path / "merged")
    expected = load_flamingo(tmp_path / "merged", quantize=scheme)
    model = load_flamingo(small_folder, quantize=scheme)
    rewrite(small_folder, model, adapter)
    assert (logits(model) - logits(expected)).norm() / logits(expected).norm() < 1e-4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_adapters_are_checked_against_the_shapes_of_the_plain_model(small_model, small_folder, scheme):
    model = load_flamingo(small_folder, quantize=scheme)
    base = base_tensors(model)
    assert {name: tensor.shape for name, tensor in base.items()} == {
        name: tensor.shape for name, tensor in small_model.state_dict().items()
    }
    decoder = {tensor.dtype for name, tensor in base.items() if name.startswith("decoder.")}
    assert decoder == {torch.float32}
