"""Every list of phrasings: long enough, its last one held out, and every sentence asks for one thing only."""

import random
import re
from collections import defaultdict

import pytest

from audioflamingo.world import tasks
from audioflamingo.world.patterns import PATTERNS
from audioflamingo.world.said import draw_slots
from audioflamingo.world.skills import (
    chat,
    long,
    music,
    phrasings,
    phrasings_choices,
    phrasings_clips,
    phrasings_events,
    phrasings_speech,
    times,
    whole,
)
from audioflamingo.world.skills.base import ORDINALS

FEWEST, MOST = 8, 14
SLOT = re.compile(r"{(\w+)}")
SAME_SLOT = {"does": "a", "Does": "a", "happens": "a"}  # clauses about the kind that "a" names
NO_HELD_OUT = {"WITHOUT_AUDIO", "GREETING"}
SAME_QUESTION = (  # lists whose answers are the same, so that they may share sentences
    {"tasks.IDENTIFY", "phrasings.WHAT", "chat.WHAT"},
    {"tasks.TRANSCRIBE", "phrasings_speech.SAID", "whole.TRANSCRIBE"},
    {"tasks.CAPTION", "whole.CAPTION"},
    {"tasks.FIRST", "phrasings.FIRST", "phrasings.NTH"},
    {"tasks.LAST", "phrasings.LAST"},
    {"tasks.WHICH_FIRST", "phrasings.EARLIER"},
    {"tasks.PRESENT", "phrasings.PRESENT"},
    {"tasks.SPEAKER_SEX", "phrasings_speech.SEX"},
    {"tasks.BACKGROUND", "phrasings.BACKGROUND", "phrasings.BEHIND", "phrasings.CONTINUOUS"},
)


def constants(module):
    """Module-level tuples of sentences, by name."""
    for name, value in vars(module).items():
        is_list = name.isupper() and name not in NO_HELD_OUT and isinstance(value, tuple)
        if is_list and all(isinstance(text, str) and (text[0].isupper() or text[0] == "{") for text in value):
            yield name, value


def all_lists():
    found = {}
    modules = (tasks, phrasings, phrasings_choices, phrasings_clips, phrasings_events, phrasings_speech)
    for module in (*modules, long, chat, times, whole):
        room = module.__name__.rsplit(".", 1)[1]
        found |= {f"{room}.{name}": value for name, value in constants(module)}
    found |= {f"music.{sub.name}": sub.phrasings for sub in (*music.KNOWLEDGE, *music.REASONING)}
    for index, pattern in enumerate(PATTERNS):
        found |= {f"said.{index}.{slot}": texts for slot, texts in pattern.asks.items()}
    return found


LISTS = all_lists()


def words_of(text):
    return re.sub(r"[^\w\s']", " ", SLOT.sub(" ", text).lower()).split()


def plain(text):
    """All forms of a sentence without capitals and punctuation; an ordinal is put in, other slots are one word."""
    forms = [text.replace("{nth}", nth) for nth in ORDINALS] if "{nth}" in text else [text]
    return {" ".join(re.sub(r"[^\w\s]", " ", SLOT.sub("x", form).lower()).split()) for form in forms}


def test_all_lists_are_found():
    rooms = [name.split(".")[0] for name in LISTS]
    assert {room: rooms.count(room) for room in dict.fromkeys(rooms)} == {
        "tasks": 11, "phrasings": 18, "phrasings_choices": 3, "phrasings_clips": 20, "phrasings_events": 12,
        "phrasings_speech": 10, "long": 7, "chat": 5, "times": 3, "whole": 4, "music": 18, "said": 29,
    }  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_enough_different_phrasings_and_all_can_be_filled(name):
    texts = LISTS[name]
    assert FEWEST <= len(texts) - 1 <= MOST
    assert len({form for text in texts for form in plain(text)}) == sum(len(plain(text)) for text in texts)
    if not name.startswith("said."):
        assert len({frozenset(SAME_SLOT.get(slot, slot) for slot in SLOT.findall(text)) for text in texts}) == 1


def test_no_held_out_sentence_is_asked_in_training():
    trained = {form for texts in LISTS.values() for text in texts[:-1] for form in plain(text)}
    assert {name: texts[-1] for name, texts in LISTS.items() if plain(texts[-1]) & trained} == {}


def test_a_sentence_asks_for_one_thing_only():
    owners = defaultdict(set)
    for name, texts in LISTS.items():
        for text in texts:
            for form in plain(text):
                owners[form].add(name)
    assert {
        form: names
        for form, names in owners.items()
        if len(names) > 1 and not any(names <= group for group in SAME_QUESTION)
    } == {}


@pytest.mark.parametrize("name", LISTS)
def test_the_words_of_a_held_out_sentence_occur_in_training(name):
    room = name.split(".")[0].split("_")[0]  # the sounds' and the speech's lists are neighbours
    near = [texts for other, texts in LISTS.items() if other.split(".")[0].split("_")[0] == room]
    known = {word for texts in near for text in texts[:-1] for word in words_of(text)}
    assert set(words_of(LISTS[name][-1])) <= known


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.text)
def test_a_question_about_a_statement_names_nothing_unsaid_and_not_its_answer(pattern):
    said = set(draw_slots(random.Random(0), pattern.text))
    for slot, texts in pattern.asks.items():
        for text in texts:
            assert set(SLOT.findall(text)) <= said - {slot}


def test_families_and_instruments_and_the_two_kinds_of_tempo_are_told_apart():
    family = re.compile("family|group|section", re.IGNORECASE)
    assert all(family.search(text) for text in LISTS["music.lead_family"])
    assert not any(family.search(text) for text in LISTS["music.lead_instrument"])
    assert all("minute" in text for text in LISTS["music.tempo_bpm"])
    assert not any("minute" in text for text in (*LISTS["music.tempo"], *LISTS["music.tempo_change"]))
