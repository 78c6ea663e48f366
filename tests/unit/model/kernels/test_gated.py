"""The gated unit over many rows in one kernel, in several plans, against the formula in fp64."""

import pytest
import torch
from torch.nn import functional

from audioflamingo.config import DecoderConfig
from audioflamingo.model import fused
from audioflamingo.model.attention import Packing
from audioflamingo.model.decoder import CausalContext, Decoder, fuse_projections
from audioflamingo.model.kernels import gated, kernel_switches
from audioflamingo.model.kernels.gated import GatedPlan

SIZES = [(1, 8, 8), (70, 48, 72), (130, 264, 128)]  # rows, outputs, inputs
SMALL = (GatedPlan(32, 64, 16, 4, 2, 2), GatedPlan(64, 32, 32, 4, 3, 1))
ALLOWED = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 6e-3}


@pytest.fixture
def wide_like(like):
    """Of 16 bits on a GPU; Triton's interpreter takes tiles of fp16 and fp32."""
    return like.bfloat16() if like.is_cuda and like.dtype == torch.float32 else like


def random_like(like, *shape, scale=1.0):
    torch.manual_seed(sum(shape))
    return (scale * torch.randn(*shape)).to(like)


def formula(x, weight):
    gate, up = (x.double() @ weight.double().T).chunk(2, dim=-1)
    return functional.silu(gate) * up


def nearly(got, want):
    assert got.isfinite().all()
    assert (got.double() - want).norm() <= ALLOWED[got.dtype] * want.norm()


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_plan_gives_the_formula(wide_like, sizes):
    rows, outputs, inputs = sizes
    x, weight = random_like(wide_like, rows, inputs), random_like(wide_like, 2 * outputs, inputs, scale=inputs**-0.5)
    for plan in (*SMALL, gated.HOPPER) if wide_like.is_cuda else SMALL:
        nearly(gated.gated_product(x, weight, plan), formula(x, weight))


def test_rows_that_lie_apart_are_read_where_they_lie(wide_like):
    x, weight = random_like(wide_like, 40, 96)[:, :64], random_like(wide_like, 2 * 48, 64)
    nearly(gated.gated_product(x, weight, SMALL[0]), formula(x, weight))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_its_own_row_alone(wide_like, number):
    x, weight = random_like(wide_like, 40, 64), random_like(wide_like, 2 * 48, 64)
    x[7, 3] = number
    is_finite = gated.gated_product(x, weight, SMALL[0]).isfinite().all(dim=1)
    assert not is_finite[7]
    assert is_finite.sum() == 39


def test_what_the_kernel_cannot_read_goes_the_other_way(like, monkeypatch):
    monkeypatch.setattr(gated, "LEAST_ROWS", 1)
    half = like.half()
    assert gated.takes_gated(random_like(half, 9, 16), random_like(half, 16, 16)) == (not half.is_cuda or _is_hopper())
    for x, weight in (
        (random_like(half, 9, 12), random_like(half, 16, 12)),  # rows of 24 bytes
        (random_like(half, 12, 9).T, random_like(half, 16, 12)),
        (random_like(half, 9, 17)[:, 1:], random_like(half, 16, 16)),
        (random_like(half, 9, 16), random_like(half, 14, 16)),  # results in rows of 14 bytes
        (random_like(half, 9, 16).double(), random_like(half, 16, 16).double()),
    ):
        assert not gated.takes_gated(x, weight)
        gate, up = functional.linear(x, weight).chunk(2, dim=-1)
        torch.testing.assert_close(gated.gated_linear(x, weight), functional.silu(gate) * up, atol=2e-3, rtol=2e-3)


def _is_hopper():
    return torch.cuda.get_device_capability()[0] == 9


@torch.no_grad()
def test_a_decoder_reads_long_prompts_with_it(wide_like, monkeypatch):
    if wide_like.dtype == torch.float32:
        pytest.skip("the kernel takes 16 bits")
    config = DecoderConfig(
        vocab_size=64, width=128, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32, ffn_width=256
    )
    decoder = Decoder(config).eval().to(wide_like)
    fuse_projections(decoder)
    packing, x = Packing.of([11], wide_like.device), random_like(wide_like, 11, 128)
    with kernel_switches(kernels=False):
        want = decoder(x, packing.positions, CausalContext(packing))
    calls, whole = [], gated.gated_product
    monkeypatch.setattr(gated, "gated_product", lambda x, weight: calls.append(len(x)) or whole(x, weight))
    monkeypatch.setattr(gated, "LEAST_ROWS", 4)
    for feed_rows, seen in ((fused.FEED_ROWS, [11]), (4, [4, 4])):
        monkeypatch.setattr(fused, "FEED_ROWS", feed_rows)
        calls.clear()
        got = decoder(x, packing.positions, CausalContext(packing))
        assert calls == 2 * seen
        torch.testing.assert_close(got, want, atol=3e-2, rtol=3e-2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@torch.no_grad()
def test_a_hopper_takes_many_rows_of_16_bits():
    x, weight = (torch.randn(rows, 64, device="cuda", dtype=torch.bfloat16) for rows in (gated.LEAST_ROWS, 128))
    assert gated.takes_gated(x, weight) == _is_hopper()
    assert not gated.takes_gated(x[1:], weight)
    assert not gated.takes_gated(x.float(), weight.float())
    with torch.enable_grad():
        assert not gated.takes_gated(x.clone().requires_grad_(), weight)
    nearly(gated.gated_linear(x, weight), formula(x, weight))
