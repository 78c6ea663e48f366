"""The most likely token of each row, written where the next step reads it. Shapes: B rows, V vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor

from audioflamingo.model.kernels.availability import runs_triton

_CHUNK = 4096


def advance_greedily(logits: Tensor, tokens: Tensor, lengths: Tensor, most_positions: int) -> None:
    """Put the first of each row's highest logits into `tokens`, and lengthen every row by one, both in place.

    A row of which no logit is a number gets token 0.

    Args:
        logits: (B, V).
        tokens: (B,) int64.
        lengths: (B,) int32, no longer than `most_positions` afterwards.
        most_positions: what a row's table has room for.
    """
    if not runs_triton(logits):
        tokens.copy_((logits == logits.amax(-1, keepdim=True)).to(torch.uint8).argmax(-1))
        lengths.add_(1).clamp_(max=most_positions)
        return
    from audioflamingo.model.kernels.jit.greedy import advance_kernel, chunk_maximum_kernel

    logits = logits.contiguous()
    num_rows, vocab_size = logits.shape
    num_chunks = -(-vocab_size // _CHUNK)
    highest = logits.new_empty((num_rows, num_chunks), dtype=torch.float32)
    where = logits.new_empty((num_rows, num_chunks), dtype=torch.int32)
    chunk_maximum_kernel[(num_rows, num_chunks)](logits, highest, where, vocab_size, num_chunks, BLOCK=_CHUNK)
    advance_kernel[(num_rows,)](
        highest, where, tokens, lengths, vocab_size, num_chunks, most_positions,
        CHUNKS_BLOCK=1 << (num_chunks - 1).bit_length(), num_warps=1,
    )  # fmt: skip
