"""Kernels of the GPU's fast paths. Each has a twin in torch, in the same module, which also runs where Triton is not.

The modules here decide and launch; `jit` holds Triton's side, which is imported at first use only.
"""

from audioflamingo.model.kernels.availability import has_triton, kernel_switches
from audioflamingo.model.kernels.chunk_attention import SharedPages, attend_chunk
from audioflamingo.model.kernels.eight_bits import EightBits
from audioflamingo.model.kernels.elementwise import (
    Heads,
    Slots,
    gelu_in_place,
    half_tables,
    rotate_in_place,
    swiglu,
    tables_at,
)
from audioflamingo.model.kernels.gated import gated_linear
from audioflamingo.model.kernels.greedy import advance_greedily
from audioflamingo.model.kernels.linear import few_rows
from audioflamingo.model.kernels.norm import add_layer_norm, add_rms_norm, rms_norm
from audioflamingo.model.kernels.paged_attention import Pages, attend_paged
from audioflamingo.model.kernels.weight import Around, Weight

__all__ = [
    "Around",
    "EightBits",
    "Heads",
    "Pages",
    "SharedPages",
    "Slots",
    "Weight",
    "add_layer_norm",
    "add_rms_norm",
    "advance_greedily",
    "attend_chunk",
    "attend_paged",
    "few_rows",
    "gated_linear",
    "gelu_in_place",
    "half_tables",
    "has_triton",
    "kernel_switches",
    "rms_norm",
    "rotate_in_place",
    "swiglu",
    "tables_at",
]
