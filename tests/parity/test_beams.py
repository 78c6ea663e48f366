"""Beam search against transformers' class: the same weights, the same answers, whatever ends them."""

import numpy as np
import pytest
import torch

from audioflamingo.engine.beams import search
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Beams, Prompt, Span

WINDOW_SAMPLES = 480_000
MOST_TOKENS = 12
NO_END = (9_999,)  # beyond the vocabulary
DURATIONS_S = (None, 0.7, 3.0, 31.0)


@pytest.fixture(scope="module")
def extractor():
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=128)


@pytest.fixture(scope="module", params=range(len(DURATIONS_S)), ids=lambda place: f"{DURATIONS_S[place]} s")
def asked(request, reference, extractor, make_ids):
    """A prompt of ours, and what transformers takes for the same.

    For its beams transformers repeats windows and not sounds, so that those of a longer sound change places. Of such a
    one it is given the embeddings, which are its own, too.
    """
    duration_s = DURATIONS_S[request.param]
    if duration_s is None:
        ids = make_ids(0, seed=5)
        return Prompt(tuple(ids.tolist())), {"input_ids": ids[None]}
    generator = np.random.default_rng(request.param)
    samples = (0.1 * generator.standard_normal(round(duration_s * SAMPLE_RATE_HZ))).astype(np.float32)
    windows = [samples[start : start + WINDOW_SAMPLES] for start in range(0, len(samples), WINDOW_SAMPLES)]
    heard = extractor(windows, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True)
    num_tokens = sum(((frames - 1) // 2 + 1) // 2 for frames in heard["attention_mask"].sum(-1).tolist())
    ids = make_ids(num_tokens, seed=request.param)
    prompt = Prompt(tuple(ids.tolist()), (Span(5, num_tokens, 0),), (Audio(samples),))
    audio = {"input_features": heard["input_features"], "input_features_mask": heard["attention_mask"]}
    if len(windows) == 1:
        return prompt, {"input_ids": ids[None], **audio}
    with torch.no_grad():
        embeddings = reference.get_input_embeddings()(ids)
        embeddings[ids == prompt.ids[5]] = reference.get_audio_features(**audio).pooler_output
    return prompt, {"input_ids": ids[None], "inputs_embeds": embeddings[None]}


@pytest.fixture(scope="module")
def theirs(reference):
    """A function to transformers' answer, the prompt left out."""

    @torch.no_grad()
    def answer(inputs, num_beams, length_penalty=1.0, eos_ids=NO_END, most_tokens=MOST_TOKENS, penalty=1.0):
        ids = inputs["input_ids"]
        found = reference.generate(
            **inputs,
            attention_mask=torch.ones_like(ids),
            num_beams=num_beams,
            length_penalty=length_penalty,
            early_stopping=False,
            do_sample=False,
            max_new_tokens=most_tokens,
            eos_token_id=list(eos_ids),
            pad_token_id=0,
            repetition_penalty=penalty,
        )
        return tuple(found[0, ids.shape[1] :].tolist())

    return answer


def ours(model, prompt, num_beams, length_penalty=1.0, eos_ids=NO_END, most_tokens=MOST_TOKENS, penalty=1.0):
    return search(
        model,
        prompt,
        Beams(num_beams, length_penalty),
        eos_ids=eos_ids,
        most_tokens=most_tokens,
        repetition_penalty=penalty,
        windows_at_once=4,
    )


def ends_that_occur(answer):
    """One token, and three of them, with which beams end early."""
    return (answer[5],), (answer[2], answer[4], answer[7])


@pytest.mark.parametrize("num_beams", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (3, 4)), 5])
def test_answers_equal_the_reference(flamingo, asked, theirs, num_beams):
    prompt, inputs = asked
    unending = theirs(inputs, num_beams)
    assert len(unending) == MOST_TOKENS
    assert ours(flamingo, prompt, num_beams) == unending
    lengths = set()
    for eos_ids in ends_that_occur(unending):
        for length_penalty in (-1.0, 0.0, 0.6, 1.0, 3.0):
            expected = theirs(inputs, num_beams, length_penalty, eos_ids)
            assert ours(flamingo, prompt, num_beams, length_penalty, eos_ids) == expected
            lengths.add(len(expected))
    assert len(lengths) > 1  # penalties choose among beams that ended at different places


@pytest.mark.parametrize("num_beams", [2, 5])
@pytest.mark.parametrize("penalty", [0.5, 1.3])
def test_repetition_is_penalised_as_by_the_reference(flamingo, asked, theirs, num_beams, penalty):
    prompt, inputs = asked
    expected = theirs(inputs, num_beams, penalty=penalty)
    assert ours(flamingo, prompt, num_beams, penalty=penalty) == expected
    assert expected != theirs(inputs, num_beams)


@pytest.mark.parametrize("most_tokens", [1, 2, 40])
def test_short_and_long_answers_equal_the_reference(flamingo, asked, theirs, most_tokens):
    prompt, inputs = asked
    eos_ids = ends_that_occur(theirs(inputs, 3))[1]
    for ends in (eos_ids, NO_END):
        expected = theirs(inputs, 3, eos_ids=ends, most_tokens=most_tokens)
        assert ours(flamingo, prompt, 3, eos_ids=ends, most_tokens=most_tokens) == expected


def test_beams_find_other_answers_than_the_likeliest_token_each_time(asked, theirs):
    """The comparisons above would be blind to the number of beams otherwise."""
    _, inputs = asked
    assert len({theirs(inputs, num_beams) for num_beams in (1, 2, 5)}) > 1
