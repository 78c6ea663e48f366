"""The short end of a prompt, all of it behind a past in the cache, by recorded launches and by `ChunkContext`."""

import pytest
import torch
from graph_model import graph_config, graph_model

from audioflamingo.engine.blocks import BLOCK_TOKENS, num_blocks_for
from audioflamingo.engine.kv_cache import PagedCache
from audioflamingo.engine.prompt_graphs import CONTINUED_BUCKETS, GraphPrefill
from audioflamingo.engine.runner import read_chunks
from audioflamingo.engine.scheduler import Chunk
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.decoder import fuse_projections
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.types import Prompt, Sampling

CONFIG = graph_config(2048)
NEAR = {"atol": 1e-5, "rtol": 1e-5}
NUM_RACES = 20


class AlwaysTakes(GraphPrefill):
    """On a CPU too, where its launches are single ones."""

    def takes(self, embeddings, start=0):
        self.starts.append(start)
        return True


@pytest.fixture
def model(device):
    model = graph_model(CONFIG, device)
    fuse_projections(model)
    return model


def two_caches(device, num_blocks=66):
    plain, paged = (PagedCache(CONFIG.decoder, torch.float32, device, num_blocks) for _ in range(2))
    for layer in range(CONFIG.decoder.num_layers):
        plain.pair(layer).normal_()
        paged.pair(layer).copy_(plain.pair(layer))
    return plain, paged


def chunk_of(start, num_tokens):
    end = start + num_tokens
    sequence = Sequence(0, Prompt(tuple(torch.randint(0, 400, (end,)).tolist())), Sampling(), 2048)
    sequence.blocks = (1 + torch.randperm(64)[: num_blocks_for(end)]).tolist()
    return Chunk(sequence, start, end)


def takes_all(model, cache):
    prefill = AlwaysTakes(model, cache)
    prefill.starts = []
    return prefill


def assert_same_caches(paged, plain):
    for layer in range(CONFIG.decoder.num_layers):
        torch.testing.assert_close(paged.pair(layer)[:, BLOCK_TOKENS:], plain.pair(layer)[:, BLOCK_TOKENS:], **NEAR)


@torch.inference_mode()
def test_ends_of_any_length_behind_pasts_of_any_length(model, device):
    plain, paged = two_caches(device)
    prefill = takes_all(model, paged)
    for start, num_tokens in ((1, 1), (31, 2), (30, 40), (64, 64), (1500, 41), (5, 17), (700, 256), (1, 33)):
        chunk = chunk_of(start, num_tokens)
        want = read_chunks(model, plain, [chunk], {})
        torch.testing.assert_close(read_chunks(model, paged, [chunk], {}, prefill), want, **NEAR)
        assert_same_caches(paged, plain)
    assert prefill.starts == [1, 31, 30, 64, 1500, 5, 700, 1]


@torch.inference_mode()
def test_whole_prompts_and_ends_in_turn(model, device):
    plain, paged = two_caches(device)
    prefill = takes_all(model, paged)
    for start, num_tokens in ((0, 64), (64, 64), (0, 64), (64, 64), (0, 64), (96, 64)):
        chunk = chunk_of(start, num_tokens)
        want = read_chunks(model, plain, [chunk], {})
        torch.testing.assert_close(read_chunks(model, paged, [chunk], {}, prefill), want, **NEAR)
    assert_same_caches(paged, plain)


@torch.inference_mode()
def test_chunks_behind_a_past_and_whole_prompts_side_by_side(model, device):
    together, apart = two_caches(device)
    free = torch.randperm(64).add(1).tolist()
    chunks = []
    for start, num_tokens in ((64, 30), (0, 40), (0, 25), (5, 17), (130, 64), (0, 33)):
        chunk = chunk_of(start, num_tokens)
        chunk.sequence.blocks = [free.pop() for _ in chunk.sequence.blocks]
        chunks.append(chunk)
    want = torch.cat([read_chunks(model, apart, [chunk], {}) for chunk in chunks])
    torch.testing.assert_close(read_chunks(model, together, chunks, {}), want, **NEAR)
    assert_same_caches(together, apart)


@torch.inference_mode()
def test_a_chunk_that_is_not_the_last_is_read_by_single_launches(model, device):
    _, paged = two_caches(device)
    prefill = takes_all(model, paged)
    whole = chunk_of(40, 30)
    assert len(read_chunks(model, paged, [Chunk(whole.sequence, 40, 60)], {}, prefill)) == 0
    assert prefill.starts == []


@torch.inference_mode()
def test_what_is_taken(model, device):
    prefill = GraphPrefill(model, two_caches(device)[0])
    few, many = (torch.zeros(number, 64, device=device) for number in (CONTINUED_BUCKETS[-1], 300))
    assert prefill.takes(few, 32) == (device.type == "cuda")
    assert prefill.takes(many) == (device.type == "cuda")
    assert not prefill.takes(many, 32)


@torch.inference_mode()
def test_a_cache_that_has_moved_is_noticed(model, device):
    plain, paged = two_caches(device)
    prefill, chunk = takes_all(model, paged), chunk_of(200, 20)
    for _ in range(3):
        read_chunks(model, paged, [chunk], {}, prefill)
    paged.grow(80)
    want = read_chunks(model, plain, [chunk], {})
    torch.testing.assert_close(read_chunks(model, paged, [chunk], {}, prefill), want, **NEAR)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@torch.inference_mode()
def test_nobody_reads_a_key_before_it_is_stored(dtype):
    """Old contents of the slots would show at once: they are loud."""
    device = torch.device("cuda")
    torch.manual_seed(0)
    model = Flamingo(CONFIG).eval().to(device, dtype)
    fuse_projections(model)
    plain, paged = (PagedCache(CONFIG.decoder, dtype, device, 66) for _ in range(2))
    prefill, first = GraphPrefill(model, paged), None
    chunk = chunk_of(1500, 61)
    slots = [chunk.sequence.slot(position) for position in range(chunk.start, chunk.end)]
    want = read_chunks(model, plain, [chunk], {})
    for race in range(NUM_RACES):
        for layer in range(CONFIG.decoder.num_layers):
            paged.pair(layer)[:, slots] = 100
        got = read_chunks(model, paged, [chunk], {}, prefill)
        error = (got.double() - want.double()).norm() / want.double().norm()
        assert error < (1e-5 if dtype == torch.float32 else 2e-2), float(error)
        if race:  # recorded, from the second time on
            first = got if first is None else first
            assert torch.equal(got, first)
