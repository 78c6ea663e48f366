"""What was read or heard before is not read or heard again: by tokens, by sound, by adapter; answers stay the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_engine import CONFIG, alone, is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.config import TimeRotaryConfig
from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.scheduler import Limits
from audioflamingo.errors import PromptError
from audioflamingo.model.lora import Adapter, LowRank, SwitchedAdapter, merged
from audioflamingo.types import Audio, Prompt, Sampling, Span

GREEDY = Sampling(max_new_tokens=12)
MUSIC = sound(75, 3)  # windows of 750, 750 and 375 tokens


@pytest.fixture(scope="module")
def model():
    return make_model(dtype=torch.float64)


@pytest.fixture
def engine(model):
    return Engine(model, tokenizer)


def read_by(engine, one, how=GREEDY):
    """Tokens that the engine reads for a prompt; its answer must be that of the plain engine."""
    before = engine.counts
    assert run(engine, [one], [how])[0][:2] == alone(engine.model, [one], [how])[0]
    assert is_clean(engine)
    return engine.counts.num_read_tokens - before.num_read_tokens


def test_a_second_question_on_the_same_sound_reads_its_own_words(engine):
    first, second = prompt(MUSIC, "What is it?"), prompt(Audio(MUSIC.samples.copy()), "Who plays, and where?")
    assert read_by(engine, first) == first.num_tokens
    num_shared = (75 * 25) // BLOCK_TOKENS * BLOCK_TOKENS
    assert read_by(engine, second) == second.num_tokens - num_shared
    assert engine.counts.num_encoded_windows <= 3 + 1  # the partial block's window is known too


def test_the_same_prompt_again_reads_at_least_one_token(engine):
    for num_tokens in (2 * BLOCK_TOKENS, 2 * BLOCK_TOKENS + 1, 3):
        one = Prompt(tuple(range(5, 5 + num_tokens)))
        read_by(engine, one)
        assert read_by(engine, one) == (num_tokens - 1) % BLOCK_TOKENS + 1


def test_a_second_turn_reads_what_is_new(engine):
    first = prompt("a question that is long enough to fill a block or two of the cache all by itself? ")
    answer = run(engine, [first], [replace(GREEDY, max_new_tokens=40)])[0][0]
    turn = Prompt((*first.ids, *answer, *tokenizer.encode(" and another question")))
    num_known = (first.num_tokens + len(answer) - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert read_by(engine, turn) == turn.num_tokens - num_known


@pytest.mark.parametrize(
    "other",
    [
        lambda samples: np.concatenate([samples[:-1], samples[-1:] + 0.01]),
        lambda samples: samples[::-1].copy(),
        lambda samples: np.zeros_like(samples),
    ],
    ids=["last sample", "backwards", "silence"],
)
def test_equal_ids_with_another_sound_are_another_prompt(engine, other):
    short = sound(10, 4)
    one, changed = prompt(short, "What is it?"), prompt(Audio(other(short.samples)), "What is it?")
    assert one.ids == changed.ids
    read_by(engine, one)
    assert read_by(engine, changed) == changed.num_tokens


def test_sounds_in_another_order_are_another_prompt(engine):
    first, second = sound(3, 5), sound(3, 6)
    read_by(engine, prompt(first, second, "Which?"))
    swapped = prompt(second, first, "Which?")
    assert read_by(engine, swapped) == swapped.num_tokens


def test_a_sound_that_has_grown_shares_its_full_windows(engine):
    read_by(engine, prompt(Audio(MUSIC.samples[: 35 * 16_000]), "What is it?"))
    num_encoded = engine.counts.num_encoded_windows
    grown = prompt(MUSIC, "What is it?")
    assert read_by(engine, grown) == grown.num_tokens - 750 // BLOCK_TOKENS * BLOCK_TOKENS
    assert engine.counts.num_encoded_windows - num_encoded == 2


def test_windows_are_shared_between_sounds_of_one_batch(engine):
    windows = [sound(30, seed).samples for seed in (7, 8)]
    both = prompt(Audio(np.concatenate(windows)), "One"), prompt(Audio(np.concatenate(windows[::-1])), "Two")
    found = run(engine, both, [GREEDY] * 2)
    assert [one[:2] for one in found] == alone(engine.model, both, [GREEDY] * 2)
    assert engine.counts.num_encoded_windows == 2


def test_two_that_begin_alike_and_come_together_are_read_once(model):
    engine = Engine(model, tokenizer, Limits(prefill_tokens=500))
    both = [prompt(MUSIC, "What is it?"), prompt(MUSIC, "Who plays?")]
    found = run(engine, both, [GREEDY] * 2)
    assert [one[:2] for one in found] == alone(model, both, [GREEDY] * 2)
    num_shared = (75 * 25) // BLOCK_TOKENS * BLOCK_TOKENS
    assert engine.counts.num_read_tokens == both[0].num_tokens + both[1].num_tokens - num_shared


def test_what_was_evicted_is_read_again(model):
    engine = Engine(model, tokenizer, Limits(max_cache_tokens=256))
    first, second = Prompt(tuple(range(5, 205))), Prompt(tuple(range(205, 405)))
    read_by(engine, first)
    for one in (second, first, second):
        assert read_by(engine, one) >= 200 - BLOCK_TOKENS  # of eight blocks, seven are needed: one may still be known


def test_a_model_that_counts_windows_shares_only_those_of_the_same_number():
    engine = Engine(make_model(replace(CONFIG, time_rotary=TimeRotaryConfig()), torch.float64), tokenizer)
    window, other = sound(30, 9).samples, sound(30, 10).samples
    read_by(engine, prompt(Audio(np.concatenate([window, other])), "What?"))
    assert engine.counts.num_encoded_windows == 2
    swapped = prompt(Audio(np.concatenate([other, window])), "What?")
    assert read_by(engine, swapped) == swapped.num_tokens
    assert engine.counts.num_encoded_windows == 4


def test_embeddings_are_kept_within_their_budget(model):
    one_window = 750 * CONFIG.decoder.width * 8
    engine = Engine(model, tokenizer, Limits(embedding_bytes=one_window + 1))
    sounds = [sound(30, seed) for seed in (11, 12)]
    for one in (*sounds, *sounds):
        run(engine, [prompt(one, f"{one.name}?")], [GREEDY])
        assert engine._runner.embeddings.num_bytes == one_window
    engine._scheduler.pool.forget()
    before = engine.counts.num_encoded_windows
    run(engine, [prompt(sounds[1], "And?")], [GREEDY])
    assert engine.counts.num_encoded_windows == before


def test_listening_ahead(engine):
    assert engine.listen(Audio(MUSIC.samples[: 20 * 16_000]), is_complete=False) == 0
    assert engine.listen(Audio(MUSIC.samples[: 65 * 16_000]), is_complete=False) == 2
    assert engine.listen(MUSIC) == 1
    read_by(engine, prompt(MUSIC, "What is it?"))
    assert engine.counts.num_encoded_windows == 3


def test_sounds_and_placeholders_must_agree(engine):
    one = prompt(sound(1, 13), "What?")
    shifted = Prompt(one.ids, (Span(2, 25, 0),), one.audios)
    for wrong in (Prompt(one.ids[1:], one.spans, one.audios), Prompt(one.ids), shifted):
        with pytest.raises(PromptError, match="placeholders"):
            engine.add(wrong, GREEDY)
        with pytest.raises(PromptError):
            list(engine.generate([wrong], [GREEDY]))
        good, bad = run(engine, [one], [GREEDY])[0], list(engine.generate([wrong, one], [GREEDY] * 2, errors="return"))
        assert isinstance(bad[0].error, PromptError)
        assert tuple(token for delta in bad[1:] for token in delta.token_ids) == good[0]
    assert is_clean(engine)


def test_a_placeholder_that_the_model_says_itself_is_no_sound(model):
    """After a preemption its own tokens are read again like a prompt."""

    class SaysSound:
        def restrict(self, scores):
            allowed = torch.full_like(scores, -torch.inf)
            allowed[tokenizer.sound] = 1.0
            return allowed

        def accept(self, token):
            pass

    engine = Engine(model, tokenizer, Limits(max_cache_tokens=128))
    hows = [Sampling(max_new_tokens=60, rule=SaysSound)] * 3
    chosen = [prompt(f"prompt {number}") for number in range(3)]
    found = run(engine, chosen, hows)
    assert engine.counts.num_preempted > 0
    assert {one[0] for one in found} == {(tokenizer.sound,) * 60}


def test_changed_weights_are_noticed(model):
    model = make_model(dtype=torch.float64)
    engine = Engine(model, tokenizer)
    one = Prompt(tuple(range(5, 105)))

    def write_to_one():
        with torch.no_grad():
            model.decoder.layers[0].self_attn.k_proj.weight.mul_(1.5)

    def replace_all():
        model.load_state_dict({name: tensor * 1.01 for name, tensor in model.state_dict().items()}, assign=True)

    for change in (lambda: None, write_to_one, replace_all, model.float):
        change()
        read_by(engine, one)
        assert engine.counts.num_read_tokens == 100


def adapter_for(model):
    generator = torch.Generator().manual_seed(3)

    def low_rank(name):
        outputs, inputs = model.get_submodule(name).weight.shape
        down, up = (torch.randn(size, generator=generator, dtype=model.dtype) for size in ((4, inputs), (outputs, 4)))
        return LowRank(down * 0.3, up * 0.3, 0.5)

    names = [name for name, module in model.named_modules() if "decoder.layers" in name and name.endswith("_proj")]
    table = torch.randn(model.decoder.lm_head.weight.shape, generator=generator, dtype=model.dtype) * 0.3
    return Adapter({name: low_rank(name) for name in names}, {"decoder.lm_head": table})


@pytest.mark.parametrize("limits", [Limits(), Limits(max_cache_tokens=256, prefill_tokens=20, max_sequences=3)])
def test_an_adapter_on_and_off_in_one_batch(limits):
    model = make_model(dtype=torch.float64)
    engine = Engine(model, tokenizer, limits)
    chosen = [prompt(sound(2, seed), f"What is this {seed}?") for seed in (1, 2, 1, 2, 1)]
    marks = [False, True, True, False, True]
    off = alone(model, chosen, [GREEDY] * 5)
    engine.adapter = SwitchedAdapter(model, adapter_for(model))
    plain_twin = make_model(dtype=torch.float64)
    plain_twin.load_state_dict(merged(plain_twin, adapter_for(plain_twin)))
    on = alone(plain_twin, chosen, [GREEDY] * 5)
    hows = [replace(GREEDY, use_adapter=mark) for mark in marks]
    for _ in range(2):
        found = [one[:2] for one in run(engine, chosen, hows)]
        assert found == [on[place] if mark else off[place] for place, mark in enumerate(marks)]
        assert is_clean(engine)
