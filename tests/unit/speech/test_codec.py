import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.errors import OptionError
from audioflamingo.speech.codec import CODEC_FRAME_SAMPLES, FSQ, Codec, CodecConfig
from audioflamingo.speech.streaming import InverseSTFT, StreamState

SMALL = CodecConfig(frame_width=24, subframe_width=16, frame_layers=1, subframe_layers=2)
NUM_FRAMES = 12


@pytest.fixture(scope="module")
def codec():
    torch.manual_seed(0)
    return Codec(SMALL).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def samples():
    return 0.1 * torch.randn(2, NUM_FRAMES * CODEC_FRAME_SAMPLES, generator=torch.Generator().manual_seed(1))


def pieces_of(sizes):
    """Cuts of 12 codec frames into runs of the given sizes."""
    bounds = [0]
    for size in sizes:
        bounds.append(min(bounds[-1] + size, NUM_FRAMES))
    return [(a, b) for a, b in zip(bounds, [*bounds[1:], NUM_FRAMES], strict=True) if b > a]


SIZES = st.lists(st.integers(1, 5), max_size=NUM_FRAMES)


@settings(max_examples=15)
@given(SIZES)
def test_streamed_encoding_equals_one_shot(codec, samples, sizes):
    with StreamState() as state:
        parts = [
            codec.encoder(samples[:, a * CODEC_FRAME_SAMPLES : b * CODEC_FRAME_SAMPLES], state)
            for a, b in pieces_of(sizes)
        ]
    torch.testing.assert_close(torch.cat(parts, 2), codec.encoder(samples), atol=1e-4, rtol=0)


@settings(max_examples=15)
@given(SIZES)
def test_streamed_decoding_equals_one_shot(codec, samples, sizes):
    codes = codec.encode(samples)
    whole = codec.decode(codes)
    assert whole.shape == samples.shape
    assert whole.std() > 1e-3
    delay = codec.decoder.delay
    with StreamState() as state:
        late = torch.cat([codec.decode(codes[..., a:b], state) for a, b in pieces_of(sizes)], 1)
    torch.testing.assert_close(late[:, delay:], whole[:, : late.shape[1] - delay], atol=1e-4, rtol=0)


def test_nothing_later_is_heard(codec, samples):
    changed = samples.clone()
    changed[:, 6 * CODEC_FRAME_SAMPLES :] = 0.5
    before, after = codec.encoder(samples), codec.encoder(changed)
    assert torch.equal(before[..., :6], after[..., :6])
    assert not torch.equal(before[..., 6], after[..., 6])


@given(st.integers(0, 2**31))
@settings(max_examples=20)
def test_codes_and_levels_are_two_ways(seed):
    codes = torch.randint(0, SMALL.num_codes, (2, SMALL.num_groups, 5), generator=torch.Generator().manual_seed(seed))
    fsq = FSQ(SMALL)
    levels = fsq.from_codes(codes)
    assert levels.abs().max() <= 1
    assert torch.equal(fsq.to_codes(levels), codes)
    assert torch.equal(fsq.from_indices(fsq.to_indices(levels)), levels)


def test_the_quantiser_reaches_every_level_and_passes_gradients():
    fsq = FSQ(SMALL)
    x = torch.linspace(-6, 6, 4_000).repeat(1, SMALL.code_width, 1).requires_grad_()
    out = fsq(x)
    counts = [out[0, index].unique().numel() for index in range(4)]
    assert counts == list(SMALL.levels)
    out.sum().backward()
    assert x.grad.abs().min() > 0


def test_the_inverse_transform_gives_back_what_was_transformed():
    inverse = InverseSTFT(960, 240)
    samples = torch.randn(1, 4_800)
    padded = torch.cat([torch.zeros(1, 720), samples, torch.zeros(1, 720)], 1)
    spectra = torch.fft.rfft(padded.unfold(1, 960, 240) * inverse.window).transpose(1, 2)
    # Windows that end within the first hop stand before the first sample: the transform's own delay.
    late = inverse(spectra)
    torch.testing.assert_close(late[:, 720 : 720 + 4_080], samples[:, :4_080], atol=1e-5, rtol=0)


def test_states_are_separate_and_must_be_entered(codec, samples):
    codes = codec.encode(samples)
    with StreamState() as one, StreamState() as other:
        first = codec.decode(codes[..., :3], one)
        assert torch.equal(first, codec.decode(codes[..., :3], other))
        assert not torch.equal(first, codec.decode(codes[..., :3], one))
    with pytest.raises(AssertionError):
        codec.decode(codes, StreamState())


def test_half_a_frame_is_refused(codec):
    with pytest.raises(OptionError, match="960"):
        codec.encode(torch.zeros(1, 1_000))


def test_the_whole_trains(samples):
    torch.manual_seed(0)
    codec = Codec(SMALL)
    codec(samples).square().mean().backward()
    assert all(parameter.grad is not None for parameter in codec.parameters())
