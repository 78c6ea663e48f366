"""One entry to attention over packed sequences, several kernels behind it, and a context manager to force one.

Sequences of different lengths lie one after another in one tensor, (N, H, Dh) with N the sum of their lengths, so that
none is ever padded. Kernels:

* ``sdpa``: torch's scaled_dot_product_attention; one batched call when all lengths are equal, else one call a sequence.
* ``varlen``: torch's built-in FlashAttention over packed sequences (CUDA, fp16 and bf16).
* ``flash_attn``: the flash-attn package, where installed (CUDA, fp16 and bf16).
* ``eager``: the formula itself; the slow twin that the others are tested against.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from audioflamingo.errors import OptionError

SDPA_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
Kernel = Literal["auto", "sdpa", "varlen", "flash_attn", "eager"]
_Kernel = Callable[[Tensor, Tensor, Tensor, bool], Tensor]  # over one batch, (B, T, H, Dh)


@dataclass
class _Choice:
    """What `attention_kernel` forces: one for all threads, a plain attribute because torch.compile guards those."""

    kernel: Kernel = "auto"


_forced = _Choice()


@dataclass(frozen=True)
class Packing:
    """Lengths of the sequences that lie one after another in a packed tensor."""

    lengths: tuple[int, ...]
    device: torch.device

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Packing:
        """Packing of the given lengths, each at least 1."""
        assert all(length > 0 for length in lengths), lengths
        return cls(tuple(lengths), device)

    @property
    def total(self) -> int:
        """N, the sum of the lengths."""
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        """The largest length."""
        return max(self.lengths)

    @property
    def is_uniform(self) -> bool:
        """Whether all lengths are equal, so that the packed tensor is a plain batch."""
        return len(set(self.lengths)) == 1

    @cached_property
    def offsets(self) -> Tensor:
        """(B + 1,) int32 running sum of the lengths, from 0, on `device`."""
        ends = torch.tensor((0, *self.lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
        return ends.to(self.device)

    @cached_property
    def positions(self) -> Tensor:
        """(N,) int64 position of every element within its own sequence, on `device`."""
        return torch.cat([torch.arange(length) for length in self.lengths]).to(self.device)


@contextmanager
def attention_kernel(kernel: Kernel) -> Iterator[None]:
    """Force one kernel within the block, in all threads, for tests and comparisons.

    Raises:
        OptionError: an unknown name, or a package that is not installed.
    """
    if kernel not in get_args(Kernel):
        raise OptionError(f"unknown attention kernel {kernel!r}; allowed: {', '.join(get_args(Kernel))}")
    if kernel == "flash_attn" and not has_flash_attn():
        raise OptionError("attention kernel 'flash_attn' needs the flash-attn package, which is not installed")
    previous, _forced.kernel = _forced.kernel, kernel
    try:
        yield
    finally:
        _forced.kernel = previous


def has_flash_attn() -> bool:
    """Whether the flash-attn package can be imported."""
    return importlib.util.find_spec("flash_attn") is not None


def attend(query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool) -> Tensor:
    """Attention of every sequence to itself.

    Args:
        query: (N, H, Dh).
        key: (N, Hkv, Dh); H is a multiple of Hkv, whose heads are shared by neighbouring query heads.
        value: like key.
        packing: lengths of the sequences within N.
        causal: whether an element sees only itself and what is before it in its sequence.

    Returns:
        (N, H, Dh), same dtype.
    """
    kernel = _choose(query, packing)
    if kernel == "varlen":
        return _varlen(query, key, value, packing, causal)
    if kernel == "flash_attn":
        return _flash_attn(query, key, value, packing, causal)
    one = _eager if kernel == "eager" else _sdpa
    if packing.is_uniform:
        return _batched(one, query, key, value, packing, causal)
    lengths = list(packing.lengths)
    parts = zip(torch.split(query, lengths), torch.split(key, lengths), torch.split(value, lengths), strict=True)
    return torch.cat([one(q[None], k[None], v[None], causal)[0] for q, k, v in parts])


def _choose(query: Tensor, packing: Packing) -> Kernel:
    if _forced.kernel != "auto":
        return _forced.kernel
    half = query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)
    return "varlen" if half and not packing.is_uniform else "sdpa"


def _batched(one: _Kernel, query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool) -> Tensor:
    batch = [x.view(len(packing.lengths), -1, *x.shape[1:]) for x in (query, key, value)]
    return one(batch[0], batch[1], batch[2], causal).flatten(0, 1)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    heads_first = (x.transpose(1, 2) for x in (query, key, value))
    return scaled_dot_product(*heads_first, causal=causal).transpose(1, 2)


def scaled_dot_product(
    query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False, mask: Tensor | None = None
) -> Tensor:
    """Torch's own attention over a batch, without cuDNN's kernel.

    Args:
        query: (B, H, T, Dh).
        key: (B, Hkv, S, Dh).
        value: like key.
        causal: whether a query sees only keys up to its own position.
        mask: bool, broadcast to (B, H, T, S), true where a query sees a key.

    Returns:
        (B, H, T, Dh).
    """
    run = functional.scaled_dot_product_attention
    shared = key.shape[1] != query.shape[1]
    if not query.is_cuda:
        return run(query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=shared)
    # cuDNN plans anew for every shape it has not met, 100 ms each on an H100, and here nearly every shape is new: a
    # decode step has one key more than the last. The switch is for this call alone; the program's own setting stays.
    with sdpa_kernel(list(SDPA_BACKENDS)):
        return run(query, key, value, attn_mask=mask, is_causal=causal, enable_gqa=shared)


def _eager(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    groups = query.shape[2] // key.shape[2]
    key, value = key.repeat_interleave(groups, 2), value.repeat_interleave(groups, 2)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.softmax(-1, dtype=wide).to(query.dtype)
    return torch.einsum("bhqk,bkhd->bqhd", weights, value)


def _varlen(query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # the built-in entry takes equal head counts in every supported torch
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    # A window of (-1, 0) is how every supported torch spells causal.
    window = (-1, 0) if causal else (-1, -1)
    out = varlen_attn(
        query.contiguous(), key.contiguous(), value.contiguous(),
        packing.offsets, packing.offsets, packing.longest, packing.longest, window_size=window,
    )  # fmt: skip
    assert isinstance(out, Tensor)
    return out


def _flash_attn(query: Tensor, key: Tensor, value: Tensor, packing: Packing, causal: bool) -> Tensor:
    from flash_attn import flash_attn_varlen_func  # type: ignore[import-not-found,unused-ignore]

    out = flash_attn_varlen_func(
        query, key, value, packing.offsets, packing.offsets, packing.longest, packing.longest, causal=causal
    )
    assert isinstance(out, Tensor)
    return out
