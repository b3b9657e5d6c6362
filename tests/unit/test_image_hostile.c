/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libdata/image.h and bytes that nobody should trust: cut short, damaged, no
 * pictures at all, announcing too much, or made to keep the decoder busy.
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

static int decode_code(const uint8_t *bytes, size_t n_bytes)
{
    struct prx_image image = {0};
    /* A copy of just that size, so that a sanitizer sees every step too far. */
    uint8_t *copy = malloc(n_bytes ? n_bytes : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, n_bytes);
    int rc = prx_image_decode(&image, NULL, copy, n_bytes, NULL);
    prx_image_release(&image);
    free(copy);
    return rc;
}

static struct prx_buf *make_file(int i)
{
    struct prx_image photo = prx_gen_photo(120, 90, 4);
    struct prx_buf *icc = prx_gen_icc(PRX_GEN_SWAPPED), *exif = prx_gen_exif(6, true),
                   *file = NULL;
    const struct prx_gen_jpeg jpegs[] = {{.icc = icc, .exif = exif},
                                         {.is_progressive = true, .exif = exif},
                                         {.model = PRX_GEN_YCCK_4}};
    const struct prx_gen_png pngs[] = {
        {.color_type = 2, .icc = icc, .exif = exif},
        {.color_type = 6, .alpha = 9, .is_interlaced = true},
        {.color_type = 0, .bits = 16}};
    const struct prx_gen_webp webps[] = {{.icc = icc, .exif = exif},
                                         {.is_lossless = true},
                                         {.has_alpha = true, .alpha = 9}};

    if (i < 3)
        file = prx_gen_jpeg(&photo, &jpegs[i]);
    else if (i < 6)
        file = prx_gen_png(&photo, &pngs[i - 3]);
    else if (i < 9)
        file = prx_gen_webp(&photo, &webps[i - 6]);
    prx_image_release(&photo);
    prx_buf_unref(icc);
    prx_buf_unref(exif);
    return file;
}

static void test_truncated(void **state)
{
    struct prx_buf *file;

    (void)state;
    for (int i = 0; (file = make_file(i)); i++) {
        assert_int_equal(decode_code(file->bytes, file->n_bytes), 0);
        for (int percent = 0; percent < 100; percent += 5) {
            size_t n_bytes = file->n_bytes * (size_t)percent / 100;
            struct prx_image_info info;
            int rc = decode_code(file->bytes, n_bytes);
            if (rc != PRX_ECORRUPT ||
                prx_image_probe(file->bytes, n_bytes, NULL, &info) != PRX_ECORRUPT)
                fail_msg("file %d cut at %d %%: %d", i, percent, rc);
        }
        /* Without its last bytes it is not whole either. */
        if (decode_code(file->bytes, file->n_bytes - 10) == 0)
            fail_msg("file %d without its end is taken", i);
        prx_buf_unref(file);
    }
    file = make_file(0);
    assert_int_equal(decode_code(file->bytes, file->n_bytes * 3 / 4), PRX_ECORRUPT);
    assert_non_null(strstr(prx_err_message(), "premature end of JPEG at row "));
    prx_buf_unref(file);
}

/* Damage is either seen or harmless; it never breaks anything. */
static void test_damaged(void **state)
{
    struct prx_buf *file;
    uint32_t random = 5;

    (void)state;
    for (int i = 0; (file = make_file(i)); i++) {
        for (int round = 0; round < 150; round++) {
            uint8_t *copy = malloc(file->n_bytes);
            assert_non_null(copy);
            memcpy(copy, file->bytes, file->n_bytes);
            for (int k = 0; k <= round % 4; k++) {
                random = random * 1664525u + 1013904223u;
                size_t n_head = round % 2 ? file->n_bytes : 200;
                copy[(random >> 8) % n_head] ^= (uint8_t)(1u << (random & 7));
            }
            (void)decode_code(copy, file->n_bytes);
            free(copy);
        }
        prx_buf_unref(file);
    }
}

static void test_not_images(void **state)
{
    static const struct {
        const char *bytes;
        int code;
    } rows[] = {
        {"", PRX_ECORRUPT},
        {"<!DOCTYPE html><html><body>404 Not Found</body></html>", PRX_EFORMAT},
        {"GIF89a............", PRX_EFORMAT},
        {"RIFF....WAVEfmt ", PRX_EFORMAT},
        {"\xff\xd8", PRX_EFORMAT},
        {"\xff\xd8\xff", PRX_ECORRUPT},
        {"\xff\xd8\xff\xd9", PRX_ECORRUPT},
        {"\xff\xd8\xff this is no JPEG", PRX_ECORRUPT},
        {"\x89PNG\r\n\x1a\n this is no PNG", PRX_ECORRUPT},
        {"RIFF\x10...WEBPVP8 ....", PRX_ECORRUPT},
    };

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        struct prx_image_info info;
        const uint8_t *bytes = (const uint8_t *)rows[i].bytes;
        size_t n_bytes = strlen(rows[i].bytes);
        assert_int_equal(decode_code(bytes, n_bytes), rows[i].code);
        assert_int_equal(prx_image_probe(bytes, n_bytes, NULL, &info), rows[i].code);
        assert_true(strlen(prx_err_message()) > 0);
    }
}

static void put_be(uint8_t *to, uint32_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++)
        to[i] = (uint8_t)(value >> (8 * (n_bytes - 1 - i)));
}

/* Where the two sizes stand in a baseline JPEG: behind SOF0, height first. */
static uint8_t *find_sof(struct prx_buf *file)
{
    for (size_t i = 0; i + 9 < file->n_bytes; i++)
        if (file->bytes[i] == 0xff && file->bytes[i + 1] == 0xc0)
            return file->bytes + i;
    fail_msg("no SOF0");
    return NULL;
}

static uint32_t crc32_of(const uint8_t *bytes, size_t n_bytes)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < n_bytes; i++) {
        crc ^= bytes[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void test_huge(void **state)
{
    static const struct {
        uint32_t width_px, height_px;
        int code;
    } rows[] = {
        {65500, 65500, PRX_EINVAL},   /* over the limit */
        {13000, 13000, PRX_ECORRUPT}, /* below it, but not with so few bytes */
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        const struct prx_gen_jpeg how = {.quality = 50};
        const struct prx_gen_png png_how = {.color_type = 2};
        struct prx_buf *jpeg = prx_gen_jpeg(&corners, &how),
                       *png = prx_gen_png(&corners, &png_how);
        put_be(find_sof(jpeg) + 5, rows[i].height_px, 2);
        put_be(find_sof(jpeg) + 7, rows[i].width_px, 2);
        assert_int_equal(decode_code(jpeg->bytes, jpeg->n_bytes), rows[i].code);
        put_be(png->bytes + 16, rows[i].width_px, 4);
        put_be(png->bytes + 20, rows[i].height_px, 4);
        put_be(png->bytes + 29, crc32_of(png->bytes + 12, 17), 4);
        assert_int_equal(decode_code(png->bytes, png->n_bytes), rows[i].code);
        prx_buf_unref(jpeg);
        prx_buf_unref(png);
    }
    prx_image_release(&corners);
}

static void test_limits(void **state)
{
    (void)state;
    for (int i = 0; i < 9; i++) {
        struct prx_buf *file = make_file(i);
        struct prx_image_limits limits = {.n_px_max = 120 * 90};
        struct prx_image_info info;
        assert_int_equal(prx_image_probe(file->bytes, file->n_bytes, &limits, &info),
                         0);
        limits.n_px_max--;
        assert_int_equal(prx_image_probe(file->bytes, file->n_bytes, &limits, &info),
                         PRX_EINVAL);
        assert_non_null(strstr(prx_err_message(), "120 x 90"));
        prx_buf_unref(file);
    }
}

/* 1000 scans: refused before the first is decoded, whatever the picture's size. */
static void test_scan_bomb(void **state)
{
    struct prx_image photo = prx_gen_photo(256, 256, 6);
    const struct prx_gen_jpeg bomb = {.is_progressive = true, .n_last_scans = 1000};
    const struct prx_gen_jpeg plain = {.is_progressive = true};
    struct prx_buf *files[] = {prx_gen_jpeg(&photo, &bomb),
                               prx_gen_jpeg(&photo, &plain)};
    struct prx_image image = {0};

    (void)state;
    assert_int_equal(decode_code(files[0]->bytes, files[0]->n_bytes), PRX_EINVAL);
    assert_non_null(strstr(prx_err_message(), "more than 100 scans"));
    assert_int_equal(decode_code(files[1]->bytes, files[1]->n_bytes), 0);
    struct prx_image_decode_opts opts = {.limits.n_scans_max = 10};
    assert_int_equal(
        prx_image_decode(&image, NULL, files[1]->bytes, files[1]->n_bytes, &opts), 0);
    opts.limits.n_scans_max = 9; /* one less than libjpeg's own script has */
    assert_int_equal(
        prx_image_decode(&image, NULL, files[1]->bytes, files[1]->n_bytes, &opts),
        PRX_EINVAL);
    prx_image_release(&image);
    prx_image_release(&photo);
    prx_buf_unref(files[0]);
    prx_buf_unref(files[1]);
}

static void test_unsupported(void **state)
{
    static const struct {
        int at; /* from SOF0 on */
        uint8_t byte;
    } rows[] = {
        {1, 0xc3}, /* lossless */
        {1, 0xc5}, /* hierarchical */
        {4, 12},   /* bits */
    };
    struct prx_image corners = prx_gen_corners(WIDTH, HEIGHT);

    (void)state;
    for (size_t i = 0; i < N_OF(rows); i++) {
        const struct prx_gen_jpeg how = {.quality = 50};
        struct prx_buf *file = prx_gen_jpeg(&corners, &how);
        find_sof(file)[rows[i].at] = rows[i].byte;
        assert_int_equal(decode_code(file->bytes, file->n_bytes), PRX_EFORMAT);
        prx_buf_unref(file);
    }
    const struct prx_gen_webp animated = {.is_lossless = true, .is_animated = true};
    struct prx_buf *webp = prx_gen_webp(&corners, &animated);
    assert_int_equal(decode_code(webp->bytes, webp->n_bytes), PRX_EFORMAT);
    assert_string_equal(prx_err_message(), "animated WebP");
    prx_buf_unref(webp);
    prx_image_release(&corners);
}

/* Bytes behind the end marker belong to somebody else; padding before it is common. */
static void test_extra_bytes(void **state)
{
    struct prx_buf *file = make_file(1);
    struct prx_str bytes = {0};

    (void)state;
    assert_int_equal(prx_str_add(&bytes, file->bytes, file->n_bytes), 0);
    assert_int_equal(prx_str_puts(&bytes, "a trailer of the camera"), 0);
    assert_int_equal(decode_code((uint8_t *)bytes.bytes, bytes.n_bytes), 0);
    for (size_t n_padding = 4; n_padding <= 400; n_padding *= 10) {
        bytes.n_bytes = file->n_bytes - 2;
        for (size_t i = 0; i < n_padding; i++)
            assert_int_equal(prx_str_add(&bytes, "", 1), 0);
        assert_int_equal(prx_str_add(&bytes, "\xff\xd9", 2), 0);
        assert_int_equal(decode_code((uint8_t *)bytes.bytes, bytes.n_bytes),
                         n_padding == 4 ? 0 : PRX_ECORRUPT);
    }
    prx_str_release(&bytes);
    prx_buf_unref(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_not_images),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_scan_bomb),
        cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_extra_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
