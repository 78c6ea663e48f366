"""The whole model against transformers' class: logits and greedy tokens, one at a time and in ragged batches."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.errors import PromptError
from audioflamingo.model.attention import attention_kernel
from audioflamingo.model.flamingo import Flamingo

SAMPLE_RATE_HZ = 16_000
DURATIONS_S = [0.1, 29.99, 30, 30.01, 75]


@torch.no_grad()
def our_logits(model, ids, sound):
    mel, frames = (None, None) if sound is None else (sound.mel, sound.num_mel_frames)
    return model(ids, [len(ids)], mel, frames)


@pytest.mark.parametrize("duration_s", [*DURATIONS_S, 600])
def test_logits_and_top_tokens_equal_the_reference(flamingo, reference_logits, make_sound, make_ids, duration_s):
    sound = make_sound(round(duration_s * SAMPLE_RATE_HZ))
    ids = make_ids(sound.num_audio_tokens)
    ours, theirs = our_logits(flamingo, ids, sound), reference_logits(ids, sound)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))
    assert theirs.argmax(-1).unique().numel() > 5  # the weights make the comparison mean something


def test_the_sound_decides_what_follows(flamingo, make_sound, make_ids):
    """The comparisons above would be blind to the encoder otherwise."""
    first, second = make_sound(48_000, 1), make_sound(48_000, 2)
    ids = make_ids(first.num_audio_tokens)
    difference = our_logits(flamingo, ids, first) - our_logits(flamingo, ids, second)
    assert difference[-1].abs().max() > 0.1


@pytest.mark.parametrize("duration_s", DURATIONS_S)
@torch.no_grad()
def test_greedy_tokens_equal_the_reference(flamingo, reference, make_sound, make_ids, duration_s):
    sound = make_sound(round(duration_s * SAMPLE_RATE_HZ), 1)
    ids, num_new_tokens = make_ids(sound.num_audio_tokens, 1), 8
    banned = flamingo.config.audio_token_id
    theirs = reference.generate(
        input_ids=ids[None],
        input_features=sound.mel,
        input_features_mask=sound.mask,
        attention_mask=torch.ones_like(ids)[None],
        max_new_tokens=num_new_tokens,
        do_sample=False,
        suppress_tokens=[banned],
        pad_token_id=0,
    )[0]
    for _ in range(num_new_tokens):
        last = our_logits(flamingo, ids, sound)[-1]
        last[banned] = -torch.inf
        ids = torch.cat([ids, last.argmax()[None]])
    assert ids.tolist() == theirs.tolist()


def packed_logits(model, rows):
    """Logits of each row of one packed forward pass."""
    sounds = [sound for _, sound in rows if sound is not None]
    mel = torch.cat([sound.mel for sound in sounds]) if sounds else None
    frames = [count for sound in sounds for count in sound.num_mel_frames]
    lengths = [len(ids) for ids, _ in rows]
    with torch.no_grad():
        return model(torch.cat([ids for ids, _ in rows]), lengths, mel, frames).split(lengths)


@settings(max_examples=8)
@given(
    sample_counts=st.lists(
        st.one_of(st.none(), st.integers(1, 1000), st.integers(1, 200_000), st.integers(479_000, 481_000)),
        min_size=1,
        max_size=4,
    )
)
def test_ragged_batches_equal_the_reference_row_by_row(flamingo, reference_logits, make_sound, make_ids, sample_counts):
    rows = []
    for seed, num_samples in enumerate(sample_counts):
        sound = None if num_samples is None else make_sound(num_samples, seed)
        rows.append((make_ids(sound.num_audio_tokens if sound else 0, seed, 7 + 5 * seed), sound))
    for (ids, sound), logits in zip(rows, packed_logits(flamingo, rows), strict=True):
        expected = reference_logits(ids, sound)
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
        assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@torch.no_grad()
def test_a_ragged_batch_equals_the_reference_padded_on_the_left(flamingo, reference, make_sound, make_ids):
    sounds = [make_sound(1_600, 1), make_sound(50_000, 2), None, make_sound(500_000, 3)]
    rows = [(make_ids(sound.num_audio_tokens if sound else 0, seed), sound) for seed, sound in enumerate(sounds)]
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.stack([torch.cat([torch.zeros(longest - len(ids), dtype=torch.long), ids]) for ids, _ in rows])
    mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row, _ in rows])
    theirs = reference(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        input_features=torch.cat([sound.mel for sound in sounds if sound]),
        input_features_mask=torch.cat([sound.mask for sound in sounds if sound]),
    ).logits
    for (row, _), expected, logits in zip(rows, theirs, packed_logits(flamingo, rows), strict=True):
        torch.testing.assert_close(logits, expected[-len(row) :], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_every_kernel_gives_the_same_logits(flamingo, make_sound, make_ids, kernel):
    sounds = [make_sound(48_000, 1), make_sound(20_000, 2)]
    rows = [(make_ids(sound.num_audio_tokens, seed), sound) for seed, sound in enumerate(sounds)]
    expected = packed_logits(flamingo, rows)
    with attention_kernel(kernel):
        for logits, other in zip(packed_logits(flamingo, rows), expected, strict=True):
            torch.testing.assert_close(logits, other, atol=2e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.03), (torch.float16, 0.004)])
def test_half_precision_is_as_near_as_the_reference(
    flamingo, reference, reference_logits, make_sound, make_ids, dtype, tolerance
):
    sound = make_sound(100_000)
    ids = make_ids(sound.num_audio_tokens)
    ours, theirs = copy.deepcopy(flamingo).to(dtype), copy.deepcopy(reference).to(dtype)
    logits, expected = our_logits(ours, ids, sound), reference_logits(ids, sound, model=theirs)
    exact = reference_logits(ids, sound)
    assert logits.dtype == dtype
    our_error, their_error = ((x.float() - exact).norm() / exact.norm() for x in (logits, expected))
    assert our_error < tolerance
    assert our_error < 1.1 * their_error


def test_windows_may_come_with_only_the_frames_they_need(flamingo, make_sound, make_ids):
    sound = make_sound(33_000)
    ids, needed = make_ids(sound.num_audio_tokens), max(sound.num_mel_frames) + 2
    with torch.no_grad():
        short = flamingo(ids, [len(ids)], sound.mel[:, :, :needed], sound.num_mel_frames)
    torch.testing.assert_close(short, our_logits(flamingo, ids, sound), atol=1e-5, rtol=0)


def test_a_sound_too_short_for_a_token_leaves_text_alone(flamingo, reference_logits, make_sound, make_ids):
    sound, ids = make_sound(320), make_ids(0)
    assert sound.num_audio_tokens == 0
    torch.testing.assert_close(our_logits(flamingo, ids, sound), reference_logits(ids), atol=1e-4, rtol=0)


def test_placeholders_and_sounds_that_disagree_are_refused(flamingo, make_sound, make_ids):
    sound = make_sound(16_000)
    with pytest.raises(PromptError, match="24 audio placeholders stand in the prompt but 25 audio tokens came"):
        our_logits(flamingo, make_ids(24), sound)
    with pytest.raises(PromptError, match="3 audio placeholders"):
        our_logits(flamingo, make_ids(3), None)


def test_gradients_reach_everything_that_is_trained(flamingo, make_sound, make_ids):
    model = Flamingo(flamingo.config)
    model.load_state_dict(flamingo.state_dict())
    sound = make_sound(16_000)
    ids = make_ids(sound.num_audio_tokens)
    model(ids, [len(ids)], sound.mel, sound.num_mel_frames).logsumexp(-1).sum().backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"encoder.embed_positions.weight"}
