// The loops of a product, for the vectors of the file that includes this.
//
// Some outputs at once share what is loaded of x, which for many inputs does not fit the first cache. Some rows of x at
// once share what is unpacked; their groups are taken in parts that do fit it, each by all outputs of a tile.

#pragma once

#include "linear.h"

#define BLOCK_OUTPUTS 4  // at most
#define TILE_OUTPUTS 32

// A macro: gcc drops calls of a function that does nothing else. Any address may be fetched, even one past the end of
// the codes. Into the second cache: the first one would lose what is fetched before its turn comes.
#define FETCH(address) _mm_prefetch((const char *)(address), _MM_HINT_T1)

// How many rows and outputs at once: constants wherever it is used, so that the sums stay in registers.
typedef struct {
    int num_rows, num_outputs, is_int4;
} Shape;

// Outputs from `codes` on, of so many bytes a row, for groups of x in [0, count): add to acc (outputs, rows).
INLINE void add_part(Floats *acc, const uint8_t *codes, int64_t row_bytes, int64_t ahead, const Group *x,
                     int64_t num_groups, const float (*factors)[PART], int64_t count, Shape s) {
    int group_bytes = s.is_int4 ? GROUP / 2 : GROUP;
    Floats total[BLOCK_ROWS * BLOCK_OUTPUTS];
    for (int i = 0; i < s.num_rows * s.num_outputs; i++) total[i] = acc[i];
    for (int64_t g = 0; g < count; g++) {
        const uint8_t *from = codes + g * group_bytes;
        Ints sum[BLOCK_ROWS * BLOCK_OUTPUTS];
        for (int n = 0; n < s.num_outputs; n++) {
            for (int line = 0; line < group_bytes; line += 64) FETCH(from + n * row_bytes + line + ahead);
            for (int m = 0; m < s.num_rows; m++) sum[n * s.num_rows + m] = init_of(x + m * num_groups + g);
        }
#pragma GCC unroll 8
        for (int piece = 0; piece < PIECES; piece++) {
            Ints weights[BLOCK_OUTPUTS];
            for (int n = 0; n < s.num_outputs; n++) weights[n] = unpacked(from + n * row_bytes, piece, s.is_int4);
            for (int m = 0; m < s.num_rows; m++) {
                Ints values = values_of(x + m * num_groups + g, piece);
                for (int n = 0; n < s.num_outputs; n++) {
                    int i = n * s.num_rows + m;
                    sum[i] = add_products(sum[i], weights[n], values);
                }
            }
        }
        for (int i = 0; i < s.num_rows * s.num_outputs; i++) total[i] = add_scaled(total[i], sum[i], factors[i][g]);
    }
    for (int i = 0; i < s.num_rows * s.num_outputs; i++) acc[i] = total[i];
}

// The last group of a row of int8, if it is no whole one: nothing is read past the end of the row.
INLINE void add_tail(Floats *acc, const uint8_t *codes, int64_t row_bytes, int64_t rest, const Group *x,
                     int64_t num_groups, const float (*factors)[PART], Shape s) {
    uint8_t tails[BLOCK_OUTPUTS][GROUP] = {0};
    for (int n = 0; n < s.num_outputs; n++) memcpy(tails[n], codes + n * row_bytes, rest);
    add_part(acc, tails[0], GROUP, 0, x, num_groups, factors, 1, s);
}

// One block of outputs for one part of the groups.
INLINE void add_block(Floats *acc, const Product *p, int64_t output, int64_t part, int64_t ahead, const Group *x,
                      const float *x_scale, Shape s) {
    int64_t num_groups = groups_of(p), row_bytes = row_bytes_of(p, s.is_int4);
    int64_t count = num_groups - part < PART ? num_groups - part : PART, group_bytes = s.is_int4 ? GROUP / 2 : GROUP;
    float factors[BLOCK_ROWS * BLOCK_OUTPUTS][PART] __attribute__((aligned(64)));
    for (int n = 0; n < s.num_outputs; n++) {
        const uint16_t *scale = s.is_int4 ? (const uint16_t *)p->scale + (output + n) * num_groups + part : 0;
        if (scale) FETCH(scale + s.num_outputs * num_groups);
        for (int m = 0; m < s.num_rows; m++)
            factors_of(scale, x_scale + m * num_groups + part, count, factors[n * s.num_rows + m]);
    }
    const uint8_t *codes = p->codes + output * row_bytes + part * group_bytes;
    int64_t rest = row_bytes - (part + count - 1) * group_bytes, whole = rest < group_bytes ? count - 1 : count;
    add_part(acc, codes, row_bytes, ahead, x + part, num_groups, factors, whole, s);
    if (whole == count) return;
    for (int i = 0; i < s.num_rows * s.num_outputs; i++) factors[i][0] = factors[i][whole];
    add_tail(acc, codes + whole * group_bytes, row_bytes, rest, x + part + whole, num_groups, factors, s);
}

// Outputs [start, stop), at most a tile and whole blocks, of rows from `first` on, to which x and x_scale point.
INLINE void tile(const Product *p, int64_t start, int64_t stop, int64_t first, const Group *x, const float *x_scale,
                 Shape s) {
    int64_t num_groups = groups_of(p), row_bytes = row_bytes_of(p, s.is_int4);
    int64_t ahead = first ? 0 : (stop - start) * row_bytes;  // what lies as far ahead is multiplied next
    Floats acc[TILE_OUTPUTS * BLOCK_ROWS];
    for (int i = 0; i < (stop - start) * s.num_rows; i++) acc[i] = zero();
    for (int64_t part = 0; part < num_groups; part += PART)
        for (int64_t n = start; n < stop; n += s.num_outputs)
            add_block(acc + (n - start) * s.num_rows, p, n, part, ahead, x, x_scale, s);
    for (int64_t n = start; n < stop; n++) {
        float factor = s.is_int4 ? 1 : ((const float *)p->scale)[n], bias = p->bias ? p->bias[n] : 0;
        for (int m = 0; m < s.num_rows; m++) {
            int64_t at = (first + m) * p->num_outputs + n;
            float value = sum_of(acc[(n - start) * s.num_rows + m]) * factor + bias;
            p->out[at] = p->added ? p->added[at] + value : value;
        }
    }
}

// One row runs through the codes as they lie, more rows stay with a tile that they all multiply.
INLINE void some_rows(const Product *p, int64_t start, int64_t stop, int64_t first, const Group *x,
                      const float *x_scale, Shape s) {
    int64_t at = first * groups_of(p), step = s.num_rows == 1 ? s.num_outputs : TILE_OUTPUTS;
    for (; start < stop; start += step) {
        int64_t end = start + step < stop ? start + step : stop, whole = end - (end - start) % s.num_outputs;
        Shape single = {s.num_rows, 1, s.is_int4};
        if (whole > start) tile(p, start, whole, first, x + at, x_scale + at, s);
        if (whole < end) tile(p, whole, end, first, x + at, x_scale + at, single);
    }
}

INLINE void outputs(const Product *p, int64_t start, int64_t stop, const Group *x, const float *x_scale, int is_int4) {
    Shape most = {BLOCK_ROWS, MANY_ROWS_OUTPUTS, is_int4}, two = {2, MANY_ROWS_OUTPUTS, is_int4};
    Shape one = {1, is_int4 ? 4 : 2, is_int4};
    int64_t first = 0;
    for (; first + BLOCK_ROWS <= p->num_rows; first += BLOCK_ROWS) some_rows(p, start, stop, first, x, x_scale, most);
    if (first + 2 <= p->num_rows) {
        some_rows(p, start, stop, first, x, x_scale, two);
        first += 2;
    }
    if (first < p->num_rows) some_rows(p, start, stop, first, x, x_scale, one);
}
