"""What the codes mean, and how far they may be from the weights."""

import pytest
import torch

from audioflamingo.model.quantize.schemes import (
    FP8_MAX,
    GROUP,
    INT4_RANGES,
    INT8_MAX,
    dequantize_int4,
    dequantize_rows,
    quantize_fp8,
    quantize_int4,
    quantize_int8,
)


def relative_error(found, weight):
    return float((found - weight).norm() / weight.norm())


def test_int8_is_within_half_a_step(make_weight):
    weight = make_weight(40, 96)
    codes, scale = quantize_int8(weight)
    assert codes.dtype == torch.int8
    assert scale.shape == (40,)
    error = (dequantize_rows(codes, scale, torch.float32) - weight).abs()
    assert (error <= scale[:, None] * 0.5001).all()
    assert codes.abs().amax(1).eq(INT8_MAX).all()


def test_fp8_is_within_half_a_step_of_three_bits(make_weight):
    weight = make_weight(40, 96)
    codes, scale = quantize_fp8(weight)
    error = (dequantize_rows(codes, scale, torch.float32) - weight).abs()
    smallest_step = scale[:, None] * 2**-9
    assert (error <= torch.maximum(weight.abs() * 2**-4, smallest_step)).all()
    assert codes.float().abs().amax(1).eq(FP8_MAX).all()


def test_int4_packs_the_even_input_low(make_weight):
    codes, scale = quantize_int4(make_weight(6, 2 * GROUP))
    assert (codes.shape, scale.shape, scale.dtype) == ((6, GROUP), (6, 2), torch.bfloat16)
    found = dequantize_int4(codes, scale, torch.float32)
    by_hand = [
        ((int(codes[row, place // 2]) >> 4 * (place % 2) & 15) - 8) * float(scale[row, place // GROUP])
        for row in range(6)
        for place in range(2 * GROUP)
    ]
    assert torch.equal(found.flatten(), torch.tensor(by_hand))


def test_of_several_ranges_int4_takes_one_with_the_least_error(make_weight):
    weight = make_weight(16, 3 * GROUP)
    groups = weight.view(16, 3, GROUP)
    error = (dequantize_int4(*quantize_int4(weight), torch.float32).view_as(groups) - groups).square().sum(2)
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    for share in INT4_RANGES:
        scale = (largest * (-share / 8)).bfloat16().float()
        other = ((groups / scale).round().clamp(-8, 7) * scale - groups).square().sum(2)
        assert (error <= other * 1.000001).all()


@pytest.mark.parametrize(
    ("quantize", "widen", "limit"),
    [
        (quantize_int8, dequantize_rows, 0.009),
        (quantize_fp8, dequantize_rows, 0.027),
        (quantize_int4, dequantize_int4, 0.099),
    ],
)
def test_the_error_of_normal_weights_stays_where_it_was_measured(quantize, widen, limit):
    weight = torch.randn(64, 3584, generator=torch.Generator().manual_seed(0))
    error = relative_error(widen(*quantize(weight), torch.float32), weight)
    assert 0.9 * limit < error < limit


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_int4, quantize_fp8])
def test_zeros_stay_zeros(quantize):
    codes, scale = quantize(torch.zeros(3, GROUP))
    widen = dequantize_int4 if quantize is quantize_int4 else dequantize_rows
    assert torch.equal(widen(codes, scale, torch.float32), torch.zeros(3, GROUP))
    assert scale.isfinite().all()


@pytest.mark.parametrize("quantize", [quantize_int8, quantize_int4, quantize_fp8])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(quantize, bad):
    weight = torch.ones(2, GROUP)
    weight[1, 5] = bad
    codes, scale = quantize(weight)
    widen = dequantize_int4 if quantize is quantize_int4 else dequantize_rows
    found = widen(codes, scale, torch.float32)
    assert found[0].isfinite().all()
    assert not found[1].isfinite().all()
