"""Pieces, seams, subtitles, and going on after an interruption."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.longform import Segment, Transcript, as_srt, as_values, as_vtt, pieces_of, stitch, transcribe_long
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Reply, Usage

WORDS = [f"w{number}" for number in range(200)]
WORD_S = 0.5


def sound(duration_s):
    return Audio(np.arange(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32) / 1e7, "talk")


class Listener:
    """Hears word n from n/2 s on, a word that is cut it does not hear; stops after some pieces if told to."""

    def __init__(self, stop_after=None):
        self.heard = []
        self.stop_after = stop_after

    def transcribe(self, audio, **options):
        if self.stop_after is not None and len(self.heard) >= self.stop_after:
            raise KeyboardInterrupt
        start_s = round(float(audio.samples[0]) * 1e7) / SAMPLE_RATE_HZ
        self.heard.append(start_s)
        first, last = int(np.ceil(start_s / WORD_S)), int((start_s + audio.duration_s) / WORD_S)
        return Reply(" ".join(WORDS[first:last]), (), "stop", Usage(0, 0, 0, audio.duration_s))


@pytest.mark.parametrize("overlap_s", [3.1, 5.0])
@pytest.mark.parametrize("duration_s", [4, 30, 31, 55, 99])
def test_no_word_is_lost_or_doubled(duration_s, overlap_s):
    transcript = transcribe_long(Listener(), sound(duration_s), overlap_s=overlap_s)
    assert transcript.text.split() == WORDS[: int(duration_s / WORD_S)]
    assert transcript.segments[0].start_s == 0
    assert transcript.segments[-1].end_s == duration_s
    for before, after in zip(transcript.segments, transcript.segments[1:], strict=False):
        assert before.end_s == after.start_s


@given(st.floats(0.1, 60), st.floats(0.05, 0.9), st.floats(0.01, 100))
def test_pieces_cover_everything(piece_s, share, duration_s):
    audio = sound(duration_s)
    pieces = list(pieces_of(audio, piece_s, piece_s * share))
    reached = 0.0
    for start_s, piece in pieces:
        assert start_s <= reached + 0.021  # a rest too short for an audio token may be missing at the end
        reached = start_s + piece.duration_s
    assert reached == pytest.approx(audio.duration_s, abs=0.021)


def test_an_overlap_as_long_as_the_piece_is_refused():
    with pytest.raises(OptionError, match="overlap"):
        list(pieces_of(sound(50), 5, 5))


def test_silence_and_disagreement_at_a_seam():
    assert stitch([Segment(0, 30, "a b c"), Segment(25, 55, "")]) == [Segment(0, 27.5, "a b c"), Segment(27.5, 55, "")]
    assert stitch([Segment(0, 30, ""), Segment(25, 55, "d e")])[1].text == "d e"
    joined = stitch([Segment(0, 30, "One, two; three four"), Segment(25, 55, "Three. Four five")])
    assert " ".join(one.text for one in joined) == "One, two; three four five"
    assert stitch([]) == []


def test_an_interrupted_transcript_goes_on(tmp_path):
    path = tmp_path / "talk.part"
    with pytest.raises(KeyboardInterrupt):
        transcribe_long(Listener(stop_after=2), sound(99), resume=path)
    second, progress = Listener(), []
    transcript = transcribe_long(second, sound(99), resume=path, progress=lambda *one: progress.append(one))
    assert second.heard == [50.0, 75.0]
    assert transcript == transcribe_long(Listener(), sound(99))
    assert progress[-1] == (99.0, 99.0)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"key": "x", "texts": [1]}', '{"key": "other", "texts": []}'])
def test_a_resume_file_of_something_else(tmp_path, text):
    path = tmp_path / "part"
    path.write_text(text)
    with pytest.raises(FlamingoError, match="part"):
        transcribe_long(Listener(), sound(40), resume=path)


def test_a_cut_piece_is_said():
    class Cut(Listener):
        def transcribe(self, audio, **options):
            return Reply("some", (), "length", Usage(0, 0, 0, 0))

    assert "cut at max_new_tokens" in transcribe_long(Cut(), sound(3)).notes[0]


def test_subtitles():
    segments = Segment(0, 61.5, "Hello <b> --> & you"), Segment(61.5, 3662.04, ""), Segment(3662.04, 3663, "Bye")
    transcript = Transcript(segments, 3663)
    assert as_srt(transcript).startswith("1\n00:00:00,000 --> 00:01:01,500\nHello")
    assert "2\n01:01:02,040 --> 01:01:03,000\nBye\n\n" in as_srt(transcript)
    vtt = as_vtt(transcript)
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:01:01.500\nHello &lt;b&gt; --&gt; &amp; you\n")
    assert len(re.findall("-->", vtt)) == 2
    values = json.loads(json.dumps(as_values(transcript)))
    assert values["segments"][2] == {"start_s": 3662.04, "end_s": 3663, "text": "Bye"}
