"""Low-rank adapters (LoRA, Hu et al. 2021) that are switched on and off for single sequences of a running batch.

An adapted layer gives W x + scale * B A x. Rows that did not ask for the adapter are not touched at all, so their
results are those of the base model to the last bit. The weights of the model stay as they are; what is added hangs on
its layers as forward hooks. Shapes: N packed tokens, B sequences, D width, R rank, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audioflamingo.model.flamingo import Flamingo

EMBEDDING = "decoder.embed_tokens"
HEAD = "decoder.lm_head"


@dataclass(frozen=True, eq=False)
class LowRank:
    """What is added to one linear layer.

    Attributes:
        down: A, (R, inputs).
        up: B, (outputs, R).
        scale: alpha / R.
    """

    down: Tensor
    up: Tensor
    scale: float

    def delta(self, x: Tensor) -> Tensor:
        """What comes on top of the layer's own output: (N, inputs) to (N, outputs)."""
        return functional.linear(functional.linear(x, self.down), self.up) * self.scale


@dataclass(frozen=True, eq=False)
class Adapter:
    """One set of changes to a model.

    Attributes:
        low_rank: by the name of the linear layer, such as ``decoder.layers.0.self_attn.q_proj``.
        replaced: whole tables instead of the model's own, by the name of `EMBEDDING` or `HEAD`.
        style: how the adapter's thoughts are told from its answer, where its files say so.
    """

    low_rank: Mapping[str, LowRank]
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    style: str | None = None

    @property
    def num_parameters(self) -> int:
        """Numbers that it holds."""
        pairs = sum(pair.down.numel() + pair.up.numel() for pair in self.low_rank.values())
        return pairs + sum(table.numel() for table in self.replaced.values())


@dataclass(frozen=True)
class _Rows:
    """Where the adapter is on: indices into packed tokens and into sequences, None for everywhere."""

    tokens: Tensor | None
    sequences: Tensor | None


Change = Callable[[_Rows, Tensor, Tensor], Tensor]
"""The rows, a layer's input and its output, to the output that it is to have."""


class _Hook:
    """A change as a forward hook, which says whether it does anything now: what runs without hooks may, while not."""

    def __init__(self, owner: SwitchedAdapter, change: Change) -> None:
        self._owner, self._change = owner, change

    @property
    def is_off(self) -> bool:
        return self._owner.rows is None

    def __call__(self, _: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        rows = self._owner.rows
        return None if rows is None else self._change(rows, inputs[0], output)


class SwitchedAdapter:
    """An adapter on a model, off until `on` says for which sequences it is on.

    Attributes:
        rows: where it is on now; None is nowhere.
    """

    def __init__(self, model: Flamingo, adapter: Adapter) -> None:
        self.adapter = adapter
        self._device = model.device
        self.rows: _Rows | None = None
        modules = dict(model.named_modules())
        self._handles = [
            modules[name].register_forward_hook(_Hook(self, _replacing(table, name)))
            for name, table in adapter.replaced.items()
        ]
        self._handles += [
            modules[name].register_forward_hook(_Hook(self, _adding(pair, name)))
            for name, pair in adapter.low_rank.items()
        ]

    @contextmanager
    def on(self, lengths: Sequence[int], is_on: Sequence[bool]) -> Iterator[None]:
        """Within the block the model's packed rows of the marked sequences are adapted.

        Args:
            lengths: packed tokens of each sequence; 1 in a decode step.
            is_on: which sequences asked for it. The head is expected to see one row a sequence.
        """
        previous, self.rows = self.rows, self._marked(lengths, is_on)
        try:
            yield
        finally:
            self.rows = previous

    def remove(self) -> None:
        """Take it off the model."""
        for handle in self._handles:
            handle.remove()

    def _marked(self, lengths: Sequence[int], is_on: Sequence[bool]) -> _Rows | None:
        if not any(is_on):
            return None
        if all(is_on):
            return _Rows(None, None)
        marks = torch.tensor(list(is_on))
        tokens = marks.repeat_interleave(torch.tensor(list(lengths))).nonzero()[:, 0]
        return _Rows(tokens.to(self._device), marks.nonzero()[:, 0].to(self._device))


def _index(name: str, rows: _Rows) -> Tensor | None:
    return rows.sequences if name == HEAD else rows.tokens


def _adding(pair: LowRank, name: str) -> Change:
    def change(rows: _Rows, x: Tensor, output: Tensor) -> Tensor:
        index = _index(name, rows)
        if index is None:
            return output + pair.delta(x)
        return output.index_add(0, index, pair.delta(x[index]))

    return change


def _replacing(table: Tensor, name: str) -> Change:
    run = functional.linear if name == HEAD else functional.embedding

    def change(rows: _Rows, x: Tensor, output: Tensor) -> Tensor:
        index = _index(name, rows)
        if index is None:
            return run(x, table)
        return output.index_copy(0, index, run(x[index], table))

    return change


def merged(model: Flamingo, adapter: Adapter) -> dict[str, Tensor]:
    """The model's tensors with the adapter worked in: the slow twin of `SwitchedAdapter`, and what can be saved.

    A name that the adapter does not touch keeps the model's own tensor, not a copy.
    """
    tensors = dict(model.state_dict())
    for name, table in adapter.replaced.items():
        tensors[f"{name}.weight"] = table.to(tensors[f"{name}.weight"])
    for name, pair in adapter.low_rank.items():
        weight = tensors[f"{name}.weight"]
        tensors[f"{name}.weight"] = weight + (pair.up.to(weight) @ pair.down.to(weight)) * pair.scale
    return tensors
