// Products of float32 rows with quantised matrices, and quantising to int4, for x86-64 with AVX2 and FMA.
//
// A decode step reads every weight once, so these kernels have to unpack and multiply as fast as memory delivers. Rows
// of x are brought to int16 with a scale for every 128 inputs (an error near 1e-5) and multiplied by pmaddwd, which
// takes two products a lane where a float multiply takes one. The codes and scales are those of `schemes.py`.

#include <float.h>
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#define GROUP 128
#define VECTORS 8     // of 16 int16 in a group
#define BLOCK_ROWS 4  // of x that share one unpacking
#define TASK_OUTPUTS 32
#define AHEAD_INT4 2048  // bytes from what is multiplied to what is fetched; found by measuring
#define AHEAD_INT8 1024

// A group of a row of x. Lanes of `init` start the sums, so that no product has to subtract the zero of int4.
typedef struct {
    int16_t values[GROUP];
    int32_t init[8];
} __attribute__((aligned(32))) Group;

typedef struct {
    const uint8_t *codes;
    const void *scale;
    const float *bias;
    float *out;
    int64_t num_rows, num_inputs, num_outputs;
} Product;

static float sum8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// Any address may be fetched, even one past the end of the codes.
static inline void fetch(const uint8_t *codes) { _mm_prefetch((const char *)codes, _MM_HINT_T0); }

static inline __m256i madd(__m256i sum, __m256i weights, const int16_t *x) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(weights, _mm256_load_si256((const __m256i *)x)));
}

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

// int4 codes come out of a 16-bit word in fours, so x is laid out in fours as well: inputs 0, 4, 8 .. first.
static void deal_in_fours(int16_t *values) {
    int16_t dealt[GROUP] __attribute__((aligned(32)));
    for (int half = 0; half < GROUP; half += 64)
        for (int i = 0; i < 16; i++)
            for (int j = 0; j < 4; j++) dealt[half + 16 * j + i] = values[half + 4 * i + j];
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
    return scale;
}

// Rows (num_rows, num_inputs) of x to groups (num_rows, G) and their scales.
void af_prepare(const float *x, int64_t num_rows, int64_t num_inputs, int is_int4, Group *groups, float *scales,
                int num_threads) {
    int64_t num_groups = (num_inputs + GROUP - 1) / GROUP;
    if (num_rows < num_threads) num_threads = num_rows;
#pragma omp parallel for num_threads(num_threads)
    for (int64_t row = 0; row < num_rows; row++)
        for (int64_t g = 0; g < num_groups; g++) {
            int64_t rest = num_inputs - g * GROUP, at = row * num_groups + g;
            const float *from = x + row * num_inputs + g * GROUP;
            scales[at] = prepare_group(from, rest < GROUP ? (int)rest : GROUP, groups + at, is_int4);
        }
}

static inline void unpack_int4(const uint8_t *codes, __m256i *w) {
    const __m256i low = _mm256_set1_epi16(15);
    for (int half = 0; half < 2; half++) {
        __m256i words = _mm256_loadu_si256((const __m256i *)(codes + 32 * half));
        w[4 * half] = _mm256_and_si256(words, low);
        w[4 * half + 1] = _mm256_and_si256(_mm256_srli_epi16(words, 4), low);
        w[4 * half + 2] = _mm256_and_si256(_mm256_srli_epi16(words, 8), low);
        w[4 * half + 3] = _mm256_srli_epi16(words, 12);
    }
}

static inline void unpack_int8(const uint8_t *codes, __m256i *w) {
    for (int i = 0; i < VECTORS; i++)
        w[i] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(codes + 16 * i)));
}

static inline __m256 group_sum(const __m256i *w, const Group *x) {
    __m256i sum = _mm256_load_si256((const __m256i *)x->init);
    for (int i = 0; i < VECTORS; i++) sum = madd(sum, w[i], x->values + 16 * i);
    return _mm256_cvtepi32_ps(sum);
}

static inline float bf16(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
}

static inline __attribute__((always_inline)) void one_output(
    const Product *p, int64_t output, const Group *x, const float *x_scale, int num, int64_t first, int is_int4) {
    int64_t num_groups = (p->num_inputs + GROUP - 1) / GROUP;
    int64_t row_bytes = is_int4 ? p->num_inputs / 2 : p->num_inputs;
    const uint8_t *codes = p->codes + output * row_bytes;
    const uint16_t *scale4 = (const uint16_t *)p->scale + output * num_groups;
    __m256 acc[BLOCK_ROWS];
    uint8_t tail[GROUP];
    for (int m = 0; m < num; m++) acc[m] = _mm256_setzero_ps();
    for (int64_t g = 0; g < num_groups; g++) {
        __m256i w[VECTORS];
        if (is_int4) {
            fetch(codes + g * (GROUP / 2) + AHEAD_INT4);
            unpack_int4(codes + g * (GROUP / 2), w);
        } else {
            const uint8_t *from = codes + g * GROUP;
            fetch(from + AHEAD_INT8);
            fetch(from + AHEAD_INT8 + 64);
            int64_t rest = row_bytes - g * GROUP;
            if (rest < GROUP) {  // the last group of a row must not read into the next one, or past the end
                memset(tail, 0, GROUP);
                memcpy(tail, from, rest);
                from = tail;
            }
            unpack_int8(from, w);
        }
        float weight_scale = is_int4 ? bf16(scale4[g]) : 1;
        for (int m = 0; m < num; m++) {
            __m256 factor = _mm256_set1_ps(weight_scale * x_scale[m * num_groups + g]);
            acc[m] = _mm256_fmadd_ps(group_sum(w, x + m * num_groups + g), factor, acc[m]);
        }
    }
    float factor = is_int4 ? 1 : ((const float *)p->scale)[output], bias = p->bias ? p->bias[output] : 0;
    for (int m = 0; m < num; m++) p->out[(first + m) * p->num_outputs + output] = sum8(acc[m]) * factor + bias;
}

static inline __attribute__((always_inline)) void outputs(
    const Product *p, int64_t start, int64_t stop, const Group *x, const float *x_scale, int is_int4) {
    int64_t num_groups = (p->num_inputs + GROUP - 1) / GROUP;
    for (int64_t first = 0; first < p->num_rows; first += BLOCK_ROWS) {
        int64_t left = p->num_rows - first, at = first * num_groups;
        for (int64_t n = start; n < stop; n++) {
            if (left >= 4)
                one_output(p, n, x + at, x_scale + at, 4, first, is_int4);
            else if (left == 3)
                one_output(p, n, x + at, x_scale + at, 3, first, is_int4);
            else if (left == 2)
                one_output(p, n, x + at, x_scale + at, 2, first, is_int4);
            else
                one_output(p, n, x + at, x_scale + at, 1, first, is_int4);
        }
    }
}

// groups (num_rows, G), x_scale (num_rows, G): from af_prepare. codes, scale, bias (or null), out (num_rows, outputs).
void af_linear(const Product *p, const Group *groups, const float *x_scale, int is_int4, int num_threads) {
    int64_t num_tasks = (p->num_outputs + TASK_OUTPUTS - 1) / TASK_OUTPUTS;
#pragma omp parallel for num_threads(num_threads) schedule(dynamic, 4)
    for (int64_t task = 0; task < num_tasks; task++) {
        int64_t start = task * TASK_OUTPUTS, stop = start + TASK_OUTPUTS;
        if (stop > p->num_outputs) stop = p->num_outputs;
        if (is_int4)
            outputs(p, start, stop, groups, x_scale, 1);
        else
            outputs(p, start, stop, groups, x_scale, 0);
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
