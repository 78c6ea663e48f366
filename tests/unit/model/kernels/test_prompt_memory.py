"""What keeps a long prompt's memory small changes nothing of what it computes."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional

from audioflamingo.config import DecoderConfig, EncoderConfig
from audioflamingo.model import attention, fused
from audioflamingo.model.attention import Packing, PaddedContext, attend, num_padded
from audioflamingo.model.decoder import CausalContext, Decoder, fuse_projections
from audioflamingo.model.encoder import Encoder
from audioflamingo.model.kernels import add_layer_norm, add_rms_norm, swiglu

TINY = DecoderConfig(vocab_size=64, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256)
NUM_TOKENS = 11


class PaddedCausal(PaddedContext):
    """One sequence whose attention takes padded rows, as those of a long prompt on a GPU do."""

    def __init__(self, like, num_tokens):
        self.packing = Packing.of([num_tokens], like.device)
        self.num_rows = num_padded(like, self.packing)
        self.seen = []

    def attend(self, layer_index, query, key, value):
        self.seen.append(len(query))
        return attend(query, key, value, self.packing, causal=True)


def decoder_of(like, config=TINY):
    torch.manual_seed(1)
    decoder = Decoder(config)
    for parameter in decoder.parameters():
        parameter.data.normal_(0, 0.1)
    decoder.eval().to(like)
    fuse_projections(decoder)
    return decoder


def hidden(decoder, x, **options):
    packing = Packing.of([len(x)], x.device)
    return decoder(x, packing.positions, CausalContext(packing), **options)


@pytest.mark.parametrize("num_parts", [None, 3])
def test_a_norm_in_place_and_with_rows_behind_it(like, num_parts):
    x, weight = torch.randn(5, 48).to(like), torch.randn(48).to(like)
    delta = torch.randn(5, 48).to(like) if num_parts is None else torch.randn(num_parts, 5, 48, device=like.device)
    want = add_rms_norm(x, delta, weight, 1e-6)
    total, normed = add_rms_norm(x, delta, weight, 1e-6, in_place=True, padding=3)
    assert total is x
    assert torch.equal(x, want[0])
    assert torch.equal(normed[:5], want[1])
    assert normed.shape == (8, 48)
    assert not normed[5:].any()


def test_a_layer_norm_in_place(like):
    x, delta = torch.randn(2, 5, 48).to(like)
    weight, bias = torch.randn(2, 48).to(like)
    want = add_layer_norm(x, delta, weight, bias, 1e-5)
    total, normed = add_layer_norm(x, delta, weight, bias, 1e-5, in_place=True)
    assert total is x
    assert torch.equal(x, want[0])
    assert torch.equal(normed, want[1])


def test_swiglu_in_place(like):
    gate_up = torch.randn(5, 2 * 1500).to(like)
    want = swiglu(gate_up)
    got = swiglu(gate_up, in_place=True)
    assert got.data_ptr() == gate_up.data_ptr()
    assert torch.equal(got, want)


@pytest.mark.parametrize("rows", [None, [10], [2, 5, 6, 7, 8, 9]], ids=str)
def test_pieces_are_the_whole(like, rows, monkeypatch):
    decoder, x = decoder_of(like), torch.randn(NUM_TOKENS, 128).to(like)
    wanted = None if rows is None else torch.tensor(rows, device=like.device)
    want = hidden(decoder, x, rows=wanted)
    monkeypatch.setattr(fused, "FEED_ROWS", 4)
    kept = x.clone()
    got = hidden(decoder, x, rows=wanted)
    assert torch.equal(x, kept)
    near = {"atol": 1e-5, "rtol": 1e-5} if like.dtype == torch.float32 else {"atol": 3e-2, "rtol": 3e-2}
    torch.testing.assert_close(got, want, **near)
    assert torch.equal(hidden(decoder, x, rows=wanted, is_spare=True), got)


def test_memory_that_is_spare_is_used_and_other_is_not(like):
    decoder, x = decoder_of(like), torch.randn(NUM_TOKENS, 128).to(like)
    kept = x.clone()
    want = hidden(decoder, x)
    assert torch.equal(x, kept)
    assert torch.equal(hidden(decoder, x, is_spare=True), want)
    assert not torch.equal(x, kept)


def test_rows_of_padding_are_seen_by_nobody(like, monkeypatch):
    if like.is_cuda:
        pytest.skip("the way of a long prompt runs there as it is, see below")
    decoder, x = decoder_of(like), torch.randn(NUM_TOKENS, 128).to(like)
    want = hidden(decoder, x)
    # That kernel is a GPU's; what stands around it is not.
    monkeypatch.setattr(attention, "_choose", lambda *_, **__: "cudnn")
    monkeypatch.setattr(attention, "sdpa_kernel", lambda _: nullcontext())
    monkeypatch.setattr(attention, "CUDNN_MULTIPLE", 8)
    context = PaddedCausal(like, NUM_TOKENS)
    got = decoder(x, context.packing.positions, context)
    assert context.seen == [16, 16]
    near = 1e-5 if like.dtype == torch.float32 else 3e-2
    torch.testing.assert_close(got, want, atol=near, rtol=near)
    torch.testing.assert_close(hidden(decoder, x), got, atol=near, rtol=near)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.no_grad()
def test_a_long_prompt_padded_ahead_on_a_gpu():
    like = torch.empty(0, dtype=torch.bfloat16, device="cuda")
    heads = DecoderConfig(
        vocab_size=64, width=512, num_layers=2, num_heads=7, num_kv_heads=1, head_dim=128, ffn_width=1024
    )
    decoder, x = decoder_of(like, heads), torch.randn(5001, 512).to(like)
    want = hidden(decoder, x)
    context = PaddedCausal(like, len(x))
    got = decoder(x, context.packing.positions, context)
    assert set(context.seen) == {context.num_rows}
    error = (got.double() - want.double()).norm() / want.double().norm()
    assert error < 1e-2


@pytest.mark.parametrize("frames", [[40, 40], [41, 17], [9]], ids=str)
def test_frames_of_convolutions_by_products(frames):
    torch.manual_seed(2)
    encoder = Encoder(EncoderConfig(width=64, num_layers=1, num_heads=2, ffn_width=64)).eval()
    mel = torch.randn(len(frames), 128, max(frames) + 2)
    with torch.no_grad():
        num_frames = (max(frames) - 1) // 2 + 1
        got = fused.embed_frames_fused(encoder, mel, num_frames)
        want = functional.gelu(encoder.conv2(functional.gelu(encoder.conv1(mel)))).transpose(1, 2)
    torch.testing.assert_close(got, want[:, :num_frames], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_inputs", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_of_any_length(num_inputs, stride):
    layer = nn.Conv1d(5, 8, 3, stride=stride, padding=1)
    x = torch.randn(2, num_inputs, 5)
    with torch.no_grad():
        want = functional.gelu(layer(x.transpose(1, 2))).transpose(1, 2)
        torch.testing.assert_close(fused._convolved(layer, x, want.shape[1], stride), want, atol=1e-6, rtol=1e-5)
