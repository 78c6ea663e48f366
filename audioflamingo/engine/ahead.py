"""Decode steps by captured graphs, one step ahead of what has been read where every answer is greedy.

A greedy step's tokens are on the device before anyone has seen them, so the next step can begin at once; reading the
tokens, their text and the schedule then cost the device no time. Where an answer turns out to have ended, its row of
the step ahead was for nothing: what it stored lies behind all that counts, and a later owner of the block writes over
it, in the order of the device's queue.
"""

from __future__ import annotations

from collections.abc import Sequence as Rows
from dataclasses import dataclass

import torch
from torch import Tensor

from audioflamingo.engine.blocks import SCRATCH_BLOCK
from audioflamingo.engine.graphs import GraphDecoder
from audioflamingo.engine.kv_cache import DecodeBatch, PagedCache
from audioflamingo.engine.scheduler import Chunk
from audioflamingo.engine.sequence import Sequence
from audioflamingo.model.flamingo import Flamingo
from audioflamingo.model.placing import sent


@dataclass(frozen=True)
class _Step:
    """A launched step.

    Attributes:
        row_of: each sequence's row, and the positions that it had with the token that the step took in.
        tokens: (B,) int64 on the CPU, there once `is_done` has passed.
        is_done: passed by a GPU's queue behind the copy of the tokens.
    """

    row_of: dict[Sequence, tuple[int, int]]
    tokens: Tensor
    is_done: torch.cuda.Event | None

    def serves(self, chunks: Rows[Chunk]) -> bool:
        """Whether it took in just these tokens, and maybe others."""
        return all(self.row_of.get(chunk.sequence, (0, 0))[1] == chunk.end for chunk in chunks)

    def read(self, chunks: Rows[Chunk]) -> list[int]:
        """The next token of each chunk's sequence; waits for the device."""
        if self.is_done is not None:
            self.is_done.synchronize()
        tokens: list[int] = self.tokens.tolist()
        return [tokens[self.row_of[chunk.sequence][0]] for chunk in chunks]


class GraphWriter:
    """Writes tokens with a `GraphDecoder`."""

    def __init__(self, model: Flamingo, cache: PagedCache) -> None:
        self._graphs = GraphDecoder(model, cache)
        self._device = cache.device
        self._last: _Step | None = None  # whose rows are in the decoder's buffers
        self._ahead: _Step | None = None
        self._num_blocks = 0  # of all rows at the last launch

    def logits(self, chunks: Rows[Chunk]) -> Tensor:
        """(B, V) logits after the last tokens of answers."""
        self._last = self._ahead = None
        sequences = [chunk.sequence for chunk in chunks]
        lengths = [chunk.end for chunk in chunks]
        self._num_blocks = sum(len(one.blocks) for one in sequences)
        batch = DecodeBatch.of(
            [one.last_token for one in sequences], [one.blocks for one in sequences], lengths, self._device
        )
        return self._graphs.step(batch, max(lengths))

    def tokens(self, chunks: Rows[Chunk], *, goes_on: bool) -> list[int]:
        """The likeliest token of each answer.

        Args:
            chunks: last tokens of answers.
            goes_on: whether all of them hold a block for one more position and nothing else is to be done before it.
        """
        step = self._ahead
        self._ahead = None
        if step is None or not step.serves(chunks):
            self.logits(chunks)
            step = self._launched([(chunk.sequence, chunk.end) for chunk in chunks])
        if goes_on and self._last is step and len(step.row_of) == len(chunks):
            self._graphs.step_on(self._tables(chunks))
            self._ahead = self._launched([(chunk.sequence, chunk.end + 1) for chunk in chunks])
        return step.read(chunks)

    def _launched(self, rows: list[tuple[Sequence, int]]) -> _Step:
        """The step that was launched just now, with its tokens on their way to the CPU."""
        is_done: torch.cuda.Event | None = None
        if self._device.type == "cuda":
            tokens = torch.empty(len(rows), dtype=torch.int64, pin_memory=True)
            tokens.copy_(self._graphs.greedy, non_blocking=True)
            is_done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            is_done.record()
        else:
            tokens = self._graphs.greedy.clone()
        row_of = {sequence: (row, length) for row, (sequence, length) in enumerate(rows)}
        self._last = _Step(row_of, tokens, is_done)
        return self._last

    def _tables(self, chunks: Rows[Chunk]) -> Tensor | None:
        """(B, blocks) int32, where a sequence has got a block since the last launch."""
        tables = [chunk.sequence.blocks for chunk in chunks]
        num_blocks = sum(map(len, tables))
        if num_blocks == self._num_blocks:
            return None
        self._num_blocks = num_blocks
        widest = max(map(len, tables))
        padded = [[*table, *[SCRATCH_BLOCK] * (widest - len(table))] for table in tables]
        return sent(torch.tensor(padded, dtype=torch.int32), self._device)
