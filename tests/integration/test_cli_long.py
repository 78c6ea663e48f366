"""Subtitles, pieces, resuming and the timeline from the shell."""

import json
import resource
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from audioflamingo import load_model
from audioflamingo.audio import stated_duration_s
from audioflamingo.errors import FlamingoError, OptionError
from audioflamingo.longform import transcribe_long
from audioflamingo.timeline import check_pieces
from audioflamingo.types import SAMPLE_RATE_HZ, Audio


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
    assert whole["text"].split() == " ".join(one["text"] for one in whole["segments"]).split()
    assert all(0 <= one["start_s"] < one["end_s"] <= 40 for one in whole["segments"])
    assert len(json.loads((tmp_path / "part").read_text())["pieces"]) == 2
    srt = flamingo(*words, "--format", "srt").stdout
    assert srt.count(" --> ") == len(whole["segments"])
    other = flamingo(*words, "--format", "vtt", "--seed", 5, code=2)
    assert "other options" in other.stderr


def wait_for(condition, limit_s=100):
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def test_killed_and_gone_on_with(checkpoint, flamingo, write_wav, tmp_path):
    """SIGKILL in the middle of the work; the same words then end as if nothing had happened."""
    talk, part = write_wav("talk.wav", 700), tmp_path / "part"
    words = ["transcribe", talk, "--long-audio", "split", "--json", "--max-new-tokens", 40]
    command = [sys.executable, "-m", "audioflamingo", *map(str, [*words, "--resume", part, "--model", checkpoint])]

    def num_done():
        return len(json.loads(part.read_text())["pieces"]) if part.exists() else 0

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as work:
        wait_for(lambda: num_done() > 0)
        work.kill()
    at_death = num_done()
    assert 0 < at_death < 28
    assert json.loads(flamingo(*words, "--resume", part).stdout) == json.loads(flamingo(*words).stdout)
    assert num_done() == 28


def test_a_disk_that_is_full(checkpoint, flamingo, write_wav, tmp_path):
    """A file may not grow beyond a limit, which is what a full disk looks like from here: one line, nothing lost."""
    talk, part = write_wav("talk.wav", 300), tmp_path / "part"
    words = ["transcribe", talk, "--long-audio", "split", "--json", "--max-new-tokens", 40]
    command = [sys.executable, "-m", "audioflamingo", *map(str, [*words, "--resume", part, "--model", checkpoint])]
    part_bytes = 150  # room for the key, but not for the words of eight pieces
    full = subprocess.run(
        command, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (part_bytes, part_bytes)),
    )  # fmt: skip
    assert full.returncode == 2
    assert "part cannot be written: File too large. What it held is still there" in full.stderr
    assert full.stderr.count("\n") == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["part", "talk.wav"]
    assert json.loads(flamingo(*words, "--resume", part).stdout) == json.loads(flamingo(*words).stdout)


def test_hours_are_refused_before_they_are_decoded(flamingo, tmp_path):
    """Ten hours by the header, of which not a byte of sound is there: it cannot have been decoded."""
    num_bytes = 10 * 3600 * 32_000
    path = tmp_path / "ten_hours.wav"
    with path.open("wb") as file:
        file.write(b"RIFF" + struct.pack("<I", 36 + num_bytes) + b"WAVEfmt ")
        file.write(struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16) + b"data" + struct.pack("<I", num_bytes))
        file.truncate(44 + num_bytes)
    for words in (("transcribe", path), ("ask", path, "What?"), ("caption", path), ("chat", path)):
        error = flamingo(*words, code=2).stderr
        assert "lasts 36000.0 s; at most 3600 s are read. Cut it; with --long-audio split or truncate" in error
        assert error.count("\n") == 1


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


def test_too_fine_a_step_is_refused_before_hours_are_decoded(flamingo, tmp_path):
    path = tmp_path / "hours.wav"
    size = 2 * 16_000 * 36_000
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", size
    )
    with path.open("wb") as file:  # a hole: it takes no room, and decoding it takes seconds
        file.write(header)
        file.truncate(44 + size)
    for words, message in (
        (("--step", ".1"), "360,040 pieces of 4.0 s came, allowed: 100,000; raise the step"),
        (("--piece", "1", "--step", "2"), "allowed: a step above 0, at most the piece"),
    ):
        assert message in flamingo("timeline", path, *words, code=2).stderr
    began_s = time.monotonic()
    assert stated_duration_s(path) == 36_000
    with pytest.raises(OptionError, match="raise the step"):
        check_pieces(36_000, 4, 0.1)
    assert time.monotonic() - began_s < 0.5


def test_several_timelines_and_pictures_that_cannot_be(flamingo, write_wav, tmp_path):
    street, park = write_wav("street.wav", 1), write_wav("park.wav", 2)
    done = flamingo("timeline", street, tmp_path / "absent.wav", park, "--json", code=1)
    assert [json.loads(line).get("duration_s") for line in done.stdout.splitlines()] == [1, None, 2]
    assert "absent.wav does not exist" in done.stderr
    assert flamingo("timeline", street, park).stdout.startswith(f"{street}:\n")
    for words, message in (
        ((street, park, "--plot", tmp_path / "x.png"), "2 files came; --plot draws one at a time"),
        ((street, "--plot", tmp_path / "x.wav"), "allowed: a name that ends in"),
        ((street, "--plot", tmp_path / "absent" / "x.png"), "in a folder that is there"),
    ):
        error = flamingo("timeline", *words, code=2).stderr
        assert message in error
        assert error.count("\n") == 1


def test_other_weights_of_the_same_name_do_not_go_on(checkpoint, tmp_path):
    model, sound = load_model(checkpoint), Audio(np.zeros(SAMPLE_RATE_HZ, np.float32), "talk")
    first = transcribe_long(model, sound, resume=tmp_path / "part", max_new_tokens=2)
    assert transcribe_long(load_model(checkpoint), sound, resume=tmp_path / "part", max_new_tokens=2) == first
    with torch.no_grad():
        model.model.decoder.norm.weight.add_(1)
    with pytest.raises(FlamingoError, match="belongs to another sound, another model"):
        transcribe_long(model, sound, resume=tmp_path / "part", max_new_tokens=2)
