"""Words of transcripts as Whisper's normalizer leaves them: what is evened out, by whose rules, and in what time."""

import json
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import OptionError
from audioflamingo.eval.captions import MAX_TEXT_CHARS
from audioflamingo.eval.items import items_of
from audioflamingo.eval.judge import Judge
from audioflamingo.eval.judging import judged
from audioflamingo.eval.metrics import word_error_rate, words_of
from audioflamingo.eval.normalize import PLAIN, normalizer
from audioflamingo.train.data.mixtures import parse_mixture

LONGEST_S = 20.0  # 2 s on a quiet core; what looks through a text again and again takes minutes


@pytest.fixture(scope="module")
def theirs():
    """The package's module."""
    return pytest.importorskip("whisper_normalizer.english")


@pytest.fixture(scope="module")
def english(theirs):
    return normalizer("english")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("twenty one", "21"),
        ("Twenty-one dogs", "21 dogs"),
        ("two thousand and five hundred", "2,500"),
        ("the third of may", "the 3rd of May"),
        ("three point one four", "3.14"),
        ("five dollars and seven cents", "$5.07"),
        ("ten percent", "10%"),
        ("I can't, and we won't.", "i can not and we will not"),
        ("She's gone; they're here, I'm not", "she has gone they are here i am not"),
        ("gonna", "going to"),
        ("um I, uh, hmm, see", "I see"),
        ("Mr. Smith and Dr. Jones", "mister smith and doctor jones"),
        ("Mrs Brown of St. Ives", "missus brown of saint ives"),
        ("Hello -- there! (laughs) [noise]", "hello there"),
        ("a café", "a cafe"),
        ("The colour of the theatre", "the color of the theater"),
        ("they realised", "they realized"),
    ],
)
def test_what_english_evens_out_and_plain_does_not(english, one, other):
    assert english.words(one) == english.words(other) != []
    assert words_of(one) != words_of(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Twenty one dogs, um, can't bark!", ["21", "dogs", "can", "not", "bark"]),
        ("Mr. Grey's colour is 1,000 dollars", ["mister", "gray", "is", "color", "is", "$1000"]),
        (
            "the cause is kinda clear, I dunno",
            ["the", "cause", "is", "kinda", "clear", "i", "dunno"],
        ),  # as Whisper has it
        ("um", []),
        ("", []),
    ],
)
def test_words(english, text, words):
    assert english.words(text) == words


def test_normalizing_twice_may_change_more_than_once(english):
    once = english.words("o o o")
    assert (once, english.words(" ".join(once))) == (["000"], ["0"])


def _vocabulary(theirs):
    numbers = theirs.EnglishNumberNormalizer()
    spellings = theirs.EnglishSpellingNormalizer().mapping
    more = "it's don't mr. dr um uh can't i'm the cause kinda 1 21 0.5 1,000 $5 ¢7 5% 1960s £ ( ) [ ] < > ' . , é ß ²"
    return sorted(numbers.words) + sorted(spellings)[::40] + more.split()


def test_it_is_whispers_normalizer_as_transformers_has_it(theirs, english):
    peer = pytest.importorskip("transformers.models.whisper.english_normalizer")
    spelt = theirs.EnglishSpellingNormalizer().mapping
    assert len(spelt) > 1_500
    whispers = peer.EnglishTextNormalizer(spelt)
    words = st.sampled_from(_vocabulary(theirs))

    @given(st.one_of(st.lists(words, max_size=12).map(" ".join), st.text(max_size=30)))
    def same(text):
        assert english.words(text) == whispers(text).split()

    same()


@given(st.text("<>[]()|'um1.,$ \n\ts", max_size=20))
def test_brackets_and_blanks_change_no_word(text):
    theirs = pytest.importorskip("whisper_normalizer.english")
    assert normalizer("english").words(text) == theirs.EnglishTextNormalizer()(text).split()


@pytest.mark.parametrize(
    "piece", ["<", "(", "[ ", " ", "um ", "<> ", "((a)", "one ", "9 ", "and a half ", "1.1 million "]
)
def test_the_longest_texts_are_bounded_in_time(english, piece):
    text = (piece * MAX_TEXT_CHARS)[:MAX_TEXT_CHARS]
    began = time.monotonic()
    english.words(text)
    english.words(text[:-3] + "<)>")
    assert time.monotonic() - began < LONGEST_S


def test_what_cannot_be_normalized_counts_as_saying_nothing(english):
    assert len(english.words("a" * MAX_TEXT_CHARS)) == 1
    for text, why in (("a" * (MAX_TEXT_CHARS + 1), "100,001 characters; at most 100,000"), ("9" * 5_000, "fails at")):
        with pytest.raises(ValueError, match=why):
            english.words(text)
        verdict = judged("words", "Transcribe.", "a dog", text, english.words)
        assert (verdict.num_errors, verdict.num_words, verdict.score, verdict.is_told) == (2, 2, 0.0, False)
        with pytest.raises(ValueError, match=why):
            judged("words", "Transcribe.", text, "a dog", english.words)


def test_verdicts_and_figures_take_a_normalizer(english):
    truth, reply = "Mr. Grey saw twenty one dogs", "The content of the input audio is 'mister gray saw 21 dogs'."
    assert judged("words", "Transcribe.", truth, reply, english.words).is_right
    assert judged("words", "Transcribe.", truth, reply).num_errors == 4
    assert judged("words", "Transcribe.", truth, reply) == judged("words", "Transcribe.", truth, reply, PLAIN.words)
    assert word_error_rate(["twenty one"], ["21"], english.words).value == 0
    assert word_error_rate(["twenty one"], ["21"]).value == 1


def _items(tmp_path, question, *truths):
    rows = [
        {"id": str(place), "sound": "a.wav", "conversations": [
            {"from": "human", "value": question}, {"from": "gpt", "value": truth}]}
        for place, truth in enumerate(truths)
    ]  # fmt: skip
    (tmp_path / "set.json").write_text(json.dumps(rows))
    return items_of(parse_mixture(str(tmp_path / "set.json")), 20, with_sounds=False).items


def test_a_judge_tells_of_truths_that_have_no_words_left_and_refuses_what_it_cannot_read(english, tmp_path):
    items = _items(tmp_path, "Transcribe the speech.", "um", "twenty one", "Hmm.")
    (note,) = Judge(items, how=english).notes()
    assert note.startswith("2 true transcripts have no words once normalized")
    assert Judge(items).notes() == []
    assert Judge(items, how=english).verdict(items[1], "21").is_right
    assert not Judge(items).verdict(items[1], "21").is_right
    with pytest.raises(OptionError, match=r"set\.json.*at most 100,000 are taken; choose another --metric"):
        Judge(_items(tmp_path, "Transcribe the speech.", "a " * 60_000), how=english)
    with pytest.raises(OptionError, match="only transcripts are normalized, and no question asks for one"):
        Judge(_items(tmp_path, "What do you hear?", "A dog."), how=english)


def test_other_names_and_a_package_that_is_missing(monkeypatch):
    assert normalizer("plain") is PLAIN
    assert PLAIN.words("It's TWENTY-one!") == ["it's", "twenty", "one"]
    with pytest.raises(OptionError, match="normalize is 'german'; allowed: plain, english"):
        normalizer("german")
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(OptionError, match=r"not installed: pip install 'audioflamingo\[normalize\]'$"):
        normalizer("english")
