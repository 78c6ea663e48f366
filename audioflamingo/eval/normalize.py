"""The words of transcripts, evened out before they are compared: plainly, or as Whisper's English normalizer does it.

Published word error rates rest on the latter: numbers in digits, contractions and titles written out, no "um", American
spellings. The package `whisper-normalizer` has Whisper's rules and its table of spellings; what it adds to them is
taken out again.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from audioflamingo.errors import OptionError
from audioflamingo.eval.captions import MAX_TEXT_CHARS
from audioflamingo.eval.metrics import words_of

Normalization = Literal["plain", "english"]
NORMALIZATIONS: tuple[Normalization, ...] = get_args(Normalization)
PACKAGE = "whisper-normalizer"

WordsOf = Callable[[str], list[str]]

_NOT_WHISPERS = (r"\bkinda\b", r"\bsorta\b", r"\bdunno\b", r"\bcause\b")  # "the cause" would become "the because"
_BRACKETS = (  # what opens one, what closes it, and all of it: the package drops what stands between them
    (re.compile(r"[<\[]"), ">]", re.compile(r"[<\[][^>\]]*[>\]]")),
    (re.compile(r"\("), ")", re.compile(r"\([^)]+\)")),
)


@dataclass(frozen=True)
class Normalizer:
    """How the words of transcripts are evened out.

    Attributes:
        description: for reports, and to tell runs apart: what is done, and by which package.
        words: makes words of a text; a ValueError where it cannot.
    """

    description: str
    words: WordsOf


PLAIN = Normalizer("plain", words_of)


def normalizer(name: Normalization) -> Normalizer:
    """The normalizer of this name.

    `plain` puts words in lower case, without punctuation. `english` is Whisper's. It refuses texts of more than
    `MAX_TEXT_CHARS`, and may change what it has normalized before: "o o o" becomes "000", and that "0".

    Raises:
        OptionError: there is none, or its package is not installed.
    """
    if name not in NORMALIZATIONS:
        raise OptionError(f"normalize is {name!r}; allowed: {', '.join(NORMALIZATIONS)}")
    return PLAIN if name == "plain" else _english()


def _english() -> Normalizer:
    try:
        from whisper_normalizer.english import EnglishTextNormalizer
    except ImportError as error:
        raise OptionError(
            f"normalize=english needs the package {PACKAGE}, which is not installed: "
            "pip install 'audioflamingo[normalize]'"
        ) from error
    theirs: Any = EnglishTextNormalizer()
    for rule in _NOT_WHISPERS:
        theirs.replacers.pop(rule, None)

    def words(text: str) -> list[str]:
        if len(text) > MAX_TEXT_CHARS:
            raise ValueError(
                f"the transcript {text[:40]!r}... has {len(text):,} characters; at most {MAX_TEXT_CHARS:,} are taken"
            )
        try:
            found: str = theirs(_cheap(text))
        except Exception as error:  # whatever the package stumbles over: a number of 5,000 digits, for one
            raise ValueError(f"{PACKAGE} fails at the transcript {text[:40]!r}: {type(error).__name__}") from error
        return found.split()

    version = importlib.metadata.version(PACKAGE)
    return Normalizer(f"english, spellings evened out ({PACKAGE} {version})", words)


def _cheap(text: str) -> str:
    """A text of the same words for the package, without what its patterns would look through again and again.

    Those are runs of blanks, and brackets that open and never close; another sign in their place is dropped as well.
    """
    for opening, closing, whole in _BRACKETS:
        last = max(text.rfind(sign) for sign in closing)
        text = whole.sub("", text[: last + 1] + opening.sub("|", text[last + 1 :]))
    return " ".join(text.split())
