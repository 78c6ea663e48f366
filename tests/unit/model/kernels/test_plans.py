import pytest

from audioflamingo.model.kernels import paged_attention
from audioflamingo.model.kernels.plans import HOPPER, MAX_ROWS, known_plan, plans_for

GATE_AND_UP = 37_888
HOPPER_SHARED_BYTES = 227 << 10


@pytest.mark.parametrize(("kind", "rows", "outputs", "inputs"), HOPPER, ids=str)
def test_known_plans_are_candidates_and_so_are_taken(kind, rows, outputs, inputs):
    assert HOPPER[kind, rows, outputs, inputs] in plans_for(kind, rows, outputs, inputs, outputs == GATE_AND_UP)


@pytest.mark.parametrize("rows", range(1, MAX_ROWS + 1))
def test_no_number_of_rows_of_the_full_size_needs_a_trial(rows):
    for kind, outputs, inputs in {(kind, outputs, inputs) for kind, _, outputs, inputs in HOPPER}:
        plan = known_plan(kind, rows, outputs, inputs)
        if plan is None:
            assert (kind, outputs) == ("fp8", 151_672)  # whose head is kept in bf16
        else:
            assert plan in plans_for(kind, rows, outputs, inputs, outputs == GATE_AND_UP)


@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("outputs", [3584, GATE_AND_UP])
@pytest.mark.parametrize("rows", [1, 8, 16])
@pytest.mark.parametrize("kind", ["int4", "int8", "fp8"])
def test_plans_by_places_give_every_warp_a_slice_and_fit(kind, rows, outputs, is_gated):
    plans = [plan for plan in plans_for(kind, rows, outputs, 3584, is_gated) if plan.way == "places"]
    assert 2 <= len(plans) <= 3
    for plan in plans:
        fours_of_warp = plan.block_k // plan.warps // 4
        assert fours_of_warp == 32 if kind == "int4" else fours_of_warp >= 16  # a group; what a product takes at least
        weights = plan.block_n * (2 if is_gated else 1) // (2 if kind == "int4" else 1)
        inputs = 8 if rows == 1 else 2 * rows  # in two bytes; one row's as those of four places
        assert (plan.stages - 1) * plan.block_k * (weights + inputs) < HOPPER_SHARED_BYTES


def test_known_attention_plans_are_candidates():
    assert set(paged_attention.HOPPER.values()) <= set(paged_attention.PLANS)


@pytest.mark.parametrize(("sequences", "like"), [(1, 1), (2, 8), (8, 8), (9, 64), (64, 64), (65, 64), (300, 64)])
def test_every_number_of_sequences_has_a_plan_for_attention(sequences, like):
    assert paged_attention.known_plan(sequences) == paged_attention.HOPPER[like]
