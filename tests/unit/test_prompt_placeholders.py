import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import PromptError
from audioflamingo.prompt.placeholders import Slot, Turn, place_sounds, with_newlines
from audioflamingo.types import Audio, Message

A, B, C = (Audio(np.full(1600, value, np.float32), name) for value, name in ((0.1, "a"), (0.2, "b"), (0.3, "c")))


def placed(*messages, placeholders=True):
    turns, _ = place_sounds([Message(*message) for message in messages], placeholders=placeholders)
    return [[part if isinstance(part, str) else part.sound for part in turn.parts] for turn in turns]


def test_sounds_stand_first_in_order():
    assert placed(("user", ("one ", A, "two", B))) == [[0, 1, "one two"]]


def test_tags_take_the_sounds_in_order():
    assert placed(("user", (A, B, "first <sound> then <SOUND>."))) == [["first ", 0, " then ", 1, "."]]


def test_sounds_count_over_the_whole_conversation():
    turns, sounds = place_sounds(
        [Message("user", (A, "x")), Message("assistant", ("y",)), Message("user", (B, C, "<sound>z<sound>"))],
        placeholders=True,
    )
    assert sounds == (A, B, C)
    assert turns[2].parts == (Slot(1), "z", Slot(2))
    assert turns[2].slots == (Slot(1), Slot(2))
    assert turns[2].texts == ("z",)


def test_numbered_tags_point_anywhere_and_repeat():
    assert placed(("user", (A, "x")), ("assistant", ("y",)), ("user", ("<sound-1> <Sound-1>?",))) == [
        [0, "x"],
        ["y"],
        [0, " ", 0, "?"],
    ]
    assert placed(("user", ("see <sound-2>",)), ("user", (A, B))) == [["see ", 1], [0, 1]]


def test_numbered_and_plain_tags_together():
    assert placed(("user", (A, B, C, "<sound-2>x<sound>y<sound>"))) == [[1, "x", 0, "y", 2]]


def test_own_sounds_without_a_tag_stay_first():
    assert placed(("user", (A, B, "about <sound-2>"))) == [[0, "about ", 1]]
    assert placed(("user", (A, "x")), ("user", (B, "like <sound-1>"))) == [[0, "x"], [1, "like ", 0]]


def test_text_of_the_assistant_is_text():
    assert placed(("assistant", ("I heard <sound> and <sound-9>",))) == [["I heard <sound> and <sound-9>"]]
    assert placed(("system", (A, "like <sound>"))) == [["like ", 0]]


def test_placeholders_can_be_off():
    assert placed(("user", (A, "what is <sound-7>?")), placeholders=False) == [[0, "what is <sound-7>?"]]


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (("<sound>",), r"1 <sound> placeholder\(s\) for 0 sound"),
        ((A, "<sound> <sound>"), r"2 <sound> placeholder\(s\) for 1 sound"),
        ((A, B, "<sound>"), r"1 <sound> placeholder\(s\) for 2 sound"),
        ((A, "<sound-1> <sound>"), r"1 <sound> placeholder\(s\) for 0 sound"),
        ((A, "<sound-2>"), r"<sound-2>, but the conversation has 1 sound\(s\); allowed are 1 to 1"),
        ((A, "<sound-0>"), "<sound-0>"),
        (("<Sound-1>",), r"<Sound-1>, but the conversation has 0 sound\(s\)"),
        ((A, "<sound:a.wav>?"), r"<sound:a.wav>, which points at no sound; allowed: <sound-k>"),
        ((A, "<sound:>"), "<sound:>"),
    ],
)
def test_counts_that_do_not_match(content, match):
    with pytest.raises(PromptError, match=match):
        placed(("user", content))


@pytest.mark.parametrize("text", ["<sound -1>", "<sound-x>", "<sound-1234567>", "<soundx>", "sound"])
def test_what_is_no_tag(text):
    assert placed(("user", (A, text))) == [[0, text]]


@given(st.lists(st.sampled_from(["<sound>", "x", " ", "\n", "<", "sound>"]), max_size=8).map("".join))
def test_every_sound_is_placed_and_no_text_is_lost(text):
    num_tags = text.count("<sound>")
    content = (*[A] * num_tags, text)
    (parts,) = placed(("user", content))
    assert [part for part in parts if isinstance(part, int)] == list(range(num_tags))
    assert "".join(part if isinstance(part, str) else "<sound>" for part in parts) == text


def lines(*parts):
    turn = with_newlines(Turn("user", tuple(Slot(part) if isinstance(part, int) else part for part in parts)))
    return "".join(part if isinstance(part, str) else f"({part.sound})" for part in turn.parts)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((0, "What?"), "(0)\nWhat?"),
        ((0, 1, "What?"), "(0)(1)\nWhat?"),
        ((0, " \n\n What?\n\n"), "(0)\nWhat?"),
        (("Hear: ", 0, "and", 1, "!"), "Hear:\n(0)\nand\n(1)\n!"),
        ((0, " \n", 1, "both?"), "(0)(1)\nboth?"),
        ((0,), "(0)"),
        ((0, " \n "), "(0)"),
        (("Which?", 0), "Which?\n(0)"),
        (("a \t\n\t b  c\n\n d\n",), "a\nb  c\n\nd"),
        ((" a ",), " a "),
    ],
)
def test_newline_form(parts, expected):
    assert lines(*parts) == expected


def test_newline_form_is_linear():
    assert lines(" " * 500_000 + "x") == " " * 500_000 + "x"
