"""Which sequences run next, and in which blocks of the cache: first come, first served. No torch in here.

A long prompt is read in chunks beside the answers that are being written; a sequence is let in when its prompt has
room; and when the cache is full, the one that came last gives up its blocks and waits, its tokens kept, for being read
again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from audioflamingo.engine.blocks import BLOCK_TOKENS, BlockPool, num_blocks_for
from audioflamingo.engine.prefix import BlockNames
from audioflamingo.engine.sequence import Piece, Sequence
from audioflamingo.errors import FlamingoError, OptionError

GPU_TOKENS, GPU_WINDOWS, GPU_SEQUENCES = 16_384, 20, 128
CacheKind = Literal["plain", "int8"]
CPU_TOKENS_BESIDE = 512  # an eighth of a second of the embedded model on two cores


class CacheFullError(FlamingoError):
    """A sequence needs more of the cache than there is."""


@dataclass(frozen=True)
class Limits:
    """What the engine holds at once.

    Attributes:
        max_sequences: sequences that run together; on a GPU 128 by `usual`.
        max_cache_tokens: positions of the KV cache; about 15 GB for the 8 B model. A GPU's free memory may allow fewer.
        prefill_tokens: prompt tokens that one step reads at most.
        prefill_tokens_beside: the same while answers are being written, which wait for it; None is 512 on a CPU, and
            on a GPU no other.
        encoder_windows: windows that the encoder runs together.
        embedding_bytes: memory for embeddings of sounds that were heard before.
        encodes_aside: on a GPU, whether sounds that come while answers are being written are encoded beside them.
        kv_cache: "plain" keeps keys and values in the dtype that is computed in, "int8" in half of 16 bits' memory.
    """

    max_sequences: int = 64
    max_cache_tokens: int = 64 * 4096
    prefill_tokens: int = 8_192
    prefill_tokens_beside: int | None = None
    encoder_windows: int = 8
    embedding_bytes: int = 256 << 20
    encodes_aside: bool = False
    kv_cache: CacheKind = "plain"

    def __post_init__(self) -> None:
        """Refuse a cache that there is not; the other values are numbers of the program's own."""
        if self.kv_cache not in get_args(CacheKind):
            raise OptionError(
                f"kv_cache {self.kv_cache!r} is not one of {', '.join(get_args(CacheKind))}; plain is what is computed"
            )

    @classmethod
    def usual(cls, device_type: str) -> Limits:
        """The defaults; on a GPU ten minutes of sound are one batch of windows and one chunk."""
        if device_type == "cpu":
            return cls()
        return cls(
            max_sequences=GPU_SEQUENCES, prefill_tokens=GPU_TOKENS, prefill_tokens_beside=GPU_TOKENS // 2,
            encoder_windows=GPU_WINDOWS,
        )  # fmt: skip

    def on(self, device_type: str) -> Limits:
        """The same with what is left to the device filled in."""
        if self.prefill_tokens_beside is not None:
            return self
        return replace(self, prefill_tokens_beside=CPU_TOKENS_BESIDE if device_type == "cpu" else self.prefill_tokens)


@dataclass(frozen=True)
class Chunk:
    """Positions [start, end) of a sequence that are to be read now."""

    sequence: Sequence
    start: int
    end: int

    @property
    def num_tokens(self) -> int:
        """How many."""
        return self.end - self.start

    @property
    def pieces(self) -> list[Piece]:
        """Windows of sound that stand in it, whole or in part."""
        return [piece for piece in self.sequence.pieces if piece.start < self.end and piece.end > self.start]

    @property
    def is_last(self) -> bool:
        """Whether the sequence's next token follows from it."""
        return self.end == self.sequence.num_tokens


@dataclass
class Plan:
    """One step.

    Attributes:
        reading: chunks of prompts, and of answers that were preempted.
        writing: last tokens of answers, after which comes the next.
        failed: sequences that have no room, and why.
    """

    reading: list[Chunk] = field(default_factory=list)
    writing: list[Chunk] = field(default_factory=list)
    failed: list[tuple[Sequence, CacheFullError]] = field(default_factory=list)


class Scheduler:
    """A queue of waiting sequences, the running ones in the order in which they came, and who holds which blocks.

    Attributes:
        waiting: those that hold no blocks yet, or no longer.
        running: those that do.
        pool: the blocks.
        num_preempted: how often a sequence had to give up its blocks.
        num_read: tokens of prompts that were read, again after a preemption.
        num_reused: tokens that did not have to be, because the cache had them.
    """

    def __init__(self, limits: Limits, pool: BlockPool) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.pool = pool
        self.num_preempted = self.num_read = self.num_reused = 0
        self._limits = limits
        self._names = BlockNames()
        self._promised: dict[bytes, Sequence] = {}  # content that a running sequence is about to store

    @property
    def has_work(self) -> bool:
        """Whether anything still waits or runs."""
        return bool(self.waiting or self.running)

    def add(self, sequence: Sequence) -> None:
        """Let a sequence wait for its turn."""
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is, and let go of its blocks."""
        if sequence in self.running:
            self._let_go(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def plan(self) -> Plan:
        """The next step. Every sequence in it holds the blocks that it needs."""
        plan = Plan()
        self._grow_answers(plan)
        plan.writing = [Chunk(one, one.num_cached, one.num_tokens) for one in self.running if one.is_decoding]
        beside = self._limits.prefill_tokens_beside
        budget = self._limits.prefill_tokens
        if plan.writing and beside is not None:
            budget = min(budget, beside)
        self._admit(plan, self._continue_prompts(plan, budget), budget)
        return plan

    def can_go_on(self, plan: Plan) -> bool:
        """Whether the next step will be that of the same answers and nothing else; they then hold blocks for it."""
        answers = [chunk.sequence for chunk in plan.writing]
        is_next = any(not one.is_listening for one in self.waiting)
        if plan.reading or is_next or any(one.num_tokens + 1 >= one.max_tokens for one in answers):
            return False
        growing = [one for one in answers if len(one.blocks) < num_blocks_for(one.num_tokens + 1)]
        if self.pool.num_free < len(growing):
            return False
        for one in growing:
            one.blocks += self.pool.allocate(1, after=one.blocks[-1])
        return True

    def may_come(self) -> list[Sequence]:
        """Those that the next step may let in, if there is room for them."""
        coming: list[Sequence] = []
        budget = self._limits.prefill_tokens
        for sequence in self.waiting:
            if budget <= 0 or len(self.running) + len(coming) >= self._limits.max_sequences:
                break
            coming.append(sequence)
            budget -= sequence.num_tokens
        return coming

    def name(self, sequences: Iterable[Sequence]) -> None:
        """Name blocks ahead, lest a step wait for it."""
        for sequence in sequences:
            self._names.of(sequence, _num_shareable(sequence))

    def computed(self, chunk: Chunk) -> None:
        """Note that a chunk's keys and values are in the cache now; others may begin with its full blocks."""
        sequence = chunk.sequence
        first_block, num_full = sequence.num_cached // BLOCK_TOKENS, chunk.end // BLOCK_TOKENS
        sequence.num_cached = chunk.end
        if num_full > first_block:
            keys = self._names.of(sequence, num_full)
            for place in range(first_block, num_full):
                self.pool.store(sequence.blocks[place], keys[place])
                self._promised.pop(keys[place], None)

    def _grow_answers(self, plan: Plan) -> None:
        """A block for each answer whose next token needs one; the last to come make room where there is none."""
        for sequence in list(self.running):
            if sequence not in self.running or not sequence.is_decoding:
                continue
            while len(sequence.blocks) < num_blocks_for(sequence.num_tokens):
                if self.pool.num_free:
                    sequence.blocks += self.pool.allocate(1, after=sequence.blocks[-1])
                elif not self._make_room(sequence, plan):
                    break

    def _make_room(self, sequence: Sequence, plan: Plan) -> bool:
        """Preempt the last sequence; whether the given one still runs."""
        last = self.running[-1]
        self._let_go(last)
        if len(self.running) == 0:  # it was alone and has all there is
            plan.failed.append((last, self._too_long(last)))
            return False
        self.num_preempted += 1
        self.waiting.appendleft(last)
        return last is not sequence

    def _continue_prompts(self, plan: Plan, budget: int) -> int:
        for sequence in self.running:
            if budget and not sequence.is_decoding:
                budget -= self._add_chunk(plan, sequence, budget)
        return budget

    def _admit(self, plan: Plan, budget: int, full: int) -> None:
        """Let in those that wait, as far as what is left of the step's `full` budget goes."""
        deferred: list[Sequence] = []
        while self.waiting and budget and len(self.running) < self._limits.max_sequences:
            sequence = self.waiting.popleft()
            if num_blocks_for(sequence.num_tokens) > self.pool.num_usable:
                plan.failed.append((sequence, self._too_long(sequence)))
                continue
            if sequence.is_listening:
                deferred.append(sequence)
                continue
            num_shareable = _num_shareable(sequence)
            keys = self._names.of(sequence, num_shareable)
            found = self.pool.find(keys)
            if len(found) < num_shareable and keys[len(found)] in self._promised:
                deferred.append(sequence)  # another reads the very same now; soon it can be had for nothing
                continue
            if budget < sequence.num_tokens - len(found) * BLOCK_TOKENS <= full:
                deferred.append(sequence)  # the next step reads it in one piece, which is less work than in two
                break
            if not self._take_blocks(sequence, found):
                deferred.append(sequence)
                break
            self._promised.update((key, sequence) for key in keys[len(found) :])
            self.running.append(sequence)
            budget -= self._add_chunk(plan, sequence, budget)
        self.waiting.extendleft(reversed(deferred))

    def _take_blocks(self, sequence: Sequence, found: list[int]) -> bool:
        """Give a sequence the blocks that were found and new ones for the rest, if there is room for all."""
        count = num_blocks_for(sequence.num_tokens) - len(found)
        self.pool.hold(found)
        spare = len(self.running)  # a block for each running answer, so that the newcomer is not put out at once
        if self.pool.num_free < count + spare:
            self.pool.release(found)
            return False
        sequence.blocks = found + self.pool.allocate(count, after=found[-1] if found else None)
        sequence.num_cached = len(found) * BLOCK_TOKENS
        self.num_reused += sequence.num_cached
        if not sequence.generated:  # read again after it gave way, it would find what it read itself
            sequence.num_reused = sequence.num_cached
        return True

    def _add_chunk(self, plan: Plan, sequence: Sequence, budget: int) -> int:
        end = min(sequence.num_cached + budget, sequence.num_tokens)
        chunk = Chunk(sequence, sequence.num_cached, end)
        self.num_read += chunk.num_tokens
        plan.reading.append(chunk)
        return chunk.num_tokens

    def _let_go(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self.pool.release(sequence.blocks)
        sequence.blocks, sequence.num_cached = [], 0
        for key in [key for key, one in self._promised.items() if one is sequence]:
            del self._promised[key]

    def _too_long(self, sequence: Sequence) -> CacheFullError:
        room = self.pool.num_usable * BLOCK_TOKENS
        return CacheFullError(
            f"prompt and answer take {sequence.num_tokens:,} positions, but the KV cache has {room:,}; give fewer or "
            "shorter sounds, lower max_new_tokens, or raise Limits.max_cache_tokens"
        )


def _num_shareable(sequence: Sequence) -> int:
    """Full blocks that another sequence may have stored; at least one token is always read."""
    return (sequence.num_tokens - 1) // BLOCK_TOKENS
