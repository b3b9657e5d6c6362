/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The resize of libdata/image.h against what Pillow 11.3 makes of the same bytes,
 * its kernels against each other on every instruction set of this machine.
 */
#include "libdata/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "libdata/hash.h"
#include "libdata/sample/image_resize_internal.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

PRX_SIMD_DECLARE(struct prx_resize_kernels, prx_resize_kernels);

/* The recording script makes the same: byte i is the top byte of i * 2654435761. */
static struct prx_image make_noise(int width_px, int height_px)
{
    struct prx_image *made, image;

    assert_int_equal(prx_image_new(width_px, height_px, &made), 0);
    image = *made;
    free(made);
    for (uint32_t i = 0; i < (uint32_t)(width_px * height_px * 3); i++)
        image.pixels[i] = (uint8_t)(i * 2654435761u >> 24);
    return image;
}

static void test_bytes(void **state)
{
    static const uint8_t want[] = {68, 164, 91, 181, 127, 107, 162, 59, 155,
                                   151, 65, 150, 97, 135, 148, 123, 204, 93};
    struct prx_image src = make_noise(5, 4), dst = {0};

    (void)state;
    assert_int_equal(prx_image_resize(&src, NULL, PRX_LANCZOS, 3, 2, &dst), 0);
    assert_int_equal(dst.width_px, 3);
    assert_int_equal(dst.height_px, 2);
    assert_memory_equal(dst.pixels, want, sizeof(want));
    prx_image_release(&src);
    prx_image_release(&dst);
}

/* xxh3-128 of the pixels of Image.resize((w, h), filter, box). */
static const struct {
    int src_width_px, src_height_px, crop[4];
    enum prx_resample filter;
    int width_px, height_px;
    const char *hash;
} recorded[] = {
    {16, 16, {0, 0, 16, 16}, PRX_LANCZOS, 8, 8, "fd6d20d64174da221a75fe08bb26f1bb"},
    {64, 48, {0, 0, 64, 48}, PRX_LANCZOS, 16, 12, "7506aa3a88426a574f417f30d9fc6ed7"},
    {64, 48, {0, 0, 64, 48}, PRX_BICUBIC, 17, 13, "cf882c7796978a8b04c05c1054c0eca5"},
    {64, 48, {0, 0, 64, 48}, PRX_BILINEAR, 23, 5, "caf04c98e3cdafd90394b35ab6aa22f2"},
    {13, 17, {0, 0, 13, 17}, PRX_LANCZOS, 29, 41, "0157cd2cb944a699a7b731f05bbe2110"},
    {13, 17, {0, 0, 13, 17}, PRX_BICUBIC, 29, 41, "689f43eb354cfc1dfbacf9c032c11d7d"},
    {13, 17, {0, 0, 13, 17}, PRX_BILINEAR, 29, 41, "59f0a398eaa6f3fb1764a69a2a2b5ad3"},
    {1, 1, {0, 0, 1, 1}, PRX_LANCZOS, 7, 5, "a507564c71758286474054fa5329678d"},
    {1, 9, {0, 0, 1, 9}, PRX_LANCZOS, 5, 3, "ee02d1a596a98da3b1defc2226deeb6f"},
    {9, 1, {0, 0, 9, 1}, PRX_BICUBIC, 3, 5, "d19e82fed681b9fb38db9fcf0af8e411"},
    {2, 3, {0, 0, 2, 3}, PRX_LANCZOS, 64, 1, "ebef2651c752e0e1a07cc52bc3907e41"},
    {300, 4, {0, 0, 300, 4}, PRX_LANCZOS, 1, 4, "34f92f42d756a3462ac3ccba532ee617"},
    {4, 300, {0, 0, 4, 300}, PRX_LANCZOS, 4, 1, "1cc56f094a1802fdfb474af67c6bdd44"},
    {301,
     203,
     {0, 0, 301, 203},
     PRX_LANCZOS,
     37,
     25,
     "f3a5334bfc13efffc5db08830fc6416e"},
    {301,
     203,
     {51, 3, 200, 197},
     PRX_LANCZOS,
     32,
     32,
     "a121814b0e675bd58812e395a667cafb"},
    {301,
     203,
     {51, 3, 200, 197},
     PRX_BICUBIC,
     32,
     32,
     "088a7a207df710f79bbd00ffc01c36ea"},
    {301, 203, {0, 0, 1, 1}, PRX_LANCZOS, 40, 30, "437928e664294837754c2ce6099b2035"},
    {301,
     203,
     {100, 0, 101, 203},
     PRX_LANCZOS,
     101,
     50,
     "c274d83fd1d10fba53c7574005c7d945"},
    {301,
     203,
     {0, 20, 301, 30},
     PRX_BILINEAR,
     301,
     90,
     "c567754f9e4ffc94149a273b26302794"},
    {100,
     80,
     {0, 0, 100, 80},
     PRX_LANCZOS,
     100,
     40,
     "a7079238ce2ab2c28781018831a58950"},
    {100, 80, {0, 0, 100, 80}, PRX_LANCZOS, 50, 80, "df9a1dc3f3121ead0548af447333e2ae"},
    {40, 30, {5, 5, 20, 20}, PRX_LANCZOS, 20, 20, "6ffed88993da69a53f6e0590c9ac03f5"},
    {1000, 3, {0, 0, 1000, 3}, PRX_LANCZOS, 2, 2, "c0da4b73e0462d5a4f08617457db2ed7"},
    {3, 1000, {0, 0, 3, 1000}, PRX_BILINEAR, 2, 2, "55883cbd6421e41253dab329aa94a1d8"},
    {257,
     129,
     {0, 0, 257, 129},
     PRX_LANCZOS,
     256,
     128,
     "83bb32304333fe3a41e644e72be67f2e"},
};

static void check_recorded(struct prx_resizer *resizer, size_t i, struct prx_image *dst)
{
    struct prx_image src =
        make_noise(recorded[i].src_width_px, recorded[i].src_height_px);
    const int *crop = recorded[i].crop;
    char hash[PRX_HASH_HEX_BYTES];
    int rc;

    if (resizer) {
        const double box[] = {crop[0], crop[1], crop[0] + crop[2], crop[1] + crop[3]};
        rc = prx_resizer_apply(resizer, &src, box, recorded[i].filter,
                               recorded[i].width_px, recorded[i].height_px, dst);
    } else {
        rc = prx_image_resize(&src, crop, recorded[i].filter, recorded[i].width_px,
                              recorded[i].height_px, dst);
    }
    assert_int_equal(rc, 0);
    prx_hash_hex(dst->pixels, (size_t)dst->width_px * (size_t)dst->height_px * 3, hash);
    assert_string_equal(hash, recorded[i].hash);
    prx_image_release(&src);
}

static void test_recorded(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(recorded); i++) {
        struct prx_image dst = {0};
        check_recorded(NULL, i, &dst);
        prx_image_release(&dst);
    }
}

/* Memory and tables of earlier calls must not shine through. */
static void test_reuse(void **state)
{
    struct prx_resizer *resizer;
    struct prx_image dst = {0};

    (void)state;
    assert_int_equal(prx_resizer_new(&resizer), 0);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < N_OF(recorded); i++)
            check_recorded(resizer, i, &dst);
        for (size_t i = N_OF(recorded); i-- > 0;)
            check_recorded(resizer, i, &dst);
    }
    prx_image_release(&dst);
    prx_resizer_free(resizer);
    prx_resizer_free(NULL);
}

/* A box that ends between pixels keeps the middle of the picture in the middle. */
static void test_fractional_box(void **state)
{
    static const double box[] = {0.5, 0, 4.5, 1};
    struct prx_image src = make_noise(5, 1), dst = {0};
    struct prx_resizer *resizer;

    (void)state;
    for (int x = 0; x < 5; x++)
        memset(src.pixels + x * 3, (x - 2) * (x - 2) * 50, 3); /* 200 50 0 50 200 */
    assert_int_equal(prx_resizer_new(&resizer), 0);
    assert_int_equal(prx_resizer_apply(resizer, &src, box, PRX_BILINEAR, 4, 1, &dst),
                     0);
    static const int want[] = {125, 25, 25, 125};
    for (int x = 0; x < 4; x++)
        assert_int_equal(dst.pixels[x * 3], want[x]);
    prx_resizer_free(resizer);
    prx_image_release(&src);
    prx_image_release(&dst);
}

static void test_refused(void **state)
{
    static const struct {
        int crop[4], width_px, height_px;
    } rows[] = {
        {{0, 0, 5, 4}, 0, 2},
        {{0, 0, 5, 4}, 3, -1},
        {{0, 0, 0, 4}, 3, 2},
        {{0, 0, 5, -4}, 3, 2},
        {{-1, 0, 5, 4}, 3, 2},
        {{1, 0, 5, 4}, 3, 2},
        {{0, 1, 5, 4}, 3, 2},
        {{2147483647, 0, 2147483647, 4}, 3, 2},
    };
    struct prx_image src = make_noise(5, 4), dst = {0};

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++)
        assert_int_equal(prx_image_resize(&src, rows[i].crop, PRX_LANCZOS,
                                          rows[i].width_px, rows[i].height_px, &dst),
                         PRX_EINVAL);
    prx_image_release(&src);
    prx_image_release(&dst);
}

/* --- kernels ---------------------------------------------------------------- */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* A weight below 2^22 and either sign; sums of some tens stay within 32 bits. */
static int32_t random_weight(uint32_t *state, int n_taps)
{
    int32_t weight = (int32_t)(next_random(state) % (1u << 22)) / n_taps;
    return next_random(state) % 4 == 0 ? -weight : weight;
}

static uint8_t round_sum(int64_t sum)
{
    int64_t value = (sum + (1 << 21)) >> 22;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255
                                                 : value);
}

enum { N_IN = 67,
       N_OUT = 23,
       N_TAPS_MAX = 24 };

static void check_columns(const struct prx_resize_kernels *kernels, uint32_t seed)
{
    uint8_t in[PRX_RESIZE_N_ROWS][N_IN * 3], out[PRX_RESIZE_N_ROWS][N_OUT * 3];
    const uint8_t *src[PRX_RESIZE_N_ROWS];
    uint8_t *dst[PRX_RESIZE_N_ROWS];
    int32_t weights[N_OUT * N_TAPS_MAX] = {0};
    int16_t halves[N_OUT * N_TAPS_MAX * 2];
    int first[N_OUT], n_taps[N_OUT];
    struct prx_resize_axis axis = {.n_in = N_IN,
                                   .n_out = N_OUT,
                                   .stride = N_TAPS_MAX,
                                   .first = first,
                                   .n_taps = n_taps,
                                   .weights = weights,
                                   .halves = halves};
    uint32_t random = seed;

    for (int i = 0; i < PRX_RESIZE_N_ROWS; i++) {
        src[i] = in[i];
        dst[i] = out[i];
        for (int x = 0; x < N_IN * 3; x++)
            in[i][x] = (uint8_t)next_random(&random);
    }
    for (int o = 0; o < N_OUT; o++) {
        first[o] = o * 2;
        n_taps[o] = 1 + (int)(next_random(&random) % N_TAPS_MAX);
        if (n_taps[o] > N_IN - first[o])
            n_taps[o] = N_IN - first[o];
        for (int j = 0; j < n_taps[o]; j++)
            weights[o * N_TAPS_MAX + j] = random_weight(&random, n_taps[o]);
    }
    for (int i = 0; i < N_OUT * N_TAPS_MAX; i++) {
        int16_t *high = halves + i / 2 * 4 + i % 2;
        high[0] = (int16_t)(weights[i] >> 12);
        high[2] = (int16_t)(weights[i] & 4095);
    }
    while (axis.n_inner < N_OUT &&
           first[axis.n_inner] + N_TAPS_MAX + PRX_RESIZE_N_PX_BEHIND <= N_IN)
        axis.n_inner++;
    kernels->columns(dst, src, &axis);
    for (int i = 0; i < PRX_RESIZE_N_ROWS; i++) {
        for (int o = 0; o < N_OUT * 3; o++) {
            int64_t sum = 0;
            for (int j = 0; j < n_taps[o / 3]; j++)
                sum += (int64_t)weights[o / 3 * N_TAPS_MAX + j] *
                       in[i][(first[o / 3] + j) * 3 + o % 3];
            assert_int_equal(out[i][o], round_sum(sum));
        }
    }
}

static void check_rows(const struct prx_resize_kernels *kernels, int n_taps,
                       size_t n_bytes)
{
    enum { N_BYTES_MAX = 300 };
    uint8_t in[N_TAPS_MAX][N_BYTES_MAX], out[N_BYTES_MAX + 1];
    const uint8_t *window[N_TAPS_MAX];
    int32_t weights[N_TAPS_MAX];
    uint32_t random = (uint32_t)n_taps * 1000 + (uint32_t)n_bytes;

    for (int j = 0; j < n_taps; j++) {
        /* Rows end where the memory does, so that a sanitizer sees what lies behind. */
        window[j] = in[j] + N_BYTES_MAX - n_bytes;
        weights[j] = random_weight(&random, n_taps);
        for (size_t i = 0; i < N_BYTES_MAX; i++)
            in[j][i] = (uint8_t)next_random(&random);
    }
    memset(out, 77, sizeof(out));
    kernels->rows(out, window, weights, n_taps, n_bytes);
    for (size_t i = 0; i < n_bytes; i++) {
        int64_t sum = 0;
        for (int j = 0; j < n_taps; j++)
            sum += (int64_t)weights[j] * window[j][i];
        assert_int_equal(out[i], round_sum(sum));
    }
    assert_int_equal(out[n_bytes], 77);
}

static void test_levels(void **state)
{
    const struct prx_resize_kernels *levels[] = {
        &prx_resize_kernels_v1,
#if defined(__x86_64__)
        prx_simd_level() >= 3 ? &prx_resize_kernels_v3 : NULL,
        prx_simd_level() >= 4 ? &prx_resize_kernels_v4 : NULL,
#endif
    };

    (void)state;
    for (size_t i = 0; i < N_OF(levels); i++) {
        if (!levels[i])
            continue;
        for (uint32_t seed = 0; seed < 50; seed++)
            check_columns(levels[i], seed);
        for (int n_taps = 1; n_taps <= N_TAPS_MAX; n_taps++)
            for (size_t n_bytes = 1; n_bytes <= 300; n_bytes += n_bytes < 140 ? 1 : 40)
                check_rows(levels[i], n_taps, n_bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_fractional_box),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
