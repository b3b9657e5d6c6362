/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdata/image.h: every format and mode, made in memory, is probed and decoded to
 * the colours that were put in, and encoded again.  test_image_resize.c and
 * test_image_hostile.c have the rest.
 */
#include "libdata/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/lib/gen.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

enum { WIDTH = 48,
       HEIGHT = 32 };

/* Decode, take @file, and see that probing tells the same. */
static struct prx_image decode(struct prx_buf *file, struct prx_image_info *info)
{
    struct prx_image image = {0};
    struct prx_image_info probed, decoded;

    int rc = prx_image_probe(file->bytes, file->n_bytes, NULL, &probed);
    if (rc == 0)
        rc = prx_image_decode(&image, &decoded, file->bytes, file->n_bytes, NULL);
    if (rc < 0)
        fail_msg("%s", prx_err_message());
    assert_int_equal(probed.format, decoded.format);
    assert_int_equal(probed.width_px, decoded.width_px);
    assert_int_equal(probed.height_px, decoded.height_px);
    assert_int_equal(probed.exif_orientation, decoded.exif_orientation);
    assert_int_equal(probed.has_icc, decoded.has_icc);
    assert_int_equal(probed.has_alpha, decoded.has_alpha);
    assert_int_equal(probed.n_channels, decoded.n_channels);
    assert_int_equal(probed.bits_per_channel, decoded.bits_per_channel);
    assert_int_equal(probed.eighths, decoded.eighths);
    bool is_transposed = probed.exif_orientation >= 5;
    assert_int_equal(image.width_px,
                     is_transposed ? probed.height_px : probed.width_px);
    assert_int_equal(image.height_px,
                     is_transposed ? probed.width_px : probed.height_px);
    assert_int_equal(decoded.eighths, 8);
    if (info)
        *info = probed;
    prx_buf_unref(file);
    return image;
}

/* What a colour becomes when it is made grey, or shines through from white. */
static void make_grey(uint8_t out[4][3])
{
    for (int i = 0; i < 4; i++) {
        const uint8_t *px = prx_gen_corner_colors[i];
        memset(out[i], (px[0] * 299 + px[1] * 587 + px[2] * 114 + 500) / 1000, 3);
    }
}

static void over_white(uint8_t colors[4][3], int alpha)
{
    for (int i = 0; i < 4; i++)
        for (int c = 0; c < 3; c++)
            colors[i][c] =
                (uint8_t)((colors[i][c] * alpha + 255 * (255 - alpha) + 127) / 255);
}

static void test_jpeg_models(void **state)
{
    static const struct {
        enum prx_gen_model model;
        bool is_progressive;
        int n_channels;
    } rows[] = {
        {PRX_GEN_YCC, false, 3},
        {PRX_GEN_YCC, true, 3},
        {PRX_GEN_RGB, false, 3},
        {PRX_GEN_GREY_1, false, 1},
        {PRX_GEN_GREY_1, true, 1},
        {PRX_GEN_CMYK_4, false, 4},
        {PRX_GEN_YCCK_4, false, 4},
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        const struct prx_gen_jpeg how = {.model = rows[i].model,
                                         .is_progressive = rows[i].is_progressive};
        uint8_t want[4][3];
        struct prx_image_info info;
        memcpy(want, prx_gen_corner_colors, sizeof(want));
        if (rows[i].n_channels == 1)
            make_grey(want);
        struct prx_image image = decode(prx_gen_jpeg(&corners, &how), &info);
        assert_int_equal(prx_gen_wrong_corner(&image, want[0], 3), -1);
        assert_int_equal(info.format, PRX_IMAGE_JPEG);
        assert_int_equal(info.n_channels, rows[i].n_channels);
        assert_int_equal(info.bits_per_channel, 8);
        assert_int_equal(info.exif_orientation, 1);
        assert_false(info.has_icc);
        prx_image_release(&image);
    }
    prx_image_release(&corners);
}

/* Which stored quarter is seen top left, top right, bottom left, bottom right. */
static const int quarters_seen[8][4] = {
    {0, 1, 2, 3},
    {1, 0, 3, 2},
    {3, 2, 1, 0},
    {2, 3, 0, 1},
    {0, 2, 1, 3},
    {2, 0, 3, 1},
    {3, 1, 2, 0},
    {1, 3, 0, 2},
};

static void test_orientation(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (int orientation = 1; orientation <= 8; orientation++) {
        struct prx_buf *exif = prx_gen_exif(orientation, orientation % 2);
        const struct prx_gen_jpeg jpeg = {.exif = exif};
        const struct prx_gen_png png = {.color_type = 2, .exif = exif};
        const struct prx_gen_webp webp = {.is_lossless = true, .exif = exif};
        struct prx_buf *files[] = {prx_gen_jpeg(&corners, &jpeg),
                                   prx_gen_png(&corners, &png),
                                   prx_gen_webp(&corners, &webp)};
        uint8_t want[4][3];
        for (int i = 0; i < 4; i++)
            memcpy(want[i], prx_gen_corner_colors[quarters_seen[orientation - 1][i]],
                   3);
        for (size_t i = 0; i < N_OF(files); i++) {
            struct prx_image_info info;
            struct prx_image image = decode(files[i], &info);
            assert_int_equal(info.exif_orientation, orientation);
            assert_int_equal(info.width_px, WIDTH);
            assert_int_equal(prx_gen_wrong_corner(&image, want[0], i == 0 ? 3 : 0), -1);
            prx_image_release(&image);
        }
        prx_buf_unref(exif);
    }
    prx_image_release(&corners);
}

/* Where pixel @x, @y of a stored picture is seen. */
static void find_seen(int orientation, int x, int y, int width_px, int height_px,
                      int at[2])
{
    const int right = width_px - 1 - x, bottom = height_px - 1 - y;
    const bool is_transposed = orientation >= 5;
    const int column =
        orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8
            ? right
            : x;
    const int row =
        orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7
            ? bottom
            : y;

    at[0] = is_transposed ? row : column;
    at[1] = is_transposed ? column : row;
}

/* Turning is exact, for sides that are no multiple of anything. */
static void test_orientation_pixels(void **state)
{
    enum { W = 71,
           H = 37 };
    struct prx_image photo = prx_gen_photo(W, H, 1);
    int at[2];

    (void)state;
    for (int orientation = 1; orientation <= 8; orientation++) {
        struct prx_buf *exif = prx_gen_exif(orientation, false);
        const struct prx_gen_png png = {.color_type = 2, .exif = exif};
        struct prx_image image = decode(prx_gen_png(&photo, &png), NULL);
        for (int y = 0; y < H; y++) {
            for (int x = 0; x < W; x++) {
                find_seen(orientation, x, y, W, H, at);
                assert_memory_equal(photo.pixels + (y * W + x) * 3,
                                    image.pixels + (at[1] * image.width_px + at[0]) * 3,
                                    3);
            }
        }
        prx_image_release(&image);
        prx_buf_unref(exif);
    }
    prx_image_release(&photo);
}

/* A broken block is no orientation, and nothing worse. */
static void test_hostile_exif(void **state)
{
    static const struct {
        size_t at;
        uint8_t byte;
    } rows[] = {
        {0, 'X'},  /* no byte order */
        {2, 0},    /* no TIFF */
        {4, 200},  /* directory behind the end */
        {7, 255},  /* ... by far */
        {24, 4},   /* a long */
        {26, 2},   /* two of them */
        {29, 255}, /* very many */
        {30, 0},   /* orientation 0 */
        {30, 9},   /* orientation 9 */
        {31, 1},   /* orientation 262 */
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);
    struct prx_buf *exif = prx_gen_exif(6, false);

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        uint8_t was = exif->bytes[rows[i].at];
        const struct prx_gen_jpeg how = {.exif = exif};
        struct prx_image_info info;
        exif->bytes[rows[i].at] = rows[i].byte;
        struct prx_image image = decode(prx_gen_jpeg(&corners, &how), &info);
        assert_int_equal(info.exif_orientation, 1);
        prx_image_release(&image);
        exif->bytes[rows[i].at] = was;
    }
    /* More entries announced than there are, and a directory that is its own next. */
    exif->bytes[8] = exif->bytes[9] = 255;
    exif->bytes[34] = 8;
    for (size_t n_bytes = 0; n_bytes <= exif->n_bytes; n_bytes++) {
        const struct prx_buf cut = {exif->bytes, n_bytes, 1, NULL};
        const struct prx_gen_jpeg how = {.exif = &cut};
        struct prx_image_info info;
        struct prx_image image = decode(prx_gen_jpeg(&corners, &how), &info);
        assert_int_equal(info.exif_orientation, n_bytes >= 34 ? 6 : 1);
        prx_image_release(&image);
    }
    prx_buf_unref(exif);
    prx_image_release(&corners);
}

static void test_png_modes(void **state)
{
    static const struct {
        int color_type, bits, n_channels, slack;
    } rows[] = {
        {0, 1, 1, 128},
        {0, 2, 1, 63},
        {0, 4, 1, 15},
        {0, 8, 1, 0},
        {0, 16, 1, 1},
        {2, 8, 3, 0},
        {2, 16, 3, 1},
        {3, 2, 3, 0},
        {3, 4, 3, 0},
        {3, 8, 3, 0},
        {4, 8, 2, 1},
        {4, 16, 2, 2},
        {6, 8, 4, 1},
        {6, 16, 4, 2},
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (size_t i = 0; i < 2 * N_OF(rows); i++) {
        const size_t k = i / 2;
        const bool is_grey = rows[k].n_channels <= 2,
                   has_alpha = rows[k].color_type >= 4;
        const struct prx_gen_png how = {.color_type = rows[k].color_type,
                                        .bits = rows[k].bits,
                                        .alpha = 100,
                                        .is_interlaced = i % 2};
        uint8_t want[4][3];
        struct prx_image_info info;
        memcpy(want, prx_gen_corner_colors, sizeof(want));
        if (is_grey)
            make_grey(want);
        if (has_alpha)
            over_white(want, 100);
        struct prx_image image = decode(prx_gen_png(&corners, &how), &info);
        assert_int_equal(prx_gen_wrong_corner(&image, want[0], rows[k].slack), -1);
        assert_int_equal(info.format, PRX_IMAGE_PNG);
        assert_int_equal(info.n_channels, rows[k].n_channels);
        assert_int_equal(info.bits_per_channel, rows[k].bits);
        assert_int_equal(info.has_alpha, has_alpha);
        prx_image_release(&image);
    }
    prx_image_release(&corners);
}

/* 16 bits are rounded: v * 257 + 120 is v, v * 257 + 129 would be v + 1. */
static void test_png_16_bits_rounded(void **state)
{
    struct prx_image photo = prx_gen_photo(40, 20, 2);
    const struct prx_gen_png how = {.color_type = 2, .bits = 16};

    (void)state;
    struct prx_image image = decode(prx_gen_png(&photo, &how), NULL);
    assert_memory_equal(image.pixels, photo.pixels, 40 * 20 * 3);
    prx_image_release(&image);
    prx_image_release(&photo);
}

static void test_png_transparent_color(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (int color_type = 0; color_type <= 3; color_type++) {
        if (color_type == 1)
            continue;
        const struct prx_gen_png how = {.color_type = color_type, .has_trns = true};
        uint8_t want[4][3];
        struct prx_image_info info;
        memcpy(want, prx_gen_corner_colors, sizeof(want));
        if (color_type == 0)
            make_grey(want);
        memset(want[0], 255, 3);
        struct prx_image image = decode(prx_gen_png(&corners, &how), &info);
        assert_int_equal(prx_gen_wrong_corner(&image, want[0], 0), -1);
        assert_true(info.has_alpha);
        prx_image_release(&image);
    }
    prx_image_release(&corners);
}

static void test_webp(void **state)
{
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (int i = 0; i < 4; i++) {
        const struct prx_gen_webp how = {
            .is_lossless = i & 1, .has_alpha = i & 2, .alpha = 60};
        uint8_t want[4][3];
        struct prx_image_info info;
        memcpy(want, prx_gen_corner_colors, sizeof(want));
        if (how.has_alpha)
            over_white(want, 60);
        struct prx_image image = decode(prx_gen_webp(&corners, &how), &info);
        assert_int_equal(prx_gen_wrong_corner(&image, want[0], how.is_lossless ? 1 : 6),
                         -1);
        assert_int_equal(info.format, PRX_IMAGE_WEBP);
        assert_int_equal(info.has_alpha, how.has_alpha);
        prx_image_release(&image);
    }
    prx_image_release(&corners);
}

static void test_scaled(void **state)
{
    static const struct {
        int min_width_px, min_height_px, eighths, width_px, height_px;
    } rows[] = {
        {0, 0, 8, 203, 101},
        {203, 101, 8, 203, 101},
        {67, 33, 4, 102, 51},
        {68, 33, 4, 102, 51},
        {69, 33, 8, 203, 101},
        {67, 35, 8, 203, 101},
        {25, 12, 2, 51, 26},
        {26, 12, 4, 102, 51},
        {13, 6, 1, 26, 13},
        {1, 0, 1, 26, 13},
        {0, 40, 8, 203, 101},
    };
    struct prx_image photo = prx_gen_photo(203, 101, 3);

    (void)state;
    for (size_t i = 0; i < 2 * N_OF(rows); i++) {
        const bool is_turned = i % 2;
        struct prx_buf *exif = prx_gen_exif(is_turned ? 6 : 1, false);
        const struct prx_gen_jpeg how = {.exif = exif};
        struct prx_buf *file = prx_gen_jpeg(&photo, &how);
        struct prx_image image = {0};
        struct prx_image_info info;
        int min_width_px = rows[i / 2].min_width_px,
            min_height_px = rows[i / 2].min_height_px;
        const struct prx_image_decode_opts opts = {
            .min_width_px = is_turned ? min_height_px : min_width_px,
            .min_height_px = is_turned ? min_width_px : min_height_px};
        assert_int_equal(
            prx_image_decode(&image, &info, file->bytes, file->n_bytes, &opts), 0);
        assert_int_equal(info.eighths, rows[i / 2].eighths);
        assert_int_equal(info.width_px, 203);
        assert_int_equal(is_turned ? image.height_px : image.width_px,
                         rows[i / 2].width_px);
        assert_int_equal(is_turned ? image.width_px : image.height_px,
                         rows[i / 2].height_px);
        prx_image_release(&image);
        prx_buf_unref(file);
        prx_buf_unref(exif);
    }
    prx_image_release(&photo);
}

/* --- encoding --------------------------------------------------------------- */

/* The sampling factors of a baseline JPEG's first channel. */
static int sampling(const struct prx_buf *file)
{
    for (size_t i = 0; i + 12 < file->n_bytes; i++)
        if (file->bytes[i] == 0xff && file->bytes[i + 1] == 0xc0)
            return file->bytes[i + 11];
    return -1;
}

static void test_encode(void **state)
{
    static const struct {
        enum prx_image_format format;
        int quality, slack;
    } rows[] = {
        {PRX_IMAGE_JPEG, 95, 4},
        {PRX_IMAGE_JPEG, 90, 6},
        {PRX_IMAGE_JPEG, 80, 12},
        {PRX_IMAGE_PNG, 0, 0},
        {PRX_IMAGE_WEBP, 95, 6},
        {PRX_IMAGE_JPEG, 100, 2},
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_buf *file, *again;
        assert_int_equal(
            prx_image_encode(&corners, rows[i].format, rows[i].quality, &file), 0);
        assert_int_equal(
            prx_image_encode(&corners, rows[i].format, rows[i].quality, &again), 0);
        assert_int_equal(file->n_bytes, again->n_bytes);
        assert_memory_equal(file->bytes, again->bytes, file->n_bytes);
        assert_int_equal(prx_image_sniff(file->bytes, file->n_bytes), rows[i].format);
        if (rows[i].format ==
            PRX_IMAGE_JPEG) /* sampling factors of the first channel */
            assert_int_equal(sampling(file), rows[i].quality >= 90 ? 0x11 : 0x22);
        prx_buf_unref(again);
        struct prx_image image = decode(file, NULL);
        assert_int_equal(
            prx_gen_wrong_corner(&image, prx_gen_corner_colors[0], rows[i].slack), -1);
        prx_image_release(&image);
    }
    prx_image_release(&corners);
}

/* Larger than any first guess of the output's size. */
static void test_encode_large(void **state)
{
    struct prx_image noise = prx_gen_photo(700, 500, 7);
    uint32_t random = 1;

    (void)state;
    for (size_t i = 0; i < 700 * 500 * 3; i++) {
        random = random * 1664525u + 1013904223u;
        noise.pixels[i] = (uint8_t)(random >> 24);
    }
    for (enum prx_image_format format = PRX_IMAGE_JPEG; format <= PRX_IMAGE_WEBP;
         format++) {
        struct prx_buf *file;
        assert_int_equal(prx_image_encode(&noise, format, 100, &file), 0);
        assert_true(file->n_bytes > 200000);
        struct prx_image image = decode(file, NULL);
        prx_image_release(&image);
    }
    prx_image_release(&noise);
}

static void test_encode_refused(void **state)
{
    static const struct {
        int width_px, height_px;
        enum prx_image_format format;
        int quality;
    } rows[] = {
        {8, 8, PRX_IMAGE_UNKNOWN, 90},
        {8, 8, PRX_IMAGE_JPEG, 0},
        {8, 8, PRX_IMAGE_JPEG, 101},
        {8, 8, PRX_IMAGE_WEBP, -1},
        {0, 8, PRX_IMAGE_PNG, 90},
        {65501, 1, PRX_IMAGE_JPEG, 90},
        {1, 16384, PRX_IMAGE_WEBP, 90},
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);
    struct prx_buf *file = NULL;

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_image image = {corners.pixels, rows[i].width_px, rows[i].height_px,
                                  0};
        assert_int_equal(
            prx_image_encode(&image, rows[i].format, rows[i].quality, &file),
            PRX_EINVAL);
        assert_null(file);
    }
    prx_image_release(&corners);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(prx_image_format_name(PRX_IMAGE_JPEG), "jpg");
    assert_string_equal(prx_image_format_name(PRX_IMAGE_PNG), "png");
    assert_string_equal(prx_image_format_name(PRX_IMAGE_WEBP), "webp");
    assert_null(prx_image_format_name(PRX_IMAGE_UNKNOWN));
    assert_null(prx_image_format_name((enum prx_image_format)99));
}

static void test_memory(void **state)
{
    struct prx_image *image = NULL;

    (void)state;
    assert_int_equal(prx_image_new(0, 5, &image), PRX_EINVAL);
    assert_int_equal(prx_image_new(5, -5, &image), PRX_EINVAL);
    assert_null(image);
    assert_int_equal(prx_image_new(3, 2, &image), 0);
    memset(image->pixels, 1, 18);
    prx_image_release(image);
    prx_image_release(image);
    prx_image_free(image);
    prx_image_free(NULL);
    prx_image_release(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jpeg_models),
        cmocka_unit_test(test_orientation),
        cmocka_unit_test(test_orientation_pixels),
        cmocka_unit_test(test_hostile_exif),
        cmocka_unit_test(test_png_modes),
        cmocka_unit_test(test_png_16_bits_rounded),
        cmocka_unit_test(test_png_transparent_color),
        cmocka_unit_test(test_webp),
        cmocka_unit_test(test_scaled),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_encode_large),
        cmocka_unit_test(test_encode_refused),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
