"""Random weights, and a small checkpoint whose widths fit every scheme."""

import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.weights import save_flamingo

SMALL = ModelConfig(
    EncoderConfig(width=32, num_layers=2, num_heads=4, ffn_width=64),
    DecoderConfig(vocab_size=300, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256),
    audio_token_id=290,
)


@pytest.fixture
def make_weight():
    """A function of (N, K, seed) to weights with a few large ones, as trained models have."""

    def make(num_outputs, num_inputs, seed=0):
        generator = torch.Generator().manual_seed(seed)
        weight = torch.randn((num_outputs, num_inputs), generator=generator) * 0.02
        return weight * (1 + 4 * (torch.rand(weight.shape, generator=generator) > 0.99))

    return make


@pytest.fixture(scope="session")
def small_model():
    torch.manual_seed(0)
    return Flamingo(SMALL).to(torch.bfloat16).eval()


@pytest.fixture(scope="session")
def small_folder(small_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("small") / "checkpoint"
    save_flamingo(small_model, folder, max_shard_bytes=200_000)
    return folder
