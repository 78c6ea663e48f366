"""Attention while training: the quickest kernel for one long sequence, the usual ones for all else.

On a GPU cuDNN's kernel is the fastest for a long sequence, forward and backward, but it plans anew for every length it
has not met, about 0.1 s each. So lengths are rounded up: what is added stands behind all that is real, where a causal
sequence never looks. Its backward pass never gives the same bits twice, so it is left alone where they have to repeat.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from audioflamingo.model.attention import SDPA_BACKENDS
from audioflamingo.model.decoder import CausalContext

LONG_TOKENS = 4_096
ROUNDED_TO = 512  # 32 lengths up to 16k


@dataclass
class _Settings:
    """For the whole program; a benchmark compares."""

    cudnn: bool = True


settings = _Settings()


@dataclass(frozen=True)
class TrainingContext(CausalContext):
    """Whole sequences without a cache, as `CausalContext`."""

    def attend(self, layer_index: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `AttentionContext`."""
        is_long = len(self.packing.lengths) == 1 and self.packing.total >= LONG_TOKENS
        takes = settings.cudnn and not torch.are_deterministic_algorithms_enabled()
        if takes and is_long and query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
            return attend_rounded(query, key, value)
        return super().attend(layer_index, query, key, value)


def attend_rounded(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention of one sequence, (N, H, Dh) and twice (N, Hkv, Dh) to (N, H, Dh), at a rounded length."""
    num_tokens = len(query)
    added = -num_tokens % ROUNDED_TO
    padded = (functional.pad(one, (0, 0, 0, 0, 0, added)).transpose(0, 1)[None] for one in (query, key, value))
    queries, keys, values = padded
    shared = queries.shape[1] != keys.shape[1]
    if not query.is_cuda:
        out = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=shared)
    else:
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, *SDPA_BACKENDS], set_priority=True):
            out = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True, enable_gqa=shared)
    return out[0].transpose(0, 1)[:num_tokens]
