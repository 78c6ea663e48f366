"""Every section runs on a tiny model with random weights, beside transformers, and gives a report of the right form."""

import json

import pytest
import torch

from audioflamingo.bench import command, run
from audioflamingo.bench.random_weights import TINY, filled, random_state, random_tensors
from audioflamingo.bench.schema import complaints
from audioflamingo.errors import OptionError
from audioflamingo.model.weights.places import Order

ROWS = {
    "encoder": ["encoder_long", "encoder_shortest", "encoder_short"],
    "prefill": ["first_token_clip", "first_token_long"],
    "decode": ["decode_one", "decode_many"],
    "batch": ["batch_clips", "batch_short"],
    "turns": ["second_question"],
    "mel": ["log_mel"],
    "memory": ["peak_memory"],
    "load": ["load"],
}
TINY_RUN = ["--model", "random-tiny", "--scale", "tiny", "--device", "cpu"]


def bench(words, capsys):
    code = command.main([*words])
    lines = capsys.readouterr().out.splitlines()
    return code, lines, json.loads(lines[-1])


@pytest.mark.parametrize("sections", [("encoder", "turns", "mel"), ("prefill", "decode", "batch"), ("memory", "load")])
def test_sections_beside_transformers(sections, capsys, tmp_path):
    path = tmp_path / "report.json"
    code, lines, report = bench([*sections, *TINY_RUN, "--beside", "transformers", "--out", str(path)], capsys)
    assert complaints(report) == []
    assert report["errors"] == {}
    assert code == 0
    assert [row["key"] for row in report["rows"]] == [key for section in sections for key in ROWS[section]]
    assert set(report["seconds"]) == {*sections, "total"}
    for row in report["rows"]:
        assert row["ours"]["median"] > 0
        assert row["transformers"]["median"] > 0
        better = row["ours"]["median"] / row["transformers"]["median"]
        assert row["ratio"] == pytest.approx(better if row["unit"].endswith(" per s") else 1 / better, rel=2e-3)
    assert json.loads(path.read_text()) == report
    assert any(line.startswith("measured") and "TFLOP/s" in line for line in lines)


def test_the_commands_of_the_embedded_model(capsys):
    code, _, report = bench(["cpu", "--model", "nano", "--scale", "tiny"], capsys)
    assert complaints(report) == []
    assert (code, report["errors"]) == (0, {})
    keys = ["cold_ask", "warm_first_token", "warm_rate", "answer_12", "answer_100"]
    assert [row["key"] for row in report["rows"]] == keys
    assert all(row["ours"]["median"] > 0 for row in report["rows"])
    assert report["rows"][1]["goal"] == 150


def test_quantised_weights_are_measured_and_their_bytes_counted(capsys):
    code, _, report = bench(["decode", "load", *TINY_RUN, "--quantize", "int8"], capsys)
    assert code == 0
    assert report["model"]["quantize"] == "int8"
    assert report["rows"][0]["ours"]["median"] > 0
    matrices = TINY.decoder.num_layers * (2 * 64 * (64 + 32) + 3 * 64 * 96) + 2048 * 64
    assert matrices < report["rows"][0]["bytes"] < 2 * matrices


def test_quantised_random_weights_are_the_plain_ones_rounded():
    device, dtype = torch.device("cpu"), torch.bfloat16
    model = filled(TINY, random_tensors(TINY, device, dtype), Order("int8", device, torch.float32), dtype)
    weight = random_state(TINY, device, dtype)["decoder.layers.0.mlp.up_proj.weight"].float()
    layer = model.decoder.layers[0].mlp.up_proj
    assert (layer.dequantize(torch.float32) - weight).abs().max() <= weight.abs().max() / 127


def test_random_weights_are_seeded_and_not_zero():
    one, other = (random_state(TINY, torch.device("cpu")) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert float(one["decoder.layers.0.mlp.up_proj.weight"].std()) == pytest.approx(0.02, rel=0.1)


def test_a_failing_section_is_told_and_the_others_go_on(monkeypatch, capsys):
    def broken(context):
        raise RuntimeError("no such kernel")
        yield

    monkeypatch.setitem(run.SECTIONS, "encoder", broken)
    code, _, report = bench(["encoder", "mel", *TINY_RUN], capsys)
    assert code == 1
    assert report["errors"] == {"encoder": "RuntimeError: no such kernel"}
    assert [row["key"] for row in report["rows"]] == ["log_mel"]
    assert complaints(report) == []


def test_a_used_up_budget_leaves_sections_out_by_name(capsys):
    code, _, report = bench(["encoder", "mel", *TINY_RUN, "--budget-s", "0.001"], capsys)
    assert code == 1
    assert set(report["errors"]) == {"encoder", "mel"}
    assert all("budget" in text for text in report["errors"].values())
    assert report["rows"] == []


def test_commands_need_a_checkpoint(capsys):
    code, _, report = bench(["cpu", *TINY_RUN], capsys)
    assert code == 1
    assert "takes a checkpoint on the CPU, not random-tiny" in report["errors"]["cpu"]


def test_a_folder_gets_a_file_named_by_hardware_and_model(capsys, tmp_path):
    bench(["mel", *TINY_RUN, "--out", str(tmp_path)], capsys)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("bench_")
    assert "_random-tiny_" in path.name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["encode"], "section is 'encode', allowed: encoder, prefill"),
        (["--scale", "huge"], "scale is 'huge', allowed: full, cpu, tiny"),
        (["--dtype", "int3"], "dtype is 'int3', allowed: float32"),
        (["--quantize", "int3"], "quantize is 'int3', allowed: "),
        (["--kv-cache", "int4"], "kv_cache is 'int4', allowed: plain, int8"),
        (["--budget-s", "-1"], "budget_s is -1.0, allowed: above 0"),
        (["--out", "/dev/null/report.json"], "out '/dev/null/report.json' cannot be written"),
        (["--device", "tpu"], "device 'tpu' is not available"),
    ],
)
def test_wrong_options_are_told(words, told):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    with pytest.raises(OptionError, match=told.replace("(", r"\(")):
        command.run(parser.parse_args([*words, "--model", "random-tiny"]))


def test_fewer_bits_for_weights_and_cache(capsys, tmp_path):
    words = ["prefill", "decode", *TINY_RUN, "--quantize", "int8", "--kv-cache", "int8", "--out", str(tmp_path)]
    code, _, report = bench(words, capsys)
    assert code == 0
    assert [row["key"] for row in report["rows"]] == ROWS["prefill"] + ROWS["decode"]
    assert (report["model"]["quantize"], report["model"]["kv_cache"]) == ("int8", "int8")
    (path,) = tmp_path.iterdir()
    assert "_random-tiny_int8_kv-int8_" in path.name


def test_all_leaves_the_commands_to_checkpoints_on_a_cpu():
    from audioflamingo.bench.session import _sections

    assert _sections([], "nano", torch.device("cpu")) == command.SECTIONS
    assert _sections(["all"], "random-8b", torch.device("cuda")) == command.SECTIONS[:-1]
    assert _sections(["turns", "mel", "turns"], "nano", torch.device("cpu")) == ("turns", "mel")
