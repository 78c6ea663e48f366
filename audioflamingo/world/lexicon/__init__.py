"""The word lists, rules and templates behind `audioflamingo.world.text`, written by hand for this project.

File formats, all plain text with `#` comments:

* word lists (`nouns.txt`, `verbs.txt`, ...): `[class]` opens a section of words separated by blanks; `_` stands for a
  blank inside an entry. `[class = a b c]` declares a union of earlier classes.
* `irregular.txt`: `[plural]`, `[verb]`, `[double]`, ... tables for `inflection`.
* templates (`rules_*.txt`, `templates_*.txt`): `[name]` opens a section with one alternative a line; `3* text` gives it
  a weight of three. The notation inside a line is described in `grammar`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

NOUN_FILE = "nouns.txt"
VERB_FILE = "verbs.txt"
ADJECTIVE_FILE = "adjectives.txt"
WORD_FILE = "words.txt"
NAME_FILE = "names.txt"
MORE_FILE = "more_words.txt"  # of no class: for `world.drill` alone
WORD_FILES = (NOUN_FILE, VERB_FILE, ADJECTIVE_FILE, WORD_FILE, NAME_FILE)


@dataclass(frozen=True)
class WordClass:
    """A named list of base forms and the file (so the part of speech) it comes from."""

    file: str
    words: tuple[str, ...]


def sections(file: str) -> Iterator[tuple[str, str]]:
    """Yield (section header, line) for every content line of a lexicon file; a header alone yields an empty line."""
    header = ""
    for raw in resources.files(__name__).joinpath(file).read_text(encoding="utf-8").splitlines():
        line = raw.split("#", 1)[0].strip()
        if line.startswith("[") and line.endswith("]"):
            header = line[1:-1].strip()
            yield header, ""
        elif line:
            yield header, line


@lru_cache(maxsize=1)
def word_classes() -> dict[str, WordClass]:
    """All word classes by name, unions included; words keep their order and occur once per class."""
    classes: dict[str, WordClass] = {}
    for file in WORD_FILES:
        for header, line in sections(file):
            name, _, union = (part.strip() for part in header.partition("="))
            parts = [word for member in union.split() for word in classes[member].words]
            old = classes[name].words if name in classes else ()
            words = (*old, *parts, *(word.replace("_", " ") for word in line.split()))
            classes[name] = WordClass(file, tuple(dict.fromkeys(words)))
    return classes


def template_files(prefix: str) -> list[str]:
    """Names of the lexicon files that start with `prefix`, in alphabetical order."""
    return sorted(entry.name for entry in resources.files(__name__).iterdir() if entry.name.startswith(prefix))


def templates(prefix: str) -> dict[str, list[tuple[int, str]]]:
    """Alternatives with their weights, by section, of all files that start with `prefix`."""
    table: dict[str, list[tuple[int, str]]] = {}
    for file in template_files(prefix):
        for header, line in sections(file):
            alternatives = table.setdefault(header, [])
            head, star, rest = line.partition("* ")
            weighted = bool(star) and head.isdigit()
            if line:
                alternatives.append((int(head), rest.strip()) if weighted else (1, line))
    return table
