"""The pronouncer's training: from the words that the teacher said to a small CTC model and a list of its exceptions."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.speech.phones import LETTER_IDS, PHONE_IDS, PHONES
from audioflamingo.speech.pronounce import BLANK, PLACES_PER_LETTER, Pronouncer, letter_ids, merged
from audioflamingo.train.voice_data import FliteTeacher

ALONE_VOICE = "cmu_us_kal16"  # the quickest; its lexicon is that of all voices
HELD_OUT_ONE_IN = 20
LETTER_NAMES = tuple("bcdefghijklmnopqrstuvwxyz")  # "a" alone is the article
LETTER_A = {"ay": "ey1"}  # how `spoken.spelled` writes its name


def lexicon_of(counts: Mapping[tuple[str, str], int]) -> dict[str, str]:
    """Each word's most frequent phones; only words of our letters."""
    ways: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (word, phones), count in counts.items():
        if word and all(letter in LETTER_IDS for letter in word):
            ways[word][phones] += count
    return {word: min(said, key=lambda one: (-said[one], one)) for word, said in sorted(ways.items())}


def spoken_alone(teacher: FliteTeacher, words: list[str]) -> dict[str, str]:
    """How the teacher says each word by itself: for spelled letters and words with an apostrophe."""
    found = {}
    for word in words:
        segments, _, _ = teacher.utterance(word, ALONE_VOICE)
        phones = [segment.phone for segment in segments if segment.word_key]
        if phones:
            found[word] = " ".join(phones)
    return found


def pronouncer_loss(model: Pronouncer, lexicon: Mapping[str, str], words: list[str]) -> Tensor:
    """CTC over these words."""
    device = model.head.weight.device
    targets = [[PHONE_IDS[phone] for phone in lexicon[word].split()] for word in words]
    logits = model(letter_ids(words).to(device)).float().log_softmax(-1)
    return functional.ctc_loss(
        logits.transpose(0, 1),
        torch.tensor([phone for row in targets for phone in row], device=device),
        torch.tensor([PLACES_PER_LETTER * len(word) for word in words], device=device),
        torch.tensor([len(row) for row in targets], device=device),
        blank=BLANK,
        zero_infinity=True,  # a few abbreviations have more phones than places; they become exceptions
    )


def held_out(word: str) -> bool:
    """Whether a word is only tested on."""
    return random.Random(word).random() * HELD_OUT_ONE_IN < 1


def wrong_words(model: Pronouncer, lexicon: Mapping[str, str]) -> dict[str, str]:
    """The words that the layers get wrong, with what is right."""
    said = said_by_layers(model, lexicon)
    return {word: lexicon[word] for word, phones in said.items() if phones != lexicon[word]}


@torch.no_grad()
def said_by_layers(model: Pronouncer, words: Iterable[str], batch_size: int = 512) -> dict[str, str]:
    """How the layers alone say these words, which come back sorted by length."""
    ordered, said = sorted(words, key=lambda word: (len(word), word)), {}
    for start in range(0, len(ordered), batch_size):
        part = ordered[start : start + batch_size]
        paths = model(letter_ids(part).to(model.head.weight.device)).argmax(-1).tolist()
        for word, path in zip(part, paths, strict=True):
            said[word] = " ".join(PHONES[index] for index in merged(path[: PLACES_PER_LETTER * len(word)]))
    return said
