"""Each step against transformers' logits processors, then the choice itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from audioflamingo.engine.sampling import (
    ChoiceError,
    Sampler,
    check_sampling,
    choose_tokens,
    draw,
    keep_top_k,
    keep_top_p,
    penalise,
)
from audioflamingo.errors import OptionError
from audioflamingo.types import Sampling

CPU = torch.device("cpu")
seeds = st.integers(0, 2**32 - 1)


def random_logits(seed, vocab_size, rounded):
    logits = 3 * torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed))
    return logits.round() if rounded else logits  # rounding makes ties


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(2, 200), st.integers(1, 220), st.booleans())
def test_top_k_keeps_what_the_reference_keeps(seed, vocab_size, top_k, rounded):
    logits = random_logits(seed, vocab_size, rounded)
    assert torch.equal(keep_top_k(logits, top_k), TopKLogitsWarper(top_k)(None, logits[None])[0])


@settings(max_examples=150, deadline=None)
@given(seeds, st.integers(2, 200), st.floats(0.01, 0.999))
def test_top_p_keeps_what_the_reference_keeps(seed, vocab_size, top_p):
    logits = random_logits(seed, vocab_size, rounded=False)
    assert torch.equal(keep_top_p(logits, top_p), TopPLogitsWarper(top_p)(None, logits[None])[0])


@settings(max_examples=100, deadline=None)
@given(seeds, st.lists(st.integers(0, 49), min_size=1, max_size=30), st.floats(0.5, 2.0))
def test_penalty_equals_the_reference(seed, ids, penalty):
    logits = random_logits(seed, 50, rounded=False)
    seen = torch.zeros(50, dtype=torch.bool)
    seen[ids] = True
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), logits[None])[0]
    torch.testing.assert_close(penalise(logits, seen, penalty), expected)


@settings(max_examples=50, deadline=None)
@given(seeds)
def test_the_whole_chain_draws_from_the_reference_distribution(seed):
    """The share of the unit interval that a token gets is the reference's probability, in every step of a sequence."""
    prompt, logits = [3, 4, 4], random_logits(seed, 40, rounded=False)
    sampling = Sampling(temperature=0.7, top_k=12, top_p=0.9, repetition_penalty=1.3, seed=seed)
    sampler = Sampler(sampling, prompt, 40, CPU)
    chain = LogitsProcessorList(
        [
            RepetitionPenaltyLogitsProcessor(1.3),
            TemperatureLogitsWarper(0.7),
            TopKLogitsWarper(12),
            TopPLogitsWarper(0.9),
        ]
    )
    ids, stream = list(prompt), torch.Generator().manual_seed(seed)
    for _ in range(5):
        probabilities = chain(torch.tensor([ids]), logits[None])[0].softmax(-1)
        uniform = float(torch.rand((), dtype=torch.float64, generator=stream))
        ends = probabilities.double().cumsum(0)
        token = sampler.choose(logits)
        assert ends[token] - probabilities[token] - 1e-6 <= uniform <= ends[token] + 1e-6
        assert probabilities[token] > 0
        ids.append(token)


@given(st.lists(st.sampled_from([0.0, 1e-9, 0.2, 1.0]), min_size=1, max_size=8).filter(any), st.floats(0, 1))
def test_draw_never_gives_an_impossible_token(weights, uniform):
    probabilities = torch.tensor(weights) / sum(weights)
    assert probabilities[draw(probabilities, min(uniform, 1 - 2**-53))] > 0


def test_draw_gives_each_token_its_share():
    probabilities = torch.tensor([0.0, 0.25, 0.5, 0.0, 0.25])
    drawn = [draw(probabilities, step / 100) for step in range(100)]
    assert [drawn.count(token) for token in range(5)] == [0, 25, 50, 0, 25]


def test_a_request_draws_the_same_alone_and_beside_others():
    logits = torch.randn(3, 60, generator=torch.Generator().manual_seed(1))
    options = [Sampling(temperature=1.0, seed=seed) for seed in (5, 6, 5)]
    together = [Sampler(one, [1], 60, CPU) for one in options]
    batch = [choose_tokens(logits, together) for _ in range(8)]
    for row, sampling in enumerate(options):
        alone = Sampler(sampling, [1], 60, CPU)
        assert [tokens[row] for tokens in batch] == [alone.choose(logits[row]) for _ in range(8)]


def test_seeds_differ_and_repeat():
    logits = torch.zeros(1000)
    one, same, other = (Sampler(Sampling(temperature=1.0, seed=seed), [1], 1000, CPU) for seed in (1, 1, 2))
    first = [one.choose(logits) for _ in range(10)]
    assert first == [same.choose(logits) for _ in range(10)]
    assert first != [other.choose(logits) for _ in range(10)]


def test_greedy_with_penalty_avoids_what_was_said():
    sampler = Sampler(Sampling(repetition_penalty=10.0), [0], 3, CPU)
    assert [sampler.choose(torch.tensor([3.0, 2.0, 1.0])) for _ in range(3)] == [1, 2, 0]


def test_all_complaints_come_at_once():
    wrong = Sampling(0, -1.0, -2, 0.0, 0.0, -1, ("",))
    with pytest.raises(OptionError) as caught:
        check_sampling(wrong)
    for name in ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop"):
        assert f"{name} is" in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
@pytest.mark.parametrize("name", ["temperature", "repetition_penalty", "top_p"])
def test_what_is_no_number_of_use_is_refused(name, value):
    with pytest.raises(OptionError, match=name):
        check_sampling(Sampling(**{name: value}))


@pytest.mark.parametrize("temperature", [5e-324, 1e-45, 1e-38, 1e-9])
def test_the_smallest_temperatures_are_greedy(temperature):
    logits = torch.tensor([-3e4, 7.0, 90.0, 89.5, -torch.inf])
    sampler = Sampler(check_sampling(Sampling(temperature=temperature, top_p=0.9)), [0], 5, CPU)
    assert [sampler.choose(logits) for _ in range(5)] == [2] * 5


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=1.0), Sampling(repetition_penalty=1.1)])
def test_logits_that_have_overflowed_are_an_error_of_that_row_alone(sampling, value):
    logits = torch.tensor([[1.0, 2.0, 0.0], [1.0, value, 0.0]], dtype=torch.float16)
    tokens = choose_tokens(logits, [Sampler(sampling, [0], 3, CPU) for _ in logits])
    assert tokens[0] in (0, 1, 2)
    assert isinstance(tokens[1], ChoiceError)
    assert "float16" in str(tokens[1])


def test_a_rule_that_fails_is_an_error_of_its_row_alone():
    class Broken:
        def restrict(self, scores):
            return scores.no_such_thing

        def accept(self, token): ...

    logits = torch.eye(3)
    samplers = [Sampler(Sampling(rule=Broken if row == 1 else None), [0], 3, CPU) for row in range(3)]
    tokens = choose_tokens(logits, samplers)
    assert (tokens[0], tokens[2]) == (0, 2)
    assert isinstance(tokens[1], ChoiceError)
    assert isinstance(tokens[1].__cause__, AttributeError)
