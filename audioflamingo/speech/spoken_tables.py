"""What is written short and said long: abbreviations, units, currencies, symbols."""

from __future__ import annotations

ABBREVIATIONS = {
    "dr.": "doctor", "mr.": "mister", "mrs.": "missus", "ms.": "miz", "prof.": "professor", "st.": "saint",
    "jr.": "junior", "sr.": "senior", "vs.": "versus", "vs": "versus", "etc.": "et cetera", "etc": "et cetera",
    "e.g.": "for example", "i.e.": "that is", "approx.": "approximately",
    "dept.": "department", "avg.": "average",
    "jan.": "january", "feb.": "february", "apr.": "april", "aug.": "august", "sept.": "september",
    "oct.": "october", "nov.": "november", "dec.": "december", "a.m.": "ay m", "p.m.": "p m",
    "w/": "with", "w/o": "without",
}  # fmt: skip
"""Lower-case token to words. Those that are plain words far more often ("no.", "max.") are left as they are."""

UNITS = {
    "%": ("percent", "percent"), "km": ("kilometre", "kilometres"), "m": ("metre", "metres"),
    "cm": ("centimetre", "centimetres"), "mm": ("millimetre", "millimetres"), "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"), "mg": ("milligram", "milligrams"), "lb": ("pound", "pounds"), "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"), "ft": ("foot", "feet"), "mi": ("mile", "miles"), "mph": ("mile an hour",
    "miles an hour"), "km/h": ("kilometre an hour", "kilometres an hour"), "m/s": ("metre a second",
    "metres a second"), "s": ("second", "seconds"), "sec": ("second", "seconds"), "ms": ("millisecond",
    "milliseconds"), "min": ("minute", "minutes"), "h": ("hour", "hours"), "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"), "Hz": ("hertz", "hertz"), "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"), "dB": ("decibel", "decibels"),
    "KB": ("kilobyte", "kilobytes"), "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"), "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"), "V": ("volt", "volts"),
    "°": ("degree", "degrees"), "°C": ("degree celsius", "degrees celsius"),
    "°F": ("degree fahrenheit", "degrees fahrenheit"), "BPM": ("beat per minute", "beats per minute"),
    "bpm": ("beat per minute", "beats per minute"), "am": ("ay m", "ay m"), "pm": ("p m", "p m"),
    "AM": ("ay m", "ay m"), "PM": ("p m", "p m"), "K": ("thousand", "thousand"), "k": ("thousand", "thousand"),
    "x": ("times", "times"),
}  # fmt: skip
"""Unit after a number to its singular and plural."""

SCALES = {
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion",
    "k": "thousand", "m": "million", "b": "billion",
}  # fmt: skip

CURRENCIES = {
    "$": ("dollar", "dollars", "cent"),
    "£": ("pound", "pounds", "penny"),
    "€": ("euro", "euros", "cent"),
    "¥": ("yen", "yen", "sen"),
}

SYMBOLS = {
    "&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "%": " percent ", "°": " degrees ", "<": " less than ",
    ">": " greater than ", "×": " times ", "÷": " divided by ", "±": " plus or minus ", "≈": " about ", "→": " to ",
    "$": " dollars ", "£": " pounds ", "€": " euros ", "¥": " yen ", "©": " copyright ", "™": " trademark ",
    "½": " a half ", "¼": " a quarter ", "¾": " three quarters ", "²": " squared ", "³": " cubed ", "µ": " micro ",
    "√": " root ", "∞": " infinity ", "#": " number ", "♯": " sharp ", "♭": " flat ",
}  # fmt: skip

_SHORT_WORDS = """
A I AN AS AT BE BY DO GO HE IF IN IS IT ME MY NO OF OH ON OR SO TO UP WE ALL AND ANY ARE BUT CAN DAY DID FOR GET HAD HAS
HER HIM HIS HOW ITS LET MAN MAY NEW NOT NOW OFF OLD ONE OUR OUT OWN PUT RUN SAY SEE SHE THE TOO TWO USE WAS WAY WHO WHY
YES YET YOU BIG RED RAM ROM GIF PIN SIM ZIP
"""
UPPER_WORDS = frozenset(_SHORT_WORDS.split())
"""Capitals too short to be told from initials by their shape, which are words."""
