"""Every task: its answers follow from the timeline, pairs are pairs, answers are balanced, the checker can say no."""

import json
import shutil
from collections import Counter
from dataclasses import asdict

import pytest

from audioflamingo.errors import OptionError
from audioflamingo.world.check import check_turn
from audioflamingo.world.skills import SKILLS, make, parse_tasks
from audioflamingo.world.skills.base import LETTERS
from audioflamingo.world.timeline import World

pytestmark = pytest.mark.skipif(not shutil.which("espeak-ng") or not shutil.which("flite"), reason="no speech engines")
TRAIN = World(longest_s=45.0)
KNOWN = World("test_known", longest_s=45.0)


def plain(value):
    """As it would come back from a file."""
    return json.loads(json.dumps(value))


def problems_of(made):
    truths = plain([clip.truth() for clip in made.clips])
    turns = [plain(asdict(turn)) for dialogue in made.dialogues for turn in dialogue]
    return truths, turns, [problem for turn in turns for problem in check_turn(truths, turn)]


@pytest.mark.parametrize("name", SKILLS)
def test_answers_follow_from_the_timeline_and_pairs_differ_in_them_only(name):
    both = [make(name, TRAIN, 11, index) for index in range(2)]
    for made in both:
        _, turns, problems = problems_of(made)
        assert turns
        assert problems == []
        assert all(1.0 <= clip.duration_s <= 600.0 for clip in made.clips)
        if SKILLS[name].is_long:
            assert made.clips[0].duration_s >= 30.0
    if SKILLS[name].paired:
        first, second = (made.dialogues[0][0] for made in both)
        assert first.question == second.question
        assert first.options == second.options
        assert first.answer != second.answer


@pytest.mark.parametrize("name", SKILLS)
def test_held_out_phrasings_are_never_those_of_training(name):
    asked = {
        split: {
            turn.question.split("\n")[0]
            for index in range(2)
            for d in make(name, world, 3, index).dialogues
            for turn in d
        }
        for split, world in (("train", TRAIN), ("test", KNOWN))
    }
    assert asked["train"].isdisjoint(asked["test"])


WRONG = {"Yes.": "No.", "No.": "Yes."}


@pytest.mark.parametrize("name", [name for name in SKILLS if not SKILLS[name].is_long])
def test_the_checker_notices_wrong_answers_and_wrong_timelines(name):
    truths, turns, _ = problems_of(make(name, TRAIN, 12, 0))
    for turn in turns:
        wrong = {**turn, "answer": WRONG.get(turn["answer"], "Something else entirely.")}
        assert check_turn(truths, wrong)
        assert check_turn(truths, {**turn, "value": "something else"})
        if turn["options"]:
            moved = turn["options"][1:] + turn["options"][:1]
            assert check_turn(truths, {**turn, "options": moved})


def test_a_sound_that_is_taken_away_changes_the_count():
    truths, turns, _ = problems_of(next(m for m in (make("counting", TRAIN, 5, i) for i in range(40)) if counts(m)))
    kind = turns[0]["about"]["kind"]
    events = truths[0]["events"]
    events.remove(next(event for event in events if event["kind"] == kind))
    assert check_turn(truths, turns[0])


def counts(made):
    turn = made.dialogues[0][0]
    return turn.rule == "count" and turn.value > 0


def test_answers_are_balanced():
    clean = World(strength=0.0)
    yes = Counter(make("general", clean, 7, index).dialogues[0][0].answer for index in range(60))
    assert yes["Yes."] == yes["No."] == 30
    letters, numbers = Counter(), Counter()
    for index in range(80):
        turn = make("counting", clean, 7, index).dialogues[0][0]
        numbers[turn.value] += turn.rule == "count"
        turn = make("temporal_order", clean, 7, index).dialogues[0][0]
        if turn.options:
            letters[LETTERS[turn.options.index(turn.answer[4:])]] += 1
    assert {n for n, times in numbers.items() if times} >= {0, 1, 2, 3, 4, 5, 6, 7, 8}
    assert max(numbers.values()) < 0.35 * sum(numbers.values())
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 0.5 * sum(letters.values())


def test_thoughts_can_be_told_from_answers_and_their_times_read():
    from audioflamingo.think import split_thoughts, timed_thoughts

    made = make("think", TRAIN, 1, 0)
    turn = made.dialogues[0][0]
    thoughts, answer = split_thoughts(turn.answer)
    assert turn.answer.endswith(answer.strip())
    assert "<think>" not in answer
    spans = [(one.start_s, one.end_s) for one in timed_thoughts(thoughts)]
    assert spans[: len(made.clips[0].front)] == [
        (round(event.start_s, 1), round(event.end_s, 1)) for event in made.clips[0].front
    ]


def test_dialogues_have_the_papers_ranges_and_refer_back():
    sizes = [(len(m.clips), len(m.dialogues[0])) for m in (make("chat", TRAIN, 2, index) for index in range(6))]
    assert all(2 <= clips <= 8 and 2 <= turns <= 10 and turns > clips for clips, turns in sizes)


def test_task_names():
    assert parse_tasks("AF-Think,counting") == ("think", "counting")
    assert parse_tasks("all") == tuple(SKILLS)
    with pytest.raises(OptionError, match="counting"):
        parse_tasks("sarcasm")
