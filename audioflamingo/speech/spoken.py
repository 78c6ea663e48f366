"""From a written token to the words that are said: numbers, money, times, units, symbols, abbreviations, letters.

Plain Python. `Normaliser.words` takes tokens in order, because a unit is read by the number before it
("1 km", "5 km") and a scale by the sum before it ("$5 million").
"""

from __future__ import annotations

import re
import unicodedata

from audioflamingo.speech.spoken_tables import (
    ABBREVIATIONS,
    CURRENCIES,
    SCALES,
    SYMBOLS,
    UNITS,
    UPPER_WORDS,
)
from audioflamingo.world.lexicon.numbers import ONES, cardinal, ordinal

MAX_CARDINAL = 999_999_999  # beyond it a number is read digit by digit

_NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_MONEY = re.compile(rf"([$£€¥])({_NUMBER})([KMB]?)")
_TIME = re.compile(r"([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9]))?([ap]m)?", re.IGNORECASE)
_ORDINAL = re.compile(r"([0-9]+)(?:st|nd|rd|th)", re.IGNORECASE)
_DECADE = re.compile(r"'?([0-9]{2,4})s")
_FRACTION = re.compile(r"([0-9]{1,3})/([0-9]{1,3})")
_RANGE = re.compile(rf"({_NUMBER})[-–]({_NUMBER})")
_QUANTITY = re.compile(rf"([-−+]?)({_NUMBER})([^0-9\s.,]*)")
_BEFORE_UNIT = re.compile(rf"[-−+]?(?:{_NUMBER})(?:[-–](?:{_NUMBER})|:[0-9][0-9])?")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*", re.IGNORECASE)
_PIECE = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*|[0-9]+|[^A-Za-z0-9]")
_DOTTED_LETTERS = re.compile(r"(?:[A-Za-z]\.){2,}[A-Za-z]?")
_ADDRESS = re.compile(
    r"(?:https?://|www\.)\S+|\S+@\S+\.\S+|[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|io|dev|edu|gov)(?:/\S*)?"
)
_NAMED_FRACTIONS = {(1, 2): "one half", (1, 3): "one third", (2, 3): "two thirds", (1, 4): "one quarter",
                    (3, 4): "three quarters"}  # fmt: skip
_LONG_UPPER = 4  # capitals from this length on are read as a word where they have a vowel inside
_VOWELS = frozenset("AEIOUY")


class Normaliser:
    """Tokens to spoken words, with the memory of one token.

    Attributes:
        left_out: characters that cannot be read (emoji, other scripts), in order; for the caller to report.
    """

    def __init__(self) -> None:
        self.left_out: list[str] = []
        self._number: str | None = None  # the number that the last token was, for a unit to come

    def words(self, token: str, follower: str | None = None) -> tuple[str, ...]:
        """Spoken words of one token without blanks: lower case, letters a-z and inner apostrophes only.

        Args:
            token: as written; punctuation at its ends is ignored.
            follower: the next token where it is known; only sums of money ask for it.
        """
        plain = _latin(token)
        core = _trimmed(plain)
        number, self._number = self._number, None
        if number is not None and core in UNITS:
            return tuple(_unit(core, number).split())
        if number is not None and core.lower() in SCALES:
            self._number = "2"  # "5 million km" is plural whatever the five was
        said = _said(core, follower)
        if said is None:
            said = self._pieces(core)
        elif _BEFORE_UNIT.fullmatch(core):
            self._number = core
        return _clean(said)

    def _pieces(self, core: str) -> str:
        """A token of no known form: its letters, digits and symbols one after another."""
        return " ".join(self._piece(piece) for piece in _PIECE.findall(core))

    def _piece(self, piece: str) -> str:
        if piece.isdigit() and piece.isascii():
            return number_words(piece)
        if piece.isascii() and piece[0].isalpha():
            return letters_or_word(piece)
        if piece in SYMBOLS:
            return SYMBOLS[piece]
        if not _is_silent(piece):
            self.left_out.append(piece)
        return " "


def needs_follower(token: str) -> bool:
    """Whether how a token is read depends on the one after it."""
    return _MONEY.fullmatch(_trimmed(token)) is not None


def number_words(text: str) -> str:
    """Digits, with or without commas and a decimal part, in words."""
    whole, _, fraction = text.replace(",", "").partition(".")
    number = int(whole or "0") if len(whole) <= len(str(MAX_CARDINAL)) else MAX_CARDINAL + 1
    is_code = len(whole) > 1 and whole.startswith("0")
    said = _digits(whole) if is_code or number > MAX_CARDINAL else cardinal(number)
    return f"{said} point {_digits(fraction)}" if fraction else said


def year_words(number: int) -> str:
    """1984 as "nineteen eighty-four", 2005 as "two thousand and five"."""
    century, rest = divmod(number, 100)
    if number % 1000 < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def spelled(letters: str) -> str:
    """Letters one by one; A by its name, because "a" alone is read as the article."""
    return " ".join("ay" if letter in "aA" else letter for letter in letters if letter.isalnum())


def letters_or_word(text: str) -> str:
    """Capitals that cannot be pronounced are spelled; everything else is a word."""
    is_plural = len(text) > 2 and text[-1] == "s" and text[:-1].isupper()
    base = text[:-1] if is_plural else text
    if len(base) < 2 or not base.isupper() or base in UPPER_WORDS:
        return text
    has_sound = len(base) >= _LONG_UPPER and 0 < sum(letter in _VOWELS for letter in base) < len(base)
    if has_sound:
        return text
    return spelled(base) + ("'s" if is_plural else "")


def _said(core: str, follower: str | None) -> str | None:
    """The words of a token of a known form, else None."""
    if core.lower() in ABBREVIATIONS:
        return ABBREVIATIONS[core.lower()]
    if _WORD.fullmatch(core):
        return letters_or_word(core)
    if _DOTTED_LETTERS.fullmatch(core):
        return spelled(core)
    if match := _MONEY.fullmatch(core):
        return _money(match[1], match[2], match[3], follower)
    if match := _TIME.fullmatch(core):
        return _time(*match.groups())
    if _ADDRESS.fullmatch(core):
        return _address(core)
    return _numeric(core)


def _numeric(core: str) -> str | None:
    if match := _ORDINAL.fullmatch(core):
        return ordinal(int(match[1])) if int(match[1]) <= MAX_CARDINAL else number_words(match[1]) + "th"
    if match := _DECADE.fullmatch(core):
        return _plural(year_words(int(match[1])) if len(match[1]) == len("1980") else cardinal(int(match[1])))
    if match := _FRACTION.fullmatch(core):
        over = f"{number_words(match[1])} over {number_words(match[2])}"
        return _NAMED_FRACTIONS.get((int(match[1]), int(match[2])), over)
    if match := _RANGE.fullmatch(core):
        return f"{_quantity(match[1])} to {_quantity(match[2])}"
    if match := _QUANTITY.fullmatch(core):
        return _signed(*match.groups())
    return None


def _signed(sign: str, number: str, unit: str) -> str | None:
    if unit and unit not in UNITS:
        return None
    said = {"": "", "+": "plus "}.get(sign, "minus ") + _quantity(number)
    return f"{said} {_unit(unit, number)}" if unit else said


def _quantity(number: str) -> str:
    is_year = number.isdecimal() and len(number) == len("1984") and 1100 <= int(number) < 2100
    return year_words(int(number)) if is_year else number_words(number)


def _unit(unit: str, number: str) -> str:
    singular, plural = UNITS[unit]
    return singular if number.lstrip("-−+") == "1" else plural


def _money(sign: str, amount: str, scale: str, follower: str | None) -> str:
    unit, units, cent = CURRENCIES[sign]
    following = _trimmed(follower or "").lower()
    if scale or following in SCALES:  # "$5 million": the unit comes after the scale
        return number_words(amount) + (f" {SCALES[scale.lower()]} {units}" if scale else "")
    whole, _, cents = amount.replace(",", "").partition(".")
    said = f"{number_words(whole or '0')} {unit if whole == '1' else units}"
    if len(cents) == len("99") and int(cents):
        return f"{said} and {cardinal(int(cents))} {cent if int(cents) == 1 else cent + 's'}"
    return f"{number_words(amount)} {units}" if cents.strip("0") else said


def money_unit_after_scale(token: str, follower: str) -> str | None:
    """The unit that is said after the scale: "dollars" of "$5 million"."""
    match = _MONEY.fullmatch(_trimmed(token))
    if match is None or match[3] or _trimmed(follower).lower() not in SCALES:
        return None
    return CURRENCIES[match[1]][1]


def _time(hour: str, minute: str, second: str | None, half: str | None) -> str:
    said = cardinal(int(hour))
    if int(minute):
        said += f" {'oh ' if int(minute) < 10 else ''}{cardinal(int(minute))}"
    elif second is None and half is None:
        said += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second is not None:
        said += f" and {cardinal(int(second))} seconds"
    return said + (f" {spelled(half)}" if half else "")


def _address(core: str) -> str:
    bare = re.sub(r"^https?://(?:www\.)?|^www\.", "", core)
    names = {".": "dot", "/": "slash", "@": "at", "-": "dash", "_": "underscore", ":": "colon"}
    pieces = (names.get(piece, number_words(piece) if piece.isdigit() else piece) for piece in _PIECE.findall(bare))
    return " ".join(pieces)


def _digits(text: str) -> str:
    return " ".join(ONES[int(digit)] for digit in text)


def _plural(said: str) -> str:
    return said[:-1] + "ies" if said.endswith("y") else said + ("es" if said.endswith("x") else "s")


def _latin(text: str) -> str:
    """Without accents, and with typographic apostrophes and quotes as plain ones."""
    if text.isascii():
        return text
    swapped = text.replace("\u2019", "'").replace("\u2018", "'")
    kept = {char: char for char in "°µ½¼¾²³…"}
    parts = (kept.get(char) or unicodedata.normalize("NFKD", char) for char in swapped)
    return "".join(char for part in parts for char in part if not unicodedata.combining(char))


def _trimmed(token: str) -> str:
    """Without the punctuation at both ends, except what belongs to an abbreviation, a sign or a symbol."""
    stripped = token.strip("\"“”„«»()[]{}<>*_`~|,;:!?…—–'")
    if stripped.lower() in ABBREVIATIONS or _DOTTED_LETTERS.fullmatch(stripped):
        return stripped
    stripped = stripped.rstrip(".,;:!?…'\"”)")
    return stripped if not stripped.startswith("-") or _QUANTITY.fullmatch(stripped) else stripped.lstrip("-")


def _is_silent(char: str) -> bool:
    """Punctuation and blanks are heard as pauses or not at all."""
    return unicodedata.category(char)[0] in "PZC" or char in "^`|~\ufe0f\u200d"


def _clean(said: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(said.lower()))
