"""Fours of weights in four or eight bits as operands of the matrix units: place p of each four is one operand.

S slices, N outputs, J fours: four int4 in 16 bits, four int8 or fp8 in 32, the lowest bits first.
Whole numbers are converted at a fraction of the rate, and bit operations run at half the rate, of fp32 arithmetic. So
bits are put into the mantissa of a constant instead, and what is done to a register is done to two weights. That is
worth its assembler for bf16 alone, what the products run in.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,unused-ignore"
# ruff: noqa: N803
from __future__ import annotations

import triton
import triton.language as tl

# Of four bytes, 16 (q - 8) for the codes in their low halves to $0, and for those in their high halves to $1: 0x6A is
# (a & b) ^ c, which keeps the upper halves and turns their sign bits. $0 is written before $2 is read for the last
# time, which the operands say.
BYTE_HALVES = tl.constexpr(
    "{ .reg .b32 t; shl.b32 t, $2, 4;"
    "lop3.b32 $0, t, 0xF0F0F0F0, 0x80808080, 0x6A; lop3.b32 $1, $2, 0xF0F0F0F0, 0x80808080, 0x6A; }"
)
BYTE_HALVES_OPERANDS = tl.constexpr("=&r,=&r,r")

# Each writes place p of two fours to register $p as two bf16; 0xEA is (a & b) | c. Two fours of four bits share
# register $4; of eight bits they are $4 and $5, of which `prmt` takes byte p each.
#
# Four bits: 128 + q, of q from 0 to 15 in the mantissa of 128.
_FOUR_BITS = tl.constexpr(
    "{ .reg .b32 t;"
    + "".join(f"shr.b32 t, $4, {4 * p}; lop3.b32 ${p}, t, 0x000F000F, 0x43004300, 0xEA;" for p in range(4))
    + "}"
)
# Whole eight bits: the low seven in the mantissa of 128, plus -1 times 128, or 256 if the sign bit is set.
_EIGHT_BITS = tl.constexpr(
    "{ .reg .b32 t, a, b, less; mov.b32 less, 0xBF80BF80;"
    + "".join(
        f"prmt.b32 t, $4, $5, 0x0{4 + p}0{p};"
        "lop3.b32 a, t, 0x007F007F, 0x43004300, 0xEA; lop3.b32 b, t, 0x00800080, 0x43004300, 0xEA;"
        f"fma.rn.bf16x2 ${p}, b, less, a;"
        for p in range(4)
    )
    + "}"
)
# e4m3: sign on sign, the others four bits down, and 2 to the 120th for the exponents' different biases.
_FLOATS = tl.constexpr(
    "{ .reg .b32 t, m, up, zero; mov.b32 up, 0x7B807B80; mov.b32 zero, 0x80008000;"
    + "".join(
        f"prmt.b32 t, $4, $5, 0x{4 + p}0{p}0; shr.b32 m, t, 4; and.b32 m, m, 0x07F007F0;"
        f"lop3.b32 m, t, 0x80008000, m, 0xEA; fma.rn.bf16x2 ${p}, m, up, zero;"
        for p in range(4)
    )
    + "}"
)


@triton.jit
def _place(fours, NUMBER: tl.constexpr, KIND: tl.constexpr, dtype: tl.constexpr):
    """Weights at one place, as numbers; of any dtype, with no regard to speed."""
    if KIND == "int4":
        w = (fours >> (4 * NUMBER)) & 0xF
    elif KIND == "int8":
        w = (fours << (24 - 8 * NUMBER)) >> 24
    else:
        w = (fours >> (8 * NUMBER)).to(tl.uint8).to(tl.float8e4nv, bitcast=True)
    return w.to(dtype)


@triton.jit
def places_of(fours, KIND: tl.constexpr, dtype: tl.constexpr, IS_NATIVE: tl.constexpr):
    """Four operands (S, N, J); those of int4 are 8 too large, natively 136."""
    if IS_NATIVE:
        code: tl.constexpr = _FOUR_BITS if KIND == "int4" else _EIGHT_BITS if KIND == "int8" else _FLOATS
        sources: tl.constexpr = "=&r,=&r,=&r,=&r,r" if KIND == "int4" else "=&r,=&r,=&r,=&r,r,r"
        places = tl.inline_asm_elementwise(
            code, sources, [fours],
            dtype=(tl.bfloat16, tl.bfloat16, tl.bfloat16, tl.bfloat16), is_pure=True, pack=2,
        )  # fmt: skip
    else:
        p0, p1 = _place(fours, 0, KIND, dtype), _place(fours, 1, KIND, dtype)
        p2, p3 = _place(fours, 2, KIND, dtype), _place(fours, 3, KIND, dtype)
        places = (p0, p1, p2, p3)
    return places
