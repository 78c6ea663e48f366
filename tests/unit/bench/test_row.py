"""Rows: units, directions, shares, and that nothing is invented where nothing was measured."""

import pytest

from audioflamingo.bench.card import Rates
from audioflamingo.bench.floors import Stage, Work
from audioflamingo.bench.goals import goal_of
from audioflamingo.bench.row import Row
from audioflamingo.bench.timing import Plan, Spread
from audioflamingo.config import NANO, ModelConfig

RATES = Rates(1000.0, None, 100.0, 100.0, 10.0)
PLAN = Plan(lambda: lambda: 1.0, 1)


def row(**options):
    return Row(**{"key": "k", "section": "s", "work": "w", "unit": "ms", "ours": PLAN, "peer": PLAN} | options)


def test_a_time_is_better_the_shorter_it_is():
    cost = Work((Stage(100, 1),))  # 0.1 s
    record = row(cost=cost).record({"ours": Spread((200.0,), 1), "transformers": Spread((500.0,), 1)}, RATES)
    assert record["floor"] == 100.0
    assert record["ratio"] == 2.5
    assert record["of_floor"] == 2.0
    assert record["mfu"] == 0.5
    assert record["mbu"] == pytest.approx(0.05)


def test_a_rate_is_better_the_higher_it_is():
    cost = Work((Stage(100, 1),))  # 20 s of audio in 0.1 s
    spreads = {"ours": Spread((100.0,), 1), "transformers": Spread((40.0,), 1)}
    record = row(unit="s of audio per s", cost=cost, amount=20.0).record(spreads, RATES)
    assert record["floor"] == 200.0
    assert record["ratio"] == 2.5
    assert record["of_floor"] == 2.0
    assert record["mfu"] == 0.5


def test_a_floor_may_be_given():
    assert row(unit="GB", floor=17.4).record({"ours": Spread((18.0,), 0)}, RATES)["floor"] == 17.4


@pytest.mark.parametrize("missing", [Spread((), 1, "RuntimeError: x"), Spread((1.0,), 1, "RuntimeError: x"), None])
def test_nothing_is_invented(missing):
    spreads = {"transformers": Spread((500.0,), 1)} | ({"ours": missing} if missing else {})
    record = row(cost=Work((Stage(100, 1),))).record(spreads, RATES)
    assert [record[name] for name in ("ours", "ratio", "of_floor", "mfu", "mbu")] == [None] * 5
    assert record["transformers"]["median"] == 500.0


def test_goals_are_those_of_their_own_machine_and_model():
    assert goal_of("decode_one", ModelConfig(), "cuda", None) == 3.6
    assert goal_of("decode_one", ModelConfig(), "cuda", "int4") == 1.4
    assert goal_of("decode_one", ModelConfig(), "cpu", None) is None
    assert goal_of("decode_one", NANO, "cuda", None) is None
    assert goal_of("warm_first_token", NANO, "cpu", None) == 150
