"""Keys of the cache's blocks: equal keys mean equal keys and values, so that a sequence can begin where another began.

A block's key covers its own token ids, the windows of sound that stand in it, everything before it, and whether the
adapter is on: keys and values depend on all of that and on nothing else. The digest is cryptographic, because prompts
come from strangers and a collision would answer one with the cache of another. No torch in here.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

from audioflamingo.engine.blocks import BLOCK_TOKENS
from audioflamingo.engine.sequence import Sequence

DIGEST_BYTES = 32
_ROOTS = {False: b"base".ljust(DIGEST_BYTES), True: b"adapted".ljust(DIGEST_BYTES)}


def block_keys(sequence: Sequence, count: int) -> list[bytes]:
    """Keys of the sequence's first `count` blocks, all of them full; computed once and kept with it."""
    keys = sequence.block_keys
    if len(keys) < count:
        _extend(sequence, count)
    return keys[:count]


def _extend(sequence: Sequence, count: int) -> None:
    keys, pieces = sequence.block_keys, sequence.pieces
    first = len(keys) * BLOCK_TOKENS
    place = next((place for place, piece in enumerate(pieces) if piece.end > first), len(pieces))
    ids = memoryview(array("q", sequence.ids(first, count * BLOCK_TOKENS)))
    while len(keys) < count:
        start = len(keys) * BLOCK_TOKENS
        end = start + BLOCK_TOKENS
        digest = blake2b(keys[-1] if keys else _ROOTS[sequence.sampling.use_adapter], digest_size=DIGEST_BYTES)
        digest.update(ids[start - first : end - first])
        while place < len(pieces) and pieces[place].start < end:
            piece = pieces[place]
            digest.update(piece.key + array("q", (piece.start - start,)).tobytes())
            if piece.end > end:
                break
            place += 1
        keys.append(digest.digest())
