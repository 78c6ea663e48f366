"""Every kernel against its twin in torch, on fresh inputs of awkward sizes."""

import os
from dataclasses import replace

import pytest
import torch

from audioflamingo.model.kernels import (
    Around,
    Heads,
    Pages,
    SharedPages,
    Slots,
    Weight,
    add_layer_norm,
    add_rms_norm,
    advance_greedily,
    attend_chunk,
    attend_paged,
    few_rows,
    half_tables,
    kernel_switches,
    rms_norm,
    rotate_in_place,
    swiglu,
)
from audioflamingo.model.kernels.chunk_attention import ChunkPlan
from audioflamingo.model.kernels.digits import digits_run
from audioflamingo.model.kernels.eight_bits import EightBits, write_at
from audioflamingo.model.kernels.linear import few_rows_twin, run_plan
from audioflamingo.model.kernels.paged_attention import PLANS, AttentionPlan, num_splits
from audioflamingo.model.kernels.paged_attention import run_plan as run_attention
from audioflamingo.model.kernels.plans import Plan, plans_for
from audioflamingo.model.quantize.schemes import quantize_fp8, quantize_int4, quantize_int8

IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
QUANTIZE = {"int8": quantize_int8, "int4": quantize_int4, "fp8": quantize_fp8}
WIDTH = 384

# The way "words" multiplies an fp32 input by 1 + q / STEP, takes the ones off the sum of every four, and multiplies by
# STEP: sums are rounded as if weights were as large as STEP. Rounding s adds up to 2^-24 |s|, in the mean square
# 2^-24 |s| / sqrt(3) at most. What is rounded of four inputs, squared and in units of an input's square: products, 4;
# three sums of them, 2 + 3 + 4; the same sums of what is taken off, 9; these times a factor, 4. That is 26, or 6.5 an
# input. In four bits odd inputs have a STEP of 2048, beside which the others' 128 does not count, and one more sum
# joins what is taken off of both, 4: 30 for four odd inputs, or 3.75 an input.
# What is taken off is the same for all outputs: half of an error is one draw of luck, whatever the number of outputs.
# So one product may be off by some times the mean; the mean over many products may not.
WORD_STEPS = {"int8": (2**15, 6.5), "int4": (2**11, 3.75)}
WORD_LUCK = 4
NUM_OUTPUTS = 80
AROUND = ("nothing", "bias", "norm", "gated", "residual", "norm and gate")


def normal(like, *shape):
    return torch.randn(shape, device=like.device).to(like.dtype)


def tolerance(like):
    """Relative error."""
    return {torch.float32: 2e-6, torch.float16: 2e-3}.get(like.dtype, 1e-2)


def relative_error(got, want):
    return float((got.double() - want.double()).norm() / want.double().norm())


def assert_near(got, want, like):
    assert relative_error(got, want) <= tolerance(like)


@pytest.mark.parametrize("num_parts", [None, 1, 4])
def test_rms_norm_with_addition(like, num_parts):
    x, weight = normal(like, 3, 96), normal(like, 96)
    delta = None if num_parts is None else normal(like, 3, 96)
    if num_parts == 4:
        delta = torch.randn(4, 3, 96, device=like.device)
    with kernel_switches(kernels=False):
        want = add_rms_norm(x, delta, weight, 1e-6)
    got = add_rms_norm(x, delta, weight, 1e-6)
    assert_near(got[0], want[0], like)
    assert_near(got[1], want[1], like)


def test_layer_norm_with_addition(like):
    x, delta, weight, bias = normal(like, 3, 200), normal(like, 3, 200), normal(like, 200), normal(like, 200)
    with kernel_switches(kernels=False):
        want = add_layer_norm(x, delta, weight, bias, 1e-5)
    got = add_layer_norm(x, delta, weight, bias, 1e-5)
    assert_near(got[0], want[0], like)
    assert_near(got[1], want[1], like)


def test_swiglu(like):
    gate_up = normal(like, 3, 2 * 1500)
    with kernel_switches(kernels=False):
        want = swiglu(gate_up)
    assert_near(swiglu(gate_up), want, like)


def paged_case(like, heads):
    lengths = torch.tensor([1, 33, 64, 65, 200, 130], dtype=torch.int32, device=like.device)
    tables = (1 + torch.randperm(48)).view(6, 8).int().to(like.device)
    qkv = normal(like, 6, heads.row_width)
    cache = normal(like, 2, 49 * 32, heads.num_kv_heads, heads.head_dim)
    cache[:, :32] = torch.nan  # the scratch block's content must not matter
    return lengths, tables, qkv, cache


@pytest.mark.parametrize("heads", [Heads(7, 1, 32), Heads(4, 2, 64), Heads(28, 4, 128)], ids=str)
@pytest.mark.parametrize("plan", [*PLANS, AttentionPlan(32, 3, 4, splits=1), AttentionPlan(16, 1, 4, 32)], ids=str)
def test_paged_attention_of_any_lengths(like, heads, plan):
    lengths, tables, qkv, cache = paged_case(like, heads)
    rotary = half_tables(256, heads.head_dim, 1e4, qkv)
    pages = Pages(32, tables, lengths, 256)
    twin_cache = cache.clone().nan_to_num_()
    with kernel_switches(kernels=False):
        want = attend_paged(qkv.clone(), rotary, *twin_cache, heads, pages)
    for _ in range(2):  # the count of arrived splits must be back where it was
        got = run_attention(qkv, rotary, (cache[0], cache[1]), heads, pages, plan=plan)
        assert_near(got, want, like)
    assert_near(cache[:, 32:], twin_cache[:, 32:], like)


def eight_bits_case(like, num_slots, heads):
    """Codes of keys and values, and what they are multiplied by."""
    shape = (2, num_slots, heads.num_kv_heads)
    codes = torch.randint(-127, 128, (*shape, heads.head_dim), device=like.device).to(torch.int8)
    scales = torch.rand(shape, device=like.device) / 100
    reach = 0.3 + 3 * torch.rand(heads.num_kv_heads, heads.head_dim, device=like.device)
    return codes, EightBits(scales[0], scales[1], reach)


@pytest.mark.parametrize("heads", [Heads(7, 1, 32), Heads(28, 4, 128)], ids=str)
@pytest.mark.parametrize("plan", [PLANS[0], AttentionPlan(32, 3, 4, splits=1), AttentionPlan(16, 1, 4, 32)], ids=str)
def test_paged_attention_in_eight_bits(like, heads, plan):
    lengths, tables, qkv, _ = paged_case(like, heads)
    codes, own = eight_bits_case(like, 49 * 32, heads)
    twin_codes, twin = codes.clone(), EightBits(own.key_scales.clone(), own.value_scales.clone(), own.reach)
    own.key_scales[:32] = own.value_scales[:32] = torch.nan  # the scratch block's content must not matter
    rotary, pages = half_tables(256, heads.head_dim, 1e4, qkv), Pages(32, tables, lengths, 256)
    with kernel_switches(kernels=False):
        want = attend_paged(qkv.clone(), rotary, *twin_codes, heads, pages, eight_bits=twin)
    for _ in range(2):
        got = run_attention(qkv, rotary, (codes[0], codes[1]), heads, pages, plan=plan, eight_bits=own)
        error = (got.double() - want.double()).norm() / want.double().norm()
        assert error <= (1e-5 if like.dtype == torch.float32 else 5e-3), float(error)
    # Where a value lies between two codes the last bit of fp32 may decide otherwise.
    different = (codes[:, 32:].int() - twin_codes[:, 32:].int()).abs()
    assert different.max() <= 1
    assert different.count_nonzero() <= (0 if like.dtype == torch.float32 else 0.01 * 12 * codes[0, 0].numel())
    assert_near(own.key_scales[32:], twin.key_scales[32:], like)
    assert_near(own.value_scales[32:], twin.value_scales[32:], like)


@pytest.mark.parametrize("heads", [Heads(7, 1, 32), Heads(28, 4, 128)], ids=str)
def test_the_store_in_eight_bits(like, heads):
    _, keys, values = heads.split(normal(like, 5, heads.row_width))
    codes, own = eight_bits_case(like, 40, heads)
    twin_codes, twin = codes.clone(), EightBits(own.key_scales.clone(), own.value_scales.clone(), own.reach)
    slots = torch.tensor([4, 0, 39, 2, 7], device=like.device)
    with kernel_switches(kernels=False):
        want = write_at(slots, (keys, values), (twin_codes[0], twin_codes[1]), twin)
    got = write_at(slots, (keys, values), (codes[0], codes[1]), own)
    for seen, wanted in zip(got, want, strict=True):
        assert (seen - wanted).norm() <= 1e-3 * wanted.norm()
    assert (codes.int() - twin_codes.int()).abs().max() <= 1
    assert (codes != twin_codes).float().mean() < 1e-3
    assert_near(own.key_scales, twin.key_scales, like)
    assert_near(own.value_scales, twin.value_scales, like)


@pytest.mark.parametrize("heads", [Heads(7, 1, 32), Heads(28, 4, 128)], ids=str)
@pytest.mark.parametrize("end", [12, 250])
def test_attention_of_a_chunk_in_eight_bits(like, heads, end):
    lengths = torch.tensor([*range(end - 10, end + 1), 1, 1], device=like.device)
    table = (1 + torch.randperm(20)[:8]).int().to(like.device)
    query = heads.split(normal(like, 13, heads.row_width))[0]
    codes, own = eight_bits_case(like, 21 * 32, heads)
    with kernel_switches(kernels=False):
        want = attend_chunk(query, *codes, SharedPages(32, table, lengths), eight_bits=own)
    got = attend_chunk(query, *codes, SharedPages(32, table, lengths), eight_bits=own)
    error = (got.double() - want.double()).norm() / want.double().norm()
    assert error <= (1e-5 if like.dtype == torch.float32 else 5e-3), float(error)


def test_paged_attention_over_a_cache_whose_heads_lie_apart(like):
    heads = Heads(4, 2, 32)
    lengths, tables, qkv, cache = paged_case(like, heads)
    apart = cache.transpose(1, 2).contiguous().transpose(1, 2)
    pages = Pages(32, tables, lengths, 256)
    rotary = half_tables(256, 32, 1e4, qkv)
    assert torch.equal(
        attend_paged(qkv.clone(), rotary, *apart, heads, pages), attend_paged(qkv, rotary, *cache, heads, pages)
    )
    assert torch.equal(apart[:, 32:], cache[:, 32:])


@pytest.mark.parametrize("heads", [Heads(7, 1, 32), Heads(4, 2, 64), Heads(28, 4, 128)], ids=str)
@pytest.mark.parametrize("plan", [ChunkPlan(), ChunkPlan(16, 32, 1, 4), ChunkPlan(128, 64, 3, 8)], ids=str)
@pytest.mark.parametrize("end", [12, 70, 250])
def test_attention_of_a_chunk_behind_its_past(like, heads, plan, end):
    num_tokens, num_padded = 11, 3
    lengths = torch.tensor([*range(end - num_tokens + 1, end + 1), *[1] * num_padded], device=like.device)
    table = torch.cat([1 + torch.randperm(20)[:8], torch.zeros(4, dtype=torch.int64)]).int().to(like.device)
    qkv = normal(like, num_tokens + num_padded, heads.row_width)
    query = heads.split(qkv)[0]
    cache = normal(like, 2, 21 * 32, heads.num_kv_heads, heads.head_dim)
    twin_cache = cache.clone()
    cache[:, :32] = torch.nan  # the scratch block's content must not matter
    with kernel_switches(kernels=False):
        want = attend_chunk(query, *twin_cache, SharedPages(32, table, lengths))
    got = attend_chunk(query, *cache, SharedPages(32, table, lengths), plan)
    assert_near(got, want, like)


@pytest.mark.parametrize("heads", [Heads(7, 1, 32), Heads(28, 4, 128)], ids=str)
def test_rotary_positions_in_place_and_the_store(like, heads):
    qkv = normal(like, 5, heads.row_width)
    rotary, positions = half_tables(300, heads.head_dim, 1e4, qkv), torch.tensor([0, 1, 299, 7, 7], device=like.device)
    slots = torch.tensor([4, 0, 9, 2, 7], device=like.device)
    cache = normal(like, 2, 10, heads.num_kv_heads, heads.head_dim)
    twin, twin_cache = qkv.clone(), cache.clone()
    with kernel_switches(kernels=False):
        rotate_in_place(twin, rotary, positions, heads, Slots(slots, *twin_cache))
    rotate_in_place(qkv, rotary, positions, heads, Slots(slots, *cache))
    assert_near(qkv, twin, like)
    assert_near(cache, twin_cache, like)


def test_greedy_takes_the_first_of_equals_and_stops_at_the_end(like):
    logits = normal(like, 3, 9000)
    logits[1, 7] = logits[1, 5000] = 9
    tokens = torch.zeros(3, dtype=torch.int64, device=like.device)
    lengths = torch.tensor([1, 5, 64], dtype=torch.int32, device=like.device)
    advance_greedily(logits, tokens, lengths, 64)
    assert tokens.tolist() == [int(logits[0].argmax()), 7, int(logits[2].argmax())]
    assert lengths.tolist() == [2, 6, 64]


def test_greedy_stays_in_the_vocabulary_where_nothing_is_a_number(like):
    logits = torch.full((2, 9000), torch.nan, device=like.device).to(like.dtype)
    tokens = torch.full((2,), 5, device=like.device)
    lengths = torch.ones(2, dtype=torch.int32, device=like.device)
    advance_greedily(logits, tokens, lengths, 64)
    assert tokens.tolist() == [0, 0]


def stored(kind, like, num_inputs, has_bias, num_outputs=NUM_OUTPUTS):
    weight, bias = torch.randn(num_outputs, num_inputs, device=like.device), None
    if has_bias:
        bias = normal(like, num_outputs)
    if kind == "plain":
        return Weight("plain", weight.to(like.dtype), None, bias)
    return Weight(kind, *QUANTIZE[kind](weight), bias)


def possible(plans, like):
    """Those that run here in this dtype: a GPU's matrix units take no fp32, and "digits" are of bf16 on a GPU.

    "codes" are nearer to the exact product than the twin in 16 bits is: see test_codes.
    """
    plans = [plan for plan in plans if plan.way != "codes"]
    if like.dtype != torch.bfloat16 or not like.is_cuda or IS_INTERPRETED:
        plans = [plan for plan in plans if plan.way != "digits"]
    return [plan for plan in plans if plan.way != "places" or like.dtype != torch.float32 or not like.is_cuda]


def surroundings(name, like, num_rows, width=WIDTH):
    return Around(
        norm=(normal(like, width), 1e-6) if "norm" in name else None,
        is_gated="gate" in name,
        residual=normal(like, num_rows, NUM_OUTPUTS) if name == "residual" else None,
    )


def exact(x, weight, around):
    """The product in fp64: ways that round to bf16 here and there are as far from each other as from this.

    A gated product is squared at its largest places, and so is what rounding did to them: 0.5 % as a rule, at times
    1.1 %, for the twin too.
    """

    def wide(tensor):
        return None if tensor is None else tensor.cpu().double()

    norm, residual = around.norm, wide(around.residual)
    around = replace(around, norm=norm and (wide(norm[0]), norm[1]), residual=residual)
    weight = replace(weight, data=weight.data.cpu(), scale=weight.scale.cpu().double(), bias=wide(weight.bias))
    return few_rows_twin(wide(x), weight, around).to(x.device)


def lost_by_words(x, weight, around):
    """Root mean square error (N,) of the way "words" in fp32, at most."""
    if around.norm is not None:
        x = rms_norm(x, *around.norm)
    step, share = WORD_STEPS[weight.kind]
    scale = weight.scale.double().view(weight.num_outputs, -1)
    squares = x.double().view(scale.shape[1], -1).square().sum(1)
    lost = step * 2.0**-24 * (share / 3 * (scale.square() @ squares)).sqrt()
    if not around.is_gated:
        return lost
    (gate, up), (lost_gate, lost_up) = few_rows_twin(x, weight).double()[0].chunk(2), lost.chunk(2)
    rise = gate.sigmoid() * (1 + gate * (1 - gate.sigmoid()))
    return torch.hypot(rise * up * lost_gate, gate * gate.sigmoid() * lost_up)


def assert_near_in_words(got, want, like, lost):
    if like.dtype == torch.float32:
        assert (got - want).norm() <= WORD_LUCK * lost.norm() + tolerance(like) * want.norm()
    else:
        assert_near(got, want, like)


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("num_rows", [1, 5, 16, 40])
@pytest.mark.parametrize("kind", ["plain", "int8", "int4", "fp8"])
def test_linear_layers_in_every_plan(like, kind, num_rows, name):
    x, weight = normal(like, num_rows, WIDTH), stored(kind, like, WIDTH, name == "bias")
    around = surroundings(name, like, num_rows)
    want = few_rows_twin(x, weight, around)
    for plan in possible(plans_for(kind, num_rows, NUM_OUTPUTS, WIDTH, around.is_gated), like):
        if plan.splits == 1 or name == "nothing":
            got = run_plan(x, weight, around, plan)
            if plan.way == "words":
                assert_near_in_words(got, want, like, lost_by_words(x, weight, around))
            else:
                assert_near(got, want, like)


@pytest.mark.parametrize("name", ["nothing", "gated", "residual"])
@pytest.mark.parametrize("kind", ["plain", "int8", "fp8"])
def test_more_rows_than_a_kernel_takes(like, kind, name):
    x, weight = normal(like, 70, WIDTH), stored(kind, like, WIDTH, has_bias=name == "nothing")
    around = surroundings(name, like, 70)
    got = few_rows(x, weight, replace(around, leaves_parts=name == "nothing"))
    assert_near(got, few_rows_twin(x, weight, around), like)


@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_words_lose_what_their_sums_are_rounded_by_and_no_more(like, kind, is_gated):
    if like.dtype != torch.float32:
        pytest.skip("outputs in 16 bits are off by more")
    around, found, foreseen = Around(is_gated=is_gated), [], []
    for _ in range(128):
        x, weight = normal(like, 1, WIDTH), stored(kind, like, WIDTH, has_bias=False, num_outputs=32)
        lost = run_plan(x, weight, around, Plan("words", 16, 1024)) - few_rows_twin(x, weight, around)
        found.append(lost.norm())
        foreseen.append(lost_by_words(x, weight, around).norm())
    assert torch.stack(found).norm() <= torch.stack(foreseen).norm()


@pytest.mark.parametrize("is_gated", [False, True])
@pytest.mark.parametrize("num_rows", [1, 2, 8, 9])
@pytest.mark.parametrize("kind", ["int8", "int4", "fp8"])
def test_few_bits_over_several_steps_and_part_of_one(like, kind, num_rows, is_gated):
    x, weight = normal(like, num_rows, 1152), stored(kind, like, 1152, has_bias=True)
    want = few_rows_twin(x, weight, Around(is_gated=is_gated))
    plans = {*plans_for(kind, num_rows, NUM_OUTPUTS, 1152, is_gated), *plans_for(kind, num_rows, 9000, 1152, is_gated)}
    for plan in possible([plan for plan in plans if plan.way == "places"], like):
        assert_near(run_plan(x, weight, Around(is_gated=is_gated), plan), want, like)


@pytest.mark.gpu
@pytest.mark.skipif(IS_INTERPRETED or not torch.cuda.is_available(), reason="assembler for bf16 needs a GPU")
@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("num_rows", [1, 5, 16])
@pytest.mark.parametrize("kind", ["int8", "int4", "fp8"])
def test_few_bits_in_bf16(kind, num_rows, name):
    like = torch.empty(0, dtype=torch.bfloat16, device="cuda")
    x, weight = normal(like, num_rows, 1152), stored(kind, like, 1152, name == "bias")
    around = surroundings(name, like, num_rows, 1152)
    want = exact(x, weight, around)
    allowed = max(tolerance(like), 1.5 * relative_error(few_rows_twin(x, weight, around), want))
    for plan in plans_for(kind, num_rows, NUM_OUTPUTS, 1152, around.is_gated):
        if plan.way in ("places", "digits"):
            assert relative_error(run_plan(x, weight, around, plan), want) <= allowed


needs_bf16_gpu = pytest.mark.skipif(IS_INTERPRETED or not torch.cuda.is_available(), reason="assembler needs a GPU")


def by_digits(kind):
    plans = [plan for width in (1152, 18_944) for plan in plans_for(kind, 1, NUM_OUTPUTS, width, False)]
    found = {plan for plan in plans if plan.way == "digits"}
    assert len(found) > 4
    return found


@pytest.mark.gpu
@needs_bf16_gpu
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_digits_keep_inputs_beside_one_a_thousand_times_larger(kind):
    like = torch.empty(0, dtype=torch.bfloat16, device="cuda")
    x, weight = normal(like, 1, 1152), stored(kind, like, 1152, has_bias=False)
    x[0, 5] *= 1000
    large = torch.zeros_like(x)
    large[0, 5] = x[0, 5]
    rest = exact(x, weight, Around()) - exact(large, weight, Around())
    assert digits_run(x.device)
    for plan in by_digits(kind):
        got = run_plan(x, weight, Around(), plan).double()
        # What the inputs in whole numbers are off by, beside what the output's bf16 is rounded by.
        rounding = exact(x, weight, Around()).norm() * 2**-9
        assert (got - exact(large, weight, Around()) - rest).norm() <= rounding + 0.01 * rest.norm()


@pytest.mark.gpu
@needs_bf16_gpu
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_digits_never_hide_what_is_not_finite(kind, bad):
    like = torch.empty(0, dtype=torch.bfloat16, device="cuda")
    x, weight = normal(like, 1, 1152), stored(kind, like, 1152, has_bias=False)
    x[0, 700] = bad
    for plan in by_digits(kind):
        assert not run_plan(x, weight, Around(), plan).isfinite().any()


@pytest.mark.gpu
@needs_bf16_gpu
@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("size", [0.0, 1e-37, 1e30])
def test_digits_of_nothing_and_of_extremes(kind, size):
    like = torch.empty(0, dtype=torch.bfloat16, device="cuda")
    x, weight = size * normal(like, 1, 1152), stored(kind, like, 1152, has_bias=False)
    want = exact(x, weight, Around())
    for plan in by_digits(kind):
        got = run_plan(x, weight, Around(), plan).double()
        assert (got - want).norm() <= 0.01 * want.norm() + 1e-33


@pytest.mark.parametrize("kind", ["plain", "int8"])
def test_inputs_that_fill_no_whole_step(like, kind):
    x, weight = normal(like, 1, 200), stored(kind, like, 200, has_bias=True)
    want = few_rows_twin(x, weight)
    for plan in plans_for(kind, 1, NUM_OUTPUTS, 200, False):
        assert_near(run_plan(x, weight, Around(), plan), want, like)


@pytest.mark.parametrize(
    ("num_rows", "longest", "want"), [(4, 512, 8), (4, 32_768, 64), (256, 2048, 1), (128, 2048, 2), (999, 99, 1)]
)
def test_splits_fill_the_card_but_never_a_short_sequence(num_rows, longest, want):
    assert num_splits(num_rows, longest, 132) == want
