"""Which blocks of the cache are held, by how many sequences, and what they hold. No torch in here.

A full block gets a key that names its content and all that stands before it. When its last holder lets go of it, it
stays as it is until its room is needed, the one unused for longest first; a sequence that begins in the same way takes
it up again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence

BLOCK_TOKENS = 32  # positions of one block
SCRATCH_BLOCK = 0  # never held by a sequence: what rows of padding write to
ROOM_TO_GROW = 8  # blocks left free behind a sequence where others begin, so that it stays in one piece: 256 tokens
SPACING = 16  # blocks: sequences begin at multiples of it, evenly spaced where they are of like length


def num_blocks_for(num_tokens: int) -> int:
    """Blocks that hold so many positions."""
    return -(-num_tokens // BLOCK_TOKENS)


class BlockPool:
    """Blocks by number: held by sequences, kept for their content, or empty."""

    def __init__(self, num_blocks: int, *, most: int | None = None, in_one_piece: bool = True) -> None:
        """Begin with all blocks empty.

        Args:
            num_blocks: blocks at first, the scratch block included.
            most: how many there may ever be; more than `num_blocks` where the cache can grow.
            in_one_piece: whether a sequence's blocks should follow one another, so that they can be read in place.
        """
        self.num_blocks = num_blocks
        self._in_one_piece = in_one_piece
        self.most = max(num_blocks, most or 0)
        self._empty = set(range(num_blocks)) - {SCRATCH_BLOCK}
        self._kept: OrderedDict[int, None] = OrderedDict()  # without a holder, the longest unused first
        self._num_holders = dict.fromkeys(range(num_blocks), 0)
        self._key_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}

    @property
    def num_usable(self) -> int:
        """Blocks that one sequence alone could have."""
        return self.most - 1

    @property
    def num_free(self) -> int:
        """Blocks that can be had now."""
        return len(self._empty) + len(self._kept) + self.most - self.num_blocks

    @property
    def num_held(self) -> int:
        """Blocks that some sequence holds."""
        return self.num_blocks - 1 - len(self._empty) - len(self._kept)

    @property
    def num_kept(self) -> int:
        """Blocks that nobody holds and whose content is still there."""
        return len(self._kept)

    def find(self, keys: Iterable[bytes]) -> list[int]:
        """Blocks of the longest beginning of `keys` whose content is there; nothing is taken."""
        found = []
        for key in keys:
            block = self._block_of.get(key)
            if block is None:
                break
            found.append(block)
        return found

    def hold(self, blocks: Iterable[int]) -> None:
        """One more holder for blocks that `find` gave."""
        for block in blocks:
            self._num_holders[block] += 1
            self._kept.pop(block, None)

    def allocate(self, count: int, after: int | None = None) -> list[int]:
        """Take blocks whose content is of no more use; the caller has looked at `num_free`.

        Args:
            count: how many, 0 or more.
            after: the last block of the sequence that they are for.
        """
        assert count <= self.num_free, (count, self.num_free)
        self._make_empty(count)
        blocks: list[int] = []
        if self._in_one_piece and count:
            blocks = self._following(after, count) if after is not None else self._spaced(count)
        self._empty.difference_update(blocks)
        blocks += [self._empty.pop() for _ in range(count - len(blocks))]
        for block in blocks:
            self._num_holders[block] = 1
        return blocks

    def store(self, block: int, key: bytes) -> None:
        """Say what a held block, now full, holds; where another has the same content, that one stays the known one."""
        if key not in self._block_of and block not in self._key_of:
            self._block_of[key], self._key_of[block] = block, key

    def release(self, blocks: Sequence[int]) -> None:
        """One holder less. What a sequence began with is kept longer than what it ended with."""
        for block in reversed(blocks):
            self._num_holders[block] -= 1
            assert self._num_holders[block] >= 0, block
            if self._num_holders[block] == 0:
                if block in self._key_of:
                    self._kept[block] = None
                else:
                    self._empty.add(block)

    def spoil(self, blocks: Iterable[int]) -> list[int]:
        """Forget what these held blocks hold; returns those that one sequence alone holds."""
        alone = []
        for block in blocks:
            key = self._key_of.pop(block, None)
            if key is not None:
                del self._block_of[key]
            if self._num_holders[block] == 1:
                alone.append(block)
        return alone

    def forget(self) -> None:
        """Keep no content: no block is found again."""
        self._empty.update(self._kept)
        self._kept.clear()
        self._key_of.clear()
        self._block_of.clear()

    def shrink(self, num_blocks: int) -> None:
        """Take back a growth for which there was no memory; the blocks beyond are held by nobody any more."""
        beyond = range(num_blocks, self.num_blocks)
        assert self._empty.issuperset(beyond), "a block that does not exist is held"
        self._empty.difference_update(beyond)
        self.num_blocks = num_blocks

    def _make_empty(self, count: int) -> None:
        """See to it that so many blocks are empty: first give up what was kept, then grow."""
        while len(self._empty) < count and self._kept:
            self._drop(next(iter(self._kept)))
        if len(self._empty) < count:
            larger = min(self.most, max(2 * self.num_blocks, self.num_blocks + count))
            self._empty.update(range(self.num_blocks, larger))
            self._num_holders.update(dict.fromkeys(range(self.num_blocks, larger), 0))
            self.num_blocks = larger

    def _drop(self, block: int) -> None:
        del self._kept[block]
        del self._block_of[self._key_of.pop(block)]
        self._empty.add(block)

    def _following(self, after: int, count: int) -> list[int]:
        """Up to `count` blocks right behind `after`, as far as nobody holds them."""
        blocks = []
        for block in range(after + 1, min(after + 1 + count, self.num_blocks)):
            if block in self._kept:  # unused, if not for longest: a sequence in one piece is worth more
                self._drop(block)
            if block not in self._empty:
                break
            blocks.append(block)
        return blocks

    def _spaced(self, count: int) -> list[int]:
        """`count` neighbours in the largest gap, at an even place and not right behind a sequence that may yet grow."""
        start, size = max(self._gaps(), key=lambda gap: gap[1])
        room = ROOM_TO_GROW if self._num_holders[start - 1] else 0
        even = -(-(start + room) // SPACING) * SPACING
        if even + count <= start + size:
            return list(range(even, even + count))
        return list(range(start, start + min(count, size)))

    def _gaps(self) -> Iterator[tuple[int, int]]:
        """(first block, size) of every stretch of empty blocks."""
        ordered = sorted(self._empty)
        start = 0
        for place in range(1, len(ordered) + 1):
            if place == len(ordered) or ordered[place] != ordered[place - 1] + 1:
                yield ordered[start], place - start
                start = place
