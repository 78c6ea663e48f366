"""Questions over several clips: every form pairs and is checked, levels are as told, thoughts are found wrong."""

import json
import random
import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from audioflamingo.world.check import check_turn
from audioflamingo.world.rooms import active_rms
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import make, several, think
from audioflamingo.world.skills.across import every_across
from audioflamingo.world.skills.base import Job
from audioflamingo.world.skills.chat import tagged
from audioflamingo.world.skills.every import every_turn
from audioflamingo.world.skills.times import time_turns
from audioflamingo.world.timeline import World

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no speech engines")
TRAIN = World(longest_s=45.0)


def plain(value):
    """As it would come back from a file."""
    return json.loads(json.dumps(value))


def job_of(seed, flip=False, world=TRAIN):
    return Job(world, Dice.of(seed, flip), random.Random(seed), random.Random(seed), flip)


def problems_of(clips, turns):
    truths = plain([clip.truth() for clip in clips])
    return [problem for turn in turns for problem in check_turn(truths, plain(asdict(turn)))]


@pytest.mark.parametrize("form", several.FORMS)
def test_a_form_is_checked_paired_and_notices_another_clip(form):
    for seed in range(2):
        both = [several.about(job_of(seed, flip), form) for flip in (False, True)]
        turns = [made.dialogues[0][0] for made in both]
        for made, turn in zip(both, turns, strict=True):
            assert problems_of(made.clips, [turn]) == []
            assert turn.brings == tuple(range(len(made.clips)))
            assert 2 <= len(made.clips) <= 4
        assert turns[0].question == turns[1].question
        assert turns[0].answer != turns[1].answer
        if len(both[0].clips) == len(both[1].clips):
            assert problems_of(both[1].clips, [replace(turns[0], options=())])


def test_levels_of_clips_are_as_told():
    for seed in range(3):
        made = several.about(job_of(seed, world=World(strength=0.0)), "louder")
        levels = [20 * np.log10(active_rms(clip.samples) / several.FULL_LEVEL) for clip in made.clips]
        told = [max(event.level_db for event in clip.events) for clip in made.clips]
        assert levels == pytest.approx(told, abs=0.1)
        assert max(float(np.abs(clip.samples).max()) for clip in made.clips) <= 0.98001
        assert int(np.argmax(levels)) == made.dialogues[0][0].value


def test_a_person_sounds_the_same_in_all_clips():
    job = job_of(1, world=World(variety=1.0))
    (voice,) = job.cast(None)
    stages = []

    def speaks(stage):
        stage.say("The train leaves at noon.", voice)
        stages.append(stage)

    several.clips_of(job, [[speaks], [speaks]])
    first, second = (stage.disguises[voice.name] for stage in stages)
    assert first is second


@pytest.mark.parametrize("name", ["chat", "several_clips", "by_example"])
def test_all_that_clips_answer_is_right(name):
    for index in range(4):
        clips = make(name, TRAIN, 8, index).clips
        for num in range(2, len(clips) + 1):
            assert problems_of(clips, every_across(clips[:num], job_of(index), comparable=name != "chat")) == []


def test_clips_of_a_chat_are_of_every_form_and_each_is_named():
    ways = {
        "sounds": r"[^,]+, then [^,]+", "a sound": r"[^,]+(?<! speaking)", "speech": r"(A man|A woman) speaking",
        "behind": r"[^,]+, with .+ in the background", "noise": "Nothing recognisable, only noise",
        "silence": "Silence", "music": "Music, then .+", "speech and more": r"(A man|A woman) speaking, then .+",
    }  # fmt: skip
    seen, answers = dict.fromkeys(ways, 0), 0
    for seed in range(12):
        made = make("chat", TRAIN, seed, 0)
        assert problems_of(made.clips, made.dialogues[0]) == []
        for turn in made.dialogues[0]:
            if turn.rule == "heard":
                answers += 1
                for name, way in ways.items():
                    seen[name] += bool(re.fullmatch(way + r"\.", turn.answer))
    assert all(seen.values()), seen
    assert max(seen.values()) < answers / 2  # none so often that it could be guessed


@pytest.mark.parametrize("name", ["counting", "temporal_order", "speech_in_sound", "chat"])
def test_all_questions_of_time_are_right(name):
    for index in range(4):
        clips = make(name, TRAIN, 8, index).clips[:1]
        turns = [*time_turns(clips[0], job_of(index)), *every_turn(clips[0], job_of(index))]
        assert problems_of(clips, turns) == []


def test_examples_are_given_and_the_last_is_asked():
    for index in range(6):
        at_once, one_by_one = make("by_example", TRAIN, 9, index).dialogues
        assert [turn.given for turn in one_by_one] == [True] * (len(one_by_one) - 1) + [False]
        assert at_once[0].value == one_by_one[-1].value
        assert {turn.value for turn in one_by_one[:-1]} >= {at_once[0].value}


def test_tags_name_all_clips_of_a_turn_in_order():
    made = several.about(job_of(2), "odd")
    tags = "".join(f"<sound-{place + 1}>\n" for place in range(len(made.clips)))
    assert tagged(made.dialogues[0]) == [tags + made.dialogues[0][0].question]


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("count", lambda text: text.replace("(1)", "(2)")),
        ("nth", lambda text: text.replace("(2)", "(3)", 1)),
        ("trend", lambda text: text.replace(" at 0.0s", " at 99.9s")),
        ("longest", lambda text: re.sub(r"\d\.\d long,", "9.9 long,", text)),
    ],
)
def test_wrong_steps_of_a_thought_are_noticed(rule, wrong):
    made = next(m for m in (make("think", TRAIN, 4, i) for i in range(400)) if fits(m, rule))
    turn = made.dialogues[0][0]
    assert problems_of(made.clips, [turn]) == []
    changed = replace(turn, answer=wrong(turn.answer))
    assert changed.answer != turn.answer
    assert problems_of(made.clips, [changed])


@pytest.mark.parametrize("name", ["counting", "temporal_order", "temporal_attributes", "speech_qa"])
def test_thoughts_about_all_that_a_clip_answers_are_right(name):
    for index in range(4):
        clips = make(name, TRAIN, 8, index).clips
        turns = [turn for turn in every_turn(clips[0], job_of(index)) if turn.rule in think.STEPS]
        assert turns
        assert problems_of(clips, [think.reasoned(turn, clips[0]) for turn in turns]) == []


def fits(made, rule):
    turn = made.dialogues[0][0]
    return turn.rule == rule and turn.value not in (0, 1)
