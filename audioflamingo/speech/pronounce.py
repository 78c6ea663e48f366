"""From the letters of a word to its phones: a small CTC tagger, with lists of the words that it gets wrong.

Shapes: B words, C letters, E = 2 C places (a letter may give two phones), V phones and the blank, which comes last.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from audioflamingo.config import DecoderConfig
from audioflamingo.speech.attention import WindowTransformer
from audioflamingo.speech.known_words import known_phones
from audioflamingo.speech.phones import LETTER_IDS, LETTERS, PHONE_IDS, PHONES

PLACES_PER_LETTER = 2
BLANK = len(PHONES)
MAX_LETTERS = 64


class Pronouncer(nn.Module):
    """Letters to phones.

    Args:
        config: shape of its layers, which see the word whole.
        exceptions: words with their phones, which the layers are not asked about; they go before `known_words`.
    """

    def __init__(self, config: DecoderConfig, exceptions: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.letters = nn.Embedding(len(LETTERS) + 1, config.width)  # the last is padding
        self.places = nn.Embedding(PLACES_PER_LETTER, config.width)
        self.layers = WindowTransformer(config, PLACES_PER_LETTER * MAX_LETTERS)
        self.head = nn.Linear(config.width, len(PHONES) + 1)
        self.exceptions = {word: tuple(phones.split()) for word, phones in (exceptions or {}).items()}

    def forward(self, letters: Tensor) -> Tensor:
        """(B, C) int64, padded with len(LETTERS), to logits (B, E, V)."""
        x = self.letters(letters)[:, :, None] + self.places.weight
        x = x.flatten(1, 2)
        # Padding stands in a later block than the word, so that the word does not see it.
        is_padding = (letters == len(LETTERS)).long().repeat_interleave(PLACES_PER_LETTER, 1)
        out: Tensor = self.head(self.layers(x, is_padding))
        return out

    @torch.no_grad()
    def phones(self, word: str) -> list[int]:
        """Phone ids of one lower-case word of letters and apostrophes; never empty for a word with a letter."""
        listed = self.exceptions.get(word) or known_phones(word)
        if listed is not None:
            return [PHONE_IDS[phone] for phone in listed]
        logits = self(letter_ids([word]).to(self.head.weight.device))[0]
        ids = merged(logits.argmax(-1).tolist())
        # A word must be heard: where the blank wins everywhere, the likeliest phone of all is said.
        return ids or [int(logits[:, :BLANK].amax(0)[1:].argmax()) + 1]


def letter_ids(words: list[str]) -> Tensor:
    """(B, C) int64 of words, padded; letters beyond `MAX_LETTERS` do not occur (`text_units.MAX_TOKEN_CHARS`)."""
    longest = max(map(len, words))
    rows = [[LETTER_IDS[letter] for letter in word] + [len(LETTERS)] * (longest - len(word)) for word in words]
    return torch.tensor(rows)


def merged(path: list[int]) -> list[int]:
    """A CTC path without repetitions and blanks."""
    return [one for one, before in zip(path, [BLANK, *path], strict=False) if one not in (before, BLANK)]
