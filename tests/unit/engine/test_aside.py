"""Sounds that are encoded beside others' answers: the schedule anywhere, the second queue on a GPU."""

from dataclasses import replace

import pytest
import torch
from graph_model import graph_config
from tiny_engine import alone, is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.engine.blocks import BlockPool
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.scheduler import Limits, Scheduler
from audioflamingo.engine.sequence import Sequence
from audioflamingo.types import Prompt, Sampling

NUM_REQUESTS = 12
SIZES = graph_config(2000)  # heads as a GPU's kernels want them
CONFIG = replace(SIZES, decoder=replace(SIZES.decoder, vocab_size=tokenizer.vocab_size), audio_token_id=tokenizer.sound)


def sequence(index):
    return Sequence(index, Prompt((index, 1, 2)), Sampling(max_new_tokens=9), 100)


def test_who_listens_is_passed_over_and_keeps_its_place():
    scheduler = Scheduler(Limits(), BlockPool(20))
    first, second, third = (sequence(index) for index in range(3))
    second.is_listening = True
    for one in (first, second, third):
        scheduler.add(one)
    assert [chunk.sequence for chunk in scheduler.plan().reading] == [first, third]
    assert list(scheduler.waiting) == [second]
    for chunk in scheduler.plan().reading:
        scheduler.computed(chunk)
    second.is_listening = False
    assert second in [chunk.sequence for chunk in scheduler.plan().reading]


def test_answers_go_on_while_another_listens():
    """Steps ahead are for answers alone; who listens does not stand in their way."""
    scheduler = Scheduler(Limits(), BlockPool(20))
    first, second = sequence(0), sequence(1)
    scheduler.add(first)
    for chunk in scheduler.plan().reading:
        scheduler.computed(chunk)
    first.generated.append(5)
    second.is_listening = True
    scheduler.add(second)
    assert scheduler.can_go_on(scheduler.plan())
    second.is_listening = False
    scheduler.add(sequence(2))
    plan = scheduler.plan()
    assert plan.reading
    assert not scheduler.can_go_on(plan)


def answered_in_waves(model, engine, prompts, samplings):
    """Token ids of prompts that come one after another while those before are being answered."""
    sequences, tokens = [], {}
    while len(sequences) < len(prompts) or engine.has_work:
        if len(sequences) < len(prompts):
            sequences.append(engine.add(prompts[len(sequences)], samplings[len(sequences)]))
        for _ in range(3):
            for delta in engine.step():
                tokens.setdefault(delta.index, []).extend(delta.token_ids)
    return [tuple(tokens[one.index]) for one in sequences]


@pytest.mark.parametrize("num_windows", [1, 2])
def test_answers_are_those_of_one_queue(device, num_windows):
    model = make_model(CONFIG).to(device)
    sounds = [sound(30.0 * num_windows if number % 3 else 2.5, number % 7) for number in range(NUM_REQUESTS)]
    prompts = [prompt("say ", one, f" number {number % 4}") for number, one in enumerate(sounds)]
    samplings = [Sampling(max_new_tokens=10 + number) for number in range(NUM_REQUESTS)]
    engines = [
        Engine(model, tokenizer, Limits(encodes_aside=is_aside, embedding_bytes=200_000)) for is_aside in (False, True)
    ]
    found = [answered_in_waves(model, engine, prompts, samplings) for engine in engines]
    assert found[0] == found[1]
    assert all(map(is_clean, engines))
    if device.type == "cpu":
        assert found[0] == [tokens for tokens, _ in alone(model, prompts, samplings)]


def test_a_request_that_is_cancelled_while_it_listens_leaves_nothing(device):
    engine = Engine(make_model(CONFIG).to(device), tokenizer, Limits(encodes_aside=True))
    engine.add(prompt("first"), Sampling(max_new_tokens=30))
    engine.step()
    second = engine.add(prompt("second ", sound(30.0, 1)), Sampling(max_new_tokens=30))
    engine.cancel(second)
    while engine.has_work:
        engine.step()
    assert is_clean(engine)
    assert run(engine, [prompt("second ", sound(30.0, 1))], [Sampling(max_new_tokens=3)])[0][0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@torch.inference_mode()
def test_a_late_window_is_waited_for():
    """The second queue is made late on purpose: whoever did not wait for it would read what is not there yet."""
    from audioflamingo.engine.aside import Aside

    device = torch.device("cuda")
    for _ in range(20):
        aside = Aside(device)
        with aside.running([b"key"]):
            torch.cuda._sleep(20_000_000)
            late = torch.ones(1000, device=device)
        assert not aside.are_done([b"key"])
        aside.join({b"key": late})
        assert float(late.sum()) == 1000
        assert aside.are_done([b"key"])
