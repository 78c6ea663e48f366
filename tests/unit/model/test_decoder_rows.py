"""The last layer of those rows alone whose states are wanted."""

import pytest
import torch

from audioflamingo.config import DecoderConfig
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, Decoder

CONFIG = DecoderConfig(vocab_size=30, width=32, num_layers=3, num_heads=4, num_kv_heads=2, head_dim=8, ffn_width=48)


@pytest.mark.parametrize("rows", [[6], [2, 6], [0, 1, 2, 3, 4, 5, 6], []], ids=str)
@torch.no_grad()
def test_wanted_rows_are_those_of_all(rows):
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).double().eval()
    x, packing = torch.randn(7, 32, dtype=torch.float64), Packing.of([3, 4], torch.device("cpu"))
    every = decoder(x, packing.positions, CausalContext(packing))
    some = decoder(x, packing.positions, CausalContext(packing), torch.tensor(rows, dtype=torch.int64))
    torch.testing.assert_close(some, every[rows], atol=1e-12, rtol=1e-12)


@torch.no_grad()
def test_the_last_feed_forward_sees_no_others():
    decoder, packing = Decoder(CONFIG).eval(), Packing.of([7], torch.device("cpu"))
    seen = []
    for layer in decoder.layers:
        layer.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    decoder(torch.randn(7, 32), packing.positions, CausalContext(packing), torch.tensor([6]))
    assert seen == [7, 7, 1]
