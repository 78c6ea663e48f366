"""A folder belongs to one run at a time; a run that is killed gives it up."""

import os
import signal
import subprocess
import sys

import pytest

from audioflamingo.errors import OptionError
from audioflamingo.train.claim import LOCK_FILE, claimed

HOLDER = """
import sys, time
from pathlib import Path
from audioflamingo.train.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_folder_that_another_run_writes_to_is_refused_until_that_is_killed(holder, tmp_path):
    refused = rf"another run is writing to .* \(process {holder.pid}\); wait for its end"
    with pytest.raises(OptionError, match=refused), claimed(tmp_path):
        raise AssertionError("two have it")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with claimed(tmp_path):
        assert (tmp_path / LOCK_FILE).read_text() == str(os.getpid())


def test_nothing_is_left_behind_and_errors_pass(tmp_path):
    folder = tmp_path / "new" / "run"
    with pytest.raises(ValueError, match="mine"), claimed(folder):
        raise ValueError("mine")
    assert list(folder.iterdir()) == []
    with claimed(folder):
        pass
