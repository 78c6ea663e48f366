"""Prefill, decode steps, rows that come and go: always what whole sequences without a cache give."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.config import DecoderConfig
from audioflamingo.engine.contiguous import CAPACITY_STEP, DecodeContext, KVCache, PrefillContext
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, Decoder

CONFIG = DecoderConfig(
    vocab_size=30, width=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=8, ffn_width=48, max_positions=2000
)
CPU = torch.device("cpu")


def make_decoder():
    torch.manual_seed(0)
    return Decoder(CONFIG).eval()


decoder = make_decoder()


def without_cache(embeddings):
    packing = Packing.of([len(embeddings)], CPU)
    return decoder(embeddings, packing.positions, CausalContext(packing))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4), st.lists(st.integers(1, 12), max_size=2), st.data())
def test_ragged_rows_equal_whole_sequences(lengths, late_lengths, data):
    torch.manual_seed(1)
    cache = KVCache(CONFIG, torch.float32, CPU)
    rows = []

    def add(new):
        sequences = [torch.randn(length, CONFIG.width) for length in new]
        packing = Packing.of(new, CPU)
        context = PrefillContext(cache, cache.add_rows(new), packing)
        hidden = decoder(torch.cat(sequences), packing.positions, context)
        for sequence, states in zip(sequences, torch.split(hidden, new), strict=True):
            torch.testing.assert_close(states, without_cache(sequence), atol=1e-5, rtol=1e-5)
        rows.extend(sequences)

    def step():
        new = torch.randn(len(rows), CONFIG.width)
        rows[:] = [torch.cat([row, token[None]]) for row, token in zip(rows, new, strict=True)]
        cache.grow()
        context = DecodeContext(cache)
        assert context.positions.tolist() == [len(row) - 1 for row in rows]
        hidden = decoder(new, context.positions, context)
        expected = torch.stack([without_cache(row)[-1] for row in rows])
        torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-5)

    with torch.no_grad():
        add(lengths)
        step()
        kept = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
        cache.keep_rows(kept)
        rows[:] = [rows[row] for row in kept]
        step()
        if late_lengths:
            add(late_lengths)
        step()
        assert cache.lengths == [len(row) for row in rows]


@torch.no_grad()
def test_growing_past_a_capacity_step_keeps_what_was_written():
    torch.manual_seed(2)
    cache = KVCache(CONFIG, torch.float32, CPU)
    tokens = torch.randn(CAPACITY_STEP + 3, CONFIG.width)
    packing = Packing.of([CAPACITY_STEP - 2], CPU)
    decoder(
        tokens[: CAPACITY_STEP - 2], packing.positions, PrefillContext(cache, cache.add_rows([packing.total]), packing)
    )
    for token in tokens[CAPACITY_STEP - 2 :]:
        cache.grow()
        context = DecodeContext(cache)
        last = decoder(token[None], context.positions, context)
    assert cache.capacity == 2 * CAPACITY_STEP
    torch.testing.assert_close(last, without_cache(tokens)[-1:], atol=1e-5, rtol=1e-5)
