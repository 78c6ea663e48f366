import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from audioflamingo.engine.scheduler import Limits, Scheduler
from audioflamingo.engine.sequence import Sequence
from audioflamingo.types import Prompt, Sampling

LIMITS = Limits(max_sequences=4, max_cache_tokens=400, prefill_tokens=100)


def sequence(index, num_tokens, max_new_tokens=10):
    return Sequence(index, Prompt((1,) * num_tokens), Sampling(max_new_tokens), max_positions=1000)


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 50)), max_size=20), st.randoms(use_true_random=False))
def test_everything_runs_once_in_order_and_within_limits(sizes, random):
    scheduler = Scheduler([sequence(index, *size) for index, size in enumerate(sizes)], LIMITS)
    seen = []
    while scheduler.has_work:
        num_running = len(scheduler.running)
        admitted = scheduler.admit()
        assert admitted or num_running, "stuck"
        assert scheduler.running[num_running:] == admitted
        seen += [one.index for one in admitted]
        rows = scheduler.running
        assert len(rows) <= LIMITS.max_sequences
        assert len(rows) == 1 or len(rows) * max(one.max_tokens for one in rows) <= LIMITS.max_cache_tokens
        assert len(admitted) <= 1 or sum(one.num_prompt_tokens for one in admitted) <= LIMITS.prefill_tokens
        for one in rows:
            if random.random() < 0.5:
                one.finish_reason = "stop"
        expected = [row for row, one in enumerate(rows) if not one.is_finished]
        assert scheduler.retire() == expected
    assert seen == list(range(len(sizes)))


def test_a_sequence_never_plans_beyond_the_positions():
    one = Sequence(0, Prompt((1,) * 990), Sampling(max_new_tokens=50), max_positions=1000)
    assert one.max_tokens == 1000


def test_scheduling_needs_no_torch():
    code = "import sys, audioflamingo.engine.scheduler, audioflamingo.engine.text; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
