"""What goes wrong with one request, or is cancelled at a bad moment, costs no other one anything."""

import numpy as np
import pytest
import torch
from tiny_engine import is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.engine.eight_bit_cache import new_cache
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.memory import MemoryExhaustedError
from audioflamingo.engine.sampling import OverflowedError
from audioflamingo.engine.scheduler import Limits
from audioflamingo.errors import AudioError
from audioflamingo.model.lora import Adapter, LowRank, SwitchedAdapter
from audioflamingo.types import Audio, Sampling

SHORT = Sampling(max_new_tokens=8)
PROMPTS = [prompt(sound(0.5, 1), "What is it?"), prompt("no sound"), prompt("x")]


@pytest.fixture
def model():
    return make_model()


@pytest.fixture
def engine(model):
    return Engine(model, tokenizer)


def ends_of(engine, prompts, samplings):
    deltas = list(engine.generate(prompts, samplings, errors="return"))
    return {one.index: one for one in deltas if one.finish_reason}


def test_a_sound_that_is_none_fails_alone(engine):
    flat = Audio(np.zeros((16_000, 2), np.float32), "flat")
    ends = ends_of(engine, [PROMPTS[0], prompt(flat, "?"), PROMPTS[2]], [SHORT] * 3)
    assert isinstance(ends[1].error, AudioError)
    assert ends[0].error is ends[2].error is None
    assert is_clean(engine)


def test_what_surfaces_of_a_fault_leaves_a_state_to_go_on_from(engine, model, monkeypatch):
    """A step that breaks off in the middle finds its sequences again as they were before."""
    expected = [one[:2] for one in run(Engine(model, tokenizer), PROMPTS, [SHORT] * 3)]
    inboxes = [engine.add(one, SHORT, index=place) for place, one in enumerate(PROMPTS)]
    deltas = engine.step()
    with monkeypatch.context() as patch:
        patch.setattr("audioflamingo.engine.engine.begin_choice", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            engine.step()
    while engine.has_work:
        deltas += engine.step()
    got = [
        (
            tuple(token for one in deltas if one.index == place for token in one.token_ids),
            "".join(one.text for one in deltas if one.index == place),
        )
        for place in range(len(inboxes))
    ]
    assert got == expected


def test_what_is_cancelled_while_another_thread_listens_is_let_go(engine, model):
    sequence = engine.add(PROMPTS[1], SHORT)
    model.encoder.register_forward_hook(lambda *_: engine.cancel(sequence))
    assert engine.listen(sound(1, 3)) == 1
    assert is_clean(engine)


def test_what_is_cancelled_while_the_cache_grows_in_vain_is_let_go(model, monkeypatch):
    monkeypatch.setattr("audioflamingo.engine.memory.CPU_CACHE_BYTES", 1 << 16)
    engine = Engine(model, tokenizer)
    pool_blocks = engine._ready_runner().cache.num_blocks
    long = prompt("x" * 32 * pool_blocks)
    sequence = engine.add(long, SHORT)

    def grow_in_vain(_, num_blocks):
        engine.cancel(sequence)
        raise MemoryExhaustedError(f"no room for {num_blocks}")

    monkeypatch.setattr("audioflamingo.engine.runner.Runner.grow", grow_in_vain)
    assert engine.step() == []
    assert is_clean(engine)
    assert engine._scheduler.pool.num_blocks == pool_blocks


@pytest.mark.parametrize(("kind", "name"), [("plain", "_new"), ("int8", "_new"), ("int8", "_new_scales")])
@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_cache_that_could_not_grow_holds_what_it_held(model, monkeypatch, kind, name, fails_at):
    """Whatever of it has moved by then, one layer's keys and values are the same by all ways to them."""
    cache = new_cache(model, 4, kind)
    heads, width = model.config.decoder.num_kv_heads, model.config.decoder.head_dim
    slots = torch.arange(40, 50)
    new = torch.randn(2, 10, heads, width)
    held = [cache.write(layer, slots, *new) for layer in range(2)]
    calls = iter(range(100))
    take = getattr(cache, name)
    with monkeypatch.context() as patch:
        patch.setattr(cache, name, lambda count: 1 / 0 if next(calls) == fails_at else take(count))
        with pytest.raises(ZeroDivisionError):
            cache.grow(9)
    assert cache.num_blocks == 4
    for count in (6, 20):
        for layer in range(2):
            for seen in (
                cache.at(layer, slots),
                [one[0].transpose(0, 1) for one in cache.stretches(layer, [(40, 10)])],
            ):
                for mine, expected in zip(seen, held[layer], strict=True):
                    assert torch.equal(mine, expected)
            held[layer] = cache.write(layer, slots, *torch.randn(2, 10, heads, width))
        cache.grow(count)
        assert cache.num_blocks >= count


def test_the_first_adapter_forgets_nothing_and_the_next_one_all(engine, model):
    run(engine, [prompt("a beginning of more than two blocks of the cache" * 2)], [SHORT])
    kept = engine.counts.num_kept_blocks
    assert kept > 0
    name = "decoder.layers.0.mlp.up_proj"
    width, ffn = model.config.decoder.width, model.config.decoder.ffn_width
    for is_kept in (True, False):
        pair = LowRank(torch.randn(2, width), torch.randn(ffn, 2), 1.0)
        engine.adapter = SwitchedAdapter(model, Adapter({name: pair}))
        run(engine, [prompt("x")], [SHORT])
        assert (engine.counts.num_kept_blocks >= kept) == is_kept


@pytest.mark.parametrize("kind", ["plain", "int8"])
def test_what_has_overflowed_stays_with_nobody(model, kind):
    """A masked NaN still poisons a weighted sum, and decode steps read a little beyond a sequence's end."""
    engine = Engine(model, tokenizer, Limits(kv_cache=kind))
    endless = Audio(np.full(16_000 * 20, np.nan, np.float32), "endless")
    shared = "a beginning of more than two blocks of the cache, which is read by two at once" * 2
    prompts = [prompt(shared, "!"), prompt(shared, endless, "?"), prompt(shared, endless, "? And then?")]
    ends = ends_of(engine, prompts, [SHORT] * 3)
    assert [type(ends[index].error) for index in range(3)] == [type(None), OverflowedError, OverflowedError]
    cache = engine._runner.cache
    for layer in range(model.config.decoder.num_layers):
        stored = cache.at(layer, torch.arange(cache.num_slots))
        assert all(one.isfinite().all() for one in stored)
    again = run(engine, prompts[:1], [SHORT])
    assert again == run(Engine(model, tokenizer, engine.limits), prompts[:1], [SHORT])
    assert is_clean(engine)
