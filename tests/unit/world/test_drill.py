"""Texts to practise with: what they are made of, and that the test split's words are never among them."""

import random

import pytest

from audioflamingo.world import drill
from audioflamingo.world.scenes import Dice, Source, _text
from audioflamingo.world.text import SentenceGenerator, contains_unseen, normalise

NUM_TEXTS = 3_000


@pytest.fixture(scope="module")
def texts():
    rng, sentences = random.Random(5), SentenceGenerator("train")
    return [drill.drilled(rng, sentences) for _ in range(NUM_TEXTS)]


def test_the_same_seed_gives_the_same_texts(texts):
    rng, sentences = random.Random(5), SentenceGenerator("train")
    assert [drill.drilled(rng, sentences) for _ in range(50)] == texts[:50]


def test_no_word_that_the_test_split_keeps_is_said(texts):
    kept = {word for word in drill.kept_words() if contains_unseen(word)}
    said = {word for text in texts for word in normalise(text).split()}
    assert len(kept) > 1_000
    assert len(said) > 5_000
    assert not said & kept
    assert not set(drill.more_words()) & kept


def test_the_test_split_does_say_kept_words():
    rng, sentences = random.Random(1), SentenceGenerator("test")
    said = {word for _ in range(400) for word in normalise(sentences.sentence(rng)).split()}
    assert len({word for word in said & drill.kept_words() if contains_unseen(word)}) > 50


def test_rare_words_come_as_often_as_others():
    """A word of the lexicon is one of some 14,000, so among 3,000 texts hardly any comes ten times."""
    rng, sentences = random.Random(2), SentenceGenerator("train")
    counts: dict[str, int] = {}
    for _ in range(NUM_TEXTS):
        for word in normalise(drill._some(rng, drill.SALAD_LENGTH)).split():
            counts[word] = counts.get(word, 0) + 1
    assert max(counts.values()) < 80
    assert len(counts) > 8_000
    plain: dict[str, int] = {}
    for _ in range(NUM_TEXTS):
        for word in normalise(sentences.sentence(rng)).split():
            plain[word] = plain.get(word, 0) + 1
    assert len(plain) < len(counts)


def test_made_up_words_are_words_of_nobody_and_look_like_english():
    rng = random.Random(3)
    words = [drill.made_up_word(rng) for _ in range(500)]
    assert all(word.isascii() and word.isalpha() and 4 <= len(word) <= 11 for word in words)
    new = sum(contains_unseen(word) for word in words)
    assert new > 350
    assert sum(any(vowel in word for vowel in "aeiouy") for word in words) > 490


def test_more_words_are_plain_and_none_comes_twice():
    words = [word for _, line in drill.sections(drill.MORE_FILE) for word in line.split()]
    assert len(words) > 5_000
    assert len(set(words)) == len(words)
    assert all(normalise(word) == word for word in words)


def test_a_source_says_them_only_where_it_is_told_to():
    plain, drilled = Source("train"), Source("train", drill=1.0)
    sentences = SentenceGenerator("train")
    assert _text(plain, Dice.of(7)) == sentences.sentence(Dice.of(7).plain)
    assert _text(drilled, Dice.of(7)) != sentences.sentence(Dice.of(7).plain)


def test_what_training_says_is_known_word_by_word():
    (kept,) = [word for word in sorted(drill.kept_words()) if contains_unseen(word) and word.isalpha()][:1]
    (more,) = drill.more_words()[-1:]
    assert drill.is_of_said_words(f"Every {more} will sing, Anna's dog said.")
    assert not drill.is_of_said_words(f"every {kept} will sing")
