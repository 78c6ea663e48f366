"""Subtitles that a small parser of its own, written from the formats' descriptions, reads back."""

import html
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.longform import Segment, Transcript, as_srt, as_values, as_vtt
from audioflamingo.longform.forms import MAX_LINE_CHARS

SRT_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d),(\d{3})")
VTT_TIMES = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3}) --> (\d{2,}):([0-5]\d):([0-5]\d)\.(\d{3})")


def seconds(parts):
    hours, minutes, whole, milliseconds = map(int, parts)
    return hours * 3600 + minutes * 60 + whole + milliseconds / 1000


def parse_srt(text):
    """Cues (start, end, text) of SubRip: blocks divided by blank lines, each a number, times, and lines of text."""
    found = []
    for number, block in enumerate(filter(None, text.split("\n\n")), start=1):
        counted, times, *lines = block.strip("\n").split("\n")
        assert counted == str(number)
        match = SRT_TIMES.fullmatch(times)
        assert match
        assert lines
        assert all(line.strip() for line in lines)
        found.append((seconds(match.groups()[:4]), seconds(match.groups()[4:]), "\n".join(lines)))
    return found


def parse_vtt(text):
    """Cues of WebVTT: a header, then blocks of times and text without `-->` and markup."""
    header, *blocks = text.split("\n\n")
    assert header == "WEBVTT"
    found = []
    for block in filter(None, blocks):
        times, *lines = block.strip("\n").split("\n")
        match = VTT_TIMES.fullmatch(times)
        assert match
        body = "\n".join(lines)
        assert body
        assert "-->" not in body
        assert not re.search(r"<|&(?!amp;|lt;|gt;)", body)
        found.append((seconds(match.groups()[:4]), seconds(match.groups()[4:]), html.unescape(body)))
    return found


words = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=20)
said = st.lists(words | st.sampled_from(["-->", "<b>", "&amp;", "00:00:01,000", "7", "NOTE", "WEBVTT"]), max_size=14)


@given(st.lists(st.tuples(st.floats(0, 40_000), st.floats(0, 30), said), max_size=12))
def test_what_is_written_is_read_back(rows):
    start_s, segments = 0.0, []
    for gap_s, duration_s, spoken in rows:
        segments.append(Segment(start_s + gap_s / 100, start_s + gap_s / 100 + duration_s, " ".join(spoken)))
        start_s = segments[-1].end_s
    transcript = Transcript(tuple(segments), start_s)
    with_text = [one for one in segments if one.text]
    for cues, change in ((parse_srt(as_srt(transcript)), ("-->", "→")), (parse_vtt(as_vtt(transcript)), ("", ""))):
        assert len(cues) == len(with_text)
        for (start_s, end_s, text), segment in zip(cues, with_text, strict=True):
            assert start_s == pytest.approx(segment.start_s, abs=6e-4)
            assert end_s == pytest.approx(segment.end_s, abs=1.6e-3)
            assert end_s > start_s
            assert text.replace("\n", " ") == segment.text.replace(*change)
            assert text.count("\n") == (len(segment.text.replace(*change)) > MAX_LINE_CHARS and " " in segment.text)


def test_as_they_look():
    segments = Segment(0, 61.5, "Hello <b> --> & you"), Segment(61.5, 3662.04, ""), Segment(3662.04, 3663, "Bye")
    transcript = Transcript(segments, 3663)
    assert as_srt(transcript) == (
        "1\n00:00:00,000 --> 00:01:01,500\nHello <b> → & you\n\n2\n01:01:02,040 --> 01:01:03,000\nBye\n\n"
    )
    assert as_vtt(transcript).startswith(
        "WEBVTT\n\n00:00:00.000 --> 00:01:01.500\nHello &lt;b&gt; --&gt; &amp; you\n\n01:01:02.040"
    )
    assert as_srt(Transcript((Segment(0, 9, ""),), 9)) == ""
    assert as_vtt(Transcript((), 9)) == "WEBVTT\n\n"


def test_values_hold_the_phrases():
    transcript = Transcript((Segment(0, 30, "a b"),), 30, ("note",), (Segment(0.12345, 2, "a"), Segment(9, 9.5, "b")))
    assert json.loads(json.dumps(as_values(transcript))) == {
        "text": "a b",
        "duration_s": 30,
        "segments": [{"start_s": 0.123, "end_s": 2, "text": "a"}, {"start_s": 9, "end_s": 9.5, "text": "b"}],
        "notes": ["note"],
    }
