import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.errors import OptionError
from audioflamingo.speech.turns import TurnOptions, Turns

STEP_MS = 20


def play(turns, *timeline, listens=False):
    """Runs of (speech?, ms) through the machine; returns [(kind, time, start, end)], "listen" only where asked for."""
    actions = []
    for is_speech, length_ms in timeline:
        for _ in range(length_ms // STEP_MS):
            actions += turns.step(is_speech, STEP_MS)
    return [(a.kind, a.time_ms, a.start_ms, a.end_ms) for a in actions if listens or a.kind != "listen"]


def speaking(options=None):
    """A machine whose answer is being heard; its clock stands at 2000 ms."""
    turns = Turns(options)
    play(turns, (False, 400), (True, 1_000), (False, 600))
    turns.answer_begins()
    assert turns.state == "speaking"
    return turns


def test_a_turn_begins_with_its_prefix_and_ends_after_the_silence_window():
    turns = Turns()
    assert play(turns, (False, 1_000), (True, 800), (False, 1_000)) == [
        ("begin_turn", 1_060, 700, 0),
        ("end_turn", 2_300, 700, 1_800),
    ]
    assert turns.state == "thinking"


def test_clicks_are_no_turn_and_pauses_do_not_end_one():
    turns = Turns()
    assert play(turns, (False, 400), (True, 40), (False, 400), (True, 40)) == []
    kinds = [kind for kind, *_ in play(turns, (True, 400), (False, 480), (True, 400), (False, 480))]
    assert kinds == ["begin_turn"]


def test_silence_that_a_detector_still_called_speech_counts():
    turns, ends = Turns(), []
    for number in range(150):  # 800 ms of speech, of which the last 60 were silence
        ends += [a.time_ms for a in turns.step(number < 40, STEP_MS, 60) if a.kind == "end_turn"]
    assert ends == [40 * STEP_MS - 60 + 500]


def test_our_sound_stops_within_100_ms_of_the_users_first():
    turns = speaking()
    kind, time_ms, *_ = play(turns, (True, 100))[0]
    assert kind == "pause"
    assert time_ms - 2_000 <= 100
    assert not turns.may_play


def test_an_interruption_cancels_and_becomes_the_next_turn():
    turns = speaking()
    actions = play(turns, (False, 500), (True, 900), (False, 600))
    assert [kind for kind, *_ in actions] == ["pause", "cancel", "begin_turn", "end_turn"]
    assert actions[-1] == ("end_turn", 3_900, 2_200, 3_400)


def test_a_cough_is_a_false_interruption_and_our_sound_goes_on():
    turns = speaking()
    actions = play(turns, (False, 200), (True, 120), (False, 600))
    assert [kind for kind, *_ in actions] == ["pause", "resume"]
    assert turns.may_play


def test_hesitant_speech_with_gaps_is_still_an_interruption():
    turns = speaking()
    actions = play(turns, (True, 120), (False, 120), (True, 120), (False, 100))
    assert [kind for kind, *_ in actions] == ["pause", "cancel", "begin_turn"]


def test_going_on_before_the_answer_continues_the_same_turn():
    turns = Turns()
    actions = play(turns, (False, 400), (True, 600), (False, 600), (True, 600), (False, 600))
    assert [kind for kind, *_ in actions] == ["begin_turn", "end_turn", "cancel", "begin_turn", "end_turn"]
    assert actions[-1][2:] == (100, 2_200)


def test_a_late_answer_to_a_continued_turn_is_not_spoken():
    turns = Turns()
    play(turns, (True, 600), (False, 600), (True, 100))
    turns.answer_begins()
    assert turns.state == "user"


def test_the_answer_ending_during_a_suspected_interruption_makes_it_a_turn():
    turns = speaking()
    play(turns, (True, 80))
    turns.answer_ends()
    assert turns.state == "user"
    assert [kind for kind, *_ in play(turns, (True, 300), (False, 600))] == ["end_turn"]


def test_after_the_answer_it_is_nobodys_turn_and_the_prefix_stays_out_of_the_old_one():
    turns = speaking()
    turns.answer_ends()
    assert turns.state == "idle"
    assert play(turns, (True, 60))[0] == ("begin_turn", 2_060, 1_900, 0)


def test_full_windows_are_announced_while_the_user_speaks():
    turns = Turns()
    actions = play(turns, (True, 65_000), (False, 600))
    assert actions == [
        ("begin_turn", 60, 0, 0),
        ("window", 30_000, 0, 30_000),
        ("window", 60_000, 0, 60_000),
        ("end_turn", 65_500, 0, 65_000),
    ]


def test_an_endless_turn_is_ended():
    turns = Turns(TurnOptions(max_turn_ms=2_000))
    assert play(turns, (True, 3_000))[-1] == ("end_turn", 2_000, 0, 2_000)


def test_options_are_checked():
    with pytest.raises(OptionError, match="silence_ms"):
        TurnOptions(silence_ms=0)
    with pytest.raises(OptionError, match="confirm_ms"):
        TurnOptions(confirm_ms=20)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["none", "begins", "ends"])), max_size=300))
def test_actions_alternate_whatever_happens(script):
    turns, is_open = Turns(), False
    last_end = 0
    for is_speech, event in script:
        for action in turns.step(is_speech, 40):
            if action.kind == "begin_turn":
                is_open = True
            if action.kind == "end_turn":
                assert is_open
                assert 0 <= action.start_ms <= action.end_ms <= action.time_ms
                is_open, last_end = False, action.end_ms
            if action.kind == "pause":
                assert not turns.may_play
        assert last_end <= turns._time_ms
        if event == "begins":
            turns.answer_begins()
        if event == "ends":
            turns.answer_ends()
            is_open = is_open or turns.state == "user"


def test_a_turn_that_seems_over_is_announced_once_for_each_end_of_speech():
    actions = play(Turns(), (False, 400), (True, 1_000), (False, 300), (True, 500), (False, 600), listens=True)
    assert actions == [
        ("begin_turn", 460, 100, 0),
        ("listen", 1_560, 100, 1_400),
        ("listen", 2_360, 100, 2_200),
        ("end_turn", 2_700, 100, 2_200),
    ]


def test_a_turn_that_is_ended_by_a_button_is_not_followed_by_its_own_tail():
    for end in ("end_now", "drop_turn"):
        turns = Turns()
        actions = [action for _ in range(30) for action in turns.step(True, 20)]
        assert [action.kind for action in actions] == ["begin_turn"]
        ended = getattr(turns, end)()
        if end == "end_now":
            assert [(action.kind, action.end_ms) for action in ended] == [("end_turn", 600)]
            turns.answer_ends()
        assert [action for _ in range(30) for action in turns.step(True, 20)] == []
        assert turns.step(False, 20) == []
        again = [action for _ in range(3) for action in turns.step(True, 20)]
        assert [(action.kind, action.start_ms) for action in again] == [("begin_turn", 920)]
        turns.drop_turn()
        assert turns.end_now() == []
        assert turns.state == "idle"
