"""Pieces, seams, when things are said, and going on after an interruption."""

import errno
import itertools
import json
import os
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import CheckpointError, FlamingoError, OptionError
from audioflamingo.longform import PIECES_AT_ONCE, Lengths, Segment, lengths_of, pieces_of, stitch, transcribe_long
from audioflamingo.longform.phrases import MAX_PHRASE_CHARS, MAX_PHRASE_S, loud_stretches, phrases_of
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Reply, Usage

WORDS = [f"w{number}" for number in range(2000)]
WORD_S = 0.5


def sound(duration_s):
    return Audio(np.arange(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32) / 1e7, "talk")


def reply(text, reason="stop"):
    return Reply(text, (), reason, Usage(0, 0, 0, 0))


class Listener:
    """Hears word n from n/2 s on, a word that is cut it does not hear; stops after some pieces if told to."""

    name = "listener"
    lengths = Lengths(20, 15, 3)

    def __init__(self, stop_after=None):
        self.heard = []
        self.stop_after = stop_after

    def generate(self, conversations, **options):
        if self.stop_after is not None and len(self.heard) >= self.stop_after:
            raise KeyboardInterrupt
        return [self.answer(message.content[0], options) for (message,) in conversations]

    def answer(self, audio, options):
        start_s = round(float(audio.samples[0]) * 1e7) / SAMPLE_RATE_HZ
        self.heard.append(start_s)
        first, last = int(np.ceil(start_s / WORD_S)), int((start_s + audio.duration_s) / WORD_S)
        return reply(f"The content of the input audio is '{' '.join(WORDS[first:last])}'.")


@pytest.mark.parametrize("pieces_at_once", [1, 3, PIECES_AT_ONCE])
@pytest.mark.parametrize("overlap_s", [3.1, 5.0])
@pytest.mark.parametrize("duration_s", [4, 30, 31, 55, 99, 400])
def test_no_word_is_lost_or_doubled(duration_s, overlap_s, pieces_at_once):
    transcript = transcribe_long(
        Listener(), sound(duration_s), overlap_s=overlap_s, pieces_at_once=pieces_at_once
    )  # fmt: skip
    words = WORDS[: int(duration_s / WORD_S)]
    assert transcript.text.split() == words
    assert " ".join(one.text for one in transcript.phrases).split() == words
    assert transcript.segments[0].start_s == 0
    assert transcript.segments[-1].end_s == duration_s
    for before, after in itertools.pairwise(transcript.segments):
        assert before.end_s == after.start_s
    for before, after in itertools.pairwise(transcript.phrases):
        assert before.end_s <= after.start_s + 1e-6


@given(st.floats(0.1, 60), st.floats(0.05, 0.9), st.floats(0.01, 100))
def test_pieces_cover_everything(piece_s, share, duration_s):
    audio = sound(duration_s)
    pieces = list(pieces_of(audio, piece_s, piece_s * share))
    reached = 0.0
    for start_s, piece in pieces:
        assert start_s <= reached + 0.021  # a rest too short for an audio token may be missing at the end
        reached = start_s + piece.duration_s
    assert reached == pytest.approx(audio.duration_s, abs=0.021)


@pytest.mark.parametrize(("piece_s", "overlap_s"), [(5, 5), (5, -1), (0, 0), (1e-6, 0), (5, 5 - 1e-6)])
def test_pieces_that_would_never_come_to_an_end_are_refused(piece_s, overlap_s):
    with pytest.raises(OptionError, match="overlap"):
        list(pieces_of(sound(50), piece_s, overlap_s))


def test_no_pieces_at_once_are_refused():
    with pytest.raises(OptionError, match="pieces_at_once is 0"):
        transcribe_long(Listener(), sound(4), pieces_at_once=0)


class Pausing(Listener):
    """Hears nobody speak in pieces that begin within the pause, in either of two wordings."""

    def __init__(self, pause_s, says):
        super().__init__()
        self.pause_s, self.says = pause_s, says

    def answer(self, audio, options):
        heard = super().answer(audio, options)
        return reply(self.says) if self.pause_s[0] <= self.heard[-1] < self.pause_s[1] else heard


@pytest.mark.parametrize("says", ["There is no speech.", "No one is speaking"])
def test_a_piece_without_speech_has_no_words_and_takes_none(says):
    transcript = transcribe_long(Pausing((12, 24), says), sound(63))
    words = WORDS[: int(63 / WORD_S)]
    assert transcript.text.split() == words[: int(15 / WORD_S)] + words[int(24 / WORD_S) :]
    assert [bool(one.text) for one in transcript.segments] == [True, False, True, True, True]
    assert transcript.notes == ()


@pytest.mark.parametrize(
    ("lengths", "duration_s", "num_pieces"),
    [(Lengths(20, 15, 3), 20, 1), (Lengths(20, 15, 3), 21, 2), (Lengths(), 30, 1), (Lengths(), 31, 2)],
)
def test_pieces_are_as_long_as_the_model_wants(lengths, duration_s, num_pieces):
    listener = Listener()
    listener.lengths = lengths
    assert len(transcribe_long(listener, sound(duration_s)).segments) == num_pieces


STATED = '{"transcription": {"at_once_s": 20, "piece_s": 15, "overlap_s": 3}}'


@pytest.mark.parametrize(("text", "lengths"), [("{}", Lengths()), ("[]", Lengths()), (STATED, Lengths(20, 15, 3))])
def test_a_checkpoint_says_how_long(tmp_path, text, lengths):
    assert lengths_of(tmp_path) == Lengths()
    (tmp_path / "generation_config.json").write_text(text)
    assert lengths_of(tmp_path) == lengths


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ('{"piece_s": -1}', "piece_s is -1, allowed: more than 0 s"),
        ('{"piece_s": "long"}', "piece_s is 'long'"),
        ('{"piece_s": NaN}', "piece_s is nan"),
        ('{"at_once_s": 5, "piece_s": 15}', "piece_s"),
        ('{"piece_s": 3, "overlap_s": 3}', "overlap_s has to be less than piece_s"),
        ('{"pieces": 3}', "transcription has pieces, allowed: at_once_s, piece_s, overlap_s"),
        ("7", "transcription is 7"),
        ("{", "cannot be used"),
    ],
)
def test_lengths_of_no_use_are_told(tmp_path, stated, told):
    (tmp_path / "generation_config.json").write_text(f'{{"transcription": {stated}}}')
    with pytest.raises(CheckpointError, match=told):
        lengths_of(tmp_path)


@pytest.mark.parametrize(("piece_s", "overlap_s"), [(15, 3), (30, 5), (30, 12)])
def test_a_seam_is_where_its_words_are(piece_s, overlap_s):
    """What both heard is kept of the first, so that the seam is at the end of what they share, not in its middle."""
    transcript = transcribe_long(Listener(), sound(99), piece_s=piece_s, overlap_s=overlap_s)
    assert len(transcript.segments) > 2
    for one in transcript.segments:
        first, last = (int(one.text.split()[place].removeprefix("w")) for place in (0, -1))
        assert one.start_s == pytest.approx(first * WORD_S, abs=2 * WORD_S)
        assert one.end_s == pytest.approx((last + 1) * WORD_S, abs=2 * WORD_S)


def test_a_sound_without_speech_has_a_note():
    transcript = transcribe_long(Pausing((0, 99), "There is no speech."), sound(99))
    assert (transcript.text, transcript.spoken) == ("", ())
    assert transcript.notes == ("no speech is heard in talk",)


def test_silence_and_disagreement_at_a_seam():
    assert stitch([Segment(0, 30, "a b c"), Segment(25, 55, "")]) == [Segment(0, 27.5, "a b c"), Segment(27.5, 55, "")]
    assert stitch([Segment(0, 30, ""), Segment(25, 55, "d e")])[1].text == "d e"
    joined = stitch([Segment(0, 30, "One, two; three four"), Segment(25, 55, "Three. Four five")])
    assert " ".join(one.text for one in joined) == "One, two; three four five"
    assert stitch([]) == []


def test_words_that_are_repeated_at_a_seam_are_not_lost():
    before = Segment(0, 30, "so they said " * 10 + "one two three one two three")
    after = Segment(25, 55, "one two three four " + "and more came " * 8)
    joined = " ".join(one.text for one in stitch([before, after]))
    assert "said one two three one two three four and" in joined


def test_a_sentence_of_a_list_is_not_lost_where_its_neighbours_say_the_same():
    """The longest run of equal words lies between two items of the list, not where the pieces meet."""
    said = "the weather is {} today number {} is here and my brother will {} the redhouse in london "
    before = Segment(0, 15, said.format("fin", "one", "buy") + said.format("fine", "two", "by") + "the weather is fine")
    after = Segment(12, 27, said.format("fin", "three", "by") + said.format("fin", "four", "by") + "the weather")
    joined = " ".join(one.text for one in stitch([before, after])).split()
    assert [after for before, after in itertools.pairwise(joined) if before == "number"] == [
        "one",
        "two",
        "three",
        "four",
    ]


@pytest.mark.parametrize("seed", range(40))
def test_pauses_of_any_length_lose_and_double_no_word(seed):
    """Speech of uneven density, cut where it falls; a word that a piece's border cuts is not heard in that piece."""
    rng = random.Random(seed)
    words, time_s = [], 0.0
    while time_s < 104:
        spoken_s = rng.uniform(0.2, 0.6)
        words.append((time_s, time_s + spoken_s, f"w{rng.randrange(300)}"))
        time_s += spoken_s + (rng.uniform(0.5, 4) if rng.random() < 0.15 else 0.02)
    segments = [
        Segment(start, start + 30, " ".join(word for begin, end, word in words if begin >= start and end <= start + 30))
        for start in range(0, 100, 25)
    ]
    assert " ".join(one.text for one in stitch(segments)) == " ".join(word for _, _, word in words)


def bursts(*spans, duration_s, level=0.3, floor=1e-4):
    """Noise at `level` within the spans of seconds, and at `floor` elsewhere."""
    noise = np.random.default_rng(0).standard_normal(round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)
    gain = np.full(len(noise), floor, np.float32)
    for start_s, end_s in spans:
        gain[round(start_s * SAMPLE_RATE_HZ) : round(end_s * SAMPLE_RATE_HZ)] = level
    return noise * gain


def test_what_stands_out_of_the_quiet():
    samples = bursts((1, 2), (2.1, 3), (6, 8), duration_s=10)
    assert np.allclose(loud_stretches(samples), [(1, 3), (6, 8)], atol=0.021)
    assert loud_stretches(bursts(duration_s=2)) == [(0.0, 2.0)]  # steady noise: nothing stands out
    assert loud_stretches(np.zeros(3 * SAMPLE_RATE_HZ, np.float32)) == [(0.0, 3.0)]
    assert loud_stretches(np.zeros(100, np.float32)) == [(0.0, 100 / SAMPLE_RATE_HZ)]


def test_phrases_stand_where_it_sounds():
    segment = Segment(100.0, 110.0, "one two ten six")
    found = list(phrases_of(segment, loud_stretches(bursts((1, 2), (6, 7), duration_s=10))))
    assert [one.text for one in found] == ["one two", "ten six"]
    assert [(one.start_s, one.end_s) for one in found] == [
        (pytest.approx(101, abs=0.05), pytest.approx(102, abs=0.05)),
        (pytest.approx(106, abs=0.05), pytest.approx(107, abs=0.05)),
    ]


@given(
    st.lists(st.text("abc.!犬", min_size=1, max_size=200), min_size=1, max_size=60),
    st.lists(st.floats(0, 30), min_size=2, max_size=12, unique=True),
)
def test_phrases_are_short_in_order_and_complete(words, edges):
    edges = sorted(edges)
    stretches = [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=False) if end - start > 1e-3]
    segment = Segment(7.0, 37.0, " ".join(words))
    found = list(phrases_of(segment, stretches or [(0.0, 30.0)]))
    assert "".join(one.text for one in found).replace(" ", "") == "".join(words)
    assert all(len(one.text) <= MAX_PHRASE_CHARS for one in found)
    assert all(7.0 <= one.start_s <= one.end_s <= 37.0 + 1e-6 for one in found)
    for before, after in itertools.pairwise(found):
        assert before.end_s <= after.start_s + 1e-6
    assert all(one.end_s - one.start_s <= MAX_PHRASE_S or " " not in one.text for one in found)


def test_an_interrupted_transcript_goes_on(tmp_path):
    path = tmp_path / "talk.part"
    with pytest.raises(KeyboardInterrupt):
        transcribe_long(Listener(stop_after=2), sound(99), resume=path, pieces_at_once=2)
    second, progress = Listener(), []
    transcript = transcribe_long(second, sound(99), resume=path, progress=lambda *one: progress.append(one))
    assert second.heard == [24.0, 36.0, 48.0, 60.0, 72.0, 84.0]
    assert transcript == transcribe_long(Listener(), sound(99))
    assert progress[-1] == (99.0, 99.0)
    third = Listener()
    assert transcribe_long(third, sound(99), resume=path) == transcript
    assert third.heard == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"key": "x", "pieces": [1]}', '{"key": "x", "pieces": [["a", 1]]}', '{"key": "x", "pieces": 3}',
     "\udcff\udcfe", "[" * 100_000],
)  # fmt: skip
def test_a_resume_file_of_something_else_is_kept(tmp_path, text):
    path = tmp_path / "part"
    path.write_bytes(text.encode(errors="surrogateescape"))
    before = path.read_bytes()
    with pytest.raises(FlamingoError, match=r"part holds no transcript to go on with .*; name another file$") as error:
        transcribe_long(Listener(), sound(40), resume=path)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


def test_a_resume_file_belongs_to_a_sound_a_model_and_options(tmp_path):
    path = tmp_path / "part"
    transcribe_long(Listener(), sound(40), resume=path, seed=1)
    other = Listener()
    other.name = "other"
    for model, audio, options in ((Listener(), sound(41), {"seed": 1}), (Listener(), sound(40), {"seed": 2}),
                                  (other, sound(40), {"seed": 1})):  # fmt: skip
        with pytest.raises(FlamingoError, match="belongs to another sound, another model or other options"):
            transcribe_long(model, audio, resume=path, **options)


@pytest.mark.parametrize("place", ["absent/part", "folder"])
def test_a_place_that_cannot_be_written_to_is_known_before_any_work(tmp_path, place):
    (tmp_path / "folder").mkdir()
    listener = Listener()
    with pytest.raises(
        FlamingoError, match=r"part cannot be written: .*\. Name a file in a folder|folder holds no transcript"
    ) as error:
        transcribe_long(listener, sound(40), resume=tmp_path / place)
    assert "still there" not in str(error.value)
    assert listener.heard == []


def test_a_full_disk_keeps_what_was_done_before(tmp_path, monkeypatch):
    path, replace = tmp_path / "part", os.replace

    def full(source, target):
        if len(json.loads(source.read_text())["pieces"]) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(FlamingoError, match=r"No space left on device\. What it held is still there"):
            transcribe_long(Listener(), sound(99), resume=path, pieces_at_once=1)
    assert os.listdir(tmp_path) == ["part"]
    second = Listener()
    assert transcribe_long(second, sound(99), resume=path) == transcribe_long(Listener(), sound(99))
    assert second.heard == [24.0, 36.0, 48.0, 60.0, 72.0, 84.0]


def test_a_cut_piece_is_said_after_an_interruption_too(tmp_path):
    class Cut(Listener):
        def answer(self, audio, options):
            return reply("some", "length")

    for _ in range(2):
        (note,) = transcribe_long(Cut(), sound(3), resume=tmp_path / "part").notes
        assert "from 0.0 s to 3.0 s were cut at max_new_tokens" in note
