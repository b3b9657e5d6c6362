/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions of arrays, in plain C and with what the processor has for them. */
#include <stdbool.h>
#include <string.h>

#include "libdata/npy.h"
#include "libdata/sample/convert_internal.h"

/* In rounds of so many without a branch, so that they are compared in vectors. */
#define N_ROUND 1024

#define LACK(name, word)                                     \
 static bool name(const uint8_t *words, size_t n, word mask) \
 {                                                           \
  for (size_t i = 0; i < n;) {                               \
   size_t n_round = n - i < N_ROUND ? n - i : N_ROUND;       \
   word n_full = 0;                                          \
   for (size_t k = 0; k < n_round; k++, i++) {               \
    word bits;                                               \
    memcpy(&bits, words + i * sizeof(bits), sizeof(bits));   \
    n_full |= (bits & mask) == mask;                         \
   }                                                         \
   if (n_full)                                               \
    return false;                                            \
  }                                                          \
  return true;                                               \
 }

LACK(lack_u16, uint16_t)
LACK(lack_u32, uint32_t)

static void f32_from_f16_plain(const uint8_t *halves, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, halves + 2 * i, sizeof(half));
        out[i] = prx_f32_from_f16(half);
    }
}

#if defined(__F16C__) && defined(__AVX2__)
# include <immintrin.h>

/* Large arrays, at an even address, are written past the caches, to be read later. */
# define N_STREAMED 4096

static void f32_from_f16(const uint8_t *halves, size_t n, float *out)
{
    bool is_streamed = n >= N_STREAMED && (uintptr_t)out % sizeof(__m256) == 0;
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const void *eight = halves + 2 * i;
        __m256 values = _mm256_cvtph_ps(_mm_loadu_si128(eight));
        if (is_streamed)
            _mm256_stream_ps(out + i, values);
        else
            _mm256_storeu_ps(out + i, values);
    }
    _mm_sfence();
    f32_from_f16_plain(halves + 2 * i, n - i, out + i);
}

#else
# define f32_from_f16 f32_from_f16_plain
#endif

/* Of the 256 levels; a division each, so that all processors agree to the last bit. */
static float value_of(uint8_t level)
{
    return (float)level / 127.5F - 1.0F;
}

/* Pixels from @x on of a row as it is to be, mirrored or not. */
static void planes_plain(const uint8_t *rgb, int width, int step, int x, float *red,
                         float *green, float *blue)
{
    for (; x < width; x++) {
        const uint8_t *pixel = rgb + 3 * (step > 0 ? x : width - 1 - x);
        red[x] = value_of(pixel[0]);
        green[x] = value_of(pixel[1]);
        blue[x] = value_of(pixel[2]);
    }
}

#if defined(__AVX2__) && defined(__FMA__)

# define N_VEC 16 /* pixels at once: 48 bytes */

/*
 * value_of() of 16 levels.  The quotient is a product, put right by what it leaves
 * over; for these 256 dividends that is the rounded quotient (Markstein 1990, "IEEE
 * floating-point and elementary functions"; the tests compare all of them).
 */
static void put_values(__m128i levels, bool is_streamed, float *out)
{
    const __m256 divisor = _mm256_set1_ps(127.5F), one = _mm256_set1_ps(1.0F);
    const __m256 inverse = _mm256_set1_ps(1.0F / 127.5F);
    const __m128i halves[2] = {levels, _mm_srli_si128(levels, 8)};

    for (int i = 0; i < 2; i++) {
        __m256 value = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(halves[i]));
        __m256 quotient = _mm256_mul_ps(value, inverse);
        __m256 left = _mm256_fnmadd_ps(quotient, divisor, value);
        quotient = _mm256_fmadd_ps(left, inverse, quotient);
        if (is_streamed)
            _mm256_stream_ps(out + 8 * i, _mm256_sub_ps(quotient, one));
        else
            _mm256_storeu_ps(out + 8 * i, _mm256_sub_ps(quotient, one));
    }
}

# define NO -128 /* no byte of this vector */

/*
 * Where in which of the three vectors the bytes of a channel are, in order and
 * backwards: [is_mirrored][channel][vector][pixel].
 */
/* clang-format off */
static const int8_t places[2][3][3][N_VEC] = {
    {{{0, 3, 6, 9, 12, 15, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
      {NO, NO, NO, NO, NO, NO, 2, 5, 8, 11, 14, NO, NO, NO, NO, NO},
      {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 1, 4, 7, 10, 13}},
     {{1, 4, 7, 10, 13, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
      {NO, NO, NO, NO, NO, 0, 3, 6, 9, 12, 15, NO, NO, NO, NO, NO},
      {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 2, 5, 8, 11, 14}},
     {{2, 5, 8, 11, 14, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO},
      {NO, NO, NO, NO, NO, 1, 4, 7, 10, 13, NO, NO, NO, NO, NO, NO},
      {NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 0, 3, 6, 9, 12, 15}}},
    {{{NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 15, 12, 9, 6, 3, 0},
      {NO, NO, NO, NO, NO, 14, 11, 8, 5, 2, NO, NO, NO, NO, NO, NO},
      {13, 10, 7, 4, 1, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO}},
     {{NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 13, 10, 7, 4, 1},
      {NO, NO, NO, NO, NO, 15, 12, 9, 6, 3, 0, NO, NO, NO, NO, NO},
      {14, 11, 8, 5, 2, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO}},
     {{NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 14, 11, 8, 5, 2},
      {NO, NO, NO, NO, NO, NO, 13, 10, 7, 4, 1, NO, NO, NO, NO, NO},
      {15, 12, 9, 6, 3, 0, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO}}}};
/* clang-format on */

static __m128i take(const void *bytes, const int8_t *from)
{
    return _mm_shuffle_epi8(_mm_loadu_si128(bytes),
                            _mm_loadu_si128((const void *)from));
}

/* A batch does not fit a cache, so that fetching what is overwritten is for nothing. */
static bool is_streamable(const float *red, const float *green, const float *blue)
{
    return ((uintptr_t)red | (uintptr_t)green | (uintptr_t)blue) % sizeof(__m256) == 0;
}

static void planes(const uint8_t *rgb, int width, int step, float *red, float *green,
                   float *blue)
{
    float *const out[3] = {red, green, blue};
    const bool is_streamed = is_streamable(red, green, blue);
    int x = 0;

    for (; x + N_VEC <= width; x += N_VEC) {
        const uint8_t *from = rgb + 3 * (step > 0 ? x : width - N_VEC - x);
        for (int c = 0; c < 3; c++) {
            const int8_t(*place)[N_VEC] = places[step < 0][c];
            __m128i levels = _mm_or_si128(take(from, place[0]),
                                          take(from + N_VEC, place[1]));
            levels = _mm_or_si128(levels, take(from + 2 * N_VEC, place[2]));
            put_values(levels, is_streamed, out[c] + x);
        }
    }
    _mm_sfence();
    planes_plain(rgb, width, step, x, red, green, blue);
}

#else

static void planes(const uint8_t *rgb, int width, int step, float *red, float *green,
                   float *blue)
{
    planes_plain(rgb, width, step, 0, red, green, blue);
}

#endif

extern const struct prx_convert_kernels PRX_SIMD_NAME(prx_convert_kernels);
const struct prx_convert_kernels PRX_SIMD_NAME(prx_convert_kernels) = {
    f32_from_f16, lack_u16, lack_u32, planes};
