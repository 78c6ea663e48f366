"""What is written short and said long: abbreviations, units, currencies, symbols, letters of other alphabets."""

from __future__ import annotations

TITLES = {
    "dr.": "doctor", "mr.": "mister", "mrs.": "missus", "ms.": "miz", "prof.": "professor", "gen.": "general",
    "sen.": "senator", "gov.": "governor", "capt.": "captain", "lt.": "lieutenant", "sgt.": "sergeant",
    "rev.": "reverend", "hon.": "honourable", "mt.": "mount",
}  # fmt: skip
"""A name follows, so there is never a pause after them."""

ABBREVIATIONS = TITLES | {
    "st.": "saint", "jr.": "junior", "sr.": "senior", "vs.": "versus", "vs": "versus", "etc.": "et cetera",
    "etc": "et cetera", "e.g.": "for example", "i.e.": "that is", "approx.": "approximately", "dept.": "department",
    "avg.": "average", "inc.": "incorporated", "ltd.": "limited", "corp.": "corporation", "co.": "company",
    "fig.": "figure", "figs.": "figures", "vol.": "volume", "al.": "al", "ave.": "avenue", "blvd.": "boulevard",
    "jan.": "january", "feb.": "february", "apr.": "april", "aug.": "august", "sept.": "september",
    "oct.": "october", "nov.": "november", "dec.": "december", "mon.": "monday", "tue.": "tuesday",
    "tues.": "tuesday", "thu.": "thursday", "thurs.": "thursday", "fri.": "friday", "a.m.": "ay m", "p.m.": "p m",
    "w/": "with", "w/o": "without", "phd": "p h d", "ph.d.": "p h d", "ph.d": "p h d", "msc": "m s c", "bsc": "b s c",
    "aka": "ay k ay", "ok": "o k", "mr": "mister", "mrs": "missus", ".net": "dot net", "llama": "llama",
}  # fmt: skip
"""Lower-case token to words. Those that are plain words far more often ("max.", "sun.") are left as they are."""

NEVER_LAST = frozenset(["vs.", "e.g.", "i.e.", "approx.", "fig.", "figs."])
"""Something follows, so there is no pause after them, whatever begins with a capital."""

NUMBERED = {"no.": "number", "nos.": "numbers"}
"""Read so before a digit; else they are the words that they look like."""

SHORT_MONTHS = {
    "Jan": "january", "Feb": "february", "Mar": "march", "Apr": "april", "Jun": "june", "Jul": "july",
    "Aug": "august", "Sep": "september", "Sept": "september", "Oct": "october", "Nov": "november", "Dec": "december",
}  # fmt: skip
"""Without a full stop; read so only beside a number."""

UNITS = {
    "%": ("percent", "percent"), "km": ("kilometre", "kilometres"), "m": ("metre", "metres"),
    "cm": ("centimetre", "centimetres"), "mm": ("millimetre", "millimetres"), "µm": ("micrometre", "micrometres"),
    "nm": ("nanometre", "nanometres"), "kg": ("kilogram", "kilograms"), "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"), "µg": ("microgram", "micrograms"), "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"), "oz": ("ounce", "ounces"), "ft": ("foot", "feet"), "mi": ("mile", "miles"),
    "mph": ("mile an hour", "miles an hour"), "km/h": ("kilometre an hour", "kilometres an hour"),
    "kph": ("kilometre an hour", "kilometres an hour"), "m/s": ("metre a second", "metres a second"),
    "m/s²": ("metre a second squared", "metres a second squared"),
    "m²": ("square metre", "square metres"), "km²": ("square kilometre", "square kilometres"),
    "cm²": ("square centimetre", "square centimetres"), "m³": ("cubic metre", "cubic metres"),
    "cm³": ("cubic centimetre", "cubic centimetres"), "L": ("litre", "litres"), "ml": ("millilitre", "millilitres"),
    "mL": ("millilitre", "millilitres"), "s": ("second", "seconds"), "sec": ("second", "seconds"),
    "secs": ("second", "seconds"), "ms": ("millisecond", "milliseconds"), "µs": ("microsecond", "microseconds"),
    "ns": ("nanosecond", "nanoseconds"), "min": ("minute", "minutes"), "mins": ("minute", "minutes"),
    "h": ("hour", "hours"), "hr": ("hour", "hours"), "hrs": ("hour", "hours"), "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"), "MHz": ("megahertz", "megahertz"), "GHz": ("gigahertz", "gigahertz"),
    "dB": ("decibel", "decibels"), "dBFS": ("decibel of full scale", "decibels of full scale"),
    "LUFS": ("loudness unit", "loudness units"), "kbps": ("kilobit a second", "kilobits a second"),
    "Mbps": ("megabit a second", "megabits a second"), "KB": ("kilobyte", "kilobytes"), "kB": ("kilobyte",
    "kilobytes"), "MB": ("megabyte", "megabytes"), "GB": ("gigabyte", "gigabytes"), "TB": ("terabyte", "terabytes"),
    "KB/s": ("kilobyte a second", "kilobytes a second"), "kB/s": ("kilobyte a second", "kilobytes a second"),
    "MB/s": ("megabyte a second", "megabytes a second"), "GB/s": ("gigabyte a second", "gigabytes a second"),
    "TB/s": ("terabyte a second", "terabytes a second"), "Gbps": ("gigabit a second", "gigabits a second"),
    "TFLOP/s": ("teraflop a second", "teraflops a second"), "GFLOP/s": ("gigaflop a second", "gigaflops a second"),
    "tok/s": ("token a second", "tokens a second"), "kb/s": ("kilobit a second", "kilobits a second"),
    "kbit/s": ("kilobit a second", "kilobits a second"), "Mbit/s": ("megabit a second", "megabits a second"),
    "Gbit/s": ("gigabit a second", "gigabits a second"), "GiB": ("gibibyte", "gibibytes"),
    "MiB": ("mebibyte", "mebibytes"), "KiB": ("kibibyte", "kibibytes"),
    "W": ("watt", "watts"), "kW": ("kilowatt", "kilowatts"), "kWh": ("kilowatt hour", "kilowatt hours"),
    "V": ("volt", "volts"), "mV": ("millivolt", "millivolts"), "mA": ("milliampere", "milliamperes"),
    "Ω": ("ohm", "ohms"), "kΩ": ("kiloohm", "kiloohms"), "°": ("degree", "degrees"),
    "°C": ("degree celsius", "degrees celsius"), "°F": ("degree fahrenheit", "degrees fahrenheit"),
    "BPM": ("beat per minute", "beats per minute"), "bpm": ("beat per minute", "beats per minute"),
    "fps": ("frame a second", "frames a second"), "px": ("pixel", "pixels"), "am": ("ay m", "ay m"),
    "pm": ("p m", "p m"), "AM": ("ay m", "ay m"), "PM": ("p m", "p m"), "K": ("thousand", "thousand"),
    "k": ("thousand", "thousand"), "M": ("million", "million"), "B": ("billion", "billion"),
    "bn": ("billion", "billion"), "x": ("times", "times"), "×": ("times", "times"), "D": ("d", "d"),
    "$": ("dollar", "dollars"), "£": ("pound", "pounds"), "€": ("euro", "euros"), "¢": ("cent", "cents"),
    "USD": ("dollar", "dollars"), "EUR": ("euro", "euros"), "GBP": ("pound", "pounds"),
}  # fmt: skip
"""Unit after a number to its singular and plural."""

ATTACHED_UNITS = {"in": ("inch", "inches"), '"': ("inch", "inches"), "G": ("g", "g"), "C": ("degree celsius",
                  "degrees celsius"), "F": ("degree fahrenheit", "degrees fahrenheit")}  # fmt: skip
"""Units only where no blank stands before them."""

LONE_UNITS = frozenset(
    {
        "Hz", "kHz", "MHz", "GHz", "dB", "km²", "m²", "cm²", "m³", "km/h", "m/s", "kbps", "kWh", "kW",
        "km", "kg", "cm", "ms", "GB/s", "MB/s", "TB/s", "m/s²",
    }
)  # fmt: skip
"""Read as units without a number, too ("in dB")."""

SCALES = {
    "hundred": "hundred", "thousand": "thousand", "million": "million", "billion": "billion", "trillion": "trillion",
    "k": "thousand", "m": "million", "mn": "million", "b": "billion", "bn": "billion", "t": "trillion",
    "tn": "trillion",
}  # fmt: skip

CURRENCIES = {
    "$": ("dollar", "dollars", "cent"),
    "£": ("pound", "pounds", "penny"),
    "€": ("euro", "euros", "cent"),
    "¥": ("yen", "yen", "sen"),
    "₹": ("rupee", "rupees", "paisa"),
    "₩": ("won", "won", "jeon"),
    "₿": ("bitcoin", "bitcoins", "cent"),
}
PLURAL_CENTS = {"penny": "pence", "sen": "sen", "paisa": "paise", "jeon": "jeon"}

SYMBOLS = {
    "&": " and ", "+": " plus ", "=": " equals ", "@": " at ", "%": " percent ", "°": " degrees ", "<": " less than ",
    ">": " greater than ", "≤": " at most ", "≥": " at least ", "≠": " is not ", "×": " times ", "÷": " divided by ",
    "±": " plus or minus ", "≈": " about ", "→": " to ", "^": " to the power of ", "$": " dollars ", "£": " pounds ",
    "€": " euros ", "¥": " yen ", "₹": " rupees ", "¢": " cents ", "©": " copyright ", "™": " trademark ",
    "®": " registered ", "½": " a half ", "¼": " a quarter ", "¾": " three quarters ", "²": " squared ",
    "³": " cubed ", "µ": " micro ", "√": " root ", "∞": " infinity ", "∑": " sum ", "−": " minus ", "#": " number ",
    "♯": " sharp ", "♭": " flat ", "Ω": " ohms ",
}  # fmt: skip

ADDRESS_SYMBOLS = {
    ".": "dot", "/": "slash", "\\": "backslash", "@": "at", "-": "dash", "_": "underscore", ":": "colon",
    "?": "question mark", "=": "equals", "&": "and", "%": "percent", "#": "hash", "+": "plus", "~": "tilde",
}  # fmt: skip

GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "epsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma", "τ": "tau",
    "υ": "upsilon", "φ": "phi", "χ": "chi", "ψ": "psi", "ω": "omega", "Δ": "delta", "Σ": "sigma", "Π": "pi",
    "Φ": "phi", "Ψ": "psi", "Θ": "theta", "Λ": "lambda",
}  # fmt: skip
"""Letters that stand alone, as in formulas."""

LETTERS_WITHOUT_PARTS = {
    "ß": "ss", "æ": "ae", "Æ": "Ae", "ø": "o", "Ø": "O", "œ": "oe", "Œ": "Oe", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D",
    "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ı": "i", "\u2019": "'", "\u2018": "'", "μ": "µ", "\u2126": "Ω",
}  # fmt: skip
"""Letters that are no plain letter with an accent, and signs that are written in two ways."""

RULERS = frozenset(
    {
        "henry", "louis", "elizabeth", "charles", "george", "edward", "james", "william", "richard", "philip",
        "pius", "benedict", "paul", "john", "napoleon", "catherine", "frederick", "nicholas", "alexander", "mary",
        "leopold",
    }
)  # fmt: skip
"""Names whose Roman numbers are ordinals."""

SECTIONS = frozenset(
    {
        "chapter", "part", "volume", "act", "book", "section", "phase", "type", "war", "scene", "appendix",
    }
)  # fmt: skip
"""Words after which even one Roman digit is a number."""

CODE_WORDS = frozenset(["zip", "code", "pin", "isbn", "postcode", "extension"])
"""Words after which a number is read digit by digit."""

DECADE_WORDS = frozenset(["the", "his", "her", "their", "my", "our", "your", "in", "early", "mid", "late"])
"""Words after which "30s" are the thirties and not seconds."""

_SHORT_WORDS = """
A I AN AS AT BE BY DO GO HE IF IN IS IT ME MY NO OF OH ON OR SO TO UP WE ALL AND ANY ARE BUT CAN DAY DID FOR GET HAD HAS
HER HIM HIS HOW ITS LET MAN MAY NEW NOT NOW OFF OLD ONE OUR OUT OWN PUT RUN SAY SEE SHE THE TOO TWO USE WAS WAY WHO WHY
YES YET YOU BIG RED RAM ROM GIF PIN SIM ZIP
"""
UPPER_WORDS = frozenset(_SHORT_WORDS.split())
"""Capitals too short to be told from initials by their shape, which are words."""

_INITIALISMS = """
aclu acm ai api asr aws cpu ctc espn gpu hdmi http https iclr icml ide ieee imdb io isbn issn npu oecd sql tpu ui
uri url usb usda ussr utf ux ucla
"""
INITIALISMS = frozenset(_INITIALISMS.split())
"""Read letter by letter however they are written, though they have vowels."""

VOWELLESS_WORDS = frozenset(
    [
        "hm", "hmm", "mm", "mmm", "mhm", "shh", "psst", "pst", "brr", "grr", "pfft", "tsk", "nth", "zzz", "th", "nd",
        "rd", "st", "mr", "mrs", "dr", "mc",
    ]
)  # fmt: skip
"""Words that are no initials though they have no vowel."""
