// What products of float32 rows with quantised matrices need besides the products, and quantising to int4, for x86-64
// with AVX2 and FMA. The products are in `tiles.h`.
//
// A decode step reads every weight once, so these kernels have to unpack and multiply as fast as memory delivers. Rows
// of x are brought to int16 with a scale for every 128 inputs (an error near 1e-5): an instruction multiplies twice as
// many of these as of floats. The codes and scales are those of `schemes.py`.

#include <float.h>
#include <math.h>
#include <sys/mman.h>

#include "linear.h"

#define LEAST_OUTPUTS 32  // of a task
#define MOST_OUTPUTS 128
#define TASKS 16  // of a thread, so that none waits long for another

// The largest magnitude of a group, or NaN if any value is not finite.
static float magnitude(const float *x) {
    const __m256 sign = _mm256_set1_ps(-0.f), most = _mm256_set1_ps(FLT_MAX);
    __m256 largest = _mm256_setzero_ps(), is_good = _mm256_cmp_ps(largest, largest, _CMP_EQ_OQ);
    for (int i = 0; i < GROUP; i += 8) {
        __m256 value = _mm256_andnot_ps(sign, _mm256_loadu_ps(x + i));
        largest = _mm256_max_ps(largest, value);
        is_good = _mm256_and_ps(is_good, _mm256_cmp_ps(value, most, _CMP_LE_OQ));
    }
    float lanes[8], found = 0;
    _mm256_storeu_ps(lanes, largest);
    for (int i = 0; i < 8; i++) found = fmaxf(found, lanes[i]);
    return _mm256_movemask_ps(is_good) == 255 ? found : NAN;
}

static __m256i rounded16(const float *x, __m256 inverse) {
    __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x), inverse));
    __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8), inverse));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

static void deal_in_fours(int16_t *values) {
    int16_t dealt[GROUP] __attribute__((aligned(64)));
    for (int i = 0; i < GROUP / 4; i++)
        for (int j = 0; j < 4; j++) dealt[GROUP / 4 * j + i] = values[4 * i + j];
    memcpy(values, dealt, sizeof dealt);
}

static float prepare_group(const float *x, int count, Group *group, int is_int4) {
    float whole[GROUP];
    if (count < GROUP) {
        memset(whole, 0, sizeof whole);
        memcpy(whole, x, count * sizeof *x);
        x = whole;
    }
    float largest = magnitude(x), scale = largest > 0 ? largest / 32767 : largest == 0 ? 1 : NAN;
    __m256 inverse = _mm256_set1_ps(1 / scale);
    __m256i start = _mm256_setzero_si256();
    for (int i = 0; i < GROUP; i += 16) {
        __m256i values = rounded16(x + i, inverse);
        _mm256_store_si256((__m256i *)(group->values + i), values);
        if (is_int4) start = _mm256_add_epi32(start, _mm256_madd_epi16(values, _mm256_set1_epi16(-8)));
    }
    if (is_int4) deal_in_fours(group->values);
    _mm256_store_si256((__m256i *)group->init, start);
    _mm256_store_si256((__m256i *)(group->init + 8), _mm256_setzero_si256());
    return scale;
}

static float root_mean_square(const float *x, int64_t count, float eps) {
    __m256 squares = _mm256_setzero_ps();
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 value = _mm256_loadu_ps(x + i);
        squares = _mm256_fmadd_ps(value, value, squares);
    }
    float sum = sum8(squares);
    for (; i < count; i++) sum += x[i] * x[i];
    return sqrtf(sum / count + eps);
}

// Rows (num_rows, num_inputs) of x to groups (num_rows, G) and their scales. norm: the weights (num_inputs) of a
// root-mean-square norm that the rows go through first, or null.
void af_prepare(const float *x, int64_t num_rows, int64_t num_inputs, const float *norm, float eps, int is_int4,
                Group *groups, float *scales, int num_threads) {
    int64_t num_groups = (num_inputs + GROUP - 1) / GROUP;
    if (num_rows < num_threads) num_threads = num_rows;
#pragma omp parallel for num_threads(num_threads) if (num_threads > 1)
    for (int64_t row = 0; row < num_rows; row++) {
        float inverse = norm ? 1 / root_mean_square(x + row * num_inputs, num_inputs, eps) : 1;
        for (int64_t g = 0; g < num_groups; g++) {
            const float *from = x + row * num_inputs + g * GROUP;
            int count = num_inputs - g * GROUP < GROUP ? (int)(num_inputs - g * GROUP) : GROUP;
            float normed[GROUP];
            if (norm) {
                for (int i = 0; i < count; i++) normed[i] = from[i] * inverse * norm[g * GROUP + i];
                from = normed;
            }
            scales[row * num_groups + g] = prepare_group(from, count, groups + row * num_groups + g, is_int4);
        }
    }
}

// Outputs of a task: many, as what lies behind a task's end is fetched for nothing, but enough tasks for every thread.
static int64_t task_outputs(const Product *p, int num_threads) {
    int64_t share = p->num_outputs / num_threads / TASKS / LEAST_OUTPUTS * LEAST_OUTPUTS;
    return share < LEAST_OUTPUTS ? LEAST_OUTPUTS : share > MOST_OUTPUTS ? MOST_OUTPUTS : share;
}

// groups (num_rows, G), x_scale (num_rows, G): from af_prepare. codes, scale, bias (or null), out (num_rows, outputs).
void af_linear(const Product *p, const Group *groups, const float *x_scale, int is_int4, int num_threads,
               Outputs *outputs_of) {
    int64_t step = task_outputs(p, num_threads);
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 1)
    for (int64_t start = 0; start < p->num_outputs; start += step) {
        int64_t stop = start + step < p->num_outputs ? start + step : p->num_outputs;
        outputs_of(p, start, stop, groups, x_scale, is_int4);
    }
}

static uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static inline __m256 steps8(const float *w, __m256 scale) {
    __m256 steps = _mm256_round_ps(_mm256_div_ps(_mm256_loadu_ps(w), scale), _MM_FROUND_TO_NEAREST_INT);
    return _mm256_min_ps(_mm256_max_ps(steps, _mm256_set1_ps(-8)), _mm256_set1_ps(7));
}

static float group_error(const float *w, float scale) {
    __m256 error = _mm256_setzero_ps(), wide = _mm256_set1_ps(scale);
    for (int i = 0; i < GROUP; i += 8) {
        __m256 rest = _mm256_sub_ps(_mm256_mul_ps(steps8(w + i, wide), wide), _mm256_loadu_ps(w + i));
        error = _mm256_fmadd_ps(rest, rest, error);
    }
    return sum8(error);
}

static float best_scale(const float *w, const float *shares, int num_shares) {
    float largest = 0, best = NAN, least = INFINITY;  // NaN stays where a weight is not finite
    for (int i = 0; i < GROUP; i++)
        if (fabsf(w[i]) > fabsf(largest)) largest = w[i];
    for (int i = 0; i < num_shares; i++) {
        float scale = bf16(to_bf16(largest * shares[i]));
        if (scale == 0) scale = 1;
        float error = group_error(w, scale);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

// weight (num_rows, num_inputs) to codes (num_rows, num_inputs / 2) and scale (num_rows, num_inputs / 128) in bf16.
// shares: what the largest weight of a group is multiplied with to give the scales that are tried.
void af_quantize_int4(const float *weight, int64_t num_rows, int64_t num_inputs, const float *shares, int num_shares,
                      uint8_t *codes, uint16_t *scale, int num_threads) {
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 16)
    for (int64_t row = 0; row < num_rows; row++)
        for (int64_t at = row * num_inputs; at < (row + 1) * num_inputs; at += GROUP) {
            float best = best_scale(weight + at, shares, num_shares);
            __m256 wide = _mm256_set1_ps(best);
            int32_t steps[GROUP];
            for (int i = 0; i < GROUP; i += 8)
                _mm256_storeu_si256((__m256i *)(steps + i), _mm256_cvtps_epi32(steps8(weight + at + i, wide)));
            for (int i = 0; i < GROUP; i += 2)
                codes[(at + i) / 2] = (uint8_t)((steps[i] + 8) | ((steps[i + 1] + 8) << 4));
            scale[at / GROUP] = to_bf16(best);
        }
}

// Ask for huge pages under memory that was not touched yet. A product reads gigabytes in order, and fetching ahead ends at
// the end of a page: together the two are worth a third of the rate.
void af_expect_streaming(uintptr_t start, int64_t num_bytes) {
    uintptr_t page = 4096, first = (start + page - 1) / page * page, end = (start + num_bytes) / page * page;
    if (end > first) madvise((void *)first, end - first, MADV_HUGEPAGE);
}
