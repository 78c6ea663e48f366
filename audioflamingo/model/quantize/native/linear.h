// What the ways of multiplying share: how rows of x are laid out, and what a product is given.

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define GROUP 128
#define PART 16  // groups that are taken together
#define INLINE static inline __attribute__((always_inline))

// A group of a row of x. The sum of the lanes of `init` starts the group's, so that no product has to subtract the zero
// of int4. There the values are dealt in fours: inputs 0, 4, 8 .. first, as codes come out of 16-bit words.
typedef struct {
    int16_t values[GROUP];
    int32_t init[16];
} __attribute__((aligned(64))) Group;

typedef struct {
    const uint8_t *codes;
    const void *scale;
    const float *bias;   // or null
    const float *added;  // to what comes out, (num_rows, num_outputs); or null; `out` itself may be
    float *out;
    int64_t num_rows, num_inputs, num_outputs;
} Product;

// A way of multiplying: outputs [start, stop) of all rows.
typedef void Outputs(const Product *p, int64_t start, int64_t stop, const Group *x, const float *x_scale, int is_int4);

INLINE int64_t groups_of(const Product *p) { return (p->num_inputs + GROUP - 1) / GROUP; }

INLINE int64_t row_bytes_of(const Product *p, int is_int4) { return is_int4 ? p->num_inputs / 2 : p->num_inputs; }

INLINE float bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

INLINE float sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
