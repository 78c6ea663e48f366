"""What of an answer is a transcript's words: nothing where it says that nobody speaks."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.prompt import may_say_no_speech, spoken_words, strip_transcription, with_note
from audioflamingo.prompt.spoken import NO_SPEECH
from audioflamingo.types import Reply, Usage
from audioflamingo.world import tasks


@pytest.mark.parametrize(
    "answer",
    [
        tasks.NO_SPEECH, "There is no speech", " there is no speech. ", "There is no speech in this recording!",
        "No one is speaking.", "The spoken content of the audio is 'There is no speech.'.", *sorted(NO_SPEECH),
    ],
)  # fmt: skip
def test_an_answer_that_nobody_speaks_has_no_words(answer):
    assert spoken_words(answer) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "There is no speech today.", "he said there is no speech", "There is no", "No.", "Silence.", "", "Hello.",
        "The spoken content of the audio is 'No speech, please.'.",
    ],
)  # fmt: skip
def test_other_answers_are_words(answer):
    assert spoken_words(answer) == strip_transcription(answer)


@given(st.sampled_from(sorted(NO_SPEECH)), st.integers(0, 60), st.sampled_from(["", "'", " ", "."]))
def test_the_beginning_of_such_an_answer_is_known(answer, length, sign):
    assert may_say_no_speech(sign + answer[:length].capitalize())
    assert not may_say_no_speech(f"{answer}, they say")


def test_an_empty_transcript_has_a_note_unless_it_was_cut():
    empty = Reply("", (1,), "stop", Usage(1, 1, 1, 1.0), ("a note",))
    assert with_note(empty, "a.wav").notes == ("a note", "no speech is heard in a.wav")
    for other in (dataclasses.replace(empty, text="hello"), dataclasses.replace(empty, finish_reason="length")):
        assert with_note(other, "a.wav") is other
