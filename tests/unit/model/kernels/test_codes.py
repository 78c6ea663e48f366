"""Products of some rows with inputs as codes: as near to fp64 as what rounds to bf16 alone, in every plan."""

import os

import pytest
import torch
from test_kernels_against_twins import AROUND, NUM_OUTPUTS, exact, normal, relative_error, stored, surroundings

from audioflamingo.model.kernels import Around, has_triton
from audioflamingo.model.kernels.codes import LARGEST, row_codes, takes_codes
from audioflamingo.model.kernels.linear import few_rows_twin, run_plan
from audioflamingo.model.kernels.plans import plans_for

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
# Triton's interpreter cuts off what it turns into fp8 and bf16, where a GPU rounds.
KINDS = ("int8", "int4") if IS_INTERPRETED else ("int8", "int4", "fp8")
DTYPE = torch.float16 if IS_INTERPRETED else torch.bfloat16
TOLERANCE = 0.01  # of what is rounded to bf16


@pytest.fixture
def like():
    if not has_triton() or not (torch.cuda.is_available() or IS_INTERPRETED):
        pytest.skip("no GPU; with TRITON_INTERPRET=1 in the environment the kernels run in Triton's interpreter")
    with torch.no_grad():
        yield torch.empty(0, dtype=DTYPE, device="cpu" if IS_INTERPRETED else "cuda")


def by_codes(kind, num_rows, is_gated=False):
    found = {plan for size in (NUM_OUTPUTS, 9000) for plan in plans_for(kind, num_rows, size, 1152, is_gated)}
    found = {plan for plan in found if plan.way == "codes"}
    assert len(found) > 2
    return found


@pytest.mark.gpu
@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("num_rows", [2, 5, 17, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_in_every_plan(like, kind, num_rows, name):
    x, weight = normal(like, num_rows, 1152), stored(kind, like, 1152, has_bias=name == "bias")
    around = surroundings(name, like, num_rows, 1152)
    want = exact(x, weight, around)
    allowed = max(TOLERANCE, 1.5 * relative_error(few_rows_twin(x, weight, around), want))
    for plan in by_codes(kind, num_rows, around.is_gated):
        if plan.splits == 1 or name == "nothing":
            assert relative_error(run_plan(x, weight, around, plan), want) <= allowed


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_sums_are_finer_than_bf16(like, kind):
    x, weight = normal(like, 17, 1152), stored(kind, like, 1152, has_bias=False)
    plan = next(plan for plan in by_codes(kind, 17) if plan.splits > 1)
    parts = run_plan(x, weight, Around(leaves_parts=True), plan)
    assert parts.shape == (plan.splits, 17, NUM_OUTPUTS)
    assert relative_error(parts.sum(0), exact(x, weight, Around())) <= 2**-9


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_codes_stand_for_the_inputs(like, kind):
    x = normal(like, 3, 1152)
    x[1, 5], x[2] = 300, 0
    parts, scale = row_codes(x, kind)
    if kind == "int4":
        parts = parts.permute(0, 2, 3, 1).flatten(2)
    first, second = parts.float()
    got = ((256 if kind != "fp8" else 1) * first + second) * scale[:, None]
    step = 1 / LARGEST["int8"] if kind != "fp8" else 2**-9 / LARGEST["fp8"]
    assert bool(((got - x.float()).abs() <= x.float().abs() * 2**-8 + step * x.float().abs().amax(1)[:, None]).all())
    assert not got[2].any()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_beside_one_a_thousand_times_larger_are_kept(like, kind):
    x, weight = normal(like, 2, 1152), stored(kind, like, 1152, has_bias=False)
    x[0, 5] *= 1000
    large = torch.zeros_like(x)
    large[0, 5] = x[0, 5]
    want, of_large = exact(x, weight, Around()), exact(large, weight, Around())
    for plan in by_codes(kind, 2):
        lost = run_plan(x, weight, Around(), plan).double() - want
        # What the inputs are off by, beside what the output's bf16 is rounded by.
        assert lost[0].norm() <= want[0].norm() * 2**-9 + 0.01 * (want - of_large)[0].norm()


@pytest.mark.gpu
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_shows_in_its_own_row_alone(like, kind, bad):
    x, weight = normal(like, 3, 1152), stored(kind, like, 1152, has_bias=False)
    want = exact(x, weight, Around())
    x[1, 700] = bad
    for plan in by_codes(kind, 3):
        got = run_plan(x, weight, Around(), plan)
        assert not got[1].isfinite().any()
        assert relative_error(got[[0, 2]], want[[0, 2]]) <= TOLERANCE


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0.0, 1e-37, 1e30])
def test_nothing_and_extremes(like, kind, size):
    if size and IS_INTERPRETED:
        pytest.skip("beyond fp16")
    x, weight = size * normal(like, 2, 1152), stored(kind, like, 1152, has_bias=False)
    want = exact(x, weight, Around())
    for plan in by_codes(kind, 2):
        assert (run_plan(x, weight, Around(), plan).double() - want).norm() <= 0.01 * want.norm() + 1e-33


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED, reason="the interpreter's tests go this way by themselves")
def test_inputs_in_fp32_and_many_rows_go_another_way(like):
    assert not takes_codes(normal(like, 2, 1152).float(), "int8")
    assert not takes_codes(normal(like, 65, 1152), "int8")
    assert not takes_codes(normal(like, 2, 1000), "int8")
    assert not takes_codes(normal(like, 2, 1152), "plain")
    assert takes_codes(normal(like, 64, 1152), "int8")
