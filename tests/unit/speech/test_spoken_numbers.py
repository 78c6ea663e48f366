"""Numbers against another maker's reading of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.speech.spoken_numbers import number_words, year_words

num2words = pytest.importorskip("num2words")


@given(st.integers(0, 999_999_999))
def test_cardinals_agree_with_num2words(number):
    plain = num2words.num2words(number).replace(",", "")
    assert number_words(str(number)).split() == plain.split()


@given(st.integers(1100, 2099))
def test_years_agree_with_num2words(number):
    ours, theirs = year_words(number), num2words.num2words(number, to="year")
    assert ours.replace(" and ", " ").replace("oh ", "oh-").split() == theirs.replace(" and ", " ").split()
