"""Several processes give what one gives with twice the packs: on two GPUs by NCCL, and on a CPU by gloo."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tiny_training import write_base
from two_processes import in_two, take_rank

from audioflamingo.model.weights import load_flamingo
from audioflamingo.train.data import Component
from audioflamingo.train.data.rows import Row
from audioflamingo.train.distributed import Processes, joined
from audioflamingo.train.run import MODEL_FOLDER, Job, train
from audioflamingo.train.stages import STAGES, nano
from audioflamingo.types import SAMPLE_RATE_HZ, Audio

NUM_STEPS = 3
TOLERANCE = 1e-4
RATE = 1e-3
WAYS = {"copies": (False, False), "shards": (True, False), "sequence": (False, True), "both": (True, True)}


@dataclass(frozen=True)
class Noise:
    """A sound that is no file: a machine with GPUs may have nothing that reads one."""

    name: str
    seconds: float

    def load(self):
        generator = np.random.default_rng(len(self.name) * round(1_000 * self.seconds))
        samples = 0.2 * generator.standard_normal(round(self.seconds * SAMPLE_RATE_HZ), dtype=np.float32)
        return Audio(samples, self.name)

    def duration_s(self):
        return self.seconds


@dataclass(frozen=True)
class Rows:
    """Twelve rows, each fourth without a sound."""

    name: str = "rows"

    def read(self, reading):
        rows = []
        for number in range(12):
            sounds = () if number % 4 == 3 else (Noise(f"s{number}", 1.0 + 0.16 * number),)
            question = "<sound>\nWhat is it?" if sounds else "Who are you?"
            rows.append(Row(f"r{number}", sounds, (("user", question), ("assistant", f"A dog barks {number % 3}."))))
        return rows, []


def job(base, out):
    stage = dataclasses.replace(nano(STAGES["full"]("paper")), batch_s=12.0, micro_s=6.0, epochs=1, rate=RATE)
    return Job(base=str(base), data=(Component(Rows()),), out=out, stage=stage)


def run(base, out, processes):
    """Loss of every step."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # convolutions would round to ten bits, each shape in its own way
    losses = []
    train(job(base, out), processes, lambda progress: losses.append(progress.loss))
    return losses


def child(rank, port, device, base, out, results):
    take_rank(rank, port)
    with joined(device, shards=True, timeout_s=60) as processes:
        assert processes.least(5 + rank) == 5
        for way, (shards, splits) in WAYS.items():
            several = dataclasses.replace(processes, shards=shards, splits=splits)
            results.put((rank, way, run(base, out / way, several)))


def test_two_processes_learn_what_one_learns_from_twice_the_packs(device, tmp_path):
    base = write_base(tmp_path / "base")
    expected = run(base, tmp_path / "one", Processes(torch.device("cuda:0" if device == "cuda" else device)))
    assert len(expected) == NUM_STEPS
    found = in_two(child, (device, base, tmp_path), 2 * len(WAYS))
    assert {(rank, way) for rank, way, _ in found} == {(rank, way) for rank in range(2) for way in WAYS}
    for rank, way, losses in found:
        assert losses == pytest.approx(expected, rel=TOLERANCE), (rank, way)
    first, one = load_flamingo(base).state_dict(), load_flamingo(tmp_path / "one" / MODEL_FOLDER).state_dict()
    assert max(float((one[name] - tensor).abs().max()) for name, tensor in first.items()) > 10 * TOLERANCE
    for way in WAYS:
        two = load_flamingo(tmp_path / way / MODEL_FOLDER).state_dict()
        for name, tensor in one.items():
            torch.testing.assert_close(two[name], tensor, rtol=TOLERANCE, atol=TOLERANCE, msg=f"{way}: {name}")
