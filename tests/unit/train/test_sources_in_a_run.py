import dataclasses
import json

import pytest
from test_data_sources import write_shard
from test_trainer import CPU, StopHereError, job, stop_at
from tiny_training import write_rows, write_wav

from audioflamingo.train.data import TrainingDataError, live_world, parse_mixture
from audioflamingo.train.report import Log
from audioflamingo.train.run import INDEX, train


@pytest.fixture
def mixture(tmp_path):
    """Files, shards, a saved table, and the world live, in one."""
    datasets = pytest.importorskip("datasets")
    rows = write_rows(tmp_path / "rows", 4)
    shard = write_shard(tmp_path / "s.tar", 3)
    paths = [str(write_wav(tmp_path / f"h{i}.wav", 0.5, seed=50 + i)) for i in range(3)]
    datasets.Dataset.from_dict({"audio": paths, "caption": [f"Noise {i}." for i in range(3)]}).save_to_disk(
        tmp_path / "table"
    )
    return parse_mixture(f"{rows}#75+{shard}*2+hf:{tmp_path / 'table'}+world:counting@0.003@3")


def test_a_stopped_run_over_all_sources_ends_with_the_same_bits(base, mixture, tmp_path, monkeypatch):
    monkeypatch.setattr(live_world, "num_cores", lambda: 0)
    mixture = tuple(
        dataclasses.replace(part, path=dataclasses.replace(part.path, num_workers=0))
        if isinstance(part.path, live_world.LiveWorld)
        else part
        for part in mixture
    )

    def run(folder, report=lambda _: None):
        chosen = dataclasses.replace(
            job(base, tmp_path / "rows" / "rows.jsonl", tmp_path / folder, "lora"), data=mixture
        )
        return train(chosen, CPU, report)

    whole = run("whole")
    assert whole.num_steps >= 4
    with pytest.raises(StopHereError):
        run("parts", stop_at(3))
    assert list((tmp_path / "parts" / INDEX).glob("world-*.jsonl"))
    run("parts")
    files = [(tmp_path / folder / "adapter_model.safetensors").read_bytes() for folder in ("whole", "parts")]
    assert files[0] == files[1]
    assert "heard an epoch" in (tmp_path / "parts" / "report.md").read_text()


def test_a_base_in_few_bits_learns_through_the_command(base, tmp_path, capsys):
    from audioflamingo.cli.main import main

    rows = write_rows(tmp_path / "rows", 8)
    words = ["train", "lora", "--base", str(base), "--quantize", "int8", "--data", str(rows), "--device", "cpu"]
    words += ["--out", str(tmp_path / "out"), "--epochs", "12", "--batch-s", "4", "--rank", "4", "--rate", "0.01"]
    assert main(words) == 0
    losses = [json.loads(line)["loss"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert "base in int8" in (tmp_path / "out" / "report.md").read_text()
    capsys.readouterr()
    assert main([*words[:5], "int4", *words[6:], "--out", str(tmp_path / "four")]) == 2
    assert "has 32; use int8" in capsys.readouterr().err


def test_rows_that_are_left_out_are_told_and_no_longer_once_mended(base, tmp_path):
    rows = write_rows(tmp_path / "rows", 120)
    good = rows.read_text()
    lines = good.splitlines()
    lines[5] = json.dumps(json.loads(lines[5]) | {"sound": "nowhere.wav"})
    chosen = job(base, rows, tmp_path / "out", "lora")
    listed, told = tmp_path / "out" / "bad_rows.jsonl", []

    rows.write_text("\n".join([*lines, lines[5].replace("r5", "r500"), "{}"]))
    with pytest.raises(TrainingDataError, match="3 of 122 rows cannot be used"):
        train(chosen, CPU, tell=told.append)
    assert told == []

    rows.write_text("\n".join(lines))
    with pytest.raises(StopHereError):
        train(chosen, CPU, stop_at(1), told.append)
    assert told[0] == f"rows left out: 1 of 120, listed in {listed}"
    assert [json.loads(line)["id"] for line in listed.read_text().splitlines()] == ["r5"]

    rows.write_text(good)
    told.clear()
    with pytest.raises(StopHereError):
        train(chosen, CPU, stop_at(1), told.append)
    assert not listed.exists()
    assert not [line for line in told if "left out" in line]


def test_losses_of_a_short_run_are_those_of_its_two_ends(tmp_path):
    log = Log(tmp_path, 0, writes=False)
    for losses, first, last in (([4.0], 4.0, 4.0), ([4.0, 2.0, 1.0], 4.0, 1.0), ([*range(20)], 2.0, 17.0)):
        log.lines = [{"loss": float(loss)} for loss in losses]
        assert (log.first_loss, log.last_loss) == (first, last)


def test_a_log_that_a_power_cut_left_in_pieces_is_gone_on_with(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(
        b'{"step": 1, "loss": 4.0}\n\0\0\0\n{"step": 2, "loss": 3.0}\n{"step": 3, "loss": 2.0}\n\xff{"step"'
    )
    log = Log(tmp_path, 2)
    log.close()
    assert [line["step"] for line in log.lines] == [1, 2]
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "loss": 4.0}\n{"step": 2, "loss": 3.0}\n'
