"""The most likely token of each row, and the step to the next one. Shapes: B rows, V vocabulary, C chunks of it."""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803, D103
from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def chunk_maximum_kernel(logits_ptr, highest_ptr, where_ptr, vocab_size, num_chunks, BLOCK: tl.constexpr):
    row, chunk = tl.program_id(0).to(tl.int64), tl.program_id(1)
    cols = chunk * BLOCK + tl.arange(0, BLOCK)
    logits = tl.load(logits_ptr + row * vocab_size + cols, mask=cols < vocab_size, other=float("-inf")).to(tl.float32)
    highest, at = tl.max(logits, axis=0, return_indices=True)
    tl.store(highest_ptr + row * num_chunks + chunk, highest)
    tl.store(where_ptr + row * num_chunks + chunk, chunk * BLOCK + at)


@triton.jit
def advance_kernel(
    highest_ptr, where_ptr, tokens_ptr, lengths_ptr, vocab_size, num_chunks, most_positions,
    CHUNKS_BLOCK: tl.constexpr,
):  # fmt: skip
    """The first of the highest logits becomes the row's token, and the row is one position longer.

    Where none is a number it is token 0, as in the twin: any other than one of the vocabulary would stop the device.
    """
    row = tl.program_id(0)
    chunks = tl.arange(0, CHUNKS_BLOCK)
    inside = chunks < num_chunks
    highest = tl.load(highest_ptr + row * num_chunks + chunks, mask=inside, other=float("-inf"))
    where = tl.load(where_ptr + row * num_chunks + chunks, mask=inside, other=2147483647)
    token = tl.min(tl.where(highest == tl.max(highest, axis=0), where, 2147483647), axis=0)
    token = tl.where(token < vocab_size, token, 0)
    tl.store(tokens_ptr + row, token.to(tl.int64))
    length = tl.load(lengths_ptr + row)
    tl.store(lengths_ptr + row, tl.minimum(length + 1, most_positions))
