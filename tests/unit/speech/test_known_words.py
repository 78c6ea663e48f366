import pytest

from audioflamingo.speech.engines import EMBEDDED_VOICE
from audioflamingo.speech.known_words import FILE, known_phones, known_words
from audioflamingo.speech.phones import LETTER_IDS, PHONE_IDS, PHONES, VOWELS
from audioflamingo.speech.storage import load_voice


@pytest.fixture(scope="module")
def pronouncer():
    return load_voice(EMBEDDED_VOICE).pronouncer


def said(pronouncer, word):
    return " ".join(PHONES[index] for index in pronouncer.phones(word))


def test_the_list_is_in_order_and_of_our_letters_and_phones():
    words = []
    for line in FILE.read_text("ascii").splitlines():
        word, *phones = line.split(" ")
        words.append(word)
        assert set(word) <= set(LETTER_IDS)
        assert phones
        assert set(phones) <= set(PHONE_IDS)
        assert any(phone.rstrip("01") in VOWELS for phone in phones)
    assert words == sorted(set(words))


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("event", "ih0 v eh1 n t"),
        ("kilohertz", "k ih1 l ax0 hh er0 t s"),
        ("nvidia", "eh0 n v ih1 d iy0 ax0"),
        ("git", "g ih1 t"),
        ("genre", "zh aa1 n r ax0"),
        ("bass", "b ey1 s"),
        ("a", "ax0"),
        ("ay", "ey1"),
    ],
)
def test_listed_words_are_said_as_they_are(pronouncer, word, phones):
    assert said(pronouncer, word) == phones


@pytest.mark.parametrize(
    ("word", "phones"),
    [
        ("area", "eh1 r iy0 ax0"),
        ("apply", "ax0 p l ay1"),
        ("crisis", "k r ay1 s ax0 s"),
        ("evil", "iy1 v ax0 l"),
        ("fruit", "f r uw1 t"),
    ],
)
def test_common_words_are_said_as_they_are_without_any_list(pronouncer, word, phones):
    assert known_phones(word) is None
    assert said(pronouncer, word) == phones


@pytest.mark.parametrize(("word", "end"), [("nvidia", "z"), ("softmax", "ih0 z"), ("git", "s")])
def test_a_possessive_is_said_by_its_word(pronouncer, word, end):
    assert said(pronouncer, f"{word}'s") == f"{said(pronouncer, word)} {end}"


def test_a_voice_s_own_exceptions_go_first():
    voice = load_voice(EMBEDDED_VOICE)
    voice.pronouncer.exceptions = {"nvidia": ("aa1", "r")}
    assert "nvidia" in known_words()
    assert said(voice.pronouncer, "nvidia") == "aa1 r"
    assert known_phones("zxqv") is None
