"""Random schedules: arrivals, cancels, chunks, caches that preempt, shared beginnings; answers stay what they are."""

import threading

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_engine import alone, is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.engine import runner
from audioflamingo.engine.ahead import GraphWriter
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.scheduler import CacheFullError, Limits
from audioflamingo.types import Prompt, Sampling

MODELS = {dtype: make_model(dtype=dtype) for dtype in (torch.float64, torch.float32)}
model = MODELS[torch.float64]
RAIN, DOG = sound(0.5, 1), sound(2.5, 2)
LONG = "a long beginning that several share, longer than two blocks of the cache are, so that it can be found again "
PROMPTS = [
    prompt(RAIN, "What is it?"),
    prompt(LONG, DOG, " or ", RAIN, "?"),
    prompt(LONG, DOG, " or ", RAIN, "? And then?"),
    prompt(LONG, "no sound"),
    prompt("x"),
    prompt(DOG, DOG, "Twice."),
    prompt(DOG, RAIN, "Twice."),
    Prompt((7,) * 96),
]
SAMPLINGS = [
    Sampling(max_new_tokens=40),
    Sampling(max_new_tokens=3, temperature=1.5, seed=1),
    Sampling(max_new_tokens=25, temperature=0.8, top_k=20, top_p=0.9, repetition_penalty=1.2, seed=2),
    Sampling(max_new_tokens=70, repetition_penalty=1.5),
]
EXPECTED = {
    (p, s): alone(model, [PROMPTS[p]], [SAMPLINGS[s]])[0] for p in range(len(PROMPTS)) for s in range(len(SAMPLINGS))
}

limits = st.builds(
    Limits,
    max_sequences=st.integers(1, 5),
    max_cache_tokens=st.sampled_from([320, 384, 512, 2000]),
    prefill_tokens=st.sampled_from([1, 7, 32, 50, 1000]),
    prefill_tokens_beside=st.sampled_from([None, 1, 20]),
    encoder_windows=st.integers(1, 3),
    embedding_bytes=st.sampled_from([0, 10_000, 1 << 20]),
)
arrivals = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, len(PROMPTS) - 1), st.integers(0, len(SAMPLINGS) - 1)),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(limits, arrivals, st.data(), st.sampled_from(list(MODELS)))
def test_every_answer_is_its_solo_answer_whatever_runs_beside_it(limits, arrivals, data, dtype):
    engine = Engine(MODELS[dtype], tokenizer, limits)
    cancels = data.draw(st.dictionaries(st.integers(0, len(arrivals) - 1), st.integers(0, 60), max_size=3))
    sequences, answers, step = {}, {}, 0
    while len(sequences) < len(arrivals) or engine.has_work:
        for number, (when, p, s) in enumerate(arrivals):
            if when == step or (when < step and number not in sequences):
                sequences[number] = engine.add(PROMPTS[p], SAMPLINGS[s], index=number)
                answers[number] = []
        for number, when in cancels.items():
            if when <= step and number in sequences:
                engine.cancel(sequences[number])
        for delta in engine.step():
            assert not sequences[delta.index].is_cancelled
            answers[delta.index].append(delta)
        step += 1
    assert is_clean(engine)
    for number, (_, p, s) in enumerate(arrivals):
        found = tuple(token for delta in answers[number] for token in delta.token_ids)
        text = "".join(delta.text for delta in answers[number])
        expected_tokens, expected_text = EXPECTED[p, s]
        if sequences[number].is_cancelled:
            assert expected_tokens[: len(found)] == found
            assert expected_text.startswith(text)
        else:
            assert (found, text) == (expected_tokens, expected_text)


def test_a_small_cache_preempts_and_loses_nothing():
    engine = Engine(model, tokenizer, Limits(max_cache_tokens=256))
    chosen = [PROMPTS[0], PROMPTS[4], PROMPTS[0], PROMPTS[4]]
    hows = [Sampling(max_new_tokens=100, temperature=1.0, repetition_penalty=1.2, seed=seed) for seed in range(4)]
    answers = run(engine, chosen, hows)
    assert engine._scheduler.num_preempted > 0
    assert [one[:2] for one in answers] == alone(model, chosen, hows)
    assert is_clean(engine)


def test_a_prompt_longer_than_the_cache_fails_alone():
    engine = Engine(model, tokenizer, Limits(max_cache_tokens=128))
    chosen = [PROMPTS[4], Prompt((5,) * 200), PROMPTS[0]]
    hows = [Sampling(max_new_tokens=10)] * 3
    deltas = list(engine.generate(chosen, hows, errors="return"))
    last = [delta for delta in deltas if delta.index == 1]
    assert len(last) == 1
    assert last[0].finish_reason == "error"
    assert isinstance(last[0].error, CacheFullError)
    assert "200 positions" in str(last[0].error)
    assert "128" in str(last[0].error)
    for index in (0, 2):
        found = tuple(token for delta in deltas if delta.index == index for token in delta.token_ids)
        assert found == alone(model, [chosen[index]], [hows[index]])[0][0]
    assert is_clean(engine)


def test_an_answer_that_outgrows_the_cache_fails_and_the_rest_goes_on():
    engine = Engine(model, tokenizer, Limits(max_cache_tokens=128))
    hows = [Sampling(max_new_tokens=300, repetition_penalty=1.5), Sampling(max_new_tokens=20)]
    deltas = list(engine.generate([PROMPTS[4], PROMPTS[0]], hows, errors="return"))
    ends = {delta.index: delta for delta in deltas if delta.finish_reason}
    assert ends[0].finish_reason == "error"
    assert ends[0].usage.completion_tokens == 128
    found = tuple(token for delta in deltas if delta.index == 1 for token in delta.token_ids)
    assert found == alone(model, [PROMPTS[0]], hows[1:])[0][0]
    assert is_clean(engine)


def test_by_default_the_first_error_is_raised_and_everything_is_let_go():
    engine = Engine(model, tokenizer, Limits(max_cache_tokens=128))
    with pytest.raises(CacheFullError):
        list(engine.generate([PROMPTS[4], Prompt((5,) * 200)], [Sampling(max_new_tokens=50)] * 2))
    assert is_clean(engine)


def test_interleaved_calls_each_get_their_own():
    engine = Engine(model, tokenizer)
    calls = [engine.generate([PROMPTS[p], PROMPTS[p + 1]], [SAMPLINGS[p], SAMPLINGS[0]]) for p in (0, 1, 2)]
    found = [{0: [], 1: []} for _ in calls]
    closed = engine.generate([PROMPTS[5]], [SAMPLINGS[0]])
    next(closed)
    open_calls = list(range(len(calls)))
    while open_calls:
        for number in list(open_calls):
            delta = next(calls[number], None)
            if delta is None:
                open_calls.remove(number)
            else:
                found[number][delta.index] += delta.token_ids
        closed.close()
    for number, p in enumerate((0, 1, 2)):
        assert tuple(found[number][0]) == EXPECTED[p, p][0]
        assert tuple(found[number][1]) == EXPECTED[p + 1, 0][0]
    assert is_clean(engine)


def test_threads_share_an_engine():
    engine = Engine(model, tokenizer, Limits(max_sequences=3, max_cache_tokens=600, prefill_tokens=40))
    found = {}

    def ask(number):
        p, s = number % len(PROMPTS), number % len(SAMPLINGS)
        deltas = engine.generate([PROMPTS[p]], [SAMPLINGS[s]])
        if number % 5 == 4:
            next(deltas)
            deltas.close()
            return
        found[p, s] = tuple(token for delta in deltas for token in delta.token_ids)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert found == {key: EXPECTED[key][0] for key in found}
    assert len(found) >= 7
    assert is_clean(engine)


def test_deltas_of_added_sequences_wait_for_the_next_step_where_another_call_made_it():
    engine = Engine(model, tokenizer)
    sequence = engine.add(PROMPTS[0], SAMPLINGS[0], index=77)
    list(engine.generate([PROMPTS[4]], [Sampling(max_new_tokens=5)]))
    deltas = engine.step()
    while engine.has_work:
        deltas += engine.step()
    assert {delta.index for delta in deltas} == {77}
    assert tuple(token for delta in deltas for token in delta.token_ids) == EXPECTED[0, 0][0]
    assert sequence.finish_reason == deltas[-1].finish_reason


@pytest.mark.parametrize("max_cache_tokens", [256, 2000])
def test_steps_ahead_of_what_was_read_change_nothing(monkeypatch, max_cache_tokens):
    """The way of a GPU, its kernels replaced by their twins."""
    num_ahead = 0

    def counted(self, tables=None, original=GraphDecoder.step_on):
        nonlocal num_ahead
        num_ahead += 1
        return original(self, tables)

    monkeypatch.setattr(GraphDecoder, "step_on", counted)
    monkeypatch.setattr(runner, "graph_writer", GraphWriter)
    engine = Engine(MODELS[torch.float32], tokenizer, Limits(max_cache_tokens=max_cache_tokens, max_sequences=3))
    chosen = [PROMPTS[p] for p in (0, 4, 3, 4, 0)]
    hows = [Sampling(max_new_tokens=size) for size in (40, 75, 9, 33, 60)]
    expected = alone(MODELS[torch.float32], chosen, hows)
    assert [one[:2] for one in run(engine, chosen, hows)] == expected
    assert num_ahead > 20
    late = engine.generate(chosen[:2], hows[:2])
    first = [next(late) for _ in range(8)]
    assert [one[:2] for one in run(engine, chosen[2:], hows[2:])] == expected[2:]
    found = {0: [], 1: []}
    for delta in (*first, *late):
        found[delta.index] += delta.token_ids
    assert [tuple(found[index]) for index in (0, 1)] == [one[0] for one in expected[:2]]
    assert is_clean(engine)
