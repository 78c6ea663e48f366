"""What is heard when, from a listener that knows; the picture is drawn for real."""

import numpy as np
import pytest

from audioflamingo.errors import OptionError
from audioflamingo.timeline import Event, as_table, timeline
from audioflamingo.timeline_plot import plot_timeline
from audioflamingo.types import SAMPLE_RATE_HZ, Audio, Reply, Usage


def reply(text):
    return Reply(text, (), "stop", Usage(0, 0, 0, 0))


class Listener:
    """A dog from 10 s to 20 s, a man who speaks from 16 s on, told by the samples, which hold the time."""

    def generate(self, conversations, **options):
        return [reply(self.answer(*messages[0].content)) for messages in conversations]

    def answer(self, piece, question):
        middle_s = float(piece.samples[len(piece.samples) // 2])
        if question == "What do you hear?":
            return "A dog barking." if 10 <= middle_s < 20 else "Nothing."
        if question == "Is anyone speaking?":
            return "Yes." if middle_s >= 16 else "No."
        return "A man." if question == "Is it a man or a woman?" else "No."


def sound(duration_s):
    return Audio(np.arange(round(duration_s * SAMPLE_RATE_HZ), dtype=np.float32) / SAMPLE_RATE_HZ, "street")


def test_events_stand_where_they_are_within_a_step():
    events = timeline(Listener(), sound(30), piece_s=4, step_s=1)
    assert [(event.lane, event.label) for event in events] == [("sound", "dog barking"), ("speech", "man")]
    for event, (start_s, end_s) in zip(events, [(10, 20), (16, 30)], strict=True):
        assert event.start_s == pytest.approx(start_s, abs=1)
        assert event.end_s == pytest.approx(end_s, abs=1)
    assert "man" in as_table(events)


@pytest.mark.parametrize("duration_s", [0.1, 3, 4, 4.01])
def test_short_sounds(duration_s):
    assert timeline(Listener(), sound(duration_s)) == ()


@pytest.mark.parametrize(("piece_s", "step_s"), [(2, 3), (2, 0), (0.001, 0.0001)])
def test_pieces_that_do_not_fit(piece_s, step_s):
    with pytest.raises(OptionError):
        timeline(Listener(), sound(60), piece_s=piece_s, step_s=step_s)


def test_the_picture(tmp_path):
    events = [Event(1, 2, "sound", "dog"), Event(0, 3, "speech", "man")]
    plot_timeline(tmp_path / "street.png", sound(3), events)
    assert (tmp_path / "street.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(OptionError, match="cannot be written"):
        plot_timeline(tmp_path / "street.nonsense", sound(3), events)
