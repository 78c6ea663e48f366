"""Keys of the cache's blocks: equal keys mean equal keys and values, so that a sequence can begin where another began.

A block's key covers its own token ids, the windows of sound that stand in it, everything before it, and whether the
adapter is on: keys and values depend on all of that and on nothing else. The digest is cryptographic, because prompts
come from strangers and a collision would answer one with the cache of another. No torch in here.

Ten minutes of sound are 470 digests, for which a second question on them would wait a millisecond. So the keys of past
sequences are remembered, and a sequence that begins like one of them, token by token, takes them over.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from itertools import zip_longest

from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.sequence import Sequence

DIGEST_BYTES = 32
MOST_REMEMBERED = 64  # beginnings; one of ten minutes takes 150 kB
MOST_REMEMBERED_BLOCKS = 16_384  # of all of them: 5 MB
FEW_BLOCKS = 8  # are digested as fast as they are looked up
ID_BYTES = 8
BLOCK_BYTES = BLOCK_TOKENS * ID_BYTES
STRIDE = 16  # blocks that are compared at once
_ROOTS = {False: b"base".ljust(DIGEST_BYTES), True: b"adapted".ljust(DIGEST_BYTES)}
_OFFSET = struct.Struct("q")


@dataclass(frozen=True)
class _Beginning:
    """Whole blocks that some sequence began with: their ids, the windows that begin in them, and their keys."""

    ids: bytes
    windows: list[tuple[int, bytes]]
    keys: list[bytes]


class BlockNames:
    """Gives blocks their keys, which depend on nothing but their content, and remembers those of the last beginnings.

    Not for several threads at once: the engine's lock is held wherever blocks are named.
    """

    def __init__(self) -> None:
        self._remembered: OrderedDict[bytes, _Beginning] = OrderedDict()  # by the key of the block in `_anchor`
        self._num_blocks = 0

    @property
    def num_blocks(self) -> int:
        """How many keys are remembered."""
        return self._num_blocks

    def of(self, sequence: Sequence, count: int) -> list[bytes]:
        """Keys of the sequence's first `count` blocks, all of them full; computed once and kept with it."""
        if not sequence.block_keys:
            self._begin(sequence, count)
        extend(sequence, count)
        return sequence.block_keys[:count]

    def _begin(self, sequence: Sequence, count: int) -> None:
        """Name the first blocks of a long sequence: as far as a remembered one had the same, without a digest."""
        anchor = _anchor(sequence)
        if count <= anchor + FEW_BLOCKS:
            return
        extend(sequence, anchor + 1)
        name = sequence.block_keys[anchor]
        known = self._remembered.get(name)
        ids = _packed(sequence.ids(0, count * BLOCK_TOKENS))
        if known is not None:
            self._remembered.move_to_end(name)
            num_shared = _num_shared(sequence, ids, known, anchor + 1)
            sequence.block_keys[:] = known.keys[:num_shared]
        num_new = count - len(sequence.block_keys)
        extend(sequence, count)
        if known is None or num_new > FEW_BLOCKS:
            self._remember(name, _Beginning(ids, _windows(sequence, count), list(sequence.block_keys)))

    def _remember(self, name: bytes, beginning: _Beginning) -> None:
        self._forget(name)
        self._remembered[name] = beginning
        self._num_blocks += len(beginning.keys)
        while len(self._remembered) > MOST_REMEMBERED or self._num_blocks > MOST_REMEMBERED_BLOCKS:
            self._forget(next(iter(self._remembered)))

    def _forget(self, name: bytes) -> None:
        known = self._remembered.pop(name, None)
        if known is not None:
            self._num_blocks -= len(known.keys)


def _anchor(sequence: Sequence) -> int:
    """The block in which the first sound begins, whose key tells sounds apart behind the same words; or the first."""
    return sequence.pieces[0].start // BLOCK_TOKENS if sequence.pieces else 0


def _windows(sequence: Sequence, count: int) -> list[tuple[int, bytes]]:
    """Where windows of sound begin in the first `count` blocks, and their keys."""
    return [(piece.start, piece.key) for piece in sequence.pieces if piece.start < count * BLOCK_TOKENS]


def _num_shared(sequence: Sequence, ids: bytes, known: _Beginning, first: int) -> int:
    """How many blocks with these ids are as the known ones, where the first `first` of them are."""
    most = min(len(ids) // BLOCK_BYTES, len(known.keys))
    for mine, other in zip_longest(_windows(sequence, most), known.windows):
        if mine != other:  # the ids alone do not tell: the model may say a placeholder itself
            most = min(most, *(window[0] // BLOCK_TOKENS for window in (mine, other) if window is not None))
            break
    num_shared = first
    for step in (STRIDE, 1):
        while num_shared + step <= most:
            some = slice(num_shared * BLOCK_BYTES, (num_shared + step) * BLOCK_BYTES)
            if ids[some] != known.ids[some]:
                break
            num_shared += step
    return num_shared


def extend(sequence: Sequence, count: int) -> None:
    """Give the sequence the keys of its first `count` blocks where it has them not yet: a digest for each."""
    keys, pieces = sequence.block_keys, sequence.pieces
    if len(keys) >= count:
        return
    first = len(keys) * BLOCK_TOKENS
    place = next((place for place, piece in enumerate(pieces) if piece.end > first), len(pieces))
    ids = _packed(sequence.ids(first, count * BLOCK_TOKENS))
    while len(keys) < count:
        start = len(keys) * BLOCK_TOKENS
        end = start + BLOCK_TOKENS
        digest = blake2b(keys[-1] if keys else _ROOTS[sequence.sampling.use_adapter], digest_size=DIGEST_BYTES)
        digest.update(ids[(start - first) * ID_BYTES : (end - first) * ID_BYTES])
        while place < len(pieces) and pieces[place].start < end:
            piece = pieces[place]
            digest.update(piece.key + _OFFSET.pack(piece.start - start))
            if piece.end > end:
                break
            place += 1
        keys.append(digest.digest())


def _packed(ids: tuple[int, ...]) -> bytes:
    return struct.pack(f"{len(ids)}q", *ids)  # in a third of the time that an array takes
