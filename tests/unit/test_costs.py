"""Costs by arithmetic equal what the modules hold and what torch counts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from audioflamingo.config import NANO, ModelConfig
from audioflamingo.model import costs
from audioflamingo.model.attention import Packing, attention_kernel
from audioflamingo.model.decoder import CausalContext
from audioflamingo.model.flamingo import Flamingo


def counted(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_released_size_is_that_of_the_facts():
    found = costs.parameters(ModelConfig())
    assert found == costs.Parameters(
        encoder=636_968_960, projector=17_439_744, decoder_body=7_069_214_208, lm_head=543_592_448
    )
    assert found.total == 8_267_215_360
    assert costs.weight_bytes(ModelConfig()) == 2 * 8_267_215_360


@pytest.mark.parametrize("config", [ModelConfig(), NANO], ids=["released", "nano"])
def test_parameters_equal_those_of_the_modules(config):
    with torch.device("meta"):
        model = Flamingo(config)
    found = costs.parameters(config)
    assert found.encoder == counted(model.encoder)
    assert found.projector == counted(model.projector)
    assert found.lm_head == counted(model.decoder.lm_head)
    assert found.decoder_body == counted(model.decoder) - found.lm_head
    assert found.total == counted(model)


@torch.no_grad()
def test_encoder_operations_equal_those_that_torch_counts(tiny_config):
    model = Flamingo(tiny_config)
    frames = [150, 150]
    with FlopCounterMode(display=False) as counter, attention_kernel("eager"):
        model.embed_audio(torch.zeros(2, 128, 300), [300, 300])
    expected = costs.encoder_flops(tiny_config.encoder, frames) + costs.projector_flops(tiny_config, 150)
    assert counter.get_total_flops() == expected


@torch.no_grad()
def test_prefill_operations_equal_those_that_torch_counts(tiny_config):
    """torch counts the whole square of scores; half of it and the diagonal are ours."""
    decoder = Flamingo(tiny_config).decoder
    packing = Packing.of([40], torch.device("cpu"))
    with FlopCounterMode(display=False) as counter, attention_kernel("eager"):
        hidden = decoder(torch.zeros(40, decoder.config.width), packing.positions, CausalContext(packing))
        decoder.lm_head(hidden[-1:])
    config = decoder.config
    unseen = 4 * (40 * 39 // 2) * config.num_heads * config.head_dim * config.num_layers
    assert counter.get_total_flops() == costs.prefill_flops(config, 40) + unseen


def test_prefill_in_chunks_costs_the_same():
    config = ModelConfig().decoder
    chunks = costs.prefill_flops(config, 600, num_logits=0) + costs.prefill_flops(config, 400, num_cached_tokens=600)
    assert chunks == costs.prefill_flops(config, 1000)


def test_decode_bytes_are_weights_once_and_every_cache():
    config = ModelConfig().decoder
    assert costs.kv_bytes_per_token(config) == 57_344
    one = costs.decode_step_bytes(config, batch=1, num_context_tokens=0)
    found = costs.parameters(ModelConfig())
    embedding = config.vocab_size * config.width
    assert one == 2 * (found.decoder_body - embedding + found.lm_head + config.width)
    many = costs.decode_step_bytes(config, batch=64, num_context_tokens=790)
    assert many == one + 63 * 2 * config.width + 64 * 790 * 57_344
    assert costs.decode_bytes_per_token(config, batch=64, num_context_tokens=790) == many / 64
    assert costs.decode_step_bytes(config, batch=1, num_context_tokens=0, dtype="int4") == one // 4
