"""The same weights have the same fingerprint in whatever form they are loaded; any other tensor is seen."""

import copy
import dataclasses

import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.fingerprint import VALUES_PER_TENSOR, Fingerprint, fingerprint
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.skeleton import skeleton
from audioflamingo.model.weights import load_flamingo, save_flamingo
from audioflamingo.train.initialise import initialise
from audioflamingo.train.lora import LoraConfig, add_lora
from audioflamingo.train.quantized import quantize_base

WIDE = ModelConfig(
    EncoderConfig(width=32, num_layers=1, num_heads=2, ffn_width=64),
    DecoderConfig(vocab_size=320, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256),
    audio_token_id=310,
)
FORMS = [
    {},
    {"dtype": torch.bfloat16},
    {"dtype": torch.float16},
    {"quantize": "int8"},
    {"quantize": "int4"},
    {"quantize": "fp8"},
]


def wide_model(seed=1):
    model = Flamingo(WIDE)
    initialise(model, seed=seed)
    return model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of one set of weights in fp32 and of another; neither is exact in bf16."""
    found = [tmp_path_factory.mktemp("weights") / str(seed) for seed in (1, 2)]
    for seed, folder in enumerate(found, start=1):
        save_flamingo(wide_model(seed), folder)
    return found


@pytest.fixture(scope="module")
def stored():
    return Fingerprint.loads(fingerprint(wide_model()).dumps())


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_same_weights_in_any_form_are_the_same(folders, stored, form):
    found = fingerprint(load_flamingo(folders[0], **form))
    assert not found.values.isnan().any()
    assert found.differing(stored) == []


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_another_training_is_seen_in_any_form(folders, stored, form):
    found = fingerprint(load_flamingo(folders[1], **form)).differing(stored)
    matrices = {name for name, tensor in skeleton(WIDE).state_dict().items() if tensor.ndim > 1}
    assert len(set(found) & matrices) >= 0.8 * len(matrices)  # what is still at its start, as norms, is equal


@pytest.mark.parametrize("kept", [torch.bfloat16, torch.float16])
def test_what_was_trained_on_short_weights_is_known_on_others(folders, kept):
    stated = Fingerprint.loads(fingerprint(load_flamingo(folders[0], dtype=kept)).dumps())
    for form in FORMS:
        assert fingerprint(load_flamingo(folders[0], **form)).differing(stated) == []


def test_every_tensor_counts(stored):
    model = wide_model()
    for name, tensor in model.state_dict().items():
        before = tensor.clone()
        tensor.add_(0.02 * before + 1e-3)
        assert fingerprint(model).differing(stored) == [name]
        tensor.copy_(before)
    assert fingerprint(model).differing(stored) == []


def test_bf16_weights_are_equal_to_the_last_bit_in_fp32():
    short = wide_model().bfloat16()
    wide = copy.deepcopy(short).float()
    assert torch.equal(fingerprint(short).values, fingerprint(wide).values)
    assert fingerprint(wide_model()).digest == fingerprint(short).digest


@pytest.mark.parametrize("scheme", [None, "int8", "int4"])
def test_adapters_in_training_do_not_count(stored, scheme):
    model = wide_model()
    if scheme:
        quantize_base(model.decoder, scheme)
    add_lora(model, LoraConfig(rank=2))
    assert fingerprint(model).differing(stored) == []


def test_weights_laid_out_otherwise_are_the_same(stored):
    model = wide_model()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data = module.weight.data.T.contiguous().T
    assert fingerprint(model).differing(stored) == []


def test_what_is_elsewhere_is_not_compared(stored):
    assert fingerprint(skeleton(WIDE)).is_empty
    assert fingerprint(skeleton(WIDE)).differing(stored) == []
    model = wide_model(2)
    model.decoder.to("meta")
    found = fingerprint(model)
    assert not found.is_empty
    assert {name.partition(".")[0] for name in found.differing(stored)} == {"encoder", "projector"}


def test_a_model_of_another_depth_differs_in_all(stored):
    deeper = Flamingo(dataclasses.replace(WIDE, decoder=dataclasses.replace(WIDE.decoder, num_layers=3)))
    assert fingerprint(deeper).differing(stored) == list(fingerprint(deeper).names)


def test_it_is_small_and_read_back(stored):
    model = wide_model()
    assert stored.values.shape == (len(model.state_dict()), VALUES_PER_TENSOR)
    assert torch.equal(stored.values, fingerprint(model).values)
    assert len(stored.dumps()) < 32 * len(model.state_dict())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"version": 2}', '{"version": 1, "layout": "a", "values": "AAA"}', "[" * 100_000,
     '{"version": 1, "layout": "a", "values": "AAAAAA=="}', '{"version": 1, "layout": "a", "values": 3}'],
)  # fmt: skip
def test_what_is_none_is_refused(text):
    with pytest.raises((ValueError, RecursionError)):
        Fingerprint.loads(text)
