"""The pool of blocks against a plain list of what each holds."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from audioflamingo.engine.blocks import ROOM_TO_GROW, SCRATCH_BLOCK, SPACING, BlockPool

steps = st.lists(
    st.tuples(st.sampled_from(["begin", "grow", "end"]), st.integers(0, 4), st.integers(1, 6)), max_size=40
)


@settings(max_examples=200, deadline=None)
@given(steps, st.integers(8, 30), st.booleans(), st.booleans())
def test_a_block_is_held_kept_or_empty_and_content_is_what_was_stored(steps, most, can_grow, in_one_piece):
    pool = BlockPool(3 if can_grow else most, most=most, in_one_piece=in_one_piece)
    sequences, content = [], {}  # what each block truly holds
    for action, kind, count in steps:
        if action == "end" and sequences:
            pool.release(sequences.pop(kind % len(sequences)))
        elif action == "grow" and sequences and pool.num_free >= count:
            blocks = sequences[kind % len(sequences)]
            new = pool.allocate(count, after=blocks[-1])
            assert not set(new) & {block for one in sequences for block in one}
            content |= dict.fromkeys(new)
            blocks += new
        elif action == "begin":
            keys = [bytes([kind, place]) for place in range(count)]
            found = pool.find(keys)
            assert [content[block] for block in found] == keys[: len(found)]
            pool.hold(found)
            if pool.num_free < count - len(found):
                pool.release(found)
                continue
            new = pool.allocate(count - len(found), after=found[-1] if found else None)
            assert not set(new) & {block for one in sequences for block in one}
            for block, key in zip(new, keys[len(found) :], strict=True):
                content[block] = key
                pool.store(block, key)
            sequences.append(found + new)
        held = {block for one in sequences for block in one}
        assert SCRATCH_BLOCK not in held
        assert pool.num_held == len(held)
        assert pool.num_held + pool.num_free == pool.num_usable
        assert pool.num_blocks <= most
    for blocks in sequences:
        pool.release(blocks)
    assert pool.num_held == 0
    assert pool.num_free == pool.num_usable
    pool.forget()
    assert pool.num_kept == 0


def test_what_was_used_last_and_first_positions_are_kept_longest():
    pool = BlockPool(9)
    old, new = pool.allocate(4), pool.allocate(4)
    for name, blocks in ((b"o", old), (b"n", new)):
        for place, block in enumerate(blocks):
            pool.store(block, name + bytes([place]))
        pool.release(blocks)
    pool.allocate(2)
    assert len(pool.find([b"o" + bytes([place]) for place in range(4)])) == 2
    assert len(pool.find([b"n" + bytes([place]) for place in range(4)])) == 4


def test_sequences_that_begin_together_stay_in_one_piece_as_they_grow():
    pool = BlockPool(500)
    sequences = [pool.allocate(5) for _ in range(8)]
    for _ in range(ROOM_TO_GROW):
        for blocks in sequences:
            blocks += pool.allocate(1, after=blocks[-1])
    starts = [blocks[0] for blocks in sequences]
    assert {second - first for first, second in pairwise(starts)} == {SPACING}  # one call reads them all
    for blocks in sequences:
        assert blocks == list(range(blocks[0], blocks[0] + 5 + ROOM_TO_GROW))
