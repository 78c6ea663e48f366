"""Figures to words: numbers, years, money, times, dates, fractions, ranges, versions, telephone numbers.

Every function takes a token, or its parts, and knows nothing of the tokens around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from audioflamingo.speech.spoken_tables import ATTACHED_UNITS, CURRENCIES, PLURAL_CENTS, SCALES, UNITS
from audioflamingo.world.lexicon.numbers import MONTHS, ONES, cardinal, ordinal

MAX_PLAIN_DIGITS = 9  # a longer row of digits without commas is read digit by digit, unless it is round
MAX_DIGITS = 15  # beyond hundreds of trillions all are read digit by digit
ROUND = "000000"
LARGEST_NAMED_PART = 20  # fifths, twentieths; beyond it "three over forty"

NUMBER = r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+"
_SIGNS = "".join(CURRENCIES)
MONEY = re.compile(rf"([{_SIGNS}])({NUMBER})(k|m|mn|b|bn|t|tn)?", re.IGNORECASE)
TIME = re.compile(r"([0-9]{1,2}):([0-5][0-9])(?::([0-5][0-9](?:\.[0-9]+)?))?([ap]m)?", re.IGNORECASE)
ORDINAL = re.compile(r"([0-9]+)(?:st|nd|rd|th)", re.IGNORECASE)
DECADE = re.compile(r"([0-9]{2,4})s")
FRACTION = re.compile(r"([0-9]{1,3})/([0-9]{1,3})")
_QUANTITY = re.compile(rf"([-−+]?)({NUMBER})([^0-9\s.,]*)")
_SCIENTIFIC = re.compile(rf"({NUMBER})[eE]([-+]?[0-9]{{1,3}})")
_POWER = re.compile(rf"({NUMBER}|[A-Za-z])\^[({{]?([-−+]?)({NUMBER}|[A-Za-z])[)}}]?")
_MIXED = re.compile(rf"({NUMBER})([½¼¾])")
_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_SLASH_DATE = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})")
_DOT_DATE = re.compile(r"([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{4})")
_VERSION = re.compile(r"(v?)([0-9]+(?:\.[0-9]+)*)")
_GROUPS = re.compile(r"\+?[0-9]+(?:[-.][0-9]+){2,}|[0-9]{3}-[0-9]{4}")
_RATIO = re.compile(r"([0-9]{1,4}):([0-9]{1,4})")
_SPAN = re.compile(r"(?:([0-9]+)h)?(?:([0-9]+)m(?:in)?)?(?:([0-9]+)s)?")
_HOURS_MINUTES = re.compile(r"([0-9]{1,2})h([0-5][0-9])")
_SIZE = re.compile(r"([0-9]+)[x×]([0-9]+)")
_RATE = re.compile(r"(.+)/(second|minute|hour|day|night|week|month|year|person|token|mile)")
_HEIGHT = re.compile(r"([0-9]{1,2})'([0-9]{1,2})")
_RANGE = re.compile(rf"([{_SIGNS}]?)([0-9.][^-–]*)[-–]([{_SIGNS}]?[0-9.][^-–]*)")
_MIXED_PARTS = {"½": "a half", "¼": "a quarter", "¾": "three quarters"}
_SPOKEN_FRACTIONS = {"24/7": "twenty four seven", "9/11": "nine eleven"}
_SPELLED_K = {"4K", "8K"}  # sizes of pictures, not thousands


def numeric(core: str) -> str | None:
    """The words of a token of figures, else None."""
    return next((said for form in _FORMS if (said := form(core)) is not None), None)


def number_words(text: str) -> str:
    """Digits, with or without commas and a decimal part, in words."""
    whole, _, fraction = text.replace(",", "").partition(".")
    is_code = len(whole) > 1 and whole.startswith("0")
    is_long = len(whole) > MAX_PLAIN_DIGITS and "," not in text and not whole.endswith(ROUND)
    said = _digits(whole) if is_code or is_long or len(whole) > MAX_DIGITS else _large(int(whole or "0"))
    return f"{said} point {_digits(fraction)}" if fraction else said


def year_words(number: int) -> str:
    """1984 as "nineteen eighty-four", 2005 as "two thousand and five"."""
    century, rest = divmod(number, 100)
    if number % 1000 < 10:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def quantity(number: str) -> str:
    """A number, or a year where it looks like one."""
    is_year = number.isdecimal() and len(number) == len("1984") and 1100 <= int(number) < 2100
    return year_words(int(number)) if is_year else number_words(number)


def unit_words(unit: str, number: str) -> str:
    """A unit as it is said after this number."""
    singular, plural = UNITS.get(unit) or ATTACHED_UNITS[unit]
    return singular if number.lstrip("-−+") == "1" else plural


def money(core: str, *, is_scaled: bool = False) -> str | None:
    """A sum; where a scale follows ("$5 million"), without its unit, which comes after the scale."""
    match = MONEY.fullmatch(core)
    if match is None:
        return None
    sign, amount, scale = match.groups()
    unit, units, cent = CURRENCIES[sign]
    if scale or is_scaled:
        return number_words(amount) + (f" {SCALES[scale.lower()]} {units}" if scale else "")
    whole, _, cents = amount.replace(",", "").partition(".")
    if len(cents) == len("99") and int(cents):
        small = f"{cardinal(int(cents))} {cent if int(cents) == 1 else PLURAL_CENTS.get(cent, cent + 's')}"
        large = f"{number_words(whole or '0')} {unit if whole == '1' else units} and "
        return large + small if int(whole or "0") else small
    if cents.strip("0"):
        return f"{number_words(amount)} {units}"
    return f"{number_words(amount.partition('.')[0] or '0')} {unit if whole == '1' else units}"


def time_words(core: str, *, has_half: bool = False) -> str | None:
    """A time of day; `has_half`: "am" or "pm" follows."""
    match = TIME.fullmatch(core)
    if match is None:
        return None
    hour, minute, second, half = match.groups()
    said = cardinal(int(hour))
    if int(minute):
        said += f" {'oh ' if int(minute) < 10 else ''}{cardinal(int(minute))}"
    elif second is None and not half and not has_half:
        said += " o'clock" if 1 <= int(hour) <= 12 else " hundred"
    if second is not None:
        said += f" and {number_words(second.lstrip('0') or '0')} {'second' if second == '01' else 'seconds'}"
    return said + (f" {unit_words(half.lower(), '2')}" if half else "")


def fraction(core: str) -> str | None:
    """A fraction by the names of its parts."""
    match = FRACTION.fullmatch(core)
    if match is None:
        return None
    top, bottom = int(match[1]), int(match[2])
    if core in _SPOKEN_FRACTIONS:
        return _SPOKEN_FRACTIONS[core]
    if top >= bottom > 0:  # times of music, seasons, platforms
        return f"{number_words(match[1])} {number_words(match[2])}"
    if not 2 <= bottom <= LARGEST_NAMED_PART:
        return f"{number_words(match[1])} over {number_words(match[2])}"
    part = {2: "half", 4: "quarter"}.get(bottom) or ordinal(bottom)
    return f"{number_words(match[1])} {part if top == 1 else {'half': 'halves'}.get(part, part + 's')}"


def digit_groups(core: str) -> str:
    """Every digit by itself."""
    return " ".join(_digits(group) for group in re.findall("[0-9]+", core))


def version_words(text: str) -> str:
    """Numbers between full stops, each by itself."""
    return " point ".join(number_words(one) for one in text.split("."))


def _large(number: int) -> str:
    if number < 10**9:
        return cardinal(number)
    name, size = ("trillion", 10**12) if number >= 10**12 else ("billion", 10**9)
    count, rest = divmod(number, size)
    link = " and " if rest < 100 else " "
    return f"{cardinal(count)} {name}" + (link + _large(rest) if rest else "")


def _ordinal(core: str) -> str | None:
    match = ORDINAL.fullmatch(core)
    if match is None:
        return None
    return ordinal(int(match[1])) if len(match[1]) <= MAX_PLAIN_DIGITS else number_words(match[1]) + "th"


def decade(core: str) -> str | None:
    """Ten years, of a century or not."""
    match = DECADE.fullmatch(core)
    if match is None or not match[1].endswith("0"):
        return None
    return plural(year_words(int(match[1])) if len(match[1]) == len("1980") else cardinal(int(match[1])))


def _long_decade(core: str) -> str | None:
    return decade(core) if len(core) > len("80s") else None


def _date(core: str) -> str | None:
    if match := _ISO_DATE.fullmatch(core):
        year, month, day = match.groups()
    elif match := _SLASH_DATE.fullmatch(core):
        month, day, year = match.groups()
        if int(month) > len(MONTHS):
            day, month = month, day
    elif match := _DOT_DATE.fullmatch(core):
        day, month, year = match.groups()
    else:
        return None
    if not (1 <= int(month) <= len(MONTHS) and 1 <= int(day) <= 31):
        return None
    return f"{MONTHS[int(month) - 1]} {ordinal(int(day))} {quantity(year)}"


def _grouped(core: str) -> str | None:
    """Telephone numbers and the like; dots make a version or an address."""
    if _GROUPS.fullmatch(core) is None:
        return None
    numbers = [int(group) for group in re.findall("[0-9]+", core)]
    if len(numbers) == 2 and all(number % 10 == 0 for number in numbers):
        return None  # a range of round numbers
    is_version = "." in core and "-" not in core
    return version_words(core) if is_version else digit_groups(core)


def _versioned(core: str) -> str | None:
    match = _VERSION.fullmatch(core)
    if match is None or not match[1]:
        return None
    return f"version {version_words(match[2])}"


def _ratio(core: str) -> str | None:
    match = _RATIO.fullmatch(core)
    return f"{number_words(match[1])} to {number_words(match[2])}" if match else None


def _range(core: str) -> str | None:
    match = _RANGE.fullmatch(core)
    if match is None:
        return None
    sign, left, right = match.groups()
    if sign and right[0] not in CURRENCIES:
        right = sign + right
    elif sign:
        left = sign + left
    if left == right:
        return f"{quantity(left)} {quantity(right)}" if left.isdecimal() else None
    first, last = numeric(left), numeric(right)
    return None if first is None or last is None else f"{first} to {last}"


def _scientific(core: str) -> str | None:
    match = _SCIENTIFIC.fullmatch(core)
    if match is None:
        return None
    power = ("minus " if match[2].startswith("-") else "") + number_words(match[2].lstrip("+-").lstrip("0") or "0")
    return f"{number_words(match[1])} times ten to the power of {power}"


def _power(core: str) -> str | None:
    match = _POWER.fullmatch(core)
    if match is None:
        return None
    base, power = (number_words(one) if one[-1].isdigit() else one for one in (match[1], match[3]))
    return f"{base} to the power of {'minus ' if match[2] in ('-', '−') else ''}{power}"


def _span(core: str) -> str | None:
    match = _SPAN.fullmatch(core) or _HOURS_MINUTES.fullmatch(core)
    if match is None or sum(part is not None for part in match.groups()) < 2:
        return None
    parts = zip(match.groups(), ("h", "min", "s"), strict=False)
    return " ".join(f"{number_words(part)} {unit_words(unit, part)}" for part, unit in parts if part is not None)


def _mixed(core: str) -> str | None:
    match = _MIXED.fullmatch(core)
    return f"{number_words(match[1])} and {_MIXED_PARTS[match[2]]}" if match else None


def _height(core: str) -> str | None:
    match = _HEIGHT.fullmatch(core)
    return f"{number_words(match[1])} foot {number_words(match[2])}" if match else None


def _size(core: str) -> str | None:
    match = _SIZE.fullmatch(core)
    return f"{number_words(match[1])} by {number_words(match[2])}" if match else None


def _rate(core: str) -> str | None:
    match = _RATE.fullmatch(core)
    said = numeric(match[1]) if match else None
    return f"{said} a {match[2]}" if match and said is not None else None


def _signed(core: str) -> str | None:
    match = _QUANTITY.fullmatch(core)
    if match is None:
        return None
    sign, number, unit = match.groups()
    if core in _SPELLED_K:
        return f"{number_words(number)} k"
    if unit and unit not in UNITS and unit not in ATTACHED_UNITS:
        return None
    said = {"": "", "+": "plus "}.get(sign, "minus ") + quantity(number)
    return f"{said} {unit_words(unit, number)}" if unit else said


def _digits(text: str) -> str:
    return " ".join(ONES[int(digit)] for digit in text)


def plural(said: str) -> str:
    """A number of which there are several: "sixties", "hundreds"."""
    return said[:-1] + "ies" if said.endswith("y") else said + ("es" if said.endswith("x") else "s")


_FORMS: tuple[Callable[[str], str | None], ...] = (
    _ordinal, _long_decade, _date, fraction, money, time_words, _ratio, _grouped, _versioned, _scientific, _power,
    _span, _mixed, _height, _size, _rate, _signed, _range,
)  # fmt: skip
