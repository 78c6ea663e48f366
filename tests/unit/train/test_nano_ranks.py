"""The embedded model's training in two processes: the same weights in both, means of gradients, and the command."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from audioflamingo.model.weights import resolve
from audioflamingo.train.nano import TINY, main
from audioflamingo.train.nano_bench import random_plan
from audioflamingo.train.nano_ranks import Word, ranked
from audioflamingo.train.nano_recipe import all_tasks, from_nothing, shrunk
from audioflamingo.train.nano_state import load_pieces
from audioflamingo.train.nano_trainer import NanoTrainer, Start
from audioflamingo.train.nano_workers import RenderOrder, start_workers
from audioflamingo.world.voices import EngineMissingError, open_engine

CPU = torch.device("cpu")
SAMPLES = torch.from_numpy((np.random.default_rng(3).standard_normal(700_000) * 3_000).astype(np.int16))
TOKENIZER = resolve("nano") / "tokenizer.json"
RECIPES = {"all": shrunk(all_tasks(), TINY, 10.0), "alone": shrunk(from_nothing(), TINY, 10.0)}
OPTIONS = (
    "--tokenizer", TOKENIZER, "--piece-s", 60, "--decay-s", 50, "--workers", 1, "--pool-hours", 3, "--first-hours",
    0.015, "--step-s", 20, "--longest-s", 45, "--tiny", "--no-soundfonts", "--speed", "eager", "--check-every-s", 1_000,
)  # fmt: skip
FAILURE = "this process was told to fail"
SPAWN = multiprocessing.get_context("spawn")


def trainer_of(name, ranks=None):
    return NanoTrainer(RECIPES[name], Start(TOKENIZER), CPU, "eager", ranks)


def plan_of(trainer, seed):
    return random_plan(trainer.recipe.short, 2_048, TINY.audio_token_id, seed)


def gradients(trainer, seed):
    """By name: of one plan, with masks that follow from its seed."""
    torch.manual_seed(seed)
    plan = plan_of(trainer, seed)
    trainer.runner(trainer.mel(SAMPLES, plan), plan, trainer.recipe.phase(0.0).mode)
    seconds = trainer.mean.take(plan.seconds)
    found = {
        name: one.grad.clone()
        for name, one in zip(trainer.names, trainer.optimiser.parameters, strict=True)
        if one.grad is not None
    }
    for one in trainer.optimiser.parameters:
        one.grad = None
    return found, seconds


def moments(trainer):
    state = trainer.state()
    adam = [value for one in state["optimiser"]["adam"]["state"].values() for value in one.values()]
    tensors = [*trainer.optimiser.masters, *trainer.average, *adam, *state["optimiser"]["momenta"].values()]
    return torch.cat([tensor.flatten().float() for tensor in tensors])


def take_part(rank, port, folder):
    """One of two processes: everything that the tests look at goes to a file; then the second one fails."""
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in environment.items()})
    torch.set_num_threads(1)
    sys.stderr = (folder / f"errors-{rank}").open("w")
    with ranked() as (ranks, device):
        found = {"device": str(device), "folder": str(ranks.folder(Path("work"))), "seed": ranks.seed(7)}
        found["gradients"] = {name: gradients(trainer_of(name, ranks), rank) for name in RECIPES}
        found["word"] = ranks.tell(Word(12.5 + rank, 0.5, ends=rank == 0, compares=rank == 1))
        trainer = trainer_of("all", ranks)
        found["start"] = torch.cat([one.flatten() for one in trainer.optimiser.masters])
        if ranks.is_first:  # it alone comes with a state
            earlier = trainer_of("all")
            list(run_steps(earlier, 1))
            trainer.restore(earlier.state())
        found["equal"] = [ranks.are_equal(trainer.optimiser.masters)]
        trainer.take_from_first()
        found["taken"] = moments(trainer)
        found["losses"] = list(run_steps(trainer, 4))
        found["equal"].append(ranks.are_equal(trainer.optimiser.masters))
        found["end"], found["parameters"] = moments(trainer), [one.data for one in trainer.optimiser.parameters]
        found["counts"] = trainer.counts()
        torch.save(found, folder / f"rank-{rank}.pt")
        ranks.meet()
        if rank == 1:
            raise RuntimeError(FAILURE)


def run_steps(trainer, num):
    for index in range(num):
        losses = trainer.step(SAMPLES, plan_of(trainer, 100 * index + trainer.ranks.rank))
        yield {name: float(value) for name, value in losses.items()}


def ended(processes, seconds):
    """Exit codes; whoever is not there in time is killed, and has None."""
    until = time.monotonic() + seconds
    codes = []
    for process in processes:
        process.join(max(until - time.monotonic(), 0.1))
        codes.append(process.exitcode)
        if process.is_alive():
            process.kill()
            process.join(30)
    return codes


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What both processes found, how they ended, and what they wrote last."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [SPAWN.Process(target=take_part, args=(rank, port, folder)) for rank in range(2)]
    for process in processes:
        process.start()
    codes = ended(processes, 90)
    errors = [(folder / f"errors-{rank}").read_text() for rank in range(2)]
    assert (folder / "rank-1.pt").exists(), errors
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=False) for rank in range(2)], codes, errors


def test_both_have_the_same_weights_to_the_last_bit(two):
    (first, second), _, _ = two
    assert torch.equal(first["taken"], second["taken"])
    assert torch.equal(first["end"], second["end"])
    assert all(torch.equal(a, b) for a, b in zip(first["parameters"], second["parameters"], strict=True))
    assert first["equal"] == second["equal"] == [False, True]  # before the second took the first one's, and at the end
    num = len(first["start"])
    assert not torch.equal(second["taken"][:num], second["start"])
    assert (first["end"][:num] - first["taken"][:num]).abs().max() > 1e-5
    assert first["counts"] == second["counts"]
    assert first["counts"]["num_steps"] == 5
    assert [one["norm"] for one in first["losses"]] == [one["norm"] for one in second["losses"]]
    assert [one["total"] for one in first["losses"]] != [one["total"] for one in second["losses"]]


@pytest.mark.parametrize("name", RECIPES)
def test_gradients_are_the_mean_of_both(two, name):
    """In the phase without the decoder, too, where many have none."""
    trainer = trainer_of(name)
    alone = [gradients(trainer, seed) for seed in range(2)]
    for found, seconds in (one["gradients"][name] for one in two[0]):
        assert seconds == pytest.approx(alone[0][1] + alone[1][1])
        assert set(found) == set(alone[0][0])
        for key, gradient in found.items():
            mean = (alone[0][0][key] + alone[1][0][key]) / 2
            torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-6, msg=key)
    assert ("model.decoder.norm.weight" in alone[0][0]) == (name == "all")


def test_the_first_decides_and_keeps_its_place(two):
    (first, second), _, _ = two
    assert first["word"] == second["word"] == Word(12.5, 0.5, ends=True, compares=False)
    assert (first["folder"], second["folder"]) == ("work", "work/rank-1")
    assert first["seed"] == 7 != second["seed"]
    assert first["device"] == second["device"] == ("cuda:0" if torch.cuda.is_available() else "cpu")


def test_one_that_fails_ends_the_other_with_its_error(two):
    _, codes, errors = two
    assert codes == [1, 1]
    assert FAILURE in errors[1]
    assert "process 0 of 2 failed" in errors[0]


@pytest.fixture(scope="module")
def engines():
    try:
        for name in ("espeak-ng", "flite"):
            open_engine(name)
    except EngineMissingError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_the_command_in_two_processes_and_on_from_its_state_in_one(engines, tmp_path, monkeypatch):
    places = ["--work", tmp_path / "work", "--out", tmp_path / "out"]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    words = [sys.executable, *launcher, "audioflamingo.train.nano", *OPTIONS, *places, "--draw-apart", "--steps", 3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run([str(word) for word in words], env=environment, timeout=120, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "work" / "rank-1" / "shards").glob("next-0.txt"))
    assert not list((tmp_path / "work" / "rank-1").glob("*.pt"))
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert {"ranks": 2, "weights_are_equal": True}.items() <= lines[-3].items()
    told = json.loads((tmp_path / "out" / "small" / "progress.json").read_text())
    assert told["num_steps"] == 3
    assert 60.0 < told["heard_s"] <= 120.0  # 3 steps of at most 20 s, in two processes
    small = load_pieces("weights", tmp_path / "out" / "small")
    (tmp_path / "work" / "state.pt").unlink()
    on = ["--work", tmp_path / "work", "--out", tmp_path / "on", "--resume", tmp_path / "out" / "small", "--steps", 1]
    monkeypatch.setattr(sys, "argv", [str(word) for word in ("nano", *OPTIONS, *on)])
    main()
    told = json.loads((tmp_path / "on" / "small" / "progress.json").read_text())
    assert told["num_steps"] == 4
    later = load_pieces("weights", tmp_path / "on" / "small")
    apart = [float((later[name] - weights).abs().max()) for name, weights in small.items()]
    assert 0.0 < max(apart) < 0.01  # one step on from there, not from the start


def be_killed(folder, told):
    workers, _ = start_workers(RenderOrder(folder, TOKENIZER, 5, max_ahead=0), 1)
    told.send(workers[0].pid)
    time.sleep(60)


def test_workers_of_a_killed_process_end(tmp_path):
    """With `max_ahead` 0 the worker waits for ever."""
    heard, told = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=be_killed, args=(tmp_path, told))
    process.start()
    assert heard.poll(60)
    worker = heard.recv()
    os.kill(process.pid, signal.SIGKILL)
    process.join(30)
    until = time.monotonic() + 30
    while is_running(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not is_running(worker)


def is_running(pid):
    """A process that nobody waited for is no longer running."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
