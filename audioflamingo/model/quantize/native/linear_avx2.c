// Products for processors with AVX2 and FMA: 16 inputs a vector.

#include "linear.h"

typedef __m256 Floats;
typedef __m256i Ints;
#define PIECES 8             // vectors of a group
#define BLOCK_ROWS 2         // at once; found by measuring, as is the next
#define MANY_ROWS_OUTPUTS 1  // at once, for more rows than one

INLINE Floats zero(void) { return _mm256_setzero_ps(); }

INLINE float sum_of(Floats v) { return sum8(v); }

INLINE Ints init_of(const Group *x) { return _mm256_load_si256((const __m256i *)x->init); }

INLINE Ints values_of(const Group *x, int piece) {
    return _mm256_load_si256((const __m256i *)(x->values + 16 * piece));
}

INLINE Ints add_products(Ints sum, Ints weights, Ints values) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(weights, values));
}

INLINE Floats add_scaled(Floats total, Ints sum, float factor) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_set1_ps(factor), total);
}

// A vector of words holds every second piece: x is dealt out over the whole group.
INLINE Ints unpacked(const uint8_t *codes, int piece, int is_int4) {
    if (!is_int4) return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(codes + 16 * piece)));
    __m256i words = _mm256_loadu_si256((const __m256i *)(codes + 32 * (piece % 2)));
    if (piece / 2 == 3) return _mm256_srli_epi16(words, 12);
    return _mm256_and_si256(_mm256_srli_epi16(words, 4 * (piece / 2)), _mm256_set1_epi16(15));
}

// Scales of some groups of x, times those of int4 weights, if there are any.
INLINE void factors_of(const uint16_t *scale, const float *x_scale, int64_t count, float *factors) {
    for (int64_t g = 0; g < count; g++) factors[g] = scale ? bf16(scale[g]) * x_scale[g] : x_scale[g];
}

#include "tiles.h"

Outputs af_outputs_avx2;

void af_outputs_avx2(const Product *p, int64_t start, int64_t stop, const Group *x, const float *x_scale, int is_int4) {
    if (is_int4)
        outputs(p, start, stop, x, x_scale, 1);
    else
        outputs(p, start, stop, x, x_scale, 0);
}
