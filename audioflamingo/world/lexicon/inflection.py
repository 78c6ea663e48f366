"""English inflection by rule with a table of exceptions (`irregular.txt`): plurals, verb forms, comparison."""

import re
from collections.abc import Callable
from functools import lru_cache

from audioflamingo.world.lexicon import sections

_VOWELS = "aeiou"
_SHORT_STEM = re.compile(r"^(?:qu|[^aeiou])*[aeiou][bdfgklmnprtvz]$")
_KEEPS_Y = frozenset({"shy", "sly", "dry", "wry"})
_SIBILANT = ("s", "x", "z", "ch", "sh")


@lru_cache(maxsize=1)
def _tables() -> dict[str, dict[str, tuple[str, ...]]]:
    tables: dict[str, dict[str, tuple[str, ...]]] = {}
    for header, line in sections("irregular.txt"):
        table = tables.setdefault(header, {})
        if not line:
            continue
        words = line.split()
        if header == "double":
            table.update(dict.fromkeys(words, ()))
        else:
            table[words[0]] = tuple(words[1:])
    return tables


def _irregular(table: str, word: str, column: int = 0) -> str | None:
    forms = _tables()[table].get(word)
    return forms[column] if forms else None


def _ends_in_consonant_y(word: str) -> bool:
    return word.endswith("y") and len(word) > 1 and word[-2] not in _VOWELS


def _doubles(word: str) -> bool:
    return bool(_SHORT_STEM.match(word)) or word in _tables()["double"]


def _stem(verb: str) -> str:
    """The verb before -ed and -ing: stop -> stopp, panic -> panick."""
    if verb.endswith("c"):
        return verb + "k"
    return verb + (verb[-1] if _doubles(verb) else "")


def _with_s(word: str) -> str:
    if _ends_in_consonant_y(word):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(_SIBILANT) else "s")


def plural(noun: str) -> str:
    """The plural of a singular noun; of the last word when there are several ("bus stop" -> "bus stops")."""
    head, blank, last = noun.rpartition(" ")
    return head + blank + (_irregular("plural", last) or _with_s(last))


def third_person(verb: str) -> str:
    """The form after "she": go -> goes, try -> tries; a particle stays ("look after" -> "looks after")."""
    return _irregular("third", verb) or (verb + "es" if verb.endswith("o") else _with_s(verb))


def _regular_past(verb: str) -> str:
    if verb.endswith("e"):
        return verb + "d"
    if _ends_in_consonant_y(verb):
        return verb[:-1] + "ied"
    return _stem(verb) + "ed"


def past(verb: str) -> str:
    """The simple past: walk -> walked, go -> went."""
    return _irregular("verb", verb, 0) or _regular_past(verb)


def participle(verb: str) -> str:
    """The past participle: walk -> walked, go -> gone."""
    return _irregular("verb", verb, 1) or _regular_past(verb)


def gerund(verb: str) -> str:
    """The -ing form: make -> making, lie -> lying, run -> running."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    return _stem(verb) + "ing"


def _compared(adjective: str, ending: str) -> str:
    if adjective.endswith("e"):
        return adjective + ending[1:]
    if _ends_in_consonant_y(adjective):
        return adjective[:-1] + "i" + ending
    return adjective + (adjective[-1] if _doubles(adjective) else "") + ending


def comparative(adjective: str) -> str:
    """The -er form of a short adjective: big -> bigger."""
    return _irregular("compare", adjective, 0) or _compared(adjective, "er")


def superlative(adjective: str) -> str:
    """The -est form of a short adjective: happy -> happiest."""
    return _irregular("compare", adjective, 1) or _compared(adjective, "est")


def adverb(adjective: str) -> str:
    """The -ly form: happy -> happily, gentle -> gently, basic -> basically."""
    if adjective.endswith("y") and adjective not in _KEEPS_Y:
        return adjective[:-1] + "ily"
    if adjective.endswith("le") and adjective[-3] not in _VOWELS:
        return adjective[:-1] + "y"
    if adjective.endswith("ic"):
        return adjective + "ally"
    return adjective + ("y" if adjective.endswith("ll") else "ly")


def quality(adjective: str) -> str:
    """The -ness noun: happy -> happiness."""
    changes = _ends_in_consonant_y(adjective) and adjective not in _KEEPS_Y
    return (adjective[:-1] + "i" if changes else adjective) + "ness"


def _on_first_word(inflect: Callable[[str], str]) -> Callable[[str], str]:
    def inflected(phrase: str) -> str:
        head, blank, particle = phrase.partition(" ")
        return inflect(head) + blank + particle

    return inflected


FORMS: dict[str, Callable[[str], str]] = {
    "": str,
    "pl": plural,
    "s": _on_first_word(third_person),
    "ed": _on_first_word(past),
    "en": _on_first_word(participle),
    "ing": _on_first_word(gerund),
    "er": comparative,
    "est": superlative,
    "ly": adverb,
    "ness": quality,
}
