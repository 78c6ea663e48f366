"""What is heard when, from a listener that knows; the picture is drawn for real."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo import load_model
from audioflamingo.audio.mel import mel_filters
from audioflamingo.errors import OptionError
from audioflamingo.timeline import SPEAKER_QUESTION, Event, _pieces, as_table, timeline
from audioflamingo.timeline_plot import MAX_LANES, SHOWN_HZ, _spectrogram, lanes_of, mel_bin_of, plot_timeline
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Reply, Usage
from audioflamingo.world.music import synth
from audioflamingo.world.music.compose import compose, draw_facts


def reply(text):
    return Reply(text, (), "stop", Usage(0, 0, 0, 0))


class Listener:
    """A dog from 10 s to 20 s, a man who speaks from 16 s to 23 s, then a woman; the samples hold the time.

    It names what any part of is in the piece, as a model does; at places told to it, it is mistaken.
    """

    def __init__(self, deaf_at=(), dreams_at=()):
        self.deaf_at, self.dreams_at = deaf_at, dreams_at

    def generate(self, conversations, **options):
        assert options == {"max_new_tokens": 24}
        return [reply(self.answer(*messages[0].content)) for messages in conversations]

    def answer(self, piece, question):
        start_s, end_s = float(piece.samples[0]), float(piece.samples[-1])
        if question == "What do you hear?":
            dreams = ", then a cat meowing" if start_s in self.dreams_at else ""
            return (
                f"A dog barking{dreams}." if start_s < 20 and end_s > 10 and start_s not in self.deaf_at else "Nothing."
            )
        if question == "Is anyone speaking?":
            return "Yes." if end_s > 16 else "No."
        return ("A man." if (start_s + end_s) / 2 < 23 else "A woman.") if question == SPEAKER_QUESTION else "No."


class Told(Listener):
    """As above, but who speaks is named and never affirmed."""

    def answer(self, piece, question):
        if question == "Is anyone speaking?":
            return "No."
        said = super().answer(piece, question)
        is_spoken = question == "What do you hear?" and float(piece.samples[-1]) > 16
        return f"{said.removesuffix('.')}, then a man speaking." if is_spoken else said


class Named(Listener):
    """As above, with music from 10 s to 20 s that is named but never affirmed."""

    def answer(self, piece, question):
        return super().answer(piece, question).replace("A dog barking", "Music, then a dog barking")


def sound(duration_s):
    return Audio(np.arange(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ, "street")


@pytest.mark.parametrize(("piece_s", "step_s"), [(4, 1), (4, 0.5), (3, 1), (2, 1), (1, 0.3)])
def test_events_stand_where_they_are_within_a_step(piece_s, step_s):
    events = timeline(Listener(), sound(30), piece_s=piece_s, step_s=step_s)
    assert [(event.lane, event.label) for event in events] == [
        ("sound", "dog barking"), ("speech", "man"), ("speech", "woman")
    ]  # fmt: skip
    for event, (start_s, end_s) in zip(events, [(10, 20), (16, 23), (23, 30)], strict=True):
        assert event.start_s == pytest.approx(start_s, abs=step_s)
        assert event.end_s == pytest.approx(end_s, abs=step_s)
    assert "man" in as_table(events)


def test_music_that_is_named_stands_in_its_lane_alone():
    events = timeline(Named(), sound(30))
    assert [(event.lane, event.label) for event in events] == [
        ("music", "music"), ("sound", "dog barking"), ("speech", "man"), ("speech", "woman")
    ]  # fmt: skip
    assert (events[0].start_s, events[0].end_s) == (events[1].start_s, events[1].end_s)


def test_speech_that_is_named_stands_in_its_lane_alone():
    assert timeline(Told(), sound(30)) == timeline(Listener(), sound(30))


@pytest.fixture(scope="module")
def music_in_silence():
    """Lanes of the embedded model's timeline of a piece that begins after 6 s, and when the piece ends."""
    rng = random.Random(2)
    music = synth.render(compose(draw_facts(rng, duration_s=9.0), rng), np.random.default_rng(2))
    samples = np.zeros(20 * SAMPLE_RATE_HZ, np.float32)
    samples[6 * SAMPLE_RATE_HZ :][: len(music)] = 0.3 * music / np.abs(music).max()
    lanes = {"sound": [], "speech": [], "music": []}
    for event in timeline(load_model("nano", device="cpu"), Audio(samples, "street")):
        lanes[event.lane].append(event)
    return lanes, 6.0 + len(music) / SAMPLE_RATE_HZ


def test_the_embedded_model_hears_music_in_its_lane_alone(music_in_silence):
    lanes, end_s = music_in_silence
    assert lanes["speech"] == []
    assert "music" not in [event.label for event in lanes["sound"]]
    assert lanes["music"]
    assert all(5 <= event.start_s < event.end_s <= end_s + 1 for event in lanes["music"])


def test_the_embedded_model_hears_how_long_music_plays(music_in_silence):
    lanes, end_s = music_in_silence
    overlap_s = sum(min(event.end_s, end_s) - max(event.start_s, 6.0) for event in lanes["music"])
    assert overlap_s > 0.75 * (end_s - 6.0)


def test_one_piece_that_is_mistaken_changes_nothing():
    right = timeline(Listener(), sound(30))
    assert timeline(Listener(deaf_at=(14.0,)), sound(30)) == right
    assert timeline(Listener(dreams_at=(14.0,)), sound(30)) == right


@given(st.floats(0.03, 40), st.floats(0.1, 30), st.floats(0.01, 1))
def test_pieces_cover_the_sound(duration_s, piece_s, share):
    pieces = _pieces(duration_s, piece_s, max(0.1, piece_s * share)) if piece_s * share > 0.1 else [(0, duration_s)]
    assert pieces[0][0] == 0
    assert pieces[-1][1] == pytest.approx(duration_s, abs=1e-6)
    for before, after in itertools.pairwise(pieces):
        assert before[0] <= after[0] <= before[1]
    assert all(0 < end_s - start_s <= piece_s + 0.5 or len(pieces) == 1 for start_s, end_s in pieces)


def test_progress_ends_at_the_end():
    told = []
    timeline(Listener(), sound(30), progress=lambda *one: told.append(one))
    assert [done_s for done_s, _ in told] == sorted(done_s for done_s, _ in told)
    assert told[-1] == (30.0, 30.0)


@pytest.mark.parametrize("duration_s", [0.1, 3, 4, 4.01])
def test_short_sounds(duration_s):
    assert timeline(Listener(), sound(duration_s)) == ()


@pytest.mark.parametrize(("piece_s", "step_s"), [(2, 3), (2, 0), (0.001, 0.0001)])
def test_pieces_that_do_not_fit(piece_s, step_s):
    with pytest.raises(OptionError):
        timeline(Listener(), sound(60), piece_s=piece_s, step_s=step_s)


def test_the_picture(tmp_path):
    events = [Event(1, 2, "sound", "costs $5, not $6^"), Event(0, 3, "speech", "man")]
    street = Audio(sound(3).samples, "$street_1$.wav")
    plot_timeline(tmp_path / "street.png", street, events)
    plot_timeline(tmp_path / "silent.svg", sound(100), [])
    assert (tmp_path / "street.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "silent.svg").read_bytes()
    for name in ("street.nonsense", "absent/street.png"):
        with pytest.raises(OptionError, match="cannot be written") as error:
            plot_timeline(tmp_path / name, sound(3), events)
        assert "\n" not in str(error.value)


def test_quiet_windows_have_the_floor_of_loud_ones():
    samples = np.zeros(40 * SAMPLE_RATE_HZ, np.float32)
    samples[:SAMPLE_RATE_HZ] = np.random.default_rng(0).standard_normal(SAMPLE_RATE_HZ)
    picture = _spectrogram(Audio(samples, "street"))
    assert picture[:, 2_900].max() == picture[:, 3_100].max() == picture.min()


def test_lanes_stand_in_order_and_the_longest_stay():
    events = [Event(place, place + 1 + place / 10, "sound", f"s{place}") for place in range(MAX_LANES + 5)]
    lanes = lanes_of([*events, Event(0, 90, "music", "music"), Event(5, 95, "speech", "man")])
    assert lanes[-2:] == [("speech", "man"), ("music", "music")]
    assert [label for _, label in lanes[:-2]] == [f"s{place}" for place in range(7, MAX_LANES + 5)]


def test_frequencies_stand_where_the_mel_filters_are():
    filters = mel_filters()
    for hz in SHOWN_HZ[:-1]:
        strongest = int(filters[:, round(hz / (8_000 / (filters.shape[1] - 1)))].argmax())
        assert mel_bin_of(hz, 128) == pytest.approx(strongest + 0.5, abs=1.5)  # an FFT bin is 40 Hz
    assert mel_bin_of(8_000, 128) == 128
