import pytest
import torch
from graph_model import graph_config, graph_model

from audioflamingo.engine.contexts import PagedDecodeContext
from audioflamingo.engine.graphs import GraphDecoder, bucket
from audioflamingo.engine.kv_cache import DecodeBatch, PagedCache

CONFIG = graph_config()
TABLES = [[1, 2, 9], [3, 4, 10], [5, 6, 7]]
LENGTHS = [63, 31, 64]
TOKENS = [3, 5, 7]


@pytest.fixture
def model(device):
    return graph_model(CONFIG, device)


def caches(device, number):
    first = PagedCache(CONFIG.decoder, torch.float32, device, 12)
    for layer in range(CONFIG.decoder.num_layers):
        first.pair(layer).normal_()
    rest = [PagedCache(CONFIG.decoder, torch.float32, device, 12) for _ in range(number - 1)]
    for layer in range(CONFIG.decoder.num_layers):
        for other in rest:
            other.pair(layer).copy_(first.pair(layer))
    return first, *rest


def plain_step(model, cache, batch):
    context = PagedDecodeContext(cache, batch)
    return model.logits(model.hidden_states(model.decoder.embed_tokens(batch.tokens), batch.positions, context))


@torch.inference_mode()
@pytest.mark.parametrize("num_rows", [1, 3])
def test_steps_that_feed_themselves_equal_plain_ones(model, device, num_rows):
    plain, paged = caches(device, 2)
    decoder = GraphDecoder(model, paged)
    tokens, lengths = TOKENS[:num_rows], LENGTHS[:num_rows]
    for step in range(4):
        batch = DecodeBatch.of(tokens, TABLES[:num_rows], lengths, device)
        want = plain_step(model, plain, batch)
        got = decoder.step(batch, max(lengths)) if step == 0 else decoder.step_on(batch.block_tables)
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        tokens, lengths = want.argmax(-1).tolist(), [length + 1 for length in lengths]
        assert decoder.greedy.tolist() == tokens
    for layer in range(CONFIG.decoder.num_layers):
        torch.testing.assert_close(paged.pair(layer)[:, 32:], plain.pair(layer)[:, 32:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_smaller_batch_after_a_larger_one_writes_nothing_of_it(model, device):
    plain, paged = caches(device, 2)
    decoder = GraphDecoder(model, paged)
    for rows in ((0, 1, 2), (1,), (2, 0, 1)):
        batch = DecodeBatch.of(
            [TOKENS[row] for row in rows], [TABLES[row] for row in rows], [LENGTHS[row] for row in rows], device
        )
        want = plain_step(model, plain, batch)
        torch.testing.assert_close(decoder.step(batch), want, atol=1e-5, rtol=1e-5)
    for layer in range(CONFIG.decoder.num_layers):
        torch.testing.assert_close(paged.pair(layer)[:, 32:], plain.pair(layer)[:, 32:], atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_rows_of_padding_stay_out_of_blocks_that_an_earlier_batch_had(model, device):
    """They are carried along with every step that feeds itself, here past all blocks of the short rows."""
    _, paged = caches(device, 2)
    decoder = GraphDecoder(model, paged)
    decoder.step(DecodeBatch.of([1, 2, 3, 4], [[1], [2], [3], [4, 5, 6, 7]], [5, 6, 7, 100], device))
    before = [paged.pair(layer)[:, 4 * 32 : 8 * 32].clone() for layer in range(CONFIG.decoder.num_layers)]
    decoder.step(DecodeBatch.of([1, 2, 3], [[8], [9], [10]], [30, 6, 7], device))
    second_blocks = torch.tensor([[8, 11], [9, 1], [10, 2]], dtype=torch.int32, device=device)
    for _ in range(33):
        decoder.step_on(second_blocks)
    for layer, held in enumerate(before):
        assert torch.equal(paged.pair(layer)[:, 4 * 32 : 8 * 32], held)


@torch.inference_mode()
def test_a_cache_that_has_moved_is_noticed(model, device):
    plain, paged = caches(device, 2)
    decoder = GraphDecoder(model, paged)
    batch = DecodeBatch.of(TOKENS, TABLES, LENGTHS, device)
    decoder.step(batch)
    paged.grow(20)
    torch.testing.assert_close(decoder.step(batch), plain_step(model, plain, batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("number", "want"), [(1, 1), (5, 8), (8, 8), (9, 16), (17, 32)])
def test_buckets(number, want):
    assert bucket(number, (1, 4, 8, 16)) == want
