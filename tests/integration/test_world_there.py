"""Whether there is speech, or music: answers, pairs, balance, parts of pieces behind silence."""

import json
import random
import shutil
from collections import Counter
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from audioflamingo.eval.nano_skills import rows
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.check import check_turn
from audioflamingo.world.music.compose import compose, draw_facts
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import SKILLS, make, there
from audioflamingo.world.skills.base import Job
from audioflamingo.world.skills.every import every_turn
from audioflamingo.world.skills.phrasings_events import MUSIC_THERE
from audioflamingo.world.tasks import SPEECH_PRESENT
from audioflamingo.world.timeline import Stage, World

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no speech engines")
NUM_SCENES = 60


def plain(value):
    """As it would come back from a file."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def scenes():
    return [make("speech_or_music", World(), 5, index) for index in range(NUM_SCENES)]


def turn_of(scene):
    return scene.dialogues[0][0]


def test_every_answer_follows_from_the_timeline(scenes):
    for scene in scenes:
        truth, turn = plain(scene.clips[0].truth()), plain(asdict(turn_of(scene)))
        assert check_turn([truth], turn) == []
        wrong = {**truth, "events": [e for e in truth["events"] if e["kind"] != turn["about"]["kind"]]}
        assert bool(check_turn([wrong], turn)) == turn["value"]


def test_of_a_pair_one_has_what_the_other_lacks(scenes):
    for one, other in zip(scenes[::2], scenes[1::2], strict=True):
        first, second = turn_of(one), turn_of(other)
        assert first.question == second.question
        assert {first.answer, second.answer} == {"Yes.", "No."}
        kinds = [Counter(event.kind for event in scene.clips[0].events) for scene in (one, other)]
        more, fewer = kinds if first.value else kinds[::-1]
        assert more - fewer == Counter([first.about["kind"]])
        assert not fewer - more


def test_both_are_asked_for_alone_together_behind_silence_and_where_neither_is(scenes):
    asked = Counter(turn_of(scene).about["kind"] for scene in scenes)
    assert min(asked["speech"], asked["music"]) > NUM_SCENES / 4
    kinds = {frozenset(event.kind for event in scene.clips[0].events) & set(there.BOTH) for scene in scenes}
    assert kinds == {frozenset(), frozenset({"speech"}), frozenset({"music"}), frozenset(there.BOTH)}
    silent_s = [min(event.start_s for event in scene.clips[0].events) for scene in scenes]
    assert min(silent_s) < 0.5
    assert max(silent_s) > 3.0
    over = [scene for scene in scenes if overlaps(scene.clips[0].events)]
    assert over
    assert any(event.kind == "music" and event.piece is None for scene in scenes for event in scene.clips[0].events)


def overlaps(events):
    return any(a.end_s > b.start_s for a, b in pairwise(events) if a.kind == "music")


def test_a_part_of_a_piece_is_as_long_as_told_and_tells_no_facts():
    rng = random.Random(1)
    score = compose(draw_facts(rng, duration_s=9.0), rng)
    stage = Stage(World(exact=True), Dice.of(1))
    event = stage.music(score, start_s=2.0, part_s=(1.0, 3.5))
    assert (event.start_s, event.end_s, event.piece) == (2.0, 4.5, None)
    timeline = stage.close(channel=False)
    assert not timeline.samples[: 2 * SAMPLE_RATE_HZ].any()
    assert np.abs(timeline.samples[3 * SAMPLE_RATE_HZ : 4 * SAMPLE_RATE_HZ]).max() > 0.01
    assert timeline.truth()["events"][0].get("piece") is None


def test_they_are_asked_about_every_scene_in_words_of_their_own():
    world = World("test_known")
    for name in ("counting", "speaker_attributes", "music_knowledge", "speech_or_music"):
        clip = make(name, world, 3, 0).clips[0]
        rng = random.Random(3)
        turns = [turn for _ in range(8) for turn in every_turn(clip, Job(world, Dice.of(3), rng, rng))]
        found = [turn for turn in turns if turn.question in (SPEECH_PRESENT[-1], MUSIC_THERE[-1])]
        assert {turn.about["kind"] for turn in found} == set(there.BOTH)
        for turn in turns:
            assert check_turn([plain(clip.truth())], plain(asdict(turn))) == []


def test_it_has_rows_in_the_table_and_is_younger_than_the_tokenizer():
    assert not SKILLS["speech_or_music"].in_tokenizer
    assert there.speech_or_music in [row.make for row in rows()]
