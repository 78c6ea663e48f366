import dataclasses

import pytest
import torch
from tiny_training import maker, tiny_model, write_rows

from audioflamingo.errors import OptionError
from audioflamingo.train.captioner import CaptionerConfig
from audioflamingo.train.data import Schedule, load_corpus, parse_mixture
from audioflamingo.train.distributed import Processes
from audioflamingo.train.feed import Feed
from audioflamingo.train.lora import DECODER_LINEARS
from audioflamingo.train.parts import prepare, trained
from audioflamingo.train.stages import PAPER, SCRIPTS, STAGES, Stage, nano
from audioflamingo.train.trainer import Trainer
from audioflamingo.train.updates import Updates, rate_at

CPU = Processes(torch.device("cpu"))


def small(name, **changes):
    stage = nano(STAGES[name]("paper"))
    changes = {"batch_s": 16.0, "epochs": 12, "rate": 1e-2, "max_tokens": 8_192, **changes}
    if stage.captioner:
        changes["captioner"] = CaptionerConfig(width=32, num_layers=1, num_heads=2)
    return dataclasses.replace(stage, **changes)


def run(stage, model, base, rows):
    corpus = load_corpus(parse_mixture(str(rows)), maker(base))
    sizes = tuple(sample.size.num_tokens for sample in corpus.samples)
    schedule = Schedule(sizes, stage.batch_s, stage.micro_s, stage.epochs, stage.seed)
    loss = prepare(model, stage)
    feed = Feed(corpus, maker(base), schedule)
    trainer = Trainer(
        loss=loss, stage=stage, updates=Updates(trained(loss), stage), feed=feed, processes=CPU, saving=None,
        identity="", filler_id=0,
    )  # fmt: skip
    losses = []
    trainer.run(lambda progress: losses.append(progress.loss))
    feed.close()
    return losses, trainer


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows"), 8)


def changed(before, model):
    """Top-level parts of the model with parameters that changed, adapters apart."""
    now = {name.replace(".base.", "."): tensor for name, tensor in model.state_dict().items()}
    return {name for name, tensor in before.items() if not torch.equal(tensor, now[name])}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("stage_1", {"projector"}),
        ("stage_2", {"encoder", "projector"}),
        ("stage_3", {"encoder", "projector", "decoder"}),
        ("stage_3_5", set()),
        ("stage_4", {"encoder", "projector", "decoder"}),
        ("lora", set()),
        ("full", {"encoder", "projector", "decoder"}),
        ("af_whisper", {"encoder"}),
    ],
)
def test_each_stage_learns_and_changes_exactly_its_parts(name, parts, base, rows):
    model = tiny_model()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    losses, trainer = run(small(name), model, base, rows)
    # Behind a frozen decoder of random weights there is little that a projector can do.
    most = 0.9 if "decoder" in parts or not parts or name == "af_whisper" else 0.97
    assert sum(losses[-3:]) < most * sum(losses[:3]), losses
    expected = {key for key in before if key.partition(".")[0] in parts} - {"encoder.embed_positions.weight"}
    found = changed(before, model)
    assert {key.partition(".")[0] for key in found} == parts
    assert found <= expected
    # A key's bias shifts all scores of a query alike, and attention does not see that.
    assert {key for key in expected - found if not key.endswith("k_proj.bias")} == set()
    adapters = {key for key in trainer.updates.parameters if "lora" in key}
    num_layers = model.config.decoder.num_layers
    assert len(adapters) == (2 * len(DECODER_LINEARS) * num_layers if name in ("lora", "stage_3_5") else 0)


def test_the_published_values_are_recorded_and_used():
    for name, make in STAGES.items():
        stage = make("paper")
        if name in PAPER:
            assert stage.published["paper"] == PAPER[name]
            assert (stage.rate, stage.epochs, stage.max_windows) == (
                PAPER[name].rate, PAPER[name].epochs, PAPER[name].max_windows,
            )  # fmt: skip
        if name in SCRIPTS:
            assert STAGES[name]("scripts").rate == SCRIPTS[name].rate
        assert (stage.warmup, stage.clip) == (0.03, 1.0)
        assert stage.micro_s >= stage.max_tokens / 25
    assert PAPER["stage_1"].batch_per_gpu * PAPER["stage_1"].num_gpus == 8_192
    lora = STAGES["stage_3_5"]("paper").lora
    assert (lora.rank, lora.alpha, lora.dropout) == (64, 16, 0.05)
    with pytest.raises(OptionError, match="no scripts values"):
        STAGES["af_whisper"]("scripts")


@pytest.mark.parametrize(
    "values",
    [{"trains": ()}, {"rate": 0.0}, {"trains": ("lora",)}, {"trains": ("captioner", "encoder")}, {"epochs": 0}],
)
def test_stages_that_make_no_sense_are_refused(values):
    with pytest.raises(OptionError):
        Stage(**{"name": "x", "trains": ("projector",), "rate": 1e-3, "batch_s": 10.0, **values})


def test_rates_rise_then_fall_to_zero():
    stage = STAGES["stage_1"]("paper")
    rates = [rate_at(stage, step, 200) for step in range(200)]
    assert max(rates) == stage.rate
    assert rates.index(stage.rate) == 5
    assert rates[:6] == sorted(rates[:6])
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[-1] < 0.001 * stage.rate


def test_bf16_training_keeps_small_changes_in_fp32_masters(base, rows):
    model = tiny_model().bfloat16()
    stage = small("stage_1", precision="bfloat16", rate=1e-5, epochs=2)
    before = model.projector.linear_1.weight.float().clone()
    _, trainer = run(stage, model, base, rows)
    master = trainer.updates.masters["projector.linear_1.weight"]
    assert master.dtype == torch.float32
    assert torch.equal(model.projector.linear_1.weight, master.bfloat16())
    moved = (master - before).abs()
    assert 0 < moved.max() < 1e-4


def test_gradients_are_weighted_by_tokens_not_by_packs(base, rows):
    whole, split = tiny_model(), tiny_model()
    stage = dataclasses.replace(small("stage_3"), epochs=1, batch_s=1_000.0, micro_s=1_000.0)
    losses, one = run(stage, whole, base, rows)
    split_losses, many = run(dataclasses.replace(stage, micro_s=4.0), split, base, rows)
    assert len(many.feed.schedule.step(0)) > 2
    assert len(losses) == len(split_losses) == 1
    assert losses == pytest.approx(split_losses, rel=1e-5)
    for name, moment in one.updates.tensors().items():
        if name.startswith("exp_avg/"):
            torch.testing.assert_close(moment, many.updates.tensors()[name], rtol=1e-3, atol=1e-6, msg=name)
