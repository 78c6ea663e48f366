"""How likely answers are: beside a whole forward pass over prompt and answer, and against what the model says."""

import pytest
import torch

from audioflamingo import load_model
from audioflamingo.engine.plain import AudioEmbedder
from audioflamingo.errors import FlamingoError
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext
from audioflamingo.prompt import as_messages, build
from audioflamingo.types import Audio, Message

ANSWERS = ("One.", "Two of them, I would say.", "", "A dog barking, then a church bell ringing.")


@pytest.fixture(scope="module")
def nano():
    return load_model("nano", device="cpu")


@pytest.fixture
def sound():
    return Audio(0.1 * torch.randn(40_000, generator=torch.Generator().manual_seed(1)).numpy(), "noise")


def by_one_pass(model, messages, answer):
    """The same from logits of the whole sequence, without a cache."""
    prompt = build(as_messages(messages), model.tokenizer, model.template)
    answer_ids = [*model.tokenizer.encode_plain(answer), model.tokenizer.im_end]
    ids = torch.tensor([*prompt.ids, *answer_ids])
    embedder = AudioEmbedder(model.model, 8)
    embedder.add(prompt.audios)
    with torch.inference_mode():
        embeddings = model.model.merge(ids, torch.cat(embedder.of_prompt(prompt)))
        packing = Packing.of([len(ids)], ids.device)
        hidden = model.model.hidden_states(embeddings, packing.positions, CausalContext(packing))
        logs = model.model.logits(hidden).float().log_softmax(-1)
    first = len(prompt.ids) - 1
    return [float(logs[first + place, token]) for place, token in enumerate(answer_ids)]


def test_scores_are_those_of_one_pass(nano, sound, monkeypatch):
    messages = [Message("user", (sound, "How many dogs are there?"))]
    monkeypatch.setattr("audioflamingo.scoring.ANSWERS_AT_ONCE", 3)
    found = nano.score(messages, ANSWERS)
    for answer, score in zip(ANSWERS, found, strict=True):
        want = by_one_pass(nano, messages, answer)
        assert score.text == answer
        assert score.token_log_likelihoods == pytest.approx(want, abs=1e-4)
        assert score.log_likelihood == pytest.approx(sum(want), abs=1e-3)
        assert score.mean == pytest.approx(sum(want) / len(want), abs=1e-4)
        assert len(score.token_ids) == len(score.token_log_likelihoods)


def test_nothing_is_likelier_at_any_place_than_what_the_model_says(nano, sound):
    messages = [Message("user", (sound, "How many dogs are there?"))]
    reply = nano.answer(messages)
    own, *others = nano.score(messages, [reply.text, *ANSWERS])
    assert own.token_ids == reply.token_ids
    for other in others:
        shared = next((n for n, (a, b) in enumerate(zip(own.token_ids, other.token_ids, strict=False)) if a != b), None)
        if shared is not None:
            assert own.token_log_likelihoods[shared] > other.token_log_likelihoods[shared]


@pytest.mark.parametrize(
    ("answers", "options", "told"),
    [
        ([], {}, "at least one text"),
        ("yes", {}, "has to be a list"),
        (["yes"], {"think": True}, "takes neither think nor schema"),
        (["yes"], {"choices": ["yes", "no"]}, "takes neither think nor schema"),
        (["word " * 40_000], {}, "prompt and answer take .* positions"),
        (["yes"], {"warmth": 3}, "warmth"),
    ],
)
def test_what_cannot_be_scored(nano, sound, answers, options, told):
    with pytest.raises(FlamingoError, match=told):
        nano.score([Message("user", (sound, "Is there a dog?"))], answers, **options)
