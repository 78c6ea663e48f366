"""Which tokens of a written-out conversation the loss is taken on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

LabelScope = Literal["assistant", "reference"]
IGNORED = -100


def assistant_mask(ids: Tensor, opening: Sequence[int], end: int) -> Tensor:
    """Marks the assistant's words and the token that ends them.

    Args:
        ids: (B, T) token ids, padded on either side.
        opening: ids that open a message of the assistant, up to and with the newline after the role.
        end: id that closes a message.

    Returns:
        (B, T) bool. An answer that is not closed counts to the end of its row.
    """
    mask = torch.zeros_like(ids, dtype=torch.bool)
    size = len(opening)
    wanted = torch.tensor(opening, device=ids.device)
    if ids.shape[1] < size:
        return mask
    starts = (ids.unfold(1, size, 1) == wanted).all(-1)
    for row, start in starts.nonzero().tolist():
        first = start + size
        ends = (ids[row, first:] == end).nonzero()
        last = first + int(ends[0]) + 1 if len(ends) else ids.shape[1]
        mask[row, first:last] = True
    return mask


def labels_of(ids: Tensor, attention_mask: Tensor, learned: Tensor | None, ignored_ids: Sequence[int]) -> Tensor:
    """Labels for next-token cross entropy.

    Args:
        ids: (B, T).
        attention_mask: (B, T), 0 at padding.
        learned: (B, T) bool, tokens that the loss is taken on; None takes all but the ignored.
        ignored_ids: ids that never count, such as placeholders.

    Returns:
        (B, T) ids with -100 where no loss is taken.
    """
    keep = attention_mask.bool() if learned is None else attention_mask.bool() & learned
    for ignored in ignored_ids:
        keep = keep & (ids != ignored)
    return ids.masked_fill(~keep, IGNORED)
