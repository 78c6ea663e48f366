"""Layers of a frozen decoder, with or without adapters, written so that their backward pass keeps and does little.

What autograd would do by itself and what is left out here:

* the weights are frozen: only the gradient of the input is ever formed, and weights in few bits are widened anew in the
  backward pass instead of being kept;
* queries, keys and values (and gate and up) read the same input: their adapters share one product, one dropout mask,
  one sum of gradients;
* the mask is drawn again from its seed; the gated product is computed again from gate and up, some rows at a time.

Each keeps what `LoraLinear` in the plain decoder's modules would give, up to the order of sums and up to which elements
dropout hits. Shapes: N packed tokens, D width, F feed-forward width, R rank of all adapters of a group together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from audioflamingo.model.decoder import AttentionContext, Decoder, DecoderAttention, SwiGLU
from audioflamingo.train.lora import LoraLinear
from audioflamingo.train.pointwise import pointwise

CHUNK_ROWS = 4_096  # of the gated product: large enough for full speed, small enough to be no matter of memory


@dataclass(frozen=True)
class _Mask:
    """A dropout mask that is kept as its seed; elements are 0 or 1, the survivors' factor is the caller's business."""

    keep: float
    seed: int

    @classmethod
    def draw(cls, dropout: float, training: bool) -> _Mask | None:
        """From torch's own generator, so that a run's seed decides it; None where nothing is dropped."""
        if not training or not dropout:
            return None
        return cls(1 - dropout, int(torch.randint(1 << 62, ())))

    def generator(self, device: torch.device) -> torch.Generator:
        """At the start of the mask."""
        return torch.Generator(device).manual_seed(self.seed)

    def next(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """The mask's next rows."""
        if like.device.type != "cpu":
            return torch.empty_like(like).bernoulli_(self.keep, generator=generator)
        # A CPU draws its numbers one after another; 16 bits decide an element, and one draw serves four.
        drawn = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
        first_kept = round((1 - self.keep) * (1 << 16)) - (1 << 15)
        return (drawn.view(torch.int16)[: like.numel()].view(like.shape) >= first_kept).to(like.dtype)


def dense_weight(base: nn.Module, dtype: torch.dtype) -> Tensor:
    """(out, in) weight of a linear layer, widened where it is stored in few bits."""
    widen: Callable[[], Tensor] | None = getattr(base, "dequantize", None)
    weight = widen() if widen is not None else base.weight
    assert isinstance(weight, Tensor)
    return weight.to(dtype)


def _parts(linear: nn.Module) -> tuple[nn.Module, Tensor | None, Tensor | None]:
    """Base, A and B."""
    return (linear.base, linear.lora_a, linear.lora_b) if isinstance(linear, LoraLinear) else (linear, None, None)


class _Group(torch.autograd.Function):
    """Linear layers that read the same input: (N, in) to several (N, out)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, linears: Sequence[nn.Module], mask: _Mask | None, *adapters: Tensor
    ) -> tuple[Tensor, ...]:
        downs, ups = _pairs(adapters, x.dtype)
        narrow = _narrow(x, downs, mask)
        outs, pair = [], 0
        for linear in linears:
            base = _parts(linear)[0]
            out = functional.linear(x, dense_weight(base, x.dtype), _bias(base))
            if isinstance(linear, LoraLinear):
                out.addmm_(narrow[pair], ups[pair].T, alpha=_factor(linear, mask))
                pair += 1
            outs.append(out)
        ctx.save_for_backward(x, *narrow)
        ctx.linears, ctx.mask = linears, mask
        return tuple(outs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *narrow = ctx.saved_tensors
        adapted = [(g, linear) for g, linear in zip(grads, ctx.linears, strict=True) if isinstance(linear, LoraLinear)]
        inner = [g @ linear.lora_b.to(x.dtype) * _factor(linear, ctx.mask) for g, linear in adapted]
        found: list[Tensor | None] = []
        mask = None if ctx.mask is None or not adapted else ctx.mask.next(x, ctx.mask.generator(x.device))
        dropped = x if mask is None else mask * x
        for (g, linear), low, thin in zip(adapted, inner, narrow, strict=True):
            found += [low.T @ dropped, (g.T @ thin) * _factor(linear, ctx.mask)]
        del dropped
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = _input_gradient(grads, ctx.linears, x.dtype)
            if adapted:
                downs = torch.cat([linear.lora_a for _, linear in adapted]).to(x.dtype)
                _add_masked(gradient, torch.cat(inner, 1), downs, mask)
        return (gradient, None, None, *found)


class _GatedDown(torch.autograd.Function):
    """The end of SwiGLU: down(silu(gate) * up), (N, F) and (N, F) to (N, D)."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, linear: nn.Module, mask: _Mask | None, *adapters: Tensor) -> Tensor:
        base = _parts(linear)[0]
        weight = dense_weight(base, gate.dtype)
        downs, ups = _pairs(adapters, gate.dtype)
        generator = mask.generator(gate.device) if mask else None
        outs, narrows = [], []
        for some_gate, some_up in zip(*(torch.split(one, CHUNK_ROWS) for one in (gate, up)), strict=True):
            product = pointwise.gated(some_gate, some_up)
            out = functional.linear(product, weight, _bias(base))
            if isinstance(linear, LoraLinear):
                thin = (product.mul_(mask.next(product, generator)) if mask and generator else product) @ downs[0].T
                out.addmm_(thin, ups[0].T, alpha=_factor(linear, mask))
                narrows.append(thin)
            outs.append(out)
        ctx.save_for_backward(gate, up, *narrows)
        ctx.linear, ctx.mask = linear, mask
        return outs[0] if len(outs) == 1 else torch.cat(outs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up, *narrows = ctx.saved_tensors
        base, lora_a, lora_b = _parts(ctx.linear)
        weight = dense_weight(base, gate.dtype)
        gate_gradient, up_gradient = torch.empty_like(gate), torch.empty_like(up)
        sums = [torch.zeros_like(one) for one in (lora_a, lora_b) if one is not None]
        generator = ctx.mask.generator(gate.device) if ctx.mask else None
        pieces = (gate, up, grad, gate_gradient, up_gradient)
        for number, rows in enumerate(zip(*(torch.split(one, CHUNK_ROWS) for one in pieces), strict=True)):
            inner_gradient = rows[2] @ weight
            if lora_a is not None and lora_b is not None:
                product = pointwise.gated(rows[0], rows[1])
                mask = ctx.mask.next(product, generator) if ctx.mask else None
                low = rows[2] @ lora_b.to(gate.dtype) * _factor(ctx.linear, ctx.mask)
                sums[0] += low.T @ (product if mask is None else product.mul_(mask))
                sums[1] += (rows[2].T @ narrows[number]) * _factor(ctx.linear, ctx.mask)
                del product
                _add_masked(inner_gradient, low, lora_a.to(gate.dtype), mask)
            for place, found in zip(rows[3:], pointwise.gated_gradients(inner_gradient, *rows[:2]), strict=True):
                place.copy_(found)
        return (gate_gradient, up_gradient, None, None, *sums)


def _pairs(adapters: Sequence[Tensor], dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
    """A's and B's in the computing dtype."""
    short = [adapter.to(dtype) for adapter in adapters]
    return short[0::2], short[1::2]


def _bias(base: nn.Module) -> Tensor | None:
    bias = getattr(base, "bias", None)
    return bias if isinstance(bias, Tensor) else None


def _factor(linear: LoraLinear, mask: _Mask | None) -> float:
    return linear.scale / (mask.keep if mask else 1.0)


def _narrow(x: Tensor, downs: Sequence[Tensor], mask: _Mask | None) -> list[Tensor]:
    """(N, r) of every adapter in one product; contiguous, because each is read alone again."""
    if not downs:
        return []
    dropped = x if mask is None else mask.next(x, mask.generator(x.device)).mul_(x)
    together = dropped @ torch.cat(list(downs)).T
    return [thin.contiguous() for thin in torch.split(together, [len(down) for down in downs], 1)]


def _input_gradient(grads: Sequence[Tensor], linears: Sequence[nn.Module], dtype: torch.dtype) -> Tensor:
    gradient: Tensor | None = None
    for grad, linear in zip(grads, linears, strict=True):
        weight = dense_weight(_parts(linear)[0], dtype)
        gradient = grad @ weight if gradient is None else gradient.addmm_(grad, weight)
    assert gradient is not None
    return gradient


def _add_masked(gradient: Tensor, low: Tensor, down: Tensor, mask: Tensor | None) -> None:
    """What comes back through an adapter, added in place; the mask is used up."""
    if mask is None:
        gradient.addmm_(low, down)
    else:
        gradient.add_((low @ down).mul_(mask))


def _adapters(*linears: nn.Module) -> list[Tensor]:
    return [matrix for one in linears if isinstance(one, LoraLinear) for matrix in (one.lora_a, one.lora_b)]


def project(x: Tensor, *linears: nn.Module) -> tuple[Tensor, ...]:
    """(N, in) through frozen linear layers with the same input, each perhaps with its adapter: (N, out) of each."""
    dropout = max((one.dropout for one in linears if isinstance(one, LoraLinear)), default=0.0)
    mask = _Mask.draw(dropout, linears[0].training)
    out: tuple[Tensor, ...] = _Group.apply(x, linears, mask, *_adapters(*linears))  # type: ignore[no-untyped-call,unused-ignore]
    return out


class LeanAttention(nn.Module):
    """`DecoderAttention` over its own modules."""

    def __init__(self, plain: DecoderAttention) -> None:
        super().__init__()
        self.layer_index, self.num_heads, self.head_dim = plain.layer_index, plain.num_heads, plain.head_dim
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = plain.q_proj, plain.k_proj, plain.v_proj, plain.o_proj

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, context: AttentionContext, rows: Tensor | None = None
    ) -> Tensor:
        """(N, D) to (N, D), or of N only the (R,) rows that are wanted: (R, D)."""
        heads = (x.shape[0], -1, self.head_dim)
        query, key, value = (one.view(heads) for one in project(x, self.q_proj, self.k_proj, self.v_proj))
        turn = pointwise.rotate
        heard = context.attend(self.layer_index, turn(query, cos, sin), turn(key, cos, sin), value)
        return project(heard.flatten(1) if rows is None else heard[rows].flatten(1), self.o_proj)[0]


class LeanSwiGLU(nn.Module):
    """`SwiGLU` over its own modules."""

    def __init__(self, plain: SwiGLU) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = plain.gate_proj, plain.up_proj, plain.down_proj

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) to (N, D)."""
        gate, up = project(x, self.gate_proj, self.up_proj)
        down = self.down_proj
        mask = _Mask.draw(getattr(down, "dropout", 0.0), self.training)
        out: Tensor = _GatedDown.apply(gate, up, down, mask, *_adapters(down))  # type: ignore[no-untyped-call,unused-ignore]
        return out


def make_lean(decoder: Decoder) -> None:
    """Replace the parts of a frozen decoder's layers; names of parameters stay.

    Weights of the decoder itself must not be trained: they get no gradient from here on.
    """
    for layer in decoder.layers:
        layer.self_attn = LeanAttention(layer.self_attn)  # type: ignore[arg-type]
        layer.mlp = LeanSwiGLU(layer.mlp)  # type: ignore[arg-type]
