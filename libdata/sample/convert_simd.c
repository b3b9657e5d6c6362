/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions of arrays, in plain C and with what the processor has for them. */
#include <string.h>

#include "libdata/npy.h"
#include "libdata/sample/convert_internal.h"

#if defined(__F16C__) && defined(__AVX2__)
# include <immintrin.h>

static void f32_from_f16(const uint8_t *halves, size_t n, float *out)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        const void *eight = halves + 2 * i;
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(eight)));
    }
    for (; i < n; i++) {
        uint16_t half;
        memcpy(&half, halves + 2 * i, sizeof(half));
        out[i] = prx_f32_from_f16(half);
    }
}

#else

static void f32_from_f16(const uint8_t *halves, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t half;
        memcpy(&half, halves + 2 * i, sizeof(half));
        out[i] = prx_f32_from_f16(half);
    }
}

#endif

/* Of the 256 levels; a division each, so that all processors agree to the last bit. */
static float value_of(uint8_t level)
{
    return (float)level / 127.5F - 1.0F;
}

static void planes(const uint8_t *rgb, int width, int step, float *red, float *green,
                   float *blue)
{
    if (step > 0) {
        for (int x = 0; x < width; x++) {
            red[x] = value_of(rgb[3 * x]);
            green[x] = value_of(rgb[3 * x + 1]);
            blue[x] = value_of(rgb[3 * x + 2]);
        }
        return;
    }
    for (int x = 0; x < width; x++) {
        const uint8_t *pixel = rgb + 3 * (width - 1 - x);
        red[x] = value_of(pixel[0]);
        green[x] = value_of(pixel[1]);
        blue[x] = value_of(pixel[2]);
    }
}

extern const struct prx_convert_kernels PRX_SIMD_NAME(prx_convert_kernels);
const struct prx_convert_kernels PRX_SIMD_NAME(prx_convert_kernels) = {f32_from_f16,
                                                                       planes};
