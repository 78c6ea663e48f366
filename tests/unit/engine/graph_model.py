"""A tiny model with random weights for recorded launches: head width and key heads as its kernels want them."""

import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model.flamingo import Flamingo


def graph_config(max_positions=256):
    return ModelConfig(
        EncoderConfig(width=32, num_layers=1, num_heads=2, ffn_width=64),
        DecoderConfig(
            vocab_size=512, width=64, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=96,
            max_positions=max_positions,
        ),
        audio_token_id=500,
    )  # fmt: skip


def graph_model(config, device):
    torch.manual_seed(0)
    model = Flamingo(config).eval().to(device)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.1)
    return model
