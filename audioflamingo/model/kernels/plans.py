"""Hand-picked ways of a linear layer over few rows, which `tuning` chooses from. M rows, N outputs, K inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audioflamingo.model.kernels.weight import GROUP

MAX_ROWS = 64
MAX_COLUMNS = 16  # rows that the matrix units take at once in the way "places"
_MANY_INPUTS = 8192
_FEW_OUTPUTS = 8192  # below this, BLOCK_N wide tiles alone do not fill a GPU


@dataclass(frozen=True)
class Plan:
    """One way.

    Attributes:
        way: matrix-vector on the plain units, the same over words of few-bit weights, narrow matrix product on the
            matrix units, the same over words of few-bit weights, whole numbers on the matrix units for one row, weights
            as they are stored on the matrix units for more, or torch's own.
        block_n: outputs of a program.
        block_k: inputs of a step; of "digits" 128 a warp.
        warps: of a program.
        stages: tiles of the weight under way at once; 1 is what a thread's registers hold, 0 that and the next one.
        splits: programs that share K.
        registers: of a thread at most; 0 for what the compiler likes.
    """

    way: Literal["vector", "words", "narrow", "places", "digits", "codes", "torch"]
    block_n: int = 0
    block_k: int = 0
    warps: int = 4
    stages: int = 1
    splits: int = 1
    registers: int = 0


TORCH = Plan("torch")


def _digits(warps: int, stages: int, registers: int = 0) -> Plan:
    return Plan("digits", 16, 128 * warps, warps, stages, registers=registers)


# The fastest on an H200, which needs no trial before its first use: by kind, rows, outputs and inputs of the 8 B model.
# Those for one row were the best within whole recorded steps, the others and those in the way "places" alone.
HOPPER: dict[tuple[str, int, int, int], Plan] = {
    ("plain", 1, 4608, 3584): Plan("vector", 4, 512),
    ("plain", 1, 3584, 3584): Plan("vector", 4, 4096, warps=8),
    ("plain", 1, 37_888, 3584): Plan("vector", 2, 4096, warps=8),
    ("plain", 1, 3584, 18_944): Plan("vector", 4, 1024),
    ("plain", 1, 151_672, 3584): Plan("vector", 8, 512, stages=4),
    ("plain", 8, 4608, 3584): TORCH,
    ("plain", 8, 3584, 3584): Plan("narrow", 64, 128, 4, 4, splits=4),
    ("plain", 8, 37_888, 3584): Plan("narrow", 64, 128, 4, 4),
    ("plain", 8, 3584, 18_944): Plan("narrow", 64, 128, 4, 4, splits=4),
    ("plain", 8, 151_672, 3584): Plan("narrow", 64, 128, 4, 4),
    ("plain", 64, 4608, 3584): TORCH,
    ("plain", 64, 3584, 3584): TORCH,
    ("plain", 64, 37_888, 3584): TORCH,
    ("plain", 64, 3584, 18_944): TORCH,
    ("plain", 64, 151_672, 3584): TORCH,
    ("fp8", 1, 4608, 3584): Plan("vector", 4, 4096),
    ("fp8", 1, 3584, 3584): Plan("vector", 8, 4096, warps=8),
    ("fp8", 1, 37_888, 3584): Plan("vector", 8, 512),
    ("fp8", 1, 3584, 18_944): Plan("vector", 4, 1024),
    ("fp8", 8, 4608, 3584): Plan("places", 64, 256, 4, 4),
    ("fp8", 8, 3584, 3584): Plan("codes", 64, 128, 4, 4, splits=4),
    ("fp8", 8, 37_888, 3584): Plan("codes", 64, 128, 4, 3),
    ("fp8", 8, 3584, 18_944): Plan("codes", 64, 128, 4, 4, splits=4),
    ("fp8", 64, 4608, 3584): Plan("codes", 64, 256, 4, 3),
    ("fp8", 64, 3584, 3584): Plan("codes", 64, 128, 4, 4, splits=4),
    ("fp8", 64, 37_888, 3584): Plan("codes", 64, 256, 4, 3),
    ("fp8", 64, 3584, 18_944): Plan("codes", 64, 128, 4, 4, splits=4),
    ("int8", 1, 4608, 3584): _digits(8, 4, registers=128),
    ("int8", 1, 3584, 3584): _digits(8, 4, registers=128),
    ("int8", 1, 37_888, 3584): _digits(4, 3),
    ("int8", 1, 3584, 18_944): _digits(8, 3, registers=128),
    ("int8", 1, 151_672, 3584): _digits(8, 4, registers=128),
    ("int8", 8, 4608, 3584): Plan("places", 64, 512, 4, 3),
    ("int8", 8, 3584, 3584): Plan("codes", 64, 128, 4, 4, splits=4),
    ("int8", 8, 37_888, 3584): Plan("codes", 64, 128, 4, 3),
    ("int8", 8, 3584, 18_944): Plan("codes", 64, 128, 4, 4, splits=4),
    ("int8", 8, 151_672, 3584): Plan("codes", 64, 128, 4, 3),
    ("int8", 64, 4608, 3584): Plan("codes", 64, 256, 4, 3),
    ("int8", 64, 3584, 3584): Plan("codes", 64, 128, 4, 4, splits=4),
    ("int8", 64, 37_888, 3584): Plan("codes", 64, 256, 4, 3),
    ("int8", 64, 3584, 18_944): Plan("codes", 64, 128, 4, 4, splits=4),
    ("int8", 64, 151_672, 3584): Plan("codes", 128, 128, 8, 3),
    ("int4", 1, 4608, 3584): _digits(4, 7, registers=168),
    ("int4", 1, 3584, 3584): _digits(8, 4, registers=128),
    ("int4", 1, 37_888, 3584): _digits(4, 3),
    ("int4", 1, 3584, 18_944): _digits(8, 3, registers=128),
    ("int4", 8, 4608, 3584): Plan("places", 64, 512, 4, 3),
    ("int4", 8, 3584, 3584): Plan("narrow", 64, 256, 4, 3, splits=4),
    ("int4", 8, 37_888, 3584): Plan("codes", 64, 128, 4, 3),
    ("int4", 8, 3584, 18_944): Plan("narrow", 64, 256, 4, 3, splits=4),
    ("int4", 64, 4608, 3584): Plan("narrow", 64, 128, 4, 4),
    ("int4", 64, 3584, 3584): Plan("codes", 128, 128, 8, 3, splits=4),
    ("int4", 64, 37_888, 3584): Plan("narrow", 64, 128, 4, 4),
    ("int4", 64, 3584, 18_944): Plan("codes", 128, 128, 8, 3, splits=4),
}


def known_plan(kind: str, num_rows: int, num_outputs: int, num_inputs: int) -> Plan | None:
    """What is known to be fast on an H200, or None.

    The kernels for up to 16 rows are the same, and reading the weight is what takes time in them; more rows take those
    for 64. So no batch has to wait for a trial while it grows.
    """
    like = 1 if num_rows == 1 else 8 if num_rows <= MAX_COLUMNS else MAX_ROWS
    found = (HOPPER.get((kind, rows, num_outputs, num_inputs)) for rows in (num_rows, like))
    return next((plan for plan in found if plan is not None), None)


def plans_for(kind: str, num_rows: int, num_outputs: int, num_inputs: int, is_gated: bool) -> list[Plan]:
    """Candidates, the likeliest first."""
    if num_rows == 1:
        plans = _for_one_row(kind, num_inputs, is_gated)
    elif num_rows <= MAX_COLUMNS:
        plans = _for_few_rows(kind, num_outputs)
    else:
        plans = _for_many_rows(kind, num_outputs, is_gated)
    if kind != "plain" and num_rows <= MAX_COLUMNS and num_inputs % GROUP == 0:
        plans += _by_places(kind, num_rows, is_gated)
    if kind in ("int8", "int4") and num_rows == 1 and num_inputs % GROUP == 0:
        plans = _by_digits(num_inputs) + plans
    if kind != "plain" and num_rows > 1 and num_inputs % GROUP == 0:
        plans = _by_codes(kind, num_outputs) + plans
    if kind == "int4":
        plans = [plan for plan in plans if plan.way == "words" or plan.block_k % GROUP == 0]
    return [*plans, TORCH] if kind == "plain" else plans


def _by_places(kind: str, num_rows: int, is_gated: bool) -> list[Plan]:
    """What was near the best of any layer; with more rows, more outputs a program, lest it read inputs most of all."""
    if num_rows == 1:
        return [Plan("places", 32, 512, 4, 4), Plan("places", 16, 512, 4, 4), Plan("places", 16, 512, 4, 6)]
    plans = [Plan("places", 32, 512, 4, 4), Plan("places", 64, 512, 4, 3)]
    if kind != "int4":  # a warp's share of which is a group at each step
        plans.append(Plan("places", 32 if is_gated else 64, 256, 4, 4))
    return plans


def _by_digits(num_inputs: int) -> list[Plan]:
    """With many inputs a program takes long to turn them into digits: more warps, or more of the weight under way."""
    if num_inputs > _MANY_INPUTS:
        return [_digits(4, 8), _digits(8, 3, registers=128), _digits(4, 10)]
    return [_digits(4, 3), _digits(4, 4), _digits(4, 7, registers=168), _digits(8, 4, registers=128)]


def _by_codes(kind: str, num_outputs: int) -> list[Plan]:
    """More outputs a program read the inputs less often, more programs keep more of the weight under way."""
    plans = [Plan("codes", 64, GROUP, 4, 3), Plan("codes", 128, GROUP, 8, 3)]
    if kind != "int4":  # whose steps are groups
        plans.append(Plan("codes", 64, 2 * GROUP, 4, 3))
    if num_outputs < _FEW_OUTPUTS:
        plans += [Plan("codes", 64, GROUP, 4, 4, splits=4), Plan("codes", 128, GROUP, 8, 3, splits=4)]
    return plans


def _for_one_row(kind: str, num_inputs: int, is_gated: bool) -> list[Plan]:
    rows = 4 if is_gated else 8
    words = [
        Plan("words", rows, 4096), Plan("words", 2 * rows, 2048), Plan("words", rows, 2048),
        Plan("words", rows, 4096, warps=8), Plan("words", rows // 2, 4096), Plan("words", 2 * rows, 1024),
    ]  # fmt: skip
    if kind == "int4":
        return words
    if kind == "plain":
        vectors = [
            Plan("vector", rows, 512), Plan("vector", rows // 2, 1024), Plan("vector", rows, 512, stages=4),
            Plan("vector", rows // 4, 4096), Plan("vector", rows // 2, 4096, warps=8),
            Plan("vector", rows // 2, 1024, stages=0), Plan("vector", rows // 2, 512),
        ]  # fmt: skip
        return vectors + _for_few_rows(kind, _FEW_OUTPUTS)
    vectors = [  # half the bytes: more of them at once
        Plan("vector", rows, 512), Plan("vector", rows // 2, 1024), Plan("vector", 2 * rows, 512),
        Plan("vector", rows // 2, 4096), Plan("vector", rows, 4096, warps=8), Plan("vector", rows // 2, 2048),
        Plan("vector", rows, 1024, stages=0),
    ]  # fmt: skip
    return vectors + (words if kind == "int8" and num_inputs % GROUP == 0 else [])


def _for_few_rows(kind: str, num_outputs: int) -> list[Plan]:
    if kind == "int4":
        plans = [Plan("narrow", 64, 256, 4, 4), Plan("narrow", 64, GROUP, 4, 5), Plan("narrow", 32, 256, 4, 4)]
        if num_outputs < _FEW_OUTPUTS:
            plans.append(Plan("narrow", 64, 256, 4, 3, splits=4))
        return plans
    plans = [Plan("narrow", 16, 256, 4, 5), Plan("narrow", 32, 256, 4, 4), Plan("narrow", 64, 128, 4, 4)]
    if num_outputs < _FEW_OUTPUTS:
        plans.append(Plan("narrow", 64, 128, 4, 4, splits=4))
    return plans


def _for_many_rows(kind: str, num_outputs: int, is_gated: bool) -> list[Plan]:
    if kind == "int4":
        return [Plan("narrow", 64, GROUP, 4, 4), Plan("narrow", 128, GROUP, 8, 3)]
    plans = [Plan("narrow", 64, 128, 4, 4), Plan("narrow", 128, 64, 4, 4)]
    if not is_gated:
        plans.append(Plan("narrow", 128, 128, 8, 3))
    if num_outputs < _FEW_OUTPUTS:
        plans += [Plan("narrow", 64, 128, 4, 4, splits=4), Plan("narrow", 128, 128, 8, 3, splits=8)]
    return plans
