"""Attention of packed sequences, in every plan, against the formula itself."""

import pytest
import torch

from audioflamingo.model.attention import Packing, attend, attention_kernel
from audioflamingo.model.kernels.packed_attention import HOPPER, PLANS, PackedPlan, attend_packed, takes_packed

LENGTHS = [(1,), (70,), (130, 130), (5, 1, 200, 64, 129)]
SMALL = PackedPlan(16, 32, 4, 2)  # beside those of the product, so that short sequences are of many tiles


def heads_of(like, num_elements, num_heads, num_kv_heads, head_dim):
    """Queries, keys and values as views of one tensor, as a joint projection leaves them."""
    widths = [num_heads, num_kv_heads, num_kv_heads]
    joint = torch.randn(num_elements, sum(widths), head_dim, device=like.device).to(like.dtype)
    return joint.split(widths, dim=1)


def formula(query, key, value, lengths, causal):
    with attention_kernel("eager"):
        wide = [x.double() for x in (query, key, value)]
        return attend(*wide, Packing.of(lengths, query.device), causal=causal)


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("head_dim", [64, 128])
def test_every_plan_gives_the_formula(like, head_dim, lengths, causal):
    query, key, value = heads_of(like, sum(lengths), 4, 2, head_dim)
    want = formula(query, key, value, lengths, causal)
    allowed = {torch.float32: 3e-6, torch.float16: 2e-3}[like.dtype]
    plans = [SMALL] if like.dtype == torch.float32 and like.is_cuda else [SMALL, *PLANS[head_dim]]
    for plan in plans:
        offsets = Packing.of(lengths, like.device).offsets
        got = attend_packed(query, key, value, lengths, offsets, causal=causal, plan=plan)
        assert (got.double() - want).norm() <= allowed * want.norm()


def test_equal_lengths_need_no_offsets(like):
    query, key, value = heads_of(like, 120, 4, 4, 64)
    offsets = Packing.of((40, 40, 40), like.device).offsets
    with_offsets = attend_packed(query, key, value, (40, 40, 40), offsets, causal=True, plan=SMALL)
    without = attend_packed(query, key, value, (40, 40, 40), None, causal=True, plan=SMALL)
    torch.testing.assert_close(with_offsets, without)


def test_a_sequence_is_what_it_is_alone(like):
    lengths = (33, 7, 90)
    query, key, value = heads_of(like, 130, 4, 2, 64)
    offsets = Packing.of(lengths, like.device).offsets
    together = attend_packed(query, key, value, lengths, offsets, causal=True, plan=SMALL)
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        alone = attend_packed(query[rows], key[rows], value[rows], (length,), None, causal=True, plan=SMALL)
        assert torch.equal(together[rows], alone)
        start += length


def test_heads_that_lie_elsewhere_are_brought_side_by_side(like):
    query, key, value = (torch.randn(4, 50, 64, device=like.device).to(like.dtype).transpose(0, 1) for _ in range(3))
    want = formula(query, key, value, (50,), True)
    got = attend_packed(query, key, value, (50,), None, causal=True, plan=SMALL)
    assert (got.double() - want).norm() <= 2e-3 * want.norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_hopper_takes_it_for_short_sequences_without_gradients():
    query, key, value = heads_of(torch.empty(0, dtype=torch.bfloat16, device="cuda"), 100, 4, 2, 128)
    is_hopper = torch.cuda.get_device_capability()[0] == 9
    with torch.no_grad():
        assert takes_packed(query) == is_hopper
        assert not takes_packed(query.float())
        assert not takes_packed(query[:, :, :32])
    assert not takes_packed(query.clone().requires_grad_())
    want = formula(query, key, value, (60, 40), True)
    got = attend(query, key, value, Packing.of((60, 40), query.device), causal=True)
    assert (got.double() - want).norm() <= 1e-2 * want.norm()


def test_known_plans_are_among_those_that_are_tried():
    assert all(plan == PLANS[width][0] for width, plan in HOPPER.items())
