"""The layers of encoder and decoder over a step's sequences, with offsets that are a tensor: one program for all steps.

They compute what `model.encoder.EncoderLayer` and `model.decoder.DecoderLayer` do, with the same parameters (tested),
and know nothing that differs between layers, so that one compiled function serves them all.

On a Hopper attention is a kernel of ours; on other GPUs torch's FlashAttention over packed sequences; on a CPU a loop
over them, the slow twin.
`model.attention` knows lengths as numbers, which would be another program for every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from audioflamingo.model.decoder import rotate
from audioflamingo.model.kernels.availability import FIRST_HOPPER, has_triton
from audioflamingo.model.kernels.trained_attention import TRAINED_WIDTHS, attend_trained, tiles_of

Flavour = Literal["window", "causal", "aten"]
FLAVOURS: tuple[Flavour, ...] = get_args(Flavour)
CAUSAL_WINDOW, WHOLE_WINDOW = (-1, 0), (-1, -1)
CHECKED_OFFSETS = (0, 70, 73, 73)


@dataclass(frozen=True)
class Sequences:
    """Sequences one behind another.

    Attributes:
        offsets: (S + 1,) int32 where each begins; some of the last may be empty.
        longest: bound of their lengths.
        lengths: of the sequences, known on a CPU alone; empty on a GPU.
        flavour: of FlashAttention, see `flash_flavour`; means nothing on a CPU.
        tiles: where attention is ours, see `model.kernels.trained_attention`; else None.
    """

    offsets: Tensor
    longest: int
    lengths: tuple[int, ...]
    flavour: Flavour = "window"
    tiles: Tensor | None = None

    @classmethod
    def of(cls, offsets: Tensor, longest: int, num_rows: int, head_dim: int) -> Sequences:
        """From offsets; on a GPU nothing waits for their values."""
        if offsets.is_cuda and head_dim in TRAINED_WIDTHS and has_trained_attention(offsets.device):
            return cls(offsets, longest, (), tiles=tiles_of(offsets, num_rows))
        if offsets.is_cuda:
            return cls(offsets, longest, (), flash_flavour(offsets.device))
        return cls(offsets, longest, tuple(length for length in offsets.diff().tolist() if length))


def attend(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, *, causal: bool) -> Tensor:
    """(N, H, Dh) of queries (N, H, Dh) and keys and values (N, Hkv, Dh)."""
    if sequences.tiles is not None:
        return attend_trained(query, key, value, sequences.tiles, causal=causal)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if query.is_cuda:
        return _flash(query.contiguous(), key.contiguous(), value.contiguous(), sequences, causal)
    return _by_one(query, key, value, sequences.lengths, causal)


def _by_one(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], causal: bool) -> Tensor:
    heads_first = (torch.split(x.transpose(0, 1)[None], list(lengths), 2) for x in (query, key, value))
    run = functional.scaled_dot_product_attention
    parts = [run(q, k, v, is_causal=causal) for q, k, v in zip(*heads_first, strict=True)]
    return torch.cat(parts, 2)[0].transpose(0, 1)


def encoder_layer(layer: Any, x: Tensor, sequences: Sequences) -> Tensor:
    """(N, D) to (N, D): a pre-norm layer whose frames see their whole window."""
    attention = layer.self_attn
    inner = layer.self_attn_layer_norm(x)
    heads = (attention.num_heads, -1)
    query, key, value = (p(inner).unflatten(-1, heads) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    x = x + attention.out_proj(attend(query, key, value, sequences, causal=False).flatten(1))
    out: Tensor = x + layer.fc2(functional.gelu(layer.fc1(layer.final_layer_norm(x))))
    return out


def decoder_layer(layer: Any, x: Tensor, cos: Tensor, sin: Tensor, sequences: Sequences) -> Tensor:
    """(N, D) to (N, D): a pre-norm layer whose tokens see their sequence up to themselves."""
    attention = layer.self_attn
    inner = layer.input_layernorm(x)
    heads = (-1, attention.head_dim)
    query, key, value = (p(inner).unflatten(-1, heads) for p in (attention.q_proj, attention.k_proj, attention.v_proj))
    seen = attend(rotate(query, cos, sin), rotate(key, cos, sin), value, sequences, causal=True)
    x = x + attention.o_proj(seen.flatten(1))
    out: Tensor = x + layer.mlp(layer.post_attention_layernorm(x))
    return out


@dataclass(frozen=True)
class Layers:
    """The two functions, plain or compiled."""

    encoder: Callable[[Any, Tensor, Sequences], Tensor] = encoder_layer
    decoder: Callable[[Any, Tensor, Tensor, Tensor, Sequences], Tensor] = decoder_layer

    @classmethod
    def compiled(cls, backend: str = "inductor") -> Layers:
        """Each compiled once for all layers of its kind and for each shape of step."""
        compile_ = partial(torch.compile, dynamic=False, backend=backend)
        return cls(compile_(encoder_layer), compile_(decoder_layer))


def _flash(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, causal: bool) -> Tensor:
    offsets, longest = sequences.offsets, sequences.longest
    if sequences.flavour == "aten":
        below = torch.ops.aten._flash_attention_forward
        out = below(query, key, value, offsets, offsets, longest, longest, 0.0, causal, False)[0]
    else:
        from torch.nn.attention.varlen import varlen_attn

        by_window: dict[str, Any] = {"window_size": CAUSAL_WINDOW if causal else WHOLE_WINDOW}
        settings = by_window if sequences.flavour == "window" else {"is_causal": causal}
        out = varlen_attn(query, key, value, offsets, offsets, longest, longest, **settings)
    assert isinstance(out, Tensor)
    return out


@cache
def flash_flavour(device: torch.device) -> Flavour:
    """How this torch's FlashAttention over packed sequences is called: the first way that gives what it should.

    Its public entry has said "causal" in two ways over the releases; below it lies an operator that all of them have.
    """
    failures = []
    for flavour in FLAVOURS:
        try:
            _check_flash(flavour, device)
        except Exception as error:
            failures.append(f"{flavour}: {type(error).__name__}: {str(error)[:200]}")
        else:
            return flavour
    raise RuntimeError(f"FlashAttention over packed sequences does not work here; {'; '.join(failures)}")


@cache
def has_trained_attention(device: torch.device) -> bool:
    """Whether our attention is for this GPU, a Hopper; that it gives there what it should is looked at once."""
    if not has_triton() or torch.cuda.get_device_capability(device) != FIRST_HOPPER:
        return False
    tiles = tiles_of(torch.tensor(CHECKED_OFFSETS, dtype=torch.int32, device=device), CHECKED_OFFSETS[-1])
    _check(lambda query, key, value, causal: attend_trained(query, key, value, tiles, causal=causal), device)
    return True


def _check_flash(flavour: Flavour, device: torch.device) -> None:
    """See `_check`."""
    offsets = torch.tensor(CHECKED_OFFSETS, dtype=torch.int32, device=device)
    sequences = Sequences(offsets, 128, (), flavour)
    _check(lambda query, key, value, causal: _flash(query, key, value, sequences, causal), device)


def _check(run: Callable[[Tensor, Tensor, Tensor, bool], Tensor], device: torch.device) -> None:
    """Forward and backward over sequences of 70, 3 and no elements, against plain attention over each.

    Raises:
        Exception: whatever fails, or a difference.
    """
    torch.manual_seed(0)
    num = CHECKED_OFFSETS[-1]
    inputs = [torch.randn(num, 4, 64, device=device, dtype=torch.bfloat16, requires_grad=True) for _ in "qkv"]
    for causal in (True, False):
        query, key, value = inputs
        found = run(query, key, value, causal)
        wanted = _by_one(query, key, value, (70, 3), causal)
        weight = torch.randn_like(wanted)
        ours, theirs = (torch.autograd.grad((out * weight).sum(), inputs) for out in (found, wanted))
        for one, other in zip((found, *ours), (wanted, *theirs), strict=True):
            torch.testing.assert_close(one, other, atol=0.05, rtol=0.05)
