"""From a written token to the words that are said: figures, symbols, abbreviations, addresses, letters.

Plain Python. `Normaliser.words` takes tokens in order, because a unit is read by the number before it
("1 km", "5 km"), a scale by the sum before it ("$5 million"), and a day by its month.
"""

from __future__ import annotations

import re
import unicodedata

from audioflamingo.speech import spoken_numbers as figures
from audioflamingo.speech.spoken_tables import (
    ABBREVIATIONS,
    ADDRESS_SYMBOLS,
    CODE_WORDS,
    CURRENCIES,
    DECADE_WORDS,
    GREEK,
    INITIALISMS,
    LETTERS_WITHOUT_PARTS,
    LONE_UNITS,
    NEVER_LAST,
    NUMBERED,
    RULERS,
    SCALES,
    SECTIONS,
    SHORT_MONTHS,
    SYMBOLS,
    TITLES,
    UNITS,
    UPPER_WORDS,
    VOWELLESS_WORDS,
)
from audioflamingo.world.lexicon.numbers import MONTHS, cardinal, ordinal

_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*", re.IGNORECASE)
_ADDRESS_PIECE = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]+|[^A-Za-z0-9]")
_PIECE = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]+(?:\.[0-9]+)*|[^A-Za-z0-9]")
_DOTTED_LETTERS = re.compile(r"(?:[A-Za-z]\.){2,}[A-Za-z]?")
_DOMAINS = "com|org|net|io|dev|edu|gov|ai|info|app|uk|de|fr"
_FILES = (
    "txt|py|wav|mp3|md|json|jsonl|csv|pdf|html|js|png|jpg|jpeg|gif|zip|onnx|flac|ogg|cpp|sh|toml|yaml|yml|xml|exe"
    "|safetensors|gguf|bin|pt|opus|m4a|mp4|srt|vtt|ipynb|log|ini|cfg|ts|rs|go|css"
)
_ADDRESS = re.compile(
    rf"(?:https?://|www\.)\S+|\S+@\S+\.\S+|[\w-]+(?:\.[\w-]+)*\.(?:{_DOMAINS}|{_FILES})(?:/\S*)?"
    r"|(?:\.{0,2}/[\w.@-]+)+/?|[A-Z]:\\\S*"
)
_LAST_NUMBER = re.compile(rf"(?:^|[-–−:])(?:{figures.NUMBER})$")
_ROMAN = re.compile(r"X{0,3}(?:IX|IV|V?I{0,3})")
_ROMAN_VALUES = {"I": 1, "V": 5, "X": 10}
_EMOTICON = re.compile(r"[:;=8][-']?[)(DPpOo/|*3\]\[]+|<3|\^_\^")
_COMPARED = re.compile(r"[(\[\"']*([~<>])(?=[0-9.$])")
_OPTIONAL_PLURAL = re.compile(r"\((e?s)\)")
_AREA_CODE = re.compile(r"\([0-9]{3}\)")
_LOCAL_NUMBER = re.compile(r"[0-9]{3}-[0-9]{4}")
_WORD_BORDER = re.compile(r"(?<=[a-z])(?=[A-Z])")
_COMPOUND = re.compile(r"[-–—/_\\]")
_SEVERAL = re.compile(r"([A-Z]+)([0-9]+)s")
_CLAUSE_ENDS = ".,;:!?…)"
_CLOSERS = "\"'”’)]}*_`"
_HOURS, _MINUTES = re.compile(r"[0-9]+(?:h|hrs?)"), re.compile(r"([0-9]+)m")
_LONG_UPPER = 4  # capitals from this length on are read as a word where they have a vowel inside
_VOWELS = frozenset("AEIOUY")
_MAX_DAY = 31


class Normaliser:
    """Tokens to spoken words, with the memory of one token.

    Attributes:
        left_out: characters that cannot be read (emoji, other scripts), in order; for the caller to report.
    """

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self._number: str | None = None  # the number that the last token was, for a unit to come
        self._owed = ""  # the unit of money that is said after the scale to come
        self._previous = ""  # the last token without its punctuation

    def words(self, token: str, follower: str | None = None, *, is_start: bool = True) -> tuple[str, ...]:
        """Spoken words of one token without blanks: lower case, letters a-z and inner apostrophes only.

        Args:
            token: as written; punctuation at its ends is ignored.
            follower: the next token where it is known; asked for by those that `needs_follower` tells.
            is_start: whether a sentence or a line begins with it: "A" is an article there, and else a letter.
        """
        plain = _latin(token)
        core = trimmed(plain)
        said = self._in_context(core, plain, trimmed(_latin(follower or "")), is_start)
        if said is None:
            said = self._alone(core)
        if match := _COMPARED.match(plain):
            said = {"~": "about ", "<": "less than ", ">": "more than "}[match[1]] + said
        elif plain.startswith("~/"):
            said = f"tilde {said}"
        self._previous = core
        return _clean(said)

    def _in_context(self, core: str, plain: str, follower: str, is_start: bool) -> str | None:
        """What only the tokens around it tell, else None. Forgets and remembers what the next one asks for."""
        number, self._number = self._number, None
        owed, self._owed = self._owed, ""
        if owed:  # "$5 million km": plural whatever the five was
            self._number = "2"
            return f"{core} {owed}"
        if _EMOTICON.fullmatch(plain) or set(core) == {"#"} or (is_start and plain == ">"):
            return ""
        if not core and plain in SYMBOLS:
            return SYMBOLS[plain]
        if match := _LAST_NUMBER.search(core):
            self._number = match[0].lstrip("-–−:") if core != match[0] else core
        if number is not None and (said := self._after_number(core, number)) is not None:
            return said
        if figures.MONEY.fullmatch(core) and follower.lower() in SCALES:
            self._owed = CURRENCIES[core[0]][1]
            return figures.money(core, is_scaled=True)
        return _by_neighbours(core, plain, self._previous, follower, is_start)

    def _after_number(self, core: str, number: str) -> str | None:
        if core.lower() in SCALES and len(core) > 1:
            self._number = "2"  # "5 million km" is plural whatever the five was
            return core
        if core in UNITS:
            return figures.unit_words(core, number)
        if core in SHORT_MONTHS:
            return SHORT_MONTHS[core]
        fraction = figures.FRACTION.fullmatch(core)
        if fraction and number.isdecimal() and int(fraction[1]) < int(fraction[2]):
            said = str(figures.fraction(core))
            return "and " + ("a" + said[3:] if said.startswith("one ") else said)
        return None

    def _alone(self, core: str) -> str:
        """A token by itself; one of no known form as its parts, one after another."""
        said = _said(core)
        if said is not None:
            return said
        if core[:1] == "#" and core[1:2].isalpha():
            return f"hashtag {self._alone(core[1:])}"
        parts = [part for part in _COMPOUND.split(core) if part]
        if len(parts) > 1:
            return " ".join("ay" if part == "A" else self._alone(part) for part in parts)
        is_mixed = any(char.isdigit() for char in core)
        return " ".join(self._piece(piece, is_mixed) for piece in _PIECE.findall(core))

    def _piece(self, piece: str, is_mixed: bool) -> str:
        if piece[0].isdigit() and piece.isascii():
            return figures.number_words(piece) if piece.count(".") < 2 else figures.version_words(piece)
        if piece.isascii() and piece[0].isalpha():
            return spelled(piece) if is_mixed and piece == "A" else letters_or_word(piece)
        if piece in SYMBOLS:
            return SYMBOLS[piece]
        if not _is_silent(piece):
            self.left_out.append(piece)
        return " "


def needs_follower(token: str) -> bool:
    """Whether how a token is read, or whether a pause comes after it, depends on the one after it."""
    plain = _latin(token)
    core = trimmed(plain)
    lower = core.lower()
    if lower.endswith(".") and lower not in TITLES:
        return lower in ABBREVIATIONS or lower in NUMBERED
    if _AREA_CODE.fullmatch(plain):
        return True
    if plain[-1:] in _CLAUSE_ENDS:
        return False
    is_round_time = figures.TIME.fullmatch(core) is not None and core.endswith(":00")
    return core in SHORT_MONTHS or is_round_time or figures.MONEY.fullmatch(core) is not None


def has_silent_mark(token: str, previous: str | None, follower: str | None) -> bool:
    """Whether the punctuation at a token's end is no pause: the full stop of an abbreviation, an emoticon.

    Args:
        token: as written.
        previous: the token before it.
        follower: the token after it where it is known.
    """
    if _EMOTICON.fullmatch(token):
        return True
    if not token.rstrip(_CLOSERS).endswith("."):
        return False
    core = trimmed(_latin(token))
    lower = core.lower()
    begins = (follower or "A").lstrip("\"'“‘([*_")[:1]
    if lower in TITLES or lower in NEVER_LAST:
        return True
    if lower in NUMBERED:
        return begins.isdigit()
    if lower in ABBREVIATIONS:
        return follower is not None and (lower == "st." or not begins.isupper())
    if _DOTTED_LETTERS.fullmatch(core):
        return True
    is_initial = len(token.strip("\"'“”‘’([*_")) == len("J.") and core[:1].isupper() and core[:1] != "I"
    return is_initial and bool(previous) and str(previous)[:1].isupper()


def spelled(letters: str) -> str:
    """Letters one by one; A by its name, because "a" alone is read as the article."""
    return " ".join("ay" if letter in "aA" else letter for letter in letters if letter.isalnum())


def letters_or_word(text: str) -> str:
    """Letters that cannot be pronounced are spelled; everything else is a word, or words by its capitals."""
    stem = text[:-1]
    may_be_plural = len(stem) > 1 and text[-1] == "s" and text.lower() not in INITIALISMS
    is_plural = may_be_plural and (stem.isupper() or stem.lower() in INITIALISMS)
    base = stem if is_plural else text
    if _is_spelled(base):
        return spelled(base) + ("'s" if is_plural else "")
    if not base.isupper() and not text.startswith(("Mc", "Mac")) and len(parts := _WORD_BORDER.split(text)) > 1:
        return " ".join(letters_or_word(part) for part in parts)
    return text


def _is_spelled(base: str) -> bool:
    lower = base.lower()
    if lower in INITIALISMS:
        return True
    if len(base) < 2 or not base.isalpha() or base in UPPER_WORDS or lower in VOWELLESS_WORDS:
        return False
    num_vowels = sum(letter in _VOWELS for letter in base.upper())
    if not base.isupper():
        return num_vowels == 0
    return len(base) < _LONG_UPPER or num_vowels in (0, len(base))


def trimmed(token: str) -> str:
    """Without the punctuation at both ends, except what belongs to an abbreviation, a sign or a symbol."""
    stripped = token.strip("\"“”„«»[]{}<>*_`~|,;:!?…—–'")
    stripped = stripped[1:] if stripped.startswith("(") else stripped
    if stripped.lower() in ABBREVIATIONS or stripped.lower() in NUMBERED or _DOTTED_LETTERS.fullmatch(stripped):
        return stripped
    if _OPTIONAL_PLURAL.search(stripped.rstrip(".,;:!?")):
        stripped = _OPTIONAL_PLURAL.sub(r"\1", stripped)
    stripped = stripped.strip("()").rstrip(".,;:!?…'\"”)*_`")
    is_figure = stripped.startswith("-") and figures.numeric(stripped) is not None
    return stripped if is_figure else stripped.lstrip("-")


def _by_neighbours(core: str, plain: str, previous: str, follower: str, is_start: bool) -> str | None:
    before = previous.lower()
    if core == "A" and not is_start and plain[0] == "A":
        return "ay"
    if core.lower() == "st." and not follower[:1].isupper():
        return "street" if previous else "saint"
    if core.lower() in NUMBERED:
        return NUMBERED[core.lower()] if follower[:1].isdigit() else core
    if core in SHORT_MONTHS and follower[:1].isdigit():
        return SHORT_MONTHS[core]
    if figures.TIME.fullmatch(core) and follower.lower() in ("am", "pm", "a.m.", "p.m."):
        return figures.time_words(core, has_half=True)
    if (_AREA_CODE.fullmatch(plain) and _LOCAL_NUMBER.fullmatch(follower)) or (before in CODE_WORDS and core.isdigit()):
        return figures.digit_groups(core)
    if core.isdecimal() and core.isascii() and 1 <= int(core) <= _MAX_DAY and _is_month(previous):
        return ordinal(int(core))
    if _HOURS.fullmatch(previous) and (minutes := _MINUTES.fullmatch(core)):
        return figures.number_words(minutes[1]) + " " + figures.unit_words("min", minutes[1])
    return _decade_or_seconds(core, plain, before) or _roman(core, previous)


def _is_month(word: str) -> bool:
    return word in MONTHS or word in SHORT_MONTHS or ABBREVIATIONS.get(word.lower(), "").title() in MONTHS


def _decade_or_seconds(core: str, plain: str, before: str) -> str | None:
    """After "the" or an apostrophe they are decades, else seconds."""
    if len(core) != len("80s") or figures.DECADE.fullmatch(core) is None:
        return None
    return figures.decade(core) if "'" in plain[:2] or before in DECADE_WORDS else None


def _roman(core: str, previous: str) -> str | None:
    before = previous.lower()
    is_number = len(core) > 1 or before in SECTIONS
    if not (is_number and core and previous[:1].isupper() and previous.isalpha() and _ROMAN.fullmatch(core)):
        return None
    values = [_ROMAN_VALUES[digit] for digit in core]
    number = sum(-one if one < other else one for one, other in zip(values, [*values[1:], 0], strict=True))
    return f"the {ordinal(number)}" if before in RULERS else cardinal(number)


def _said(core: str) -> str | None:
    """The words of a token of a known form, else None."""
    if core.lower() in ABBREVIATIONS:
        return ABBREVIATIONS[core.lower()]
    if core in LONE_UNITS:
        return figures.unit_words(core, "2")
    if core in GREEK:
        return GREEK[core]
    if match := _SEVERAL.fullmatch(core):
        return f"{spelled(match[1])} {figures.plural(figures.number_words(match[2]))}"
    if _WORD.fullmatch(core):
        return letters_or_word(core)
    if _DOTTED_LETTERS.fullmatch(core):
        return spelled(core)
    if len(core) == len("C#") and core[0] in "ABCDEFG" and core[1] in "#♯♭":
        return spelled(core[0]) + (" flat" if core[1] == "♭" else " sharp")
    if core.isupper() and len(initials := core.split("&")) > 1 and all(one.isalpha() for one in initials):
        return " and ".join(spelled(one) for one in initials)
    said = figures.numeric(core)
    return _address(core) if said is None and _ADDRESS.fullmatch(core) else said


def _address(core: str) -> str:
    bare = re.sub(r"^https?://(?:www\.)?|^www\.", "", core)
    pieces = (
        ADDRESS_SYMBOLS.get(piece, figures.number_words(piece) if piece.isdigit() else letters_or_word(piece))
        for piece in _ADDRESS_PIECE.findall(bare)
    )
    return " ".join(pieces)


def _latin(text: str) -> str:
    """Without accents, and with typographic apostrophes and quotes as plain ones."""
    if text.isascii():
        return text
    kept = {char: char for char in "°µ½¼¾²³…™Ω"} | LETTERS_WITHOUT_PARTS
    parts = (kept.get(char) or unicodedata.normalize("NFKD", char) for char in text)
    return "".join(char for part in parts for char in part if not unicodedata.combining(char))


def _is_silent(char: str) -> bool:
    """Punctuation and blanks are heard as pauses or not at all."""
    return unicodedata.category(char)[0] in "PZC" or char in "^`|~\ufe0f\u200d"


def _clean(said: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(said.lower()))
