"""What is left out of the curriculum is out, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from audioflamingo.model.weights import resolve
from audioflamingo.train.nano import TINY
from audioflamingo.train.nano_ablation import LEFT_OUT, shortened, without
from audioflamingo.train.nano_bench import random_plan
from audioflamingo.train.nano_recipe import from_nothing, shrunk
from audioflamingo.train.nano_trainer import NanoTrainer, Start

SAMPLES = torch.from_numpy((np.random.default_rng(3).standard_normal(700_000) * 3_000).astype(np.int16))
RECIPE = shrunk(shortened(from_nothing(), 0.2), TINY, 8.0)


def groups_that_move(recipe, spent_s):
    """Which parts of the model change in a step at a time."""
    trainer = NanoTrainer(replace(recipe, warm_up_steps=1), Start(resolve("nano") / "tokenizer.json"),
                          torch.device("cpu"), "eager")  # fmt: skip
    trainer.spent_s = spent_s
    before = [master.clone() for master in trainer.optimiser.masters]
    torch.manual_seed(0)
    losses = trainer.step(SAMPLES, random_plan(recipe.short, 2_048, TINY.audio_token_id, 0))
    # Vectors alone: matrices shrink a little even where no loss reaches them.
    pairs = zip(trainer.names, before, trainer.optimiser.masters, strict=True)
    moved = {name.split(".")[1] for name, old, new in pairs if old.dim() == 1 and not torch.equal(old, new)}
    return moved, {name: float(value) for name, value in losses.items()}


def test_phases_come_earlier_in_a_short_run():
    assert [phase.from_s for phase in shortened(from_nothing(), 0.2).phases] == pytest.approx([0.0, 16.0, 24.0])
    assert shortened(from_nothing(), 0.2).ramp_s == pytest.approx(18.0)


def test_the_whole_curriculum_moves_what_its_stages_say():
    alone, _ = groups_that_move(RECIPE, 0.0)
    assert "encoder" in alone
    assert not alone & {"decoder", "projector"}
    everything, losses = groups_that_move(RECIPE, 100.0)
    assert {"encoder", "decoder", "projector", "ctc", "events", "clock"} <= everything
    assert losses["total"] > losses["answer"]


@pytest.mark.parametrize(("name", "spent_s", "moves", "stays"), [
    ("encoder_alone", 0.0, {"decoder", "projector"}, set()),
    ("adaptor_stage", 30.0, {"encoder", "decoder"}, set()),
    ("characters", 100.0, {"encoder", "decoder", "events"}, {"ctc"}),
    ("frames", 100.0, {"encoder", "decoder", "ctc"}, {"events"}),
    ("clock", 100.0, {"encoder", "decoder", "ctc"}, {"clock"}),
    ("teachers", 0.0, {"encoder", "decoder"}, {"ctc", "events", "clock"}),
])  # fmt: skip
def test_what_moves_without(name, spent_s, moves, stays):
    moved, losses = groups_that_move(without(RECIPE, name), spent_s)
    assert moves <= moved
    assert not moved & stays
    assert np.isfinite(losses["total"])


def test_answers_reach_the_encoder_in_the_last_phase_alone():
    """What the answers change in the encoder's gradient: with listening something, without nothing."""

    def first_layer(recipe, answer):
        phases = tuple(replace(p, mode=replace(p.mode, weights=replace(p.mode.weights, answer=answer)))
                       for p in recipe.phases)  # fmt: skip
        trainer = NanoTrainer(replace(recipe, phases=phases), Start(resolve("nano") / "tokenizer.json"),
                              torch.device("cpu"), "eager")  # fmt: skip
        plan = random_plan(recipe.short, 2_048, TINY.audio_token_id, 0)
        torch.manual_seed(0)
        trainer.runner(trainer.mel(SAMPLES, plan), plan, trainer.recipe.phase(100.0).mode)
        return trainer.model.encoder.conv1.weight.grad.clone()

    apart = {name: (first_layer(recipe, 1.0) - first_layer(recipe, 0.5)).norm().item()
             for name, recipe in {"all": RECIPE, "listening": without(RECIPE, "listening")}.items()}  # fmt: skip
    assert apart["all"] > 100 * max(apart["listening"], 1e-9)


def test_long_sounds_and_several_clips_are_left_out_of_the_drawing():
    assert without(RECIPE, "long").long_share == 0.0
    assert without(RECIPE, "several_clips").one_clip
    assert set(LEFT_OUT) >= {"long", "several_clips"}
