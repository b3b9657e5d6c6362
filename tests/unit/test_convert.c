/* SPDX-License-Identifier: Apache-2.0 */
/* Conversions of arrays: every level of instructions gives the bits of plain C. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/npy.h"
#include "libdata/sample/convert_internal.h"

/* The tables that this processor can run. */
static size_t find_kernels(const struct prx_convert_kernels *out[3])
{
    size_t n = 0;

    out[n++] = &prx_convert_kernels_v1;
#if defined(__x86_64__)
    if (prx_simd_level() >= 3)
        out[n++] = &prx_convert_kernels_v3;
    if (prx_simd_level() >= 4)
        out[n++] = &prx_convert_kernels_v4;
#endif
    return n;
}

/* All 65,536 halves, at even and odd addresses, and the lengths about a vector's. */
static void test_halves(void **state)
{
    enum { N = 65536 };
    const struct prx_convert_kernels *kernels[3];
    size_t n_kernels = find_kernels(kernels);
    uint8_t *halves = malloc(2 * N + 1);
    float *got = aligned_alloc(64, N * sizeof(*got));
    (void)state;

    assert_true(halves && got);
    for (size_t l = 0; l < n_kernels; l++) {
        for (int shift = 0; shift < 2; shift++) {
            for (uint32_t i = 0; i < N; i++)
                memcpy(halves + shift + 2 * (size_t)i, &(uint16_t){(uint16_t)i}, 2);
            kernels[l]->f32_from_f16(halves + shift, N, got);
            for (uint32_t i = 0; i < N; i++) {
                float want = prx_f32_from_f16((uint16_t)i);
                if (isnan(want))
                    assert_true(isnan(got[i]));
                else
                    assert_memory_equal(&got[i], &want, sizeof(want));
            }
        }
        for (size_t n = 0; n < 40; n++) {
            got[n] = 77;
            kernels[l]->f32_from_f16(halves + 1 + 2 * 1000, n, got);
            assert_true(got[n] == 77);
            assert_true(n == 0 || got[n - 1] == prx_f32_from_f16(
                                                    (uint16_t)(1000 + n - 1)));
        }
    }
    free(halves);
    free(got);
}

static void test_lack(void **state)
{
    enum { N = 3000 };
    static const size_t places[] = {0, 1, 30, 1023, 1024, 2047, 2048, N - 1};
    const struct prx_convert_kernels *kernels[3];
    size_t n_kernels = find_kernels(kernels);
    static float floats[N];
    static uint16_t halves[N];
    (void)state;

    for (size_t l = 0; l < n_kernels; l++) {
        for (size_t i = 0; i < N; i++) {
            floats[i] = (float)i * 1e35F / N;
            halves[i] = prx_f16_from_f32((float)i * 60000 / N);
        }
        assert_true(kernels[l]->lack_u32((void *)floats, N, 0x7f800000));
        assert_true(kernels[l]->lack_u16((void *)halves, N, 0x7c00));
        assert_true(kernels[l]->lack_u16((void *)halves, 0, 0x7c00));
        for (size_t p = 0; p < sizeof(places) / sizeof(places[0]); p++) {
            float was = floats[places[p]];
            uint16_t was_half = halves[places[p]];
            floats[places[p]] = p % 2 ? NAN : -INFINITY;
            halves[places[p]] = p % 2 ? 0x7e01 : 0xfc00;
            assert_false(kernels[l]->lack_u32((void *)floats, N, 0x7f800000));
            assert_false(kernels[l]->lack_u16((void *)halves, N, 0x7c00));
            floats[places[p]] = was;
            halves[places[p]] = was_half;
        }
    }
}

/* Every level of every channel, in rows of any length, mirrored or not. */
static void test_planes(void **state)
{
    enum { N = 300 };
    const struct prx_convert_kernels *kernels[3];
    size_t n_kernels = find_kernels(kernels);
    float *planes = aligned_alloc(64, 3 * 320 * sizeof(*planes));
    uint8_t rgb[3 * N];
    (void)state;

    assert_non_null(planes);
    for (int i = 0; i < 3 * N; i++)
        rgb[i] = (uint8_t)(i % 3 == 0 ? i / 3 : i % 3 == 1 ? 255 - i / 3
                                                           : 7 * i / 3);
    for (size_t l = 0; l < n_kernels; l++) {
        for (int width = 0; width <= N; width += width < 70 ? 1 : 23) {
            for (int step = -1; step <= 1; step += 2) {
                int shift = width % 3 == 0 ? 0 : 1; /* aligned, or not */
                float *rows[3] = {planes + shift, planes + 320 + shift,
                                  planes + 640 + shift};
                for (int c = 0; c < 3; c++)
                    rows[c][width] = 77;
                kernels[l]->planes(rgb, width, step, rows[0], rows[1], rows[2]);
                for (int c = 0; c < 3; c++) {
                    assert_true(rows[c][width] == 77);
                    for (int x = 0; x < width; x++) {
                        int from = step > 0 ? x : width - 1 - x;
                        float want = (float)rgb[3 * from + c] / 127.5F - 1.0F;
                        assert_memory_equal(&rows[c][x], &want, sizeof(want));
                    }
                }
            }
        }
    }
    free(planes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_lack),
        cmocka_unit_test(test_planes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
