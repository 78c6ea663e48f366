"""Our encoder against transformers' on the same weights, and against itself on no more frames than it needs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.config import MEL_FRAMES_PER_WINDOW
from audioflamingo.model.attention import attention_kernel
from audioflamingo.model.encoder import Encoder, sinusoids

pytestmark = pytest.mark.filterwarnings("ignore")
frame_counts = st.one_of(st.integers(1, 40), st.integers(1, 3000), st.integers(2960, 3000))


def random_mel(num_windows, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_windows, 128, MEL_FRAMES_PER_WINDOW, generator=generator, dtype=dtype) * 2.5 - 1


def reference_features(reference, mel, num_mel_frames):
    mask = torch.arange(mel.shape[-1]) < torch.tensor(num_mel_frames)[:, None]
    with torch.no_grad():
        features = reference.model.audio_tower(mel, input_features_mask=mask).last_hidden_state
    return [row[: ((frames - 1) // 2 + 1) // 2] for row, frames in zip(features, num_mel_frames, strict=True)]


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "num_mel_frames", [[3000], [3000, 3000], [1, 2, 3, 4], [2999, 2998, 2997], [100, 700, 3000, 5]]
)
def test_features_equal_the_reference(reference, flamingo, num_mel_frames, kernel):
    mel = random_mel(len(num_mel_frames), 1)
    with attention_kernel(kernel):
        features, num_audio_tokens = flamingo.encoder(mel, num_mel_frames)
    expected = reference_features(reference, mel, num_mel_frames)
    assert num_audio_tokens == [len(row) for row in expected]
    torch.testing.assert_close(features, torch.cat(expected), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@settings(max_examples=12)
@given(num_mel_frames=st.lists(frame_counts, min_size=1, max_size=3), seed=st.integers(0, 9))
def test_ragged_windows_equal_the_reference(reference, flamingo, num_mel_frames, seed):
    mel = random_mel(len(num_mel_frames), seed)
    features, num_audio_tokens = flamingo.encoder(mel, num_mel_frames)
    for ours, theirs in zip(
        features.split(num_audio_tokens), reference_features(reference, mel, num_mel_frames), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@settings(max_examples=12)
@given(frames=frame_counts, seed=st.integers(0, 9))
def test_two_frames_past_the_sound_are_enough(flamingo, dtype, tolerance, frames, seed):
    encoder = Encoder(flamingo.config.encoder).to(dtype)
    encoder.load_state_dict(flamingo.encoder.state_dict())
    mel = random_mel(1, seed, dtype)
    whole, _ = encoder(mel, [frames])
    short, _ = encoder(mel[:, :, : frames + 2], [frames])
    assert short.shape == whole.shape
    torch.testing.assert_close(short, whole, atol=tolerance, rtol=0)


@torch.no_grad()
def test_two_frames_past_the_sound_are_needed(flamingo):
    """One fewer changes the last feature, so the promise above is tight for odd lengths."""
    mel = random_mel(1, 0)
    whole, _ = flamingo.encoder(mel, [103])
    short, _ = flamingo.encoder(mel[:, :, :104], [103])
    assert (short - whole).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("num_mel_frames", [[300], [7, 300, 41]])
def test_frames_past_those_two_are_never_read(flamingo, num_mel_frames):
    mel = random_mel(len(num_mel_frames), 0)
    expected, _ = flamingo.encoder(mel, num_mel_frames)
    mel[:, :, max(num_mel_frames) + 2 :] = torch.nan
    features, _ = flamingo.encoder(mel, num_mel_frames)
    torch.testing.assert_close(features, expected, atol=0, rtol=0)


@pytest.mark.parametrize("num_mel_frames", [[1], [2], [1, 2, 1]])
@pytest.mark.parametrize("num_frames", [3, 3000])
def test_windows_too_short_for_a_token_give_none(flamingo, num_mel_frames, num_frames):
    mel = random_mel(len(num_mel_frames), 0)[:, :, :num_frames]
    embeddings, num_audio_tokens = flamingo.embed_audio(mel, num_mel_frames)
    assert num_audio_tokens == [0] * len(num_mel_frames)
    assert embeddings.shape == (0, flamingo.config.decoder.width)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_fp32_mel(flamingo, dtype):
    encoder = Encoder(flamingo.config.encoder).to(dtype)
    encoder.load_state_dict(flamingo.encoder.state_dict())
    mel = random_mel(2, 0)
    features, _ = encoder(mel, [300, 47])
    expected, _ = flamingo.encoder(mel, [300, 47])
    assert features.dtype == dtype
    assert (features.float() - expected).norm() / expected.norm() < 0.03


@torch.no_grad()
@pytest.mark.parametrize("num_mel_frames", [[3000, 3000], [300, 300], [300, 101]])
def test_compiles_without_a_graph_break(flamingo, num_mel_frames):
    torch.compiler.reset()
    mel = random_mel(2, 0)
    compiled = torch.compile(lambda x: flamingo.encoder(x, num_mel_frames)[0], fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(mel), flamingo.encoder(mel, num_mel_frames)[0], atol=0, rtol=0)


@torch.no_grad()
def test_a_compiled_encoder_notices_a_forced_kernel(flamingo):
    """The choice is guarded: a forced kernel is not baked into what was compiled before."""
    torch.compiler.reset()
    mel, seen = random_mel(1, 0), []

    def note(graph, _):
        seen.append(any("softmax" in str(node.target) for node in graph.graph.nodes))
        return graph

    compiled = torch.compile(lambda x: flamingo.encoder(x, [300])[0], fullgraph=True, backend=note)
    compiled(mel)
    with attention_kernel("eager"):
        compiled(mel)
    assert seen == [False, True]


def test_sinusoids_equal_the_reference_table():
    from transformers.models.whisper.modeling_whisper import sinusoids as expected

    torch.testing.assert_close(sinusoids(1500, 1280), expected(1500, 1280), atol=2e-4, rtol=0)
