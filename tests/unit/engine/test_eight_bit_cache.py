"""Keys and values in int8: what is lost, and that every way of reading and writing them agrees."""

import pytest
import torch
from graph_model import graph_config, graph_model
from tiny_engine import CONFIG, alone, is_clean, make_model, prompt, run, sound, tokenizer

from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.contexts import PagedDecodeContext
from audioflamingo.engine.eight_bit_cache import EightBitCache, bytes_per_block, new_cache
from audioflamingo.engine.engine import Engine
from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.kv_cache import DecodeBatch
from audioflamingo.engine.prompt_graphs import GraphPrefill
from audioflamingo.engine.runner import read_chunks
from audioflamingo.engine.scheduler import Chunk, Limits
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.decoder import fuse_projections
from audioflamingo.model.kernels.eight_bits import key_reach, rounded, widened
from audioflamingo.types import Prompt, Sampling

GRAPHS = graph_config(2048)


def test_half_a_step_is_lost_and_no_more():
    x = torch.randn(50, 3, 16) * torch.logspace(-3, 3, 50)[:, None, None]
    codes, scale = rounded(x)
    error = (widened(codes, scale, torch.float32) - x).abs()
    assert (error <= 0.5001 * scale[..., None]).all()
    assert torch.equal(widened(*rounded(torch.zeros(2, 3, 16)), torch.float32), torch.zeros(2, 3, 16))


def test_a_large_channel_takes_nothing_from_the_others():
    """What biases of some hundreds do to Qwen2.5's keys."""
    x = torch.randn(200, 1, 16)
    x[..., 3] += 300
    reach = torch.ones(1, 16)
    reach[:, [3, 11]] = 300
    small = [channel for channel in range(16) if channel not in (3, 11)]

    def error(by):
        return float((widened(*rounded(x, by), torch.float32, by) - x)[..., small].norm() / x[..., small].norm())

    assert error(reach) < 0.01
    assert error(None) > 0.5


def test_how_large_keys_will_be_is_told_by_the_weights():
    torch.manual_seed(0)
    weight, bias, norm = torch.randn(2 * 8, 64), 20 * torch.randn(2 * 8), torch.rand(64)
    keys = (torch.randn(4000, 64) * norm) @ weight.t() + bias
    # A rotary position turns the two halves' channels into one another.
    size = keys.view(-1, 2, 2, 4).square().mean(0).sum(1).sqrt().repeat(1, 2)
    reach = key_reach(weight, bias, norm, 8)
    torch.testing.assert_close(reach, size / size.median(1, keepdim=True).values, rtol=0.1, atol=0)


def eight_bit_engine(model, **limits):
    return Engine(model, tokenizer, Limits(kv_cache="int8", **limits))


def test_an_answer_depends_neither_on_chunks_nor_on_what_was_in_the_cache():
    model, speech = make_model(), sound(3.0, 1)
    prompts = [prompt("what is this " * number, speech, "and then " * (5 - number)) for number in range(1, 5)]
    samplings = [Sampling(max_new_tokens=80 + 9 * number, temperature=number % 2, seed=7) for number in range(4)]
    solo = [run(eight_bit_engine(model), [one], [how])[0][:2] for one, how in zip(prompts, samplings, strict=True)]
    engine = eight_bit_engine(model, max_cache_tokens=384, prefill_tokens=100, prefill_tokens_beside=50)
    for _ in range(2):
        assert [one[:2] for one in run(engine, prompts, samplings)] == solo
    assert engine.counts.num_preempted
    assert engine.counts.num_reused_tokens
    assert is_clean(engine)


def test_most_answers_are_those_of_the_plain_cache():
    """Random weights are harder than trained ones: their likeliest tokens lie close together."""
    model = make_model()
    prompts = [prompt(f"number {number} ", sound(1.0, number)) for number in range(12)]
    samplings = [Sampling(max_new_tokens=1)] * len(prompts)
    found = [one[0] for one in run(eight_bit_engine(model), prompts, samplings)]
    want = [one[0] for one in alone(model, prompts, samplings)]
    assert sum(a == b for a, b in zip(found, want, strict=True)) >= 10


def test_it_takes_half_the_memory_of_16_bits():
    config, cpu = CONFIG.decoder, torch.device("cpu")
    cache = new_cache(make_model(), 5, "int8")
    assert isinstance(cache, EightBitCache)
    assert cache.num_bytes == 5 * bytes_per_block(config, torch.float32, "int8")
    wide = graph_config().decoder
    assert bytes_per_block(wide, torch.bfloat16, "int8") == (32 + 4) / (2 * 32) * bytes_per_block(wide, torch.bfloat16)
    assert cache.device == cpu


def test_a_cache_that_grows_keeps_what_is_stored():
    cache = new_cache(make_model(), 3, "int8")
    slots = torch.arange(40, 60)
    seen = cache.write(1, slots, *torch.randn(2, 20, 2, 8))
    cache.grow(9)
    assert cache.num_blocks == 9
    for found, want in zip(cache.at(1, slots), seen, strict=True):
        assert torch.equal(found, want)


@pytest.fixture
def model(device):
    model = graph_model(GRAPHS, device)
    with torch.no_grad():
        for layer in model.decoder.layers:
            layer.self_attn.k_proj.bias[5] = 40.0
    fuse_projections(model)
    return model


@torch.inference_mode()
def two_caches(model):
    first, second = (new_cache(model, 66, "int8") for _ in range(2))
    for layer in range(GRAPHS.decoder.num_layers):
        slots = torch.arange(first.num_slots, device=first.device)
        new = torch.randn(2, len(slots), 2, 32, device=first.device)
        for cache in (first, second):
            cache.write(layer, slots, *new)
    return first, second


def assert_same_content(first, second):
    slots = torch.arange(BLOCK_TOKENS, first.num_slots, device=first.device)
    for layer in range(GRAPHS.decoder.num_layers):
        for found, want in zip(second.at(layer, slots), first.at(layer, slots), strict=True):
            # On a GPU what lies between two codes may be rounded either way.
            assert (found - want).norm() <= 1e-3 * want.norm()


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 3])
def test_recorded_steps_equal_plain_ones(model, device, num_rows):
    plain, paged = two_caches(model)
    decoder = GraphDecoder(model, paged)
    tables, lengths = [[1, 2, 9], [3, 4, 10], [5, 6, 7]][:num_rows], [63, 31, 64][:num_rows]
    tokens = [3, 5, 7][:num_rows]
    for step in range(4):
        batch = DecodeBatch.of(tokens, tables, lengths, device)
        context = PagedDecodeContext(plain, batch)
        x = model.decoder.embed_tokens(batch.tokens)
        want = model.logits(model.hidden_states(x, batch.positions, context))
        got = decoder.step(batch, max(lengths)) if step == 0 else decoder.step_on(batch.block_tables)
        assert (got - want).norm() <= (2e-5 if device.type == "cpu" else 2e-3) * want.norm()
        tokens, lengths = decoder.greedy.tolist(), [length + 1 for length in lengths]
    assert_same_content(plain, paged)


@torch.inference_mode()
def test_recorded_prompts_equal_plain_ones(model, device):
    class AlwaysTakes(GraphPrefill):
        def takes(self, embeddings, start=0):
            return True

    plain, paged = two_caches(model)
    prefill = AlwaysTakes(model, paged)
    for start, num_tokens in ((0, 40), (64, 64), (0, 40), (500, 41), (64, 64)):
        end = start + num_tokens
        sequence = Sequence(0, Prompt(tuple(torch.randint(0, 400, (end,)).tolist())), Sampling(), 2048)
        sequence.blocks = (1 + torch.randperm(64)[: -(-end // BLOCK_TOKENS)]).tolist()
        want = read_chunks(model, plain, [Chunk(sequence, start, end)], {})
        got = read_chunks(model, paged, [Chunk(sequence, start, end)], {}, prefill)
        assert (got - want).norm() <= (2e-5 if device.type == "cpu" else 2e-3) * want.norm()
    assert_same_content(plain, paged)
