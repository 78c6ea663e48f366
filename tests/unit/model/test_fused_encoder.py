"""Where the encoder's fused layers may run; that they give what the modules give is tested with the kernels."""

import pytest
import torch

from audioflamingo.config import EncoderConfig
from audioflamingo.model import fused
from audioflamingo.model.encoder import Encoder


@pytest.fixture
def encoder(monkeypatch):
    monkeypatch.setattr(fused, "runs_triton", lambda x: True)  # as on a GPU; the kernels' twins run here
    torch.manual_seed(0)
    return Encoder(EncoderConfig(width=32, num_layers=2, num_heads=2, ffn_width=64)).eval()


@torch.no_grad()
def test_a_hook_on_a_layer_is_called_though_nobody_trains(encoder):
    """Shards are put together by such hooks: fused layers that pass them by would read pieces of their weights."""
    mel = torch.randn(1, 128, 202)
    plain, _ = encoder(mel, [200])
    assert fused.takes_fused_encoder(mel, encoder.layers)
    called = []
    encoder.layers[1].register_forward_pre_hook(lambda module, args: called.append(module))
    assert not fused.takes_fused_encoder(mel, encoder.layers)
    hooked, _ = encoder(mel, [200])
    assert called == [encoder.layers[1]]
    torch.testing.assert_close(hooked, plain)
