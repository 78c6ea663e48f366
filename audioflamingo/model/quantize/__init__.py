"""Weights in fewer bits: schemes and their errors, layers, products, and what a quantised model takes of memory."""

from __future__ import annotations

from torch import nn

from audioflamingo.model.quantize.schemes import SCHEMES, Scheme

__all__ = ["SCHEMES", "Scheme", "scheme_in_use"]


def scheme_in_use(model: nn.Module) -> Scheme | None:
    """The scheme that a model was loaded with, or None for a plain one."""
    found = {getattr(module, "scheme", None) for name, module in model.named_modules() if ".layers." in name}
    return next((scheme for scheme in ("int4", "fp8", "int8") if scheme in found), None)
