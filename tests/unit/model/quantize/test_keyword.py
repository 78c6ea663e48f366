"""Quantised models as users get them: by keyword, by flag, and told before they are loaded."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from audioflamingo.api import load_model
from audioflamingo.cli.arguments import Parser, add_model, loading_options
from audioflamingo.cli.main import main
from audioflamingo.errors import OptionError
from audioflamingo.model.quantize import SCHEMES, native
from audioflamingo.model.quantize.native.build import Unbuilt
from audioflamingo.model.weights.names import from_ours
from audioflamingo.types import Message

WORDS = [Message("user", ("Say something.",))]


@pytest.fixture(scope="module")
def plain():
    return load_model("nano", device="cpu")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_embedded_model_answers_and_says_how_it_is_stored(plain, scheme):
    model = load_model("nano", device="cpu", quantize=scheme)
    reply = model.answer(WORDS, max_new_tokens=12)
    assert reply.token_ids
    assert model.info["quantize"] == scheme
    assert model.info["weight_bytes"] < 0.5 * plain.info["weight_bytes"]
    assert plain.info["quantize"] is None


def test_an_unknown_scheme_lists_those_that_there_are():
    with pytest.raises(OptionError, match="quantize 'int5' is not one of int8, int4, fp8"):
        load_model("nano", quantize="int5")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (None, None)),
        (["--dtype", "float32"], ("float32", None)),
        (["--dtype", "int4"], (None, "int4")),
        (["--quantize", "fp8"], (None, "fp8")),
        (["--dtype", "bfloat16,int8"], ("bfloat16", "int8")),
        (["--dtype", "bfloat16", "--quantize", "int8"], ("bfloat16", "int8")),
        (["--quantize", "int4,kv-int8"], (None, "int4")),
        (["--dtype", "kv-int8"], (None, None)),
    ],
)
def test_flags_of_dtypes_and_schemes(words, expected):
    parser = Parser("test", "", "")
    add_model(parser)
    options = loading_options(parser.parse_words(words))
    assert (options["dtype"], options["quantize"]) == expected


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--quantize", "int3"], r"--quantize\) is 'int3'; allowed, joined by commas: one of float32.*fp8"),
        (["--dtype", "int3"], "--dtype .*int3"),
        (["--quantize", "int4,int8"], "int4,int8"),
        (["--quantize", "int4,kv-int4"], "and kv-int8"),
    ],
)
def test_an_unknown_kind_is_told_by_the_name_of_its_flag(words, complaint):
    parser = Parser("test", "", "")
    add_model(parser)
    with pytest.raises(OptionError, match=complaint):
        loading_options(parser.parse_words(words))


def test_a_smaller_cache_goes_beside_smaller_weights():
    parser = Parser("test", "", "")
    add_model(parser)
    assert loading_options(parser.parse_words(["--quantize", "int4,kv-int8"]))["kv_cache"] == "int8"
    assert loading_options(parser.parse_words(["--quantize", "int4"]))["kv_cache"] == "plain"


def test_what_memory_will_be_taken_is_told(capsys):
    assert main(["info", "nano", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["memory"]
    assert set(told["gpu"]) == {"bfloat16", *SCHEMES}
    assert set(told["cpu"]) == {"float32", *SCHEMES}
    for scheme in SCHEMES:
        assert told["cpu"][scheme]["weights"] == load_model("nano", device="cpu", quantize=scheme).info["weight_bytes"]
        assert told["cpu"][scheme]["peak"] > told["cpu"][scheme]["weights"]
        assert told["cpu"][scheme]["kv_per_1000_tokens"] == 1_000 * 2 * 7 * 2 * 64 * 4
        assert told["cpu"][scheme]["kv_int8_per_1000_tokens"] == 1_000 * 2 * 7 * 2 * (64 + 4)


def test_the_cache_in_eight_bits_is_asked_for_by_keyword(plain):
    model = load_model("nano", device="cpu", kv_cache="int8")
    assert (model.info["kv_cache"], plain.info["kv_cache"]) == ("int8", "plain")
    assert model.answer(WORDS, max_new_tokens=12).token_ids
    assert model.engine.counts.num_cache_bytes == model.engine._runner.cache.num_blocks * 32 * 2 * 7 * 2 * (64 + 4)


def test_missing_kernels_are_told_once(monkeypatch, caplog):
    monkeypatch.setattr(native, "library", lambda: Unbuilt("no C compiler was found; install gcc"))
    native.warn_if_missing.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            load_model("nano", device="cpu", quantize="int8")
    assert [record.getMessage() for record in caplog.records].count(
        "quantised layers run several times slower without their compiled kernels: no C compiler was found; install gcc"
    ) == 1
    native.warn_if_missing.cache_clear()


@pytest.fixture(scope="module")
def adapter_folder(plain, tmp_path_factory):
    """A LoRA over the up projections of the embedded model, as PEFT writes it."""
    folder = tmp_path_factory.mktemp("adapter")
    layers = [f"decoder.layers.{number}.mlp.up_proj" for number in range(plain.model.config.decoder.num_layers)]
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for layer in layers:
        name = f"base_model.model.{from_ours(f'{layer}.', 'transformers')}"
        tensors[f"{name}lora_A.weight"] = 0.1 * torch.randn((4, 256), generator=generator)
        tensors[f"{name}lora_B.weight"] = 0.1 * torch.randn((768, 4), generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["up_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_adapter_goes_into_quantised_weights(plain, adapter_folder, scheme):
    """The change that it makes to a weight is that which it makes to the plain one, up to the steps of the codes."""
    name = "decoder.layers.3.mlp.up_proj"
    adapted = load_model("nano", device="cpu", quantize=scheme, adapter=adapter_folder)
    expected = load_model("nano", device="cpu", adapter=adapter_folder).model.get_submodule(name).weight
    found = adapted.model.get_submodule(name).dequantize(torch.float32)
    assert (found - expected).norm() < 0.11 * expected.norm()
    before = plain.model.get_submodule(name).weight
    assert (found - before).norm() > 2 * (found - expected).norm()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_thinking_is_switched_over_quantised_weights(adapter_folder, scheme):
    model = load_model("nano", device="cpu", quantize=scheme, thinking=adapter_folder)
    together = model.generate([WORDS, WORDS], each=[{"think": False}, {"think": True}], max_new_tokens=8)
    assert together[0].token_ids == model.answer(WORDS, max_new_tokens=8).token_ids
    assert together[1].token_ids == model.answer(WORDS, max_new_tokens=8, think=True).token_ids
