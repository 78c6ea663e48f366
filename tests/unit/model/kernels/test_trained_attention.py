"""Attention of packed sequences and its gradients against the formula itself, and the table of tiles."""

from itertools import pairwise

import pytest
import torch

from audioflamingo.model.attention import Packing, attend, attention_kernel
from audioflamingo.model.kernels.trained_attention import TILE, attend_trained, tiles_of

LENGTHS = [(1,), (70, 0, 3), (5, 1, 200, 64, 129), (300,)]


@pytest.fixture(autouse=True)
def _half_width(request):
    """On a GPU nothing else is trained, and its tiles have no room for wider numbers."""
    if "like" in request.fixturenames:
        like = request.getfixturevalue("like")
        if like.is_cuda and like.dtype == torch.float32:
            pytest.skip("in fp32 in the interpreter alone")


def offsets_of(lengths, device="cpu"):
    return torch.tensor([0, *torch.tensor(lengths).cumsum(0).tolist()], dtype=torch.int32, device=device)


@pytest.mark.parametrize("lengths", [*LENGTHS, (0, 0, 256, 0, 128, 0), (128, 1, 127)], ids=str)
def test_tiles_hold_every_row_once_and_know_their_sequence(lengths):
    num_rows = sum(lengths)
    found = tiles_of(offsets_of(lengths), num_rows)
    assert found.shape == (-(-num_rows // TILE) + len(lengths), 3)
    rows = [(row, begin, end) for first, begin, end in found.tolist() for row in range(first, min(first + TILE, end))]
    starts = offsets_of(lengths).tolist()
    wanted = [(row, a, b) for a, b in pairwise(starts) for row in range(a, b)]
    assert rows == wanted


@pytest.mark.gpu
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_outputs_and_gradients_are_the_formula_s(like, num_kv_heads, lengths, causal):
    num_rows = sum(lengths)
    torch.manual_seed(num_rows)
    shapes = [(num_rows, 4, 64), (num_rows, num_kv_heads, 64), (num_rows, num_kv_heads, 64)]
    given = [torch.randn(shape, device=like.device).to(like.dtype) for shape in shapes]
    weight = torch.randn(num_rows, 4, 64, device=like.device).to(like.dtype)
    with torch.enable_grad():
        ours = [x.clone().requires_grad_() for x in given]
        out = attend_trained(*ours, tiles_of(offsets_of(lengths, like.device), num_rows), causal=causal)
        found = (out, *torch.autograd.grad((out * weight).sum(), ours))
        wide = [x.double().requires_grad_() for x in given]
        with attention_kernel("eager"):
            held = tuple(length for length in lengths if length)
            want = attend(*wide, Packing.of(held, like.device), causal=causal)
        wanted = (want, *torch.autograd.grad((want * weight.double()).sum(), wide))
    allowed = {torch.float32: 3e-6, torch.float16: 3e-3}[like.dtype]
    for got, expected in zip(found, wanted, strict=True):
        assert (got.double() - expected).norm() <= allowed * (expected.norm() + expected.numel() ** 0.5)


@pytest.mark.gpu
def test_a_sequence_is_what_it_is_alone(like):
    lengths = (33, 150, 90)
    query, key, value = (torch.randn(273, heads, 64, device=like.device).to(like.dtype) for heads in (4, 2, 2))
    together = attend_trained(query, key, value, tiles_of(offsets_of(lengths, like.device), 273), causal=True)
    start = 0
    for length in lengths:
        rows = slice(start, start + length)
        tiles = tiles_of(offsets_of((length,), like.device), length)
        assert torch.equal(together[rows], attend_trained(query[rows], key[rows], value[rows], tiles, causal=True))
        start += length
