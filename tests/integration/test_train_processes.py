"""Training in several processes: killed at any moment, spread over two, and as users start it."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "unit"))
from tiny_training import write_base, write_rows

from audioflamingo.cli.main import main
from audioflamingo.model.weights import load_flamingo

OPTIONS = ("--batch-s", "4", "--epochs", "4", "--rate", "0.003", "--save-every", "2", "--device", "cpu")
PACKS = ("--micro-s", "2", "--epochs", "2", "--batch-s", "8")  # the last option of a name wins
# A copy of a server that has imported everything starts at once; one of this process could not train once autograd has
# started threads here. The slow test at the end starts new programs.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "audioflamingo.cli.main", "audioflamingo.train.run"])


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Equal to the last bit are only runs with equally many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), 16)


def words(base, rows, out, *more):
    return [str(word) for word in ("train", "full", "--base", base, "--data", rows, "--out", out, *OPTIONS, *more)]


def weights(folder):
    return load_flamingo(folder / "model").state_dict()


def losses(folder):
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


def equal(one, two):
    return all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def kill_at(start, log, num_lines):
    """SIGKILL as soon as the log has so many lines."""
    pid, has_ended = start()
    until = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= num_lines) and time.monotonic() < until:
        assert not has_ended(), "it ended before it could be killed"
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)


FORKED = []


@pytest.fixture(autouse=True)
def _nobody_stays():
    """A copy that hangs must not keep pytest from ending, which waits for its children without a limit."""
    yield
    while FORKED:
        process = FORKED.pop()
        if process.is_alive():
            process.kill()
        process.join(30)


def child(arguments, environment, errors):
    if errors is not None:
        sys.stderr = errors.open("a", buffering=1)
    os.environ.update(environment or {})
    torch.set_num_threads(1)  # as in this process, whatever OMP_NUM_THREADS says
    sys.exit(main(arguments))


def forked(arguments, environment=None, errors=None):
    process = SERVER.Process(target=child, args=(arguments, environment, errors))
    process.start()
    FORKED.append(process)
    return process


def test_runs_killed_at_any_moment_end_with_the_same_bits(base, rows, tmp_path):
    assert main(words(base, rows, tmp_path / "whole")) == 0
    num_steps = len(losses(tmp_path / "whole"))
    assert num_steps > 12
    for num_lines in (1, 2, 5, 8):  # before, while and after checkpoints are written
        process = forked(words(base, rows, tmp_path / "killed"))
        kill_at(lambda p=process: (p.pid, lambda: not p.is_alive()), tmp_path / "killed" / "log.jsonl", num_lines)
        process.join(30)
        assert process.exitcode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "model").exists()
    assert main(words(base, rows, tmp_path / "killed")) == 0
    assert equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


def test_sigterm_ends_a_run_at_a_checkpoint_of_its_last_step(base, rows, tmp_path):
    assert main(words(base, rows, tmp_path / "whole")) == 0
    out, seldom = tmp_path / "stopped", ("--save-every", "1000")
    process = forked(words(base, rows, out, *seldom), errors=tmp_path / "errors")
    until = time.monotonic() + 60
    while not (out / "log.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.001)
    process.terminate()
    process.join(60)
    assert process.exitcode == 2
    assert "told to stop (SIGTERM) after step" in (tmp_path / "errors").read_text()
    (saved,) = (out / "checkpoints").iterdir()
    num_done = int(saved.name.removeprefix("step-"))
    assert 0 < num_done == len(losses(out)) < len(losses(tmp_path / "whole"))
    assert main(words(base, rows, out, *seldom)) == 0
    assert equal(weights(tmp_path / "whole"), weights(out))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", ["full", "lora"])
def test_twenty_kills_at_random_moments_change_no_bit(base, rows, tmp_path, stage):
    """While it loads, computes, writes checkpoints, writes the result: whenever the clock strikes."""
    more = ("--save-every", "1", "--epochs", "12", "--replay", "0")
    command = [word if word != "full" else stage for word in words(base, rows, tmp_path / "whole", *more)]
    began = time.monotonic()
    assert main(command) == 0
    whole_s = time.monotonic() - began
    expected = result_bits(tmp_path / "whole")
    moments, num_kills, num_ends = random.Random(stage), 0, 0
    out, command = tmp_path / "killed", [word.replace("whole", "killed") for word in command]
    while num_kills < 20:
        process = forked(command)
        process.join(moments.uniform(0.05, 0.6) * whole_s)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join(30)
        if process.exitcode == -signal.SIGKILL:
            num_kills += 1
            continue
        assert process.exitcode == 0
        assert result_bits(out) == expected
        num_ends += 1
        shutil.rmtree(out)
    assert main(command) == 0
    assert result_bits(out) == expected
    print(f"{num_kills} kills, {num_ends + 1} runs brought to their end, {whole_s:.1f} s each without kills")


def result_bits(folder):
    """All losses and the bytes of the result."""
    files = [*folder.glob("model/*.safetensors"), *folder.glob("adapter_model.safetensors")]
    assert len(files) == 1
    return losses(folder), files[0].read_bytes()


def start_two(arguments, errors=None):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    return [forked(arguments, environment, errors) for environment in ranks]


def run_two(arguments):
    processes = start_two(arguments)
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]


def test_a_lost_process_ends_the_run_in_words_and_it_resumes(base, rows, one, tmp_path):
    processes = start_two(words(base, rows, tmp_path, *PACKS, "--save-every", "1"), tmp_path / "errors")
    kill_at(lambda: (processes[1].pid, lambda: not processes[1].is_alive()), tmp_path / "log.jsonl", 1)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [2, -signal.SIGKILL]
    assert "start again with the same --out" in (tmp_path / "errors").read_text()
    run_two(words(base, rows, tmp_path, *PACKS, "--save-every", "1"))
    assert losses(tmp_path) == pytest.approx(losses(one), rel=1e-4)


@pytest.fixture(scope="module")
def one(base, rows, tmp_path_factory):
    """One process with twice the packs."""
    folder = tmp_path_factory.mktemp("one")
    assert main(words(base, rows, folder, *PACKS)) == 0
    return folder


@pytest.mark.parametrize(
    "more",
    [(), ("--shard",), ("--shard", "sequence"), pytest.param(("--shard", "both"), marks=pytest.mark.slow)],
    ids=["replicas", "shards", "sequence", "both"],
)
def test_two_processes_equal_one_with_twice_the_packs(base, rows, one, tmp_path, more):
    run_two(words(base, rows, tmp_path, *PACKS, *more))
    assert losses(tmp_path) == pytest.approx(losses(one), rel=1e-4)
    expected, found = weights(one), weights(tmp_path)
    for name, tensor in expected.items():
        torch.testing.assert_close(tensor, found[name], rtol=1e-3, atol=2e-4, msg=name)
    if "sequence" not in more and more:
        lose_newest_checkpoint(tmp_path / "checkpoints")
        run_two(words(base, rows, tmp_path, *PACKS, *more))
        assert equal(found, weights(tmp_path))


def lose_newest_checkpoint(folder):
    newest = sorted(folder.glob("step-*"))
    assert len(newest) == 2
    shutil.rmtree(newest[1])


def test_rows_that_break_in_either_process_are_listed(base, tmp_path):
    import numpy as np
    import soundfile

    rows = write_rows(tmp_path / "rows", 300)
    soundfile.write(tmp_path / "rows" / "nan.wav", np.full(4_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for broken in (10, 101, 202):
        lines[broken]["sound"] = "nan.wav"  # which shows only once it is decoded
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    more = ("--epochs", "1", "--batch-s", "40", "--micro-s", "3")
    run_two(words(base, rows, tmp_path / "out", *more))
    listed = [json.loads(line) for line in (tmp_path / "out" / "bad_rows.jsonl").read_text().splitlines()]
    assert {row["id"] for row in listed} == {"r10", "r101", "r202"}
    assert "300 read, 3 left out" in (tmp_path / "out" / "report.md").read_text()
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines[:150]))
    assert main(words(base, rows, tmp_path / "many", *more)) == 2
    listed = (tmp_path / "many" / "bad_rows.jsonl").read_text()
    assert '"id": "r10"' in listed
    assert "not finite" in listed


@pytest.mark.slow
def test_torchrun_starts_it_and_a_killed_one_resumes(base, rows, one, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "audioflamingo", *words(base, rows, tmp_path / "two", *PACKS)]
    subprocess.run(command, env=environment, check=True, timeout=200)
    assert losses(tmp_path / "two") == pytest.approx(losses(one), rel=1e-4)
    command = [sys.executable, "-m", "audioflamingo", *words(base, rows, tmp_path / "killed", *PACKS)]
    process = subprocess.Popen(command, env=environment)
    kill_at(lambda: (process.pid, lambda: process.poll() is not None), tmp_path / "killed" / "log.jsonl", 2)
    assert process.wait(30) == -signal.SIGKILL
    subprocess.run(command, env=environment, check=True, timeout=200)
    assert equal(weights(one), weights(tmp_path / "killed"))


def test_adapters_in_two_processes_equal_one(base, rows, tmp_path):
    """With dropout: masks follow from the pack, whoever has it."""
    from safetensors.torch import load_file

    more = (*PACKS, "--rank", "4", "--replay", "0")
    commands = {
        name: [word if word != "full" else "lora" for word in words(base, rows, tmp_path / name, *more, *shard)]
        for name, shard in (("one", ()), ("two", ()), ("shards", ("--shard",)))
    }
    assert main(commands["one"]) == 0
    run_two(commands["two"])
    run_two(commands["shards"])
    expected = load_file(tmp_path / "one" / "adapter_model.safetensors")
    for name in ("two", "shards"):
        assert losses(tmp_path / name) == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
        found = load_file(tmp_path / name / "adapter_model.safetensors")
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-3, atol=2e-4, msg=key)
