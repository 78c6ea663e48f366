"""Scoring of replies about skills, and the controls that take the sound away."""

import numpy as np
import pytest

from audioflamingo.eval.nano_items import Posed, is_right, posed, says_nothing_recognisable, with_sound
from audioflamingo.eval.nano_skills import paired, rows
from audioflamingo.types import Audio, Message
from audioflamingo.world.skills.base import Made, Turn
from audioflamingo.world.timeline import Timeline

QUESTION = (Message("user", (Audio(np.full(1_600, 0.5, np.float32), "a"), "Which?")),)


def item(answer, rule, value, options=()):
    return Posed(QUESTION, answer, rule, value, tuple(options))


@pytest.mark.parametrize(
    ("one", "right", "wrong"),
    [
        (item("Three.", "count", 3), "There are three.", "Four."),
        (item("Zero, a cow is not heard.", "count", 0), "Zero.", "One."),
        (item("Yes.", "present", True), "Yes, it is.", "No."),
        (item("No.", "same_voice", False), "No.", "Yes."),
        (item("(B) a cat", "nth", "cat", ("a dog", "a cat")), "(B)", "(A) a dog"),
        (item("From 12.0 s to 13.5 s.", "when", [12.0, 13.5]), "From 12.9 s to 13.1 s.", "From 13.1 s to 13.5 s."),
        (item("120 beats a minute.", "music_tempo_bpm", 120), "124 beats a minute.", "126 beats a minute."),
        (item("At 4.2 s.", "starts", 4.2), "It starts at 5.0 s.", "At 5.4 s."),
        (item("In the second clip.", "clip_with", 1), "The second one.", "The first clip, not the second."),
        (item("The first clip is louder.", "louder_clip", 0), "The first clip.", "The second clip is louder."),
        (item("Four.", "count_all", 4), "Four times.", "Two."),
        (item("Yes.", "same_speaker", True), "Yes.", "No."),
        (item("Paris.", "fact", "Paris"), "It is paris.", "Parisian."),
        (item("A dog barking.", "nth", "dog"), "a dog barking", "A dog."),
        (item("<think>\n[0.1s - 0.4s] a dog.\n</think>\nTwo.", "count", 2), "<think>\nthree\n</think>\nTwo.", "Three."),
    ],
)
def test_right_and_wrong(one, right, wrong):
    assert is_right(one, one.answer)
    assert is_right(one, right)
    assert not is_right(one, wrong)


def test_a_later_turn_comes_with_what_was_before():
    clips = tuple(Timeline(np.full(100, k, np.float32), ()) for k in range(2))
    turns = (
        Turn("What?", "A dog.", "heard", {}, ["dog"], clip=0, brings=(0,)),
        Turn("And this?", "A cat.", "heard", {}, ["cat"], clip=1, brings=(1,)),
        Turn("How many?", "Two.", "num_clips", {}, 2),
    )
    found = posed(Made(clips, (turns,)), lambda turn: turn.rule == "num_clips")
    assert found is not None
    assert [message.role for message in found.messages] == ["user", "assistant", "user", "assistant", "user"]
    assert [len(message.content) for message in found.messages] == [2, 1, 2, 1, 1]
    assert posed(Made(clips, (turns,)), lambda turn: False) is None


def test_several_clips_come_with_one_question():
    clips = tuple(Timeline(np.full(100, k, np.float32), ()) for k in range(3))
    turns = (
        Turn("Which?", "The first clip.", "clip_with", {}, 0, brings=(0, 1)),
        Turn("How many?", "Three.", "num_clips", {}, 3, brings=(2,)),
    )
    found = posed(Made(clips, (turns,)), lambda turn: turn.rule == "num_clips")
    assert found is not None
    names = [[part.name for part in m.content if isinstance(part, Audio)] for m in found.messages]
    assert names == [["clip 1", "clip 2"], [], ["clip 3"]]


def test_controls_take_the_sound_away():
    other = Posed((Message("user", (Audio(np.full(9, 0.25, np.float32), "b"), "Q")),), "", "", None)
    sounds = {}
    for instead in ("noise", "silence", "other"):
        changed = with_sound(item("A.", "nth", "a"), instead, other, 0)
        sounds[instead] = changed.messages[0].content[0].samples
        assert changed.messages[0].content[1] == "Which?"
    assert len(sounds["noise"]) == 1_600
    assert np.std(sounds["noise"]) > 0.01
    assert not sounds["silence"].any()
    assert sounds["other"].tolist() == [0.25] * 9


def test_what_counts_as_hearing_nothing():
    assert says_nothing_recognisable("Nothing recognisable, only noise.")
    assert not says_nothing_recognisable("Three.")


def test_gain_is_paired():
    gain = paired([True] * 9 + [False], [True] * 6 + [False] * 4)
    assert gain.value == pytest.approx(0.3)
    assert gain.low > -0.01


def test_rows_have_names_of_their_own():
    names = [row.name for row in rows()]
    assert len(set(names)) == len(names)
    assert any("10 minutes" in name for name in names)
