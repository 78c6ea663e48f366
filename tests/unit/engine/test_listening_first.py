"""A sound that is surely new is heard before it is named, and never twice; what fails there is told where it was."""

import numpy as np
import pytest
import torch
from tiny_engine import CONFIG, alone, is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.engine import embeddings
from audioflamingo.engine.content import glance
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.memory import MemoryExhaustedError
from audioflamingo.engine.scheduler import Limits
from audioflamingo.types import Audio, Sampling

GREEDY = Sampling(max_new_tokens=6)
MUSIC = sound(65, 3)


@pytest.fixture
def model():
    return make_model(dtype=torch.float64)


@pytest.fixture
def engine(model):
    return Engine(model, tokenizer)


def heard_by(engine, *asked):
    """Windows that are encoded for prompts; their answers must be those of the plain engine."""
    before = engine.counts.num_encoded_windows
    found = [one[:2] for one in run(engine, asked, [GREEDY] * len(asked))]
    num_heard = engine.counts.num_encoded_windows - before
    assert found == alone(engine.model, asked, [GREEDY] * len(asked))
    assert is_clean(engine)
    return num_heard


def copy_of(audio):
    return Audio(audio.samples.copy())


def test_a_new_sound_is_encoded_before_it_is_named(engine):
    sequence = engine.add(prompt(copy_of(MUSIC), "What is it?"), GREEDY)
    were_named = []
    with engine.model.encoder.register_forward_hook(
        lambda *_: were_named.append(sequence.pieces[0].sound_keys.are_taken)
    ):
        engine.step()
    assert were_named == [False]
    assert sequence.pieces[0].sound_keys.are_taken
    assert engine.counts.num_encoded_windows == 3
    engine.cancel(sequence)


def test_what_was_heard_before_is_named_first_and_not_heard_again(engine):
    assert heard_by(engine, prompt(copy_of(MUSIC), "What is it?")) == 3
    assert heard_by(engine, prompt(copy_of(MUSIC), "Who plays?")) == 0


def test_embeddings_that_are_gone_are_not_missed_where_keys_and_values_are_there(engine):
    one = prompt(copy_of(MUSIC), "What is it, and who plays it, and since when?")
    assert heard_by(engine, one) == 3
    engine._runner.embeddings.forget()
    again = prompt(copy_of(MUSIC), "What is it, and who plays it, and since when?")
    assert heard_by(engine, again) == 0


def test_a_window_that_comes_twice_in_a_sound_is_heard_once(engine):
    window = sound(30, 5).samples
    assert heard_by(engine, prompt(Audio(np.concatenate([window, window])), "What?")) == 1


def test_windows_of_one_glance_that_differ_are_both_heard(engine):
    first = sound(3, 6)
    second = copy_of(first)
    second.samples[1] += 0.5
    assert glance(first.samples) == glance(second.samples)
    assert heard_by(engine, prompt(first, "What?")) == 1
    assert heard_by(engine, prompt(second, "What?")) == 1
    assert heard_by(engine, prompt(first, "And now?"), prompt(second, "And now?")) == 0


def test_several_at_once_are_heard_together(engine):
    batches = []
    with engine.model.encoder.register_forward_hook(lambda _, given, __: batches.append(len(given[1]))):
        run(engine, [prompt(sound(30, seed), "What?") for seed in range(4)], [GREEDY] * 4)
    assert batches == [4]


def test_a_sound_beyond_the_budget_is_not_heard_twice(model):
    engine = Engine(model, tokenizer, Limits(embedding_bytes=2 * 750 * CONFIG.decoder.width * 8))
    assert heard_by(engine, prompt(copy_of(MUSIC), "What is it?")) == 3
    assert engine._runner.embeddings.num_bytes <= 2 * 750 * CONFIG.decoder.width * 8


def test_glances_are_bounded_and_what_they_forget_is_heard_again_at_most(model, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_GLANCES", 2)
    engine = Engine(model, tokenizer)
    sounds = [sound(2, seed) for seed in range(5)]
    assert heard_by(engine, *(prompt(one, "What?") for one in sounds)) == 5
    assert len(engine._runner.embeddings._glances) == 2
    assert heard_by(engine, prompt(copy_of(sounds[0]), "What?")) == 1


@pytest.mark.parametrize("num_failures", [1, 100])
def test_what_fails_is_tried_again_and_then_told(engine, num_failures):
    left = [num_failures]

    def fail(*_):
        left[0] -= 1
        if left[0] >= 0:
            raise MemoryExhaustedError("no room for the encoder")

    one = prompt(copy_of(MUSIC), "What is it?")
    with engine.model.encoder.register_forward_hook(fail):
        last = list(engine.generate([one], [GREEDY], errors="return"))[-1]
    if num_failures == 1:
        assert last.error is None
    else:
        assert isinstance(last.error, MemoryExhaustedError)
    assert is_clean(engine)
    assert heard_by(engine, one) <= 3


def test_sounds_that_come_while_others_are_answered_are_named_at_once(engine):
    first = engine.add(prompt("a question without a sound"), Sampling(max_new_tokens=30))
    engine.step()
    second = engine.add(prompt(copy_of(MUSIC), "What is it?"), GREEDY)
    assert second.pieces[0].sound_keys.are_taken
    while engine.has_work:
        engine.step()
    assert all(one.is_finished for one in (first, second))


def test_a_glance_sees_lengths_and_samples():
    samples = sound(30, 7).samples
    assert glance(samples) == glance(samples.copy())
    assert len({glance(samples), glance(samples[:-1]), glance(samples[1:]), glance(-samples)}) == 4
