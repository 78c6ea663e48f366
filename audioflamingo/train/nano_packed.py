"""A plan as one line of bytes: what goes to another process, and to a device, in one piece."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from audioflamingo.train.nano_plan import Plan, Shape

ALIGNED = 256  # bytes; every part begins at a multiple, so that it can be seen as any dtype
ON_CPU = ("ctc_lengths", "ctc_label_lengths")  # what CTC reads on the CPU
NUMBERS = ("seconds", "num_sequences")


@dataclass(frozen=True, eq=False)
class PackedPlan:
    """A plan's tensors one behind another.

    Attributes:
        head: what JSON can hold: for each tensor [name, dtype, shape, first byte]; the plan's numbers; which shape.
        line: (bytes,) uint8 on the CPU.
    """

    head: dict[str, Any]
    line: Tensor

    @classmethod
    def of(cls, plan: Plan, *, is_long: bool) -> PackedPlan:
        """Copy a plan that is on the CPU; `is_long` tells which of two shapes it has."""
        parts: list[list[Any]] = []
        end = 0
        for one in fields(plan):
            value = getattr(plan, one.name)
            if isinstance(value, Tensor):
                parts.append([one.name, str(value.dtype).removeprefix("torch."), list(value.shape), end])
                end += -(-value.nbytes // ALIGNED) * ALIGNED
        numbers = {name: getattr(plan, name) for name in NUMBERS}
        packed = cls(
            {"parts": parts, "num_bytes": end, "is_long": is_long, **numbers}, torch.zeros(end, dtype=torch.uint8)
        )
        for name, *place in parts:
            _seen(packed.line, *place).copy_(getattr(plan, name))
        return packed

    def plan(self, shape: Shape, line: Tensor) -> Plan:
        """The plan, whose tensors are views of `line`, a copy of this one's on any device; two stay on the CPU."""
        values: dict[str, Any] = {name: self.head[name] for name in NUMBERS}
        for name, *place in self.head["parts"]:
            # Copies of what stays, so that pinned memory does not stay for as long as the plan does.
            values[name] = _seen(self.line, *place).clone() if name in ON_CPU else _seen(line, *place)
        return Plan(**values, shape=shape)


def _seen(line: Tensor, dtype: str, shape: list[int], first: int) -> Tensor:
    as_dtype: torch.dtype = getattr(torch, dtype)
    return line[first : first + math.prod(shape) * as_dtype.itemsize].view(as_dtype).view(shape)
