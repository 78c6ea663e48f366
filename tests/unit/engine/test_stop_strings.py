from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.engine.text import StopStrings

pieces = st.lists(st.text("ab", max_size=4), max_size=8)
stops = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple)


def run(texts, stop):
    stream = StopStrings(stop)
    shown = [stream.feed(text) for text in texts]
    return shown, "".join(shown) + stream.flush(), stream.is_hit


@given(pieces, stops)
def test_pieces_equal_the_whole(texts, stop):
    assert run(texts, stop)[1:] == run(["".join(texts)], stop)[1:]


@given(pieces, stops)
def test_the_shown_text_is_the_beginning_and_holds_no_stop_string(texts, stop):
    whole = "".join(texts)
    _, shown, is_hit = run(texts, stop)
    assert whole.startswith(shown)
    assert is_hit == any(one in whole for one in stop)
    assert not any(one in shown for one in stop)
    assert is_hit or shown == whole


@given(pieces, stops)
def test_nothing_is_held_back_longer_than_needed(texts, stop):
    stream, fed, shown = StopStrings(stop), "", ""
    for text in texts:
        shown += stream.feed(text)
        fed += text
        if stream.is_hit:
            break
        held = fed.removeprefix(shown)
        assert held == "" or any(one.startswith(held) for one in stop)


def test_text_is_withheld_while_it_could_become_a_stop_string():
    assert run(["He", "llo\n", "Us", "ers"], ("\nUser:",)) == (["He", "llo", "", "\nUsers"], "Hello\nUsers", False)


def test_of_two_that_end_together_the_longer_cuts():
    assert run(["xabc"], ("bc", "abc"))[1:] == ("x", True)
