"""Attention over the paged cache, in every way that it is read, against whole sequences without a cache."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.config import DecoderConfig
from audioflamingo.engine.blocks import BLOCK_TOKENS, num_blocks_for
from audioflamingo.engine.contexts import ChunkContext, PagedDecodeContext, RunDecodeContext
from audioflamingo.engine.kv_cache import DecodeBatch, PagedCache
from audioflamingo.engine.scheduler import Chunk
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, Decoder, fuse_projections
from audioflamingo.model.lean import LeanDecoder
from audioflamingo.types import Prompt, Sampling

CONFIG = DecoderConfig(
    vocab_size=30, width=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, ffn_width=48, max_positions=2000
)
CPU = torch.device("cpu")
torch.manual_seed(0)
decoder = Decoder(CONFIG).double().eval().requires_grad_(False)
single = copy.deepcopy(decoder).float()
fuse_projections(single)
lean = LeanDecoder.of(single)


def without_cache(ids):
    packing = Packing.of([len(ids)], CPU)
    return decoder.lm_head(decoder(decoder.embed_tokens(torch.tensor(ids)), packing.positions, CausalContext(packing)))


def make(lengths, shuffled, generator):
    cache = PagedCache(CONFIG, torch.float64, CPU, 1 + sum(map(num_blocks_for, lengths)) + len(lengths))
    free = list(range(1, cache.num_blocks))
    if shuffled:
        free = [free[place] for place in torch.randperm(len(free), generator=generator)]
    sequences = []
    for index, length in enumerate(lengths):
        ids = torch.randint(0, 30, (length,), generator=generator).tolist()
        one = Sequence(index, Prompt(tuple(ids)), Sampling(), 2000)
        one.blocks = [free.pop(0) for _ in range(num_blocks_for(length + 1))]
        sequences.append(one)
    return cache, sequences


def read(cache, chunks):
    context = ChunkContext(cache, chunks)
    ids = [token for chunk in chunks for token in chunk.sequence.ids(chunk.start, chunk.end)]
    hidden = decoder(decoder.embed_tokens(torch.tensor(ids)), context.positions, context)
    for chunk in chunks:
        chunk.sequence.num_cached = chunk.end
    return decoder.lm_head(hidden)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.booleans(), st.integers(1, 40), st.integers(0, 99))
def test_chunks_and_steps_equal_whole_sequences(lengths, shuffled, chunk_tokens, seed):
    cache, sequences = make(lengths, shuffled, torch.Generator().manual_seed(seed))
    logits = {one.index: [] for one in sequences}
    while any(one.num_cached < one.num_tokens for one in sequences):
        chunks = [
            Chunk(one, one.num_cached, min(one.num_cached + chunk_tokens, one.num_tokens))
            for one in sequences
            if one.num_cached < one.num_tokens
        ]
        found = read(cache, chunks)
        for chunk, part in zip(chunks, torch.split(found, [chunk.num_tokens for chunk in chunks]), strict=True):
            logits[chunk.sequence.index].append(part)
    for one in sequences:
        torch.testing.assert_close(torch.cat(logits[one.index]), without_cache(one.prompt.ids), atol=1e-10, rtol=1e-10)
        one.generated.append(one.index)
    expected = torch.stack([without_cache(one.ids(0, one.num_tokens))[-1] for one in sequences])
    for found in (by_tables(cache, sequences), in_place(cache, sequences)):
        torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(by_lean(cache, sequences), expected.float(), atol=1e-5, rtol=1e-5)


def by_tables(cache, sequences):
    batch = DecodeBatch.of(
        [one.last_token for one in sequences], [one.blocks for one in sequences],
        [one.num_tokens for one in sequences], CPU,
    )  # fmt: skip
    assert batch.positions.tolist() == [one.num_tokens - 1 for one in sequences]
    assert batch.slots.tolist() == [one.slot(one.num_tokens - 1) for one in sequences]
    context = PagedDecodeContext(cache, batch)
    return decoder.lm_head(decoder(decoder.embed_tokens(batch.tokens), batch.positions, context))


def in_place(cache, sequences):
    tokens = torch.tensor([one.last_token for one in sequences])
    positions = torch.tensor([one.num_tokens - 1 for one in sequences])
    return decoder.lm_head(decoder(decoder.embed_tokens(tokens), positions, RunDecodeContext(cache, sequences)))


def by_lean(cache, sequences):
    cache = in_fp32(cache)
    tokens = torch.tensor([one.last_token for one in sequences])
    return lean.logits(tokens, [one.num_tokens - 1 for one in sequences], RunDecodeContext(cache, sequences))


def in_fp32(cache):
    same = PagedCache(CONFIG, torch.float32, CPU, cache.num_blocks)
    for index in range(CONFIG.num_layers):
        same.pair(index).copy_(cache.pair(index))
    return same


def test_a_long_chunk_behind_a_longer_past():
    """More queries than one mask holds."""
    cache, sequences = make([1500], False, torch.Generator().manual_seed(1))
    found = torch.cat([read(cache, [Chunk(sequences[0], *ends)]) for ends in ((0, 700), (700, 1500))])
    torch.testing.assert_close(found, without_cache(sequences[0].prompt.ids), atol=1e-10, rtol=1e-10)


def test_positions_beyond_the_first_rotary_table():
    cache, (one,) = make([1200], False, torch.Generator().manual_seed(2))
    read(cache, [Chunk(one, 0, 1200)])
    one.generated.append(3)
    expected = without_cache(one.ids(0, one.num_tokens))[-1:]
    torch.testing.assert_close(by_lean(cache, [one]), expected.float(), atol=1e-5, rtol=1e-5)


def test_a_cache_that_grows_keeps_what_is_stored():
    cache, sequences = make([50, 20], False, torch.Generator().manual_seed(3))
    read(cache, [Chunk(one, 0, one.num_tokens) for one in sequences])
    before = cache.keys[1].clone()
    num_blocks = cache.num_blocks
    cache.grow(num_blocks + 7)
    assert cache.num_blocks == num_blocks + 7
    assert torch.equal(cache.keys[1][: num_blocks * BLOCK_TOKENS], before)
    for one in sequences:
        one.generated.append(1)
    expected = torch.stack([without_cache(one.ids(0, one.num_tokens))[-1] for one in sequences])
    torch.testing.assert_close(in_place(cache, sequences), expected, atol=1e-10, rtol=1e-10)
