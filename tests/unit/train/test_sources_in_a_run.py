import dataclasses
import json

import pytest
from test_data_sources import write_shard
from test_trainer import CPU, StopHereError, job, stop_at
from tiny_training import write_rows, write_wav

from audioflamingo.train.data import live_world, parse_mixture
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
