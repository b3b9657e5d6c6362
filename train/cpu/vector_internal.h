/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vectors of one instruction-set level, for *_simd.c files only.
 *
 * A small vocabulary over GCC's vector extension: vf is LANES floats, vi as many
 * integers.  Memory need not be aligned.
 */
#ifndef PRX_TRAIN_CPU_VECTOR_INTERNAL_H
#define PRX_TRAIN_CPU_VECTOR_INTERNAL_H

#include <stdint.h>
#include <string.h>

#include "train/bf16.h"

#if defined(__AVX512F__)
# include <immintrin.h>
# define LANES 16
#elif defined(__AVX2__)
# define LANES 8
#else
# define LANES 4
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef uint32_t vu __attribute__((vector_size(4 * LANES)));

INLINE vf v_load(const float *at)
{
    vf v;
    memcpy(&v, at, sizeof(v));
    return v;
}

INLINE void v_store(float *at, vf v)
{
    memcpy(at, &v, sizeof(v));
}

INLINE vf v_set(float x)
{
    return x - (vf){0};
}

/* The first n < LANES floats at @at, the rest 0. */
INLINE vf v_load_part(const float *at, int64_t n)
{
    vf v = {0};
    memcpy(&v, at, (size_t)n * sizeof(float));
    return v;
}

INLINE void v_store_part(float *at, vf v, int64_t n)
{
    memcpy(at, &v, (size_t)n * sizeof(float));
}

/* A vector of an array of which n_left elements are left, padded at its end. */
INLINE vf v_load_upto(const float *at, int64_t n_left)
{
    return n_left >= LANES ? v_load(at) : v_load_part(at, n_left);
}

INLINE void v_store_upto(float *at, vf v, int64_t n_left)
{
    if (n_left >= LANES)
        v_store(at, v);
    else
        v_store_part(at, v, n_left);
}

typedef uint16_t vh __attribute__((vector_size(2 * LANES)));

/* As v_load_upto() and v_store_upto(), of bf16 numbers; those stored are rounded. */
INLINE vf v_load_bf16_upto(const prx_bf16 *at, int64_t n_left)
{
    vh half = {0};
    if (n_left >= LANES)
        memcpy(&half, at, sizeof(half));
    else
        memcpy(&half, at, (size_t)n_left * sizeof(*at));
    return (vf)(__builtin_convertvector(half, vu) << 16);
}

/* The bits of @v as float32, rounded to bf16: the lower half is 0. */
INLINE vu v_round_bits(vf v)
{
    vu bits = (vu)v;
    vu rounded = bits + 0x7fffU + (bits >> 16 & 1U);
    vu nan = (vu)(v != v);
    return ((rounded & ~nan) | ((bits | 0x400000U) & nan)) & 0xffff0000U;
}

INLINE void v_store_bf16_upto(prx_bf16 *at, vf v, int64_t n_left)
{
    vh half = __builtin_convertvector(v_round_bits(v) >> 16, vh);
    if (n_left >= LANES)
        memcpy(at, &half, sizeof(half));
    else
        memcpy(at, &half, (size_t)n_left * sizeof(*at));
}

/* Lanes of @yes where @mask is -1, of @no where it is 0. */
INLINE vf v_select(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

/* The greater lanes; b's where one is NaN. */
INLINE vf v_max(vf a, vf b)
{
#if LANES == 16
    return (vf)_mm512_max_ps((__m512)a, (__m512)b);
#else
    return v_select(a > b, a, b);
#endif
}

/* Sum of the lanes, in pairs: the same tree on every run. */
INLINE float v_sum(vf v)
{
    float lanes[LANES];
    v_store(lanes, v);
    for (int n = LANES / 2; n > 0; n /= 2)
        for (int i = 0; i < n; i++)
            lanes[i] += lanes[i + n];
    return lanes[0];
}

/*
 * exp x, accurate to 2 ulp for -87.3 < x < 88.3; 0 below, about 2.4e38 above, and NaN
 * of NaN.
 *
 * exp x = 2^n exp r, n = round(x / ln 2), |r| <= ln 2 / 2; exp r by its series to r^7,
 * whose last term is spread over r^5 and r^3 (T7 of Chebyshev; off by 2e-9).
 */
INLINE vf v_exp_series(vf r)
{
    vf p = r * (1.0F / 720.0F) + 0.00837503994F;
    p = p * r + (1.0F / 24.0F);
    p = p * r + 0.166664162F;
    p = p * r + 0.5F;
    p = p * r + 1.0F;
    return p * r + 1.0F;
}

#define LN2_HIGH 0.693359375F /* ln 2 in two parts, the first of few bits */
#define LN2_LOW  -2.12194440e-4F
#define EXP_LOW  -87.3365F
#define EXP_HIGH 88.3762F

#if LANES == 16
/* The processor rounds and scales by powers of two itself. */
INLINE vf v_exp(vf x)
{
    __m512 low = _mm512_set1_ps(EXP_LOW), high = _mm512_set1_ps(EXP_HIGH);
    vf at = (vf)_mm512_min_ps(high, (__m512)x); /* NaN stays */
    vf n = (vf)_mm512_roundscale_ps((__m512)(at * 1.44269504F),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    vf p = v_exp_series(at - n * LN2_HIGH - n * LN2_LOW);
    __mmask16 is_there = _mm512_cmp_ps_mask((__m512)x, low, _CMP_NLT_UQ);
    return (vf)_mm512_maskz_scalef_ps(is_there, (__m512)p, (__m512)n);
}
#else
INLINE vf v_exp(vf x)
{
    const float round_bias = 12582912.0F; /* 1.5 * 2^23: adding it rounds */
    vf low = v_set(EXP_LOW), high = v_set(EXP_HIGH);
    vf at = v_select(x > high, high, x); /* what is too low is overruled at the end */
    vf shifted = at * 1.44269504F + round_bias;
    vf n = shifted - round_bias;
    vf p = v_exp_series(at - n * LN2_HIGH - n * LN2_LOW);
    vu exponent = ((vu)shifted << 23) + (127U << 23); /* n is in its lowest bits */
    return v_select(x < low, (vf){0}, p * (vf)exponent);
}
#endif

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

INLINE v4 v4_load(const float *at)
{
    v4 v;
    memcpy(&v, at, sizeof(v));
    return v;
}

/* out[j][i] = in[i][j], i, j < 4 */
INLINE void transpose_4x4(float *out, int64_t out_row, const float *in, int64_t in_row)
{
    v4 r0 = v4_load(in), r1 = v4_load(in + in_row);
    v4 r2 = v4_load(in + 2 * in_row), r3 = v4_load(in + 3 * in_row);
    v4 low01 = __builtin_shuffle(r0, r1, (i4){0, 4, 1, 5});
    v4 high01 = __builtin_shuffle(r0, r1, (i4){2, 6, 3, 7});
    v4 low23 = __builtin_shuffle(r2, r3, (i4){0, 4, 1, 5});
    v4 high23 = __builtin_shuffle(r2, r3, (i4){2, 6, 3, 7});
    v4 c0 = __builtin_shuffle(low01, low23, (i4){0, 1, 4, 5});
    v4 c1 = __builtin_shuffle(low01, low23, (i4){2, 3, 6, 7});
    v4 c2 = __builtin_shuffle(high01, high23, (i4){0, 1, 4, 5});
    v4 c3 = __builtin_shuffle(high01, high23, (i4){2, 3, 6, 7});
    memcpy(out, &c0, sizeof(c0));
    memcpy(out + out_row, &c1, sizeof(c1));
    memcpy(out + 2 * out_row, &c2, sizeof(c2));
    memcpy(out + 3 * out_row, &c3, sizeof(c3));
}

#endif
