/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two passes of the resize, in plain C and in x86 vectors of any width.
 *
 * A product of an 8-bit pixel and a 24-bit weight wants 32-bit multiplications,
 * which are slow.  So each weight is split, weight = high * 2^12 + low, into two
 * 16-bit halves, and pmaddwd multiplies and adds two taps at once; high and low
 * sums are joined at the end.  All of it is exact modulo 2^32, and the true sum
 * fits in 32 bits, so every level gives the same bytes as the plain loops.
 */
#include <string.h>

#include "libdata/sample/image_resize_internal.h"

#define HALF_BITS PRX_RESIZE_HALF_BITS
#define HALF_MASK ((1 << HALF_BITS) - 1)
#define ROUND     (1u << (PRX_RESIZE_WEIGHT_BITS - 1))

static uint8_t round_sum(uint32_t sum)
{
    int32_t value = (int32_t)sum >> PRX_RESIZE_WEIGHT_BITS;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255
                                                 : value);
}

/* The outputs from @o_first on. */
static void columns_plain(uint8_t *const dst[], const uint8_t *const src[],
                          const struct prx_resize_axis *axis, int o_first)
{
    for (int i = 0; i < PRX_RESIZE_N_ROWS; i++) {
        for (int o = o_first; o < axis->n_out; o++) {
            const int32_t *weights = axis->weights + (size_t)o * axis->stride;
            const uint8_t *px = src[i] + (size_t)axis->first[o] * 3;
            uint32_t r = ROUND, g = ROUND, b = ROUND;
            for (int j = 0; j < axis->n_taps[o]; j++, px += 3) {
                r += px[0] * (uint32_t)weights[j];
                g += px[1] * (uint32_t)weights[j];
                b += px[2] * (uint32_t)weights[j];
            }
            dst[i][o * 3] = round_sum(r);
            dst[i][o * 3 + 1] = round_sum(g);
            dst[i][o * 3 + 2] = round_sum(b);
        }
    }
}

static void rows_plain(uint8_t *dst, const uint8_t *const window[],
                       const int32_t *weights, int n_taps, size_t n_bytes)
{
    enum { N = 32 }; /* sums at a time, to be kept in registers */

    for (size_t at = 0; at < n_bytes; at += N) {
        size_t n = n_bytes - at < N ? n_bytes - at : N;
        uint32_t sums[N];
        for (size_t i = 0; i < n; i++)
            sums[i] = ROUND;
        for (int j = 0; j < n_taps; j++)
            for (size_t i = 0; i < n; i++)
                sums[i] += window[j][at + i] * (uint32_t)weights[j];
        for (size_t i = 0; i < n; i++)
            dst[at + i] = round_sum(sums[i]);
    }
}

#if defined(__SSE2__)
# include <immintrin.h>

/*
 * The words of the two passes, for three vector lengths.  In the columns pass a
 * vector holds, in each group of 128 bits, one pair of taps as 16-bit values
 * r0 r1 g0 g1 b0 b1 and two of no matter; the groups are the pairs of a row, and in
 * the longest vector the pairs of two rows.
 */
# if defined(__AVX512BW__)
typedef __m512i vec;
#  define V(op)      _mm512_##op
#  define V_ZERO     _mm512_setzero_si512()
#  define N_VEC_ROWS 2
#  define N_VEC_TAPS 4
# elif defined(__AVX2__)
typedef __m256i vec;
#  define V(op)      _mm256_##op
#  define V_ZERO     _mm256_setzero_si256()
#  define N_VEC_ROWS 1
#  define N_VEC_TAPS 4
# else
typedef __m128i vec;
#  define V(op)      _mm_##op
#  define V_ZERO     _mm_setzero_si128()
#  define N_VEC_ROWS 1
#  define N_VEC_TAPS 2
# endif
# define N_VECS (PRX_RESIZE_N_ROWS / N_VEC_ROWS)

static inline vec load(const uint8_t *from)
{
    vec value;
    memcpy(&value, from, sizeof(value));
    return value;
}

# if defined(__AVX512BW__)
static inline __m512i twice(__m256i value)
{
    return _mm512_broadcast_i64x4(value);
}
# endif

/* The halves of N_VEC_TAPS weights, each where its pixels will be. */
static inline void load_weights(const int16_t *halves, vec *high, vec *low)
{
# if defined(__AVX2__)
    const __m128i both = _mm_loadu_si128((const __m128i *)halves);
    const __m256i high_order =
        _mm256_set_epi32(0x0b0a0908, 0x0b0a0908, 0x0b0a0908, 0x0b0a0908, 0x03020100,
                         0x03020100, 0x03020100, 0x03020100);
    const __m256i low_order = _mm256_add_epi8(high_order, _mm256_set1_epi8(4));
#  if defined(__AVX512BW__)
    const __m512i wide = _mm512_broadcast_i32x4(both);
    *high = _mm512_shuffle_epi8(wide, twice(high_order));
    *low = _mm512_shuffle_epi8(wide, twice(low_order));
#  else
    const __m256i wide = _mm256_broadcastsi128_si256(both);
    *high = _mm256_shuffle_epi8(wide, high_order);
    *low = _mm256_shuffle_epi8(wide, low_order);
#  endif
# else
    const __m128i both = _mm_loadl_epi64((const __m128i *)halves);
    *high = _mm_shuffle_epi32(both, 0x00);
    *low = _mm_shuffle_epi32(both, 0x55);
# endif
}

/* N_VEC_TAPS pixels of N_VEC_ROWS rows, from byte @at on. */
static inline vec load_pixels(const uint8_t *const src[], size_t at)
{
# if defined(__AVX2__)
    const __m256i pairs =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(src[0] + at)));
    const __m256i order =
        _mm256_set_epi8(-1, -1, -1, -1, -1, 11, -1, 8, -1, 10, -1, 7, -1, 9, -1, 6, -1,
                        -1, -1, -1, -1, 5, -1, 2, -1, 4, -1, 1, -1, 3, -1, 0);
#  if defined(__AVX512BW__)
    const __m256i others =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(src[1] + at)));
    return _mm512_shuffle_epi8(
        _mm512_inserti64x4(_mm512_castsi256_si512(pairs), others, 1), twice(order));
#  else
    return _mm256_shuffle_epi8(pairs, order);
#  endif
# else
    const __m128i px = _mm_loadl_epi64((const __m128i *)(src[0] + at));
    const __m128i pair = _mm_unpacklo_epi8(px, _mm_srli_si128(px, 3));
    return _mm_unpacklo_epi8(pair, _mm_setzero_si128());
# endif
}

/* Add up the pairs of each row, round and shift; sums[i] = r g b - of row i. */
static inline void finish_columns(const vec *high, const vec *low, __m128i *sums)
{
    for (int i = 0; i < N_VECS; i++) {
        vec whole = V(add_epi32)(V(slli_epi32)(high[i], HALF_BITS), low[i]);
# if defined(__AVX512BW__)
        sums[2 * i] = _mm_add_epi32(_mm512_castsi512_si128(whole),
                                    _mm512_extracti32x4_epi32(whole, 1));
        sums[2 * i + 1] = _mm_add_epi32(_mm512_extracti32x4_epi32(whole, 2),
                                        _mm512_extracti32x4_epi32(whole, 3));
# elif defined(__AVX2__)
        sums[i] = _mm_add_epi32(_mm256_castsi256_si128(whole),
                                _mm256_extracti128_si256(whole, 1));
# else
        sums[i] = whole;
# endif
    }
    for (int i = 0; i < PRX_RESIZE_N_ROWS; i++)
        sums[i] = _mm_srai_epi32(_mm_add_epi32(sums[i], _mm_set1_epi32((int)ROUND)),
                                 PRX_RESIZE_WEIGHT_BITS);
}

static void columns(uint8_t *const dst[], const uint8_t *const src[],
                    const struct prx_resize_axis *axis)
{
    for (int o = 0; o < axis->n_inner; o++) {
        const int16_t *halves = axis->halves + (size_t)o * axis->stride * 2;
        size_t at = (size_t)axis->first[o] * 3;
        vec high[N_VECS], low[N_VECS], high_weights, low_weights;
        __m128i sums[PRX_RESIZE_N_ROWS];

        for (int i = 0; i < N_VECS; i++)
            high[i] = low[i] = V_ZERO;
        for (int j = 0; j < axis->n_taps[o]; j += N_VEC_TAPS, at += N_VEC_TAPS * 3) {
            load_weights(halves + j * 2, &high_weights, &low_weights);
            for (int i = 0; i < N_VECS; i++) {
                vec px = load_pixels(src + i * N_VEC_ROWS, at);
                high[i] = V(add_epi32)(high[i], V(madd_epi16)(px, high_weights));
                low[i] = V(add_epi32)(low[i], V(madd_epi16)(px, low_weights));
            }
        }
        finish_columns(high, low, sums);
        uint8_t rgb[PRX_RESIZE_N_ROWS][4];
        __m128i packed = _mm_packus_epi16(_mm_packs_epi32(sums[0], sums[1]),
                                          _mm_packs_epi32(sums[2], sums[3]));
        memcpy(rgb, &packed, sizeof(rgb));
        for (int i = 0; i < PRX_RESIZE_N_ROWS; i++)
            memcpy(dst[i] + o * 3, rgb[i], 3);
    }
    columns_plain(dst, src, axis, axis->n_inner);
}

/* Two bytes below each other, of two rows, as 16-bit neighbours. */
static inline void add_pair(vec sums[2], vec pair, vec high_weights, vec low_weights)
{
    sums[0] = V(add_epi32)(sums[0], V(madd_epi16)(pair, high_weights));
    sums[1] = V(add_epi32)(sums[1], V(madd_epi16)(pair, low_weights));
}

static inline vec finish_sum(const vec sums[2])
{
    vec whole = V(add_epi32)(V(slli_epi32)(sums[0], HALF_BITS), sums[1]);
    return V(srai_epi32)(V(add_epi32)(whole, V(set1_epi32)((int)ROUND)),
                         PRX_RESIZE_WEIGHT_BITS);
}

/* One vector of bytes of the vertical pass, from byte @at on. */
static inline void rows_at(uint8_t *dst, const uint8_t *const window[],
                           const int32_t *weights, int n_taps, size_t at)
{
    vec sums[4][2];

    for (int i = 0; i < 4; i++)
        sums[i][0] = sums[i][1] = V_ZERO;
    for (int j = 0; j < n_taps; j += 2) {
        /* An odd tap is paired with itself, of no weight. */
        int k = j + 1 < n_taps ? j + 1 : j;
        uint32_t other = k > j ? (uint32_t)weights[k] : 0;
        uint32_t high = ((uint32_t)(weights[j] >> HALF_BITS) & 0xffff) |
                        (uint32_t)((int32_t)other >> HALF_BITS) << 16;
        uint32_t low = ((uint32_t)weights[j] & HALF_MASK) | (other & HALF_MASK) << 16;
        vec high_weights = V(set1_epi32)((int)high),
            low_weights = V(set1_epi32)((int)low);
        vec a = load(window[j] + at), b = load(window[k] + at);
        vec left = V(unpacklo_epi8)(a, b), right = V(unpackhi_epi8)(a, b);
        add_pair(sums[0], V(unpacklo_epi8)(left, V_ZERO), high_weights, low_weights);
        add_pair(sums[1], V(unpackhi_epi8)(left, V_ZERO), high_weights, low_weights);
        add_pair(sums[2], V(unpacklo_epi8)(right, V_ZERO), high_weights, low_weights);
        add_pair(sums[3], V(unpackhi_epi8)(right, V_ZERO), high_weights, low_weights);
    }
    /* Packing undoes what unpacking did to the order. */
    vec left = V(packs_epi32)(finish_sum(sums[0]), finish_sum(sums[1]));
    vec right = V(packs_epi32)(finish_sum(sums[2]), finish_sum(sums[3]));
    vec bytes = V(packus_epi16)(left, right);
    memcpy(dst + at, &bytes, sizeof(bytes));
}

static void rows(uint8_t *dst, const uint8_t *const window[], const int32_t *weights,
                 int n_taps, size_t n_bytes)
{
    if (n_bytes < sizeof(vec)) {
        rows_plain(dst, window, weights, n_taps, n_bytes);
        return;
    }
    for (size_t at = 0; at + sizeof(vec) <= n_bytes; at += sizeof(vec))
        rows_at(dst, window, weights, n_taps, at);
    /* The rest overlaps what is done already. */
    if (n_bytes % sizeof(vec) != 0)
        rows_at(dst, window, weights, n_taps, n_bytes - sizeof(vec));
}

#else

static void columns(uint8_t *const dst[], const uint8_t *const src[],
                    const struct prx_resize_axis *axis)
{
    columns_plain(dst, src, axis, 0);
}

# define rows rows_plain
#endif

extern const struct prx_resize_kernels PRX_SIMD_NAME(prx_resize_kernels);
const struct prx_resize_kernels PRX_SIMD_NAME(prx_resize_kernels) = {columns, rows};
