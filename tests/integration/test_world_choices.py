"""Counting and responses as multiple choice: options that only the sound tells apart, pairs, codecs, the checker."""

import copy
import json
import random
import shutil
from collections import Counter, defaultdict
from dataclasses import asdict
from hashlib import sha256

import numpy as np
import pytest

from audioflamingo.cli.main import main
from audioflamingo.errors import OptionError
from audioflamingo.eval.nano_skills import rows
from audioflamingo.train.words import skill_texts
from audioflamingo.world import codecs
from audioflamingo.world.check import WORDS, check_turn
from audioflamingo.world.export import Order, export
from audioflamingo.world.said import replies
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import SKILLS, make, parse_tasks, phrasings_choices
from audioflamingo.world.skills.base import CHOOSE, LETTERS, Job, Truth, choose
from audioflamingo.world.timeline import World

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no speech engines")
TASKS = ("counting_choice", "response_choice")
RULES = {"counting_choice": {"count", "num_kinds"}, "response_choice": {"response", "reply"}}
NUM_SCENES = 80
TRAIN, KNOWN = World(longest_s=45.0), World("test_known", longest_s=45.0)


def plain(value):
    """As it would come back from a file."""
    return json.loads(json.dumps(value))


@pytest.fixture(scope="module")
def made():
    """(truth, turn) of each scene, by task; made when the task is first asked for."""
    return Made()


class Made(dict):
    def __missing__(self, task):
        scenes = [make(task, TRAIN, 21, index) for index in range(NUM_SCENES)]
        self[task] = [(plain(one.clips[0].truth()), plain(asdict(one.dialogues[0][0]))) for one in scenes]
        return self[task]


def place(turn):
    """Of the right option."""
    return LETTERS.index(turn["answer"][1])


@pytest.mark.parametrize("task", TASKS)
def test_every_answer_follows_from_the_timeline_and_is_one_of_four_options(made, task):
    assert [check_turn([truth], turn) for truth, turn in made[task]] == [[]] * NUM_SCENES
    assert {turn["rule"] for _, turn in made[task]} == RULES[task]
    for _, turn in made[task]:
        assert len(set(turn["options"])) == 4
        question, *lines = turn["question"].split("\n")
        assert question.endswith(CHOOSE)
        assert lines == [f"({letter}) {text}" for letter, text in zip("ABCD", turn["options"], strict=True)]
        assert turn["answer"] == lines[place(turn)]


@pytest.mark.parametrize("task", TASKS)
def test_pairs_ask_the_same_and_differ_in_the_answer(made, task):
    for (_, turn), (_, other) in zip(made[task][::2], made[task][1::2], strict=True):
        assert (turn["question"], turn["options"], turn["rule"]) == (other["question"], other["options"], other["rule"])
        assert turn["answer"] != other["answer"]


def is_even(times, num):
    """Whether counts are those of equal chances: within four deviations."""
    mean = times.total() / num
    return all(abs(times[one] - mean) < 4 * mean**0.5 for one in range(num))


def test_no_letter_and_no_rank_is_right_more_often_than_others(made):
    letters = Counter(place(turn) for task in TASKS for _, turn in made[task])
    assert is_even(letters, 4)
    ranks = Counter(sorted(WORDS.index(one) for one in t["options"]).index(t["value"]) for _, t in made[TASKS[0]])
    assert is_even(ranks, 4)
    drawn = Counter()
    for seed in range(4_000):
        asking = random.Random(seed)
        turn = choose(Job(TRAIN, Dice.of(seed), asking, asking), "?", "b", Truth("", {}, ""), pool="abcdef", keep="ab")
        drawn[LETTERS.index(turn.answer[1])] += 1
        assert {"a", "b"} <= set(turn.options) < set("abcdef")
    assert is_even(drawn, 4)


def test_numbers_follow_one_another_and_every_one_is_asked_for(made):
    numbers = defaultdict(Counter)
    for _, turn in made["counting_choice"]:
        options = sorted(WORDS.index(one) for one in turn["options"])
        assert options == list(range(options[0], options[0] + 4))
        numbers[turn["rule"]][turn["value"]] += 1
    assert set(numbers["count"]) == set(range(9))
    assert set(numbers["num_kinds"]) == set(range(1, 7))
    assert max(numbers["count"].values()) < 0.3 * numbers["count"].total()


def test_how_often_the_other_sound_is_heard_is_one_of_the_wrong_options(made):
    """So how many sounds there are in all says nothing: the other of the pair has as many."""
    counts = [(truth, turn) for truth, turn in made["counting_choice"] if turn["rule"] == "count"]
    for (truth, turn), (other_truth, other) in zip(counts[::2], counts[1::2], strict=True):
        kind, events = turn["about"]["kind"], truth["events"]
        num_other = sum(event["kind"] != kind for event in events)
        assert WORDS[num_other] in turn["options"]
        assert num_other == other["value"]
        assert len(events) == len(other_truth["events"])


def test_the_word_of_the_other_reply_is_said_elsewhere(made):
    """So it is not enough to notice which of the options is said at all."""
    for (truth, turn), (_, other) in zip(made["response_choice"][::2], made["response_choice"][1::2], strict=True):
        facts = [event["says"] for event in truth["events"] if "says" in event]
        roles = [one.get("role") for one in facts]
        asked = roles.index("question")
        assert roles[asked + 1] == "response"
        slot = facts[asked]["slot"]
        words = {one["slots"][slot] for one in facts if one.get("role") != "question"}
        right = facts[asked + 1]["slots"][slot]
        assert len(words) == 2
        (elsewhere,) = words - {right}
        told = replies(facts[asked + 1])
        by_rule = {"response": (right, elsewhere), "reply": (told[right], told[elsewhere])}
        assert (turn["value"], other["value"]) == by_rule[turn["rule"]]


def test_some_scenes_go_through_codecs_and_the_truth_says_which(made):
    for task in TASKS:
        used = Counter(truth.get("codec") for truth, _ in made[task])
        assert 0.25 * NUM_SCENES < used[None] < 0.75 * NUM_SCENES
        assert {name.split("@")[0] for name in used if name} == {*codecs.CODECS, "transform"}
    clean = [make("counting_choice", World(strength=0.0), 4, index).clips[0] for index in range(4)]
    assert {clip.codec for clip in clean} == {None}


def lacks(truth, turn):
    """The timeline without what is counted, without one kind, or without the reply."""
    first = truth["events"][0]["kind"]
    is_lost = {
        "count": lambda event: event["kind"] == turn["about"]["kind"],
        "num_kinds": lambda event: event["kind"] == first,
    }.get(turn["rule"], lambda event: event.get("says", {}).get("role") == "response")
    return {**truth, "events": [event for event in truth["events"] if not is_lost(event)]}


@pytest.mark.parametrize("task", TASKS)
def test_the_checker_notices_another_timeline_and_another_option(made, task):
    for truth, turn in made[task][:24]:
        assert turn["value"] == 0 or check_turn([lacks(truth, turn)], turn)
        assert check_turn([truth], {**turn, "options": turn["options"][1:] + turn["options"][:1]})
        lines = turn["question"].split("\n")[1:]
        assert check_turn([truth], {**turn, "answer": lines[place(turn) - 1]})


def test_the_checker_wants_one_reply_only(made):
    truth, turn = next((t, q) for t, q in made["response_choice"] if q["rule"] == "response")
    asked = next(i for i, event in enumerate(truth["events"]) if event.get("says", {}).get("role") == "question")
    again = copy.deepcopy(truth["events"][asked : asked + 2])
    says = again[1]["says"]
    says["slots"][says["slot"]] = next(word for word in turn["options"] if word != turn["value"])
    for event in again:
        event["start_s"] += 1_000.0
    (problem, *_) = check_turn([{**truth, "events": [*truth["events"], *again]}], turn)
    assert "not one but" in problem


@pytest.mark.parametrize("task", TASKS)
def test_tests_put_all_questions_in_words_that_training_never_uses(made, task):
    asked = {turn["question"].split("\n")[0] for _, turn in made[task]}
    known = [make(task, KNOWN, 21, index) for index in range(0, 16, 2)]
    assert asked.isdisjoint(one.dialogues[0][0].question.split("\n")[0] for one in known)
    for one in known:
        assert check_turn([plain(one.clips[0].truth())], plain(asdict(one.dialogues[0][0]))) == []


def test_unknown_sources_follow_the_same_rules():
    if not shutil.which("text2wave"):
        pytest.skip("no festival")
    for task in TASKS:
        for index in range(4):
            one = make(task, World("test_unknown", longest_s=45.0), 2, index)
            assert check_turn([plain(one.clips[0].truth())], plain(asdict(one.dialogues[0][0]))) == []


def test_they_are_listed_with_their_families_and_asked_for_in_the_table_and_the_tokenizer_is_older():
    assert "counting_choice" in parse_tasks("AudioSkills")
    assert "response_choice" in parse_tasks("LongAudio")
    assert {name for name, skill in SKILLS.items() if not skill.in_tokenizer} == {
        "simultaneous", "distance", "speech_or_music", *TASKS,
    }  # fmt: skip
    assert {SKILLS[task].make for task in TASKS} <= {getattr(row.make, "func", row.make) for row in rows()}
    said = {text.split("\n")[0].removesuffix(f" {CHOOSE}") for text in skill_texts(1)}
    assert said.isdisjoint(phrasings_choices.NUMBER_OF_KINDS)


def test_a_codec_for_all_changes_the_sound_and_nothing_else(tmp_path):
    order = Order(("several_clips", "nothing_there", "counting_choice"), 0.001, 3)
    coded = Order(order.tasks, 0.001, 3, World(codec="transform@24"))
    export(order, tmp_path / "plain")
    export(coded, tmp_path / "coded")
    assert (tmp_path / "plain" / "rows.json").read_bytes() == (tmp_path / "coded" / "rows.json").read_bytes()
    truths = [[json.loads(line) for line in (tmp_path / name / "truth.jsonl").open()] for name in ("plain", "coded")]
    assert {clip["codec"] for scene in truths[1] for clip in scene["clips"]} == {"transform@24"}
    for scene in (*truths[0], *truths[1]):
        for clip in scene["clips"]:
            clip.pop("codec", None)
    assert truths[0] == truths[1]
    sounds = [
        {path.name: sha256(path.read_bytes()).digest() for path in (tmp_path / name).glob("audio/*/*")}
        for name in ("plain", "coded")
    ]
    assert sounds[0].keys() == sounds[1].keys()
    same = [name for name, digest in sounds[0].items() if digest == sounds[1][name]]
    assert len(same) <= sum("nothing_there" in name for name in sounds[0])  # digital silence
    assert "codec" not in json.loads((tmp_path / "plain" / "world.json").read_text())
    for folder, other in (("plain", coded), ("coded", order)):
        with pytest.raises(OptionError, match="other codec"):
            export(other, tmp_path / folder)


def test_a_codec_is_drawn_for_every_clip_and_follows_the_seed():
    clips = [clip for index in range(6) for clip in make("several_clips", World(codec="any"), 3, index).clips]
    assert len({clip.codec for clip in clips}) > 3
    again = make("several_clips", World(codec="any"), 3, 0).clips
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(clips, again, strict=False))


def test_the_command(tmp_path, capsys):
    words = ["world", "--tasks", "counting_choice", "--hours", "0.001", "--workers", "1", "--out", str(tmp_path / "x")]
    assert main([*words, "--codec", "mp3"]) == 2
    assert "codec is 'mp3'; allowed: alaw, mulaw, adpcm, transform" in capsys.readouterr().err
    assert main([*words, "--codec", "adpcm"]) == 0
    assert main(["world", "--check", str(tmp_path / "x")]) == 0
    assert " 0 wrong" in capsys.readouterr().out
