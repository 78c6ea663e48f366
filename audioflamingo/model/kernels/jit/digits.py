"""A linear layer over one row whose weights have four or eight bits, with inputs in whole numbers. N outputs, K inputs.

To turn a weight into bf16 costs more than to read it. Here the weights stay whole numbers: those of eight bits are
operands of the matrix units as they lie in memory, those of four bits become the upper halves of bytes by three bit
operations for eight. Inputs become whole numbers too, of 16 bits in two signed digits, 256 high + low: a group of 128
shares the step that its largest one needs. That is finer than bf16 for all that are more than a 64th of the largest,
and for the others an error below a 65,000th of it. A product of the units has eight columns; the even ones are the
sums of the high digits, the odd ones of the low. Sums begin at the whole number whose bits are the fp32 12582912, so
that what comes out is read as fp32 without a conversion; they stay below 2^21.

It is written in Gluon, in which the layout of each tensor over the threads is said: weights go from memory into the
registers that the units read, each thread 16 contiguous bytes of a row. Slices (S, a warp each) share K by groups; W
are a group's bytes in a row of the weight: 64 or 128.
"""

# mypy: disable-error-code="import-not-found,untyped-decorator,no-untyped-def,no-redef,assignment,unused-ignore"
# ruff: noqa: C901, N803, N806, PLR0913, PLR0915
from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import mma_v2

from audioflamingo.model.kernels.jit.places import BYTE_HALVES, BYTE_HALVES_OPERANDS

GROUP = gl.constexpr(128)
FOURS = gl.constexpr(32)  # of a group: four inputs in bf16 are one load of 64 bits
LARGEST = gl.constexpr(32600.0)  # 127.3 * 256: the high digit stays below 128
OFFSET = gl.constexpr(12582912.0)  # 1.5 * 2^23: whole numbers up to 2^22 added to it change its last bits alone
OFFSET_BITS = gl.constexpr(0x4B400000)

_WIDENED = gl.constexpr(
    "{ .reg .b32 a, b; mov.b64 {a, b}, $4;"
    "shl.b32 $0, a, 16; and.b32 $1, a, 0xFFFF0000; shl.b32 $2, b, 16; and.b32 $3, b, 0xFFFF0000; }"
)
_CHOSEN = gl.constexpr("lop3.b32 $0, $1, $2, $3, 0xCA;")  # a ? b : c, bit by bit


def _digits(high: str, low: str, numbers: tuple[str, str, str, str]) -> str:
    """Assembler: whole numbers, in the last bits of OFFSET, to the words of their high and of their low digits.

    0x8080 added, the last two bytes are both digits plus 128; `prmt` gathers them.
    """
    added = "".join(f"add.u32 {to}, {number}, 0x8080;" for to, number in zip("abcd", numbers, strict=True))
    gathered = "prmt.b32 a, a, b, 0x5140; prmt.b32 c, c, d, 0x5140; prmt.b32 b, a, c, 0x5410; prmt.b32 d, a, c, 0x7632;"
    return f"{added}{gathered}xor.b32 {low}, b, 0x80808080; xor.b32 {high}, d, 0x80808080;"


# Four-bit weights: byte j holds inputs 2j and 2j + 1, so inputs at even and at odd places are separate operands.
_FOUR_DIGITS = gl.constexpr("{ .reg .b32 a, b, c, d;" + _digits("$0", "$1", ("$2", "$3", "$4", "$5")) + "}")
_EIGHT_DIGITS = gl.constexpr(
    "{ .reg .b32 a, b, c, d;"
    + _digits("$0", "$2", ("$4", "$8", "$5", "$9"))
    + _digits("$1", "$3", ("$6", "$10", "$7", "$11"))
    + "}"
)


if hasattr(gl, "barrier"):  # from Triton 3.7 on

    @gluon.jit
    def _barrier():
        gl.barrier()

else:

    @gluon.jit
    def _barrier():
        gl.thread_barrier()


if hasattr(gl.shared_memory_descriptor, "reinterpret"):  # from Triton 3.9 on

    @gluon.jit
    def _seen_as(held, dtype: gl.constexpr, shape: gl.constexpr, layout: gl.constexpr):
        return held.reinterpret(dtype, shape, layout)

else:

    @gluon.jit
    def _seen_as(held, dtype: gl.constexpr, shape: gl.constexpr, layout: gl.constexpr):
        return held._reinterpret(dtype, shape, layout)


@gluon.jit
def _wait_for_inputs(EARLY: gl.constexpr):
    """What the kernel ahead wrote may be read behind this; the next kernel may ask for its weights from here on."""
    if EARLY:
        code: gl.constexpr = "griddepcontrol.wait; griddepcontrol.launch_dependents; mov.b32 $0, 0;"
        gl.inline_asm_elementwise(code, "=r", [], dtype=gl.int32, is_pure=False, pack=1)


@gluon.jit
def _widened(fours):
    """Four bf16 in 64 bits as four tensors in fp32."""
    return gl.inline_asm_elementwise(
        _WIDENED, "=&r,=&r,=&r,=&r,l", [fours],
        dtype=(gl.float32, gl.float32, gl.float32, gl.float32), is_pure=True, pack=1,
    )  # fmt: skip


@gluon.jit
def _magnitude(a, b):
    """The larger of two magnitudes, as bits: not a number is larger than any."""
    return gl.maximum(a.to(gl.int32, bitcast=True) & 0x7FFFFFFF, b.to(gl.int32, bitcast=True) & 0x7FFFFFFF)


@gluon.jit
def _digit_words(x0, x1, x2, x3, rate, FOUR_BIT: gl.constexpr):
    """High and low digits of fours (groups, 32), times the groups' rates; of four bits words of even and odd places."""
    n0 = (x0 * rate + OFFSET).to(gl.int32, bitcast=True)
    n1 = (x1 * rate + OFFSET).to(gl.int32, bitcast=True)
    n2 = (x2 * rate + OFFSET).to(gl.int32, bitcast=True)
    n3 = (x3 * rate + OFFSET).to(gl.int32, bitcast=True)
    if FOUR_BIT:
        words = gl.inline_asm_elementwise(
            _EIGHT_DIGITS, "=&r,=&r,=&r,=&r,r,r,r,r,r,r,r,r", [n0, n1, n2, n3],
            dtype=(gl.int32, gl.int32), is_pure=True, pack=2,
        )  # fmt: skip
    else:
        words = gl.inline_asm_elementwise(
            _FOUR_DIGITS, "=&r,=&r,r,r,r,r", [n0, n1, n2, n3], dtype=(gl.int32, gl.int32), is_pure=True, pack=1
        )
    return words


@gluon.jit
def _hold(held, odd_held, words, FOUR_BIT: gl.constexpr):
    """Put words (groups, 32) into shared memory, those of odd places into their own."""
    if FOUR_BIT:
        even, odd = gl.split(gl.reshape(words, [words.shape[0], FOURS // 2, 2]))
        held.store(even)
        odd_held.store(odd)
    else:
        held.store(words)


@gluon.jit
def _hold_digits(
    x_ptr, norm_ptr, high, low, odd_high, odd_low, sizes, layout: gl.constexpr,
    FOUR_BIT: gl.constexpr, HAS_NORM: gl.constexpr, NUM_GROUPS: gl.constexpr, TILE: gl.constexpr,
):  # fmt: skip
    """Put all inputs as digits, and their groups' steps, into shared memory, TILE groups at a time.

    Returns (TILE,) sums of the inputs' squares.
    """
    NUM_TILES: gl.constexpr = (NUM_GROUPS + TILE - 1) // TILE
    rows = gl.arange(0, TILE, gl.SliceLayout(1, layout))[:, None]
    at = gl.arange(0, FOURS, gl.SliceLayout(0, layout))[None, :]
    x_fours = x_ptr.to(gl.pointer_type(gl.int64))
    norm_fours = norm_ptr.to(gl.pointer_type(gl.int64))
    asked = ()
    for tile in gl.static_range(NUM_TILES):
        groups = tile * TILE + rows
        asked += (gl.load(x_fours + groups * FOURS + at, mask=groups < NUM_GROUPS, other=0),)
    squares = gl.zeros([TILE], gl.float32, gl.SliceLayout(1, layout))
    for tile in gl.static_range(NUM_TILES):
        x0, x1, x2, x3 = _widened(asked[tile])
        if HAS_NORM:
            groups = tile * TILE + rows
            g0, g1, g2, g3 = _widened(gl.load(norm_fours + groups * FOURS + at, mask=groups < NUM_GROUPS, other=0))
            squares += gl.sum(x0 * x0 + x1 * x1 + x2 * x2 + x3 * x3, axis=1)
            x0, x1, x2, x3 = x0 * g0, x1 * g1, x2 * g2, x3 * g3
        largest = gl.max(gl.maximum(_magnitude(x0, x1), _magnitude(x2, x3)), axis=1).to(gl.float32, bitcast=True)
        rate = gl.where(largest == 0.0, 0.0, LARGEST / largest)[:, None]
        high_words, low_words = _digit_words(x0, x1, x2, x3, rate, FOUR_BIT)
        _hold(high.index(tile), odd_high.index(tile), high_words, FOUR_BIT)
        _hold(low.index(tile), odd_low.index(tile), low_words, FOUR_BIT)
        sizes.index(tile).store(largest * (1.0 / (16.0 * LARGEST) if FOUR_BIT else 1.0 / LARGEST))
    return squares


@gluon.jit
def _step(
    w_ptr, scale_ptr, rows, row_mask, w_slices, at, scale_rows, scale_mask, slices, group,
    NUM_GROUPS: gl.constexpr, WIDTH: gl.constexpr, IS_INSIDE: gl.constexpr, FOUR_BIT: gl.constexpr,
):  # fmt: skip
    """(S, N, W) bytes of the groups from one on, a slice each, and with four bits their (S, N) scales."""
    groups = group + w_slices
    mask = row_mask
    if not IS_INSIDE:
        mask = row_mask & (groups < NUM_GROUPS)
    place = w_ptr + rows.to(gl.int64) * (NUM_GROUPS * WIDTH) + groups * WIDTH + at
    w = gl.load(place, mask=mask, other=0, eviction_policy="evict_first")
    scale = 1.0
    if FOUR_BIT:
        groups = group + slices
        place = scale_ptr + scale_rows.to(gl.int64) * NUM_GROUPS + groups
        scale = gl.load(place, mask=scale_mask & (groups < NUM_GROUPS), other=0.0)
    return w, scale


@gluon.jit
def _pairs(x):
    """(S, N, 8) as its even and its odd columns, (S, N, 4) each."""
    return gl.split(gl.reshape(x, [x.shape[0], x.shape[1], x.shape[2] // 2, 2]))


@gluon.jit
def _operand(high, low, step, is_low, columns, x_layout: gl.constexpr):
    """(S, W, 8) digits of a step's inputs: high ones in even columns, low ones in odd ones."""
    high = high.index(step).load(x_layout)[:, :, None] + columns
    low = low.index(step).load(x_layout)[:, :, None] + columns
    return gl.inline_asm_elementwise(_CHOSEN, "=r,r,r,r", [is_low, low, high], dtype=gl.int8, is_pure=True, pack=4)


@gluon.jit
def _product(w, x, odd_x, offset, FOUR_BIT: gl.constexpr):
    """(S, N, 4), all columns alike: sums over a group, in steps of its inputs (16ths of them for four bits)."""
    if FOUR_BIT:
        even, odd = gl.inline_asm_elementwise(
            BYTE_HALVES, BYTE_HALVES_OPERANDS, [w], dtype=(gl.int8, gl.int8), is_pure=True, pack=4
        )
        sums = mma_v2(odd, odd_x, mma_v2(even, x, offset))
    else:
        sums = mma_v2(w, x, offset)
    high, low = _pairs(sums.to(gl.float32, bitcast=True) - OFFSET)
    return high * 256.0 + low


@gluon.jit
def _total(acc, layout: gl.constexpr):
    """(N,) of (S, N, 4): the slices' sum."""
    column = gl.arange(0, 4, gl.SliceLayout(0, gl.SliceLayout(1, layout)))[None, None, :]
    return gl.sum(gl.sum(gl.where(column == 0, acc, 0.0), axis=2), axis=0)


@gluon.jit
def digits_kernel(
    x_ptr, w_ptr, scale_ptr, bias_ptr, norm_ptr, residual_ptr, out_ptr, num_outputs, eps,
    FOUR_BIT: gl.constexpr, HAS_BIAS: gl.constexpr, HAS_NORM: gl.constexpr, HAS_RESIDUAL: gl.constexpr,
    GATED: gl.constexpr, NUM_INPUTS: gl.constexpr, BLOCK_N: gl.constexpr, SLICES: gl.constexpr, DEPTH: gl.constexpr,
    EARLY: gl.constexpr,
):  # fmt: skip
    """Every program holds BLOCK_N outputs; as many warps as SLICES.

    DEPTH steps of the weight are asked for ahead: the first ones before the kernel ahead is done, as a weight never
    changes, and before the inputs are turned into digits. The loop over steps is unrolled, so that what was asked for
    stays in its registers.
    """
    WIDTH: gl.constexpr = 64 if FOUR_BIT else 128
    NUM_GROUPS: gl.constexpr = NUM_INPUTS // GROUP
    NUM_STEPS: gl.constexpr = (NUM_GROUPS + SLICES - 1) // SLICES
    IS_EVEN: gl.constexpr = NUM_GROUPS % SLICES == 0
    mma: gl.constexpr = gl.NVMMADistributedLayout([2, 0], [SLICES, 1, 1], [1, 16, 8])
    w_layout: gl.constexpr = gl.DotOperandLayout(0, mma, 16)
    operand_layout: gl.constexpr = gl.DotOperandLayout(1, mma, 16)
    y_layout: gl.constexpr = gl.SliceLayout(2, mma)
    first = gl.program_id(0) * BLOCK_N
    w_slices = gl.arange(0, SLICES, gl.SliceLayout(1, gl.SliceLayout(2, w_layout)))[:, None, None]
    w_rows = first + gl.arange(0, BLOCK_N, gl.SliceLayout(0, gl.SliceLayout(2, w_layout)))[None, :, None]
    w_at = gl.arange(0, WIDTH, gl.SliceLayout(0, gl.SliceLayout(1, w_layout)))[None, None, :]
    w_mask = w_rows < num_outputs
    slices = gl.arange(0, SLICES, gl.SliceLayout(1, y_layout))[:, None]
    scale_rows = first + gl.arange(0, BLOCK_N, gl.SliceLayout(0, y_layout))[None, :]
    scale_mask = scale_rows < num_outputs

    asked = ()
    asked_ups = ()
    scales = ()
    up_scales = ()
    for step in gl.static_range(DEPTH):
        w, scale = _step(
            w_ptr, scale_ptr, w_rows, w_mask, w_slices, w_at, scale_rows, scale_mask, slices, step * SLICES,
            NUM_GROUPS, WIDTH, IS_EVEN and step < NUM_STEPS, FOUR_BIT,
        )  # fmt: skip
        asked += (w,)
        scales += (scale,)
        if GATED:
            w, scale = _step(
                w_ptr, scale_ptr, num_outputs + w_rows, w_mask, w_slices, w_at, num_outputs + scale_rows, scale_mask,
                slices, step * SLICES, NUM_GROUPS, WIDTH, IS_EVEN and step < NUM_STEPS, FOUR_BIT,
            )  # fmt: skip
            asked_ups += (w,)
            up_scales += (scale,)

    acc, acc_up = _pairs(gl.zeros([SLICES, BLOCK_N, 8], gl.float32, mma))
    pair_layout: gl.constexpr = acc.type.layout
    out_rows = first + gl.arange(0, BLOCK_N, gl.SliceLayout(0, gl.SliceLayout(2, pair_layout)))
    out_mask = out_rows < num_outputs
    if not FOUR_BIT:
        row_scale = gl.load(scale_ptr + out_rows, mask=out_mask, other=0.0).to(gl.float32)
        if GATED:
            up_row_scale = gl.load(scale_ptr + out_rows + num_outputs, mask=out_mask, other=0.0).to(gl.float32)
    if HAS_BIAS:
        bias = gl.load(bias_ptr + out_rows, mask=out_mask, other=0.0).to(gl.float32)

    # Inputs to digits, 32 groups at a time; the rest of the group's step, and the norm's rate, are left to the sums.
    TILE: gl.constexpr = 32
    NUM_TILES: gl.constexpr = (NUM_GROUPS + TILE - 1) // TILE
    WORDS: gl.constexpr = WIDTH // 4
    line: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
    plane: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    high = gl.allocate_shared_memory(gl.int32, [NUM_TILES, TILE, WORDS], plane)
    low = gl.allocate_shared_memory(gl.int32, [NUM_TILES, TILE, WORDS], plane)
    odd_high, odd_low = high, low
    if FOUR_BIT:
        odd_high = gl.allocate_shared_memory(gl.int32, [NUM_TILES, TILE, WORDS], plane)
        odd_low = gl.allocate_shared_memory(gl.int32, [NUM_TILES, TILE, WORDS], plane)
    sizes = gl.allocate_shared_memory(gl.float32, [NUM_TILES, TILE], line)
    fours: gl.constexpr = gl.BlockedLayout([1, 2], [2, 16], [SLICES, 1], [1, 0])
    _wait_for_inputs(EARLY)
    if HAS_RESIDUAL:
        residual = gl.load(residual_ptr + out_rows, mask=out_mask, other=0.0).to(gl.float32)
    squares = _hold_digits(
        x_ptr, norm_ptr, high, low, odd_high, odd_low, sizes, fours, FOUR_BIT, HAS_NORM, NUM_GROUPS, TILE
    )
    if HAS_NORM:
        squares_held = gl.allocate_shared_memory(gl.float32, [TILE], line)
        squares_held.store(squares)
    _barrier()
    norm_rate = 1.0
    if HAS_NORM:  # every warp adds them all up: no further barrier
        squares = squares_held.load(gl.BlockedLayout([1], [32], [SLICES], [0]))
        norm_rate = gl.rsqrt(gl.sum(squares, axis=0) / NUM_INPUTS + eps)

    STEPS_HELD: gl.constexpr = NUM_TILES * TILE // SLICES
    high = _seen_as(high, gl.int8, (STEPS_HELD, SLICES, WIDTH), plane)
    low = _seen_as(low, gl.int8, (STEPS_HELD, SLICES, WIDTH), plane)
    if FOUR_BIT:
        odd_high = _seen_as(odd_high, gl.int8, (STEPS_HELD, SLICES, WIDTH), plane)
        odd_low = _seen_as(odd_low, gl.int8, (STEPS_HELD, SLICES, WIDTH), plane)
    sizes = _seen_as(sizes, gl.float32, (STEPS_HELD, SLICES), line)
    x_layout: gl.constexpr = gl.SliceLayout(2, operand_layout)
    offset = gl.full([SLICES, BLOCK_N, 8], OFFSET_BITS, gl.int32, mma)
    columns = gl.zeros([SLICES, WIDTH, 8], gl.int8, operand_layout)
    column = gl.arange(0, 8, gl.SliceLayout(0, gl.SliceLayout(1, operand_layout)))[None, None, :]
    is_low = (0 - (column & 1)).to(gl.int8) + columns
    zeros = gl.zeros([SLICES, BLOCK_N], gl.float32, y_layout)
    for now in gl.static_range(NUM_STEPS):
        if now + DEPTH < NUM_STEPS:
            w, scale = _step(
                w_ptr, scale_ptr, w_rows, w_mask, w_slices, w_at, scale_rows, scale_mask, slices,
                (now + DEPTH) * SLICES, NUM_GROUPS, WIDTH, IS_EVEN, FOUR_BIT,
            )  # fmt: skip
            asked += (w,)
            scales += (scale,)
            if GATED:
                w, scale = _step(
                    w_ptr, scale_ptr, num_outputs + w_rows, w_mask, w_slices, w_at, num_outputs + scale_rows,
                    scale_mask, slices, (now + DEPTH) * SLICES, NUM_GROUPS, WIDTH, IS_EVEN, FOUR_BIT,
                )  # fmt: skip
                asked_ups += (w,)
                up_scales += (scale,)
        x = _operand(high, low, now, is_low, columns, x_layout)
        odd_x = x
        if FOUR_BIT:
            odd_x = _operand(odd_high, odd_low, now, is_low, columns, x_layout)
        size = sizes.index(now).load(gl.SliceLayout(1, y_layout))[:, None]
        factor = gl.convert_layout(size * scales[now] + zeros, gl.SliceLayout(2, pair_layout))
        acc += factor[:, :, None] * _product(asked[now], x, odd_x, offset, FOUR_BIT)
        if GATED:
            factor = gl.convert_layout(size * up_scales[now] + zeros, gl.SliceLayout(2, pair_layout))
            acc_up += factor[:, :, None] * _product(asked_ups[now], x, odd_x, offset, FOUR_BIT)

    y = _total(acc, pair_layout) * norm_rate
    if not FOUR_BIT:
        y *= row_scale
    if HAS_BIAS:
        y += bias
    dtype: gl.constexpr = out_ptr.dtype.element_ty
    if GATED:
        up = _total(acc_up, pair_layout) * norm_rate
        if not FOUR_BIT:
            up *= up_row_scale
        gate = y.to(dtype).to(gl.float32)
        y = (gate / (1.0 + gl.exp(-gate))).to(dtype).to(gl.float32) * up.to(dtype).to(gl.float32)
    if HAS_RESIDUAL:
        y = y.to(dtype).to(gl.float32) + residual
    gl.store(out_ptr + out_rows, y.to(dtype), mask=out_mask)
