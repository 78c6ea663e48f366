"""Rendered items: every conversation hears all clips, several clips are asked in many ways, times are asked often."""

import random
from collections import Counter

import numpy as np
import pytest

from audioflamingo.model.weights import resolve
from audioflamingo.train import nano_render
from audioflamingo.train.nano_items import SAMPLES_PER_TOKEN, PlainTokenizer
from audioflamingo.train.nano_render import LONG_S, MOST_TURNS, SKILL_SHARES, item_of
from audioflamingo.train.nano_words import BEFORE, WORDS_HELD_OUT, asking_for_words, other_names, reworded
from audioflamingo.world.scenes import Dice
from audioflamingo.world.skills import SKILLS, make
from audioflamingo.world.skills.base import Job
from audioflamingo.world.timeline import World
from audioflamingo.world.voices import EngineMissingError, open_engine


@pytest.fixture(scope="module", autouse=True)
def engines():
    try:
        for name in ("espeak-ng", "flite"):
            open_engine(name)
    except EngineMissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tokenizer():
    return PlainTokenizer(resolve("nano") / "tokenizer.json")


def test_every_task_has_a_share():
    assert set(SKILL_SHARES) == set(SKILLS)


@pytest.mark.parametrize("name", ["chat", "several_clips", "by_example", "counting", "two_sounds"])
def test_conversations_hear_all_clips_and_differ(name, tokenizer):
    item = item_of(name, (7, 1), tokenizer)
    (placeholder,) = tokenizer.encode("<sound>")
    num_tokens = sum(len(window.samples) // SAMPLES_PER_TOKEN for window in item.windows)
    assert len(item.conversations) == len(item.weights) > 5
    for one in item.conversations:
        assert (one.ids == placeholder).sum() == num_tokens
        assert (one.learnt > 0).any()
    assert len({one.ids.tobytes() for one in item.conversations}) > 5


def answers_of(conversation):
    learnt = (conversation.learnt > 0).astype(int)
    return int((learnt[1:] > learnt[:-1]).sum())


def test_minutes_of_sound_are_asked_more_at_once(tokenizer):
    (placeholder,) = tokenizer.encode("<sound>")
    most, of_own = {}, {}
    for index in range(8):
        item = item_of("needle", (7, index), tokenizer, longest_s=100.0)
        is_long = (item.conversations[0].ids == placeholder).sum() / 25 > LONG_S
        counts = [answers_of(one) for one in item.conversations]
        most.setdefault(is_long, []).append(max(counts))
        of_own.setdefault(is_long, []).append(counts[0])
    assert max(most[False]) <= MOST_TURNS < max(most[True])
    assert max(of_own[False]) == 1 < max(of_own[True])


def test_a_scene_to_think_about_is_asked_several_questions(tokenizer):
    items = [item_of("think", (7, index), tokenizer) for index in range(3)]
    opening, closing = tokenizer.encode("<think>\n"), tokenizer.encode("</think>\n")
    ended = []
    for item in items:
        assert len(item.conversations) > 2
        for one in item.conversations:
            learnt = one.ids[one.learnt > 0].tolist()
            ended.append(learnt[: len(opening)] != opening)
            if ended[-1]:  # their thoughts stand there, and only what is answered behind them is learnt
                first = int(np.flatnonzero(one.learnt)[0])
                assert one.ids[first - len(closing) : first].tolist() == closing
                assert (one.learnt[first:] > 0).all()
    assert 0 < sum(ended) < 0.5 * len(ended)


def clips_and_job(name, index):
    world = World(longest_s=45.0)
    job = Job(world, Dice.of(3, index), random.Random(index), random.Random(index))
    return make(name, world, 3, index).clips, job


def test_clips_come_at_once_or_in_groups_and_none_is_forgotten():
    first = Counter()
    for index in range(12):
        clips, job = clips_and_job("several_clips", index)
        for _ in range(6):
            asks = nano_render._across(clips, job, comparable=True)
            assert [clip for ask in asks for clip in ask.clips] == list(range(len(clips)))
            assert asks[0].clips
            first[len(asks[0].clips) == len(clips)] += 1
    assert 0.5 < first[True] / first.total() < 0.95


def test_short_scenes_are_asked_about_times():
    clips, job = clips_and_job("temporal_order", 0)
    found = nano_render._times(clips[0], job)
    assert sum(weight for _, weight in found) == pytest.approx(nano_render.SHORT_TIMES)
    for asks, _ in found:
        assert asks[0].clips == (0,)
        assert all(" s" in ask.question + ask.answer for ask in asks)
    said, job = clips_and_job("emotion", 0)
    assert nano_render._times(said[0], job) == []


def test_listen_to_this_is_said_of_one_clip():
    asked = {reworded("Which is it?", random.Random(seed), 2) for seed in range(3_000)}
    assert "Listen to these. Which is it?" in asked
    assert not any("Listen to this" in text for text in asked)
    asked = {reworded("Which is it?", random.Random(seed)) for seed in range(3_000)}
    assert {f"{words}Which is it?" for words in BEFORE} <= asked


def test_other_names_stand_in_questions_and_never_in_options():
    question = "How often is a rooster crowing heard?\n(A) a rooster crowing\n(B) a dog barking"
    seen = {reworded(question, random.Random(seed)) for seed in range(300)}
    heads = " ".join(text.split("\n")[0] for text in seen)
    assert {name for name in ("a rooster heard", "a crowing cock", "a rooster crowing") if name in heads} == {
        "a rooster heard", "a crowing cock", "a rooster crowing",
    }  # fmt: skip
    assert {tuple(text.split("\n")[1:]) for text in seen} == {("(A) a rooster crowing", "(B) a dog barking")}
    assert all("a bird" not in names and "a clock" not in names for names in other_names().values())  # of several kinds


def test_transcripts_are_asked_for_in_many_words_and_never_in_those_held_out():
    composed = [asking_for_words(random.Random(seed)) for seed in range(4_000)]
    assert len(set(composed)) > 1_000
    assert {"Put the speech into writing.", "What are the words that are spoken?"} == WORDS_HELD_OUT
    assert not any("the speech into writing" in text.lower() for text in composed)
    assert {"Put what is said into writing.", "Please transcribe the speech."} <= set(composed)
    asked = [reworded("Transcript?", random.Random(seed)) for seed in range(1_000)]
    assert 250 < sum("ranscript?" not in text and text[-9:] != "ranscript" for text in asked) < 600
    assert not any("ranscri" in reworded("Which is it?", random.Random(seed)) for seed in range(1_000))


def test_what_do_you_hear_about_several_clips_is_answered_by_all_that_come_with_it():
    asked = []
    for seed in range(60):
        clips, job = clips_and_job("several_clips", seed % 6)
        job = Job(job.world, job.dice, random.Random(seed), random.Random(seed))
        first = nano_render._across(clips, job, comparable=True)[0]
        if first.question in nano_render.tasks.IDENTIFY:
            asked.append(first)
    assert any(len(first.clips) > 1 for first in asked)
    for first in asked:  # of a clip or a group that comes first, or of all
        assert first.answer.count(" clip: ") == (len(first.clips) if len(first.clips) > 1 else 0)
