import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.speech.spoken import Normaliser


def said(text):
    normaliser = Normaliser()
    return " ".join(word for token in text.split() for word in normaliser.words(token))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("Hello, world!", "hello world"),
        ("Dr. Smith vs. Mrs. Jones etc.", "doctor smith versus missus jones et cetera"),
        ("3.5km", "three point five kilometres"),
        ("1 km", "one kilometre"),
        ("5 % of 1,234", "five percent of one thousand two hundred and thirty four"),
        ("$3.50", "three dollars and fifty cents"),
        ("$1", "one dollar"),
        ("£1.01", "one pound and one penny"),
        ("$5M", "five million dollars"),
        ("10:30 pm", "ten thirty p m"),
        ("10:00", "ten o'clock"),
        ("9:05am", "nine oh five ay m"),
        ("May 3rd, 1984", "may third nineteen eighty four"),
        ("the 1980s", "the nineteen eighties"),
        ("1/2 3/4 5/8", "one half three quarters five over eight"),
        ("5-7 kg", "five to seven kilograms"),
        ("-5 °C", "minus five degrees celsius"),
        ("HTML, NASA and the USA", "h t m l nasa and the u s ay"),
        ("U.S. DVDs", "u s d v d's"),
        ("GPT-4 and MP3", "g p t four and m p three"),
        ("a@b.com https://x.org/y", "a at b dot com x dot org slash y"),
        ("**bold** `code` (really)", "bold code really"),
        ("R&D + 2=2", "r and d plus two equals two"),
        ("007", "zero zero seven"),
        ("12345678901", "one two three four five six seven eight nine zero one"),
        ("café naïve", "cafe naive"),
        ("don't o'clock", "don't o'clock"),
        ("well-known", "well known"),
        ("... -- *", ""),
    ],
)
def test_reading(written, spoken):
    assert said(written) == spoken


def test_units_belong_to_numbers_only():
    assert said("an m and a 5 m") == "an m and a five metres"


def test_what_cannot_be_read_is_named():
    normaliser = Normaliser()
    assert normaliser.words("😀") == ()
    assert normaliser.words("да") == ()
    assert normaliser.left_out == ["😀", "д", "а"]


@given(st.text(max_size=60))
def test_words_are_letters_and_apostrophes(text):
    for token in text.split():
        for word in Normaliser().words(token):
            assert word.replace("'", "").isalpha()
            assert word.isascii()
            assert word == word.lower()


@given(st.text(alphabet="0123456789.,:-/$%kmKMB€ ", max_size=30))
def test_odd_figures_never_fail(text):
    for token in text.split():
        Normaliser().words(token, "million")
