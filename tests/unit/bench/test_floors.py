"""Floors at the released size are those worked out by hand for the targets: 750 TFLOP/s and 4.27 TB/s."""

import pytest
import torch

from audioflamingo.bench.answering import listen_stage, prompt_tokens
from audioflamingo.bench.card import Rates
from audioflamingo.bench.floors import ModelCost, Stage, Work
from audioflamingo.bench.random_weights import TINY, assembled, random_state
from audioflamingo.config import ModelConfig
from audioflamingo.model import costs

H200 = Rates(
    flops_per_s=750e12,
    fp8_flops_per_s=1500e12,
    copy_bytes_per_s=4.27e12,
    read_bytes_per_s=4.27e12,
    host_bytes_per_s=41e9,
)
CONFIG = ModelConfig()
PARTS = costs.parameters(CONFIG)
TABLE = CONFIG.decoder.vocab_size * CONFIG.decoder.width
FULL = ModelCost(
    config=CONFIG,
    listening_bytes=2 * (PARTS.encoder + PARTS.projector),
    decoder_bytes=2 * (PARTS.decoder_body - TABLE + PARTS.lm_head),
    total_bytes=2 * PARTS.total,
    value_bytes=2,
)


class Whole:
    cost = FULL


def test_a_stage_takes_the_longer_of_arithmetic_and_reading():
    rates = Rates(100.0, 200.0, 10.0, 10.0, 1.0)
    assert Stage(1000, 10).seconds(rates) == 10.0
    assert Stage(100, 50).seconds(rates) == 5.0
    assert Stage(1000, 10, "fp8").seconds(rates) == 5.0
    assert Stage(1000, 10, "fp8").seconds(Rates(100.0, None, 10.0, 10.0, 1.0)) == 10.0


def test_stages_follow_one_another_and_shares_are_of_the_whole():
    rates = Rates(100.0, None, 10.0, 10.0, 1.0)
    work = Work((Stage(1000, 10), Stage(100, 50)))
    assert work.floor_s(rates) == 15.0
    assert work.mfu(22.0, rates) == pytest.approx(1100 / 2200)
    assert work.mbu(22.0, rates) == pytest.approx(60 / 220)


@pytest.mark.parametrize(
    ("durations_s", "floor_ms"),
    [([30.0] * 20, 61), ([3.0] * 64, 17), ([10.0] * 64, 58.5)],
    ids=["20 windows", "64 of 3 s", "64 of 10 s"],
)
def test_the_encoders_floor(durations_s, floor_ms):
    assert 1e3 * listen_stage(Whole, durations_s).seconds(H200) == pytest.approx(floor_ms, rel=0.015)


def test_the_floor_of_first_tokens():
    assert prompt_tokens(600) == 15_040
    clip = Work((listen_stage(Whole, [30.0]), FULL.prefill([prompt_tokens(30)])))
    long = Work((listen_stage(Whole, [600.0]), FULL.prefill([prompt_tokens(600)])))
    assert 1e3 * clip.floor_s(H200) == pytest.approx(17, rel=0.015)
    assert 1e3 * long.floor_s(H200) == pytest.approx(383, rel=0.01)


def test_the_floor_of_decode_steps_is_that_of_the_bytes():
    one, many = FULL.decode(1, 0), FULL.decode(64, 790)
    assert one.num_bytes == costs.decode_step_bytes(CONFIG.decoder, batch=1, num_context_tokens=0)
    assert many.num_bytes == costs.decode_step_bytes(CONFIG.decoder, batch=64, num_context_tokens=790)
    assert 1e3 * one.seconds(H200) == pytest.approx(3.31, abs=0.005)
    assert 1e3 * many.seconds(H200) == pytest.approx(4.0, abs=0.05)


def test_a_second_question_reads_what_is_cached():
    first, second = FULL.prefill([100]), FULL.prefill([100], num_cached_tokens=15_000)
    assert second.num_bytes - first.num_bytes == 15_000 * 57_344
    assert second.flops > first.flops


def test_a_models_bytes_are_those_that_it_holds():
    model = assembled(TINY, random_state(TINY, torch.device("cpu")))
    cost, parts = ModelCost.of(model), costs.parameters(TINY)
    assert cost.value_bytes == 2
    assert cost.total_bytes == 2 * parts.total
    assert cost.listening_bytes == 2 * (parts.encoder + parts.projector)
    assert cost.decode(1, 0).num_bytes == costs.decode_step_bytes(TINY.decoder, batch=1, num_context_tokens=0)


def test_shared_memory_is_counted_once():
    whole = torch.zeros(100)
    parts = [whole[:40], whole[20:60], whole[80:], torch.zeros(8)]
    assert costs.held_bytes(parts) == 4 * (60 + 20 + 8)
    assert costs.held_bytes([]) == 0
