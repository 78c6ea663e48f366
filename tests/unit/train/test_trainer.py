import dataclasses
import errno
import json

import pytest
import torch
from safetensors import SafetensorError
from tiny_training import TOKENIZER, write_rows

from audioflamingo.errors import CheckpointError, FlamingoError, OptionError
from audioflamingo.model.weights import load_flamingo
from audioflamingo.train import checkpoint
from audioflamingo.train.data import parse_mixture
from audioflamingo.train.distributed import Processes
from audioflamingo.train.explained import TrainingError, explained_run, explained_step
from audioflamingo.train.lora import LoraConfig
from audioflamingo.train.run import CHECKPOINTS, MODEL_FOLDER, Job, train
from audioflamingo.train.stages import STAGES, nano
from audioflamingo.train.updates import Updates

CPU = Processes(torch.device("cpu"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), 12)


def job(base, rows, out, name="full", save_every_steps=2, **changes):
    stage = dataclasses.replace(nano(STAGES[name]("paper")), **{"batch_s": 6.0, "epochs": 2, **changes})
    return Job(
        base=str(base), data=parse_mixture(str(rows)), out=out, stage=stage, save_every_steps=save_every_steps, keep=2
    )


def weights(folder):
    return load_flamingo(folder / MODEL_FOLDER).state_dict()


class StopHereError(Exception):
    pass


def stop_at(step):
    def report(progress):
        if progress.step == step:
            raise StopHereError

    return report


@pytest.mark.parametrize("stop", [1, 2, 3, 5])
def test_a_stopped_run_ends_with_the_same_bits(base, rows, tmp_path, stop):
    whole = train(job(base, rows, tmp_path / "whole"), CPU)
    assert whole.num_steps > 5
    with pytest.raises(StopHereError):
        train(job(base, rows, tmp_path / "parts"), CPU, stop_at(stop))
    train(job(base, rows, tmp_path / "parts"), CPU)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("whole", "parts")
    ]
    assert losses[0] == losses[1]


def test_dropout_resumes_too(base, rows, tmp_path):
    config = LoraConfig(rank=2, alpha=4.0, dropout=0.3)
    for folder in ("whole", "parts"):
        chosen = job(base, rows, tmp_path / folder, "lora", lora=config, rate=1e-2)
        if folder == "parts":
            with pytest.raises(StopHereError):
                train(chosen, CPU, stop_at(3))
            torch.manual_seed(99)
        train(chosen, CPU)
    files = [(tmp_path / folder / "adapter_model.safetensors").read_bytes() for folder in ("whole", "parts")]
    assert files[0] == files[1]


def test_a_run_leaves_a_model_a_log_and_a_report(base, rows, tmp_path):
    from audioflamingo import load_model

    result = train(job(base, rows, tmp_path), CPU)
    assert load_model(result.folder, device="cpu").ask(None, "Who are you?", max_new_tokens=2)
    report = (tmp_path / "report.md").read_text()
    assert "12 read, 0 left out" in report
    assert (tmp_path / "loss.svg").read_text().startswith("<svg")
    assert len(checkpoint.complete(tmp_path / CHECKPOINTS)) == 2
    assert not list((tmp_path / CHECKPOINTS).glob("*.partial"))


def test_other_data_or_options_do_not_resume(base, rows, tmp_path):
    train(job(base, rows, tmp_path / "out"), CPU)
    with pytest.raises(TrainingError, match="another base, data or options"):
        train(job(base, rows, tmp_path / "out", rate=1e-5), CPU)
    more = write_rows(tmp_path / "more", 13)
    with pytest.raises(TrainingError, match="another base, data or options"):
        train(job(base, more, tmp_path / "out"), CPU)


@pytest.mark.parametrize("damage", ["tensors", "state"])
def test_a_damaged_checkpoint_is_named(base, rows, tmp_path, damage):
    train(job(base, rows, tmp_path), CPU)
    newest = checkpoint.complete(tmp_path / CHECKPOINTS)[-1]
    file = newest / (checkpoint.TENSORS_FILE if damage == "tensors" else checkpoint.STATE_FILE)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=newest.name):
        train(job(base, rows, tmp_path), CPU)


def test_no_space_for_a_checkpoint_loses_nothing(tmp_path, monkeypatch):
    tensors = {"a": torch.arange(5.0)}
    checkpoint.save(tmp_path, tensors, {"step": 1}, CPU, keep=2)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match="free some space"):
        checkpoint.save(tmp_path, tensors, {"step": 2}, CPU, keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_checkpoints_beyond_the_kept_ones_go(tmp_path):
    tensors = {"a": torch.arange(5.0), "b": torch.tensor(2.0)}
    (tmp_path / "step-00000009.partial").mkdir()
    for step in range(1, 5):
        checkpoint.save(tmp_path, tensors, {"step": step}, CPU, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000004"]
    found = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    checkpoint.restore(tmp_path / "step-00000004", found)
    assert all(torch.equal(tensor, found[name]) for name, tensor in tensors.items())
    with pytest.raises(CheckpointError, match="other tensors"):
        checkpoint.restore(tmp_path / "step-00000004", {"a": torch.zeros(5)})


def test_a_row_that_breaks_after_the_check_is_left_out_and_counted(base, tmp_path):
    rows = write_rows(tmp_path / "rows", 8)
    lines = rows.read_text().splitlines()
    rows.write_text("".join(line.replace('"id": "', f'"id": "{k}-') + "\n" for k in range(14) for line in lines))
    broken = tmp_path / "rows" / "s0.wav"
    content = broken.read_bytes()
    alone = json.loads(lines[0]) | {"id": "alone", "sound": "alone.wav"}
    (tmp_path / "rows" / "alone.wav").write_bytes(content)
    with rows.open("a") as file:
        file.write(json.dumps(alone) + "\n")

    def break_it(progress):
        if progress.step == 1:
            (tmp_path / "rows" / "alone.wav").write_bytes(b"RIFF")

    chosen = job(base, rows, tmp_path / "out", batch_s=20.0, micro_s=3.0, epochs=1)
    # An order in which the row comes late, so that it is not decoded before it breaks.
    chosen = dataclasses.replace(chosen, stage=dataclasses.replace(chosen.stage, seed=late_seed(113)))
    result = train(chosen, CPU, break_it)
    assert result.num_bad == 1
    assert "alone" in (tmp_path / "out" / "report.md").read_text()


def late_seed(num_rows):
    import numpy as np

    for seed in range(1_000):
        if np.random.default_rng((seed, 0)).permutation(num_rows).tolist().index(num_rows - 1) > num_rows - 20:
            return seed
    raise AssertionError


def test_a_base_that_does_not_fit_is_refused(base, rows, tmp_path):
    with pytest.raises(FlamingoError, match="positions"):
        train(job(base, rows, tmp_path, max_tokens=30_000), CPU)


def test_a_loss_that_is_not_finite_stops_the_run(base, rows, tmp_path):
    with pytest.raises(TrainingError, match="lower --rate"):
        train(job(base, rows, tmp_path, rate=1e30, epochs=20), CPU)


def test_out_of_memory_says_what_to_lower(tmp_path):
    stage = nano(STAGES["lora"]("paper"))
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("alloc_cpu: can't allocate memory: 9 GB")):
        with pytest.raises(TrainingError, match="in step 5; lower --micro-s"), explained_step(stage, 4):
            raise error
        with pytest.raises(TrainingError, match=r"before the first step.*--quantize"), explained_run(tmp_path):
            raise error


def test_a_run_beyond_the_machine_ends_before_its_first_step(base, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("audioflamingo.train.memory.machine_memory", lambda: 1)
    with pytest.raises(OptionError, match="lower --micro-s"):
        train(job(base, rows, tmp_path / "out"), CPU)


def test_what_cannot_be_written_names_file_and_remedy(base, rows, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrainingError, match=r"file.*cannot be read or written \(File exists\); check the folder"):
        train(job(base, rows, tmp_path / "file"), CPU)
    with pytest.raises(TrainingError, match="free some space"), explained_run(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "log.jsonl")
    with pytest.raises(TrainingError, match="ulimit"), explained_run(tmp_path):
        raise SafetensorError("Error while serializing: I/O error: File too large (os error 27)")
    with pytest.raises(BrokenPipeError), explained_run(tmp_path):
        raise BrokenPipeError


def test_the_tokenizer_of_the_tests_has_its_tokens():
    assert TOKENIZER.im_end in TOKENIZER.eos_ids


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_change_nothing(value):
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    updates = Updates(dict(layer.named_parameters()), nano(STAGES["full"]("paper")))
    gradients = {name: torch.ones_like(one) for name, one in layer.named_parameters()}
    gradients["weight"][0, 0] = value
    with pytest.raises(TrainingError, match="not finite"):
        updates.step(gradients, 1e-3)
    assert torch.equal(layer.weight, before)
