"""An endless source of everyday English sentences for speech engines, with a held-out test side.

Every sentence is made by a grammar over a hand-written lexicon (`audioflamingo.world.lexicon`); there is no corpus.
The two splits are disjoint by construction:

* `HELD_OUT_TEMPLATE_PERCENT` percent of the templates with `MIN_HELD_OUT_SLOTS` slots or more, chosen by a stable hash,
  are used only by "test";
* a sentence belongs to "test" exactly when the hash of its transcript says so, or when it has a word that "train" never
  utters; the other split draws again;
* about one word in `HELD_OUT_WORD_ONE_IN` of the open classes is never used by "train"; "test" puts such words into
  `UNSEEN_SHARE` of its sentences.

Only `random.Random.random` and CRC-32 decide anything, so one seed gives the same sentences on every machine.
"""

import random
import re
import unicodedata
import zlib
from bisect import bisect_right
from collections.abc import Callable
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from audioflamingo.errors import OptionError
from audioflamingo.world.lexicon import (
    ADJECTIVE_FILE,
    NOUN_FILE,
    VERB_FILE,
    WordClass,
    templates,
    word_classes,
)
from audioflamingo.world.lexicon.grammar import Grammar, Node, reachable_texts
from audioflamingo.world.lexicon.inflection import FORMS
from audioflamingo.world.lexicon.numbers import NATO, NUMBER_WORDS, below, digits, pick

Split = Literal["train", "test"]

SENTENCE_HASH_ONE_IN = 50
HELD_OUT_TEMPLATE_PERCENT = 16  # of those with enough slots
MIN_HELD_OUT_SLOTS = 2
MAX_WEIGHED_SLOTS = 4
HELD_OUT_WORD_ONE_IN = 33
UNSEEN_SHARE = 0.25
UNSEEN_SLOT_SHARE = 0.4  # share of unseen words in one slot of a sentence that is to have one
MIN_WORDS, MAX_WORDS = 2, 24
MAX_DRAWS = 100_000

# Relative frequencies. The first group are template sections, the second are methods of the generator.
TEMPLATE_MIXTURE = {
    "statement": 30.0,
    "question": 13.0,
    "command": 7.0,
    "exclaim": 2.5,
    "dialogue": 6.0,
    "structure": 20.0,
    "composite": 16.0,
    "number": 4.0,
}
SPECIAL_MIXTURE = {"word_salad": 4.0, "spelled": 1.0, "digit_string": 1.0}

SALAD_FORMS = {NOUN_FILE: ("", "pl"), VERB_FILE: ("", "s", "ed", "en", "ing"), ADJECTIVE_FILE: ("",)}
SALAD_LENGTH = (3, 11)
NOT_SALAD = frozenset({"mass"})  # classes whose plural is not used

_NOT_TRANSCRIPT = re.compile(r"[^a-z' ]+")
_LOOSE_APOSTROPHE = re.compile(r"(?<![a-z])'|'(?![a-z])")
_ARTICLE = re.compile(r"\b([Aa]) (?=([A-Za-z]+))")
_BARE_CLOSING_QUOTE = re.compile(r"(?<=[A-Za-z])\"$")
_MARK_BEFORE_COMMA = re.compile(r"[.?!](?=,)")
_BLANK_BEFORE_MARK = re.compile(r" +([,.?!'])")
_SENTENCE_START = re.compile(r"(?:^\"?|[.?!] +\"?|, \"(?!and ))([a-z])")
_CONSONANT_SOUND = re.compile(r"(?:u(?:n(?:i(?!n|m)|anim)|s[aeu]|t[ei]|ku|ran)|eu|ew|one\b|once\b)", re.IGNORECASE)
_SILENT_H = re.compile(r"(?:hour|honest|honou?r|heir)", re.IGNORECASE)
_LETTER_WITH_VOWEL_SOUND = frozenset("AEFHILMNORSX")


def stable_hash(text: str) -> int:
    """CRC-32 of the text: the same on every machine and in every run."""
    return zlib.crc32(text.encode())


def _without_accents(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text.replace("\u2019", "'")).lower()
    return "".join(char for char in plain if not unicodedata.combining(char))


def normalise(text: str) -> str:
    """Display text to transcript: lower case, letters a-z, apostrophes inside words and single blanks.

    Accents are dropped ("café" -> "cafe"), every other character separates words; numbers are not expanded.
    """
    plain = text.lower() if text.isascii() else _without_accents(text)
    plain = _LOOSE_APOSTROPHE.sub(" ", _NOT_TRANSCRIPT.sub(" ", plain))
    return " ".join(plain.split())


def _article(match: re.Match[str]) -> str:
    word = match.group(2)
    vowel = word in _LETTER_WITH_VOWEL_SOUND if len(word) == 1 else word[0] in "aeiouAEIOU"
    if _CONSONANT_SOUND.match(word):
        vowel = False
    elif _SILENT_H.match(word):
        vowel = True
    return match.group(1) + ("n " if vowel else " ")


def finish(text: str) -> str:
    """Raw expansion to display text: a/an, blanks, capitals at sentence starts, a final mark."""
    text = " ".join(text.split())
    text = _MARK_BEFORE_COMMA.sub("", _BLANK_BEFORE_MARK.sub(r"\1", text))
    text = _BARE_CLOSING_QUOTE.sub('."', _ARTICLE.sub(_article, text))
    text = _SENTENCE_START.sub(lambda match: match.group(0)[:-1] + match.group(1).upper(), text)
    return text if text[-1] in '.?!"' else text + "."


def is_kept(word: str) -> bool:
    """Whether the test split keeps a base form of the lexicon for itself."""
    return " " not in word and stable_hash("word " + word.lower()) % HELD_OUT_WORD_ONE_IN == 0


def _template_split(line: str) -> Split:
    if line.count("{") < MIN_HELD_OUT_SLOTS:
        return "train"  # it makes few sentences, which a test set would repeat
    return "test" if stable_hash("split " + line) % 100 < HELD_OUT_TEMPLATE_PERCENT else "train"


def _variety(line: str) -> int:
    """Weight of a template: one without slots makes a single sentence and so comes up more rarely."""
    return 1 + min(line.count("{"), MAX_WEIGHED_SLOTS)


def _split_rules(split: Split) -> dict[str, list[tuple[int, str]]]:
    sections = templates("templates_")
    own = {
        name: [(w * _variety(line), line) for w, line in lines if _template_split(line) == split]
        for name, lines in sections.items()
    }
    return {**templates("rules_"), **own}


def _salad_surfaces(word_class: WordClass, words: list[str]) -> list[str]:
    forms = SALAD_FORMS.get(word_class.file, ("",))
    return [FORMS[form](word) for word in words if " " not in word for form in forms]


def _train_surfaces(words: tuple[str, ...], form: str) -> list[str]:
    return [FORMS[form](word) for word in words if not is_kept(word)]


def _all_salad_words(keep: Callable[[str], bool]) -> list[str]:
    surfaces = [
        surface
        for word_class in word_classes().values()
        for surface in _salad_surfaces(word_class, [word for word in word_class.words if keep(word)])
    ]
    return list(dict.fromkeys(surfaces))


@lru_cache(maxsize=1)
def _train_grammar() -> Grammar:
    return Grammar(_split_rules("train"), _train_surfaces)


@lru_cache(maxsize=1)
def train_words() -> tuple[str, ...]:
    """Single words that the train split may say, in their common forms, each once."""
    return tuple(_all_salad_words(lambda word: not is_kept(word)))


@lru_cache(maxsize=1)
def train_vocabulary() -> frozenset[str]:
    """Every word form (as in transcripts) that the train split can utter."""
    texts = list(reachable_texts(_train_grammar().rule(name) for name in TEMPLATE_MIXTURE))
    texts += [
        "an",
        *NUMBER_WORDS,
        *NATO,
        *"abcdefghijklmnopqrstuvwxyz",
        *train_words(),
    ]
    return frozenset(word for text in texts for word in normalise(text).split())


def contains_unseen(text: str) -> bool:
    """Whether the text has a word that the train split never utters; "anna's" counts as "anna"."""
    known = train_vocabulary()
    return any(word not in known and word.removesuffix("'s") not in known for word in normalise(text).split())


def _unseen_surfaces(words: tuple[str, ...], form: str) -> list[str]:
    seen = _train_surfaces(words, form)
    unseen = [surface for surface in (FORMS[form](w) for w in words if is_kept(w)) if contains_unseen(surface)]
    if not unseen:
        return seen
    copies = max(1, round(UNSEEN_SLOT_SHARE / (1 - UNSEEN_SLOT_SHARE) * len(seen) / len(unseen)))
    return seen + unseen * copies


@lru_cache(maxsize=3)
def _mixture(split: Split, unseen: bool) -> tuple[list[Node], list[float], list[str]]:
    """Template roots, cumulative shares of roots and special methods, and the words of the salad."""
    surfaces = _unseen_surfaces if unseen else _train_surfaces
    grammar = _train_grammar() if split == "train" else Grammar(_split_rules(split), surfaces)
    roots = [grammar.rule(name) for name in TEMPLATE_MIXTURE]
    weights = [*TEMPLATE_MIXTURE.values(), *SPECIAL_MIXTURE.values()]
    total = sum(weights)
    salad = _all_salad_words(lambda word: unseen or not is_kept(word))
    return roots, [value / total for value in accumulate(weights)], salad


class SentenceGenerator:
    """Random everyday sentences of one split.

    Args:
        split: "train" or "test"; see the top of this file for what keeps them apart.

    Raises:
        OptionError: another split is named.
    """

    def __init__(self, split: Split) -> None:
        if split not in ("train", "test"):
            raise OptionError(f"split is {split!r}; it must be 'train' or 'test'")
        self.split = split
        self._seen = _mixture(split, False)
        self._unseen = _mixture(split, True) if split == "test" else self._seen

    def sentence(self, rng: random.Random) -> str:
        """One sentence as display text: capitals and final punctuation, numbers in words.

        Its transcript (`normalise`) has `MIN_WORDS` to `MAX_WORDS` words.
        """
        return self._accepted(rng, self._draw)

    def word_salad(self, rng: random.Random) -> str:
        """Unrelated words of all classes and forms, to force listening instead of guessing."""
        return self._accepted(rng, self._draw_salad)

    def spelled(self, rng: random.Random) -> str:
        """A word letter by letter, sometimes after the word itself: "Berlin. B, E, R, L, I, N."."""
        return self._accepted(rng, self._draw_spelled)

    def digit_string(self, rng: random.Random) -> str:
        """Three to ten digits in words."""
        return self._accepted(rng, self._draw_digits)

    def _accepted(self, rng: random.Random, draw: Callable[[random.Random, bool], str]) -> str:
        want_unseen = self.split == "test" and rng.random() < UNSEEN_SHARE
        for _ in range(MAX_DRAWS):
            text = finish(draw(rng, want_unseen))
            if self._belongs(text, want_unseen):
                return text
            if draw == self._draw_digits:
                want_unseen = False  # digits have no unseen words
        raise AssertionError(f"no {self.split} sentence in {MAX_DRAWS} draws")

    def _belongs(self, text: str, want_unseen: bool) -> bool:
        transcript = normalise(text)
        if not MIN_WORDS <= transcript.count(" ") + 1 <= MAX_WORDS:
            return False
        if self.split == "train":
            return stable_hash(transcript) % SENTENCE_HASH_ONE_IN != 0
        if want_unseen:
            return contains_unseen(transcript)
        return stable_hash(transcript) % SENTENCE_HASH_ONE_IN == 0

    def _draw(self, rng: random.Random, want_unseen: bool) -> str:
        roots, shares, _ = self._unseen if want_unseen else self._seen
        kind = bisect_right(shares, rng.random())
        if kind >= len(roots):
            specials = (self._draw_salad, self._draw_spelled, self._draw_digits)
            return specials[kind - len(roots)](rng, want_unseen)
        out: list[str] = []
        roots[kind].expand(rng, out)
        return "".join(out)

    def _draw_salad(self, rng: random.Random, want_unseen: bool) -> str:
        words = (self._unseen if want_unseen else self._seen)[2]
        return " ".join(pick(rng, words) for _ in range(below(rng, SALAD_LENGTH[1], SALAD_LENGTH[0])))

    def _draw_spelled(self, rng: random.Random, want_unseen: bool) -> str:
        words = (self._unseen if want_unseen else self._seen)[2]
        word = pick(rng, words)
        letters = ", ".join(char for char in word.upper() if char.isalpha())
        return letters if rng.random() < 0.3 else f"{word}. {letters}"

    def _draw_digits(self, rng: random.Random, want_unseen: bool) -> str:
        return digits(rng, below(rng, 11, 3))
