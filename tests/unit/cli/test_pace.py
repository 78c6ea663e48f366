"""The bar of long work."""

import pytest

from audioflamingo.cli.pace import BAR_CHARS, Pace


@pytest.fixture
def pace(monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr("audioflamingo.cli.pace.time.monotonic", lambda: now_s[0])
    pace = Pace(7_200)
    pace.now_s = now_s
    return pace


def test_what_is_left_is_told_once_the_speed_is_known(pace):
    assert pace.line(0, 100) == f"[{'.' * BAR_CHARS}] 0%  0:00 of 2:00:00"
    pace.show(1_800, 7_200)  # done before this run began: no speed yet
    assert pace.line(1_800, 100).endswith("25%  30:00 of 2:00:00")
    line = pace.line(3_600, 160)  # 1,800 s of sound in a minute
    assert line == f"[{'#' * 12}{'.' * 12}] 50%  1:00:00 of 2:00:00, 2:00 left"
    assert pace.line(7_200, 220).startswith(f"[{'#' * BAR_CHARS}] 100%")


def test_more_than_all_is_all(pace):
    assert pace.line(8_000, 101).startswith(f"[{'#' * BAR_CHARS}] 100%")
