"""What kind of question it was, and whether the reply is right."""

import pytest

from audioflamingo.eval.judging import judged, metric_of, options_of, spelt_as

CHOICE = (
    "What ends the clip? Choose the correct option from the following options:\n(A) rain\n(B) a dog barking\n(C) wind"
)
LINES = "Which key is it in?\nA. C major\nB. A minor"


@pytest.mark.parametrize(
    ("question", "options"),
    [
        (CHOICE, ("rain", "a dog barking", "wind")),
        ("Which? (A) rain (B) wind, (C) both.", ("rain", "wind", "both")),
        (LINES, ("C major", "A minor")),
        ("Is it (A) or not?", ()),
        ("(B) rain (C) wind", ()),
        ("What do you hear?", ()),
    ],
)
def test_options_of_a_question(question, options):
    assert options_of(question) == options


@pytest.mark.parametrize(
    ("question", "truth", "metric"),
    [
        (CHOICE, "(B) a dog barking", "choice"),
        (CHOICE, "wind", "choice"),
        (CHOICE, "A cat is heard somewhere.", "open"),
        ("Transcribe the input speech.", "one two three", "words"),
        ("Transcribe the speech with times.", "[0.00] one [0.50] two", "open"),
        ("Put the speech into writing.", "hello there", "words"),
        ("Does a dog bark?", "Yes, it barks twice.", "yes_no"),
        ("How many times?", "Three.", "number"),
        ("How many times?", "<think>[0s] one (1).</think> 2", "number"),
        ("What do you hear?", "A dog barking.", "open"),
        ("What do you hear?", "Three dogs.", "open"),
    ],
)
def test_the_metric_follows_question_and_truth(question, truth, metric):
    assert metric_of(question, truth) == metric


@pytest.mark.parametrize(
    ("metric", "question", "truth", "reply", "score", "is_told"),
    [
        ("choice", CHOICE, "(B) a dog barking", "The answer is B.", 1, True),
        ("choice", CHOICE, "(B) a dog barking", "It ends with wind.", 0, True),
        ("choice", CHOICE, "(B) a dog barking", "I cannot say.", 0, False),
        ("choice", LINES, "A minor", "B. A minor", 1, True),
        ("yes_no", "Does it rain?", "Yes.", "Yes, heavily.", 1, True),
        ("yes_no", "Does it rain?", "No.", "There is rain.", 0, False),
        ("number", "How many?", "Three.", "I hear 3 of them", 1, True),
        ("number", "How many?", "Three.", "Several", 0, False),
        ("number", "How many?", "3", "<think>One, two: two. Wait.</think> Three.", 1, True),
        ("open", "What?", "A dog barking.", "the dog barking", 1, True),
        ("open", "What?", "A dog barking.", "A cat purring", 0, True),
        ("open", "What?", "rain and wind", "wind", 0.5, True),
        ("open", "What?", "rain", "", 0, False),
        ("open", "What?", "It rains. A dog barks.", "It rains. A dog barks.", 1, True),
        ("open", "What?", "A dog barks.", "It rains. A dog barks.", 2 / 3, True),
        ("open", "What?", "A dog barks.", "It rains? No. Therefore, the answer is: a dog barks.", 1, True),
        ("words", "Transcribe.", "one two three four", "One, two, free four.", 0.75, True),
        ("words", "Transcribe.", "one two", "one two three four five", 0, True),
        ("words", "Transcribe.", "one two", "The content of the input audio is 'one two'.", 1, True),
        ("words", "Transcribe.", "hello there i am here", "Hello there. I am here!", 1, True),
        ("words", "Transcribe.", "Hello there. I am here.", "I am here", 0.6, True),
        ("words", "Transcribe.", "one two", "<think>Who? He.</think>One two", 1, True),
        ("words", "Transcribe.", "There is no speech.", "There is no speech.", 1, True),
    ],
)
def test_a_reply_is_judged(metric, question, truth, reply, score, is_told):
    verdict = judged(metric, question, truth, reply)
    assert (verdict.score, verdict.is_right, verdict.is_told) == (pytest.approx(score), score == 1, is_told)


def test_word_errors_are_counted():
    verdict = judged("words", "Transcribe.", "one two three four", "one too four five")
    assert (verdict.num_errors, verdict.num_words) == (3, 4)


@pytest.mark.parametrize(
    ("metric", "question", "truth"),
    [("choice", "What?", "(A) rain"), ("choice", CHOICE, "snow"), ("yes_no", "What?", "rain"), ("number", "?", "rain")],
)
def test_a_truth_that_is_none_for_the_metric(metric, question, truth):
    with pytest.raises(ValueError, match="the true answer"):
        judged(metric, question, truth, "anything")


def test_a_caption_is_judged_among_others():
    with pytest.raises(ValueError, match="judged_caption"):
        judged("caption", "Describe the sound.", "rain", "rain")


@pytest.mark.parametrize(
    ("truth", "spelt"),
    [
        ("(B) wind", ["(A) rain", "(B) wind"]),
        ("B. wind.", ["A. rain.", "B. wind."]),
        ("(B)", ["(A)", "(B)"]),
        ("B.", ["A.", "B."]),
        ("wind", ["rain", "wind"]),
        ("Wind.", ["rain.", "wind."]),
    ],
)
def test_options_are_spelt_as_the_truth_is(truth, spelt):
    assert spelt_as(truth, ("rain", "wind")) == spelt
