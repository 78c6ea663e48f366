"""Sound in device memory as a ring: new shards push out the oldest, and steps are drawn from what is there.

Only samples lie in the ring, everything else of a shard stays with whoever draws. A shard stops being drawn well
before its samples are written over, so that steps that are on their way still hear it; and for every shard that is
placed, `Place.since` says which of those steps must have ended first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from operator import gt, sub
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from audioflamingo.train.nano_plan import REST_TOKENS, SAMPLES_PER_FRAME, Ints, Picked, Plan, Shape, make_plan

CANDIDATES = 128
MISSES = 24  # so many conversations in a row that do not fit end the drawing of a step
LONG_S = 40.0
LONG_FRAMES, MOST_LONG = 0.6, 12
GUARD_SHARDS = 2


@dataclass(frozen=True)
class Draws:
    """How steps are drawn.

    Attributes:
        short: room of a step of short sounds.
        long: room of a step that begins with a long one.
        long_share: share of the latter, see `is_long_step`.
        token_noise: see `make_plan`.
        vocab_size: see `make_plan`.
        placeholder: see `make_plan`.
    """

    short: Shape
    long: Shape
    long_share: float
    vocab_size: int
    placeholder: int
    token_noise: float = 0.1
    one_clip: bool = False


class Shard:
    """The arrays of one file, where its samples lie, and what each of its items and conversations takes."""

    def __init__(self, arrays: dict[str, npt.NDArray[Any]], start: int) -> None:
        self.arrays, self.start = arrays, start
        windows, sequences = arrays["item_windows"], arrays["item_sequences"]
        samples = arrays["samples_offsets"]
        self.num_samples = int(samples[-1])
        self.num_items = len(windows) - 1
        self.sizes = np.diff(np.concatenate([samples, samples[-1:]])[windows]) // SAMPLES_PER_FRAME
        self.num_frames = int(self.sizes.sum())
        self.num_windows = np.diff(windows)
        self.num_spans = np.diff(arrays["labels_offsets"][windows])
        self.last_clip = np.maximum.reduceat(np.append(arrays["clips"], 0), windows[:-1])
        self.num_tokens = np.diff(arrays["ids_offsets"])
        self.num_learnt = np.add.reduceat((arrays["learnt"] > 0).astype(np.int64), arrays["ids_offsets"][:-1])
        sums = np.add.reduceat(arrays["weights"], sequences[:-1])
        shares = arrays["weights"] / np.repeat(sums, np.diff(sequences))
        owner = np.repeat(np.arange(self.num_items), np.diff(sequences))
        running = np.cumsum(shares)
        before = np.concatenate([[0.0], running])[sequences[:-1]]
        self.until = np.clip(running - before[owner], 0.0, 1.0) + owner  # by weight: item i's end at i + 1
        self.until[sequences[1:] - 1] = np.arange(1.0, self.num_items + 1)

    def picked(self, item: int, number: int) -> Picked:
        """One of the shard's conversations, by its number, with its item's windows."""
        arrays = self.arrays
        windows = range(int(arrays["item_windows"][item]), int(arrays["item_windows"][item + 1]))
        offsets = arrays["samples_offsets"]
        return Picked(
            windows=[(self.start + int(offsets[w]), int(offsets[w + 1] - offsets[w])) for w in windows],
            labels=[_part(arrays, "labels", w) for w in windows],
            ctc=[_part(arrays, "ctc", w) if arrays["has_ctc"][w] else None for w in windows],
            clips=arrays["clips"][windows.start : windows.stop],
            ids=_part(arrays, "ids", number),
            learnt=_part(arrays, "learnt", number),
        )


class Table:
    """Everything that drawing looks at, over all shards, as flat arrays: items, and conversations one after another."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = list(shards)
        counts = [shard.num_items for shard in shards]
        self.owner = np.repeat(np.arange(len(counts)), counts)
        self.first_item = np.cumsum([0, *counts])
        self.first_sequence = np.cumsum([0, *(len(shard.num_tokens) for shard in shards)])
        self.frames, self.num_windows = self._joined("sizes"), self._joined("num_windows")
        self.num_spans, self.num_tokens = self._joined("num_spans"), self._joined("num_tokens")
        self.num_learnt = self._joined("num_learnt")
        # Item i has the numbers from i to i + 1, exactly: over a hundred thousand items a running sum is off by 5e-8.
        ends = (shard.until + first for shard, first in zip(shards, self.first_item, strict=False))
        self.until = np.concatenate([np.zeros(0), *ends])
        self.long = np.flatnonzero(self.frames > LONG_S * 50)
        # By their length: a minute is drawn often anyway, and ten minutes are as hard as they are rare.
        self.until_long = np.cumsum(self.frames[self.long].astype(np.float64))
        self.short = np.flatnonzero(self.frames <= LONG_S * 50)
        self.short_alone = self.short[self._joined("last_clip")[self.short] == 0]

    def _joined(self, name: str) -> npt.NDArray[Any]:
        return np.concatenate([np.zeros(0, np.int64), *(getattr(shard, name) for shard in self.shards)])

    def conversations(self, items: Ints, rng: np.random.Generator) -> Ints:
        """(n,) a conversation of each of some items, by weight: item i has the shares from i to i + 1."""
        return np.searchsorted(self.until, items + rng.random(len(items)) * (1 - 1e-6), side="right")

    def picked(self, item: int, conversation: int) -> Picked:
        """See `Shard.picked`."""
        owner = int(self.owner[item])
        return self.shards[owner].picked(
            item - int(self.first_item[owner]), conversation - int(self.first_sequence[owner])
        )


@dataclass(frozen=True)
class Place:
    """Where a shard lies in the ring.

    Attributes:
        start: its first sample.
        since: its samples may be written when the steps that were drawn while fewer than `since` shards had been
            placed, in all, have heard theirs. Later ones hear nothing that lies there.
    """

    start: int
    since: int


class Ring:
    """Who lies where, without the samples; steps are drawn from it.

    Args:
        num_samples: length of the ring.
    """

    def __init__(self, num_samples: int) -> None:
        self.num_samples = num_samples
        self.shards: deque[Shard] = deque()
        self.num_placed = 0
        self.num_frames = 0
        self.write_at = 0
        self.gone: list[tuple[int, int, int]] = []  # first sample, end, and how many were placed when it was forgotten
        self._table: Table | None = Table(())

    @property
    def hours(self) -> float:
        """How much sound can be drawn."""
        return self.num_frames / 50 / 3_600

    @property
    def table(self) -> Table:
        """All that can be drawn now; made when it is wanted, for shards come more than one at a time."""
        if self._table is None:
            self._table = Table(self.shards)
        return self._table

    def place(self, arrays: dict[str, npt.NDArray[Any]]) -> Place:
        """Add a shard's arrays; `samples` need not be among them.

        Raises:
            ValueError: it is too large for the ring.
        """
        num = int(arrays["samples_offsets"][-1])
        if num * (GUARD_SHARDS + 1) >= self.num_samples:
            raise ValueError("the pool has no room for three shards; make it larger: --pool-hours")
        self.num_placed += 1
        start = self._make_room(num)
        self.write_at = start + num
        self.shards.append(Shard(arrays, start))
        self.num_frames += self.shards[-1].num_frames
        self._table = None
        return Place(start, self._since(start, self.write_at))

    def _make_room(self, num: int) -> int:
        """Where the next shard begins; forgets those that lie there and a little beyond."""
        start = self.write_at
        if start + num > self.num_samples:  # the end of the ring stays empty; what lay there is the oldest
            while self.shards and self.shards[0].start >= start:
                self._forget()
            start = 0
        guarded = num * (GUARD_SHARDS + 1)
        while self.shards and (self.shards[0].start - start) % self.num_samples < guarded:
            self._forget()
        return start

    def _forget(self) -> None:
        shard = self.shards.popleft()
        self.num_frames -= shard.num_frames
        self.gone.append((shard.start, shard.start + shard.num_samples, self.num_placed))

    def _since(self, start: int, end: int) -> int:
        """See `Place`; what has been waited for once needs no thought again."""
        since = max((when for first, last, when in self.gone if first < end and start < last), default=0)
        self.gone = [one for one in self.gone if one[2] > since]
        return since

    def draw(self, rng: np.random.Generator, draws: Draws, *, is_long: bool = False) -> Plan:
        """A step: of short sounds, or one that begins with a long one, where there is one, and is filled with short."""
        table = self.table
        is_long = is_long and len(table.long) > 0
        shape = draws.long if is_long else draws.short
        return make_plan(
            _fill(table, rng, shape, is_long, one_clip=draws.one_clip), shape, rng, vocab_size=draws.vocab_size,
            placeholder=draws.placeholder, token_noise=draws.token_noise,
        )  # fmt: skip


class ItemPool(Ring):
    """A ring with its samples, for one who writes and draws in turn.

    Args:
        device: where samples live.
        num_samples: length of the ring.
    """

    def __init__(self, device: torch.device, num_samples: int) -> None:
        super().__init__(num_samples)
        self.device = device
        self.samples = torch.zeros(num_samples, dtype=torch.int16, device=device)

    def append_arrays(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        """Add a shard's arrays."""
        samples = torch.from_numpy(arrays.pop("samples"))
        start = self.place(arrays).start
        self.samples[start : start + len(samples)].copy_(samples)


def is_long_step(number: int, share: float) -> bool:
    """Whether a step begins with a long sound: evenly spaced, and the same in all data-parallel processes.

    They wait for the slowest of them before every step, so long steps must come together.

    Args:
        number: of the step in the whole run.
        share: of long steps.
    """
    return math.floor((number + 1) * share) > math.floor(number * share)


def _fill(table: Table, rng: np.random.Generator, shape: Shape, begins_long: bool, *, one_clip: bool) -> list[Picked]:
    """Long sounds for about `LONG_FRAMES` of the room, if it begins so, then short ones until hardly any fits."""
    room, picked = Room(shape), list[Picked]()
    if begins_long:
        least = round((1 - LONG_FRAMES) * shape.num_frames)
        drawn = np.searchsorted(table.until_long, rng.random(MOST_LONG) * table.until_long[-1], side="right")
        for item in table.long[np.minimum(drawn, len(table.long) - 1)].tolist():
            if room.left[0] > least:
                _take(table, rng, room, np.array([item]), picked, 1)
    misses, short = 0, table.short_alone if one_clip else table.short
    while misses < MISSES:
        misses = _take(table, rng, room, rng.choice(short, CANDIDATES), picked, MISSES, misses)
    assert picked, "no conversation fits into a step"
    return picked


def _take(
    table: Table, rng: np.random.Generator, room: Room, items: Ints, picked: list[Picked], most: int, misses: int = 0
) -> int:
    """Adds a conversation of each item that fits; returns the number of misses in a row, and ends at `most`."""
    chosen = table.conversations(items, rng)
    needs = (
        table.frames[items], table.num_tokens[chosen], table.num_windows[items], table.num_learnt[chosen],
        table.num_spans[items],
    )  # fmt: skip
    rows = zip(*(need.tolist() for need in needs), strict=True)
    for item, conversation, need in zip(items.tolist(), chosen.tolist(), rows, strict=True):
        fits = room.takes(need)
        misses = 0 if fits else misses + 1
        if fits:
            picked.append(table.picked(item, conversation))
        if misses >= most:
            break
    return misses


class Room:
    """What is left of a step: frames, tokens, windows, targets and spans; and sequences."""

    def __init__(self, shape: Shape) -> None:
        self.left = [shape.num_frames, shape.num_tokens, shape.num_windows, shape.num_targets, shape.num_spans]
        self.longest = shape.longest_tokens
        # What is left over is covered by pieces, which are sequences too.
        self.sequences = shape.num_sequences - max(shape.num_tokens, shape.num_frames) // REST_TOKENS - 1

    def takes(self, need: Sequence[int]) -> bool:
        """Whether it fits; if so, its room is taken."""
        sequences = max(1, need[2])
        if need[1] > self.longest or sequences > self.sequences or any(map(gt, need, self.left)):
            return False
        self.left = list(map(sub, self.left, need))
        self.sequences -= sequences
        return True


def _part(arrays: dict[str, npt.NDArray[Any]], name: str, index: int) -> npt.NDArray[Any]:
    offsets = arrays[f"{name}_offsets"]
    return arrays[name][offsets[index] : offsets[index + 1]]
