import pytest

from audioflamingo.eval.parse import number_in, option_letter, yes_or_no

OPTIONS = ("dog", "hot dog", "a bell")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B) hot dog", "B"),
        ("B.", "B"),
        ("c", None),
        ("C", "C"),
        ("It barks, so A is wrong. Therefore, the answer is: (C) a bell", "C"),
        ("<think>maybe (B)</think>(A)", "A"),
        ("I hear (A) and (B). The answer is B", "B"),
        ("It is a bell.", "C"),
        ("A hot dog", "B"),
        ("a dog and a bell", None),
        ("I cannot tell", None),
        ("(F) none", None),
        ("The correct option is C because of the ring", "C"),
        ("", None),
    ],
)
def test_option_letters(text, letter):
    assert option_letter(text, OPTIONS) == letter


@pytest.mark.parametrize(("text", "said"), [("Yes.", True), ("No, nobody does.", False), ("Maybe", None)])
def test_yes_or_no(text, said):
    assert yes_or_no(text) is said


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Three dogs", 3),
        ("I count 2, 3, then 12.5 s", 12.5),
        ("none", None),
        ("<think>1 2</think>four", 4),
        ("B52", None),
    ],
)
def test_numbers(text, number):
    assert number_in(text) == number
