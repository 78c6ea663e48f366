// Attention of one new position over those before it, for x86-64 with AVX2 and FMA.
//
// A decode step streams all weights through the caches between one layer's attention and the next, so that torch's way,
// of many small pieces, finds neither its code nor its numbers there. This reads every key and every value once.

#include <math.h>

#include "linear.h"

#define AT_ONCE 64  // positions whose values stay in the first cache
#define WIDE 32     // values of a position that are summed in registers
#define AHEAD 16    // positions

// query, out (num_heads, group, width); heads of keys and values lie head_stride apart, positions position_stride.
// weights: room for num_heads * group rows of `length`, rounded up to eights. A width is a multiple of 32.
typedef struct {
    const float *query, *keys, *values;
    float *weights, *out;
    int64_t num_heads, group, length, width, head_stride, position_stride;
} Attention;

// e to the power of numbers up to 0, to the last digit or two. Not a number stays so.
static inline __m256 exp8(__m256 x) {
    const float terms[] = {1.5252734e-5f, 1.5403530e-4f, 1.3333558e-3f, 9.6181291e-3f,
                           5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.f};  // ln(2)^k / k!, k from 7 down
    __m256 power = _mm256_max_ps(_mm256_set1_ps(-126), _mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)));
    __m256 whole = _mm256_round_ps(power, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 rest = _mm256_sub_ps(power, whole), sum = _mm256_set1_ps(terms[0]);
    for (int i = 1; i < 8; i++) sum = _mm256_fmadd_ps(sum, rest, _mm256_set1_ps(terms[i]));
    __m256i exponent = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(sum, _mm256_castsi256_ps(exponent));
}

// Scores of four positions, whose keys these are.
static inline __m128 four_scores(const float *query, const float *const keys[4], int64_t width) {
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int64_t i = 0; i < width; i += 8) {
        __m256 part = _mm256_loadu_ps(query + i);
        for (int n = 0; n < 4; n++) sum[n] = _mm256_fmadd_ps(part, _mm256_loadu_ps(keys[n] + i), sum[n]);
    }
    __m256 all = _mm256_hadd_ps(_mm256_hadd_ps(sum[0], sum[1]), _mm256_hadd_ps(sum[2], sum[3]));
    return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

// Scores (length, rounded up) to weights that still have to be divided by the sum that is returned.
static float weigh(float *scores, int64_t length) {
    float largest = -INFINITY;
    int64_t end = (length + 7) / 8 * 8;
    for (int64_t t = 0; t < length; t++) largest = scores[t] > largest ? scores[t] : largest;
    for (int64_t t = length; t < end; t++) scores[t] = -INFINITY;  // a weight of nothing
    __m256 sum = _mm256_setzero_ps();
    for (int64_t t = 0; t < end; t += 8) {
        __m256 weights = exp8(_mm256_sub_ps(_mm256_loadu_ps(scores + t), _mm256_set1_ps(largest)));
        _mm256_storeu_ps(scores + t, weights);
        sum = _mm256_add_ps(sum, weights);
    }
    return sum8(sum);
}

// Add the weighted values (count, WIDE) to out (WIDE). Every second position has sums of its own, as sums wait for sums.
static void add_values(float *out, const float *values, int64_t stride, const float *weights, int64_t count) {
    __m256 sum[2][WIDE / 8];
    for (int i = 0; i < WIDE / 8; i++) sum[0][i] = _mm256_loadu_ps(out + 8 * i), sum[1][i] = _mm256_setzero_ps();
    for (int64_t t = 0; t < count; t += 2)
        for (int odd = 0; odd < 2; odd++) {
            int64_t at = t + odd < count ? t + odd : t;
            __m256 weight = _mm256_set1_ps(t + odd < count ? weights[at] : 0);
            for (int i = 0; i < WIDE / 8; i++)
                sum[odd][i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(values + at * stride + 8 * i), sum[odd][i]);
        }
    for (int i = 0; i < WIDE / 8; i++) _mm256_storeu_ps(out + 8 * i, _mm256_add_ps(sum[0][i], sum[1][i]));
}

// Fetch a position's keys or values for later. Any address may be fetched.
static inline void fetch(const float *row, int64_t width) {
    for (int64_t i = 0; i < width; i += 16) _mm_prefetch((const char *)(row + i), _MM_HINT_T1);
}

// The queries that share one head of keys and values.
static void attend_head(const Attention *a, int64_t head) {
    int64_t stride = a->position_stride, room = (a->length + 7) / 8 * 8, first = head * a->group, width = a->width;
    const float *query = a->query + first * width, *keys = a->keys + head * a->head_stride;
    const float *values = a->values + head * a->head_stride;
    float *weights = a->weights + first * room, *out = a->out + first * width, scale = 1 / sqrtf((float)width);
    for (int64_t t = 0; t < a->length; t += 4) {  // the last scores may be of one position: `weigh` leaves them out
        const float *four[4];
        for (int n = 0; n < 4; n++) {
            int64_t at = t + n < a->length ? t + n : a->length - 1;
            four[n] = keys + at * stride;
            fetch(four[n] + AHEAD * stride, width);
            fetch(values + at * stride, width);
        }
        for (int64_t g = 0; g < a->group; g++)
            _mm_storeu_ps(weights + g * room + t,
                          _mm_mul_ps(four_scores(query + g * width, four, width), _mm_set1_ps(scale)));
    }
    memset(out, 0, a->group * width * sizeof *out);
    float sums[a->group];
    for (int64_t g = 0; g < a->group; g++) sums[g] = weigh(weights + g * room, a->length);
    for (int64_t t = 0; t < a->length; t += AT_ONCE)
        for (int64_t g = 0; g < a->group; g++)
            for (int64_t i = 0; i < width; i += WIDE)
                add_values(out + g * width + i, values + t * stride + i, stride, weights + g * room + t,
                           a->length - t < AT_ONCE ? a->length - t : AT_ONCE);
    for (int64_t g = 0; g < a->group; g++)
        for (int64_t i = 0; i < width; i++) out[g * width + i] /= sums[g];
}

void af_attend(const Attention *a, int num_threads) {
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
    for (int64_t head = 0; head < a->num_heads; head++) attend_head(a, head);
}
