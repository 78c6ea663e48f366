"""The whole training of the embedded model, in pieces of a second on a tiny model: it ends, resumes, and loads."""

from __future__ import annotations

import pytest

from audioflamingo.train.nano_schedule import SCHEDULE, ScheduledPiece, command, run

PIECES = (
    ScheduledPiece("1", "from_nothing", 1), ScheduledPiece("2", "all_tasks", 1, 1), ScheduledPiece("3", "think", 1, 1),
)  # fmt: skip
TINY = (
    "--tiny", "--step-s", "20", "--steps", "2", "--workers", "1", "--first-hours", "0.01", "--longest-s", "60",
    "--speed", "eager",
)  # fmt: skip


def test_two_hours_in_pieces_of_ten_minutes():
    assert max(piece.piece_s for piece in SCHEDULE) < 600
    assert sum(piece.piece_s for piece in SCHEDULE) < 7_200
    assert SCHEDULE[-2].decay_s > 0


@pytest.mark.slow
def test_a_tiny_model_goes_through_all_pieces_and_is_not_trained_twice(tmp_path):
    checkpoint = run(tmp_path, more=TINY, pieces=PIECES)
    assert (checkpoint / "model.safetensors").exists()
    assert (checkpoint / "think" / "adapter_model.safetensors").exists()
    log = tmp_path / "out" / "all" / "log.jsonl"
    before = log.read_text()
    run(tmp_path, more=TINY, pieces=PIECES)
    assert log.read_text() == before


def test_thinking_starts_from_what_the_others_made(tmp_path):
    line = command(SCHEDULE[-1], tmp_path, 0.5, ["--workers", "3"])
    assert line[line.index("--init") + 1] == str(tmp_path / "out" / "all" / "checkpoint")
    assert line[line.index("--piece-s") + 1] == "150.0"
    assert line[-4:-2] == ["--workers", "3"]
