import pytest

from audioflamingo.think import TimedThought, timed_thoughts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0:05 - 0:10] a dog barks; [1:02:03] a bell.", [(5, 10, "a dog barks"), (3723, None, "a bell.")]),
        ("5.2s-10s: rain, then 12 seconds: wind", [(5.2, 10, "rain, then"), (12, None, "wind")]),
        ("(0:01.5 to 0:03) speech", [(1.5, 3, "speech")]),
        ("<2.0 - 4.5 s> music", [(2, 4.5, "music")]),
        ("two dogs, 3 cats, 10 sheep", []),
        ("", []),
    ],
)
def test_times_in_thoughts(text, expected):
    assert timed_thoughts(text) == tuple(TimedThought(*one) for one in expected)
