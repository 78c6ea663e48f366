// Products for processors with AVX-512 (F, BW, VL, VNNI): 32 inputs a vector, and vpdpwssd adds as it multiplies.

#include "linear.h"

typedef __m512 Floats;
typedef __m512i Ints;
#define PIECES 4             // vectors of a group
#define BLOCK_ROWS 3         // at once; found by measuring, as is the next
#define MANY_ROWS_OUTPUTS 4  // at once, for more rows than one

INLINE Floats zero(void) { return _mm512_setzero_ps(); }

INLINE float sum_of(Floats v) { return _mm512_reduce_add_ps(v); }

INLINE Ints init_of(const Group *x) { return _mm512_load_si512(x->init); }

INLINE Ints values_of(const Group *x, int piece) { return _mm512_load_si512(x->values + 32 * piece); }

INLINE Ints add_products(Ints sum, Ints weights, Ints values) { return _mm512_dpwssd_epi32(sum, weights, values); }

INLINE Floats add_scaled(Floats total, Ints sum, float factor) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(factor), total);
}

INLINE Ints unpacked(const uint8_t *codes, int piece, int is_int4) {
    if (!is_int4) return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(codes + 32 * piece)));
    __m512i words = _mm512_loadu_si512(codes);
    if (piece == 3) return _mm512_srli_epi16(words, 12);
    return _mm512_and_si512(_mm512_srli_epi16(words, 4 * piece), _mm512_set1_epi16(15));
}

// Scales of some groups of x, times those of int4 weights, if there are any.
INLINE void factors_of(const uint16_t *scale, const float *x_scale, int64_t count, float *factors) {
    __mmask16 lanes = (__mmask16)((1u << count) - 1);
    __m512 factor = _mm512_maskz_loadu_ps(lanes, x_scale);
    if (scale) {
        __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, scale)), 16);
        factor = _mm512_mul_ps(factor, _mm512_castsi512_ps(wide));
    }
    _mm512_store_ps(factors, factor);
}

#include "tiles.h"

Outputs af_outputs_avx2, af_outputs_avx512;

void af_outputs_avx512(const Product *p, int64_t start, int64_t stop, const Group *x, const float *x_scale,
                       int is_int4) {
    if (is_int4)
        outputs(p, start, stop, x, x_scale, 1);
    else if (p->num_rows == 1)  // has little to unpack: shorter vectors wait less for what they load
        af_outputs_avx2(p, start, stop, x, x_scale, 0);
    else
        outputs(p, start, stop, x, x_scale, 0);
}
