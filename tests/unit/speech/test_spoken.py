import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.speech.spoken import Normaliser
from audioflamingo.speech.text_units import TextUnits, units_of


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
        ("1/2 3/4 5/8", "one half three quarters five eighths"),
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
        ("10^-3 x^-1 2^10", "ten to the power of minus three x to the power of minus one two to the power of ten"),
        ("1e-05", "one times ten to the power of minus five"),
        ("Qwen2.5-7B", "qwen two point five seven billion"),
        ("two H100s", "two h one hundreds"),
        ("npm, css and sdk", "n p m c s s and s d k"),
        ("cpus, GPUs, apis, https", "c p u's g p u's ay p i's h t t p s"),
        ("hmm, psst! Mr Smith", "hmm psst mister smith"),
        ("ISBN, IEEE, UTF-8", "i s b n i e e e u t f eight"),
        ("5 GB/s, 750 TFLOP/s", "five gigabytes a second seven hundred and fifty teraflops a second"),
        ("9.8 m/s²", "nine point eight metres a second squared"),
        ("model.safetensors in ~/.cache", "model dot safetensors in tilde slash dot cache"),
        ("#tag and #1 of .NET", "hashtag tag and number one of dot net"),
        ("in ms and GB/s", "in milliseconds and gigabytes a second"),
    ],
)
def test_reading(written, spoken):
    assert said(written) == spoken


def heard(text):
    """All that is said of a text, with the marks that give pauses."""
    parts = [" ".join(unit.words) + unit.mark for unit in units_of([text], TextUnits())]
    return " ".join(part for part in parts if part)


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        # money
        ("$5 million was paid.", "five million dollars was paid."),
        ("$3.5bn, $100k, £5m", "three point five billion dollars, one hundred thousand dollars, five million pounds"),
        ("$0.99 or 50¢ or 20€ or ₹500", "ninety nine cents or fifty cents or twenty euros or five hundred rupees"),
        ("$5-10 a day, $1,000/month", "five to ten dollars a day, one thousand dollars a month"),
        # dates and times
        ("on 2024-12-25", "on december twenty fifth twenty twenty four"),
        ("12/25/2024 or 25.11.1999", "december twenty fifth twenty twenty four or november twenty fifth nineteen "
         "ninety nine"),
        ("Jan 5, 2021", "january fifth, twenty twenty one"),
        ("March 3 was fine", "march third was fine"),
        ("at 12:00 AM or 9:00", "at twelve ay m or nine o'clock"),
        ("9am-5pm", "nine ay m to five p m"),
        ("the '80s, in her 20s, a 20s timer", "the eighties, in her twenties, a twenty seconds timer"),
        ("mid-1990s, 12th-century", "mid nineteen nineties, twelfth century"),
        ("2h30, 1h 30m", "two hours thirty minutes, one hour thirty minutes"),
        ("01:02:03.5", "one oh two and three point five seconds"),
        # numbers
        ("1,000,000,000,000", "one trillion"),
        ("Call 555-1234 or (415) 555-0123", "call five five five one two three four or four one five) "
         "five five five zero one two three"),
        ("ZIP 90210", "zip nine zero two one zero"),
        ("100-1000", "one hundred to one thousand"),
        ("1 1/2 cups, 2½ hours, 24/7", "one and a half cups, two and a half hours, twenty four seven"),
        ("10^6 and 1.5e-3", "ten to the power of six and one point five times ten to the power of minus three"),
        ("v1.2, 2.0.1", "version one point two, two point zero point one"),
        ("16:9, 50-50, 1920x1080 in 4K", "sixteen to nine, fifty fifty, one thousand nine hundred and twenty by one "
         "thousand and eighty in four k"),
        ("10-20% of 5M", "ten to twenty percent of five million"),
        ("~5 km, <5, ≥ 10", "about five kilometres, less than five, at least ten"),
        # units
        ("100 m², 5 µm, 10 Ω, 2in", "one hundred square metres, five micrometres, ten ohms, two inches"),
        ("sub-100 ms in dB, −14 LUFS", "sub one hundred milliseconds in decibels, minus fourteen loudness units"),
        # abbreviations and letters
        ("See Fig. 3 and No. 5. No. Yes.", "see figure three and number five. no. yes."),
        ("St. John lives on 5th St. in Boston.", "saint john lives on fifth street in boston."),
        ("He left at 5 p.m. Then he slept.", "he left at five p m. then he slept."),
        ("e.g., this, i.e., that", "for example, this, that is, that"),
        ("Mr. J. R. Tolkien Jr.", "mister j r tolkien junior."),
        ("a Ph.D. or PhD", "a p h d or p h d"),
        ("World War II, Henry VIII, Chapter V", "world war two, henry the eighth, chapter five"),
        ("A dog in A minor. A cat", "a dog in ay minor. a cat"),
        ("C# or F♯ or AT&T", "c sharp or f sharp or ay t and t"),
        ("iPhone, YouTube, McDonald", "i phone, you tube, mcdonald"),
        ("α and β", "alpha and beta"),
        ("Größe Ærø Łódź", "grosse aero lodz"),
        # addresses
        ("see file.txt in /usr/bin", "see file dot t x t in slash usr slash bin"),
        # marks
        ("one—two, wait...what", "one- two, wait. what"),
        ("Thanks! :) # Title", "thanks! title"),
        ("the dog(s)", "the dogs"),
    ],
)  # fmt: skip
def test_texts_as_they_are_heard(written, spoken):
    assert heard(written) == spoken


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


def test_something_always_follows_versus():
    assert heard("Smith vs. Jones, e.g. This one") == "smith versus jones, for example this one"
