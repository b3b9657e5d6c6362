/* SPDX-License-Identifier: Apache-2.0 */
/* libdata/image.h: pictures that carry an ICC profile come out in sRGB. */
#include "libdata/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/gen.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { WIDTH = 48,
       HEIGHT = 32 };

/* Decode and take @file. */
static struct prx_image decode(struct prx_buf *file, struct prx_image_info *info)
{
    struct prx_image image = {0};

    if (prx_image_decode(&image, info, file->bytes, file->n_bytes, NULL) < 0)
        fail_msg("%s", prx_err_message());
    prx_buf_unref(file);
    return image;
}

static void make_grey(uint8_t out[4][3])
{
    for (int i = 0; i < 4; i++) {
        const uint8_t *px = prx_gen_corner_colors[i];
        memset(out[i], (px[0] * 299 + px[1] * 587 + px[2] * 114 + 500) / 1000, 3);
    }
}

static void swap_red_green(uint8_t colors[4][3])
{
    for (int i = 0; i < 4; i++) {
        uint8_t red = colors[i][0];
        colors[i][0] = colors[i][1];
        colors[i][1] = red;
    }
}

static void test_icc(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (int i = 0; i < 6; i++) {
        const bool is_swapped = i >= 3;
        struct prx_buf *icc = prx_gen_icc(is_swapped ? PRX_GEN_SWAPPED : PRX_GEN_SRGB);
        const struct prx_gen_jpeg jpeg = {.icc = icc};
        const struct prx_gen_png png = {.color_type = 2, .icc = icc};
        const struct prx_gen_webp webp = {.is_lossless = true, .icc = icc};
        struct prx_buf *file = i % 3 == 0   ? prx_gen_jpeg(&corners, &jpeg)
                               : i % 3 == 1 ? prx_gen_png(&corners, &png)
                                            : prx_gen_webp(&corners, &webp);
        uint8_t want[4][3];
        struct prx_image_info info;
        memcpy(want, prx_gen_corner_colors, sizeof(want));
        if (is_swapped)
            swap_red_green(want);
        struct prx_image image = decode(file, &info);
        assert_true(info.has_icc);
        /* sRGB itself is not applied at all: lossless files keep every byte. */
        assert_int_equal(prx_gen_wrong_corner(&image, want[0],
                                              i % 3 == 0   ? 4
                                              : is_swapped ? 2
                                                           : 0),
                         -1);
        prx_image_release(&image);
        prx_buf_unref(icc);
    }
    prx_image_release(&corners);
}

/* Linear grey is lighter in sRGB; an RGB profile does for grey pictures too. */
static void test_icc_grey(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);
    struct prx_buf *grey = prx_gen_icc(PRX_GEN_GREY),
                   *swapped = prx_gen_icc(PRX_GEN_SWAPPED);
    uint8_t plain[4][3];

    (void)state;
    make_grey(plain);
    const struct prx_gen_jpeg jpeg = {.model = PRX_GEN_GREY_1, .icc = grey};
    const struct prx_gen_png png = {.color_type = 0, .icc = grey};
    struct prx_image images[] = {decode(prx_gen_jpeg(&corners, &jpeg), NULL),
                                 decode(prx_gen_png(&corners, &png), NULL)};
    for (size_t i = 0; i < N_OF(images); i++) {
        const uint8_t *px = images[i].pixels;
        assert_true(px[0] > plain[0][0] + 40);
        assert_int_equal(px[0], px[1]);
        assert_int_equal(px[0], px[2]);
        prx_image_release(&images[i]);
    }
    const struct prx_gen_png with_rgb = {.color_type = 0, .icc = swapped};
    struct prx_image image = decode(prx_gen_png(&corners, &with_rgb), NULL);
    assert_int_equal(prx_gen_wrong_corner(&image, plain[0], 2), -1);
    prx_image_release(&image);
    prx_buf_unref(grey);
    prx_buf_unref(swapped);
    prx_image_release(&corners);
}

/* With inks that have no colour, nothing has. */
static void test_icc_cmyk(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);
    struct prx_buf *icc = prx_gen_icc(PRX_GEN_CMYK);

    (void)state;
    for (int i = 0; i < 2; i++) {
        const struct prx_gen_jpeg how = {.model = i ? PRX_GEN_YCCK_4 : PRX_GEN_CMYK_4,
                                         .icc = icc};
        struct prx_image image = decode(prx_gen_jpeg(&corners, &how), NULL);
        for (int k = 0; k < WIDTH * HEIGHT; k++) {
            const uint8_t *px = image.pixels + k * 3;
            assert_in_range(px[1], px[0] - 2, px[0] + 2);
            assert_in_range(px[2], px[0] - 2, px[0] + 2);
        }
        const uint8_t *last = image.pixels + (WIDTH * HEIGHT - 1) * 3;
        assert_true(last[0] > image.pixels[0] + 30); /* yellow is lighter than red */
        prx_image_release(&image);
    }
    prx_buf_unref(icc);
    prx_image_release(&corners);
}

/* A broken profile, or one of another kind of colour, is as good as none. */
static void test_icc_ignored(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);
    struct prx_buf *blocks[3] = {prx_gen_icc(PRX_GEN_SWAPPED),
                                 prx_gen_icc(PRX_GEN_CMYK),
                                 prx_gen_icc(PRX_GEN_SWAPPED)};

    (void)state;
    memset(blocks[0]->bytes, 'x', blocks[0]->n_bytes);
    memset(blocks[2]->bytes + 128, 0xff, blocks[2]->n_bytes - 128);
    for (size_t i = 0; i < N_OF(blocks); i++) {
        const struct prx_gen_jpeg how = {.icc = blocks[i]};
        struct prx_image image = decode(prx_gen_jpeg(&corners, &how), NULL);
        assert_int_equal(prx_gen_wrong_corner(&image, prx_gen_corner_colors[0], 3), -1);
        prx_image_release(&image);
        prx_buf_unref(blocks[i]);
    }
    prx_image_release(&corners);
}

static void test_icc_cache(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT), image = {0};
    struct prx_buf *icc = prx_gen_icc(PRX_GEN_SWAPPED);
    const struct prx_gen_jpeg how = {.icc = icc};
    struct prx_buf *file = prx_gen_jpeg(&corners, &how);
    struct prx_color_cache *colors;
    uint8_t want[4][3];

    (void)state;
    assert_int_equal(prx_color_cache_new(&colors), 0);
    for (int i = 0; i < 30; i++) {
        const struct prx_image_decode_opts opts = {.colors = colors,
                                                   .keep_icc_values = i % 3 == 2};
        assert_int_equal(
            prx_image_decode(&image, NULL, file->bytes, file->n_bytes, &opts), 0);
        memcpy(want, prx_gen_corner_colors, sizeof(want));
        if (!opts.keep_icc_values)
            swap_red_green(want);
        assert_int_equal(prx_gen_wrong_corner(&image, want[0], 4), -1);
        /* The serial number in an ICC header makes it another profile. */
        if (i % 2) {
            prx_buf_unref(file);
            icc->bytes[50] = (uint8_t)i;
            file = prx_gen_jpeg(&corners, &how);
        }
    }
    prx_color_cache_free(colors);
    prx_color_cache_free(NULL);
    prx_buf_unref(file);
    prx_buf_unref(icc);
    prx_image_release(&image);
    prx_image_release(&corners);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_icc),
        cmocka_unit_test(test_icc_grey),
        cmocka_unit_test(test_icc_cmyk),
        cmocka_unit_test(test_icc_ignored),
        cmocka_unit_test(test_icc_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
