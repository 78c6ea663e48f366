"""Names of sounds by their content: a cryptographic digest, taken by several threads at once.

The digest decides what need not be heard again; ten minutes of sound are 38 MB, and a first token may wait for it.
Samples are cut into leaves, the leaves are hashed side by side (Python lets go of its lock there), and a digest of the
leaves' digests names the whole. Names come from strangers' sounds and a collision would answer one with the sound of
another, hence SHA-256. What a sound surely is not can be said much sooner, by a glance.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import numpy as np
import numpy.typing as npt

from audioflamingo.audio.threads import MAX_THREADS, num_cores, threads

LEAF_BYTES = 1 << 18  # a sixth of a millisecond of work
GLANCE_STEP = 2003  # every so many-th sample
FEW_CORES, MANY_LEAVES = 4, 32  # on few cores, others' work stands in the way longer than eight seconds take to hash

Samples = npt.NDArray[np.float32]


def content_keys(sounds: Sequence[Samples]) -> list[bytes]:
    """(32 bytes) for each array of (N,) samples; equal samples have equal keys, whatever stands beside them."""
    views = [np.ascontiguousarray(sound).data.cast("B") for sound in sounds]
    leaves = [view[first : first + LEAF_BYTES] for view in views for first in range(0, len(view), LEAF_BYTES)]
    digests = iter(_digests(leaves))
    return [_root(len(view), [next(digests) for _ in range(0, len(view), LEAF_BYTES)]) for view in views]


class SoundKeys:
    """Keys of one sound's windows, taken all together when the first is asked for."""

    def __init__(self, windows: Sequence[Samples]) -> None:
        self._windows = windows
        self._keys: list[bytes] | None = None

    @property
    def are_taken(self) -> bool:
        """Whether they are known by now."""
        return self._keys is not None

    def take(self) -> list[bytes]:
        """(32 bytes) for each window."""
        keys = self._keys
        if keys is None:  # two threads may both come here, and find the same
            keys = self._keys = content_keys(self._windows)
        return keys


def glance(samples: Samples) -> int:
    """Equal for equal (N,) samples, and nearly always different for others; no proof of anything but difference."""
    return hash((len(samples), samples[::GLANCE_STEP].tobytes()))


def _root(num_bytes: int, leaves: list[bytes]) -> bytes:
    return sha256(num_bytes.to_bytes(8, "little") + b"".join(leaves)).digest()


def _digests(leaves: list[memoryview]) -> list[bytes]:
    num_threads = min(num_cores(), MAX_THREADS, len(leaves))
    if num_threads < 2 or (num_cores() <= FEW_CORES and len(leaves) < MANY_LEAVES):
        return [_digest(leaf) for leaf in leaves]
    step = -(-len(leaves) // num_threads)
    groups = (leaves[first : first + step] for first in range(0, len(leaves), step))
    return [digest for many in threads().map(_digest_all, groups) for digest in many]


def _digest_all(leaves: list[memoryview]) -> list[bytes]:
    return [_digest(leaf) for leaf in leaves]


def _digest(leaf: memoryview) -> bytes:
    return sha256(leaf).digest()
