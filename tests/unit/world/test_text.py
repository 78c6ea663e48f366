"""Sentences: same on every machine, well-formed, varied, and with a test side that train never utters."""

import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import FlamingoError
from audioflamingo.world import text as world_text
from audioflamingo.world.lexicon import word_classes
from audioflamingo.world.lexicon.grammar import Grammar
from audioflamingo.world.lexicon.inflection import FORMS
from audioflamingo.world.lexicon.numbers import cardinal, ordinal
from audioflamingo.world.text import SentenceGenerator, contains_unseen, finish, normalise

SAMPLE = 20_000


def _sentences(split, count, seed=0):
    generator, rng = SentenceGenerator(split), random.Random(seed)
    return [generator.sentence(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def train():
    return _sentences("train", SAMPLE)


@pytest.fixture(scope="module")
def held_out():
    return _sentences("test", SAMPLE)


def test_same_seed_same_sentences():
    assert _sentences("train", 300, 5) == _sentences("train", 300, 5)
    assert _sentences("test", 30, 5) == _sentences("test", 30, 5)
    assert _sentences("train", 30, 5) != _sentences("train", 30, 6)


def test_sentences_do_not_depend_on_the_hash_seed():
    code = (
        "import random; from audioflamingo.world.text import SentenceGenerator; r = random.Random(9); "
        "print([SentenceGenerator(s).sentence(r) for s in ('train', 'test') for _ in range(40)])"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]


def test_transcripts_have_only_letters_apostrophes_and_single_blanks(train, held_out):
    for sentence in train + held_out:
        assert re.fullmatch(r"[a-z]+('[a-z]+)*( [a-z]+('[a-z]+)*)*", normalise(sentence)), sentence


def test_display_text_starts_with_a_capital_and_ends_with_a_mark(train):
    for sentence in train:
        assert re.match(r"\"?[A-Z]", sentence), sentence
        assert '""' not in sentence, sentence
        assert sentence.rstrip('"')[-1] in ".?!,", sentence
        assert not re.search(r"  | [,.?!]|[{}()|_]|[.?!]{2}|[.?!],", sentence), sentence


def test_words_per_sentence(train):
    lengths = [len(normalise(sentence).split()) for sentence in train]
    assert min(lengths) >= 2
    assert max(lengths) <= 24
    assert 8 <= sum(lengths) / len(lengths) <= 10


def test_splits_are_disjoint(train, held_out):
    assert not {normalise(s) for s in train} & {normalise(s) for s in held_out}


def test_train_has_no_unseen_words_and_test_has_its_share(train, held_out):
    assert not any(map(contains_unseen, train))
    share = sum(map(contains_unseen, held_out)) / len(held_out)
    assert world_text.UNSEEN_SHARE <= share <= world_text.UNSEEN_SHARE + 0.15
    seen_sentences = [s for s in held_out if not contains_unseen(s)]
    assert all(world_text.stable_hash(normalise(s)) % world_text.SENTENCE_HASH_ONE_IN == 0 for s in seen_sentences)


def test_templates_are_held_out_in_every_section():
    train_rules, test_rules = world_text._split_rules("train"), world_text._split_rules("test")
    for name in world_text.TEMPLATE_MIXTURE:
        train_lines, test_lines = ({line for _, line in rules[name]} for rules in (train_rules, test_rules))
        assert test_lines
        assert not train_lines & test_lines
    ours = {name: sum(len(rules[name]) for rules in (train_rules, test_rules)) for name in world_text.TEMPLATE_MIXTURE}
    assert sum(ours.values()) - ours["structure"] - ours["composite"] >= 600


def test_variety_of_50_000_sentences():
    start = time.perf_counter()
    transcripts = [normalise(s) for s in _sentences("train", 50_000, seed=1)]
    seconds = time.perf_counter() - start
    words, pairs = Counter(), Counter()
    for transcript in transcripts:
        tokens = transcript.split()
        words.update(tokens)
        pairs.update(pairwise(tokens))
    print(f"{len(words)} words, {len(pairs)} word pairs, {len(set(transcripts))} distinct, {50_000 / seconds:.0f}/s")
    assert len(words) >= 5000
    assert len(pairs) >= 50_000
    assert len(set(transcripts)) >= 40_000


def test_articles_in_a_sample(train):
    joined = " ".join(train)
    assert not re.search(r"\b[Aa] (apple|old|umbrella|hour|honest|egg|elephant|orange|ugly)\b", joined)
    assert not re.search(
        r"\b[Aa]n (university|unicycle|useful|european|one|banana|house|uniform)\b", joined, re.IGNORECASE
    )


def test_agreement_in_a_sample(train):
    joined = "\n".join(train)
    assert not re.search(r"(?:^|\n)(?:He|She) (?:have|are|do|were|want|go)\b", joined)
    assert not re.search(r"(?:^|\n)(?:They|We) (?:has|is|does|was|wants|goes)\b", joined)
    assert not re.search(r"\b(?:two|three|seven|many|several) (?:man|woman|child|mouse|apple|dog|house)\b", joined)
    assert not re.search(
        r"\b(?:childs|mans|mouses|foots|goed|eated|buyed|runned|taked|makeing|stoped|writeing)\b", joined
    )


def test_counted_nouns_before_a_plural_verb_are_plural(train):
    singular = {word for name in ("thing", "food", "animal") for word in word_classes()[name].words}
    singular -= {FORMS["pl"](word) for word in singular}
    counted = re.findall(r"\b(?:several|many|both|two|six|twelve|a few) ([a-z]+) (?:are|were|have)\b", " ".join(train))
    assert len(counted) > 20
    assert not [word for word in counted if word in singular]


@pytest.mark.parametrize(
    ("form", "word", "expected"),
    [
        ("pl", "city", "cities"), ("pl", "boy", "boys"), ("pl", "church", "churches"), ("pl", "child", "children"),
        ("pl", "sheep", "sheep"), ("pl", "bookshelf", "bookshelves"), ("pl", "bus stop", "bus stops"),
        ("pl", "potato", "potatoes"), ("pl", "piano", "pianos"), ("pl", "mother-in-law", "mothers-in-law"),
        ("s", "go", "goes"), ("s", "try", "tries"), ("s", "wash", "washes"), ("s", "look after", "looks after"),
        ("s", "have", "has"), ("ed", "stop", "stopped"), ("ed", "visit", "visited"), ("ed", "put on", "put on"),
        ("ed", "carry", "carried"), ("en", "write", "written"), ("ed", "travel", "travelled"), ("ed", "quit", "quit"),
        ("ing", "lie", "lying"), ("ing", "see", "seeing"), ("ing", "make", "making"), ("ing", "begin", "beginning"),
        ("ing", "listen", "listening"), ("ing", "give back", "giving back"), ("ing", "fix", "fixing"),
        ("er", "big", "bigger"), ("er", "happy", "happier"), ("est", "wide", "widest"), ("er", "quick", "quicker"),
        ("ly", "gentle", "gently"), ("ly", "happy", "happily"), ("ly", "automatic", "automatically"),
        ("ly", "safe", "safely"), ("ness", "lonely", "loneliness"), ("ly", "shy", "shyly"), ("ness", "shy", "shyness"),
        ("ed", "panic", "panicked"), ("ing", "mimic", "mimicking"), ("ed", "chisel", "chiselled"),
    ],
)  # fmt: skip
def test_inflection(form, word, expected):
    assert FORMS[form](word) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("how far is it to Berlin?", "How far is it to Berlin?"),
        ("i saw a apple and a useful uniform", "I saw an apple and a useful uniform."),
        ("a honest man waited a hour", "An honest man waited an hour."),
        ("a unimportant  idea , a ukulele", "An unimportant idea, a ukulele."),
        ('"come in," said Anna', '"Come in," said Anna.'),
        ('"who is it?" asked Ben', '"Who is it?" asked Ben.'),
        ('he said, "come in."', 'He said, "Come in."'),
        ("is it noon?, and who cares?", "Is it noon, and who cares?"),
        ("thanks. see you", "Thanks. See you."),
    ],
)
def test_finish(raw, expected):
    assert finish(raw) == expected


@pytest.mark.parametrize(
    ("display", "transcript"),
    [
        ("How far is it to Berlin?", "how far is it to berlin"),
        ("It\u2019s twenty-one o'clock!", "it's twenty one o'clock"),
        ("\"Don't,\" said O'Brien.", "don't said o'brien"),
        ("'Quoted' caf\u00e9 \u2013 the dogs' home", "quoted cafe the dogs home"),
        ("", ""),
    ],
)
def test_normalise(display, transcript):
    assert normalise(display) == transcript


@given(st.text())
def test_normalise_is_idempotent_and_clean(raw):
    transcript = normalise(raw)
    assert normalise(transcript) == transcript
    assert re.fullmatch(r"[a-z' ]*", transcript)


@given(st.integers(0, 999_999_999))
def test_cardinals_and_ordinals_are_words(number):
    assert re.fullmatch(r"[a-z -]+", cardinal(number))
    assert ordinal(number)[-2:] in ("st", "nd", "rd", "th")


def test_numbers_in_words():
    assert cardinal(342) == "three hundred and forty-two"
    assert cardinal(2005) == "two thousand and five"
    assert cardinal(1_200_000) == "one million two hundred thousand"
    assert [ordinal(n) for n in (1, 12, 20, 21, 33)] == [
        "first",
        "twelfth",
        "twentieth",
        "twenty-first",
        "thirty-third",
    ]


def test_special_kinds_of_both_splits():
    for split in ("train", "test"):
        generator, rng = SentenceGenerator(split), random.Random(3)
        for _ in range(20):
            assert re.fullmatch(r"([a-zA-Z'-]+. )?([A-Z], )*[A-Z]\.", generator.spelled(rng), re.DOTALL)
            assert 3 <= len(normalise(generator.word_salad(rng)).split()) <= 24
            assert 3 <= len(normalise(generator.digit_string(rng)).split()) <= 20


def test_lexicon_is_large_and_plain():
    classes = word_classes()
    for name, least in {"first_name": 250, "last_name": 100, "place_name": 150}.items():
        assert len(classes[name].words) >= least
    assert len(classes["verb_any"].words) >= 600
    assert len(classes["a_any"].words) >= 500
    for name, word_class in classes.items():
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z' -]*", word) for word in word_class.words), name


def test_unknown_split_and_broken_templates_are_refused():
    with pytest.raises(FlamingoError, match="'dev'"):
        SentenceGenerator("dev")
    grammar = Grammar({}, lambda words, form: list(words))
    with pytest.raises(FlamingoError, match="unbalanced"):
        grammar.parse("a (broken|one")
    with pytest.raises(FlamingoError, match="no known class"):
        grammar.parse("a {nonsense_class}")
