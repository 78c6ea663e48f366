"""One entry to attention over packed sequences, several kernels behind it, and a context manager to force one.

Sequences of different lengths lie one after another in one tensor, (N, H, Dh) with N the sum of their lengths, so that
none is ever padded. Kernels:

* ``sdpa``: torch's scaled_dot_product_attention; one batched call when all lengths are equal, else one call a sequence.
* ``packed``: our own over packed sequences, on a Hopper the fastest but for one long causal one (fp16 and bf16,
  without gradients).
* ``varlen``: torch's built-in FlashAttention over packed sequences (CUDA, fp16 and bf16).
* ``cudnn``: torch's cuDNN backend, the fastest for one long sequence on a Hopper, padded so that few shapes ever come.
* ``flash_attn``: a package of FlashAttention, where one is installed for the card (fp16 and bf16).
* ``eager``: the formula itself; the slow twin that the others are tested against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from audioflamingo.errors import OptionError
from audioflamingo.model.flash_packages import PACKAGES, attend_flash, installed, package_for
from audioflamingo.model.kernels import tuning
from audioflamingo.model.kernels.packed_attention import attend_packed, takes_packed
from audioflamingo.model.placing import sent

SDPA_BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
Kernel = Literal["auto", "sdpa", "packed", "varlen", "cudnn", "flash_attn", "eager"]
CUDNN_MULTIPLE = 1024  # cuDNN plans for 100 ms for every new shape, so lengths are padded up to few
TRIAL_TOKENS = 8192
CUDNN_FROM = 4096  # tokens of a sequence; below, the plan costs more than it will save
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
        return sent(ends, self.device)

    @cached_property
    def positions(self) -> Tensor:
        """(N,) int64 position of every element within its own sequence, on `device`."""
        return sent(torch.cat([torch.arange(length) for length in self.lengths]), self.device)


class PaddedContext:
    """What tokens attend to whose `attend` also takes rows of padding behind them, see `num_padded`.

    Attributes:
        num_rows: that it takes without a copy, N or more; it gives N back.
    """

    num_rows: int


@contextmanager
def attention_kernel(kernel: Kernel) -> Iterator[None]:
    """Force one kernel within the block, in all threads, for tests and comparisons.

    Raises:
        OptionError: an unknown name, or a package that is not installed.
    """
    if kernel not in get_args(Kernel):
        raise OptionError(f"unknown attention kernel {kernel!r}; allowed: {', '.join(get_args(Kernel))}")
    if kernel == "flash_attn" and not has_flash_attn():
        names = ", ".join(package.name for package in PACKAGES)
        raise OptionError(f"attention kernel 'flash_attn' needs a package that is not installed: one of {names}")
    previous, _forced.kernel = _forced.kernel, kernel
    try:
        yield
    finally:
        _forced.kernel = previous


def has_flash_attn() -> bool:
    """Whether a package of FlashAttention is installed."""
    return bool(installed())


def attend(query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool) -> Tensor:
    """Attention of every sequence to itself.

    Args:
        query: (N, H, Dh); finite rows of padding may follow, see `num_padded`.
        key: (N, Hkv, Dh), likewise; H is a multiple of Hkv, whose heads are shared by neighbouring query heads.
        value: like key.
        packing: lengths of the sequences within N.
        causal: whether an element sees only itself and what is before it in its sequence.

    Returns:
        (N, H, Dh), same dtype.
    """
    kernel = _choose(query, packing, causal)
    assert causal or kernel != "cudnn"
    if kernel != "cudnn":
        query, key, value = (x[: packing.total] for x in (query, key, value))
    if kernel == "packed":
        return _packed(query, key, value, packing, causal=causal)
    if kernel == "varlen":
        return _flash_varlen(query, key, value, packing, packing, causal=causal)
    if kernel == "cudnn":
        return _cudnn(query, key, value, packing)
    if kernel == "flash_attn":
        return _flash_package(query, key, value, packing, causal=causal)
    one = _eager if kernel == "eager" else _sdpa
    if packing.is_uniform:
        return _batched(one, query, key, value, packing, causal=causal)
    lengths = list(packing.lengths)
    parts = zip(torch.split(query, lengths), torch.split(key, lengths), torch.split(value, lengths), strict=True)
    return torch.cat([one(q[None], k[None], v[None], causal)[0] for q, k, v in parts])


def num_padded(like: Tensor, packing: Packing) -> int:
    """Rows that causal `attend` wants of queries, keys and values, N or more; those that lack are added by copies.

    `like` is of their dtype and device.
    """
    return packing.total + (_padding(packing) if _choose(like, packing, causal=True) == "cudnn" else 0)


def _padding(packing: Packing) -> int:
    return -packing.total % CUDNN_MULTIPLE


def _choose(query: Tensor, packing: Packing, causal: bool) -> Kernel:
    if _forced.kernel != "auto":
        return _forced.kernel
    if not _takes_flash(query):
        return "sdpa"
    if causal and _is_long(packing) and _takes_cudnn(query.device):
        return _for_long(query.device, query.dtype)
    if takes_packed(query):
        return "packed"
    return "sdpa" if packing.is_uniform else "varlen"


def _is_long(packing: Packing) -> bool:
    return len(packing.lengths) == 1 and packing.total >= CUDNN_FROM


def _takes_flash(query: Tensor) -> bool:
    return query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)


def _takes_cudnn(device: torch.device) -> bool:
    """A Hopper's fastest kernel, which torch refuses where results have to repeat."""
    return _is_hopper(device) and not torch.are_deterministic_algorithms_enabled()


def _for_long(device: torch.device, dtype: torch.dtype) -> Kernel:
    """cuDNN's, or the installed package's where a trial says that it is faster: once, before the first long prompt."""
    package = package_for(device)
    if package is None or not package.is_ready or torch.cuda.is_current_stream_capturing():
        return "cudnn"
    kernels: tuple[Kernel, ...] = ("cudnn", "flash_attn")
    return tuning.best(("long prompts", device, dtype), kernels, _trial(device, dtype), device)


def _trial(device: torch.device, dtype: torch.dtype) -> Callable[[Kernel], Tensor]:
    """Causal attention of one sequence of the released decoder's heads, by kernel; inputs are made when it is used."""
    packing = Packing.of([TRIAL_TOKENS], device)

    @cache
    def inputs() -> list[Tensor]:
        return [torch.randn((TRIAL_TOKENS, heads, 128), dtype=dtype, device=device) for heads in (28, 4, 4)]

    def run(kernel: Kernel) -> Tensor:
        query, key, value = inputs()
        if kernel == "cudnn":
            return _cudnn(query, key, value, packing)
        return _flash_package(query, key, value, packing, causal=True)

    return run


@cache
def _is_hopper(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device)[0] == 9


def attend_with_prefix(
    query: Tensor, key: Tensor, value: Tensor, q_lengths: Sequence[int], k_lengths: Sequence[int]
) -> Tensor:
    """Causal attention of the last tokens of every sequence to the whole of it.

    Args:
        query: (Nq, H, Dh) of the last tokens of each sequence, packed.
        key: (Nk, Hkv, Dh) of all tokens of each sequence, packed.
        value: like key.
        q_lengths: queries of each sequence.
        k_lengths: keys of each, at least as many; the last query sees all of them, the one before it one less.

    Returns:
        (Nq, H, Dh), same dtype.
    """
    assert all(few <= many for few, many in zip(q_lengths, k_lengths, strict=True)), (q_lengths, k_lengths)
    if tuple(q_lengths) == tuple(k_lengths):
        return attend(query, key, value, Packing.of(q_lengths, query.device), causal=True)
    if _takes_flash(query) and _forced.kernel in ("auto", "varlen"):
        seen = Packing.of(k_lengths, query.device)
        return _flash_varlen(query, key, value, Packing.of(q_lengths, query.device), seen, causal=True)
    parts = zip(*map(torch.split, (query, key, value), map(list, (q_lengths, k_lengths, k_lengths))), strict=True)
    return torch.cat([_masked_prefix(*part) for part in parts])


def _masked_prefix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    num_past = key.shape[0] - query.shape[0]
    mask = torch.ones((query.shape[0], key.shape[0]), dtype=torch.bool, device=query.device).tril(num_past)
    heads_first = (x.transpose(0, 1)[None] for x in (query, key, value))
    return scaled_dot_product(*heads_first, mask=mask)[0].transpose(0, 1)


def _batched(one: _Kernel, query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool) -> Tensor:
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


def _packed(query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool) -> Tensor:
    offsets = None if packing.is_uniform else packing.offsets
    return attend_packed(query, key, value, packing.lengths, offsets, causal=causal)


def _flash_varlen(
    query: Tensor, key: Tensor, value: Tensor, queries: Packing, keys: Packing, *, causal: bool
) -> Tensor:
    """Torch's own FlashAttention below its public entry: key heads are shared without being repeated.

    Where there are fewer queries than keys, causal means aligned at the end, as FlashAttention 2 has it.
    """
    out = torch.ops.aten._flash_attention_forward(
        query, key, value, queries.offsets, keys.offsets, queries.longest, keys.longest, 0.0, causal, False
    )[0]
    assert isinstance(out, Tensor)
    return out


def _cudnn(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Causal attention of one sequence; keys of the padding lie behind every real query."""
    num_tokens = packing.total
    num_rows = num_tokens + _padding(packing)
    padded = (
        functional.pad(x, (0, 0, 0, 0, 0, num_rows - len(x))) if len(x) < num_rows else x for x in (query, key, value)
    )
    q, k, v = (x[None].transpose(1, 2) for x in padded)
    shared = query.shape[1] != key.shape[1]
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=shared)
    return out[0].transpose(0, 1)[:num_tokens]


def _flash_package(query: Tensor, key: Tensor, value: Tensor, packing: Packing, *, causal: bool) -> Tensor:
    package = package_for(query.device)
    if package is None:
        names = ", ".join(one.name for one in installed())
        raise OptionError(f"of FlashAttention {names} is installed, which is not made for {query.device}")
    return attend_flash(package, query, key, value, packing.offsets, packing.longest, causal=causal)
