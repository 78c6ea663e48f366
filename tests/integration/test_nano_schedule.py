"""The whole training of the embedded model, in pieces of a second on a tiny model: it ends, resumes, and loads."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from audioflamingo.errors import OptionError
from audioflamingo.train.nano_recipe import from_nothing
from audioflamingo.train.nano_schedule import SCHEDULE, SHORT, ScheduledPiece, command, run
from audioflamingo.train.nano_state import read_progress, write_progress

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
    *pieces, think = SCHEDULE
    assert think.recipe == "think"
    assert pieces[-1].decay_s > pieces[-1].after_s == 0
    for recipe in ("refine", "finish"):  # twice rates fall to their end, and rise again in between
        ending = [piece for piece in pieces if piece.decay_s and piece.recipe == recipe]
        left = sum(piece.piece_s for piece in ending)
        assert {piece.decay_s for piece in ending} == {left}  # from the first of them on
        for piece in ending:
            left -= piece.piece_s
            assert piece.after_s == left
    assert {piece.recipe for piece in pieces if piece.decay_s} == {"refine", "finish"}


def test_the_short_way_has_every_stage_in_the_same_order_and_takes_ten_minutes():
    assert list(dict.fromkeys(piece.recipe for piece in SHORT)) == list(dict.fromkeys(one.recipe for one in SCHEDULE))
    assert sum(piece.piece_s for piece in SHORT) < 600
    first = command(SHORT[0], 250, Path("work"), 1.0, [])
    assert float(first[first.index("--phases") + 1]) * from_nothing().phases[-1].from_s < SHORT[0].piece_s


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
    line = command(SCHEDULE[-1], 300, tmp_path, 0.5, ["--workers", "3"])
    assert line[line.index("--init") + 1] == str(tmp_path / "out" / "all" / "checkpoint")
    assert line[line.index("--until-s") + 1] == "150.0"
    assert line[-4:-2] == ["--workers", "3"]


@pytest.mark.slow
def test_a_piece_that_is_told_to_end_is_not_done_and_goes_on_to_its_time(tmp_path):
    pieces, tiny = (ScheduledPiece("1", "all_tasks", 20),), [one for one in TINY if one not in ("--steps", "2")]
    line = command(pieces[0], 20, tmp_path, 1.0, tiny)
    log = tmp_path / "out" / "all" / "log.jsonl"
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as first:
        _await(lambda: log.exists() and '"ms_per_step"' in log.read_text())
        first.send_signal(signal.SIGTERM)
        assert "the same command goes on from" in first.communicate(timeout=120)[1]
    assert first.returncode == 1
    kept_s = torch.load(tmp_path / "all" / "state.pt", weights_only=True)["counts"]["spent_s"]
    assert 0 < kept_s < 18
    run(tmp_path, more=tiny, pieces=pieces)
    ended_s = torch.load(tmp_path / "all" / "state.pt", weights_only=True)["counts"]["spent_s"]
    assert 20 <= ended_s < 30


@pytest.mark.slow
def test_another_machine_goes_on_from_a_small_state(tmp_path):
    """The first is given back within its second piece; the second runs that to its end, and what comes after it."""
    here, there = tmp_path / "here", tmp_path / "there"
    tiny = [one for one in TINY if one not in ("--steps", "2")]
    pieces = ScheduledPiece("1", "all_tasks", 2), ScheduledPiece("2", "all_tasks", 6, 2), PIECES[2]
    run(here, more=tiny, pieces=pieces[:1])
    small = tmp_path / "small"
    shutil.copytree(here / "out" / "all" / "small", small)
    spent_s = read_progress(small)["spent_s"]
    assert 2 <= spent_s < 8
    checkpoint = run(there, more=TINY, pieces=pieces, small=small)
    lines = [json.loads(line) for line in (there / "out" / "all" / "log.jsonl").read_text().splitlines()]
    before, steps = read_progress(small)["num_steps"], [line["step"] for line in lines if "step" in line]
    assert before == min(steps) < max(steps)
    assert {path.name for path in (there / "done").iterdir()} == {"1", "2", "3"}
    assert (checkpoint / "think" / "adapter_model.safetensors").exists()


def test_what_a_state_has_behind_it_is_not_run_again(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(subprocess, "run", lambda line, check: ran.append(line))
    small = tmp_path / "small"
    write_progress(small, {"spent_s": 1_130.0, "num_steps": 20_000, "heard_s": 1.0, "fresh_steps": 5})
    run(tmp_path / "work", pieces=SCHEDULE, small=small)
    assert len(ran) == len(SCHEDULE) - 2  # 420 and 840 s are behind it
    assert all(line[line.index("--resume") + 1] == str(small) for line in ran[:-1])
    assert ran[0][ran[0].index("--until-s") + 1] == "1260.0"
    assert "--resume" not in ran[-1]  # the adapter is trained on what came of it
    with pytest.raises(OptionError, match="give the folder out/all/small of the machine before"):
        run(tmp_path / "other", small=tmp_path)


def _await(is_so, seconds=120):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.5)
