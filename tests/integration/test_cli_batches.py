"""Many files at once from the shell, and interrupts before anything has begun."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from audioflamingo.cli import batches
from audioflamingo.cli.main import main

INTERRUPTED_WHILE_IMPORTING = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, *_):
        if name == "audioflamingo.cli.world":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
from audioflamingo.cli.main import main
"""


@pytest.fixture
def flamingo(checkpoint, capsys):
    """A function of words to (exit code, stdout, stderr)."""

    def run(*words):
        code = main([*map(str, words), "--model", str(checkpoint), "--device", "cpu", "--max-new-tokens", "4"])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def sounds(tmp_path):
    """Paths of seven sounds of different lengths."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.wav" for number in range(7)]
    for number, path in enumerate(paths):
        soundfile.write(path, 0.1 * generator.standard_normal(4_000 * (number + 1)), 16_000)
    return paths


def test_many_files_get_the_answers_that_each_would_alone(flamingo, model, sounds, monkeypatch, tmp_path):
    monkeypatch.setattr(batches, "FILES_AT_ONCE", 3)
    code, out, err = flamingo("transcribe", *sounds[:4], tmp_path / "missing.wav", *sounds[4:], "--json")
    found = list(map(json.loads, out.splitlines()))
    assert code == 1
    assert [one["files"] for one in found] == [
        [str(one)] for one in (*sounds[:4], tmp_path / "missing.wav", *sounds[4:])
    ]
    assert found[4]["error"] in err
    del found[4]
    assert [one["text"] for one in found] == [model.transcribe(path, max_new_tokens=4).text for path in sounds]


def test_batches_end_at_so_many_seconds_of_sound(flamingo, sounds, monkeypatch):
    sizes = []
    monkeypatch.setattr(batches, "SECONDS_AT_ONCE", 1.0)
    monkeypatch.setattr(batches, "show_progress", sizes.append)
    code, out, _ = flamingo("caption", *sounds)
    assert (code, out.count("\n")) == (0, 7)
    assert len(sizes) == 5  # 0.25 + 0.5 + 0.75, then 1.0, 1.25, 1.5 and 1.75 s


def test_a_wrong_option_ends_it_at_once(flamingo, sounds):
    code, out, err = flamingo("ask", "--each", *sounds, "What?", "--top-p", "0")
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "--top-p is 0" in err


@pytest.mark.skipif(sys.platform == "win32", reason="processes there are not ended by this signal")
def test_an_interrupt_while_the_command_is_imported_is_quiet():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED_WHILE_IMPORTING], capture_output=True, check=False)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == b""


def test_importing_the_command_leaves_interrupts_as_they_were():
    program = "import signal, audioflamingo.cli.main; print(signal.getsignal(signal.SIGINT))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "default_int_handler" in done.stdout
