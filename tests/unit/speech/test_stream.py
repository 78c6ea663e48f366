import itertools
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import OptionError
from audioflamingo.speech.stream import Outbox, Packet, Packets, SpokenLog, duration_ms
from audioflamingo.speech.text_units import MAX_TOKEN_CHARS, TextUnits, units_of

TEXTS = st.text(max_size=80) | st.text(alphabet="ab $5.,!?\n3:0%-é😀", max_size=80)


def units(text):
    return list(units_of([text], TextUnits()))


@given(TEXTS, st.lists(st.integers(0, 80)))
def test_the_cut_into_deltas_changes_nothing(text, cuts):
    cuts = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    deltas = [text[a:b] for a, b in itertools.pairwise(cuts)]
    assert list(units_of(deltas, TextUnits())) == units(text)


@given(TEXTS)
def test_units_cover_the_text_in_order(text):
    ends = [unit.source_end for unit in units(text)]
    assert ends == sorted(ends)
    assert all(0 <= end <= len(text) for end in ends)
    if text.strip():
        assert ends[-1] >= len(text.rstrip())


def test_a_word_is_complete_only_when_a_boundary_follows():
    stream = TextUnits()
    assert stream.feed("Hel") == []
    assert stream.feed("lo") == []
    assert [unit.words for unit in stream.feed(" wor")] == [("hello",)]
    assert [unit.words for unit in stream.flush()] == [("wor",)]


def test_a_sum_waits_for_its_scale():
    stream = TextUnits()
    assert stream.feed("$5 ") == []
    assert [unit.words for unit in stream.feed("million ")] == [("five",), ("million", "dollars")]
    assert stream.feed("$5 ") == []
    assert [unit.words for unit in stream.feed("now ")] == [("five", "dollars"), ("now",)]
    stream.feed("$7")
    assert [unit.words for unit in stream.flush()] == [("seven", "dollars")]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("One, two; three: four.", [",", ";", ":", "."]),
        ("Dr. Who? (yes) well-known U.S. laws", ["", "?", ")", "", "", ""]),
        ('He said "no." Then 3.5 left…', ["", "", ".", "", "", "."]),
        ("a\nb\n\nc", ["", "\n", "", "\n", ""]),
        ("one — two", ["", "-", ""]),
    ],
)
def test_punctuation_gives_pauses(text, marks):
    found = units(text)
    assert [unit.mark for unit in found] == marks
    assert all((unit.pause_ms > 0) == bool(unit.mark) for unit in found)


def test_a_paragraph_is_a_longer_pause_than_a_line():
    one, two = (units(text)[1].pause_ms for text in ("a\nb", "a\n\nb"))
    assert two > one


def test_a_word_of_ten_thousand_letters_comes_in_pieces():
    stream = TextUnits()
    lengths = [len(unit.words[0]) for delta in ["ab" * 50] * 100 for unit in stream.feed(delta)]
    lengths += [len(unit.words[0]) for unit in stream.flush()]
    assert sum(lengths) == 10_000
    assert max(lengths) <= MAX_TOKEN_CHARS


def test_a_long_text_takes_linear_time():
    assert len(units("word " * 100_000)) == 100_000


def test_what_is_left_out_is_said():
    stream = TextUnits()
    stream.feed("hi 😀 да ")
    assert "3 characters" in stream.notes[0]
    assert "😀да" in stream.notes[0]
    assert TextUnits().notes == ()


@given(st.lists(st.binary(max_size=20_000), max_size=20))
def test_packets_lose_nothing(pieces):
    packets = Packets((80, 160, 320))
    out = [packet for piece in pieces for packet in packets.feed(piece)] + packets.flush()
    whole = b"".join(pieces)
    assert b"".join(packet.pcm for packet in out) == whole
    expected = [80, 160] + [320] * len(out)
    assert [packet.duration_ms for packet in out[:-1]] == expected[: max(len(out) - 1, 0)]
    starts = [packet.start_ms for packet in out]
    assert starts == [pytest.approx(duration_ms(sum(len(p.pcm) for p in out[:i]))) for i in range(len(out))]


def test_packet_sizes_are_checked():
    with pytest.raises(OptionError):
        Packets(())
    with pytest.raises(OptionError):
        Packets((80, 0))


def packet(number, generation=0):
    return Packet(bytes([number]), 0.0, generation)


def test_a_slow_listener_makes_the_maker_wait_and_loses_nothing():
    outbox = Outbox(max_packets=2)
    made = [packet(number) for number in range(50)]
    maker = threading.Thread(target=lambda: ([outbox.put(one) for one in made], outbox.close()), daemon=True)
    maker.start()
    got = []
    while (one := outbox.get(timeout_s=10)) is not None:
        got.append(one)
    maker.join(timeout=10)
    assert got == made


def test_a_full_outbox_times_out_and_cancel_lets_the_maker_go():
    outbox = Outbox(max_packets=1)
    assert outbox.put(packet(0))
    assert not outbox.put(packet(1), timeout_s=0.01)
    results = []
    maker = threading.Thread(target=lambda: results.append(outbox.put(packet(2))), daemon=True)
    maker.start()
    generation = outbox.cancel()
    maker.join(timeout=10)
    assert results == [False]
    assert outbox.get(timeout_s=0.01) is None
    assert not outbox.put(packet(3))
    assert outbox.put(packet(4, generation))
    assert outbox.get(timeout_s=10) == packet(4, generation)


def test_what_was_not_heard_is_cut():
    log = SpokenLog([])
    text = "One two three."
    for end_ms, unit in zip((200.0, 420.0, 900.0), units(text), strict=True):
        log.add(end_ms, unit.source_end)
    assert log.heard_text(text, 100) == ""
    assert log.heard_text(text, 420) == "One two"
    assert log.heard_text(text, 899) == "One two"
    assert log.heard_text(text, 10_000) == text
