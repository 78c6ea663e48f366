"""Which weights a model has, told by a few values of every tensor: what an adapter keeps of the base it was trained on.

An adapter is a change to certain weights; on others it is noise, and nothing in its shapes tells. Four values of every
tensor, at places that its shape alone decides, are read in milliseconds from a model of any size, wherever it lies, and
are kept with the adapter. Values, not a digest of them, because the same weights come in many forms:

* in another floating dtype they differ by one rounding, and `ROUNDING` allows for the coarsest (bf16); whatever bf16
  holds is the same in fp32 to the last bit;
* in int8, int4 or fp8 they differ by up to a step of the scheme, which is known for every value and allowed for;
* in forms that this package cannot read (another library's few bits) or places that it cannot see (the meta device,
  shards elsewhere) there is nothing to compare, and the tensors that can be read decide.

Shapes: T tensors, in the order of their names; K values of each.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from audioflamingo.model.flamingo import Flamingo

VALUES_PER_TENSOR = 4  # K
ROUNDING = 2.0**-7  # a unit in the last place of bf16: one rounding to it and one to fp16
SMALLEST = 2.0**-24  # the least that fp16 holds
LAYOUT_DIGITS = 16
VERSION = 1


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """A few values of every tensor.

    Attributes:
        layout: digest of the tensors' names.
        values: (T, K) fp32 on the CPU; NaN where a value could not be read.
        slack: (T, K) fp32: how far a value may be from the one that was stored before it was put in few bits.
        names: of the tensors; empty where they are not known, as in what was stored.
    """

    layout: str
    values: Tensor
    slack: Tensor
    names: tuple[str, ...] = ()

    @property
    def digest(self) -> bytes:
        """(32 bytes) of the values as bf16 has them, so that fp32 weights and their bf16 form have the same."""
        return sha256(self.layout.encode() + self.values.bfloat16().float().numpy().tobytes()).digest()

    @property
    def is_empty(self) -> bool:
        """Whether no value at all could be read."""
        return bool(self.values.isnan().all())

    def differing(self, stored: Fingerprint) -> list[str]:
        """Names of the tensors whose values are others than the stored ones; all names where the layout differs."""
        if stored.layout != self.layout or stored.values.shape != self.values.shape:
            return list(self.names)
        ours, theirs = self.values, stored.values
        allowed = ROUNDING * torch.maximum(ours.abs(), theirs.abs()) + SMALLEST + self.slack + stored.slack
        is_other = ((ours - theirs).abs() > allowed).any(1)  # no comparison with NaN is true
        return [name for name, other in zip(self.names, is_other.tolist(), strict=True) if other]

    def dumps(self) -> str:
        """As one line of JSON."""
        values = base64.b64encode(self.values.numpy().astype("<f4").tobytes()).decode()
        return json.dumps({"version": VERSION, "layout": self.layout, "values": values})

    @classmethod
    def loads(cls, text: str) -> Fingerprint:
        """What `dumps` wrote.

        Raises:
            ValueError: it is something else.
        """
        found = json.loads(text)
        if not isinstance(found, dict) or found.get("version") != VERSION or not isinstance(found.get("layout"), str):
            raise ValueError(f"not a fingerprint of version {VERSION}")
        flat = np.frombuffer(base64.b64decode(str(found.get("values")), validate=True), "<f4").astype(np.float32)
        if len(flat) % VALUES_PER_TENSOR:
            raise ValueError(f"{len(flat)} values are no multiple of {VALUES_PER_TENSOR}")
        values = torch.from_numpy(flat).view(-1, VALUES_PER_TENSOR)
        return cls(found["layout"], values, torch.zeros_like(values))


def fingerprint(model: Flamingo) -> Fingerprint:
    """Of the weights that a model was loaded with; adapters worked in or trained on top do not count."""
    return model.fingerprint or taken(_own_tensors(model), _in_few_bits(model))


@torch.no_grad()
def taken(tensors: Mapping[str, Tensor], in_few_bits: Mapping[str, nn.Module] | None = None) -> Fingerprint:
    """The fingerprint of tensors.

    Args:
        tensors: by our names.
        in_few_bits: by the names of their weights, layers that hold `codes` and `scale` instead.
    """
    layers = in_few_bits or {}
    names = sorted({*tensors, *layers})
    values, slack = [], []
    for name in names:
        found = _widened(layers[name]) if name in layers else _sampled(tensors[name])
        values.append(found[0])
        slack.append(found[1])
    layout = sha256("\n".join(names).encode()).hexdigest()[:LAYOUT_DIGITS]
    return Fingerprint(layout, _gathered(values), _gathered(slack), tuple(names))


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The base's tensors by name; of adapters in training, what they stand on."""
    found = {name.replace(".base.", "."): tensor for name, tensor in model.state_dict().items()}
    return {name: tensor for name, tensor in found.items() if not name.endswith((".lora_a", ".lora_b", *_FEW_BITS))}


def _in_few_bits(model: nn.Module) -> dict[str, nn.Module]:
    modules = ((name, module) for name, module in model.named_modules() if hasattr(module, "codes"))
    return {f"{name.removesuffix('.base')}.weight": module for name, module in modules}


_FEW_BITS = (".codes", ".scale")


def _sampled(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """(K,) values of a tensor in fp32, on its device; NaN where it has none or they are somewhere else."""
    plain = tensor.data  # of a parameter; shards and other libraries' few bits are of types of their own
    if type(plain) is not Tensor or not plain.is_floating_point() or plain.is_meta or not plain.numel():
        return torch.full((VALUES_PER_TENSOR,), torch.nan), torch.zeros(VALUES_PER_TENSOR)
    values = plain[_places(plain.shape)].float()
    return values, torch.zeros_like(values)


def _widened(layer: Any) -> tuple[Tensor, Tensor]:
    """(K,) values that the codes of a layer stand for, and how far each may be from the weight that it was made of."""
    from audioflamingo.model.quantize.schemes import GROUP, dequantize_int4, dequantize_rows

    scheme = getattr(layer, "scheme", "int8")
    width = layer.codes.shape[1] * (2 if scheme == "int4" else 1)
    rows, columns = _places((layer.codes.shape[0], width))
    scale = layer.scale[rows].float()
    if scheme == "int4":
        wide = dequantize_int4(layer.codes[rows], layer.scale[rows], torch.float32)
        step = scale.gather(1, torch.tensor(columns, device=scale.device)[:, None] // GROUP)[:, 0].abs()
    else:
        wide, step = dequantize_rows(layer.codes[rows], scale, torch.float32), scale
    values = wide.gather(1, torch.tensor(columns, device=wide.device)[:, None])[:, 0]
    return values, _SLACK[scheme](step, values)


_SLACK: Mapping[str, Any] = {
    "int8": lambda step, _: step,  # half a step, and half again for weights that were rounded before
    "int4": lambda step, _: 3 * step,  # the largest of a group may be clipped by up to 2.3 steps
    "fp8": lambda step, values: values.abs() / 8 + step / 128,  # three bits behind the point; below them, steps
}


def _places(shape: Sequence[int]) -> tuple[list[int], ...]:
    """Indices of K values, spread evenly over a tensor of this shape."""
    total = int(np.prod(shape, dtype=np.int64))
    flat = [(2 * number + 1) * total // (2 * VALUES_PER_TENSOR) for number in range(VALUES_PER_TENSOR)]
    return tuple(index.tolist() for index in np.unravel_index(flat, tuple(shape)))


def _gathered(rows: Sequence[Tensor]) -> Tensor:
    """(T, K) on the CPU of T times (K,), with one transfer a device."""
    out = torch.empty(len(rows), VALUES_PER_TENSOR)
    for device in {row.device for row in rows}:
        own = [number for number, row in enumerate(rows) if row.device == device]
        out[own] = torch.stack([rows[number] for number in own]).cpu()
    return out
