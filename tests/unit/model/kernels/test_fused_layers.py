"""Fused layers, in Triton's interpreter or on a GPU, against the modules; and attention's choices for windows."""

import pytest
import torch

from audioflamingo.config import DecoderConfig, EncoderConfig, ModelConfig
from audioflamingo.model import fused
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, Decoder, fuse_projections
from audioflamingo.model.encoder import Encoder
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.fused import takes_fused
from audioflamingo.model.kernels import gelu_in_place, kernel_switches
from audioflamingo.model.lora import Adapter, LowRank, SwitchedAdapter
from audioflamingo.model.quantize.linear import QuantizedLinear

TINY = DecoderConfig(vocab_size=64, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256)
LISTENER = EncoderConfig(width=64, num_layers=2, num_heads=2, ffn_width=64)


def random_(module, like):
    for parameter in module.parameters():
        parameter.data.normal_(0, 0.1)
    return module.eval().to(like)


def quantize(decoder, scheme):
    for layer in decoder.layers:
        for parent, names in ((layer.self_attn, ("q_proj", "k_proj", "v_proj")), (layer.mlp, ("gate_proj", "up_proj"))):
            plain = [getattr(parent, name) for name in names]
            dtype = None if plain[0].bias is None else plain[0].weight.dtype
            sizes = [one.out_features for one in plain]
            new = QuantizedLinear.neighbours(scheme, sizes, plain[0].in_features, plain[0].weight.device, dtype)
            for name, old, one in zip(names, plain, new, strict=True):
                one.write_rows(0, old.weight.detach())
                if one.bias is not None:
                    one.bias.copy_(old.bias.detach())
                setattr(parent, name, one)


def test_an_adapter_keeps_the_layers_from_running_fused_only_while_it_is_on():
    model = Flamingo(ModelConfig(LISTENER, TINY, audio_token_id=0)).eval()
    fuse_projections(model)
    layers = model.decoder.layers
    pair = LowRank(torch.randn(2, 128), torch.randn(256, 2), 1.0)
    adapter = SwitchedAdapter(model, Adapter({"decoder.layers.1.mlp.up_proj": pair}))
    assert fused._products(layers) is not None
    with adapter.on([3, 2], [True, False]):
        assert fused._products(layers) is None
    assert fused._products(layers) is not None
    layers[0].mlp.up_proj.register_forward_hook(lambda *_: None)
    assert fused._products(layers) is None


@pytest.mark.parametrize("scheme", [None, "int8", "int4"])
def test_decoder_layers(like, scheme):
    if like.dtype == torch.float16:
        pytest.skip("one dtype is enough for how the pieces are put together")
    decoder = random_(Decoder(TINY), like)
    if scheme is None:
        fuse_projections(decoder)
    else:
        quantize(decoder, scheme)
    x, packing = torch.randn(9, 128).to(like), Packing.of([4, 5], like.device)
    with kernel_switches(kernels=False):
        assert not takes_fused(x, decoder.layers)
        want = decoder(x, packing.positions, CausalContext(packing))
    assert takes_fused(x, decoder.layers)
    got = decoder(x, packing.positions, CausalContext(packing))
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-3)
    for rows in ([3, 8], [8], []):
        wanted = torch.tensor(rows, dtype=torch.int64, device=like.device)
        some = decoder(x, packing.positions, CausalContext(packing), wanted)
        torch.testing.assert_close(some, got[wanted], atol=1e-5, rtol=1e-5)


def test_a_long_prompt_is_fed_forward_in_pieces(like, monkeypatch):
    if like.dtype == torch.float16:
        pytest.skip("one dtype is enough for how the pieces are put together")
    decoder, packing = random_(Decoder(TINY), like), Packing.of([11], like.device)
    fuse_projections(decoder)
    x = torch.randn(11, 128).to(like)
    want = decoder(x, packing.positions, CausalContext(packing))
    monkeypatch.setattr(fused, "FEED_ROWS", 4)
    torch.testing.assert_close(decoder(x, packing.positions, CausalContext(packing)), want, atol=1e-5, rtol=1e-5)


def test_layers_that_change_are_looked_at_again(like):
    decoder = random_(Decoder(TINY), like)
    fuse_projections(decoder)
    x = torch.randn(3, 128).to(like)
    for _ in range(2):
        assert takes_fused(x, decoder.layers)
        handle = decoder.layers[1].mlp.down_proj.register_forward_hook(lambda *_: None)
        assert not takes_fused(x, decoder.layers)
        handle.remove()
    down = decoder.layers[0].mlp.gate_proj
    down.weight.data = down.weight.data.clone()
    assert not takes_fused(x, decoder.layers)
    fuse_projections(decoder)
    packing = Packing.of([3], like.device)
    got = decoder(x, packing.positions, CausalContext(packing))
    with kernel_switches(kernels=False):
        want = decoder(x, packing.positions, CausalContext(packing))
    torch.testing.assert_close(got, want, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("frames", [[40, 40], [41, 17], [9]], ids=str)
def test_encoder_with_and_without_joint_projections(like, frames):
    if like.dtype == torch.float16:
        pytest.skip("fp16 has a guard of its own and runs unfused")
    encoder = random_(Encoder(LISTENER), like)
    mel = torch.randn(len(frames), 128, max(frames) + 2).to(like)
    with kernel_switches(kernels=False):
        want = encoder(mel, frames)[0]
    for _ in range(2):
        torch.testing.assert_close(encoder(mel, frames)[0], want, atol=1e-5, rtol=1e-5)
        fuse_projections(encoder)
    assert all(layer.self_attn.joint is not None for layer in encoder.layers)


def test_joint_projections_of_the_encoder_are_given_up_when_a_parameter_moves():
    encoder = Encoder(LISTENER)
    weights = {name: one.clone() for name, one in encoder.state_dict().items()}
    fuse_projections(encoder)
    assert all(torch.equal(one, weights[name]) for name, one in encoder.state_dict().items())
    own = encoder.layers[0].self_attn
    assert not own.joint[1][64:128].any()
    own.v_proj.bias.data = own.v_proj.bias.data.clone()
    assert own.joint is None


def test_gelu_is_exact_and_in_place(like):
    x = torch.linspace(-9, 9, 5000).to(like)
    want = torch.nn.functional.gelu(x.double())
    got = gelu_in_place(x)
    assert got.data_ptr() == x.data_ptr()
    torch.testing.assert_close(got.double(), want, atol=1e-6 if like.dtype == torch.float32 else 1e-3, rtol=2e-3)
