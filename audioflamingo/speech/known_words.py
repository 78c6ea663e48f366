"""How words are said that no rule gives: technical words, names, units. A list by hand beside the embedded voice.

One word a line, then its phones; it serves every voice and goes before the pronouncer's layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[1] / "assets" / "pronunciation" / "own.txt"
POSSESSIVE = "'s"
_HISSING, _VOICELESS = frozenset(["s", "z", "sh", "zh", "ch", "jh"]), frozenset(["p", "t", "k", "f", "th"])


@cache
def known_words() -> Mapping[str, str]:
    """Lower-case word to the names of its phones, parted by blanks."""
    lines = FILE.read_text("ascii").splitlines()
    return {word: phones for word, _, phones in (line.partition(" ") for line in lines)}


def known_phones(word: str) -> tuple[str, ...] | None:
    """The phones of a word that is listed, or of the possessive of one, else None."""
    if (listed := known_words().get(word)) is not None:
        return tuple(listed.split())
    base = known_words().get(word.removesuffix(POSSESSIVE))
    if base is None:
        return None
    phones = tuple(base.split())
    if phones[-1] in _HISSING:
        return (*phones, "ih0", "z")
    return (*phones, "s" if phones[-1] in _VOICELESS else "z")
