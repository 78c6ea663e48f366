"""Names of sounds by their content: a cryptographic digest, taken by several threads at once. No torch in here.

A first token waits for the digest, because it decides what need not be heard again; ten minutes of sound are 38 MB.
Samples are cut into leaves, the leaves are hashed side by side (Python lets go of its lock there), and a digest of the
leaves' digests names the whole. Names come from strangers' sounds and a collision would answer one with the sound of
another, hence SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from hashlib import sha256

import numpy as np
import numpy.typing as npt

LEAF_BYTES = 1 << 18  # a sixth of a millisecond of work
MAX_THREADS = 16
FEW_CORES, MANY_LEAVES = 4, 32  # on few cores, others' work stands in the way longer than eight seconds take to hash

Samples = npt.NDArray[np.float32]


def content_keys(sounds: Sequence[Samples]) -> list[bytes]:
    """(32 bytes) for each array of (N,) samples; equal samples have equal keys, whatever stands beside them."""
    views = [np.ascontiguousarray(sound).data.cast("B") for sound in sounds]
    leaves = [view[first : first + LEAF_BYTES] for view in views for first in range(0, len(view), LEAF_BYTES)]
    digests = iter(_digests(leaves))
    return [_root(len(view), [next(digests) for _ in range(0, len(view), LEAF_BYTES)]) for view in views]


def _root(num_bytes: int, leaves: list[bytes]) -> bytes:
    return sha256(num_bytes.to_bytes(8, "little") + b"".join(leaves)).digest()


def _digests(leaves: list[memoryview]) -> list[bytes]:
    num_threads = min(_num_cores(), MAX_THREADS, len(leaves))
    if num_threads < 2 or (_num_cores() <= FEW_CORES and len(leaves) < MANY_LEAVES):
        return [_digest(leaf) for leaf in leaves]
    step = -(-len(leaves) // num_threads)
    groups = (leaves[first : first + step] for first in range(0, len(leaves), step))
    return [digest for many in _threads().map(_digest_all, groups) for digest in many]


def _digest_all(leaves: list[memoryview]) -> list[bytes]:
    return [_digest(leaf) for leaf in leaves]


def _digest(leaf: memoryview) -> bytes:
    return sha256(leaf).digest()


@cache
def _num_cores() -> int:
    is_told = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if is_told else os.cpu_count() or 1


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(_num_cores(), MAX_THREADS), "content")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a child has none of its parent's threads
