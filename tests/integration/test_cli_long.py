"""Subtitles, pieces, resuming and the timeline from the shell."""

import json
import subprocess
import sys

import pytest


@pytest.fixture
def flamingo(checkpoint):
    def run(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "audioflamingo", *map(str, words), "--model", str(checkpoint)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    return run


def test_subtitles_and_resuming(flamingo, write_wav, tmp_path):
    talk = write_wav("talk.wav", 40)
    words = ("transcribe", talk, "--max-new-tokens", 4, "--resume", tmp_path / "part")
    whole = json.loads(flamingo(*words, "--long-audio", "split", "--json").stdout)
    assert [one["start_s"] for one in whole["segments"]] == [0, 27.5]
    assert whole["segments"][-1]["end_s"] == 40
    assert len(json.loads((tmp_path / "part").read_text())["texts"]) == 2
    srt = flamingo(*words, "--format", "srt").stdout
    assert srt.startswith("1\n00:00:00,000 --> 00:00:27,500\n")
    other = flamingo(*words, "--format", "vtt", "--seed", 5, code=2)
    assert "other options" in other.stderr


def test_what_does_not_go_together(flamingo, write_wav):
    talk = write_wav("talk.wav", 1)
    assert "--long-audio split" in flamingo("transcribe", talk, "--resume", "x", code=2).stderr
    assert "one at a time" in flamingo("transcribe", talk, talk, "--format", "srt", code=2).stderr


def test_a_timeline(flamingo, write_wav, tmp_path):
    done = flamingo("timeline", write_wav("street.wav", 5), "--json", "--plot", tmp_path / "street.png")
    values = json.loads(done.stdout)
    assert values["duration_s"] == 5
    assert all(0 <= event["start_s"] < event["end_s"] <= 5 for event in values["events"])
    assert (tmp_path / "street.png").stat().st_size > 1000
