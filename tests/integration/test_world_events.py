"""What sounds at once, and what is how far away: answers, pairs, balance, words, and a checker that says no."""

import copy
import json
import shutil
from collections import Counter, defaultdict
from dataclasses import asdict
from itertools import pairwise

import pytest

from audioflamingo.eval.nano_skills import rows
from audioflamingo.train.words import skill_texts
from audioflamingo.types import SAMPLE_RATE_HZ
from audioflamingo.world.check import check_turn
from audioflamingo.world.check_events import EVENT_RULES
from audioflamingo.world.distance import loudness
from audioflamingo.world.skills import SKILLS, at_once, how_far, make, parse_tasks, phrasings_events
from audioflamingo.world.skills.base import LETTERS
from audioflamingo.world.timeline import World

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no speech engines")
TASKS = ("simultaneous", "distance")
NUM_SCENES = 60
RULES = {
    "simultaneous": {"overlap", "during", "begins_over", "most_at_once", "speech_during", "voices_overlap"},
    "distance": {"nearest", "farthest", "as_far"},
}
YES_NO = ("overlap", "speech_during", "voices_overlap", "as_far")


def plain(value):
    """As it would come back from a file."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def made():
    """(truth, turn) of each scene, by task."""
    found = {}
    for task in TASKS:
        scenes = [make(task, World(), 21, index) for index in range(NUM_SCENES)]
        found[task] = [(plain(one.clips[0].truth()), plain(asdict(one.dialogues[0][0]))) for one in scenes]
    return found


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_follows_from_the_timeline(made, task):
    assert [check_turn([truth], turn) for truth, turn in made[task]] == [[]] * NUM_SCENES
    assert {turn["rule"] for _, turn in made[task]} == RULES[task]
    assert all(2.0 < truth["duration_s"] < 25.0 for truth, _ in made[task])


@pytest.mark.parametrize("task", TASKS)
def test_pairs_ask_the_same_of_the_same_sounds_and_differ_in_the_answer(made, task):
    for (truth, turn), (other_truth, other) in zip(made[task][::2], made[task][1::2], strict=True):
        assert (turn["question"], turn["options"], turn["rule"]) == (other["question"], other["options"], other["rule"])
        assert turn["answer"] != other["answer"]
        assert sorted(e["kind"] for e in truth["events"]) == sorted(e["kind"] for e in other_truth["events"])


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_balanced(made, task):
    values, letters, is_open = defaultdict(Counter), Counter(), Counter()
    for _, turn in made[task]:
        values[turn["rule"]][turn["value"]] += 1
        if turn["rule"] not in YES_NO:
            is_open[not turn["options"]] += 1
        if turn["options"]:
            letters[LETTERS[turn["options"].index(turn["answer"][4:])]] += 1
    for rule in RULES[task].intersection(YES_NO):
        assert values[rule][True] == values[rule][False] > 0
    if "most_at_once" in values:
        assert set(values["most_at_once"]) == {1, 2, 3}
    assert min(is_open[True], is_open[False]) > 0.2 * is_open.total()
    assert max(letters.values()) < 0.7 * letters.total()


def test_some_sounds_clearly_overlap_and_the_others_are_clearly_apart(made):
    num_together = Counter()
    for truth, turn in made["simultaneous"]:
        events = sorted(truth["events"], key=lambda event: event["start_s"])
        assert 2 <= len(events) <= 4
        shared = [
            min(one["end_s"], other["end_s"]) - other["start_s"]
            for place, one in enumerate(events)
            for other in events[place + 1 :]
        ]
        assert not any(-0.5 < seconds < 0.6 for seconds in shared)
        assert any(seconds < 0 for seconds in shared)
        num_together[any(seconds > 0 for seconds in shared) or turn["value"] == 1] += 1
    assert num_together[False] == 0


def test_distances_are_clearly_apart_or_equal(made):
    for truth, turn in made["distance"]:
        metres = sorted(event["distance_m"] for event in truth["events"])
        assert len(metres) in (2, 3)
        equal = turn["rule"] == "as_far" and turn["value"]
        assert all(far == near if equal else far >= 2.5 * near for near, far in pairwise(metres))
        for event in truth["events"]:
            assert 10 ** (-event["level_db"] / 20) == pytest.approx(event["distance_m"], rel=0.01)


def test_of_two_sounds_the_nearer_one_is_heard_louder():
    """The sources are equally loud, so it has to be."""
    num = 0
    for index in range(0, 60, 2):
        clip = make("distance", World(strength=0.0), 8, index).clips[0]
        near, *middle, far = sorted(clip.events, key=lambda event: event.distance_m)
        if middle or near.distance_m == far.distance_m:
            continue
        levels = [
            loudness(clip.samples[round(one.start_s * SAMPLE_RATE_HZ) : round(one.end_s * SAMPLE_RATE_HZ)])
            for one in (near, far)
        ]
        assert levels[0] > 1.1 * levels[1], (near, far)
        num += 1
    assert num > 6


def moved(truth, change):
    """The timeline with one thing changed in every event that the change is for."""
    other = copy.deepcopy(truth)
    for event in other["events"]:
        change(event)
    return other


def first_of(made, task, rule, value=None):
    return next((t, q) for t, q in made[task] if q["rule"] == rule and (value is None or q["value"] == value))


def test_the_checker_notices_moved_events(made):
    for rule, value in (("overlap", True), ("speech_during", True), ("voices_overlap", True), ("most_at_once", 2)):
        truth, turn = first_of(made, "simultaneous", rule, value)
        at_s = iter(range(0, 100, 10))

        def spread(event, at_s=at_s):
            event["start_s"], event["end_s"] = (start_s := next(at_s)), start_s + 2.0

        assert check_turn([moved(truth, spread)], turn), rule
    truth, turn = first_of(made, "simultaneous", "most_at_once", 2)
    assert check_turn([moved(truth, lambda event: event.update(start_s=0.0, end_s=9.0))], turn)
    for rule in ("during", "begins_over"):
        truth, turn = first_of(made, "simultaneous", rule)
        (problem, *_) = check_turn([moved(truth, lambda event: event.update(start_s=0.0, end_s=9.0))], turn)
        assert "unclear" in problem


def test_the_checker_notices_other_distances_and_what_is_unclear(made):
    for rule in ("nearest", "farthest"):
        truth, turn = first_of(made, "distance", rule)
        assert check_turn([moved(truth, lambda event: event.update(distance_m=30.0 / event["distance_m"]))], turn)
        (problem, *_) = check_turn([moved(truth, lambda event: event.update(distance_m=2.0))], turn)
        assert "too close" in problem
    truth, turn = first_of(made, "distance", "as_far", value=False)
    assert check_turn([moved(truth, lambda event: event.update(distance_m=2.0))], turn)
    events = [{**event, "distance_m": metres} for event, metres in zip(truth["events"], (2.0, 3.0), strict=True)]
    assert str(EVENT_RULES["as_far"](events, turn["about"])).startswith("unclear")


@pytest.mark.parametrize("shared_s", [-0.3, 0.0, 0.4])
def test_neither_together_nor_apart_is_no_answer(shared_s):
    spans = {"rain": (0.0, 2.0), "siren": (2.0 - shared_s, 4.0)}
    events = [{"kind": kind, "layer": "front", "start_s": a, "end_s": b} for kind, (a, b) in spans.items()]
    assert str(EVENT_RULES["overlap"](events, {"kinds": ["rain", "siren"]})).startswith("unclear")
    assert str(EVENT_RULES["most_at_once"](events, {})).startswith("unclear")


@pytest.mark.parametrize("task", TASKS)
def test_tests_put_all_questions_in_words_that_training_never_uses(made, task):
    asked = {turn["question"].split("\n")[0] for _, turn in made[task]}
    known = [make(task, World("test_known"), 21, index).dialogues[0][0] for index in range(0, 40, 2)]
    assert len({turn.rule for turn in known}) >= len(RULES[task]) - 1
    assert asked.isdisjoint({turn.question.split("\n")[0] for turn in known})


@pytest.mark.parametrize("task", TASKS)
def test_unknown_sources_follow_the_same_rules(task):
    if not shutil.which("text2wave"):
        pytest.skip("no festival")
    for index in range(8):
        one = make(task, World("test_unknown"), 2, index)
        assert check_turn([plain(one.clips[0].truth())], plain(asdict(one.dialogues[0][0]))) == []


def test_they_are_listed_with_their_family():
    assert set(TASKS) <= set(parse_tasks("AudioSkills"))
    assert all(SKILLS[task].paired and not SKILLS[task].is_long for task in TASKS)


def test_the_table_asks_for_them_and_the_tokenizer_is_older():
    assert not any(SKILLS[task].in_tokenizer for task in TASKS)
    assert {at_once.simultaneous, how_far.distance} <= {getattr(row.make, "func", row.make) for row in rows()}
    openings = {
        text.split("{")[0] for name, texts in vars(phrasings_events).items() if name.isupper() for text in texts
    }
    said = {text.split("\n")[0] for text in skill_texts(1)}
    lone = {opening for opening in openings if opening.endswith(("?", "."))}
    assert len(lone) > 20
    assert lone.isdisjoint(said)
