import json
import warnings

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import TINY, tiny_model

from audioflamingo.errors import CheckpointError, OptionError
from audioflamingo.model.lora import merged
from audioflamingo.model.weights import load_flamingo
from audioflamingo.think.adapter import read_adapter
from audioflamingo.train.lora import DECODER_LINEARS, LoraConfig, adapter_tensors, add_lora, save_adapter, take_adapter

CONFIG = LoraConfig(rank=4, alpha=6.0)


def with_random_adapter(model):
    add_lora(model, CONFIG, seed=3)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def sequence():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(TINY.audio_token_id - 5, (40,), generator=generator)
    ids[5:30] = TINY.audio_token_id
    return ids, torch.randn(1, 128, 102, generator=generator)


@pytest.fixture
def saved(tmp_path):
    model = with_random_adapter(tiny_model())
    save_adapter(dict(model.named_parameters()), CONFIG, tmp_path, "tiny")
    return model, tmp_path


def test_a_new_adapter_changes_nothing():
    ids, mel = sequence()
    model = tiny_model()
    before = model(ids, [40], mel, [100])
    names = add_lora(model, CONFIG)
    assert len(names) == len(DECODER_LINEARS) * TINY.decoder.num_layers
    assert torch.equal(model.eval()(ids, [40], mel, [100]), before)
    assert {n.rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad} == {"lora_a", "lora_b"}


def test_our_own_loader_reads_what_we_write(saved):
    model, folder = saved
    ids, mel = sequence()
    plain = tiny_model()
    plain.load_state_dict(merged(plain, read_adapter(folder, plain)))
    torch.testing.assert_close(plain(ids, [40], mel, [100]), model(ids, [40], mel, [100]), rtol=1e-4, atol=1e-4)


def test_peft_reads_what_we_write_and_gives_our_logits(saved, base):
    peft = pytest.importorskip("peft")
    from transformers import AudioFlamingo3ForConditionalGeneration

    model, folder = saved
    ids, mel = sequence()
    padded = torch.zeros(1, 128, 3_000)
    padded[:, :, :102] = mel
    mask = torch.zeros(1, 3_000, dtype=torch.int64)
    mask[:, :100] = 1
    theirs = AudioFlamingo3ForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
    adapted = peft.PeftModel.from_pretrained(theirs, folder).eval()
    loaded = {name for name, _ in adapted.named_parameters() if "lora_" in name}
    assert len(loaded) == len(adapter_tensors(dict(model.named_parameters())))
    inputs = {"input_ids": ids[None], "attention_mask": torch.ones(1, 40, dtype=torch.int64)}
    with torch.no_grad():
        logits = adapted(**inputs, input_features=padded, input_features_mask=mask).logits[0]
        ours = model(ids, [40], mel, [100])
        unadapted = load_flamingo(base)(ids, [40], mel, [100])
    torch.testing.assert_close(ours, logits, rtol=1e-4, atol=1e-4)
    assert (ours - unadapted).abs().max() > 0.05


def test_the_configuration_is_pefts(saved):
    values = json.loads((saved[1] / "adapter_config.json").read_text())
    assert (values["peft_type"], values["r"], values["lora_alpha"]) == ("LORA", 4, 6.0)


def test_dropout_acts_only_in_training():
    model = with_random_adapter(tiny_model())
    layer = model.decoder.layers[0].mlp.up_proj
    x = torch.randn(64, 32)
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_adapters_of_a_bf16_base_are_fp32():
    model = tiny_model().bfloat16()
    add_lora(model, CONFIG)
    layer = model.decoder.layers[0].self_attn.q_proj
    assert layer.lora_a.dtype == torch.float32
    assert layer(torch.randn(3, 32).bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("values", [{"rank": 0}, {"alpha": 0.0}, {"dropout": 1.0}])
def test_wrong_sizes_are_refused(values):
    with pytest.raises(OptionError):
        LoraConfig(**values)


def test_an_adapter_is_gone_on_from(saved):
    model, folder = saved
    other = tiny_model()
    add_lora(other, CONFIG, seed=9)
    take_adapter(dict(other.named_parameters()), folder)
    found, wanted = (adapter_tensors(dict(one.named_parameters())) for one in (other, model))
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_an_adapter_of_another_rank_is_refused(saved):
    other = tiny_model()
    add_lora(other, LoraConfig(rank=2, alpha=6.0))
    with pytest.raises(CheckpointError, match=r"does not fit: \d+ matrices differ"):
        take_adapter(dict(other.named_parameters()), saved[1])


def test_the_style_of_thoughts_is_read_back_and_peft_does_not_mind(saved):
    peft = pytest.importorskip("peft")
    model, folder = saved
    parameters = dict(model.named_parameters())
    assert read_adapter(folder, tiny_model()).style is None
    save_adapter(parameters, CONFIG, folder, "tiny", think_style="tags")
    assert read_adapter(folder, tiny_model()).style == "tags"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        peft.PeftConfig.from_pretrained(folder)
    assert load_file(folder / "adapter_model.safetensors").keys() == adapter_tensors(parameters).keys()
