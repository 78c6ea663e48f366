"""The schedule without any model: order, budgets, blocks, and that it never stands still."""

import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.engine.blocks import BLOCK_TOKENS, BlockPool, num_blocks_for
from audioflamingo.engine.scheduler import Limits, Scheduler
from audioflamingo.engine.sequence import Sequence
from audioflamingo.types import Prompt, Sampling


def sequence(index, num_tokens, max_new_tokens=10, token=1):
    return Sequence(index, Prompt((token,) * num_tokens), Sampling(max_new_tokens), max_positions=100_000)


def run(plan, scheduler, ends=lambda one: one.num_generated >= one.sampling.max_new_tokens):
    """What the engine does with a plan, with the number of the token for a token."""
    finished = []
    for chunk in (*plan.reading, *plan.writing):
        is_last = chunk.is_last
        scheduler.computed(chunk)
        if is_last:
            chunk.sequence.generated.append(chunk.sequence.num_generated)
            if ends(chunk.sequence):
                finished.append(chunk.sequence)
    for one in finished:
        one.finish_reason = "length"
        scheduler.remove(one)
    return finished


sizes = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 50), st.integers(1, 3)), min_size=1, max_size=15)


@settings(max_examples=150, deadline=None)
@given(sizes, st.integers(1, 5), st.sampled_from([18, 20, 40]), st.sampled_from([1, 30, 100]), st.booleans())
def test_everything_ends_within_limits(sizes, max_sequences, num_blocks, budget, can_grow):
    limits = Limits(max_sequences=max_sequences, prefill_tokens=budget)
    pool = BlockPool(4 if can_grow else num_blocks, most=num_blocks)
    scheduler = Scheduler(limits, pool)
    everything = [sequence(index, *size) for index, size in enumerate(sizes)]
    for one in everything:
        scheduler.add(one)
    while scheduler.has_work:
        plan = scheduler.plan()
        assert plan.reading or plan.writing or plan.failed, "stuck"
        assert sum(chunk.num_tokens for chunk in plan.reading) <= budget
        assert len(scheduler.running) <= max_sequences
        held = [block for one in scheduler.running for block in set(one.blocks)]
        assert 0 not in held
        assert pool.num_held == len(set(held)) < num_blocks
        for chunk in (*plan.reading, *plan.writing):
            assert chunk.end <= len(chunk.sequence.blocks) * BLOCK_TOKENS
        own = {one: one.blocks[one.num_cached // BLOCK_TOKENS :] for one in scheduler.running}
        for one, blocks in own.items():  # what is yet to be written belongs to one alone
            assert all(blocks[0] not in other.blocks for other in scheduler.running if other is not one and blocks)
        for one, error in plan.failed:
            assert one.num_tokens > pool.num_usable * BLOCK_TOKENS
            one.fail(error)
        run(plan, scheduler)
    assert all(one.is_finished for one in everything)
    assert pool.num_held == 0


def test_first_come_first_served():
    scheduler = Scheduler(Limits(max_sequences=2), BlockPool(1000))
    waiting = [sequence(index, 40, token=index) for index in range(6)]
    for one in waiting:
        scheduler.add(one)
    finished = []
    while scheduler.has_work:
        finished += run(scheduler.plan(), scheduler)
    assert [one.index for one in finished] == list(range(6))


def test_a_long_prompt_is_read_beside_running_answers_in_small_chunks():
    scheduler = Scheduler(Limits(prefill_tokens=1000, prefill_tokens_beside=64), BlockPool(1000))
    short, long = sequence(0, 10, 100), sequence(1, 900, token=2)
    scheduler.add(short)
    run(scheduler.plan(), scheduler)
    scheduler.add(long)
    steps = 0
    while not long.generated:
        plan = scheduler.plan()
        assert [chunk.sequence for chunk in plan.writing] == [short]
        assert [chunk.num_tokens for chunk in plan.reading] == [min(64, 900 - 64 * steps)]
        run(plan, scheduler)
        steps += 1
    assert steps == num_blocks_for(900 // 2)  # 64 tokens are two blocks


def test_a_prompt_that_one_step_can_read_is_never_cut():
    scheduler = Scheduler(Limits(prefill_tokens=100), BlockPool(1000))
    everything = [sequence(index, size, token=index) for index, size in enumerate((40, 40, 40, 250, 30, 99))]
    for one in everything:
        scheduler.add(one)
    steps = []
    while any(not one.generated for one in everything):
        plan = scheduler.plan()
        steps.append([(chunk.sequence.index, chunk.num_tokens) for chunk in plan.reading])
        run(plan, scheduler)
    # The third would be cut after 20 tokens, the fifth after 10; a prompt of more than a step begins where it can.
    assert steps == [[(0, 40), (1, 40)], [(2, 40), (3, 60)], [(3, 100)], [(3, 90)], [(4, 30)], [(5, 99)]]


def test_what_may_come_next_is_named_ahead():
    scheduler = Scheduler(Limits(prefill_tokens=100, max_sequences=4), BlockPool(1000))
    running, *waiting = [sequence(index, 90, token=index) for index in range(5)]
    for one in (running, *waiting):
        scheduler.add(one)
    scheduler.plan()
    assert scheduler.may_come() == waiting[:2]
    scheduler.name(scheduler.may_come())
    assert [len(one.block_keys) for one in waiting] == [2, 2, 0, 0]


def test_nobody_comes_where_all_places_are_taken():
    scheduler = Scheduler(Limits(prefill_tokens=1000, max_sequences=2), BlockPool(1000))
    for index in range(4):
        scheduler.add(sequence(index, 90, token=index))
    scheduler.plan()
    assert len(scheduler.running) == 2
    assert not scheduler.may_come()


def test_the_last_to_come_makes_room_and_comes_back_first():
    scheduler = Scheduler(Limits(), BlockPool(6))
    first, second, third = sequence(0, 60, 60), sequence(1, 30, 60, token=2), sequence(2, 30, 60, token=3)
    for one in (first, second, third):
        scheduler.add(one)
    while not scheduler.num_preempted:
        run(scheduler.plan(), scheduler)
    assert first in scheduler.running
    assert scheduler.waiting[0].generated
    while scheduler.has_work:
        run(scheduler.plan(), scheduler)
    assert [len(one.generated) for one in (first, second, third)] == [60, 60, 60]


def test_a_sequence_never_plans_beyond_the_positions():
    one = Sequence(0, Prompt((1,) * 990), Sampling(max_new_tokens=50), max_positions=1000)
    assert one.max_tokens == 1000


def test_scheduling_needs_no_torch():
    names = ("scheduler", "text", "blocks", "prefix", "sequence")
    imports = ", ".join(f"audioflamingo.engine.{name}" for name in names)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
