"""Texts to practise listening with: words that sentences rarely have, in an order that nobody could guess.

Sentences of a grammar have few words often and most words rarely; a recogniser trained on them alone writes a frequent
word where a rare one was said, and cannot spell what it never met. Here every word of the lexicon comes as often as any
other, further words that no sentence has come beside them (`lexicon/more_words.txt`), and some are made up letter by
letter, which an engine reads by its own rules.

All of it is for training. The words that the test split keeps for itself are never drawn (`kept_words`); words that
only the templates of the test split have may be.
"""

from __future__ import annotations

import random
from collections import defaultdict
from functools import cache

from audioflamingo.world.lexicon import MORE_FILE, sections, word_classes
from audioflamingo.world.lexicon.inflection import FORMS
from audioflamingo.world.text import (
    SentenceGenerator,
    finish,
    is_kept,
    normalise,
    train_vocabulary,
    train_words,
)

# Shares of the kinds of text.
SALAD, EXCHANGED, FEW = 0.45, 0.3, 0.13  # the rest is made-up words
SALAD_LENGTH, FEW_LENGTH, MADE_UP_LENGTH = (3, 12), (1, 2), (1, 4)
MORE_SHARE = 0.5  # of the words: from `more_words.txt`
EXCHANGED_SHARE = 0.25  # of a sentence's words, at least one
ORDER = 3  # letters that the next one of a made-up word is drawn by
MADE_UP_LETTERS = (4, 11)
START, STOP = "^", "$"


@cache
def kept_words() -> frozenset[str]:
    """Every form, as in transcripts, of the words that the test split keeps for itself."""
    kept: set[str] = set()
    for word_class in word_classes().values():
        for word in word_class.words:
            if is_kept(word):
                kept |= {normalise(form(word)) for form in FORMS.values()} | {normalise(word + "'s")}
    return frozenset(kept)


@cache
def more_words() -> tuple[str, ...]:
    """The words of `more_words.txt` that training may say."""
    words = (word for _, line in sections(MORE_FILE) for word in line.split())
    return tuple(dict.fromkeys(word for word in words if word not in kept_words() and not is_kept(word)))


def is_of_said_words(text: str) -> bool:
    """Whether training says every word of it, in a sentence or to practise with; "anna's" counts as "anna"."""
    known, more = train_vocabulary(), _more_set()
    return all(form in known or form in more or form.removesuffix("'s") in known for form in normalise(text).split())


@cache
def _more_set() -> frozenset[str]:
    return frozenset(more_words())


@cache
def _followers() -> dict[str, tuple[str, ...]]:
    """Letters by the `ORDER` letters before them, as often as the words of training have them."""
    found: dict[str, list[str]] = defaultdict(list)
    for word in sorted({normalise(word) for word in (*train_words(), *more_words())}):
        if word.isalpha():
            line = START * ORDER + word + STOP
            for place in range(ORDER, len(line)):
                found[line[place - ORDER : place]].append(line[place])
    return {before: tuple(letters) for before, letters in found.items()}


def made_up_word(rng: random.Random) -> str:
    """A word that could be English and is nobody's: letters drawn one by one."""
    followers = _followers()
    while True:
        word = START * ORDER
        while not word.endswith(STOP) and len(word) - ORDER <= MADE_UP_LETTERS[1]:
            word += rng.choice(followers[word[-ORDER:]])
        plain = word.strip(START + STOP)
        if word.endswith(STOP) and len(plain) >= MADE_UP_LETTERS[0] and plain not in kept_words():
            return plain


def drilled(rng: random.Random, sentences: SentenceGenerator) -> str:
    """A text to practise with, as display text.

    Args:
        rng: decides everything.
        sentences: of the training split, for texts in which some words are exchanged.
    """
    kind = rng.random()
    if kind < SALAD:
        return finish(_some(rng, SALAD_LENGTH))
    if kind < SALAD + EXCHANGED:
        return finish(_exchanged(rng, sentences.sentence(rng)))
    if kind < SALAD + EXCHANGED + FEW:
        return finish(_some(rng, FEW_LENGTH))
    return finish(" ".join(made_up_word(rng) for _ in range(rng.randint(*MADE_UP_LENGTH))))


def _word(rng: random.Random) -> str:
    return rng.choice(more_words() if rng.random() < MORE_SHARE else train_words())


def _some(rng: random.Random, length: tuple[int, int]) -> str:
    return " ".join(_word(rng) for _ in range(rng.randint(*length)))


def _exchanged(rng: random.Random, sentence: str) -> str:
    """A sentence in which some words are others: its melody stays, its sense does not."""
    words = normalise(sentence).split()
    places = rng.sample(range(len(words)), max(1, round(EXCHANGED_SHARE * len(words))))
    for place in places:
        words[place] = _word(rng)
    return " ".join(words)
