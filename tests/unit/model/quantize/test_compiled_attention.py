"""Attention of one new position in C equals torch's."""

import pytest
import torch

from audioflamingo.model.attention import scaled_dot_product
from audioflamingo.model.quantize import native
from audioflamingo.model.quantize.native.attention import attend, can_attend
from audioflamingo.model.quantize.native.build import Unbuilt

pytestmark = pytest.mark.skipif(isinstance(native.library(), Unbuilt), reason=f"no kernels: {native.library()}")


def drawn(num_heads, group, length, width, factor=1.0):
    """A query, and keys and values that lie in a longer store, heads apart, with NaN around them."""
    generator = torch.Generator().manual_seed(length)
    query = torch.randn((1, num_heads, group, width), generator=generator) * factor
    store = torch.full((2, num_heads, length + 9, width), torch.nan)
    store[:, :, 4 : length + 4].normal_(generator=generator)
    keys, values = store[:, None, :, 4 : length + 4].unbind(0)
    return query, keys, values


@pytest.mark.parametrize("length", [1, 7, 8, 63, 64, 65, 165, 1000])
@pytest.mark.parametrize(("num_heads", "group", "width"), [(4, 7, 128), (1, 1, 32), (3, 2, 96)])
def test_it_equals_its_twin(num_heads, group, width, length):
    one = drawn(num_heads, group, length, width)
    torch.testing.assert_close(attend(*one), scaled_dot_product(*one), rtol=1e-5, atol=2e-6)


def test_scores_that_lie_far_apart_do_no_harm():
    one = drawn(4, 7, 300, 128, factor=1000.0)
    torch.testing.assert_close(attend(*one), scaled_dot_product(*one), rtol=1e-3, atol=1e-3)


def test_positions_may_hold_all_heads_side_by_side():
    query, keys, values = drawn(4, 7, 50, 128)
    aside = [one.transpose(1, 2).contiguous().transpose(1, 2) for one in (keys, values)]
    assert torch.equal(attend(query, *aside), attend(query, keys, values))


@pytest.mark.parametrize("place", range(3))
def test_what_is_no_number_is_not_hidden(place):
    one = [tensor.clone() for tensor in drawn(2, 2, 20, 32)]
    one[place][0, 1, 1, 3] = torch.nan
    found, expected = attend(*one), scaled_dot_product(*one)
    assert expected.isnan().any()
    assert torch.equal(found.isnan(), expected.isnan())


@pytest.mark.parametrize("num_threads", [1, 2])
def test_any_number_of_threads_gives_the_same(num_threads):
    one = drawn(4, 7, 165, 128)
    before, expected = torch.get_num_threads(), attend(*one)
    torch.set_num_threads(num_threads)
    try:
        assert torch.equal(attend(*one), expected)
    finally:
        torch.set_num_threads(before)


def test_other_keys_are_left_to_torch():
    assert can_attend(torch.zeros(1, 2, 3, 64))
    assert not can_attend(torch.zeros(1, 2, 3, 48))
    assert not can_attend(torch.zeros(1, 2, 3, 64, dtype=torch.bfloat16))
