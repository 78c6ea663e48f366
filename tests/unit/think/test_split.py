"""Thoughts apart from answers, in every style, however the text is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.think import ThoughtSplitter, split_thoughts

SAMPLES = [
    ("<think>[0:05] a bark. The answer is near.</think>\nTwo.", "[0:05] a bark. The answer is near.", "Two."),
    ("\n<think>\nIt rains.\n</think>\n\n(B) rain", "It rains.", "(B) rain"),
    ("<think>never closed", "never closed", ""),
    ("A bell rings. It is loud.\nTherefore, the answer is: (C) bell", "A bell rings. It is loud.", "(C) bell"),
    ("The voice is calm. So, the correct answer is B. It is a man.", "The voice is calm.", "B. It is a man."),
    ("I hear rain at 3.5 seconds.\n**Final answer:** rain", "I hear rain at 3.5 seconds.", "rain"),
    ("Final answer is dog", "", "dog"),
    ("It barks. It barks again. The final answer: two.", "It barks. It barks again.", "two."),
    ("What the answer is, nobody says. It is a dog.", "What the answer is, nobody says.", "It is a dog."),
    ("Just one sentence", "", "Just one sentence"),
    ("First this. Then that.\n", "First this.", "Then that."),
    ("Opened by the template.</think>Yes", "Opened by the template.", "Yes"),
    ("", "", ""),
    ("the answer is", "", "the answer is"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "thoughts", "answer"), SAMPLES)
def test_samples(text, thoughts, answer):
    assert split_thoughts(text) == (thoughts, answer)


@given(st.sampled_from(SAMPLES), st.data())
def test_cuts_do_not_matter(sample, data):
    text = sample[0]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    splitter = ThoughtSplitter()
    pieces = [splitter.feed(text[start:end]) for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces.append(splitter.flush())
    found = tuple("".join(piece[side] for piece in pieces).strip() for side in (0, 1))
    assert found == split_thoughts(text)


@given(st.text(alphabet="<think>/. \nA:"))
def test_nothing_but_marks_and_blanks_is_lost(text):
    thoughts, answer = split_thoughts(text)
    lost = len("".join(text.split())) - len("".join((thoughts + answer).split()))
    cut = {size for tag in ("<think>", "</think>") for size in range(2, len(tag)) if text.strip().endswith(tag[:size])}
    whole = {0, len("<think>"), len("</think>"), len("<think></think>")}
    assert lost in whole | {one + size for one in whole for size in cut}


@pytest.mark.parametrize("text", ["<thi", "<think>It rains.</", "<think>It rains.\n</think"])
def test_half_a_tag_at_the_end_is_neither(text):
    assert split_thoughts(text) == ("It rains." if "rains" in text else "", "")


@pytest.mark.parametrize("size", [1, 3, 100])
def test_thoughts_that_go_on_behind_a_tag_that_was_forced_are_no_answer(size):
    text = "<think>\nIt\n</think>\nrains.\n</think>\nRain.\n</thi"
    splitter = ThoughtSplitter("tags")
    splitter.expect_more()
    pieces = [splitter.feed(text[start : start + size]) for start in range(0, len(text), size)]
    assert not any(answer for _, answer in pieces)
    pieces.append(splitter.flush())
    assert "".join(thoughts for thoughts, _ in pieces).split() == ["It", "rains."]
    assert pieces[-1][1] == "Rain."


def test_tags_can_be_expected_where_the_text_opens_none():
    splitter = ThoughtSplitter("tags", is_open=True)
    assert splitter.feed("Therefore, the answer is A.</think>B") == ("Therefore, the answer is A.", "B")
    assert splitter.is_answering
