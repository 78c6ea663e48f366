"""The sounds of American English that the embedded voice knows: the names that flite gives them, vowels with stress."""

from __future__ import annotations

_VOWELS = "aa ae ah ao aw ax axr ay eh er ey ih iy ow oy uh uw"
_CONSONANTS = "b ch d dh dx el em en f g hh hv jh k l m n ng nx p r s sh t th v w y z zh"
VOWELS, CONSONANTS = tuple(_VOWELS.split()), tuple(_CONSONANTS.split())
PAUSE = "pau"
PHONES = (PAUSE, *CONSONANTS, *(f"{vowel}{stress}" for vowel in VOWELS for stress in (0, 1)))
PHONE_IDS = {phone: index for index, phone in enumerate(PHONES)}
PAUSE_ID = PHONE_IDS[PAUSE]
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
LETTER_IDS = {letter: index for index, letter in enumerate(LETTERS)}


def phone_name(name: str, *, stressed: bool) -> str:
    """The name of a phone here, from an engine's name and its syllable's stress."""
    return f"{name}{int(stressed)}" if name in VOWELS else name
