"""Pieces of the embedded model's training: begin, be killed, go on, end, and be opened as a checkpoint."""

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audioflamingo.api import load_model
from audioflamingo.errors import OptionError
from audioflamingo.model.weights import resolve
from audioflamingo.train.nano import TINY
from audioflamingo.train.nano_bench import bench, chosen_speed, random_plan
from audioflamingo.train.nano_check import Checks
from audioflamingo.train.nano_items import PlainTokenizer
from audioflamingo.train.nano_labels import FRAME_NAMES
from audioflamingo.train.nano_piece import Job, Piece
from audioflamingo.train.nano_recipe import all_tasks, from_nothing, shrunk, think
from audioflamingo.train.nano_state import MAX_FILE_BYTES, assemble, load_pieces, save_pieces, start
from audioflamingo.train.nano_trainer import NanoTrainer, Start, decay_share
from audioflamingo.world.voices import EngineMissingError, open_engine

CPU = torch.device("cpu")
SAMPLES = torch.from_numpy((np.random.default_rng(3).standard_normal(700_000) * 3_000).astype(np.int16))
COUNTS = {"one_sound": 1, "counting": 1, "think": 1, "chat": 1, "music_knowledge": 1}


@pytest.fixture(scope="module")
def tokenizer():
    return resolve("nano") / "tokenizer.json"


def trainer_of(tokenizer, recipe=None, **begin):
    recipe = recipe or shrunk(all_tasks(), TINY, 20.0)
    return NanoTrainer(recipe, Start(tokenizer, **begin), CPU, "eager")


def steps(trainer, seeds):
    for seed in seeds:
        plan = random_plan(trainer.recipe.short, 2_048, TINY.audio_token_id, seed)
        torch.manual_seed(seed)  # of the augmentation
        yield {name: float(value) for name, value in trainer.step(SAMPLES, plan).items()}


def weights(trainer):
    return torch.cat([master.flatten() for master in trainer.optimiser.masters])


def test_learns_a_step_by_heart(tokenizer):
    recipe = replace(shrunk(all_tasks(), TINY, 8.0), warm_up_steps=3, augmentation=replace(
        all_tasks().augmentation, time_masks=0, frequency_masks=0))  # fmt: skip
    losses = list(steps(trainer_of(tokenizer, recipe), [0] * 50))
    assert losses[-1]["answer"] < 0.75 * losses[0]["answer"]
    assert losses[-1]["frames"] < losses[0]["frames"]
    assert losses[-1]["clock"] < losses[0]["clock"]


def test_goes_on_bit_for_bit(tokenizer, tmp_path):
    whole = trainer_of(tokenizer)
    expected = list(steps(whole, range(6)))
    first = trainer_of(tokenizer)
    list(steps(first, range(3)))
    torch.save(first.state(), tmp_path / "state.pt")
    second = trainer_of(tokenizer)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert list(steps(second, range(3, 6))) == expected[3:]
    assert torch.equal(weights(second), weights(whole))
    assert all(torch.equal(a, b) for a, b in zip(second.average, whole.average, strict=True))
    assert second.num_steps == 6


def test_a_small_state_keeps_what_bf16_keeps(tokenizer, tmp_path):
    first = trainer_of(tokenizer)
    list(steps(first, range(3)))
    first.spent_s = 12.5
    first.save_small(tmp_path)
    assert all(path.stat().st_size <= 1 << 24 for path in tmp_path.iterdir())
    second = trainer_of(tokenizer)
    second.restore_small(tmp_path)
    torch.testing.assert_close(weights(second), weights(first), atol=1e-3, rtol=1 / 128)
    assert (second.num_steps, second.spent_s, second.fresh_steps) == (3, 12.5, 0)
    assert second.rates()["encoder"] == pytest.approx(second.recipe.encoder_rate / second.recipe.warm_up_steps)
    list(steps(second, [3]))
    assemble(TINY, tmp_path, tokenizer, tmp_path / "whole")
    model = load_model(tmp_path / "whole" / "checkpoint", device="cpu").model
    stored = dict(zip(first.names, first.optimiser.masters, strict=True))
    torch.testing.assert_close(
        model.decoder.norm.weight.float(), stored["model.decoder.norm.weight"], atol=1e-3, rtol=1 / 128
    )


def test_pieces_stay_below_the_limit(tmp_path):
    tensors = {str(i): torch.full((1_000_000 + i,), float(i)) for i in range(12)}
    save_pieces("weights", tensors, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert all(path.stat().st_size <= MAX_FILE_BYTES for path in files)
    found = load_pieces("weights", tmp_path)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_a_warm_start_keeps_rows_of_known_tokens(tokenizer, tmp_path):
    """Under a tokenizer with two tokens swapped and one renamed, rows move along, and the new one is a mean."""
    told = json.loads(tokenizer.read_text())
    vocab = told["model"]["vocab"]
    names = {index: token for token, index in vocab.items()}
    vocab[names[300]], vocab[names[301]] = 301, 300
    (tmp_path / "tokenizer.json").write_text(json.dumps(told))
    model, _ = start(all_tasks().model, resolve("nano"), None, tmp_path / "tokenizer.json", 0)
    old, _ = start(all_tasks().model, resolve("nano"), None, tokenizer, 0)
    for mine, theirs in (
        (model.decoder.embed_tokens.weight, old.decoder.embed_tokens.weight),
        (model.decoder.lm_head.weight, old.decoder.lm_head.weight),
    ):
        assert torch.equal(mine[300], theirs[301])
        assert torch.equal(mine[301], theirs[300])
        assert torch.equal(mine[:300], theirs[:300])


def test_heads_of_an_older_version_are_found_again(tokenizer):
    stored = resolve("nano").parent / "nano_training" / "heads.safetensors"
    if not stored.is_file():
        pytest.skip("only a checkout has the heads")
    _, heads = start(all_tasks().model, resolve("nano"), stored, tokenizer, 0)
    assert heads.ctc.weight.abs().sum() > 0
    num_stored = len(load_file(stored)["events.weight"])
    assert 190 <= num_stored <= len(FRAME_NAMES)
    assert heads.events.weight[:num_stored].any(1).all()
    assert not heads.events.weight[num_stored:].any()


def test_rates_rise_stay_and_fall():
    assert decay_share(100.0, 50.0, 0.01) == 1.0
    assert decay_share(25.0, 50.0, 0.0) == pytest.approx(0.5)
    assert decay_share(0.0, 50.0, 0.01) == pytest.approx(0.01)
    assert decay_share(5.0, 0.0, 0.01) == 1.0
    recipe = from_nothing()
    assert recipe.phase(0.0).decoder_rate == 0.0
    assert not recipe.phase(100.0).mode.encoder_listens
    assert recipe.phase(1e9).mode.encoder_listens


def test_an_adapter_moves_nothing_else_and_opens(tokenizer, tmp_path):
    base = trainer_of(tokenizer)
    list(steps(base, range(2)))
    base.export(tmp_path)
    recipe = shrunk(think(), TINY, 20.0)
    assert recipe.adapter is not None
    recipe = replace(recipe, adapter=replace(recipe.adapter, rank=2))
    trainer = trainer_of(tokenizer, recipe, init=tmp_path / "checkpoint")
    frozen = {n: p.clone() for n, p in trainer.model.named_parameters() if not p.requires_grad}
    assert all("lora" in name for name in trainer.names)
    list(steps(trainer, range(3)))
    assert all(torch.equal(p, frozen[n]) for n, p in trainer.model.named_parameters() if n in frozen)
    trainer.export(tmp_path)
    model = load_model(tmp_path / "checkpoint", thinking=tmp_path / "think", device="cpu")
    reply = model.ask(np.zeros(16_000, np.float32), "What is it?", sample_rate_hz=16_000, think=True, max_new_tokens=4)
    assert reply.usage.num_new_tokens if hasattr(reply.usage, "num_new_tokens") else True


def test_bench_writes_what_training_reads(tmp_path):
    results = bench(shrunk(all_tasks(), TINY, 10.0), CPU, tmp_path)
    assert results["best"] == "eager"
    assert math.isfinite(results["eager"]["short_ms"])
    assert chosen_speed("auto", tmp_path, CPU) == "eager"
    assert chosen_speed("graphs", tmp_path, CPU) == "graphs"


@pytest.fixture(scope="module")
def engines():
    try:
        for name in ("espeak-ng", "flite"):
            open_engine(name)
    except EngineMissingError as error:
        pytest.skip(str(error))


def test_checks_give_a_figure_for_each_kind(tokenizer, tmp_path, engines):
    checks = Checks(tmp_path / "checks.npz", PlainTokenizer(tokenizer), CPU, 2_048, counts=COUNTS, longest_s=45.0)
    trainer = trainer_of(tokenizer)
    figures = checks.run(trainer.model, trainer.heads)
    assert {f"val {name}" for name in COUNTS} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert figures == checks.run(trainer.model, trainer.heads)
    with pytest.raises(OptionError, match="items and 1 are asked for: take the options that it was made with"):
        Checks(tmp_path / "checks.npz", PlainTokenizer(tokenizer), CPU, 2_048, counts={"counting": 1}, longest_s=45.0)


def test_a_piece_from_rendering_to_a_checkpoint_that_answers(tokenizer, tmp_path, engines):
    """Two pieces, the second of which goes on from the first; then the checkpoint is opened and asked."""
    recipe = shrunk(all_tasks(), TINY, 30.0)
    job = Job(
        tmp_path / "work", tmp_path / "out", Start(tokenizer), None, piece_s=60.0, decay_s=10.0, num_workers=1,
        pool_hours=0.5, first_hours=0.01, num_steps=2, longest_s=45.0, check_counts={"one_sound": 1, "counting": 1},
        items_per_shard=8, profiled_step=2,
    )  # fmt: skip
    Piece(recipe, job, CPU, "auto").run()
    second = Piece(recipe, job, CPU, "auto").run()
    assert second.num_steps == 4
    lines = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "answer" in line]
    assert "aten::mm" in (job.out / "profile.txt").read_text()
    model = load_model(job.out / "checkpoint", device="cpu")
    reply = model.ask(np.zeros(16_000, np.float32), "What is it?", sample_rate_hz=16_000, max_new_tokens=4)
    assert isinstance(reply.text, str)
    assert {path.name for path in (job.out / "small").iterdir()} == {"weights-1.safetensors", "progress.json"}


def test_a_state_with_fewer_frame_names_is_gone_on_from(tokenizer, tmp_path):
    first = trainer_of(tokenizer)
    first.save_small(tmp_path)
    weights = load_pieces("weights", tmp_path)
    weights["heads.events.weight"] = weights["heads.events.weight"][:70] + 1.0
    weights["heads.events.bias"] = weights["heads.events.bias"][:70]
    for path in tmp_path.glob("weights-*"):
        path.unlink()
    save_pieces("weights", weights, tmp_path)
    again = trainer_of(tokenizer)
    again.restore_small(tmp_path)
    assert (again.heads.events.weight[:70] == 1.0).all()
    assert not again.heads.events.weight[70:].any()


def test_a_gpu_that_fails_is_told_last_and_with_what_to_do(tmp_path):
    """The trainer itself, but for its piece, which fails as torch tells of a failed kernel."""
    program = (
        "import sys, torch; from audioflamingo.train import nano\n"
        "def fails(options): raise torch.AcceleratorError('device-side assert triggered')\n"
        f"nano._run = fails; sys.argv[1:] = ['--work', {str(tmp_path)!r}]; nano.main()"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "device-side assert triggered" in ended.stderr
    assert f"goes on from the last state in {tmp_path}" in ended.stderr.splitlines()[-1]
