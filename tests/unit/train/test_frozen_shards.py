"""A base in shards: bf16 where it is frozen, fp32 where it is trained; adapters are whole in both processes."""

import dataclasses
import hashlib
import shutil
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from test_two_gpus import job
from tiny_training import write_base
from two_processes import in_two, take_rank

from audioflamingo.model.weights import load_flamingo, save_flamingo
from audioflamingo.train import run as running
from audioflamingo.train.distributed import Processes, is_divided, joined
from audioflamingo.train.run import MODEL_FOLDER, train
from audioflamingo.train.stages import STAGES, nano

TOLERANCE = 1e-3  # sums in another order, rounded to bf16 now and then
NORM_TOLERANCE = 0.02  # without deterministic kernels a GPU gives others every time
APART = 0.1  # of what was learnt: the first steps of AdamW go by the signs of gradients, small ones too
ADAPTER = "adapter_model.safetensors"
WAYS = {"copies": (False, False), "shards": (True, False), "both": (True, True)}
FULL, SHORT = "torch.float32", "torch.bfloat16"


@dataclass(frozen=True)
class Outcome:
    """What one process saw of a run.

    Attributes:
        losses: of every step.
        norms: of all gradients together, before clipping.
        layout: of every parameter whether it lies in shards, and its dtype.
        digest: of the trained parameters' own pieces.
    """

    losses: list
    norms: list
    layout: dict
    digest: str


def staged(name, precision="bfloat16", more=()):
    stage = nano(STAGES[name]("paper"))
    lora = stage.lora and dataclasses.replace(stage.lora, dropout=0.0)  # parts of a sequence draw masks of their own
    return dataclasses.replace(
        stage, trains=(*more, *stage.trains), precision=precision, lora=lora, batch_s=12.0, micro_s=6.0, epochs=1,
        rate=3e-3,
    )  # fmt: skip


STAGED = {
    "lora": staged("lora"),
    "lora_fp32": staged("lora", "float32"),
    "lora_and_projector": staged("lora", more=("projector",)),
    "stage_1": staged("stage_1"),
    "stage_2": staged("stage_2"),
}


def run(base, out, name, processes):
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    steps, seen = [], []
    trained = running.trained
    running.trained = lambda loss: seen.append(loss) or trained(loss)
    try:
        given = dataclasses.replace(job(base, out), stage=STAGED[name], save_every_steps=1)
        train(given, processes, steps.append)
    finally:
        running.trained = trained
    parameters = dict(seen[0].named_parameters())
    layout = {key.removeprefix("model."): (is_divided(one), str(one.dtype)) for key, one in parameters.items()}
    mine = [one.to_local() if is_divided(one) else one for one in parameters.values() if one.requires_grad]
    digest = hashlib.sha256(b"".join(one.detach().float().cpu().numpy().tobytes() for one in mine)).hexdigest()
    return Outcome([step.loss for step in steps], [step.norm for step in steps], layout, digest)


def child(rank, port, device, base, out, wanted, results):
    take_rank(rank, port)
    with joined(device, shards=True, timeout_s=60) as processes:
        for name, way in wanted:
            shards, splits = WAYS[way]
            several = dataclasses.replace(processes, shards=shards, splits=splits)
            results.put((rank, name, way, run(base, out / name / way, name, several)))


def outcomes(device, base, out, wanted):
    """What each of two processes saw of runs: {(rank, name, way): outcome}."""
    found = in_two(child, (device, base, out, wanted), 2 * len(wanted))
    return {(rank, name, way): outcome for rank, name, way, outcome in found}


def alone(device):
    return Processes(torch.device("cuda:0" if device == "cuda" else device))


@pytest.fixture
def short_base(tmp_path):
    """A checkpoint in bf16, as the released ones are: what is frozen can stay as it is to the last bit."""
    folder = write_base(tmp_path / "base")
    save_flamingo(load_flamingo(folder), folder, dtype=torch.bfloat16, overwrite=True)
    return folder


def apart(found, expected, start=None):
    """How far two results are from each other, in lengths of the way from the start; adapters' B begins at zero."""
    names = [name for name in expected if start is not None or "lora_B" in name]
    assert names
    assert found.keys() == expected.keys()
    gap = sum(float((found[name] - expected[name]).square().sum()) for name in names)
    way = sum(float((expected[name] - (start[name] if start else 0)).square().sum()) for name in names)
    assert way > 0.01  # something was learnt
    return (gap / way) ** 0.5


def is_adapter(name):
    return name.endswith(("lora_a", "lora_b"))


def test_adapters_over_a_base_in_shards_are_those_of_one_process(device, short_base, tmp_path):
    names = ("lora", "lora_fp32")
    found = outcomes(device, short_base, tmp_path, [(name, way) for name in names for way in WAYS])
    for name in names:
        expected = run(short_base, tmp_path / name / "one", name, alone(device))
        adapters = {way: load_file(tmp_path / name / way / ADAPTER) for way in ("one", *WAYS)}
        for way in WAYS:
            first, second = (found[rank, name, way] for rank in range(2))
            assert first.digest == second.digest
            assert first.losses == second.losses == pytest.approx(expected.losses, rel=TOLERANCE)
            assert first.norms == second.norms == pytest.approx(expected.norms, rel=NORM_TOLERANCE)
            assert apart(adapters[way], adapters["one"]) < APART, way
        if device == "cpu":  # shards change who holds the base and nothing that is computed
            assert found[0, name, "shards"].digest == found[0, name, "copies"].digest
        for key, (divided, dtype) in found[1, name, "shards"].layout.items():
            assert divided is not is_adapter(key)
            assert dtype == (FULL if is_adapter(key) or name == "lora_fp32" else SHORT), key


def test_a_run_of_adapters_over_shards_goes_on_with_the_same_bits_and_in_one_process(device, short_base, tmp_path):
    wanted = [("lora", "shards")]
    before = outcomes(device, short_base, tmp_path, wanted)
    folder, alone_too = tmp_path / "lora" / "shards", tmp_path / "lora" / "one"
    adapter = load_file(folder / ADAPTER)
    (folder / ADAPTER).unlink()
    shutil.rmtree(sorted((folder / "checkpoints").glob("step-*"))[-1])
    shutil.copytree(folder, alone_too)
    after = outcomes(device, short_base, tmp_path, wanted)
    again = load_file(folder / ADAPTER)
    assert len(after[0, "lora", "shards"].losses) == 1  # the others were not made again
    if device == "cpu":
        assert after[0, "lora", "shards"].losses == before[0, "lora", "shards"].losses[-1:]
        assert all(torch.equal(again[name], tensor) for name, tensor in adapter.items())
    assert apart(again, adapter) < APART
    assert len(run(short_base, alone_too, "lora", alone(device)).losses) == 1
    assert apart(load_file(alone_too / ADAPTER), adapter) < APART


def test_only_what_is_trained_is_kept_in_fp32_and_all_else_stays_as_it_is(device, short_base, tmp_path):
    names = ("stage_1", "stage_2", "lora_and_projector")
    found = outcomes(device, short_base, tmp_path, [(name, "shards") for name in names])
    first = load_flamingo(short_base).state_dict()
    for name in names:
        parts, outcome = STAGED[name].trains, found[0, name, "shards"]
        expected = run(short_base, tmp_path / name / "one", name, alone(device))
        assert outcome.losses == pytest.approx(expected.losses, rel=TOLERANCE)
        assert outcome.norms == pytest.approx(expected.norms, rel=NORM_TOLERANCE)
        for key, (divided, dtype) in outcome.layout.items():
            learns = is_adapter(key) or (key.partition(".")[0] in parts and "embed_positions" not in key)
            assert (divided, dtype) == (True, FULL if learns else SHORT), key
        if "lora" in parts:
            assert apart(*(load_file(tmp_path / name / way / ADAPTER) for way in ("shards", "one"))) < APART
            continue
        one, two = (load_flamingo(tmp_path / name / way / MODEL_FOLDER).state_dict() for way in ("one", "shards"))
        changed = {key for key, tensor in first.items() if not torch.equal(two[key], tensor)}
        assert {key.partition(".")[0] for key in changed} == set(parts)
        assert apart(two, one, first) < APART, name
