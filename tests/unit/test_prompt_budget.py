import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import OptionError, PromptError
from audioflamingo.prompt import Budget, count_audio_tokens, describe_budget
from audioflamingo.types import Audio, Prompt, Span

RATE = 16_000


def sound(num_samples):
    return Audio(np.zeros(num_samples, np.float32), "door.wav")


@pytest.mark.parametrize(
    ("num_samples", "exact", "nvidia"),
    [
        (RATE, 25, 20),
        (7 * RATE, 175, 180),
        (30 * RATE, 750, 750),
        (37 * RATE, 925, 930),
        (31 * RATE, 775, 770),
        (600 * RATE, 15_000, 15_000),
    ],
)
def test_both_roundings(num_samples, exact, nvidia):
    assert count_audio_tokens(sound(num_samples)) == exact
    assert count_audio_tokens(sound(num_samples), "nvidia") == nvidia


@given(st.integers(3_841, 3 * 30 * RATE))
def test_nvidia_is_the_nearest_ten_per_window_and_never_beyond_it(num_samples):
    exact, nvidia = count_audio_tokens(sound(num_samples)), count_audio_tokens(sound(num_samples), "nvidia")
    assert nvidia % 10 == 0
    assert abs(nvidia - exact) <= 5
    assert nvidia <= 750 * -(-num_samples // (30 * RATE))


@pytest.mark.parametrize(("num_samples", "rounding"), [(0, "exact"), (320, "exact"), (0, "nvidia"), (3_360, "nvidia")])
def test_too_short_sounds_are_refused(num_samples, rounding):
    with pytest.raises(PromptError, match=r"door\.wav is 0\.\d+ s, too short"):
        count_audio_tokens(sound(num_samples), rounding)


def test_unknown_rounding():
    with pytest.raises(OptionError, match="allowed are 'exact' and 'nvidia'"):
        count_audio_tokens(sound(RATE), "up")


def test_budget_at_its_edge():
    Budget().check(16_000, 15_000)
    with pytest.raises(PromptError) as caught:
        Budget().check(16_512, 15_000)
    assert str(caught.value) == (
        "the prompt takes 16,512 tokens (15,000 of them audio); at most 16,000 fit. Shorten the sounds or the text, "
        "or raise max_prompt_tokens (the model has 32,768 positions)"
    )


def test_the_answer_needs_positions_too():
    budget = Budget(max_prompt_tokens=100, max_new_tokens=30, max_positions=120)
    budget.check(90, 0)
    with pytest.raises(PromptError, match=r"at most 90 fit\. .* lower max_new_tokens \(30 of the model's 120"):
        budget.check(91, 0)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"max_prompt_tokens": 0}, "max_prompt_tokens is 0"),
        ({"max_new_tokens": 0}, "max_new_tokens 0; both must be at least 1"),
        ({"max_new_tokens": 32_768}, "max_new_tokens is 32,768, but the model has 32,768 positions"),
    ],
)
def test_impossible_budgets(values, match):
    with pytest.raises(OptionError, match=match):
        Budget(**values)


def test_description():
    prompt = Prompt(tuple(range(40)), (Span(2, 10, 0), Span(20, 10, 0)))
    assert describe_budget(prompt, Budget()) == (
        "40 of 16,000 prompt tokens: 20 audio in 2 place(s) and 20 text; up to 1,024 tokens of answer; 32,768 positions"
    )
