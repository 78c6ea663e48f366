"""Figures by turns: order, budgets, and errors that stay with their own plan."""

import itertools

import pytest

from audioflamingo.bench.timeline import Timeline
from audioflamingo.bench.timing import Clock, Plan, Spread, alternate, significant


def numbered(calls, name, figures):
    figures = iter(figures)

    def sample():
        calls.append(name)
        return next(figures)

    return lambda: sample


def test_plans_take_turns_and_warm_ups_are_not_counted():
    calls = []
    plans = {
        "ours": Plan(numbered(calls, "ours", itertools.count(1.0)), num_runs=3, num_warmups=1),
        "peer": Plan(numbered(calls, "peer", itertools.count(10.0)), num_runs=1, num_warmups=1),
    }
    found = alternate(plans, Clock(), row_budget_s=60)
    assert calls == ["ours", "peer", "ours", "peer", "ours", "ours"]
    assert found["ours"].as_dict() == {"median": 3.0, "min": 2.0, "max": 4.0, "n": 3, "warmups": 1}
    assert found["peer"].figures == (11.0,)


def test_a_row_that_takes_too_long_gets_one_figure():
    calls = []
    plans = {"ours": Plan(numbered(calls, "ours", itertools.count(1.0)), num_runs=50)}
    found = alternate(plans, Clock(), row_budget_s=0)
    assert len(calls) == 2
    assert found["ours"].as_dict()["n"] == 1


def test_nothing_begins_after_the_end_of_the_whole():
    calls = []
    found = alternate({"ours": Plan(numbered(calls, "ours", [1.0]), 3)}, Clock(0), row_budget_s=60)
    assert calls == []
    assert found["ours"].as_dict() is None
    assert "budget" in found["ours"].error


def test_an_error_is_told_and_leaves_the_other_alone():
    def broken():
        raise RuntimeError("no\nkernel")

    plans = {"ours": Plan(lambda: broken, 3), "peer": Plan(lambda: lambda: 2.0, 2)}
    found = alternate(plans, Clock(), row_budget_s=60)
    assert found["ours"] == Spread((), 1, "RuntimeError: no kernel")
    assert found["ours"].as_dict() is None
    assert found["peer"].figures == (2.0, 2.0)


def test_an_error_after_some_figures_leaves_no_figure():
    calls = iter([1.0, 1.0])
    found = alternate({"ours": Plan(lambda: lambda: next(calls), 5)}, Clock(), row_budget_s=60)
    assert found["ours"].error == "StopIteration: "
    assert found["ours"].as_dict() is None


@pytest.mark.parametrize("figure", [0.0, -1.0, float("nan"), float("inf")])
def test_a_figure_that_cannot_be_is_an_error(figure):
    found = alternate({"ours": Plan(lambda: lambda: figure, 1)}, Clock(), row_budget_s=60)
    assert "cannot be" in found["ours"].error


def test_a_step_is_measured_where_all_sequences_run():
    timeline = Timeline(((0.0, 1.0, 3.0, 5.0), (1.0, 3.0, 5.0, 7.0)), ((1, 2, 3, 4), (1, 2, 3, 4)))
    assert timeline.step_s == pytest.approx(2.0)  # from 1.0 to 5.0: two tokens of each


def test_sequences_that_never_met_have_no_step():
    with pytest.raises(ValueError, match="never ran all together"):
        _ = Timeline(((0.0, 1.0), (2.0, 3.0)), ((1, 2), (1, 2))).step_s


def test_figures_are_rounded_to_significant_digits():
    assert significant(123_456.0) == 123_500.0
    assert significant(0.000123456) == 0.0001235
