import pytest

from audioflamingo.model.kernels.paged_attention import HOPPER as HOPPER_ATTENTION
from audioflamingo.model.kernels.paged_attention import PLANS
from audioflamingo.model.kernels.plans import HOPPER, plans_for

GATE_AND_UP = 37_888


@pytest.mark.parametrize(("kind", "rows", "outputs", "inputs"), HOPPER, ids=str)
def test_known_plans_are_candidates_and_so_are_taken(kind, rows, outputs, inputs):
    assert HOPPER[kind, rows, outputs, inputs] in plans_for(kind, rows, outputs, inputs, outputs == GATE_AND_UP)


def test_known_attention_plans_are_candidates():
    assert set(HOPPER_ATTENTION.values()) <= set(PLANS)
