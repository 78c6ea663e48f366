import dataclasses

import pytest
import torch
from test_lean import pack

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.errors import OptionError
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.train.initialise import initialise
from audioflamingo.train.lora import LoraConfig, add_lora
from audioflamingo.train.loss import AnswerLoss
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.quantized import FrozenLinear, quantize_base
from audioflamingo.train.stages import nano, stage_3, stage_3_5

WIDE = ModelConfig(
    EncoderConfig(width=32, num_layers=1, num_heads=2, ffn_width=64),
    DecoderConfig(vocab_size=320, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256),
    audio_token_id=310,
)


def wide_model():
    model = Flamingo(WIDE)
    initialise(model, seed=1)
    return model


def wide_pack():
    small = pack()
    ids = torch.where(small.ids > 290, 310, small.ids % 280)
    ids[3:28] = 310
    keep = ids == 310
    keep[3:28] = False
    ids[keep] = 7
    return dataclasses.replace(small, ids=ids, targets=ids[small.places + 1])


def widened(model):
    """The twin with ordinary linear layers that hold the widened weights."""
    plain = wide_model()
    for name, module in model.decoder.layers.named_modules():
        if isinstance(module, FrozenLinear):
            plain.decoder.layers.get_submodule(name).weight.data = module.dequantize()
    return plain


@pytest.mark.parametrize("scheme", ["int8", "int4"])
def test_adapters_on_few_bits_learn_as_on_the_widened_weights(scheme):
    stage = dataclasses.replace(
        nano(stage_3_5()), lora=LoraConfig(rank=4, alpha=8.0, dropout=0.0), quantize=scheme, recomputes=True
    )
    model = wide_model()
    quantize_base(model.decoder, scheme)
    plain = widened(model)
    results = []
    for base, loss in (
        (plain, prepare(plain, dataclasses.replace(stage, quantize=None))),
        (model := wide_model(), prepare(model, stage)),
    ):
        with torch.no_grad():
            for name, parameter in base.named_parameters():
                if name.endswith("lora_b"):
                    parameter.fill_(0.01)
        total = loss(wide_pack())
        total.backward()
        results.append((total.detach(), {name: p.grad for name, p in trained(loss).items()}))
    (expected, wanted), (found, came) = results
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    assert came.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(came[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(("scheme", "most"), [("int8", 0.02), ("int4", 0.2)])
def test_the_base_stays_near_what_it_was(scheme, most):
    model = wide_model()
    weight = model.decoder.layers[0].mlp.up_proj.weight.detach().clone()
    quantize_base(model.decoder, scheme)
    layer = model.decoder.layers[0].mlp.up_proj
    assert isinstance(layer, FrozenLinear)
    assert (layer.dequantize() - weight).norm() < most * weight.norm()
    assert layer.codes.numel() * layer.codes.element_size() <= weight.numel() * (1 if scheme == "int8" else 0.5)
    assert not [name for name, _ in model.decoder.layers.named_parameters() if "proj" in name]


def test_the_plain_adapter_form_is_the_twin_here_too():
    config = LoraConfig(rank=4, alpha=8.0, dropout=0.0)
    losses = []
    for is_lean in (False, True):
        model = wide_model()
        if is_lean:
            loss = prepare(model, dataclasses.replace(nano(stage_3_5()), lora=config, quantize="int4"))
        else:
            quantize_base(model.decoder, "int4")
            add_lora(model, config, seed=nano(stage_3_5()).seed)
            loss = AnswerLoss(model)
        losses.append(loss(wide_pack()).detach())
    torch.testing.assert_close(*losses)


def test_what_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="cannot be trained itself"):
        dataclasses.replace(stage_3(), quantize="int8")
    with pytest.raises(OptionError, match="allowed: int8, int4"):
        quantize_base(wide_model().decoder, "int2")
    narrow = dataclasses.replace(WIDE, decoder=dataclasses.replace(WIDE.decoder, width=64))
    with pytest.raises(OptionError, match="has 64; use int8"):
        quantize_base(Flamingo(narrow).decoder, "int4")
