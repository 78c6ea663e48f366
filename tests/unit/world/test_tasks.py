import random

import numpy as np
import pytest

from audioflamingo.world import sounds, tasks
from audioflamingo.world.scenes import Event, Scene

EMPTY = np.zeros(16_000, np.float32)
DOG_BELL = Scene(EMPTY, (Event("dog_bark", 0.1, 0.4), Event("church_bell", 0.5, 0.9)))
DOG = Scene(EMPTY, (Event("dog_bark", 0.1, 0.4),))
WOMAN = Scene(EMPTY, (Event("speech", 0.0, 0.9, "it is late", "female"),), background="rain")
NOISE = Scene(EMPTY, backdrop="noise")
SILENCE = Scene(EMPTY, backdrop="silence")


def answers(scene, seed=0, **kw):
    return {q.task: q.answer for q in tasks.questions(scene, random.Random(seed), **kw)}


def test_two_sounds():
    found = answers(DOG_BELL)
    dog, bell = sounds.KINDS["dog_bark"], sounds.KINDS["church_bell"]
    assert found["identify"] == f"{dog.label.capitalize()}, then {bell.label}."
    assert found["caption"] == f"{dog.sentence.capitalize()}, then {bell.sentence}."
    assert found["first"] == found["which_first"] == f"{dog.label.capitalize()}."
    assert found["last"] == f"{bell.label.capitalize()}."
    assert found["transcribe"] == tasks.NO_SPEECH
    assert found["speech_present"] == "No."
    assert "choice" not in found
    assert "speaker_sex" not in found


@pytest.mark.parametrize("seed", range(20))
def test_the_right_option_is_the_sound_and_options_differ(seed):
    question = next(q for q in tasks.questions(DOG, random.Random(seed)) if q.task == "choice")
    lines = question.text.split("\n")[1:]
    assert len(set(lines)) == 4
    assert question.answer in lines
    assert question.answer[4:] == sounds.KINDS["dog_bark"].label


@pytest.mark.parametrize("seed", range(40))
def test_presence_is_true(seed):
    question = next(q for q in tasks.questions(DOG, random.Random(seed)) if q.task == "presence")
    dog = sounds.KINDS["dog_bark"]
    asked = dog.label in question.text or dog.question in question.text.lower()
    assert question.answer.startswith("Yes") == asked
    assert question.answer in {"No.", f"Yes, {sounds.KINDS['dog_bark'].label}."}


def test_presence_asks_both_ways():
    given = {next(q for q in tasks.questions(DOG, random.Random(s)) if q.task == "presence").answer for s in range(40)}
    assert len(given) == 2


def test_speech_over_rain():
    found = answers(WOMAN)
    rain = sounds.KINDS["rain"]
    assert found["transcribe"] == "it is late"
    assert found["speaker_sex"] == "A woman."
    assert found["background"] == f"{rain.label.capitalize()}."
    assert found["identify"] == f"A woman speaking, with {rain.label} in the background."
    assert found["caption"] == f"A woman speaks while {rain.sentence}."


def test_nothing_there():
    assert answers(NOISE)["identify"] == answers(NOISE)["caption"] == tasks.NOISE
    assert answers(SILENCE)["identify"] == answers(SILENCE)["caption"] == tasks.SILENCE
    assert answers(NOISE)["transcribe"] == tasks.NO_SPEECH


def test_held_out_phrasings_are_never_asked_in_training():
    held_out = {q.text for q in tasks.questions(DOG_BELL, random.Random(0), held_out_phrasings=True)}
    asked = {q.text for seed in range(300) for q in tasks.questions(DOG_BELL, random.Random(seed))}
    patterns = (tasks.TRANSCRIBE, tasks.IDENTIFY, tasks.CAPTION, tasks.FIRST, tasks.LAST, tasks.SPEECH_PRESENT)
    assert held_out >= {p[-1] for p in patterns}
    assert not asked & {p[-1] for p in patterns}


def test_without_audio_the_answer_says_so():
    found = {q.text: q.answer for q in tasks.text_only_questions()}
    assert found["What do you hear?"] == tasks.NO_AUDIO
    assert found["Hello!"] == tasks.I_AM
