import pytest

from audioflamingo.eval.parse import number_in, option_letter, whole_answer, yes_or_no

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


@pytest.mark.parametrize(
    ("text", "concludes", "answer"),
    [
        ("It rains. Wind blows. ", False, "It rains. Wind blows."),
        ("It rains. Wind blows.", True, "It rains. Wind blows."),
        ("It rains. So the answer is: wind. And rain.", True, "wind. And rain."),
        ("He sang. The answer is blowing in the wind.", False, "He sang. The answer is blowing in the wind."),
        ("<think>Rain. Or not.</think> Wind. Rain.", False, "Wind. Rain."),
        ("Rain. Or not.</think>Wind.", True, "Wind."),
        ("<think>Rain. Or", True, ""),
        (" <think>Rain</think>", False, ""),
        ("", True, ""),
    ],
)
def test_the_whole_answer(text, concludes, answer):
    assert whole_answer(text, concludes=concludes) == answer
