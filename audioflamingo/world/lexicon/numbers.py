"""Numbers, times, dates, prices and digit strings in English words, drawn at random."""

import random
from collections.abc import Callable, Sequence


def _words(text: str) -> list[str]:
    return text.split()


ONES = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
TENS = _words("ten twenty thirty forty fifty sixty seventy eighty ninety")
ORDINAL_ONES = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
MONTHS = _words("January February March April May June July August September October November December")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
NATO = _words(
    "alpha bravo charlie delta echo foxtrot golf hotel india juliet kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey x-ray yankee zulu"
)
_EXTRA = _words(
    "hundred thousand million and oh o'clock half quarter past to minutes minute noon midnight in the morning "
    "afternoon evening at night pm am double triple dollars dollar cents cent pounds pound euros euro of point th st "
    "hundredth percent"
)


def pick(rng: random.Random, items: Sequence[str]) -> str:
    """One of `items`, with equal chances; uses only `random()`, whose stream is the same in every Python."""
    return items[int(rng.random() * len(items))]


def below(rng: random.Random, stop: int, start: int = 0) -> int:
    """A whole number from `start` to `stop - 1`."""
    return start + int(rng.random() * (stop - start))


def cardinal(number: int) -> str:
    """A number from 0 to 999 999 999 in words: 342 -> "three hundred and forty-two"."""
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens - 1] + (f"-{ONES[ones]}" if ones else "")
    for unit, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= unit:
            count, rest = divmod(number, unit)
            link = " and " if rest < 100 else " "
            return f"{cardinal(count)} {name}" + (link + cardinal(rest) if rest else "")
    raise AssertionError(number)


def ordinal(number: int) -> str:
    """An ordinal in words: 21 -> "twenty-first"."""
    words = cardinal(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[cut:]
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return words[:cut] + ORDINAL_ONES.get(last, regular)


def _number(rng: random.Random) -> str:
    size = (20, 100, 1000, 10_000, 1_000_000)[below(rng, 5)]
    number = below(rng, size, 2)
    if size >= 10_000 and rng.random() < 0.6:
        number = max(1, number // 1000) * 1000
    return cardinal(number)


def year(rng: random.Random) -> str:
    """A year the way it is spoken: "nineteen eighty-four", "two thousand and five", "eighteen oh six"."""
    number = below(rng, 2040, 1700)
    century, rest = divmod(number, 100)
    if 2000 <= number < 2010:
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def time_of_day(rng: random.Random) -> str:
    """A time: "ten o'clock", "half past two", "seven forty-five", "five minutes to nine", "noon"."""
    hour = ONES[below(rng, 13, 1)]
    style = below(rng, 8)
    if style < 2:
        return f"{hour} o'clock"
    if style == 2:
        return pick(rng, ("half past ", "a quarter past ", "a quarter to ")) + hour
    if style == 3:
        return f"{cardinal(below(rng, 30, 2))} minutes {pick(rng, ('past', 'to'))} {hour}"
    if style == 4:
        return pick(rng, ("ten", "five", "twenty", "twenty-five")) + pick(rng, (" past ", " to ")) + hour
    if style == 5:
        return pick(rng, ("noon", "midnight", f"{hour} in the morning", f"{hour} in the evening", f"{hour} at night"))
    minute = below(rng, 60)
    spoken = cardinal(minute) if minute > 9 else f"oh {ONES[minute]}" if minute else "o'clock"
    return f"{hour} {spoken}"


def date(rng: random.Random) -> str:
    """A date: "the third of May", "March twenty-first", "Monday the ninth", sometimes with a year."""
    day, month = ordinal(below(rng, 32, 1)), pick(rng, MONTHS)
    style = below(rng, 5)
    if style == 0:
        return f"{pick(rng, DAYS)} the {day}"
    text = f"the {day} of {month}" if style < 3 else f"{month} {day}"
    return f"{text} {year(rng)}" if rng.random() < 0.15 else text


def price(rng: random.Random) -> str:
    """A sum of money: "twelve dollars", "three pounds fifty", "nine ninety-nine", "sixty cents"."""
    unit = pick(rng, ("dollar", "pound", "euro", "dollar"))
    style = below(rng, 6)
    amount = below(rng, (20, 100, 500)[below(rng, 3)], 2)
    if style == 0:
        return f"{cardinal(amount)} {unit}s {cardinal(below(rng, 100, 20))}"
    if style == 1:
        return f"{cardinal(amount)} {unit}s and {cardinal(below(rng, 100, 5))} cents"
    if style == 2:
        return f"{cardinal(below(rng, 100, 5))} cents"
    return f"{cardinal(amount if style < 5 else amount * 100)} {unit}s"


def digits(rng: random.Random, count: int) -> str:
    """`count` digits in words, a comma after some; "oh" for zero and "double four" now and then."""
    words: list[str] = []
    style = rng.random()
    for position in range(count):
        word = ONES[below(rng, 10)]
        word = "oh" if word == "zero" and style < 0.4 else word
        word = f"double {word}" if style < 0.15 and rng.random() < 0.15 else word
        words.append(word + ("," if position % 3 == 2 and position + 1 < count else ""))
    return " ".join(words)


def _decimal(rng: random.Random) -> str:
    fraction = " ".join(ONES[below(rng, 10)] for _ in range(below(rng, 3, 1)))
    return f"{cardinal(below(rng, 60))} point {fraction}"


NUMBER_WORDS = tuple(
    dict.fromkeys([*ONES, *TENS, *_EXTRA, *MONTHS, *DAYS, *(f"{day}s" for day in DAYS),
                   *(ordinal(n) for n in range(1, 20)),
                   *(ordinal(n * 10) for n in range(2, 10))])
)  # fmt: skip

NUMBER_SLOTS: dict[str, Callable[[random.Random], str]] = {
    "num": _number,
    "small": lambda rng: ONES[below(rng, 13, 2)],
    "tens": lambda rng: cardinal(below(rng, 100, 13)),
    "hundreds": lambda rng: cardinal(below(rng, 999, 100)),
    "round": lambda rng: cardinal(below(rng, 20, 1) * (10, 100, 1000, 5)[below(rng, 4)] + 10),
    "ordinal": lambda rng: ordinal(below(rng, (12, 40, 101)[below(rng, 3)], 1)),
    "year": year,
    "time": time_of_day,
    "date": date,
    "price": price,
    "decimal": _decimal,
    "phone": lambda rng: digits(rng, (5, 6, 7, 8, 10)[below(rng, 5)]),
    "pin": lambda rng: digits(rng, 4),
    "digits3": lambda rng: digits(rng, 3),
    "digit": lambda rng: ONES[below(rng, 10)],
    "month": lambda rng: pick(rng, MONTHS),
    "day": lambda rng: pick(rng, DAYS),
    "letter": lambda rng: pick(rng, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "nato": lambda rng: pick(rng, NATO),
}
